//! A folder of its own for each test, and the real program in it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::detector;
use crate::filters::filtered;
use crate::server::Server;

/// Longer than anything takes that goes as it should.
const PATIENCE: Duration = Duration::from_secs(30);

/// A configuration without network, key and log.
const OFFLINE: &str = "\
model: {provider: offline}
prompts: {system_prompt_path: null, user_prompt_path: user.txt}
input_data: {path: rows.jsonl}
output_data: {experiment_name: demo, need_time_stamp: false}
logging: {dir: null}
";

/// A configuration for an endpoint; waits before another try are short.
const ASKING: &str = "\
model:
  base_url: BASE_URL
  api_key_env: null
  model: tiny
prompts: {system_prompt_path: null, user_prompt_path: user.txt}
input_data: {path: rows.jsonl}
output_data: {experiment_name: demo, need_time_stamp: false}
run: {retry: {base_delay_s: 0.01}}
logging: {dir: null}
";

/// So many rows, each with a topic of its own.
pub(crate) fn rows(count: usize) -> String {
    (0..count)
        .map(|n| format!("{{\"topic\": \"topic {n}\"}}\n"))
        .collect()
}

/// A folder that is gone after the test. What was made in it is then looked through for the keys of all tests.
pub(crate) struct Folder {
    dir: TempDir,
    /// Whether a key is in there because the test put it where it is written down by right.
    planted: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.planted || std::thread::panicking() {
            return;
        }
        let made = ["output", "logs"].map(|name| self.path(name));
        let is_made = |path: &PathBuf| made.iter().any(|folder| path.starts_with(folder));
        for path in self.all_files().iter().filter(|path| is_made(path)) {
            if let Some(found) = detector::found(&std::fs::read(path).unwrap_or_default()) {
                panic!("{found} in {}", path.display());
            }
        }
    }
}

impl Folder {
    /// With nothing in it.
    pub(crate) fn new() -> Folder {
        Folder {
            dir: TempDir::new().unwrap(),
            planted: false,
        }
    }

    /// The test writes a key where it belongs to the data.
    pub(crate) fn with_a_planted_key(mut self) -> Folder {
        self.planted = true;
        self
    }

    /// With a configuration, a prompt and three rows for the offline model.
    pub(crate) fn offline() -> Folder {
        Folder::with_config(OFFLINE)
    }

    /// With a configuration, a prompt and three rows for a server.
    pub(crate) fn asking(server: &Server) -> Folder {
        Folder::asking_at(&server.base_url())
    }

    /// The same for a server of another kind.
    pub(crate) fn asking_at(base_url: &str) -> Folder {
        Folder::with_config(&ASKING.replace("BASE_URL", base_url))
    }

    fn with_config(config: &str) -> Folder {
        Folder::new()
            .file("config.yaml", config)
            .file("user.txt", "Write about {{topic}}.\n")
            .file("rows.jsonl", rows(3))
    }

    /// Writes a file.
    pub(crate) fn file(self, name: &str, text: impl AsRef<[u8]>) -> Folder {
        self.write(name, text);
        self
    }

    /// Puts something else in the place of a part of a file.
    #[track_caller]
    pub(crate) fn edit(self, name: &str, old: &str, new: &str) -> Folder {
        let text = self.read(name);
        assert!(text.contains(old), "{name} has no {old:?}:\n{text}");
        self.file(name, text.replace(old, new))
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    #[track_caller]
    pub(crate) fn read(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The values of a file of JSON Lines. A line that is cut short fails the test.
    #[track_caller]
    pub(crate) fn lines(&self, name: &str) -> Vec<Value> {
        let text = self.read(name);
        assert!(text.is_empty() || text.ends_with('\n'), "{name} is cut");
        let value = |line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"))
        };
        text.lines().map(value).collect()
    }

    /// The names in a folder, sorted.
    #[track_caller]
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Every file below the folder.
    pub(crate) fn all_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path);
                }
            }
        }
        files
    }

    /// `datagen` with these arguments, in this folder, with an empty environment.
    pub(crate) fn datagen<const N: usize>(&self, arguments: [&str; N]) -> Run {
        Run::new(Path::new(env!("CARGO_BIN_EXE_datagen")), self.dir.path()).args(arguments)
    }

    /// A shell with this script, where `$DATAGEN` is the program.
    pub(crate) fn shell(&self, script: &str) -> Run {
        Run::new(Path::new("/bin/sh"), self.dir.path())
            .args(["-c", script])
            .env("DATAGEN", env!("CARGO_BIN_EXE_datagen"))
    }
}

/// A command that has not begun.
pub(crate) struct Run {
    command: Command,
    input: Option<Vec<u8>>,
    folder: PathBuf,
}

impl Run {
    fn new(program: &Path, folder: &Path) -> Run {
        let mut command = Command::new(program);
        command.current_dir(folder).env_clear();
        for name in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        Run {
            command,
            input: None,
            folder: folder.to_owned(),
        }
    }

    pub(crate) fn args<const N: usize>(mut self, arguments: [&str; N]) -> Run {
        self.command.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Run {
        self.command.env(name, value);
        self
    }

    /// In a folder below.
    pub(crate) fn within(mut self, folder: &str) -> Run {
        self.command.current_dir(self.folder.join(folder));
        self
    }

    /// What comes on standard input; without it there is none.
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Run {
        self.input = Some(input.into());
        self
    }

    /// Starts it and lets it run.
    pub(crate) fn start(mut self) -> Running {
        self.command.stdin(match self.input {
            Some(_) => Stdio::piped(),
            None => Stdio::null(),
        });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        if let (Some(input), Some(mut stdin)) = (self.input, child.stdin.take()) {
            // Who does not read all of it may: that is no fault of the test.
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
        Running {
            stdout: Listening::to(child.stdout.take().unwrap()),
            stderr: Listening::to(child.stderr.take().unwrap()),
            began: Instant::now(),
            folder: self.folder,
            child: Leash(child),
        }
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn end(self) -> Ended {
        self.start().end()
    }

    /// Runs it to its end, which must be this exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Ended {
        self.start().exits(code)
    }
}

/// Collects what comes out of a command while it runs.
struct Listening {
    heard: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Listening {
    fn to(pipe: impl Read + Send + 'static) -> Listening {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ear = Arc::clone(&heard);
        let thread = std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            loop {
                let chunk = pipe.fill_buf().unwrap_or_default();
                if chunk.is_empty() {
                    return;
                }
                ear.lock().unwrap().extend_from_slice(chunk);
                let read = chunk.len();
                pipe.consume(read);
            }
        });
        Listening { heard, thread }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }

    fn all(self) -> String {
        self.thread.join().unwrap();
        String::from_utf8(std::mem::take(&mut self.heard.lock().unwrap())).unwrap()
    }
}

/// A test that fails leaves nothing at work behind.
struct Leash(Child);

impl Drop for Leash {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

/// A command at work.
pub(crate) struct Running {
    child: Leash,
    stdout: Listening,
    stderr: Listening,
    began: Instant,
    folder: PathBuf,
}

impl Running {
    /// Waits until something is so.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut is_so: impl FnMut(&str) -> bool) {
        while !is_so(&self.stderr.so_far()) {
            let said = || format!("waiting until {what}; it said:\n{}", self.stderr.so_far());
            assert!(
                self.child.0.try_wait().unwrap().is_none(),
                "ended while {}",
                said()
            );
            assert!(self.began.elapsed() < PATIENCE, "still {}", said());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until it has said so on standard error.
    #[track_caller]
    pub(crate) fn until_said(&mut self, text: &str) {
        self.until(&format!("it says {text:?}"), |said| said.contains(text));
    }

    /// Waits until a file has so many lines.
    #[track_caller]
    pub(crate) fn until_lines(&mut self, name: &str, count: usize) {
        let path = self.folder.join(name);
        self.until(&format!("{name} has {count} lines"), |_| {
            std::fs::read_to_string(&path).is_ok_and(|text| text.lines().count() >= count)
        });
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.0.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        assert!(self.began.elapsed() < PATIENCE, "it still runs");
        self.child.0.try_wait().unwrap().is_some()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child.0), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        let status = loop {
            if let Some(status) = self.child.0.try_wait().unwrap() {
                break status;
            }
            if self.began.elapsed() > PATIENCE {
                self.child.0.kill().unwrap();
                panic!("it does not end; it said:\n{}", self.stderr.all());
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        Ended {
            status,
            took: self.began.elapsed(),
            stdout: self.stdout.all(),
            stderr: self.stderr.all(),
        }
    }

    /// Waits for its end, which must be this exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Ended {
        let ended = self.end();
        assert_eq!(ended.status.code(), Some(code), "{}", ended.shown());
        ended
    }
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// From its start.
    pub(crate) took: Duration,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Everything that a person would see.
    pub(crate) fn shown(&self) -> String {
        let end = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit {code}"),
            (None, signal) => format!("signal {}", signal.unwrap_or_default()),
        };
        let mut shown = format!("{end}\n");
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                shown.push_str(&format!("--- {name}\n{text}"));
            }
        }
        filtered(&shown)
    }

    /// The summary of `--json`: one line, and nothing beside it.
    #[track_caller]
    pub(crate) fn summary(&self) -> Value {
        assert_eq!(self.stdout.matches('\n').count(), 1, "{}", self.shown());
        let summary: Value = serde_json::from_str(&self.stdout).unwrap();
        let count = |key: &str| {
            summary[key]
                .as_u64()
                .unwrap_or_else(|| panic!("{key} in {summary}"))
        };
        assert_eq!(
            count("rows"),
            ["ok", "failed", "skipped", "pending"]
                .map(count)
                .iter()
                .sum::<u64>(),
            "{summary}"
        );
        summary
    }
}

#[test]
fn no_file_of_tests_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let main = std::fs::read_to_string(folder.join("main.rs")).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(module) = name.strip_suffix(".rs") else {
            continue;
        };
        assert!(
            module == "main" || main.contains(&format!("mod {module};")),
            "{name} is not in main.rs"
        );
    }
}

//! Where things run: the folder, the programs, the server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::args::Options;
use crate::measure::Account;
use crate::output;
use crate::rows::{self, Kind};
use crate::stats::Stats;

pub(crate) type Failed = Box<dyn std::error::Error>;

/// What every scene needs.
pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Options,
    pub(crate) datagen: PathBuf,
    own: PathBuf,
    dir: TempDir,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(options: &'a Options) -> Result<Bench<'a>, Failed> {
        let own = std::env::current_exe()?;
        let beside = own.parent().unwrap_or(Path::new("."));
        let datagen = options
            .datagen
            .clone()
            .unwrap_or_else(|| beside.join("datagen"));
        let datagen = datagen.canonicalize().map_err(|error| {
            format!(
                "there is no {} ({error}); build it in the same profile (`cargo build --profile dist -p data-generation-cli`) \
                 or name it with --datagen",
                datagen.display()
            )
        })?;
        // Beside the program, not in the system's temporary folder, which is often no disk at all.
        let root = options.dir.as_deref().unwrap_or(beside);
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(root)?;
        Ok(Bench {
            options,
            datagen,
            own,
            dir,
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// How often a scene runs.
    pub(crate) fn runs(&self, normally: usize) -> usize {
        let runs = if self.options.quick { 1 } else { normally };
        self.options.runs.unwrap_or(runs).max(1)
    }

    /// A number of rows, or a small part of it where it is only shown that everything works.
    pub(crate) fn scaled(&self, rows: u64) -> u64 {
        if self.options.quick {
            rows.div_ceil(20)
        } else {
            rows
        }
    }

    pub(crate) fn rows(&self, kind: Kind, rows: u64) -> Result<PathBuf, Failed> {
        self.need_disk(rows * kind.bytes())?;
        Ok(rows::file(self.dir(), kind, rows)?)
    }

    /// Refuses to begin what the disk cannot hold.
    pub(crate) fn need_disk(&self, bytes: u64) -> Result<(), Failed> {
        let facts = rustix::fs::statvfs(self.dir())?;
        let free = facts.f_bavail * facts.f_frsize;
        if bytes > (1 << 30) {
            output::note(&format!(
                "  needs {:.1} GB of disk in {}, {:.1} GB are free",
                bytes as f64 / 1e9,
                self.dir().display(),
                free as f64 / 1e9
            ));
        }
        // A disk that is filled to the brim is slow, and belongs to others too.
        if free < bytes + bytes / 10 {
            return Err(format!(
                "{} bytes of disk are needed in {} and {free} are free; name another folder with --dir",
                bytes,
                self.dir().display()
            )
            .into());
        }
        Ok(())
    }

    /// An empty folder for one run.
    pub(crate) fn place(&self) -> Result<TempDir, Failed> {
        Ok(tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(self.dir())?)
    }

    pub(crate) fn serve(&self, latency: Duration) -> Result<Server, Failed> {
        let mut child = Command::new(&self.own)
            .args(["serve", "--latency-ms", &latency.as_millis().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("the server has no output")?;
        let mut url = String::new();
        BufReader::new(out).read_line(&mut url)?;
        Ok(Server {
            child,
            url: url.trim().to_owned(),
        })
    }

    /// Runs a program in a folder, where it also leaves what it prints; `self` names this program.
    pub(crate) fn measure(&self, place: &Path, program: &[&str]) -> Result<Account, Failed> {
        self.measuring(place, program)?.end()
    }

    /// The same, while somebody watches.
    pub(crate) fn measuring<'p>(
        &self,
        place: &'p Path,
        program: &[&str],
    ) -> Result<Running<'p>, Failed> {
        let mut command = Command::new(&self.own);
        command
            .arg("measure")
            .arg("--account")
            .arg("account.json")
            .arg("--");
        let own = self.own.to_string_lossy();
        for word in program {
            command.arg(if *word == "self" { &own } else { *word });
        }
        for (name, _) in std::env::vars_os() {
            // The user's own settings are not on trial.
            if name.to_string_lossy().starts_with("DATAGEN") {
                command.env_remove(name);
            }
        }
        let child = command
            .current_dir(place)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(place.join("out.txt"))?)
            .stderr(std::fs::File::create(place.join("err.txt"))?)
            .spawn()?;
        Ok(Running { child, place })
    }
}

/// A program that is being measured.
pub(crate) struct Running<'a> {
    child: Child,
    place: &'a Path,
}

impl Running<'_> {
    pub(crate) fn has_ended(&mut self) -> Result<bool, Failed> {
        Ok(self.child.try_wait()?.is_some())
    }

    pub(crate) fn end(mut self) -> Result<Account, Failed> {
        let status = self.child.wait()?;
        let told = |name: &str| std::fs::read_to_string(self.place.join(name)).unwrap_or_default();
        if !status.success() {
            return Err(format!("could not measure: {}", told("err.txt")).into());
        }
        let account: Account = serde_json::from_str(&told("account.json"))?;
        if account.code != Some(0) {
            let (out, err) = (told("out.txt"), told("err.txt"));
            return Err(format!("it ended with {:?}:\n{out}{err}", account.code).into());
        }
        Ok(account)
    }
}

/// A server in a process of its own; it ends with this value.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn reset(&self) -> Result<(), Failed> {
        self.ask("/reset").map(drop)
    }

    pub(crate) fn stats(&self) -> Result<Stats, Failed> {
        self.ask("/stats")
    }

    fn ask(&self, word: &str) -> Result<Stats, Failed> {
        let address = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET {word} HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer
            .split("\r\n\r\n")
            .nth(1)
            .ok_or("the server said nothing")?;
        Ok(serde_json::from_str(body)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already, and then there is nothing to end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

//! What earlier commands have sent, for steps that keep to limits over time.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::error::Error;
use crate::journal::{self, JournaledAnswer};
use crate::lock;
use crate::manifest::Manifest;
use crate::siblings;
use crate::unjournaled::Unjournaled;

/// Whether the last command that may have sent something ended without saying so. One that only judged again has
/// sent nothing, and a command for some rows may be such.
fn was_at_work(manifest: &Manifest) -> bool {
    let mut commands = manifest.commands.iter().rev();
    match commands.next() {
        Some(last) if last.ended.is_some() => {
            last.of_rows && commands.next().is_some_and(|before| before.ended.is_none())
        }
        _ => manifest.ended.is_none(),
    }
}

/// One look back reads so much.
const BLOCK: u64 = 256 * 1024;
/// The manifest of a run at work is never older than this.
const CHECKPOINT: Duration = Duration::from_secs(31);

/// Another run of the same experiment, as it stands; see [`Past::others_since`].
#[non_exhaustive]
pub struct OtherRun {
    /// What it was made with, and by which commands.
    pub manifest: Manifest,
    /// What its commands have sent.
    pub past: Past<'static>,
}

/// What a step may want to know of the commands before this one; see [`Step::resume`](crate::Step::resume).
pub struct Past<'a> {
    dir: Cow<'a, Path>,
    died: Option<SystemTime>,
    unjournaled: Vec<Unjournaled>,
    /// What a step takes to have been under way then.
    assumed: AtomicU64,
}

impl<'a> Past<'a> {
    /// Of a folder as it is, before this command has written to it.
    pub(crate) fn of(dir: impl Into<Cow<'a, Path>>, manifest: Option<&Manifest>) -> Past<'a> {
        let dir = dir.into();
        let was_at_work = manifest.is_some_and(was_at_work);
        let written = std::fs::metadata(dir.join("run.json"))
            .and_then(|facts| facts.modified())
            .ok()
            .filter(|_| was_at_work);
        let died = written.map(|at| (at + CHECKPOINT).min(SystemTime::now()));
        let commands = manifest.map_or(&[][..], |manifest| &manifest.commands);
        let unjournaled = commands.iter().flat_map(|command| &command.unjournaled);
        Past {
            dir,
            died,
            unjournaled: unjournaled.cloned().collect(),
            assumed: AtomicU64::new(0),
        }
    }

    /// What was sent in a folder of which a command at work is this very process: as the files say now. What is under
    /// way they do not say. Blocks for a moment.
    ///
    /// # Errors
    ///
    /// When `run.json` is not there or cannot be read.
    pub fn so_far(dir: PathBuf) -> Result<Past<'static>, Error> {
        let manifest = Manifest::of_run(&dir)?;
        let mut past = Past::of(dir, Some(&manifest));
        past.died = None;
        Ok(past)
    }

    /// The folder that holds it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The other runs of the same experiment in which a command was at work since then, those that were written to
    /// last first: whatever was set aside, and folders with other time stamps. Forks are other experiments.
    ///
    /// They are read as they stand, also while another process works on one; what cannot be read is passed over
    /// and told in the log. Lists the folders of the experiment, and so blocks for a moment.
    pub fn others_since(&self, since: SystemTime) -> impl Iterator<Item = OtherRun> {
        // Whoever is at work may not have written for so long.
        let written = since.checked_sub(CHECKPOINT).unwrap_or(since);
        let others = siblings::written_since(&self.dir, written);
        others.into_iter().filter_map(move |dir| other(dir, since))
    }

    /// The requests that left since then and of which the journal holds nothing, as far as the commands before this
    /// one came to write them down.
    pub fn unjournaled_since(&self, since: SystemTime) -> impl Iterator<Item = &Unjournaled> {
        let is_later = move |lost: &&Unjournaled| lost.at().is_some_and(|at| at >= since);
        self.unjournaled.iter().filter(is_later)
    }

    /// Notes how many requests were under way when the last command [died](Self::died), as well as anybody can
    /// tell: the next start counts them too, among the [unjournaled](Self::unjournaled_since).
    pub fn assume_under_way(&self, requests: u64) {
        self.assumed.fetch_add(requests, Ordering::Relaxed);
    }

    pub(crate) fn assumed(&self) -> Option<Unjournaled> {
        let requests = self.assumed.load(Ordering::Relaxed);
        let died = self.died.filter(|_| requests > 0)?;
        Some(Unjournaled::at_death(died, requests))
    }

    /// When the command before this one ended without saying so, at the latest: what it had under way then
    /// is in no journal. `None` where it ended as it should, or there was none.
    pub fn died(&self) -> Option<SystemTime> {
        self.died
    }

    /// The answers in the journal that arrived since then, oldest first. Reads the end of a file, and so
    /// blocks for a moment.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read. A line that is none is passed over: it is told elsewhere.
    pub fn answers_since(&self, since: SystemTime) -> io::Result<Vec<JournaledAnswer>> {
        let file = match File::open(self.dir.join("journal.jsonl")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        let mut offset = begin(&file, length, since)?;
        let mut answers = Vec::new();
        while offset < length {
            if let Ok(entry) = journal::read_at(&file, offset)
                && entry.answer.at >= since
            {
                answers.push(entry.answer);
            }
            offset = next_line(&file, offset, length)?;
        }
        Ok(answers)
    }
}

/// The run in a folder, where a command was at work in it since then.
fn other(dir: PathBuf, since: SystemTime) -> Option<OtherRun> {
    let read = lock::holder(&dir).and_then(|holder| {
        let manifest = Manifest::read(&dir)?;
        Ok(manifest.map(|manifest| (manifest, holder.is_some())))
    });
    let (manifest, is_at_work) = match read {
        Ok(read) => read?,
        Err(error) => {
            tracing::warn!(%error, dir = %dir.display(), "what this run sent is not counted");
            return None;
        }
    };
    if !manifest.has_worked_since(since) {
        return None;
    }
    let mut past = Past::of(dir, Some(&manifest));
    if is_at_work {
        past.died = None;
    }
    Some(OtherRun { manifest, past })
}

/// The start of a line from which on everything since then stands.
fn begin(file: &File, length: u64, since: SystemTime) -> io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let block = end.saturating_sub(BLOCK);
        let start = match block {
            0 => return Ok(0),
            block => next_line(file, block, length)?,
        };
        let is_older = start < length
            && journal::read_at(file, start).is_ok_and(|entry| entry.answer.at < since);
        if is_older {
            return Ok(start);
        }
        end = block;
    }
    Ok(0)
}

/// The offset behind the next `\n`.
fn next_line(file: &File, from: u64, length: u64) -> io::Result<u64> {
    let mut block = vec![0; 16 * 1024];
    let mut at = from;
    while at < length {
        let read = file.read_at(&mut block, at)?;
        if read == 0 {
            break;
        }
        if let Some(end) = memchr::memchr(b'\n', &block[..read]) {
            return Ok(at + end as u64 + 1);
        }
        at += read as u64;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{PaidAnswer, push_numbered, tail};
    use crate::row::RowId;

    fn second(n: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + n)
    }

    fn folder(answers: u64, body: usize) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = Vec::new();
        for n in 0..answers {
            let body = format!("\"{}\"", "x".repeat(body));
            let answer = PaidAnswer {
                key: "k",
                attempt: 1,
                status: 200,
                at: second(n),
                latency: Duration::from_millis(n),
                prompt_guess: None,
                body: body.as_bytes(),
            };
            push_numbered(&mut lines, n + 1, &tail(RowId([1; 16]), "ask", &answer));
        }
        std::fs::write(dir.path().join("journal.jsonl"), lines).unwrap();
        dir
    }

    #[test]
    fn the_answers_since_a_time_are_found_from_the_end() {
        for (answers, body) in [(0, 1), (1, 1), (50, 10), (3_000, 400), (20, 100_000)] {
            let dir = folder(answers, body);
            let past = Past::of(dir.path(), None);
            for since in [0, 1, 7, 49, 2_500, 2_999, 3_000] {
                let found = past.answers_since(second(since)).unwrap();
                let seqs: Vec<u64> = found.iter().map(|answer| answer.seq).collect();
                let expected: Vec<u64> = (since + 1..=answers).collect();
                assert_eq!(seqs, expected, "{answers} answers, since {since}");
            }
        }
    }

    #[test]
    fn only_a_command_that_did_not_say_so_has_died() {
        let dir = folder(1, 1);
        assert_eq!(Past::of(dir.path(), None).died(), None);
        let mut manifest = Manifest::new(serde_json::Map::new(), Default::default());
        std::fs::write(dir.path().join("run.json"), "{}").unwrap();
        let died = Past::of(dir.path(), Some(&manifest)).died().unwrap();
        assert!(died <= SystemTime::now());
        manifest.ended = Some("2026-11-23T00:00:00Z".to_owned());
        assert_eq!(Past::of(dir.path(), Some(&manifest)).died(), None);
    }

    /// A run of which the last word is from then.
    fn run(dir: &Path, written: SystemTime, ended: Option<SystemTime>) {
        std::fs::create_dir(dir).unwrap();
        let mut manifest = Manifest::new(serde_json::Map::new(), Default::default());
        manifest.begin(Default::default(), Default::default(), "run".into());
        manifest.commands[0].ended = ended.map(crate::record::timestamp);
        manifest.ended = manifest.commands[0].ended.clone();
        let text = serde_json::to_vec(&manifest).unwrap();
        std::fs::write(dir.join("run.json"), text).unwrap();
        let file = File::options().write(true).open(dir.join("run.json"));
        file.unwrap().set_modified(written).unwrap();
    }

    #[test]
    fn others_count_that_may_have_sent_something_since_their_last_word() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| dir.path().join(name);
        let since = second(1_000);
        run(&of("demo"), second(2_000), None);
        run(&of("demo-20261122-000001"), second(975), None);
        run(&of("demo-20261122-000002"), second(965), None);
        let ended = |at| Some(second(at));
        run(&of("demo-20261122-000003"), second(1_500), ended(1_500));
        run(&of("demo-20261122-000004"), second(1_600), ended(900));
        let own = of("demo");
        let told = |other: OtherRun| {
            let name = other.past.dir().file_name().map(|name| name.to_owned());
            let died = other.past.died().map(|at| at == second(1_006));
            format!("{:?} died {died:?}", name.unwrap())
        };
        let past = Past::of(own.as_path(), None);
        let names: Vec<String> = past.others_since(since).map(told).collect();
        assert_eq!(
            names,
            [
                r#""demo-20261122-000003" died None"#,
                r#""demo-20261122-000001" died Some(true)"#
            ]
        );
    }
}

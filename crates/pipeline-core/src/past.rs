//! What earlier commands have sent, for steps that keep to limits over time.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::error::Error;
use crate::journal::JournaledAnswer;
use crate::lock;
use crate::manifest::{Command, Manifest};
use crate::siblings;
use crate::unjournaled::Unjournaled;
use answers::{BLOCK, Since};

mod answers;

/// The last command that may have sent something, where it ended without saying so. One that only judged again has sent
/// nothing, and a command for some rows may be such.
fn at_work(manifest: &Manifest) -> Option<usize> {
    let mut commands = manifest.commands.iter().enumerate().rev();
    let last = commands.find(|(_, command)| !command.of_rows || command.ended.is_none());
    let (number, _) = last.filter(|(_, command)| command.ended.is_none())?;
    Some(number)
}

/// The manifest of a run at work is never older than this.
const CHECKPOINT: Duration = Duration::from_secs(31);

/// A time that is further ahead than this was written by a clock that was wrong, or is.
pub const AHEAD: Duration = Duration::from_secs(60);

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
    manifest: Option<Manifest>,
    /// Which command died, and when at the latest.
    died: Option<(usize, SystemTime)>,
    /// What a step takes to have been under way then.
    assumed: AtomicU64,
    forked_from: Option<PathBuf>,
    /// What the user should know.
    warnings: Mutex<Vec<String>>,
}

impl<'a> Past<'a> {
    /// Of a folder as it is, before this command has written to it.
    pub(crate) fn of(dir: impl Into<Cow<'a, Path>>, manifest: Option<&Manifest>) -> Past<'a> {
        let dir = dir.into();
        let written = || std::fs::metadata(dir.join("run.json"))?.modified();
        let died = manifest.and_then(at_work).and_then(|number| {
            let at = written().ok()? + CHECKPOINT;
            Some((number, at.min(SystemTime::now())))
        });
        Past {
            dir,
            manifest: manifest.cloned(),
            died,
            assumed: AtomicU64::new(0),
            forked_from: manifest.and_then(|manifest| manifest.forked_from.clone()),
            warnings: Mutex::default(),
        }
    }

    /// The same for a folder that is about to begin with answers of this run.
    pub(crate) fn forked_from(mut self, source: Option<&Path>) -> Past<'a> {
        self.forked_from = source.map(Path::to_owned);
        self
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

    /// The other runs of the same experiment in which a command was at work since then: whatever was set aside, and
    /// folders with other time stamps. So too those of the experiment that this one was forked from, and so on, and
    /// the forks of all these that stand beside them.
    ///
    /// They are read as they stand, also while another process works on one; what cannot be read is passed over
    /// and told in the log. Lists the folders of the experiments, and so blocks for a moment.
    pub fn others_since(&self, since: SystemTime) -> impl Iterator<Item = OtherRun> {
        // Whoever is at work may not have written for so long.
        let written = since.checked_sub(CHECKPOINT).unwrap_or(since);
        let others = siblings::written_since(&self.dir, self.forked_from.as_deref(), written);
        others.into_iter().filter_map(move |dir| other(dir, since))
    }

    /// The requests that left since then and of which the journal holds nothing, as far as the commands before this
    /// one came to write them down, each with the number of its command.
    pub fn unjournaled_since(
        &self,
        since: SystemTime,
    ) -> impl Iterator<Item = (usize, &Unjournaled)> {
        let is_later = move |lost: &&Unjournaled| lost.at().is_some_and(|at| at >= since);
        let commands = self.commands().iter().enumerate();
        commands.flat_map(move |(number, command)| {
            let lost = command.unjournaled.iter().filter(is_later);
            lost.map(move |lost| (number, lost))
        })
    }

    /// The commands that worked on it, oldest first: their numbers begin with 0.
    pub fn commands(&self) -> &[Command] {
        self.manifest
            .as_ref()
            .map_or(&[], |manifest| &manifest.commands)
    }

    /// A setting as each command had it; null where it had none.
    pub fn setting_of_commands(&self, key: &str) -> Vec<Value> {
        let manifest = self.manifest.as_ref();
        manifest.map_or_else(Vec::new, |manifest| manifest.setting_of_commands(key))
    }

    /// The number of the command that was given an answer; `None` where it is none of these, as with the answers that a
    /// fork has from its source.
    pub fn command_of(&self, answer: &JournaledAnswer) -> Option<usize> {
        let commands = self.commands();
        let is_of = |command: &Command| command.first_seq.is_some_and(|first| first <= answer.seq);
        // Older versions did not number them, and wrote whole seconds down.
        let since = |command: &Command| {
            let started = command.started.parse::<jiff::Timestamp>().ok()?;
            Some(SystemTime::from(started))
        };
        commands.iter().rposition(is_of).or_else(|| {
            let is_older = |command: &Command| command.first_seq.is_none() && !command.of_rows;
            commands.iter().rposition(|command| {
                is_older(command) && since(command).is_some_and(|since| since <= answer.at)
            })
        })
    }

    /// Whether answers that are [none of its commands'](Self::command_of) stand in the run too that it was forked from.
    pub fn has_source(&self) -> bool {
        let source = self.forked_from.as_deref();
        source.is_some_and(|source| source.join("run.json").is_file())
    }

    /// Tells the user something that he should look at, once the command has begun.
    pub fn warn(&self, message: String) {
        let warnings = self.warnings.lock();
        let mut warnings = warnings.unwrap_or_else(PoisonError::into_inner);
        warnings.push(message);
    }

    pub(crate) fn take_warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *warnings)
    }

    /// Notes how many requests were under way when the last command [died](Self::died), as well as anybody can
    /// tell: the next start counts them too, among the [unjournaled](Self::unjournaled_since).
    pub fn assume_under_way(&self, requests: u64) {
        self.assumed.fetch_add(requests, Ordering::Relaxed);
    }

    /// Those, and the number of the command that died.
    pub(crate) fn assumed(&self) -> Option<(usize, Unjournaled)> {
        let requests = self.assumed.load(Ordering::Relaxed);
        let (number, died) = self.died.filter(|_| requests > 0)?;
        Some((number, Unjournaled::at_death(died, requests)))
    }

    /// When the command before this one ended without saying so, at the latest: what it had under way then
    /// is in no journal. `None` where it ended as it should, or there was none.
    pub fn died(&self) -> Option<SystemTime> {
        self.died.map(|(_, at)| at)
    }

    /// The number of the command that [died](Self::died).
    pub fn died_as(&self) -> Option<usize> {
        self.died.map(|(number, _)| number)
    }

    /// Hands over the answers in the journal that arrived since then, oldest first. One with a time that is still to
    /// come by more than a [moment](AHEAD) came before the next one that is past, and is given its time; where there is none
    /// it stays as it is. Reads the end of a file, and so blocks for a moment; what is handed over is held no longer than
    /// `each` holds it.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read; some of the answers may have been handed over by then. A line that is none is
    /// passed over: it is told elsewhere.
    pub fn each_answer_since(
        &self,
        since: SystemTime,
        each: impl FnMut(JournaledAnswer),
    ) -> io::Result<()> {
        let file = match File::open(self.dir.join("journal.jsonl")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let since = Since {
            since,
            latest: SystemTime::now() + AHEAD,
            block: BLOCK,
        };
        since.each(&file, each)
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

#[cfg(test)]
mod tests;

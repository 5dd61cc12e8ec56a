//! Where runs go, and which of them a command works on.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::disk::Disk;
use crate::error::Error;
use crate::lock::Lock;
use crate::manifest::Manifest;

/// Where the runs of an experiment go: `<output_dir>/<experiment_name>/`, or with a time stamp
/// `<output_dir>/<experiment_name>/<YYYYMMDD-HHMMSS>/` (local time; a taken name gets `-2`).
///
/// Folders that are made get the mode 0700.
#[derive(Debug, Clone)]
pub struct Place {
    /// The folder of all experiments.
    pub output_dir: PathBuf,
    /// One name for what belongs together: 1 to 200 letters, digits, `.`, `_` and `-`, not a dot first.
    pub experiment_name: String,
    /// A folder of its own for each command, named after its start, or one folder that is continued.
    pub need_time_stamp: bool,
}

/// Which run a command works on. The default is the place itself: the one folder that is continued, or with a
/// time stamp a new one.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Continue an old run; together with `fork`, the run that is copied.
    pub resume: Option<Resume>,
    /// Begin afresh; an old folder in the way is moved aside (to `<experiment_name>-<its start>`), never
    /// deleted. Goes neither with `resume` nor with `fork`.
    pub new: bool,
    /// Do not begin a new folder with a time stamp where an unfinished run with the same settings holds
    /// answers that were paid for: that is an error which names it.
    pub offer_unfinished: bool,
    /// Work on a copy, `<output_dir>/<this name>`, that keeps every answer whose call is unchanged
    /// ([`Step::call_key`](crate::Step::call_key)), or all of them where nothing but the extractor changed.
    /// Where the copy is there already it is continued. The source's answers and lines are only read.
    pub fork: Option<String>,
}

/// Which old run to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// The one of this place that was started last.
    Latest,
    /// This folder, wherever it is.
    Dir(PathBuf),
}

/// What a command will work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A folder that is continued, or made if it is not there.
    Folder(PathBuf),
    /// A new folder with a time stamp, below this one.
    Stamped(PathBuf),
    /// The folder, emptied by moving what is there aside.
    Fresh(PathBuf),
    /// A new folder, with the answers of another run.
    ForkOf { source: PathBuf, dir: PathBuf },
}

impl Place {
    /// Refuses names that would leave the folder or trouble a file system.
    ///
    /// # Errors
    ///
    /// When the name is empty, longer than 200 characters, begins with a dot, or has another character
    /// than `[A-Za-z0-9._-]`.
    pub fn check_name(name: &str) -> Result<(), Error> {
        let wrong = if name.is_empty() {
            "is empty".to_owned()
        } else if name.len() > 200 {
            format!("has {} characters; 200 is the most", name.chars().count())
        } else if name.starts_with('.') {
            "begins with a dot".to_owned()
        } else if let Some(odd) = name
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || "._-".contains(*c)))
        {
            format!("has the character {odd:?}")
        } else {
            return Ok(());
        };
        let shown: String = name.chars().take(40).flat_map(char::escape_debug).collect();
        Err(Error::usage(format!(
            "the name `{shown}` {wrong}; use letters, digits, `.`, `_` and `-`, not a dot first"
        )))
    }

    fn experiment(&self) -> PathBuf {
        self.output_dir.join(&self.experiment_name)
    }

    /// The run that was started last, with its manifest.
    ///
    /// # Errors
    ///
    /// When a folder or a manifest cannot be read.
    pub(crate) fn latest(&self) -> Result<Option<PathBuf>, Error> {
        if !self.need_time_stamp {
            let dir = self.experiment();
            return Ok(is_run(&dir).then_some(dir));
        }
        Ok(self
            .stamped_runs()?
            .into_iter()
            .map(|(_, dir, _)| dir)
            .next_back())
    }

    /// An unfinished run of this experiment that was made with the same settings, holds paid answers,
    /// and that no process works on: the newest.
    ///
    /// # Errors
    ///
    /// When a folder or a manifest cannot be read.
    pub(crate) fn unfinished(
        &self,
        disk: &Disk,
        dataset: &Map<String, Value>,
    ) -> Result<Option<(PathBuf, Manifest)>, Error> {
        if !self.need_time_stamp {
            return Ok(None);
        }
        for (_, dir, manifest) in self.stamped_runs()?.into_iter().rev() {
            if !manifest.is_finished()
                && manifest.changes(dataset).is_empty()
                && has_answers(&dir)
                && let Ok(lock) = Lock::take(disk, &dir)
            {
                // It may have come to its end since its manifest was read.
                let now = Manifest::read(&dir)?.unwrap_or(manifest);
                drop(lock);
                if !now.is_finished() {
                    return Ok(Some((dir, now)));
                }
            }
        }
        Ok(None)
    }

    /// All runs with a time stamp, oldest start first.
    fn stamped_runs(&self) -> Result<Vec<(String, PathBuf, Manifest)>, Error> {
        let experiment = self.experiment();
        let entries = match std::fs::read_dir(&experiment) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("could not read", &experiment)(error)),
        };
        let mut runs = Vec::new();
        for entry in entries {
            let dir = entry
                .map_err(Error::io("could not read", &experiment))?
                .path();
            if !dir.is_dir() {
                continue;
            }
            match Manifest::read(&dir) {
                // Two that began in the same second are told apart by their names: `-2` comes later.
                Ok(Some(manifest)) => runs.push((manifest.started.clone(), dir, manifest)),
                Ok(None) => {}
                // One damaged run must not stop all others; whoever names it is told.
                Err(error) => {
                    tracing::warn!(%error, dir = %dir.display(), "this run is passed over")
                }
            }
        }
        runs.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        Ok(runs)
    }

    pub(crate) fn target(&self, start: &Start) -> Result<Target, Error> {
        Place::check_name(&self.experiment_name)?;
        if start.new && (start.resume.is_some() || start.fork.is_some()) {
            return Err(Error::usage(
                "`--new` begins afresh, so it goes neither with `--resume` nor with `--fork`",
            ));
        }
        if let Some(name) = &start.fork {
            Place::check_name(name)?;
            if *name == self.experiment_name {
                return Err(Error::usage(format!(
                    "a fork of `{name}` cannot have the same name: the run that it comes from stays as it is"
                )));
            }
            let dir = self.output_dir.join(name);
            if is_run(&dir) {
                return Ok(Target::Folder(dir));
            }
            let source = match &start.resume {
                Some(resume) => self.resumed(resume)?,
                None => self.resumed(&Resume::Latest)?,
            };
            return Ok(Target::ForkOf { source, dir });
        }
        if let Some(resume) = &start.resume {
            return Ok(Target::Folder(self.resumed(resume)?));
        }
        Ok(match (self.need_time_stamp, start.new) {
            (true, _) => Target::Stamped(self.experiment()),
            (false, true) => Target::Fresh(self.experiment()),
            (false, false) => Target::Folder(self.experiment()),
        })
    }

    fn resumed(&self, resume: &Resume) -> Result<PathBuf, Error> {
        match resume {
            Resume::Dir(dir) if is_run(dir) => Ok(dir.clone()),
            Resume::Dir(dir) => Err(Error::usage(format!(
                "{} is no run folder: it has no run.json",
                dir.display()
            ))),
            Resume::Latest => self.latest()?.ok_or_else(|| {
                Error::usage(format!(
                    "there is no run to go on with in {}",
                    self.experiment().display()
                ))
            }),
        }
    }
}

pub(crate) fn is_run(dir: &Path) -> bool {
    dir.join("run.json").is_file()
}

pub(crate) fn has_answers(dir: &Path) -> bool {
    ["journal.jsonl", "result.jsonl"]
        .iter()
        .any(|name| std::fs::metadata(dir.join(name)).is_ok_and(|facts| facts.len() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        for wrong in [
            "",
            "..",
            "../../x",
            "/etc",
            "a/b",
            ".hidden",
            "a b",
            "é",
            "a\nb",
            &"x".repeat(300),
        ] {
            assert!(Place::check_name(wrong).is_err(), "{wrong:?}");
        }
        for right in ["demo_test", "A-1.2", "x"] {
            Place::check_name(right).unwrap();
        }
        insta::assert_snapshot!(Place::check_name("../x").unwrap_err(), @"the name `../x` begins with a dot; use letters, digits, `.`, `_` and `-`, not a dot first");
    }
}

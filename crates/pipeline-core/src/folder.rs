//! Where runs go, which one a command works on, and that only one process does.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::append::sync_folder;
use crate::error::{Error, ErrorKind};
use crate::manifest::Manifest;

/// Where the runs of an experiment go.
#[derive(Debug, Clone)]
pub struct Place {
    /// The folder of all experiments.
    pub output_dir: PathBuf,
    /// One name for what belongs together: letters, digits, `.`, `_`, `-`.
    pub experiment_name: String,
    /// A folder of its own for each command, named after its start, or one folder that is continued.
    pub need_time_stamp: bool,
}

/// Which run a command works on.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Continue an old run.
    pub resume: Option<Resume>,
    /// Begin afresh; an old folder in the way is moved aside, never deleted.
    pub new: bool,
    /// Do not begin a new folder with a time stamp where an unfinished run with the same settings holds
    /// answers that were paid for: that is an error which names it.
    pub offer_unfinished: bool,
    /// Work on a copy under this name that keeps every answer whose call is unchanged.
    pub fork: Option<String>,
}

/// Which old run to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// The one that was started last.
    Latest,
    /// This folder.
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
        dataset: &Map<String, Value>,
    ) -> Result<Option<(PathBuf, Manifest)>, Error> {
        if !self.need_time_stamp {
            return Ok(None);
        }
        for (_, dir, manifest) in self.stamped_runs()?.into_iter().rev() {
            if !manifest.is_finished()
                && manifest.changes(dataset).is_empty()
                && has_answers(&dir)
                && let Ok(lock) = Lock::take(&dir)
            {
                drop(lock);
                return Ok(Some((dir, manifest)));
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
            if dir.is_dir()
                && let Some(manifest) = Manifest::read(&dir)?
            {
                // Two that began in the same second are told apart by their names: `-2` comes later.
                runs.push((manifest.started.clone(), dir, manifest));
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

fn is_run(dir: &Path) -> bool {
    dir.join("run.json").exists() || dir.join("journal.jsonl").exists()
}

pub(crate) fn has_answers(dir: &Path) -> bool {
    std::fs::metadata(dir.join("journal.jsonl")).is_ok_and(|facts| facts.len() > 0)
}

/// A run folder that this process alone works on, for as long as the value lives.
#[derive(Debug)]
pub(crate) struct RunFolder {
    dir: PathBuf,
    /// Whether this command made it.
    pub(crate) made: bool,
    _lock: Lock,
}

impl RunFolder {
    /// Opens the folder of a target, which is made where it is not there.
    pub(crate) fn open(target: &Target) -> Result<RunFolder, Error> {
        match target {
            Target::Folder(dir) => RunFolder::at(dir.clone()),
            Target::Stamped(experiment) => RunFolder::stamped(experiment),
            Target::Fresh(dir) => {
                if is_run(dir) {
                    let lock = Lock::take(dir)?;
                    move_aside(dir)?;
                    drop(lock);
                }
                RunFolder::at(dir.clone())
            }
            Target::ForkOf { dir, .. } => RunFolder::at(dir.clone()),
        }
    }

    fn at(dir: PathBuf) -> Result<RunFolder, Error> {
        let made = !dir.exists();
        make_folders(&dir)?;
        let lock = Lock::take(&dir)?;
        Ok(RunFolder {
            dir,
            made,
            _lock: lock,
        })
    }

    fn stamped(experiment: &Path) -> Result<RunFolder, Error> {
        make_folders(experiment)?;
        let stamp = stamp(jiff::Zoned::now());
        for dir in numbered(&experiment.join(stamp)) {
            match DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => {
                    sync_folder(experiment).map_err(Error::io("could not write", experiment))?;
                    let lock = Lock::take(&dir)?;
                    return Ok(RunFolder {
                        dir,
                        made: true,
                        _lock: lock,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("could not make", &dir)(error)),
            }
        }
        unreachable!("names with a number do not end")
    }

    /// The folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes back what opening made, where nothing came of it.
    pub(crate) fn discard_if_made(self) {
        if !self.made {
            return;
        }
        let empty = |name: &&str| {
            std::fs::metadata(self.dir.join(name)).is_ok_and(|facts| facts.len() == 0)
        };
        let ours = ["journal.jsonl", "result.jsonl", "failures.jsonl"]
            .into_iter()
            .filter(empty);
        for name in ours.chain(["run.lock", ".input.jsonl"]) {
            if let Err(error) = std::fs::remove_file(self.dir.join(name))
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::debug!(%error, name, "left behind");
            }
        }
        // A folder that holds anything else stays.
        if let Err(error) = std::fs::remove_dir(&self.dir) {
            tracing::debug!(%error, dir = %self.dir.display(), "left behind");
        }
    }
}

/// `<dir>-<its start>`, so that nothing is ever deleted.
fn move_aside(dir: &Path) -> Result<(), Error> {
    let start =
        Manifest::read(dir)?.and_then(|manifest| manifest.started.parse::<jiff::Timestamp>().ok());
    let start = stamp(
        start
            .unwrap_or_else(jiff::Timestamp::now)
            .to_zoned(jiff::tz::TimeZone::system()),
    );
    let mut name = dir.file_name().unwrap_or_default().to_os_string();
    name.push(format!("-{start}"));
    for aside in numbered(&dir.with_file_name(name)) {
        if !aside.exists() {
            std::fs::rename(dir, &aside).map_err(Error::io("could not move aside", dir))?;
            let parent = dir.parent().unwrap_or(Path::new("."));
            return sync_folder(parent).map_err(Error::io("could not write", parent));
        }
    }
    unreachable!("names with a number do not end")
}

/// Local time, as people look for it.
fn stamp(at: jiff::Zoned) -> String {
    at.strftime("%Y%m%d-%H%M%S").to_string()
}

/// The path, then with `-2`, `-3` and so on.
fn numbered(path: &Path) -> impl Iterator<Item = PathBuf> {
    let base = path.to_owned();
    std::iter::once(base.clone()).chain((2..).map(move |n: u64| {
        let mut name = base.file_name().unwrap_or_default().to_os_string();
        name.push(format!("-{n}"));
        base.with_file_name(name)
    }))
}

/// Run folders hold what people asked and what they paid for: nobody else reads them.
fn make_folders(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(Error::io("could not make", dir))?;
    if let Some(parent) = dir.parent() {
        sync_folder(parent).map_err(Error::io("could not write", parent))?;
    }
    Ok(())
}

/// An operating-system lock: a process that dies gives it back.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(dir: &Path) -> Result<Lock, Error> {
        let path = dir.join("run.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("could not open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who it is matters less than that it is there.
                let holder = match file.read_to_string(&mut holder) {
                    Ok(_) if !holder.trim().is_empty() => holder.trim().to_owned(),
                    _ => "it has not said which".to_owned(),
                };
                return Err(ErrorKind::Locked {
                    dir: dir.to_owned(),
                    holder,
                }
                .into());
            }
            Err(TryLockError::Error(error)) => {
                return Err(Error::io("could not lock", &path)(error));
            }
        }
        let note = format!(
            "process {}, since {}\n",
            std::process::id(),
            crate::manifest::now()
        );
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(note.as_bytes()))
            .map_err(Error::io("could not write", &path))?;
        Ok(Lock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &Path, need_time_stamp: bool) -> Place {
        Place {
            output_dir: dir.join("output"),
            experiment_name: "demo".into(),
            need_time_stamp,
        }
    }

    fn open(place: &Place, start: &Start) -> Result<RunFolder, Error> {
        RunFolder::open(&place.target(start)?)
    }

    fn fill(folder: &RunFolder) -> Manifest {
        let manifest = Manifest::new(Map::new(), std::collections::BTreeMap::new());
        manifest.write(folder.dir()).unwrap();
        std::fs::write(folder.dir().join("journal.jsonl"), "{}\n").unwrap();
        manifest
    }

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

    #[test]
    fn a_second_process_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), false);
        let first = open(&place, &Start::default()).unwrap();
        let error = open(&place, &Start::default()).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Locked { holder, .. } if holder.contains(&format!("process {}", std::process::id()))),
            "{error}"
        );
        drop(first);
        open(&place, &Start::default()).unwrap();
    }

    #[test]
    fn a_taken_time_stamp_gets_a_number_and_latest_is_the_newest_start() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), true);
        assert_eq!(place.latest().unwrap(), None);
        let folders: Vec<RunFolder> = (0..3)
            .map(|_| open(&place, &Start::default()).unwrap())
            .collect();
        folders.iter().for_each(|folder| drop(fill(folder)));
        assert_eq!(place.latest().unwrap().as_deref(), Some(folders[2].dir()));
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            std::fs::metadata(folders[0].dir())
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o700
        );
    }

    #[test]
    fn new_moves_an_old_run_aside_and_deletes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), false);
        let first = open(&place, &Start::default()).unwrap();
        fill(&first);
        let start = Start {
            new: true,
            ..Start::default()
        };
        assert!(
            matches!(
                open(&place, &start).unwrap_err().kind(),
                ErrorKind::Locked { .. }
            ),
            "a run that goes on is not moved"
        );
        drop(first);
        let fresh = open(&place, &start).unwrap();
        assert!(!has_answers(fresh.dir()));
        let mut names: Vec<String> = std::fs::read_dir(&place.output_dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), 2);
        assert_eq!(names[0], "demo");
        assert!(has_answers(&place.output_dir.join(&names[1])), "{names:?}");
    }

    #[test]
    fn an_unfinished_run_with_the_same_settings_is_found_unless_somebody_works_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), true);
        let folder = open(&place, &Start::default()).unwrap();
        fill(&folder);
        assert!(
            place.unfinished(&Map::new()).unwrap().is_none(),
            "it is at work"
        );
        let path = folder.dir().to_owned();
        drop(folder);
        assert_eq!(place.unfinished(&Map::new()).unwrap().unwrap().0, path);
        let other = Map::from_iter([("model".to_owned(), Value::from("x"))]);
        assert!(place.unfinished(&other).unwrap().is_none());
    }

    #[test]
    fn what_nothing_came_of_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), false);
        let folder = open(&place, &Start::default()).unwrap();
        let path = folder.dir().to_owned();
        folder.discard_if_made();
        assert!(!path.exists());
        let folder = open(&place, &Start::default()).unwrap();
        fill(&folder);
        folder.discard_if_made();
        assert!(path.join("run.json").exists());
    }

    #[test]
    fn resuming_what_is_not_there_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let start = Start {
            resume: Some(Resume::Latest),
            ..Start::default()
        };
        assert!(
            open(&place(dir.path(), true), &start)
                .unwrap_err()
                .to_string()
                .contains("there is no run to go on with")
        );
        let start = Start {
            resume: Some(Resume::Dir("/nope".into())),
            ..Start::default()
        };
        assert!(
            open(&place(dir.path(), true), &start)
                .unwrap_err()
                .to_string()
                .contains("is no run folder")
        );
    }
}

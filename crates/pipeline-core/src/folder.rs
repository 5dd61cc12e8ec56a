//! A run folder: made, opened by one process alone, moved aside, taken back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::Disk;
use crate::error::Error;
use crate::lock::Lock;
use crate::manifest::Manifest;
use crate::place::{Target, has_answers, is_run};
use crate::swap;

/// A run folder that this process alone works on, for as long as the value lives.
#[derive(Debug)]
pub(crate) struct RunFolder {
    disk: Disk,
    dir: PathBuf,
    /// Whether this command made it.
    pub(crate) made: bool,
    lock: Arc<Lock>,
    /// The old run whose place it takes once it is known that there is something to do.
    replaces: Option<(PathBuf, Lock)>,
}

impl RunFolder {
    /// Opens the folder of a target, which is made where it is not there.
    pub(crate) fn open(disk: &Disk, target: &Target) -> Result<RunFolder, Error> {
        match target {
            Target::Folder(dir) | Target::ForkOf { dir, .. } => RunFolder::at(disk, dir),
            Target::Stamped(experiment) => RunFolder::stamped(disk, experiment),
            Target::Fresh(dir) if is_run(dir) || has_answers(dir) => {
                RunFolder::instead_of(disk, dir)
            }
            Target::Fresh(dir) => RunFolder::at(disk, dir),
        }
    }

    fn at(disk: &Disk, dir: &Path) -> Result<RunFolder, Error> {
        let made = !dir.exists();
        loop {
            make_folders(disk, dir)?;
            match RunFolder::locked(disk, dir.to_owned(), made) {
                // Another process has taken it back or moved it aside in between.
                Err(error) if !error.is_io() && !dir.exists() => {}
                locked => return locked,
            }
        }
    }

    fn locked(disk: &Disk, dir: PathBuf, made: bool) -> Result<RunFolder, Error> {
        refuse_irregular_files(&dir)?;
        match Lock::take(disk, &dir) {
            Ok(lock) => {
                swap::complete(disk, &dir)?;
                Ok(RunFolder {
                    disk: disk.clone(),
                    dir,
                    made,
                    lock: Arc::new(lock),
                    replaces: None,
                })
            }
            Err(error) => {
                // Where another process has it already, it is that one's folder.
                if made && error.is_io() {
                    take_back(disk, &dir);
                }
                Err(error)
            }
        }
    }

    /// A folder beside an old run. The old one keeps its place until the rows are known to be right: whoever
    /// mistypes a file name must not find an empty run afterwards.
    fn instead_of(disk: &Disk, old: &Path) -> Result<RunFolder, Error> {
        refuse_irregular_files(old)?;
        let lock = Lock::take(disk, old)?;
        let name = old.file_name().unwrap_or_default().to_string_lossy();
        let mut folder = RunFolder::first_free(disk, &old.with_file_name(format!(".{name}.new")))?;
        folder.replaces = Some((old.to_owned(), lock));
        Ok(folder)
    }

    /// Moves the old run aside, where there is one, and takes its place. Returns the folder's path.
    pub(crate) fn take_place(&mut self) -> Result<PathBuf, Error> {
        if let Some((place, old)) = self.replaces.take() {
            move_aside(&self.disk, &place)?;
            drop(old);
            self.move_to(&place)?;
            self.dir = place;
            let parent = self.dir.parent().unwrap_or(Path::new("."));
            self.disk
                .sync_folder(parent)
                .map_err(Error::io("could not write", parent))?;
        }
        Ok(self.dir.clone())
    }

    /// While the place was free another process may have made a folder there. If it works on it, it was first;
    /// if not, it finds this run there instead.
    fn move_to(&self, place: &Path) -> Result<(), Error> {
        let mut tries = 0;
        while let Err(error) = self.disk.rename(&self.dir, place) {
            tries += 1;
            if error.kind() != io::ErrorKind::DirectoryNotEmpty || tries > 3 {
                return Err(Error::io("could not make", place)(error));
            }
            let lock = Arc::new(Lock::take(&self.disk, place)?);
            let other = RunFolder {
                disk: self.disk.clone(),
                dir: place.to_owned(),
                made: true,
                lock,
                replaces: None,
            };
            if !is_run(place) {
                other.discard_if_made();
            }
        }
        Ok(())
    }

    /// Whoever still writes holds it, and nobody else may begin.
    pub(crate) fn lock(&self) -> Arc<Lock> {
        Arc::clone(&self.lock)
    }

    fn stamped(disk: &Disk, experiment: &Path) -> Result<RunFolder, Error> {
        make_folders(disk, experiment)?;
        let folder = RunFolder::first_free(disk, &experiment.join(stamp(jiff::Zoned::now())))?;
        match disk.sync_folder(experiment) {
            Ok(()) => Ok(folder),
            Err(error) => {
                folder.discard_if_made();
                Err(Error::io("could not write", experiment)(error))
            }
        }
    }

    /// Makes a folder under the first of the numbered names that nobody has.
    fn first_free(disk: &Disk, path: &Path) -> Result<RunFolder, Error> {
        for dir in numbered(path) {
            match disk.make_folder(&dir) {
                Ok(()) => return RunFolder::locked(disk, dir, true),
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
        if self.made {
            take_back(&self.disk, &self.dir);
        }
    }
}

/// Removes what a command that came to nothing left in a folder of its own. One that holds anything else stays.
fn take_back(disk: &Disk, dir: &Path) {
    let empty = |name: &&str| std::fs::metadata(dir.join(name)).is_ok_and(|facts| facts.len() == 0);
    let ours = ["journal.jsonl", "result.jsonl", "failures.jsonl"]
        .into_iter()
        .filter(empty);
    let others = [
        "run.lock",
        ".input.jsonl",
        ".input.jsonl.new",
        ".run.json.new",
        ".journal.jsonl.new",
    ];
    for name in ours.chain(others) {
        if let Err(error) = disk.remove(&dir.join(name))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, name, "left behind");
        }
    }
    if let Err(error) = disk.remove_folder(dir) {
        tracing::debug!(%error, dir = %dir.display(), "left behind");
    }
}

/// A pipe or a link under the name of one of the run's own files would hang the run, or write elsewhere.
fn refuse_irregular_files(dir: &Path) -> Result<(), Error> {
    let names = [
        "run.json",
        "run.lock",
        "journal.jsonl",
        "result.jsonl",
        "failures.jsonl",
        ".input.jsonl",
    ];
    for path in names.map(|name| dir.join(name)) {
        if std::fs::symlink_metadata(&path).is_ok_and(|facts| !facts.is_file()) {
            return Err(Error::usage(format!(
                "{} is not a regular file; move it away",
                path.display()
            )));
        }
    }
    Ok(())
}

/// `<dir>-<its start>`, so that nothing is ever deleted.
fn move_aside(disk: &Disk, dir: &Path) -> Result<(), Error> {
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
            disk.rename(dir, &aside)
                .map_err(Error::io("could not move aside", dir))?;
            let parent = dir.parent().unwrap_or(Path::new("."));
            return disk
                .sync_folder(parent)
                .map_err(Error::io("could not write", parent));
        }
    }
    unreachable!("names with a number do not end")
}

/// Local time, as people look for it.
pub(crate) fn stamp(at: jiff::Zoned) -> String {
    at.strftime("%Y%m%d-%H%M%S").to_string()
}

/// The path, then with `-2`, `-3` and so on.
pub(crate) fn numbered(path: &Path) -> impl Iterator<Item = PathBuf> {
    let base = path.to_owned();
    std::iter::once(base.clone()).chain((2..).map(move |n: u64| {
        let mut name = base.file_name().unwrap_or_default().to_os_string();
        name.push(format!("-{n}"));
        base.with_file_name(name)
    }))
}

/// `.<name>-<time>.jsonl` in a folder, under a name that nobody has.
pub(crate) fn free_name(dir: &Path, name: &str) -> PathBuf {
    let base = dir.join(format!(".{name}-{}", stamp(jiff::Zoned::now())));
    numbered(&base)
        .map(|path| {
            let mut name = path.into_os_string();
            name.push(".jsonl");
            PathBuf::from(name)
        })
        .find(|path| !path.exists())
        .expect("names with a number do not end")
}

/// Makes a folder and those above it that are not there, and each durable in the one above it. Run folders hold
/// what people asked and what they paid for: nobody else reads them.
fn make_folders(disk: &Disk, dir: &Path) -> Result<(), Error> {
    let missing: Vec<&Path> = dir
        .ancestors()
        .take_while(|level| !level.as_os_str().is_empty() && !level.is_dir())
        .collect();
    // An empty folder may be ours: made by a command that was killed before it was durable.
    if let Some(deepest) = dir.ancestors().nth(missing.len())
        && std::fs::read_dir(deepest).is_ok_and(|mut entries| entries.next().is_none())
        && let Some(parent) = deepest.parent()
    {
        match disk.sync_folder(parent) {
            // Where nothing can be read we have made nothing.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                return Err(Error::io("could not write", parent)(error));
            }
            _ => {}
        }
    }
    // What stands in the place of a folder is told by the one below it, that cannot be made.
    let in_the_way = |level: &&Path| *level != dir && level.exists();
    for level in missing.into_iter().rev().filter(|level| !in_the_way(level)) {
        match disk.make_folder(level) {
            // Two commands may begin at the same moment.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && level.is_dir() => {}
            made => made.map_err(Error::io("could not make", dir))?,
        }
        let parent = level.parent().unwrap_or(Path::new("."));
        if let Err(error) = disk.sync_folder(parent) {
            take_back(disk, level);
            return Err(Error::io("could not write", parent)(error));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::place::{Place, Resume, Start};
    use serde_json::{Map, Value};

    fn place(dir: &Path, need_time_stamp: bool) -> Place {
        Place {
            output_dir: dir.join("output"),
            experiment_name: "demo".into(),
            need_time_stamp,
        }
    }

    fn open(place: &Place, start: &Start) -> Result<RunFolder, Error> {
        RunFolder::open(&Disk::default(), &place.target(start)?)
    }

    fn fill(folder: &RunFolder) -> Manifest {
        let manifest = Manifest::new(Map::new(), std::collections::BTreeMap::new());
        manifest.write(&Disk::default(), folder.dir()).unwrap();
        std::fs::write(folder.dir().join("journal.jsonl"), "{}\n").unwrap();
        manifest
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
        let mut fresh = open(&place, &start).unwrap();
        assert!(
            has_answers(&place.output_dir.join("demo")),
            "the old run keeps its place until there is something to do"
        );
        assert_eq!(fresh.take_place().unwrap(), place.output_dir.join("demo"));
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
    fn a_new_run_that_nothing_comes_of_leaves_the_old_one_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), false);
        fill(&open(&place, &Start::default()).unwrap());
        let start = Start {
            new: true,
            ..Start::default()
        };
        open(&place, &start).unwrap().discard_if_made();
        assert_eq!(std::fs::read_dir(&place.output_dir).unwrap().count(), 1);
        assert!(has_answers(&place.output_dir.join("demo")));
    }

    #[test]
    fn an_unfinished_run_with_the_same_settings_is_found_unless_somebody_works_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), true);
        let folder = open(&place, &Start::default()).unwrap();
        fill(&folder);
        assert!(
            place
                .unfinished(&Disk::default(), &Map::new())
                .unwrap()
                .is_none(),
            "it is at work"
        );
        let path = folder.dir().to_owned();
        drop(folder);
        assert_eq!(
            place
                .unfinished(&Disk::default(), &Map::new())
                .unwrap()
                .unwrap()
                .0,
            path
        );
        let other = Map::from_iter([("model".to_owned(), Value::from("x"))]);
        assert!(
            place
                .unfinished(&Disk::default(), &other)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_place_that_another_made_meanwhile_and_did_not_begin_in_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), false);
        fill(&open(&place, &Start::default()).unwrap());
        let start = Start {
            new: true,
            ..Start::default()
        };
        let experiment = place.output_dir.join("demo");
        let mut fresh = open(&place, &start).unwrap();
        let (old, _lock) = fresh.replaces.take().unwrap();
        move_aside(&Disk::default(), &old).unwrap();
        drop(open(&place, &Start::default()).unwrap());
        fresh.move_to(&experiment).unwrap();
        assert!(!fresh.dir().exists());

        let holding = Lock::take(&Disk::default(), &experiment);
        assert!(matches!(
            holding.unwrap_err().kind(),
            ErrorKind::Locked { .. }
        ));
        let mut late =
            RunFolder::first_free(&Disk::default(), &place.output_dir.join(".late")).unwrap();
        let error = late.move_to(&experiment).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Locked { .. }), "{error}");
        late.made = true;
        late.discard_if_made();
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

//! Putting several new files in their places at once.
//!
//! The new files are whole and durable under hidden names before `run.json` says that they count; from then on
//! they do, and whoever opens the folder next finishes what a kill left undone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::beside::Beside;
use crate::disk::Disk;
use crate::error::Error;
use crate::manifest::Manifest;

/// The files that can be replaced together.
const REPLACED: [&str; 2] = ["result.jsonl", "failures.jsonl"];

/// Where the new file of this name waits.
pub(crate) fn hidden(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.extracted"))
}

/// The new files, being written.
pub(crate) struct NewFiles {
    pub(crate) result: Beside,
    pub(crate) failures: Beside,
}

impl NewFiles {
    pub(crate) fn create(disk: &Disk, dir: &Path) -> Result<NewFiles, Error> {
        let [result, failures] = REPLACED;
        Ok(NewFiles {
            result: Beside::create(disk, hidden(dir, result))?,
            failures: Beside::create(disk, hidden(dir, failures))?,
        })
    }

    /// Makes them durable; their names and lengths are for [`Manifest::put_in_place`].
    pub(crate) fn sync(self, disk: &Disk, dir: &Path) -> Result<BTreeMap<String, u64>, Error> {
        let lengths = [self.result.sync()?, self.failures.sync()?];
        disk.sync_folder(dir)
            .map_err(Error::io("could not write", dir))?;
        Ok(REPLACED
            .map(str::to_owned)
            .into_iter()
            .zip(lengths)
            .collect())
    }
}

/// The file that counts under this name, for who only reads.
pub(crate) fn current(dir: &Path, manifest: &Manifest, name: &str) -> PathBuf {
    let waiting = hidden(dir, name);
    if manifest.put_in_place.contains_key(name) && waiting.is_file() {
        waiting
    } else {
        dir.join(name)
    }
}

/// Takes back new files that nothing came of.
pub(crate) fn discard(disk: &Disk, dir: &Path) {
    let decided = Manifest::read(dir)
        .is_ok_and(|manifest| manifest.is_some_and(|manifest| !manifest.put_in_place.is_empty()));
    if decided {
        return;
    }
    for path in REPLACED.map(|name| hidden(dir, name)) {
        if let Err(error) = disk.remove(&path) {
            tracing::debug!(%error, path = %path.display(), "left behind");
        }
    }
}

/// Finishes what was decided; the lock must be held. True where there was something to do.
///
/// A manifest that cannot be read is left to who reads it for its own sake.
pub(crate) fn complete(disk: &Disk, dir: &Path) -> Result<bool, Error> {
    let Ok(Some(mut manifest)) = Manifest::read(dir) else {
        return Ok(false);
    };
    if manifest.put_in_place.is_empty() {
        return Ok(false);
    }
    for (name, bytes) in &manifest.put_in_place {
        let waiting = hidden(dir, name);
        let place = dir.join(name);
        let length = |path: &Path| std::fs::metadata(path).ok().map(|facts| facts.len());
        if REPLACED.contains(&name.as_str()) && length(&waiting) == Some(*bytes) {
            disk.rename(&waiting, &place)
                .map_err(Error::io("could not write", &place))?;
        } else if length(&place) != Some(*bytes) || waiting.exists() {
            return Err(Error::usage(format!(
                "{} says that a new {name} of {bytes} bytes is to be put in its place, and there is none; put it \
                 back as {}, or take `put_in_place` out of run.json and extract again",
                dir.join("run.json").display(),
                waiting.display()
            )));
        }
    }
    disk.sync_folder(dir)
        .map_err(Error::io("could not write", dir))?;
    manifest.put_in_place.clear();
    manifest.write(disk, dir)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Map;

    fn folder() -> (tempfile::TempDir, Manifest) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("result.jsonl"), "old\n").unwrap();
        std::fs::write(dir.path().join("failures.jsonl"), "old failure\n").unwrap();
        let manifest = Manifest::new(Map::new(), BTreeMap::new());
        manifest.write(&Disk::default(), dir.path()).unwrap();
        (dir, manifest)
    }

    fn lines(dir: &Path) -> [String; 2] {
        REPLACED.map(|name| std::fs::read_to_string(dir.join(name)).unwrap())
    }

    fn staged(dir: &Path) -> BTreeMap<String, u64> {
        let mut new = NewFiles::create(&Disk::default(), dir).unwrap();
        new.result.write(b"new one\n").unwrap();
        new.sync(&Disk::default(), dir).unwrap()
    }

    #[test]
    fn new_files_count_from_the_moment_that_the_manifest_says_so() {
        let (dir, mut manifest) = folder();
        let dir = dir.path();
        manifest.put_in_place = staged(dir);
        assert!(!complete(&Disk::default(), dir).unwrap());
        assert_eq!(lines(dir), ["old\n", "old failure\n"]);
        manifest.write(&Disk::default(), dir).unwrap();
        assert_eq!(
            current(dir, &manifest, "result.jsonl"),
            hidden(dir, "result.jsonl")
        );
        assert!(complete(&Disk::default(), dir).unwrap());
        assert_eq!(lines(dir), ["new one\n", ""]);
        assert!(!complete(&Disk::default(), dir).unwrap(), "once is enough");
        assert_eq!(
            current(dir, &manifest, "result.jsonl"),
            dir.join("result.jsonl")
        );
    }

    #[test]
    fn what_was_written_and_never_decided_is_overwritten_or_taken_back() {
        let (dir, mut manifest) = folder();
        let dir = dir.path();
        std::os::unix::fs::symlink(dir.join("result.jsonl"), hidden(dir, "result.jsonl")).unwrap();
        std::fs::write(hidden(dir, "failures.jsonl"), "half a li").unwrap();
        let lengths = staged(dir);
        assert_eq!(
            lines(dir),
            ["old\n", "old failure\n"],
            "nothing is written through a link"
        );
        discard(&Disk::default(), dir);
        assert!(!hidden(dir, "result.jsonl").exists());
        staged(dir);
        manifest.put_in_place = lengths;
        manifest.write(&Disk::default(), dir).unwrap();
        discard(&Disk::default(), dir);
        assert!(
            hidden(dir, "result.jsonl").exists(),
            "what is decided stays"
        );
    }

    #[test]
    fn a_file_that_is_not_the_one_that_was_decided_on_is_refused() {
        for broken in ["gone", "shorter", "of another name"] {
            let (dir, mut manifest) = folder();
            let dir = dir.path();
            manifest.put_in_place = staged(dir);
            match broken {
                "gone" => std::fs::remove_file(hidden(dir, "result.jsonl")).unwrap(),
                "shorter" => std::fs::write(hidden(dir, "result.jsonl"), "new\n").unwrap(),
                _ => drop(manifest.put_in_place.insert("../x".to_owned(), 1)),
            }
            manifest.write(&Disk::default(), dir).unwrap();
            assert!(complete(&Disk::default(), dir).is_err(), "{broken}");
        }
    }
}

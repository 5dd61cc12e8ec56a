//! Putting several new files in their places at once.
//!
//! The new files are whole and durable under hidden names before `run.json` says that they count; from then on
//! they do, and whoever opens the folder next finishes what a kill left undone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::append::sync_folder;
use crate::beside::{self, Beside};
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
    pub(crate) fn create(dir: &Path) -> Result<NewFiles, Error> {
        let [result, failures] = REPLACED;
        Ok(NewFiles {
            result: Beside::create(hidden(dir, result))?,
            failures: Beside::create(hidden(dir, failures))?,
        })
    }

    /// Makes them durable; their names and lengths are for [`Manifest::put_in_place`].
    pub(crate) fn sync(self, dir: &Path) -> Result<BTreeMap<String, u64>, Error> {
        let lengths = [self.result.sync()?, self.failures.sync()?];
        sync_folder(dir).map_err(Error::io("could not write", dir))?;
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
pub(crate) fn discard(dir: &Path) {
    let decided = Manifest::read(dir)
        .is_ok_and(|manifest| manifest.is_some_and(|manifest| !manifest.put_in_place.is_empty()));
    if decided {
        return;
    }
    for path in REPLACED.map(|name| hidden(dir, name)) {
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::debug!(%error, path = %path.display(), "left behind");
        }
    }
}

/// Finishes what was decided; the lock must be held. True where there was something to do.
///
/// A manifest that cannot be read is left to who reads it for its own sake.
pub(crate) fn complete(dir: &Path) -> Result<bool, Error> {
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
            beside::rename(&waiting, &place)?;
        } else if length(&place) != Some(*bytes) || waiting.exists() {
            return Err(Error::usage(format!(
                "{} says that a new {name} of {bytes} bytes is to be put in its place, and there is none; put it \
                 back as {}, or take `put_in_place` out of run.json and extract again",
                dir.join("run.json").display(),
                waiting.display()
            )));
        }
    }
    sync_folder(dir).map_err(Error::io("could not write", dir))?;
    manifest.put_in_place.clear();
    manifest.write(dir)?;
    Ok(true)
}

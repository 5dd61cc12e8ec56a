//! A folder that somebody names as a run.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind};
use crate::manifest::Manifest;
use crate::place::is_run;

/// So many runs are named to who named a folder above them.
const TOLD: usize = 3;
/// So many folders are looked at for them.
const LOOKED_AT: usize = 10_000;

impl Manifest {
    /// The manifest of a folder that must be a run's.
    ///
    /// # Errors
    ///
    /// When it is none ([`ErrorKind::NoRun`], [`ErrorKind::Usage`] for a file), and as [`read`](Manifest::read).
    pub fn of_run(dir: &Path) -> Result<Manifest, Error> {
        if std::fs::metadata(dir).is_ok_and(|facts| !facts.is_dir()) {
            return Err(Error::usage(format!(
                "{} is a file; give the folder that holds it and run.json",
                dir.display()
            )));
        }
        match Manifest::read(dir)? {
            Some(manifest) => Ok(manifest),
            None => Err(ErrorKind::NoRun {
                dir: dir.to_owned(),
                exists: dir.is_dir(),
                runs: newest_runs(dir),
            }
            .into()),
        }
    }
}

/// Runs in the folder and in the folders of it, for a hint.
fn newest_runs(dir: &Path) -> Vec<PathBuf> {
    let below = |dir: &Path| -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(dir) else {
            return Vec::new();
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.filter(|path| path.is_dir()).take(LOOKED_AT).collect()
    };
    let children = below(dir);
    let grandchildren = children.iter().flat_map(|child| below(child));
    let mut runs: Vec<(String, PathBuf)> = children
        .iter()
        .cloned()
        .chain(grandchildren)
        .filter(|path| is_run(path))
        .take(LOOKED_AT)
        .filter_map(|path| Some((Manifest::read(&path).ok()??.started, path)))
        .collect();
    runs.sort_unstable_by(|a, b| b.cmp(a));
    runs.truncate(TOLD);
    runs.into_iter().map(|(_, path)| path).collect()
}

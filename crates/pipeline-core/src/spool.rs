//! Standard input, copied into the run folder, so that it can be checked first and read again.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::append;
use crate::beside::Beside;
use crate::disk::Disk;
use crate::error::Error;
use crate::folder::free_name;
use crate::source::Source;

/// The copy, under a name of its own until the command is accepted: the one that is there may be all that is left of
/// the rows of a run. What is not accepted is removed.
pub(crate) struct Spool {
    disk: Disk,
    path: PathBuf,
    accepted: bool,
}

impl Spool {
    /// Begins a copy, to be filled.
    pub(crate) fn begin(disk: &Disk, dir: &Path) -> Result<(Spool, Beside), Error> {
        let path = beside(dir);
        let file = Beside::create(disk, path.clone())?;
        let spool = Spool {
            disk: disk.clone(),
            path,
            accepted: false,
        };
        Ok((spool, file))
    }

    /// Where it lies for now.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it in its place, in the folder of the run as it is called by now. The rows that were there are kept under
    /// another name, unless the new ones begin with them; returns what to say then. Blocks. Durable once the folder
    /// is synced.
    pub(crate) fn accept(mut self, dir: &Path) -> Result<Option<String>, Error> {
        self.path = beside(dir);
        let place = Source::copy_of_stdin(dir);
        let kept = match begins_with(&self.path, &place)? {
            true => None,
            false => {
                let kept = free_name(dir, "input");
                append::copy(&self.disk, &place, &kept)?;
                // The other name must be there before what it names is replaced.
                self.disk
                    .sync_folder(dir)
                    .map_err(Error::io("could not write", dir))?;
                Some(kept)
            }
        };
        self.disk
            .rename(&self.path, &place)
            .map_err(Error::io("could not write", &place))?;
        self.accepted = true;
        Ok(kept.map(|kept| {
            format!(
                "standard input does not begin with the rows that came from there before; those are in {} now",
                kept.display()
            )
        }))
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if !self.accepted
            && let Err(error) = self.disk.remove(&self.path)
        {
            tracing::debug!(%error, file = %self.path.display(), "left behind");
        }
    }
}

fn beside(dir: &Path) -> PathBuf {
    dir.join(".input.jsonl.new")
}

/// Copies all that comes, and makes it durable. Blocks for as long as it comes.
pub(crate) fn fill(mut file: Beside, mut from: impl Read) -> Result<(), Error> {
    let mut chunk = vec![0; 256 * 1024];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return file.sync().map(drop),
            Ok(read) => file.write(&chunk[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(Error::io("could not read", Path::new("standard input"))(
                    error,
                ));
            }
        }
    }
}

/// Whether a file begins with all that another one holds; one that is not there holds nothing.
fn begins_with(path: &Path, other: &Path) -> Result<bool, Error> {
    let open = |path: &Path| -> io::Result<(u64, BufReader<File>)> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok((length, BufReader::with_capacity(256 * 1024, file)))
    };
    let (length, mut file) = open(path).map_err(Error::io("could not read", path))?;
    let (other_length, mut other_file) = match open(other) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(Error::io("could not read", other)(error)),
    };
    if length < other_length {
        return Ok(false);
    }
    loop {
        let expected = other_file
            .fill_buf()
            .map_err(Error::io("could not read", other))?;
        if expected.is_empty() {
            return Ok(true);
        }
        let found = file.fill_buf().map_err(Error::io("could not read", path))?;
        let both = expected.len().min(found.len());
        if both == 0 || expected[..both] != found[..both] {
            return Ok(false);
        }
        other_file.consume(both);
        file.consume(both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn spooled(dir: &Path, text: &str) -> Spool {
        let (spool, file) = Spool::begin(&Disk::default(), dir).unwrap();
        fill(file, text.as_bytes()).unwrap();
        spool
    }

    #[test]
    fn rows_that_the_new_ones_do_not_begin_with_are_kept_under_another_name() {
        // More than one look at the files takes.
        let long = "{\"n\": 1}\n".repeat(100_000);
        let other_end = format!("{}2}}\n", &long[..long.len() - 3]);
        let cases = [
            ("{}\n", "{}\n", false),
            ("{}\n", "{}\n{}\n", false),
            ("", "{}\n", false),
            ("{}\n{}\n", "{}\n", true),
            ("{}\n", "", true),
            (long.as_str(), long.as_str(), false),
            (long.as_str(), other_end.as_str(), true),
        ];
        for (old, new, is_kept) in cases {
            let dir = tempfile::tempdir().unwrap();
            spooled(dir.path(), old).accept(dir.path()).unwrap();
            let said = spooled(dir.path(), new).accept(dir.path()).unwrap();
            let names = names(dir.path());
            assert_eq!(
                (said.is_some(), names.len()),
                (is_kept, 1 + usize::from(is_kept)),
                "{names:?}"
            );
            let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
            assert!(read(".input.jsonl") == new);
            if is_kept {
                assert!(names[0].starts_with(".input-2") && said.unwrap().contains(&names[0]));
                assert!(read(&names[0]) == old);
            }
        }
    }

    #[test]
    fn what_is_not_accepted_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        spooled(dir.path(), "{}\n").accept(dir.path()).unwrap();
        let spool = spooled(dir.path(), "{\"n\": 1}\n");
        assert_eq!(names(dir.path()), [".input.jsonl", ".input.jsonl.new"]);
        drop(spool);
        assert_eq!(names(dir.path()), [".input.jsonl"]);
        let copy = Source::copy_of_stdin(dir.path());
        assert_eq!(std::fs::read_to_string(copy).unwrap(), "{}\n");
    }
}

//! The three files of lines of a run, opened together, and what it takes to commit to them.

use std::io;
use std::path::{Path, PathBuf};

use crate::append::{AppendFile, Repair};
use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use crate::event::Batch;

/// The files of a run, opened and with whole ends.
pub(crate) struct Files {
    pub(crate) journal: AppendFile,
    pub(crate) lines: LineFiles,
    pub(crate) repairs: Vec<String>,
}

/// The two files whose lines rest on the journal.
pub(crate) struct LineFiles {
    result: AppendFile,
    failures: AppendFile,
}

/// A write or sync that the system refused.
#[derive(Debug)]
pub(crate) struct WriteError {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

impl WriteError {
    pub(crate) fn of(path: &Path) -> impl FnOnce(io::Error) -> WriteError {
        let path = path.to_owned();
        move |source| WriteError { path, source }
    }
}

impl Files {
    /// Opens or makes them. That they are in the folder is durable once the manifest was written.
    pub(crate) fn open(disk: &Disk, dir: &Path) -> Result<Files, Error> {
        let mut repairs = Vec::new();
        let mut open = |name: &str| -> Result<AppendFile, Error> {
            let (file, repair) = AppendFile::open(disk, dir.join(name))?;
            match repair {
                Repair::None => {}
                Repair::NewlineAdded => repairs.push(format!(
                    "{name}: the last line was whole and got its newline"
                )),
                Repair::Cut(bytes) => repairs.push(format!(
                    "{name}: {bytes} bytes of a torn last line were cut off"
                )),
            }
            Ok(file)
        };
        let journal = open("journal.jsonl")?;
        let lines = LineFiles {
            result: open("result.jsonl")?,
            failures: open("failures.jsonl")?,
        };
        Ok(Files {
            journal,
            lines,
            repairs,
        })
    }
}

impl LineFiles {
    /// Syncs the journal, tells of it, then writes the lines: none may rest on an answer that a power loss could
    /// still take.
    pub(crate) fn commit(
        &mut self,
        journal: &DiskFile,
        synced: impl FnOnce(),
        batch: &Batch,
    ) -> Result<(), WriteError> {
        journal.sync().map_err(WriteError::of(journal.path()))?;
        synced();
        for (file, lines) in [
            (&mut self.result, &batch.results),
            (&mut self.failures, &batch.failures),
        ] {
            if lines.is_empty() {
                continue;
            }
            let whole = file.length();
            file.append(lines).map_err(WriteError::of(file.path()))?;
            if let Err(error) = file.sync() {
                // Nobody knows whether they are on the disk; the next command makes them again from the journal.
                file.cut_back(whole);
                return Err(WriteError::of(file.path())(error));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty::{Fault, How, Kind, Recorder};

    #[test]
    fn lines_whose_sync_is_refused_are_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        // The first is that of the dataset when it is opened, the second that of the journal.
        let fault = Fault {
            kind: Some(Kind::Sync),
            nth: 3,
            how: How::Eio,
        };
        let recorder = Recorder::over(dir.path(), Some(fault));
        let Files {
            journal, mut lines, ..
        } = Files::open(&recorder.disk(), dir.path()).unwrap();
        let batch = Batch {
            results: b"{\"id\":1}\n".to_vec(),
            ..Batch::default()
        };
        let mut told = false;
        let error = lines
            .commit(&journal.handle(), || told = true, &batch)
            .unwrap_err();
        assert!(told, "the journal was synced all the same");
        assert_eq!(error.path, path);
        assert_eq!(std::fs::read(&path).unwrap(), b"{}\n");
        let error = lines.commit(&journal.handle(), || (), &batch).unwrap_err();
        assert_eq!(error.source.to_string(), "an earlier write was refused");
    }
}

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

//! The three files of lines of a run, opened together, and what it takes to commit to them.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::append::{AppendFile, Repair};
use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use crate::event::Batch;
use crate::line::push_line;
use crate::torn;

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
    /// Opens or makes them, and repairs their ends, but for a journal that has more at its end than one torn line. That
    /// they are in the folder is durable once the manifest was written.
    pub(crate) fn open(disk: &Disk, dir: &Path) -> Result<Files, Error> {
        torn::refuse(&dir.join("journal.jsonl"))?;
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
        write(&mut self.result, &batch.records)?;
        write(&mut self.failures, &batch.failures)
    }
}

/// So many bytes of lines are written in one go.
const PIECE: usize = 64 * 1024;

fn write<T: Serialize>(file: &mut AppendFile, rows: &[T]) -> Result<(), WriteError> {
    if rows.is_empty() {
        return Ok(());
    }
    let before = file.length();
    let written = append(file, rows).and_then(|()| file.sync());
    written.map_err(|error| {
        // Nobody knows what of it is on the disk; the next command makes these lines again from the journal.
        file.cut_back(before);
        WriteError::of(file.path())(error)
    })
}

fn append<T: Serialize>(file: &mut AppendFile, rows: &[T]) -> io::Result<()> {
    let mut lines = Vec::with_capacity(PIECE);
    for row in rows {
        push_line(&mut lines, row).expect("what stands for a row is JSON");
        if lines.len() >= PIECE {
            file.append(&lines)?;
            lines.clear();
        }
    }
    file.append(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty::{Fault, How, Kind, Recorder};
    use crate::record::Record;

    fn record(n: u32) -> Record {
        let line = format!(
            r#"{{"id":"{n:032x}","index":{n},"input":{{}},"response":"{}","model":"m","finish_reason":null,
            "usage":{{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}},"attempts":1,"latency_ms":1,
            "timestamp":""}}"#,
            "a".repeat(1000)
        );
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn a_commit_of_many_pieces_is_taken_back_as_a_whole() {
        let lines_of = |batch: &Batch| {
            let mut lines = Vec::new();
            for record in batch.records() {
                push_line(&mut lines, record).unwrap();
            }
            lines
        };
        let batch = Batch {
            records: (0..500).map(record).collect(),
            ..Batch::default()
        };
        assert!(lines_of(&batch).len() > 4 * PIECE);
        for nth in [1, 3, 99] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("result.jsonl");
            std::fs::write(&path, "{}\n").unwrap();
            let fault = Fault {
                kind: Some(Kind::Write),
                nth,
                how: How::Eio,
            };
            let recorder = Recorder::over(dir.path(), Some(fault));
            let mut files = Files::open(&recorder.disk(), dir.path()).unwrap();
            let done = files.lines.commit(&files.journal.handle(), || (), &batch);
            let mut expected = b"{}\n".to_vec();
            if nth == 99 {
                expected.extend(lines_of(&batch));
            }
            assert_eq!(done.is_ok(), nth == 99);
            assert_eq!(std::fs::read(&path).unwrap(), expected);
        }
    }

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
            records: (0..500).map(record).collect(),
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

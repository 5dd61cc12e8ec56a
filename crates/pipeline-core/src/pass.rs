//! One reading of rows that can be read again.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Stdin};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::lines::{LineText, Lines, LinesError, Mark};
use crate::read_ahead::{self, Batch};
use crate::row::Content;
use crate::source::{Lasting, Where, Written};

/// One row, or why it is none.
pub(crate) struct Given<'a> {
    pub(crate) line: u64,
    pub(crate) content: Content,
    pub(crate) text: Result<&'a str, Fault>,
}

/// Why a row cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) class: &'static str,
    pub(crate) message: String,
}

/// A row that was read ahead, without its text, and the mark behind it.
struct Held {
    line: u64,
    content: Content,
    fault: Option<Fault>,
    mark: Option<Mark>,
}

/// Reads an input that can be read again.
pub(crate) enum Pass {
    File {
        path: PathBuf,
        lines: Lines<BufReader<File>>,
    },
    Stdin(Lines<BufReader<Stdin>>),
    Rows {
        rows: Arc<[Written]>,
        next: usize,
    },
}

impl Pass {
    pub(crate) fn open(
        source: &Lasting,
        max_row_bytes: usize,
    ) -> Result<(Pass, Option<FileState>), Error> {
        match &source.from {
            Where::File(path) => {
                let file = open_input(path)?;
                let state = FileState::of(&file).map_err(Error::io("could not read", path))?;
                let reader = BufReader::with_capacity(256 * 1024, file);
                let pass = Pass::File {
                    path: path.clone(),
                    lines: Lines::new(reader, max_row_bytes),
                };
                Ok((pass, Some(state)))
            }
            Where::Stdin => {
                let lines = Lines::new(BufReader::new(io::stdin()), max_row_bytes);
                Ok((Pass::Stdin(lines), None))
            }
            Where::Rows(rows) => Ok((
                Pass::Rows {
                    rows: Arc::clone(rows),
                    next: 0,
                },
                None,
            )),
        }
    }

    /// Behind the row that was read last, where it is possible to go there again.
    pub(crate) fn mark(&self) -> Option<Mark> {
        match self {
            Pass::File { lines, .. } => Some(lines.mark()),
            Pass::Stdin(_) | Pass::Rows { .. } => None,
        }
    }

    /// Goes on from a mark of an earlier pass over the same file.
    pub(crate) fn go_to(&mut self, mark: Mark) -> Result<(), Error> {
        match self {
            Pass::File { path, lines } => {
                lines.go_to(mark).map_err(Error::io("could not read", path))
            }
            Pass::Stdin(_) | Pass::Rows { .. } => unreachable!("they have no marks"),
        }
    }

    /// Shows all rows that are left, each with the mark behind it; while one is looked at, later ones are read.
    pub(crate) fn for_each(
        &mut self,
        mut each: impl FnMut(Given<'_>, Option<Mark>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // A thread that waits for somebody who types could not be ended.
        let may_wait = matches!(self, Pass::Stdin(_));
        let mut scratch = Vec::new();
        let next = |batch: &mut Batch<Held>| {
            let Some(given) = self.next(&mut scratch)? else {
                return Ok(false);
            };
            let (text, fault) = match given.text {
                Ok(text) => (text, None),
                Err(fault) => ("", Some(fault)),
            };
            let held = Held {
                line: given.line,
                content: given.content,
                fault,
                mark: None,
            };
            batch.push(held, text);
            if let Some(held) = batch.last() {
                held.mark = self.mark();
            }
            Ok(true)
        };
        let each = |held: Held, text: &str| {
            let given = Given {
                line: held.line,
                content: held.content,
                text: held.fault.map_or(Ok(text), Err),
            };
            each(given, held.mark)
        };
        if may_wait {
            read_ahead::in_turns(1, next, each)
        } else {
            read_ahead::for_each(next, each)
        }
    }

    pub(crate) fn next(&mut self, scratch: &mut Vec<u8>) -> Result<Option<Given<'_>>, Error> {
        match self {
            Pass::File { path, lines } => next_of(path, lines, scratch),
            Pass::Stdin(lines) => next_of(Path::new("standard input"), lines, scratch),
            Pass::Rows { rows, next } => {
                let Some(row) = rows.get(*next) else {
                    return Ok(None);
                };
                *next += 1;
                Ok(Some(judge_written(*next as u64, row, scratch)))
            }
        }
    }
}

fn next_of<'a, R: BufRead>(
    path: &Path,
    lines: &'a mut Lines<R>,
    scratch: &mut Vec<u8>,
) -> Result<Option<Given<'a>>, Error> {
    let line = lines.next().map_err(|error| match error {
        LinesError::Utf16 => Error::usage(format!(
            "{} is UTF-16; rows are UTF-8 (`iconv -f UTF-16 -t UTF-8` makes it so)",
            path.display()
        )),
        LinesError::Io(error) => Error::io("could not read", path)(error),
    })?;
    Ok(line.map(|line| match line.text {
        LineText::Whole(text) => judge(line.number, text, scratch),
        LineText::TooLong { bytes, content } => Given {
            line: line.number,
            content,
            text: Err(too_large(bytes)),
        },
        LineText::NotUtf8 { column, content } => Given {
            line: line.number,
            content,
            text: Err(invalid(format!("is no UTF-8 text (column {column})"))),
        },
    }))
}

fn open_input(path: &Path) -> Result<File, Error> {
    match File::open(path) {
        Ok(file) if file.metadata().is_ok_and(|facts| facts.is_dir()) => {
            Err(Error::usage(format!(
                "{} is a folder; the rows are one file of JSON Lines",
                path.display()
            )))
        }
        // What is read twice must be the same both times.
        Ok(file) if file.metadata().is_ok_and(|facts| !facts.is_file()) => {
            Err(Error::usage(format!(
                "{} is a pipe or a device, and the rows are read twice; give them on standard input (`-`)",
                path.display()
            )))
        }
        Ok(file) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::usage(format!(
            "there is no file {}; rows are one JSON object a line",
            path.display()
        ))),
        Err(error) => Err(Error::io("could not read", path)(error)),
    }
}

fn judge<'a>(line: u64, text: &'a str, scratch: &mut Vec<u8>) -> Given<'a> {
    match Content::of(text, scratch) {
        Ok(content) => Given {
            line,
            content,
            text: Ok(text),
        },
        Err(error) => Given {
            line,
            content: Content::of_bytes(text.as_bytes()),
            text: Err(invalid(error.to_string())),
        },
    }
}

pub(crate) fn judge_written<'a>(number: u64, row: &'a Written, scratch: &mut Vec<u8>) -> Given<'a> {
    match row {
        Ok(text) => judge(number, text, scratch),
        // What cannot be written cannot be told from others either, but by its place.
        Err(what) => Given {
            line: number,
            content: Content::of_bytes(format!("{number} {what}").as_bytes()),
            text: Err(invalid(what.clone())),
        },
    }
}

pub(crate) fn invalid(message: String) -> Fault {
    Fault {
        class: "invalid_row",
        message,
    }
}

pub(crate) fn too_large(bytes: u64) -> Fault {
    Fault {
        class: "row_too_large",
        message: format!("has {bytes} bytes, more than input_data.max_row_bytes allows"),
    }
}

/// What tells that a file is the same and was left alone.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct FileState {
    inode: (u64, u64),
    length: u64,
    modified: (i64, i64),
}

impl FileState {
    fn of(file: &File) -> io::Result<FileState> {
        let facts = file.metadata()?;
        Ok(FileState {
            inode: (facts.dev(), facts.ino()),
            length: facts.len(),
            modified: (facts.mtime(), facts.mtime_nsec()),
        })
    }
}

impl Lasting {
    pub(crate) fn first(&self, count: usize, max_row_bytes: usize) -> Result<Vec<String>, Error> {
        let (mut pass, _) = Pass::open(self, max_row_bytes)?;
        let mut scratch = Vec::new();
        let mut rows = Vec::new();
        while rows.len() < count
            && let Some(given) = pass.next(&mut scratch)?
        {
            match given.text {
                Ok(text) => rows.push(text.to_owned()),
                Err(fault) => {
                    return Err(Error::usage(format!(
                        "{}:{}: {}",
                        self.name, given.line, fault.message
                    )));
                }
            }
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_rows_are_refused_by_name() {
        for (path, what) in [
            ("/nope.jsonl", "there is no file"),
            ("/", "is a folder"),
            ("/dev/null", "is a pipe or a device"),
        ] {
            let source = Lasting {
                name: path.into(),
                from: Where::File(path.into()),
            };
            let error = Pass::open(&source, 1).err().unwrap();
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}

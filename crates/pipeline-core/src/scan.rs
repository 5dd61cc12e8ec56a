//! One line of a file after the other, whatever is in it.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind};

/// Reads the lines of a file of the run folder; a damaged one ends nothing.
pub(crate) struct Scan {
    path: PathBuf,
    reader: BufReader<File>,
    line: Vec<u8>,
    number: u64,
}

/// One line, with its newline taken off.
pub(crate) struct ScannedLine<'a> {
    /// From 1.
    pub(crate) number: u64,
    pub(crate) bytes: &'a [u8],
    /// Whether it ended with a newline; only the last can be without.
    pub(crate) ended: bool,
}

impl Scan {
    /// `None` where there is no such file.
    pub(crate) fn open(path: &Path) -> Result<Option<Scan>, Error> {
        match File::open(path) {
            Ok(file) => Ok(Some(Scan {
                path: path.to_owned(),
                reader: BufReader::with_capacity(256 * 1024, file),
                line: Vec::new(),
                number: 0,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("could not read", path)(error)),
        }
    }

    /// The next line; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<ScannedLine<'_>>, Error> {
        self.line.clear();
        let length = self
            .reader
            .read_until(b'\n', &mut self.line)
            .map_err(Error::io("could not read", &self.path))?;
        if length == 0 {
            return Ok(None);
        }
        self.number += 1;
        let ended = self.line.last() == Some(&b'\n');
        Ok(Some(ScannedLine {
            number: self.number,
            bytes: &self.line[..length - usize::from(ended)],
            ended,
        }))
    }
}

impl<'a> ScannedLine<'a> {
    /// The line as text, or why it is none.
    pub(crate) fn text(&self) -> Result<&'a str, String> {
        text(self.bytes)
    }
}

/// A line as text, or why it is none.
pub(crate) fn text(line: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(line)
        .map(str::trim_ascii_end)
        .map_err(|error| {
            format!(
                "is no UTF-8 text from byte {} on; a run with `--repair` moves the line aside",
                error.valid_up_to() + 1
            )
        })
}

/// A line of a file of the run folder that is no such line.
pub(crate) fn damaged(path: &Path, line: u64, what: String) -> Error {
    ErrorKind::Damaged {
        path: path.to_owned(),
        line,
        what,
    }
    .into()
}

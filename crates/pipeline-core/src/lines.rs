//! The lines of an input file: BOM, CRLF and blank lines are read over, what is no UTF-8 is named.

use std::io::{self, BufRead, Seek, SeekFrom};

use crate::row::Content;

/// One line that holds something.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// 1-based number of the line in its file.
    pub(crate) number: u64,
    pub(crate) text: LineText<'a>,
}

#[derive(Debug)]
pub(crate) enum LineText<'a> {
    Whole(&'a str),
    /// Longer than is allowed; it was read over without being held.
    TooLong {
        bytes: u64,
        content: Content,
    },
    /// No UTF-8 from this 1-based column (in bytes) on.
    NotUtf8 {
        column: usize,
        content: Content,
    },
}

/// What ends the reading of a file.
#[derive(Debug)]
pub(crate) enum LinesError {
    Utf16,
    Io(io::Error),
}

impl From<io::Error> for LinesError {
    fn from(error: io::Error) -> Self {
        LinesError::Io(error)
    }
}

/// Reads line after line into one buffer.
pub(crate) struct Lines<R> {
    reader: R,
    max_bytes: usize,
    /// Of the line that was read last.
    number: u64,
    /// Bytes up to the next line.
    offset: u64,
    buffer: Vec<u8>,
}

/// A place between two lines of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Bytes before it.
    offset: u64,
    /// Lines before it.
    lines: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R, max_bytes: usize) -> Self {
        Lines {
            reader,
            max_bytes,
            number: 0,
            offset: 0,
            buffer: Vec::new(),
        }
    }

    /// Behind the line that was read last.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            offset: self.offset,
            lines: self.number,
        }
    }

    /// The next line with something on it; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Line<'_>>, LinesError> {
        loop {
            self.buffer.clear();
            let Some(rest) = self.read_line()? else {
                return Ok(None);
            };
            self.number += 1;
            if self.number == 1 {
                // Without its mark, every other byte of what JSON begins with gives it away.
                let marked = [b"\xff\xfe", b"\xfe\xff"]
                    .iter()
                    .any(|mark| self.buffer.starts_with(*mark));
                if marked || matches!(self.buffer[..], [0, _, ..] | [_, 0, ..]) {
                    return Err(LinesError::Utf16);
                }
                if self.buffer.starts_with(b"\xef\xbb\xbf") {
                    self.buffer.drain(..3);
                }
            }
            let number = self.number;
            if let Some(TooLong { bytes, content }) = rest {
                return Ok(Some(Line {
                    number,
                    text: LineText::TooLong { bytes, content },
                }));
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        let text = match std::str::from_utf8(&self.buffer) {
            Ok(text) => LineText::Whole(text.trim_ascii_end()),
            Err(error) => LineText::NotUtf8 {
                column: error.valid_up_to() + 1,
                content: Content::of_bytes(&self.buffer),
            },
        };
        Ok(Some(Line {
            number: self.number,
            text,
        }))
    }

    /// Reads up to and with the next `\n`; beyond the limit bytes are hashed and let go.
    fn read_line(&mut self) -> io::Result<Option<Option<TooLong>>> {
        let mut beyond: Option<(u64, blake3::Hasher)> = None;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                if self.buffer.is_empty() && beyond.is_none() {
                    return Ok(None);
                }
                break;
            }
            let end = memchr::memchr(b'\n', available);
            let piece = &available[..end.unwrap_or(available.len())];
            match &mut beyond {
                Some((bytes, hasher)) => {
                    *bytes += piece.len() as u64;
                    hasher.update(piece);
                }
                None if self.buffer.len() + piece.len() > self.max_bytes => {
                    let mut hasher = Content::hasher();
                    hasher.update(&self.buffer).update(piece);
                    beyond = Some(((self.buffer.len() + piece.len()) as u64, hasher));
                    self.buffer = Vec::new();
                }
                None => self.buffer.extend_from_slice(piece),
            }
            let used = piece.len() + usize::from(end.is_some());
            self.reader.consume(used);
            self.offset += used as u64;
            if end.is_some() {
                break;
            }
        }
        Ok(Some(beyond.map(|(bytes, hasher)| TooLong {
            bytes,
            content: Content::from_hasher(&hasher),
        })))
    }
}

impl<R: BufRead + Seek> Lines<R> {
    /// Goes on from a mark of the same file.
    pub(crate) fn go_to(&mut self, mark: Mark) -> io::Result<()> {
        self.reader.seek(SeekFrom::Start(mark.offset))?;
        (self.offset, self.number) = (mark.offset, mark.lines);
        Ok(())
    }
}

struct TooLong {
    bytes: u64,
    content: Content,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], max: usize) -> Vec<String> {
        // A reader with a tiny buffer meets every seam.
        let mut lines = Lines::new(io::BufReader::with_capacity(3, bytes), max);
        let mut seen = Vec::new();
        loop {
            match lines.next() {
                Ok(None) => return seen,
                Ok(Some(Line {
                    number,
                    text: LineText::Whole(text),
                })) => seen.push(format!("{number}:{text}")),
                Ok(Some(Line {
                    number,
                    text: LineText::TooLong { bytes, .. },
                })) => seen.push(format!("{number}: too long, {bytes}")),
                Ok(Some(Line {
                    number,
                    text: LineText::NotUtf8 { column, .. },
                })) => seen.push(format!("{number}: no text at {column}")),
                Err(LinesError::Utf16) => {
                    seen.push("utf-16".into());
                    return seen;
                }
                Err(LinesError::Io(error)) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn byte_order_mark_crlf_blank_lines_and_a_missing_last_newline_are_read() {
        assert_eq!(
            read(b"\xef\xbb\xbf{\"a\":1}\r\n\r\n  \n{\"b\":2}", 100),
            ["1:{\"a\":1}", "4:{\"b\":2}"]
        );
        assert_eq!(read(b"", 100), [""; 0]);
        assert_eq!(read(b"\n\n", 100), [""; 0]);
    }

    #[test]
    fn reading_goes_on_from_a_mark() {
        let text = b"\xef\xbb\xbf{\"a\":1}\r\n\n{\"b\":2}\n{\"c\":3}";
        let mut lines = Lines::new(io::BufReader::with_capacity(3, io::Cursor::new(text)), 100);
        let (mut marks, mut seen) = (vec![lines.mark()], Vec::new());
        while let Some(line) = lines.next().unwrap() {
            seen.push(format!("{line:?}"));
            marks.push(lines.mark());
        }
        assert_eq!(seen.len(), 3);
        for at in (0..seen.len()).rev() {
            lines.go_to(marks[at]).unwrap();
            assert_eq!(format!("{:?}", lines.next().unwrap().unwrap()), seen[at]);
            assert_eq!(lines.mark(), marks[at + 1]);
        }
    }

    #[test]
    fn utf_16_is_named_and_bad_bytes_get_their_column() {
        for text in [&b"\xff\xfe{\0"[..], b"\xfe\xff\0{", b"{\0}\0", b"\0{\0}"] {
            assert_eq!(read(text, 100), ["utf-16"]);
        }
        assert_eq!(
            read(b"{}\n{\"a\xff\"}\n{}", 100),
            ["1:{}", "2: no text at 4", "3:{}"]
        );
    }

    #[test]
    fn a_line_beyond_the_limit_is_counted_and_not_held() {
        let mut lines = Lines::new(&b"0123456789\n{}"[..], 4);
        let Some(Line {
            text: LineText::TooLong { bytes: 10, content },
            ..
        }) = lines.next().unwrap()
        else {
            panic!()
        };
        assert_eq!(content, Content::of_bytes(b"0123456789"));
        assert_eq!(lines.buffer.capacity(), 0);
        assert_eq!(
            read(b"0123456789\n{}\n01234", 4),
            ["1: too long, 10", "2:{}", "3: too long, 5"]
        );
    }
}

//! The answers at the end of a journal, one after the other: a journal is larger than what may be held of it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use crate::journal::{self, JournaledAnswer};

/// One look back reads so much, and so much is read in one go from there on.
pub(super) const BLOCK: usize = 256 * 1024;

/// The answers that arrived since then, oldest first, where a time after `latest` is none: those get that of the next
/// answer that has one.
pub(super) struct Since {
    pub(super) since: SystemTime,
    pub(super) latest: SystemTime,
    /// Bytes that are held of the file.
    pub(super) block: usize,
}

impl Since {
    /// Hands over those whose lines begin before the end that the file has now.
    pub(super) fn each(
        &self,
        file: &File,
        mut each: impl FnMut(JournaledAnswer),
    ) -> io::Result<()> {
        let end = file.metadata()?.len();
        let mut lines = Lines {
            reader: BufReader::with_capacity(self.block, file),
            offset: begin(file, end, self.since)?,
            line: Vec::new(),
        };
        lines.reader.seek(SeekFrom::Start(lines.offset))?;
        // They may be as many as there are, so they are read once more when their time is known.
        let mut ahead: Option<Range<u64>> = None;
        while lines.next(end)? {
            let Some(answer) = lines.answer() else {
                continue;
            };
            let line = lines.range();
            if answer.at > self.latest {
                ahead.get_or_insert(line.clone()).end = line.end;
                continue;
            }
            let came_before = ahead.take();
            if answer.at < self.since {
                continue;
            }
            if let Some(came_before) = came_before {
                let at = answer.at;
                lines.again(came_before, |before| {
                    each(JournaledAnswer { at, ..before });
                })?;
                lines.go_to(line.end)?;
            }
            each(answer);
        }
        ahead.map_or(Ok(()), |ahead| lines.again(ahead, each))
    }
}

/// Lines of a file, with one buffer for all of them.
struct Lines<'a> {
    reader: BufReader<&'a File>,
    /// Where the next one starts.
    offset: u64,
    line: Vec<u8>,
}

impl Lines<'_> {
    /// Reads the next one, if it starts before the end.
    fn next(&mut self, end: u64) -> io::Result<bool> {
        self.line.clear();
        if self.offset >= end {
            return Ok(false);
        }
        let read = self.reader.read_until(b'\n', &mut self.line)?;
        self.offset += read as u64;
        Ok(read > 0)
    }

    /// Where the line stands that was read last.
    fn range(&self) -> Range<u64> {
        self.offset - self.line.len() as u64..self.offset
    }

    /// What it says; `None` where it is no line of a journal.
    fn answer(&self) -> Option<JournaledAnswer> {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        journal::entry(line).ok().map(|entry| entry.answer)
    }

    /// Reads some once more.
    fn again(
        &mut self,
        lines: Range<u64>,
        mut each: impl FnMut(JournaledAnswer),
    ) -> io::Result<()> {
        self.go_to(lines.start)?;
        while self.next(lines.end)? {
            self.answer().into_iter().for_each(&mut each);
        }
        Ok(())
    }

    /// Nothing is read anew that is still in the buffer.
    fn go_to(&mut self, offset: u64) -> io::Result<()> {
        let by = offset.wrapping_sub(self.offset).cast_signed();
        self.reader.seek_relative(by)?;
        self.offset = offset;
        Ok(())
    }
}

/// The start of a line from which on everything since then stands.
fn begin(file: &File, length: u64, since: SystemTime) -> io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let block = end.saturating_sub(BLOCK as u64);
        let start = match block {
            0 => return Ok(0),
            block => next_line(file, block, length)?,
        };
        let is_older = start < length
            && journal::read_at(file, start).is_ok_and(|entry| entry.answer.at < since);
        if is_older {
            return Ok(start);
        }
        end = block;
    }
    Ok(0)
}

/// The offset behind the next `\n`.
fn next_line(file: &File, from: u64, length: u64) -> io::Result<u64> {
    let mut block = vec![0; 16 * 1024];
    let mut at = from;
    while at < length {
        let read = file.read_at(&mut block, at)?;
        if read == 0 {
            break;
        }
        if let Some(end) = memchr::memchr(b'\n', &block[..read]) {
            return Ok(at + end as u64 + 1);
        }
        at += read as u64;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::journal::{PaidAnswer, push_numbered, tail};
    use crate::row::RowId;

    fn second(n: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(n)
    }

    fn push(out: &mut Vec<u8>, seq: u64, at: SystemTime, body: usize) {
        let body = format!("\"{}\"", "x".repeat(body));
        let answer = PaidAnswer {
            key: "k",
            attempt: 1,
            status: 200,
            at,
            latency: Duration::from_millis(seq),
            prompt_guess: None,
            body: body.as_bytes(),
        };
        push_numbered(out, seq, &tail(RowId([1; 16]), "ask", &answer));
    }

    /// Each line looked up by itself, and all of them held.
    fn one_by_one(file: &File, since: SystemTime, latest: SystemTime) -> Vec<JournaledAnswer> {
        let length = file.metadata().unwrap().len();
        let (mut offset, mut answers, mut ahead) = (0, Vec::new(), Vec::new());
        while offset < length {
            match journal::read_at(file, offset).map(|entry| entry.answer) {
                Ok(answer) if answer.at > latest => ahead.push(answer),
                Ok(answer) => {
                    let at = answer.at;
                    let before = ahead.drain(..).map(|ahead| JournaledAnswer { at, ..ahead });
                    let before: Vec<_> = before.collect();
                    if at >= since {
                        answers.extend(before);
                        answers.push(answer);
                    }
                }
                Err(_) => {}
            }
            offset = next_line(file, offset, length).unwrap();
        }
        answers.extend(ahead);
        answers
    }

    #[test]
    fn what_one_buffer_reads_is_what_each_line_says_by_itself() {
        const BLOCK: usize = 256;
        let (ahead, latest) = (second(9_000), second(1_000));
        let mut line = Vec::new();
        push(&mut line, 1, second(1), 0);
        // With these a line ends before, at and behind the end of a buffer, and one in the middle of it.
        let bodies = (BLOCK - 3 - line.len()..=BLOCK + 3 - line.len()).chain([0]);
        let ends: [&[u8]; 4] = [b"", b"\n", b"\n{\"v\":1,\"seq\":12,\"ro", b"\n\xff"];
        for (first, end) in bodies.flat_map(|first| ends.map(|end| (first, end))) {
            let mut text = Vec::new();
            push(&mut text, 1, second(1), first);
            push(&mut text, 2, second(2), first);
            push(&mut text, 3, ahead, 10);
            text.extend_from_slice(b"{\"v\":1,\"seq\":4}\n\xff\xfe\n\n");
            push(&mut text, 4, ahead, 3 * BLOCK);
            push(&mut text, 5, second(5), first);
            push(&mut text, 6, ahead, 10);
            push(&mut text, 7, second(3), 10);
            push(&mut text, 8, second(8), 5 * BLOCK);
            push(&mut text, 9, ahead, first);
            text.extend_from_slice(&[b'x'; 2 * BLOCK]);
            text.push(b'\n');
            push(&mut text, 10, second(9), first);
            push(&mut text, 11, ahead, 2 * BLOCK);
            text.pop();
            text.extend_from_slice(end);
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, &text).unwrap();
            for since in [0, 3, 4, 8, 9, 10].map(second) {
                let mut found = Vec::new();
                let look = Since {
                    since,
                    latest,
                    block: BLOCK,
                };
                look.each(&file, |answer| found.push(answer)).unwrap();
                let expected = one_by_one(&file, since, latest);
                assert_eq!(
                    format!("{found:?}"),
                    format!("{expected:?}"),
                    "{first}, {end:?}, {since:?}"
                );
                let numbers: Vec<u64> = found.iter().map(|answer| answer.seq).collect();
                assert!(numbers.is_sorted() && numbers.last() == Some(&11));
            }
        }
    }
}

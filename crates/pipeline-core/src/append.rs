//! A file of lines that only grows, and whose last line is whole whenever it is opened.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, Opening};
use crate::error::Error;
use crate::read_ahead::{self, Batch};
use crate::scan::{damaged, text};

/// How far back one look for the start of the last line reaches.
const LOOK_BACK: u64 = 64 * 1024;

/// An append-only file of lines.
#[derive(Debug)]
pub(crate) struct AppendFile {
    file: Arc<DiskFile>,
    /// The length up to which everything is whole lines.
    length: u64,
    /// Whether a write was refused; the end may be torn since, so nothing more is written behind it.
    refused: bool,
}

/// What was done to the end of a file that a crash had left torn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Repair {
    None,
    /// The last row was whole and only lacked its newline.
    NewlineAdded,
    /// So many bytes of a torn or NUL-filled last line were cut off.
    Cut(u64),
}

/// How a file of lines ends.
pub(crate) enum End {
    Whole,
    /// The last line is whole JSON and only lacks its newline.
    WithoutNewline,
    /// These last bytes are no whole line.
    Torn(Vec<u8>),
}

/// How a file of so many bytes ends.
pub(crate) fn end_of(file: &File, length: u64) -> io::Result<End> {
    let bytes_from = |start: u64, end: u64| -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, start)?;
        Ok(bytes)
    };
    let whole = end_of_last_line(file, length)?;
    if whole < length {
        let tail = bytes_from(whole, length)?;
        let is_json = tail.starts_with(b"{")
            && serde_json::from_slice::<serde::de::IgnoredAny>(&tail).is_ok();
        return Ok(match is_json {
            true => End::WithoutNewline,
            false => End::Torn(tail),
        });
    }
    if whole > 0 {
        // A power loss can leave NULs in a last line that even has its newline.
        let last = bytes_from(end_of_last_line(file, whole - 1)?, whole)?;
        if memchr::memchr(0, &last).is_some() {
            return Ok(End::Torn(last));
        }
    }
    Ok(End::Whole)
}

/// The offset after the last `\n` before `end`; 0 where there is none.
fn end_of_last_line(file: &File, end: u64) -> io::Result<u64> {
    let mut end = end;
    let mut block = vec![0; LOOK_BACK as usize];
    while end > 0 {
        let start = end.saturating_sub(LOOK_BACK);
        let piece = &mut block[..(end - start) as usize];
        file.read_exact_at(piece, start)?;
        if let Some(at) = memchr::memrchr(b'\n', piece) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

impl AppendFile {
    /// Opens or makes the file and repairs its end. What an earlier process left in it is durable then: lines
    /// that it did not come to sync will be rested on.
    pub(crate) fn open(disk: &Disk, path: PathBuf) -> Result<(AppendFile, Repair), Error> {
        if let Ok(facts) = std::fs::symlink_metadata(&path)
            && !facts.is_file()
        {
            return Err(Error::usage(format!(
                "{} is not a regular file; move it away",
                path.display()
            )));
        }
        let file = disk
            .open(&path, Opening::Append)
            .map_err(Error::io("could not open", &path))?;
        let length = file
            .file()
            .metadata()
            .map_err(Error::io("could not read", &path))?
            .len();
        let mut this = AppendFile {
            file: Arc::new(file),
            length,
            refused: false,
        };
        let repair = this.repair()?;
        if length > 0 {
            this.sync().map_err(Error::io("could not write", &path))?;
        }
        Ok((this, repair))
    }

    fn repair(&mut self) -> Result<Repair, Error> {
        let end = end_of(self.file.file(), self.length)
            .map_err(Error::io("could not read", self.path()))?;
        let cut = match end {
            End::Whole => return Ok(Repair::None),
            End::WithoutNewline => {
                self.append(b"\n")
                    .map_err(Error::io("could not write", self.path()))?;
                return Ok(Repair::NewlineAdded);
            }
            End::Torn(bytes) => bytes.len() as u64,
        };
        let keep = self.length - cut;
        self.file
            .set_length(keep)
            .map_err(Error::io("could not repair", self.path()))?;
        self.length = keep;
        Ok(Repair::Cut(cut))
    }

    /// Appends whole lines. Where that fails the file is cut back to where it was, and nothing more can be
    /// appended.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.append_and(lines, |_| 0)
    }

    /// Where it fails, so many bytes of what was written stay.
    fn append_and(&mut self, lines: &[u8], keep: impl FnOnce(&Self) -> u64) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.refused {
            return Err(io::Error::other("an earlier write was refused"));
        }
        match self.file.append(lines) {
            Ok(()) => {
                self.length += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.cut_back(self.length + keep(self));
                Err(error)
            }
        }
    }

    /// Appends as many of these whole lines as the system takes: how many bytes, and why no more. Where not all
    /// are taken, nothing more can be appended.
    pub(crate) fn append_what_fits(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        let before = self.length;
        match self.append_and(lines, |this| this.whole_lines_of(lines)) {
            Ok(()) => (lines.len(), Ok(())),
            Err(error) => ((self.length - before) as usize, Err(error)),
        }
    }

    /// How much of the lines that could not be appended as a whole stands in the file in whole lines.
    fn whole_lines_of(&self, lines: &[u8]) -> u64 {
        let there = self.file.file().metadata().map_or(0, |facts| facts.len());
        let written = there.saturating_sub(self.length).min(lines.len() as u64) as usize;
        memchr::memrchr(b'\n', &lines[..written]).map_or(0, |end| end as u64 + 1)
    }

    /// Takes back what was appended after this length, and ends the appending.
    pub(crate) fn cut_back(&mut self, length: u64) {
        self.refused = true;
        self.length = length;
        // If this fails too, the next opening repairs the end, and takes whole lines as they are.
        if let Err(error) = self.file.set_length(length) {
            tracing::error!(file = %self.path().display(), %error, "could not cut back to the last whole line");
        }
    }

    /// Makes everything that was appended durable; to be called no more once it failed.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// Whether a write was refused, so that nothing more can be appended.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// A second handle, to read or sync while the first one writes.
    pub(crate) fn handle(&self) -> Arc<DiskFile> {
        Arc::clone(&self.file)
    }
}

/// Calls `each` with number (from 1), offset and text of every line, without its newline. What a crash
/// left of a last line is no line.
pub(crate) fn each_line(
    path: &Path,
    mut each: impl FnMut(u64, u64, &str) -> Result<(), String>,
) -> Result<(), Error> {
    use std::io::BufRead;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("could not read", path)(error)),
    };
    let mut reader = io::BufReader::with_capacity(256 * 1024, file);
    let mut line = Vec::new();
    // A third of the work with a long journal is to get at its lines.
    let next = |batch: &mut Batch<(usize, Option<String>)>| {
        line.clear();
        let length = reader
            .read_until(b'\n', &mut line)
            .map_err(Error::io("could not read", path))?;
        let torn = !line.ends_with(b"\n")
            && serde_json::from_slice::<serde::de::IgnoredAny>(&line).is_err();
        if length == 0 || torn {
            return Ok(false);
        }
        match text(&line) {
            Ok(text) => batch.push((length, None), text),
            Err(what) => batch.push((length, Some(what)), ""),
        }
        Ok(true)
    };
    let (mut number, mut offset) = (0, 0);
    read_ahead::for_each(next, |(length, fault), text| {
        number += 1;
        fault
            .map_or_else(|| each(number, offset, text), Err)
            .map_err(|what| damaged(path, number, what))?;
        offset += length as u64;
        Ok(())
    })
}

/// Replaces a file as a whole: whoever reads it sees the old one or the new one, also after a crash. After a
/// power loss it is the new one once the folder was synced.
pub(crate) fn replace(disk: &Disk, path: &Path, contents: &[u8]) -> Result<(), Error> {
    replace_with(disk, path, |file| {
        file.write_all(contents)
            .map_err(Error::io("could not write", path))
    })
}

/// Copies a file, as a whole or not at all; durable as [`replace`] says.
pub(crate) fn copy(disk: &Disk, from: &Path, to: &Path) -> Result<(), Error> {
    let mut source = File::open(from).map_err(Error::io("could not read", from))?;
    replace_with(disk, to, |file| {
        io::copy(&mut source, file)
            .map(drop)
            .map_err(Error::io("could not write", to))
    })
}

/// Writes a file, as a whole or not at all, with what `rewrite` makes of each line of another (or of the same),
/// of which it gets number and text; durable as [`replace`] says.
pub(crate) fn rewrite_lines(
    disk: &Disk,
    from: &Path,
    to: &Path,
    mut rewrite: impl FnMut(u64, &str, &mut Vec<u8>) -> Result<(), String>,
) -> Result<(), Error> {
    replace_with(disk, to, |file| {
        let mut line_out = Vec::new();
        let mut refused = None;
        let read = each_line(from, |number, _, line| {
            line_out.clear();
            rewrite(number, line, &mut line_out)?;
            file.write_all(&line_out).map_err(|error| {
                let told = error.to_string();
                refused = Some(error);
                told
            })
        });
        // A disk that refuses is no damage of the line that was being copied.
        match refused {
            Some(error) => Err(Error::io("could not write", to)(error)),
            None => read,
        }
    })
}

fn replace_with(
    disk: &Disk,
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<DiskFile>) -> Result<(), Error>,
) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.new"));
    let replaced = write_whole(disk, &beside, path, fill).and_then(|()| {
        disk.rename(&beside, path)
            .map_err(Error::io("could not write", path))
    });
    // Half of a new file is of no use to anybody, and where the disk is full it is in the way.
    if replaced.is_err()
        && let Err(error) = disk.remove(&beside)
    {
        tracing::debug!(%error, file = %beside.display(), "left behind");
    }
    replaced
}

fn write_whole(
    disk: &Disk,
    beside: &Path,
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<DiskFile>) -> Result<(), Error>,
) -> Result<(), Error> {
    let file = disk
        .open(beside, Opening::Replace)
        .map_err(Error::io("could not write", beside))?;
    let mut file = BufWriter::with_capacity(256 * 1024, file);
    let flushed =
        fill(&mut file).and_then(|()| file.flush().map_err(Error::io("could not write", path)));
    // Taken apart, because a writer that is dropped would try what was refused once more.
    let (file, _) = file.into_parts();
    flushed?;
    file.sync().map_err(Error::io("could not write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(contents: &[u8]) -> (Repair, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        std::fs::write(&path, contents).unwrap();
        let (mut file, repair) = AppendFile::open(&Disk::default(), path.clone()).unwrap();
        file.append(b"{\"new\":1}\n").unwrap();
        (repair, std::fs::read(&path).unwrap())
    }

    #[test]
    fn a_file_cut_at_any_byte_keeps_its_whole_lines_and_grows_clean() {
        let whole = b"{\"a\":1}\n{\"b\":\"\xc3\xa9\"}\n".to_vec();
        for cut in 0..=whole.len() {
            let (_, after) = opened(&whole[..cut]);
            let lines: Vec<&[u8]> = after.split_inclusive(|byte| *byte == b'\n').collect();
            // A last row that only lacks its newline is kept; any other torn end is not.
            let kept = [(7, 1), (18, 2)]
                .iter()
                .filter(|(end, _)| cut >= *end)
                .count();
            assert_eq!(
                lines.len(),
                kept + 1,
                "cut at {cut}: {:?}",
                String::from_utf8_lossy(&after)
            );
            assert_eq!(lines[kept], b"{\"new\":1}\n");
            for line in lines {
                serde_json::from_slice::<serde_json::Value>(line).unwrap();
            }
        }
    }

    #[test]
    fn nuls_at_the_end_are_cut() {
        assert_eq!(
            opened(b"{}\n\0\0\0"),
            (Repair::Cut(3), b"{}\n{\"new\":1}\n".to_vec())
        );
        assert_eq!(
            opened(b"{}\n\0\0\n"),
            (Repair::Cut(3), b"{}\n{\"new\":1}\n".to_vec())
        );
        assert_eq!(
            opened(b"{}\n{\"a\":\0\0}\n"),
            (Repair::Cut(9), b"{}\n{\"new\":1}\n".to_vec())
        );
        assert_eq!(opened(b"{}\n").0, Repair::None);
        assert_eq!(opened(b"{}").0, Repair::NewlineAdded);
    }

    #[test]
    fn a_last_line_longer_than_one_look_back_is_found() {
        let mut long = vec![b'x'; 3 * LOOK_BACK as usize];
        assert_eq!(opened(&long).0, Repair::Cut(long.len() as u64));
        long.splice(0..0, *b"{}\n");
        assert_eq!(opened(&long).1, b"{}\n{\"new\":1}\n");
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.jsonl");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        let error = AppendFile::open(&Disk::default(), path).unwrap_err();
        assert!(
            error.to_string().contains("is not a regular file"),
            "{error}"
        );
    }

    #[test]
    fn replacing_leaves_the_old_file_or_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        replace(&Disk::default(), &path, b"one").unwrap();
        replace(&Disk::default(), &path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_lines_of_a_long_file_come_with_their_numbers_and_places() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        let mut whole = Vec::new();
        for n in 0..5000 {
            // Some are longer than whatever is read in one go.
            let length = if n % 1000 == 7 { 200_000 } else { n % 50 };
            writeln!(whole, "{{\"n\":{n},\"text\":\"{}\"}}", "é".repeat(length)).unwrap();
        }
        for (behind, lines) in [("", 5000), ("{\"n\":50", 5000), ("{\"n\":5000}", 5001)] {
            let bytes = [whole.as_slice(), behind.as_bytes()].concat();
            std::fs::write(&path, &bytes).unwrap();
            let (mut seen, mut end) = (0, 0);
            each_line(&path, |number, offset, line| {
                assert_eq!((number, offset), (seen + 1, end));
                assert!(bytes[offset as usize..].starts_with(line.as_bytes()));
                (seen, end) = (number, offset + line.len() as u64 + 1);
                Ok(())
            })
            .unwrap();
            assert_eq!(seen, lines);
        }
        let begin = memchr::memmem::find(&whole, b"{\"n\":4000,").unwrap();
        whole[begin + 1] = 0xff;
        std::fs::write(&path, &whole).unwrap();
        let mut seen = 0;
        let ended = each_line(&path, |number, _, _| {
            seen = number;
            Ok(())
        });
        let error = ended.unwrap_err().to_string();
        assert!(
            error.contains("x.jsonl:4001: is no UTF-8 text from byte 2 on"),
            "{error}"
        );
        assert_eq!(seen, 4000);
        let refused = each_line(&path, |number, _, _| match number {
            3001 => Err("is refused".into()),
            _ => Ok(()),
        });
        let error = refused.unwrap_err().to_string();
        assert!(error.ends_with("x.jsonl:3001: is refused"), "{error}");
    }

    /// A disk on which so many bytes of a write find room.
    struct Room(usize);

    impl crate::disk::Watch for Room {
        fn change(&self, change: &crate::disk::Change<'_>) -> io::Result<Option<File>> {
            match *change {
                crate::disk::Change::Write { mut file, bytes } if bytes.len() > self.0 => {
                    file.write_all(&bytes[..self.0])?;
                    Err(io::ErrorKind::StorageFull.into())
                }
                _ => change.make(),
            }
        }
    }

    #[test]
    fn of_several_lines_those_that_fit_are_kept() {
        let lines = b"{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n";
        for room in 0..lines.len() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.jsonl");
            std::fs::write(&path, "{}\n").unwrap();
            let disk = Disk::watched(Arc::new(Room(room)));
            let (mut file, _) = AppendFile::open(&disk, path.clone()).unwrap();
            let (kept, appended) = file.append_what_fits(lines);
            assert!(appended.is_err());
            assert_eq!(kept, room / 8 * 8, "room for {room} bytes");
            assert_eq!(std::fs::read(&path).unwrap().len(), 3 + kept);
            assert!(file.append(b"{}\n").is_err(), "nothing more is appended");
        }
    }
}

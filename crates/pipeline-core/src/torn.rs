//! Lines of a journal that have lost the newlines between them.
//!
//! A crash of ours tears one line at most. Where more stands behind the last newline, somebody else has changed the
//! line ends, and it is not cut off: it may be all that was paid for.

use std::fs::File;
use std::io;
use std::path::Path;

use serde::de::IgnoredAny;

use crate::append::{End, end_of};
use crate::before::answered_row;
use crate::disk::Disk;
use crate::error::Error;
use crate::journal::BEGINNING;
use crate::repair::replace;
use crate::scan::{Scan, ScannedLine, damaged};

const JOURNAL: &str = "journal.jsonl";

/// Refuses a journal of which more would be cut off than what a crash leaves of one line.
///
/// # Errors
///
/// With the place of it, or when the journal cannot be read.
pub(crate) fn refuse(journal: &Path) -> Result<(), Error> {
    // A pipe would never open; what is no file is told by who opens it to write.
    if !std::fs::symlink_metadata(journal).is_ok_and(|facts| facts.is_file()) {
        return Ok(());
    }
    let end = || -> io::Result<End> {
        let file = File::open(journal)?;
        end_of(&file, file.metadata()?.len())
    };
    match end().map_err(Error::io("could not read", journal))? {
        End::Torn(bytes) if is_more_than_one(&bytes) => {
            let mut last = 0;
            if let Some(mut lines) = Scan::open(journal)? {
                while let Some(line) = lines.next()? {
                    last = line.number;
                }
            }
            Err(damaged(journal, last, told(bytes.len())))
        }
        _ => Ok(()),
    }
}

/// Gives each answer of a journal its own line where newlines are missing; what was done, in words. What is no answer
/// gets a line too, for others to move aside: nothing goes but `\r` between two lines. The lock must be held.
pub(crate) fn part(disk: &Disk, dir: &Path) -> Result<Option<String>, Error> {
    let is_to_part = |line: &ScannedLine<'_>| {
        is_more_than_one(line.bytes) && line.text().and_then(answered_row).is_err()
    };
    let journal = dir.join(JOURNAL);
    let (mut first, mut parted, mut made) = (0, 0, 0);
    if let Some(mut lines) = Scan::open(&journal)? {
        while let Some(line) = lines.next()? {
            if is_to_part(&line) {
                first = if parted == 0 { line.number } else { first };
                parted += 1;
            }
        }
    }
    if parted == 0 {
        return Ok(None);
    }
    replace(disk, dir, JOURNAL, |new| {
        let Some(mut lines) = Scan::open(&journal)? else {
            return Ok(());
        };
        while let Some(line) = lines.next()? {
            if is_to_part(&line) {
                for piece in pieces(line.bytes) {
                    made += 1;
                    new.write(piece)?;
                    new.write(b"\n")?;
                }
            } else {
                new.write(line.bytes)?;
                new.write(if line.ended { b"\n" } else { b"" })?;
            }
        }
        Ok(())
    })?;
    Ok(Some(match parted {
        1 => format!("{JOURNAL}: line {first} had lost its newlines and is {made} lines now"),
        _ => format!(
            "{JOURNAL}: {parted} lines, the first of them line {first}, had lost newlines and are {made} lines now"
        ),
    }))
}

/// What is wrong with a line of a journal, or its end, that is so many bytes of several.
pub(crate) fn told(bytes: usize) -> String {
    format!(
        "holds more than one line of a journal in {bytes} bytes, so newlines are missing, as when an editor has \
         changed the line ends; a run with `--repair` gives each answer its own line again and moves aside what is none"
    )
}

/// Whether a crash of ours cannot have left this of one line: another begins in it, or it ends and something follows.
/// NULs may follow anything.
pub(crate) fn is_more_than_one(line: &[u8]) -> bool {
    let is_nothing = |byte: &u8| matches!(byte, 0 | b'\r' | b'\n');
    next_beginning(line).is_some()
        || first_value(line).is_some_and(|length| !line[length..].iter().all(is_nothing))
}

/// How long the JSON object is that stands at the beginning.
fn first_value(bytes: &[u8]) -> Option<usize> {
    if !bytes.starts_with(b"{") {
        return None;
    }
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<IgnoredAny>();
    matches!(values.next(), Some(Ok(_))).then(|| values.byte_offset())
}

/// Where another line begins behind the beginning of this one.
fn next_beginning(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes.get(1..)?, BEGINNING).map(|at| at + 1)
}

/// The lines that these bytes once were: whole values, and what stands between two beginnings.
fn pieces(bytes: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    loop {
        while let [b'\r' | b'\n', behind @ ..] = rest {
            rest = behind;
        }
        if rest.is_empty() {
            return pieces;
        }
        let end = first_value(rest)
            .or_else(|| next_beginning(rest))
            .unwrap_or(rest.len());
        let (piece, behind) = rest.split_at(end);
        let ended = piece
            .iter()
            .rposition(|byte| !matches!(byte, b'\r' | b'\n'));
        pieces.push(&piece[..ended.map_or(0, |last| last + 1)]);
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::files::Files;

    fn answer(seq: u64, body: &str) -> String {
        format!(
            "{{\"v\":1,\"seq\":{seq},\"row\":\"{seq:032x}\",\"key\":\"k\",\"step\":\"ask\",\"attempt\":1,\"status\":200,\
             \"at\":\"2026-11-22T10:00:00.000Z\",\"latency_ms\":1,\"body\":{body}}}\n"
        )
    }

    fn journal_of(lines: u64) -> String {
        (1..=lines).map(|seq| answer(seq, "{}")).collect()
    }

    /// Opens a journal of these bytes: what it refuses, and what it has made of the file.
    fn opened(bytes: &[u8]) -> (Option<Error>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(JOURNAL);
        std::fs::write(&path, bytes).unwrap();
        let files = Files::open(&Disk::default(), dir.path());
        (files.err(), std::fs::read(&path).unwrap())
    }

    fn parted(bytes: &[u8]) -> (Option<String>, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(JOURNAL);
        std::fs::write(&path, bytes).unwrap();
        let told = part(&Disk::default(), dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        (told, std::fs::read_to_string(&path).unwrap())
    }

    #[test]
    fn answers_that_have_lost_their_newlines_are_not_cut_off_and_get_them_again() {
        let whole = journal_of(6);
        let (first, last) = whole.split_at(whole.len() / 2);
        for (bytes, line) in [
            (whole.replace('\n', "\r"), 1),
            (whole.replace('\n', ""), 1),
            (format!("{first}{}", last.replace('\n', "\r")), 4),
            (format!("{first}{}", last.replace('\n', "")), 4),
        ] {
            let (error, after) = opened(bytes.as_bytes());
            let error = error.unwrap();
            assert!(
                matches!(error.kind(), ErrorKind::Damaged { line: at, .. } if *at == line),
                "{error}"
            );
            assert!(error.to_string().contains("`--repair`"), "{error}");
            assert_eq!(after, bytes.as_bytes(), "refused and left");
            let (told, mended) = parted(bytes.as_bytes());
            assert!(
                told.unwrap()
                    .contains(&format!("line {line} had lost its newlines"))
            );
            assert_eq!(mended, whole);
            assert_eq!(opened(mended.as_bytes()).1, whole.as_bytes());
        }
    }

    #[test]
    fn what_a_crash_leaves_of_one_line_is_cut_off() {
        let whole = journal_of(2);
        let line = answer(3, r#"{"text":"{\"v\":1,\"seq\":4,"}"#);
        for length in 1..line.len() - 1 {
            for nuls in [0, 1, 7] {
                let torn = format!("{}{}", &line[..length], "\0".repeat(nuls));
                for torn in [format!("{whole}{torn}"), format!("{whole}{torn}\n")] {
                    if nuls == 0 && torn.ends_with('\n') {
                        continue;
                    }
                    let (error, after) = opened(torn.as_bytes());
                    assert!(error.is_none(), "{torn}");
                    assert_eq!(after, whole.as_bytes(), "{torn}");
                    assert_eq!(parted(torn.as_bytes()), (None, torn));
                }
            }
        }
    }

    #[test]
    fn what_is_no_answer_among_those_without_newlines_has_a_line_of_its_own() {
        let (one, two) = (answer(1, "{}"), answer(2, "[{\"v\":1,\"seq\":7,\"x\":2}]"));
        let (one, two) = (one.trim_end(), two.trim_end());
        let half = &one[..90];
        for (bytes, lines) in [
            (format!("{half}\r{two}\r"), vec![half, two]),
            (format!("{one}\r{two}\r{half}"), vec![one, two, half]),
            (format!("{one}{{\"v"), vec![one, "{\"v"]),
            (format!("\0\0{one}"), vec!["\0\0", one]),
            (
                format!("{half}\0{two}\r\n"),
                vec![&format!("{half}\0"), two],
            ),
        ] {
            assert!(opened(bytes.as_bytes()).0.is_some(), "{bytes}");
            let mended = parted(bytes.as_bytes()).1;
            assert_eq!(mended.lines().collect::<Vec<_>>(), lines, "{bytes}");
        }
    }

    #[test]
    fn a_line_in_the_middle_that_holds_several_answers_is_parted_and_all_others_stay_as_they_are() {
        let whole = journal_of(9);
        let odd = answer(10, "[{\"v\":1,\"seq\":7,\"x\":2}]").replace('\n', "\r\n");
        let lines: Vec<&str> = whole.lines().collect();
        for between in ["", "\r"] {
            let head = format!("{}\n{}\nx\n", lines[0], lines[1..5].join(between));
            let bytes = format!("{head}{}\n{odd}{{\"v", lines[5..].join(between));
            let (told, mended) = parted(bytes.as_bytes());
            let told = told.unwrap();
            assert!(
                told.contains("2 lines, the first of them line 2, "),
                "{told}"
            );
            assert!(told.contains("are 8 lines now"), "{told}");
            let head = format!("{}\nx\n{}\n", lines[..5].join("\n"), lines[5..].join("\n"));
            assert_eq!(mended, format!("{head}{odd}{{\"v"));
        }
        assert_eq!(parted(whole.as_bytes()), (None, whole));
    }
}

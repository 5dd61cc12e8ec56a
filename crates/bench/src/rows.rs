//! Rows to measure with: made up, of a given size, no two alike.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What the rows are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Three texts, 300 bytes.
    Texts,
    /// A question with its worked answer, 568 bytes: as gsm8k has them on average.
    Problems,
    /// The same with 2,000 bytes.
    LongProblems,
    /// A topic and a number, 60 bytes.
    Short,
}

impl Kind {
    /// Bytes of a line, its end included.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Kind::Texts => 300,
            Kind::Problems => 568,
            Kind::LongProblems => 2000,
            Kind::Short => 60,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Texts => "texts",
            Kind::Problems => "problems",
            Kind::LongProblems => "long-problems",
            Kind::Short => "short",
        }
    }
}

const WORDS: &str = "A shop sells apples at three for two coins, and Anna has forty coins more than half of what her \
brother saved in the nine weeks since the fair. She buys as many as she can carry in four bags of twelve. \
The farmer brings 36 more crates on Monday; each holds 18, but every 6th one is spoilt on the way. ";

/// Rows in a folder, made once each.
pub(crate) fn file(dir: &Path, kind: Kind, rows: u64) -> io::Result<PathBuf> {
    let path = dir.join(format!("{}-{rows}.jsonl", kind.name()));
    if !path.exists() {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&path)?);
        write(&mut out, kind, 0..rows)?;
        out.flush()?;
    }
    Ok(path)
}

/// The rows of these numbers, a line each.
pub(crate) fn write(
    out: &mut impl Write,
    kind: Kind,
    numbers: std::ops::Range<u64>,
) -> io::Result<()> {
    let filler = WORDS.repeat(8);
    let (mut line, mut bare) = (Vec::new(), Vec::new());
    for number in numbers {
        bare.clear();
        push(&mut bare, kind, number, "", "")?;
        // Where a text begins differs from row to row, so that rows do not only differ by their number.
        let missing = usize::try_from(kind.bytes()).unwrap_or(usize::MAX) - bare.len();
        let from = (number % WORDS.len() as u64) as usize;
        let text = &filler[from..from + missing];
        let (first, second) = text.split_at(missing / 3);
        line.clear();
        push(&mut line, kind, number, first, second)?;
        out.write_all(&line)?;
    }
    Ok(())
}

fn push(line: &mut Vec<u8>, kind: Kind, number: u64, first: &str, second: &str) -> io::Result<()> {
    match kind {
        Kind::Texts => writeln!(
            line,
            r#"{{"topic": "tides {number}", "audience": "{first}", "notes": "{second}"}}"#
        ),
        Kind::Problems | Kind::LongProblems => writeln!(
            line,
            r#"{{"n": {number}, "question": "{first}", "answer": "{second}"}}"#
        ),
        Kind::Short => writeln!(line, r#"{{"topic": "{first}{second}", "n": {number}}}"#),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_json_of_its_size_and_no_two_are_alike() {
        for kind in [Kind::Texts, Kind::Problems, Kind::LongProblems, Kind::Short] {
            let mut text = Vec::new();
            write(&mut text, kind, 0..1200).unwrap();
            write(&mut text, kind, 9_999_990..10_000_000).unwrap();
            let text = String::from_utf8(text).unwrap();
            let lines: std::collections::HashSet<&str> = text.lines().collect();
            assert_eq!(lines.len(), 1210, "{kind:?}");
            for line in lines {
                assert_eq!(line.len() as u64 + 1, kind.bytes(), "{line}");
                serde_json::from_str::<serde_json::Value>(line).unwrap();
            }
        }
    }
}

//! A run that begins with the answers of another.

use std::collections::HashSet;
use std::path::Path;

use crate::append::{each_line, rewrite_lines};
use crate::error::Error;
use crate::journal;
use crate::lock::Lock;

/// Copies the journal of one run into another folder: the lines with one of these keys, or all. It is
/// there as a whole or not at all, and the source is only read.
pub(crate) fn copy(from: &Path, to: &Path, keys: Option<&HashSet<String>>) -> Result<(), Error> {
    // Nobody may write to it meanwhile.
    let _lock = Lock::take(from)?;
    let mut seq = 0;
    rewrite_lines(
        &from.join("journal.jsonl"),
        &to.join("journal.jsonl"),
        |_, line, out| {
            let head = journal::head(line)?;
            if keys.is_none_or(|keys| keys.contains(&*head.key)) {
                seq += 1;
                journal::push_renumbered(out, seq, line);
            }
            Ok(())
        },
    )
}

/// Whether all answers of a folder are the other's too: what a fork is that was killed before it had its
/// manifest. It may be copied again; anything else was paid for.
pub(crate) fn is_copy(from: &Path, of: &Path) -> Result<bool, Error> {
    let mut answers = HashSet::new();
    let hash = |line: &str| {
        let mut tail = Vec::new();
        journal::push_renumbered(&mut tail, 0, line);
        blake3::hash(&tail)
    };
    each_line(&of.join("journal.jsonl"), |_, _, line| {
        answers.insert(hash(line));
        Ok(())
    })?;
    let lines = std::fs::metadata(from.join("result.jsonl"));
    let mut is_copy = lines.map_or(0, |facts| facts.len()) == 0;
    each_line(&from.join("journal.jsonl"), |_, _, line| {
        is_copy &= answers.contains(&hash(line));
        Ok(())
    })?;
    Ok(is_copy)
}

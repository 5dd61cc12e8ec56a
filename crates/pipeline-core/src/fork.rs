//! A run that begins with the answers of another.

use std::collections::HashSet;
use std::path::Path;

use crate::append::rewrite_lines;
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

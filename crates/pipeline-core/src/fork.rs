//! A run that begins with the answers of another.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::append::{each_line, rewrite_lines};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind};
use crate::journal;
use crate::lock::Lock;
use crate::numbers::Rising;
use crate::torn;

/// Copies the journal of one run into another folder: the lines with one of these keys, or all. It is
/// there as a whole or not at all, and the source is only read.
pub(crate) fn copy(
    disk: &Disk,
    from: &Path,
    to: &Path,
    keys: Option<&HashSet<String>>,
) -> Result<(), Error> {
    // Nobody may write to it meanwhile.
    let _lock = Lock::take(disk, from)?;
    // What is no line to a reader would be missing in the copy, and be paid for once more.
    torn::refuse(&from.join("journal.jsonl")).map_err(of_source(from))?;
    let (mut seq, mut numbers) = (0, Rising::default());
    rewrite_lines(
        disk,
        &from.join("journal.jsonl"),
        &to.join("journal.jsonl"),
        |_, line, out| {
            let answer = journal::Line::read(line)?;
            numbers.next(answer.seq)?;
            if keys.is_none_or(|keys| keys.contains(&*answer.key)) {
                seq += 1;
                journal::push_renumbered(out, seq, line);
            }
            Ok(())
        },
    )
    .map_err(of_source(from))?;
    // Before the manifest is written: a folder with a manifest but no answers would pass for a whole fork.
    disk.sync_folder(to)
        .map_err(Error::io("could not write", to))
}

/// Whether a folder holds nothing but answers of this run: a copy that was made, and then not its manifest.
pub(crate) fn is_bare_copy(from: &Path, to: &Path) -> Result<bool, Error> {
    if std::fs::metadata(to.join("result.jsonl")).is_ok_and(|facts| facts.len() > 0) {
        return Ok(false);
    }
    let copy = to.join("journal.jsonl");
    let unread = || Error::io("could not read", &copy);
    let mut lines = BufReader::new(File::open(&copy).map_err(unread())?).lines();
    let mut next = lines.next().transpose().map_err(unread())?;
    // A copy has the lines of its source in their order, each but for its number.
    each_line(&from.join("journal.jsonl"), |_, _, line| {
        if next
            .as_deref()
            .is_some_and(|copied| journal::same_but_number(copied, line))
        {
            next = lines
                .next()
                .transpose()
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    })
    .map_err(of_source(from))?;
    Ok(next.is_none())
}

/// Damage that only a command on the source itself can mend.
fn of_source(dir: &Path) -> impl FnOnce(Error) -> Error {
    let dir = dir.to_owned();
    move |error| match error.kind() {
        ErrorKind::Damaged { .. } => ErrorKind::DamagedSource {
            dir,
            damage: error.to_string(),
        }
        .into(),
        _ => error,
    }
}

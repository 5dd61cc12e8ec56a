//! A run that begins with the answers of another.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::append::{each_line, sync_folder};
use crate::error::Error;
use crate::journal;
use crate::lock::Lock;

/// Copies the journal of one run into another folder: the lines with one of these keys, or all. It is
/// there as a whole or not at all, and the source is only read.
pub(crate) fn copy(from: &Path, to: &Path, keys: Option<&HashSet<String>>) -> Result<(), Error> {
    // Nobody may write to it meanwhile.
    let _lock = Lock::take(from)?;
    let target = to.join("journal.jsonl");
    let beside = to.join(".journal.jsonl.new");
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(Error::io("could not write", &beside))?;
    let mut file = std::io::BufWriter::with_capacity(256 * 1024, file);
    let (mut seq, mut line_out) = (0, Vec::new());
    let mut written = Ok(());
    let source = from.join("journal.jsonl");
    each_line(&source, |_, _, line| {
        let head = journal::head(line)?;
        if keys.is_none_or(|keys| keys.contains(&*head.key)) {
            seq += 1;
            line_out.clear();
            journal::push_renumbered(&mut line_out, seq, line);
            if written.is_ok() {
                written = file.write_all(&line_out);
            }
        }
        Ok(())
    })?;
    let end = || {
        written?;
        file.into_inner()
            .map_err(std::io::IntoInnerError::into_error)?
            .sync_data()?;
        std::fs::rename(&beside, &target)?;
        sync_folder(to)
    };
    end().map_err(Error::io("could not write", &target))
}

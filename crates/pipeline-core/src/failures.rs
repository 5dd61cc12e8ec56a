//! `failures.jsonl` at the end of a run: each failed row once.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use crate::append::{each_line, rewrite_lines};
use crate::disk::Disk;
use crate::error::Error;
use crate::row::RowId;

/// Keeps the last line of every row that is still failed; replaces the file as a whole, or not at all
/// where nothing would change. The folder is not synced: the old file says the same with more lines.
pub(crate) fn settle(
    disk: &Disk,
    dir: &Path,
    is_finished: impl Fn(RowId) -> bool,
) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Head {
        id: RowId,
    }
    let path = dir.join("failures.jsonl");
    let mut last: HashMap<RowId, u64> = HashMap::new();
    let mut lines = 0_u64;
    each_line(&path, |number, _, line| {
        let head: Head = serde_json::from_str(line)
            .map_err(|error| format!("is no line of failures: {error}"))?;
        lines += 1;
        if !is_finished(head.id) {
            last.insert(head.id, number);
        }
        Ok(())
    })?;
    if last.len() as u64 == lines {
        return Ok(());
    }
    rewrite_lines(disk, &path, &path, |number, line, out| {
        let head: Head = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if last.get(&head.id) == Some(&number) {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failed_row_stands_once_with_its_last_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("failures.jsonl");
        let id = |byte| RowId([byte; 16]);
        let line = |byte, word: &str| format!("{{\"id\":\"{}\",\"word\":\"{word}\"}}\n", id(byte));
        settle(&Disk::default(), dir.path(), |_| false).unwrap();
        assert!(!path.exists(), "nothing is made where nothing was");
        std::fs::write(
            &path,
            [
                line(1, "first"),
                line(2, "finished"),
                line(3, "only"),
                line(1, "last"),
            ]
            .concat(),
        )
        .unwrap();
        settle(&Disk::default(), dir.path(), |row| row == id(2)).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            [line(3, "only"), line(1, "last")].concat()
        );
    }
}

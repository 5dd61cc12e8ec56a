//! The failed rows of a run folder, as rows to be asked again.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::append::each_line;
use crate::before::Before;
use crate::error::Error;
use crate::journal::line_at;
use crate::row::RowId;

/// Failed rows: where their lines stand. They have the ids that they failed under, for an id may be that of the
/// second of two equal rows, and only the input that they came from could tell.
pub(crate) struct FailedRows {
    path: PathBuf,
    /// Open from the start: at the end of a run the file is replaced.
    file: Option<File>,
    offsets: std::vec::IntoIter<u64>,
}

/// One of them.
pub(crate) struct FailedRow {
    pub(crate) id: RowId,
    pub(crate) index: u64,
    pub(crate) json: Box<RawValue>,
}

/// What of a folder's failed rows is to be asked again.
pub(crate) struct Found {
    pub(crate) rows: FailedRows,
    pub(crate) count: u64,
    /// Answers that are paid for and that no line rests on.
    pub(crate) unjudged: u64,
    /// Rows that nobody can ask again, because the folder does not hold them.
    pub(crate) without_input: u64,
    /// Failed rows that are not to be asked again, by class, most first: those of other classes, and those that
    /// nobody can ask.
    pub(crate) left: Vec<(String, u64)>,
    /// What is to be said of classes that no failed row has, where others have.
    pub(crate) missing: Option<String>,
}

struct Last {
    offset: u64,
    class: Arc<str>,
    has_input: bool,
}

#[derive(Deserialize)]
struct Head<'a> {
    id: RowId,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    error: crate::record::FailureReason,
}

impl FailedRows {
    /// Finds the rows that are failed, of these classes or all.
    pub(crate) fn find(dir: &Path, classes: &[String], before: &Before) -> Result<Found, Error> {
        let path = dir.join("failures.jsonl");
        let mut names: HashMap<String, Arc<str>> = HashMap::new();
        let mut last: HashMap<RowId, Last> = HashMap::new();
        each_line(&path, |_, offset, line| {
            let head: Head<'_> = serde_json::from_str(line)
                .map_err(|error| format!("is no line of failures: {error}"))?;
            if before.failed.contains_key(&head.id) {
                let name = head.error.class;
                let class = names
                    .entry(name)
                    .or_insert_with_key(|name| name.as_str().into());
                let class = Arc::clone(class);
                let has_input = head.input.is_some();
                last.insert(
                    head.id,
                    Last {
                        offset,
                        class,
                        has_input,
                    },
                );
            }
            Ok(())
        })?;
        let missing = missing(dir, classes, &last);
        let is_meant =
            |row: &Last| classes.is_empty() || classes.iter().any(|class| **class == *row.class);
        let without_input = last
            .values()
            .filter(|row| is_meant(row) && !row.has_input)
            .count() as u64;
        let left = counted(last.values().filter(|row| !is_meant(row) || !row.has_input));
        last.retain(|_, row| is_meant(row) && row.has_input);
        let mut offsets: Vec<u64> = last.values().map(|row| row.offset).collect();
        offsets.sort_unstable();
        let file = match offsets[..] {
            [] => None,
            _ => Some(File::open(&path).map_err(Error::io("could not read", &path))?),
        };
        Ok(Found {
            count: offsets.len() as u64,
            without_input,
            left,
            missing,
            unjudged: last
                .keys()
                .map(|id| before.unjudged_of(*id).count() as u64)
                .sum(),
            rows: FailedRows {
                path,
                file,
                offsets: offsets.into_iter(),
            },
        })
    }

    pub(crate) fn next(&mut self) -> Result<Option<FailedRow>, Error> {
        #[derive(Deserialize)]
        struct Line {
            id: RowId,
            index: u64,
            input: Box<RawValue>,
        }
        let (Some(offset), Some(file)) = (self.offsets.next(), &self.file) else {
            return Ok(None);
        };
        let read = || -> std::io::Result<Line> {
            let line = line_at(file, offset)?;
            Ok(serde_json::from_slice(&line)?)
        };
        let Line { id, index, input } = read().map_err(Error::io("could not read", &self.path))?;
        Ok(Some(FailedRow {
            id,
            index,
            json: input,
        }))
    }
}

/// Classes that were asked for and that no failed row has, where there are others.
fn missing(dir: &Path, classes: &[String], last: &HashMap<RowId, Last>) -> Option<String> {
    let there = counted(last.values());
    let missing = classes
        .iter()
        .filter(|class| !there.iter().any(|(known, _)| known == *class));
    let missing: Vec<String> = missing.map(|class| format!("`{class}`")).collect();
    if missing.is_empty() || there.is_empty() {
        return None;
    }
    let there: Vec<String> = there
        .iter()
        .map(|(class, count)| format!("{count} x {class}"))
        .collect();
    Some(format!(
        "no failed row in {} is of class {}; there are {}",
        dir.display(),
        missing.join(" or "),
        there.join(", ")
    ))
}

/// How many there are of each class, most first.
fn counted<'a>(rows: impl Iterator<Item = &'a Last>) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for row in rows {
        *counts.entry(&row.class).or_default() += 1;
    }
    let mut counts: Vec<(String, u64)> = counts
        .into_iter()
        .map(|(class, count)| (class.to_owned(), count))
        .collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

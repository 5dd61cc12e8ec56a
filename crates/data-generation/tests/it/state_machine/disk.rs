//! What a folder holds, read as plainly as can be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

/// One line of the journal: number, row, and number of the answer.
pub(crate) type Entry = (u64, String, usize);

/// What a folder holds, read as plainly as can be.
#[derive(Default, Clone)]
pub(crate) struct Disk {
    pub(crate) results: Vec<(String, Value)>,
    /// The last line of each row that is not finished.
    pub(crate) failures: BTreeMap<String, Vec<u64>>,
    pub(crate) failure_lines: usize,
    pub(crate) journal: Vec<Entry>,
    pub(crate) holds_bytes: bool,
    /// Whether there is a run whose input is not known to be empty.
    pub(crate) had_rows: bool,
    /// Whole lines of results and journal as they stand.
    pub(crate) bytes: [Vec<u8>; 2],
}

fn whole_lines(path: &Path) -> (Vec<Value>, Vec<u8>) {
    let text = std::fs::read(path).unwrap_or_default();
    let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    // What a crash may leave at the end: a torn line, or NULs.
    if lines
        .last()
        .is_some_and(|last| serde_json::from_slice::<Value>(last).is_err())
    {
        lines.pop();
    }
    let values = lines
        .iter()
        .map(|line| serde_json::from_slice(line).unwrap());
    (values.collect(), lines.concat())
}

pub(crate) fn number_in(text: &str) -> usize {
    let (_, rest) = text.split_once("serial-").unwrap();
    rest.split('-').next().unwrap().parse().unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

impl Disk {
    pub(crate) fn read(dir: &Path) -> Disk {
        let (results, result_bytes) = whole_lines(&dir.join("result.jsonl"));
        let (failures, _) = whole_lines(&dir.join("failures.jsonl"));
        let (journal, journal_bytes) = whole_lines(&dir.join("journal.jsonl"));
        let results: Vec<_> = results
            .into_iter()
            .map(|line| (text(&line["id"]), line))
            .collect();
        let finished: BTreeSet<_> = results.iter().map(|(id, _)| id.clone()).collect();
        assert_eq!(finished.len(), results.len(), "a row is finished twice");
        let failure_lines = failures.len();
        let numbers = |line: &Value| {
            let numbers = line["answers"].as_array().unwrap().iter();
            numbers.map(|number| number.as_u64().unwrap()).collect()
        };
        let mut last: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for line in &failures {
            last.insert(text(&line["id"]), numbers(line));
        }
        last.retain(|id, _| !finished.contains(id));
        let entry = |line: Value| {
            let number = number_in(&line["body"].to_string());
            (line["seq"].as_u64().unwrap(), text(&line["row"]), number)
        };
        let journal: Vec<Entry> = journal.into_iter().map(entry).collect();
        assert!(
            journal.is_sorted_by(|a, b| a.0 < b.0),
            "numbers of the journal go down"
        );
        let numbers: BTreeSet<usize> = journal.iter().map(|entry| entry.2).collect();
        assert_eq!(
            numbers.len(),
            journal.len(),
            "an answer is in the journal twice"
        );
        let has_bytes = |name: &str| std::fs::metadata(dir.join(name)).is_ok_and(|it| it.len() > 0);
        let manifest = std::fs::read(dir.join("run.json")).ok();
        let manifest: Option<Value> = manifest.map(|text| serde_json::from_slice(&text).unwrap());
        Disk {
            had_rows: manifest.is_some_and(|manifest| manifest["input"]["rows"] != 0),
            holds_bytes: has_bytes("journal.jsonl") || has_bytes("result.jsonl"),
            results,
            failures: last,
            failure_lines,
            journal,
            bytes: [result_bytes, journal_bytes],
        }
    }

    pub(crate) fn is_finished(&self, id: &str) -> bool {
        self.results.iter().any(|(finished, _)| finished == id)
    }

    /// Answers of a row that no line rests on.
    pub(crate) fn unjudged<'a>(&'a self, id: &'a str) -> impl Iterator<Item = usize> + 'a {
        let judged = self.failures.get(id).cloned().unwrap_or_default();
        let own = self.journal.iter().filter(move |entry| entry.1 == id);
        own.filter(move |entry| !judged.contains(&entry.0))
            .map(|entry| entry.2)
    }

    /// Part of an answer is enough: what it was made with is not forgotten.
    pub(crate) fn has_answers(&self) -> bool {
        self.holds_bytes
    }
}

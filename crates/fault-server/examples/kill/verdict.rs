use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::observer::{Observer, answer};
use crate::run_files::{RunFiles, said};
use crate::{IN_FLIGHT, Outcome, ROWS, Tally};

/// What must be true in the end, whatever happened before.
pub(crate) fn judge(files: &RunFiles, observer: &Observer, tally: &Tally) -> Outcome<()> {
    let row_of_id = every_row_once_with_its_own(files)?;
    every_answer_once_for_its_row(files, observer, &row_of_id)?;
    if !files.values("failures.jsonl")?.is_empty() {
        return Err("failures.jsonl still has rows, and all are finished".into());
    }
    if tally.lost > tally.kills * IN_FLIGHT {
        return Err(format!("{} answers were lost by {} kills", tally.lost, tally.kills).into());
    }
    Ok(())
}

/// Each row stands once in the result, with its own input and an answer that it was given.
fn every_row_once_with_its_own(files: &RunFiles) -> Outcome<HashMap<String, u64>> {
    let mut row_of_id = HashMap::new();
    let mut rows = HashSet::new();
    for line in files.values("result.jsonl")? {
        let row = line["index"].as_u64().ok_or("a result without an index")?;
        let wrong = |what: &str| format!("row {row} {what}: {line}");
        if !rows.insert(row) {
            return Err(wrong("stands twice").into());
        }
        if line["input"] != serde_json::json!({ "n": row }) {
            return Err(wrong("has the input of another").into());
        }
        if row_of(text(&line["response"])) != Some(row) {
            return Err(wrong("has the answer of another").into());
        }
        let drafts = line["extracted"].as_array().map(Vec::as_slice);
        let draft = drafts.and_then(<[Value]>::first).map(text);
        if draft
            .map(|draft| format!("<draft>{draft}</draft>"))
            .as_deref()
            != Some(text(&line["response"]))
        {
            return Err(wrong("has a draft that is not in its answer").into());
        }
        let id = text(&line["id"]).to_owned();
        if row_of_id.insert(id, row).is_some() {
            return Err(wrong("has the id of another").into());
        }
    }
    match rows.len() {
        ROWS if rows.iter().all(|row| *row < ROWS as u64) => Ok(row_of_id),
        count => Err(format!("{count} rows in the result, not {ROWS}").into()),
    }
}

/// No answer is there twice, none is of another row, and no row was asked again after its good one.
fn every_answer_once_for_its_row(
    files: &RunFiles,
    observer: &Observer,
    row_of_id: &HashMap<String, u64>,
) -> Outcome<()> {
    let given: HashMap<String, u64> = observer
        .asked_ones()
        .iter()
        .map(|(row, nth)| (answer(*row, *nth), *row))
        .collect();
    let mut good = HashSet::new();
    let mut all = HashSet::new();
    let mut last = 0;
    for line in files.values("journal.jsonl")? {
        let wrong = |what: &str| format!("an answer of the journal {what}: {line}");
        let number = line["seq"].as_u64().unwrap_or_default();
        if number <= last {
            return Err(wrong("has a number that is not new").into());
        }
        last = number;
        let answer = said(&line).to_owned();
        let row = row_of_id.get(text(&line["row"])).copied();
        if row.is_none() || given.get(&answer).copied() != row {
            return Err(wrong("is not what its row was answered").into());
        }
        if answer.starts_with("<draft>") && !good.insert(row) {
            return Err(wrong("was paid for although its row had a good one").into());
        }
        if !all.insert(answer) {
            return Err(wrong("stands twice").into());
        }
    }
    // A row whose answer was torn out after its line was committed is not asked again.
    for line in files.values("result.jsonl")? {
        let answer = text(&line["response"]);
        if !all.contains(answer) && !files.was_torn_out(answer) {
            return Err(format!("no answer in the journal is under the result {line}").into());
        }
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The row at the end of an answer.
fn row_of(answer: &str) -> Option<u64> {
    let (_, row) = answer.rsplit_once("row ")?;
    row.trim_end_matches("</draft>").parse().ok()
}

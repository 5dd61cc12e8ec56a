//! What a run folder already holds: finished rows, failed rows, answers that nobody has judged yet.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::append::each_line;
use crate::error::{Error, ErrorKind};
use crate::identity::Finished;
use crate::journal::{self, at_column};
use crate::numbers::Rising;
use crate::row::{Content, RowId};
use crate::skim::Skim;
use crate::sweep::sweep;
use crate::torn;

/// The state of a run folder when a command begins.
#[derive(Default)]
pub(crate) struct Before {
    pub(crate) finished: Finished,
    /// The answers that were judged for each row that failed.
    pub(crate) failed: HashMap<RowId, Vec<u64>>,
    /// Answers that no line rests on yet, and where they stand in the journal; sorted by row, oldest first.
    pub(crate) unjudged: Vec<(RowId, u64)>,
    pub(crate) next_seq: u64,
}

/// What one stretch of the journal holds.
#[derive(Default)]
struct Answers {
    numbers: Rising,
    next_seq: u64,
    /// Those whose rows were not looked up yet.
    open: Vec<(RowId, u64)>,
    unjudged: Vec<(RowId, u64)>,
}

/// So many rows are looked up in one go: one of them need not wait until the memory has answered for the one before.
const LOOK_UPS: usize = 64;

impl Answers {
    /// Finds out on which of them lines of the dataset rest.
    fn look_up(&mut self, finished: &Finished) {
        let open = self.open.drain(..);
        self.unjudged
            .extend(open.filter(|(row, _)| !finished.contains(*row)));
    }
}

#[derive(Deserialize)]
struct ResultHead {
    id: RowId,
}

#[derive(Deserialize)]
struct FailureHead {
    id: RowId,
    answers: Vec<u64>,
}

impl Before {
    /// Reads the files of a run folder. Their ends must have been repaired before.
    pub(crate) fn load(dir: &Path) -> Result<Before, Error> {
        Before::with(dir, false)
    }

    /// The same, with every answer among the unjudged.
    pub(crate) fn load_all(dir: &Path) -> Result<Before, Error> {
        Before::with(dir, true)
    }

    fn with(dir: &Path, all_answers: bool) -> Result<Before, Error> {
        let result = dir.join("result.jsonl");
        let mut ids = Vec::new();
        sweep(
            &result,
            |ids: &mut Vec<RowId>, _, line| {
                ids.push(finished_id(line)?);
                Ok(())
            },
            |some| {
                ids.extend(some);
                Ok(())
            },
        )?;
        let (finished, doubled) = Finished::new(ids);
        if let Some(id) = doubled {
            return Err(doubled_row(&result, id));
        }

        let mut failed = HashMap::new();
        each_line(&dir.join("failures.jsonl"), |_, _, line| {
            let (id, answers) = failed_id(line)?;
            failed.insert(id, answers);
            Ok(())
        })?;
        failed.retain(|id, _| !finished.contains(*id));

        let judged: HashSet<u64> = failed.values().flatten().copied().collect();
        let mut unjudged = Vec::new();
        // A number that a failure names is taken, also where a crash has taken the answer itself: under it
        // another row's answer would count as judged.
        let mut next_seq = judged.iter().max().map_or(1, |seq| seq + 1);
        let mut numbers = Rising::default();
        sweep(
            &dir.join("journal.jsonl"),
            |answers: &mut Answers, offset, line| {
                let (seq, row) = answered_row(line)?;
                answers.numbers.next(seq)?;
                answers.next_seq = answers.next_seq.max(seq + 1);
                if all_answers {
                    answers.unjudged.push((row, offset));
                } else if !judged.contains(&seq) {
                    answers.open.push((row, offset));
                    if answers.open.len() == LOOK_UPS {
                        answers.look_up(&finished);
                    }
                }
                Ok(())
            },
            |mut answers| {
                numbers.go_on(std::mem::take(&mut answers.numbers))?;
                answers.look_up(&finished);
                next_seq = next_seq.max(answers.next_seq);
                unjudged.extend(answers.unjudged);
                Ok(())
            },
        )?;
        unjudged.sort_unstable();
        Ok(Before {
            finished,
            failed,
            unjudged,
            next_seq,
        })
    }

    /// Where the answers of a row that nobody has judged stand in the journal, oldest first.
    pub(crate) fn unjudged_of(&self, id: RowId) -> impl Iterator<Item = u64> + '_ {
        let from = self.unjudged.partition_point(|(row, _)| *row < id);
        self.unjudged[from..]
            .iter()
            .take_while(move |(row, _)| *row == id)
            .map(|(_, offset)| *offset)
    }
}

/// The row that a line of the dataset makes finished, or why it is no such line.
pub(crate) fn finished_id(line: &str) -> Result<RowId, String> {
    if let Some(id) = skim(line) {
        return Ok(id);
    }
    let head: ResultHead =
        serde_json::from_str(line).map_err(|error| no_line("a dataset", &at_column(&error)))?;
    Ok(head.id)
}

/// The row of a line of the dataset, where it is whole and as we write it.
fn skim(line: &str) -> Option<RowId> {
    let mut skim = Skim::new(line)?;
    skim.literal("{\"id\":\"")?;
    let id = RowId::from_hex(skim.ascii(32)?)?;
    skim.literal("\"")?;
    skim.ends_without(&["id"]).then_some(id)
}

/// The row that a line of failures is about and the answers that were judged for it, or why it is no such line.
pub(crate) fn failed_id(line: &str) -> Result<(RowId, Vec<u64>), String> {
    let head: FailureHead =
        serde_json::from_str(line).map_err(|error| no_line("failures", &at_column(&error)))?;
    if head.answers.iter().any(|seq| *seq >= journal::NUMBERS) {
        return Err(no_line("failures", "an answer's number is none"));
    }
    Ok((head.id, head.answers))
}

/// A line of the journal as a whole, or why it is none.
pub(crate) fn answer(line: &str) -> Result<journal::Line<'_>, String> {
    journal::Line::read(line).map_err(|what| {
        if torn::is_more_than_one(line.as_bytes()) {
            return torn::told(line.len());
        }
        format!(
            "{what}; a run with `--repair` moves the line aside and goes on without that answer"
        )
    })
}

/// Number and row of a line of the journal that can be read back, or why it cannot.
pub(crate) fn answered_row(line: &str) -> Result<(u64, RowId), String> {
    match journal::skim(line) {
        Some(head) => Ok(head),
        None => answer(line).map(|line| (line.seq, line.row)),
    }
}

fn no_line(of: &str, why: &str) -> String {
    format!(
        "is no line of {of} ({why}); a run with `--repair` moves the line aside and makes its row again from the \
         journal"
    )
}

pub(crate) fn doubled_row(path: &Path, id: RowId) -> Error {
    let mut seen = 0_u32;
    let found = each_line(path, |_, _, line| {
        let head: ResultHead = serde_json::from_str(line).map_err(|error| error.to_string())?;
        seen += u32::from(head.id == id);
        if seen == 2 {
            Err(format!(
                "the row {id} stands here for the second time; a run with `--repair` moves the second line aside"
            ))
        } else {
            Ok(())
        }
    });
    match found {
        Err(error) => error,
        Ok(()) => ErrorKind::Damaged {
            path: path.to_owned(),
            line: 0,
            what: format!("the row {id} stands twice"),
        }
        .into(),
    }
}

/// What finished rows say that the input does not have under their own number: an equal row of the
/// input may stand for each of them.
pub(crate) fn spares(
    dir: &Path,
    finished: &Finished,
) -> Result<HashMap<Content, Vec<RowId>>, Error> {
    #[derive(Deserialize)]
    struct Line<'a> {
        id: RowId,
        #[serde(borrow)]
        input: &'a RawValue,
    }
    let mut spares: HashMap<Content, Vec<RowId>> = HashMap::new();
    let mut scratch = Vec::new();
    each_line(&dir.join("result.jsonl"), |_, _, line| {
        let head: ResultHead = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if !finished.is_met(head.id) {
            let line: Line<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
            let content =
                Content::of(line.input.get(), &mut scratch).map_err(|error| error.to_string())?;
            spares.entry(content).or_default().push(line.id);
        }
        Ok(())
    })?;
    Ok(spares)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn id(byte: u8) -> RowId {
        RowId([byte; 16])
    }

    fn answer(seq: u64, row: RowId) -> String {
        format!(
            "{{\"v\":1,\"seq\":{seq},\"row\":\"{row}\",\"key\":\"k\",\"step\":\"ask\",\"attempt\":1,\"status\":200,\
             \"at\":\"2026-11-22T10:00:00.000Z\",\"latency_ms\":1,\"body\":{{}}}}\n"
        )
    }

    #[test]
    fn an_answer_is_unjudged_until_a_line_rests_on_it() {
        let dir = folder(&[
            (
                "result.jsonl",
                &format!("{{\"id\":\"{}\",\"input\":{{}}}}\n", id(1)),
            ),
            (
                "failures.jsonl",
                &format!(
                    "{{\"id\":\"{}\",\"answers\":[1]}}\n{{\"id\":\"{}\",\"answers\":[2]}}\n{{\"id\":\"{}\",\"answers\":[2,3]}}\n",
                    id(1),
                    id(2),
                    id(2)
                ),
            ),
            (
                "journal.jsonl",
                &[
                    answer(1, id(1)),
                    answer(2, id(2)),
                    answer(3, id(2)),
                    answer(4, id(2)),
                    answer(9, id(3)),
                ]
                .concat(),
            ),
        ]);
        let before = Before::load(dir.path()).unwrap();
        assert_eq!(before.finished.len(), 1);
        assert_eq!(before.failed, HashMap::from([(id(2), vec![2, 3])]));
        assert_eq!(before.next_seq, 10);
        assert_eq!(before.unjudged_of(id(2)).count(), 1);
        assert_eq!(before.unjudged_of(id(3)).count(), 1);
        assert_eq!(before.unjudged_of(id(1)).count(), 0);
    }

    #[test]
    fn a_journal_of_many_stretches_is_read_as_one() {
        let id = |n: u64| Content::of_bytes(&n.to_le_bytes()).id(0);
        let lines: Vec<String> = (1..=20_000).map(|n| answer(n, id(n))).collect();
        let is_done = |n: u64| n % 777 != 5;
        let done = (1..=20_000).filter(|n| is_done(*n));
        let result: String = done
            .map(|n| format!("{{\"id\":\"{}\"}}\n", id(n)))
            .collect();
        let read = |lines: &[String]| {
            let journal = lines.concat();
            assert!(journal.len() > 3 * 1024 * 1024);
            let dir = folder(&[("result.jsonl", &result), ("journal.jsonl", &journal)]);
            (
                Before::load(dir.path()).map_err(|error| error.to_string()),
                journal,
            )
        };
        let (before, journal) = read(&lines);
        let before = before.unwrap();
        assert_eq!((before.finished.len(), before.next_seq), (19_974, 20_001));
        assert_eq!(before.unjudged.len(), 26);
        for n in 1..=20_000 {
            let offsets: Vec<u64> = before.unjudged_of(id(n)).collect();
            assert_eq!(offsets.len(), usize::from(!is_done(n)));
            for offset in offsets {
                assert!(journal[offset as usize..].starts_with(&lines[n as usize - 1]));
            }
        }
        // An answer that stands twice is found wherever a stretch may end.
        let mut offset = 0;
        for (at, line) in lines.iter().enumerate() {
            offset += line.len();
            let is_near = |end: usize| offset.abs_diff(end) < 200;
            if is_near(1024 * 1024) || is_near(2 * 1024 * 1024) {
                let mut lines = lines.clone();
                lines.insert(at, line.clone());
                let told = read(&lines).0.err().unwrap();
                let number = format!("journal.jsonl:{}: has the number {}", at + 2, at + 1);
                assert!(told.contains(&number), "{told}");
            }
        }
    }

    #[test]
    fn the_number_of_an_answer_that_is_gone_is_not_given_again() {
        let failure = format!("{{\"id\":\"{}\",\"answers\":[7]}}\n", id(2));
        let dir = folder(&[
            ("failures.jsonl", &failure),
            ("journal.jsonl", &answer(5, id(3))),
        ]);
        assert_eq!(Before::load(dir.path()).unwrap().next_seq, 8);
    }

    #[test]
    fn an_empty_folder_holds_nothing() {
        let dir = folder(&[]);
        let before = Before::load(dir.path()).unwrap();
        assert_eq!(
            (
                before.finished.len(),
                before.unjudged.len(),
                before.next_seq
            ),
            (0, 0, 1)
        );
    }

    #[test]
    fn damage_in_the_middle_is_named_by_its_line() {
        let good = format!("{{\"id\":\"{}\"}}\n", id(1));
        for (bad, what) in [
            ("{\"id\":\n", "is no line of a dataset"),
            ("\0\0\0\n", "is no line of a dataset"),
            (good.as_str(), "for the second time"),
        ] {
            let dir = folder(&[(
                "result.jsonl",
                &format!("{good}{bad}{}", good.replace("01", "02")),
            )]);
            let error = Before::load(dir.path()).err().unwrap().to_string();
            assert!(
                error.contains("result.jsonl:2: ") && error.contains(what),
                "{error}"
            );
        }
        let good = answer(1, id(1));
        for (bad, what) in [
            (good.replace("\"v\":1", "\"v\":2"), "has version 2"),
            (good.replace("\"body\"", "\"bodi\""), "missing field `body`"),
            (good.clone(), "has the number 1 behind the number 1"),
        ] {
            let dir = folder(&[(
                "journal.jsonl",
                &[good.as_str(), &bad, &answer(2, id(2))].concat(),
            )]);
            let error = Before::load(dir.path()).err().unwrap().to_string();
            assert!(
                error.contains("journal.jsonl:2: ")
                    && error.contains(what)
                    && error.contains("`--repair`"),
                "{error}"
            );
        }
        let numberless = format!("{{\"id\":\"{}\",\"answers\":[{}]}}\n", id(1), u64::MAX);
        let dir = folder(&[("failures.jsonl", &numberless)]);
        let error = Before::load(dir.path()).err().unwrap().to_string();
        assert!(error.contains("failures.jsonl:1: "), "{error}");
    }
}

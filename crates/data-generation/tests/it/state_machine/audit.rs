//! What must be so after each command, whatever happened.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use data_generation::pipeline::ErrorKind;
use data_generation::{Error, Event, Report};
use serde_json::json;

use super::dice::{Extract, Kind};
use super::disk::{Disk, number_in};
use super::world::{Content, World};

/// Requests of one row in one command that a fault may cost: three questions (what was paid for before, the
/// first, the one after a miss) of three attempts each.
const BUDGET: usize = 9;

/// What a run tells of its rows.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) started: Vec<(String, u64)>,
    pub(crate) sent: HashMap<String, usize>,
    pub(crate) finished: BTreeSet<String>,
    pub(crate) failed: BTreeSet<String>,
}

/// A command as the model knows it.
pub(crate) struct Asked {
    pub(crate) extract: Extract,
    pub(crate) limit: Option<u64>,
    pub(crate) add: bool,
    pub(crate) fork: bool,
    pub(crate) concurrency: usize,
    /// The number of the first answer that it may have got.
    pub(crate) first: usize,
}

#[derive(Debug)]
enum Refusal {
    NothingToFork,
    Changed,
    OtherInput,
}

impl Refusal {
    fn is(&self, error: &Error) -> bool {
        let Error::Run(error) = error else {
            return false;
        };
        match self {
            Refusal::NothingToFork => error.to_string().contains("there is no run to go on with"),
            Refusal::Changed => matches!(error.kind(), ErrorKind::Changed { .. }),
            Refusal::OtherInput => matches!(error.kind(), ErrorKind::OtherInput { .. }),
        }
    }
}

impl Told {
    pub(crate) fn hear(&mut self, event: &Event<'_>) {
        match event {
            Event::RowStarted { id, index } => self.started.push((id.to_string(), *index)),
            Event::Sending { id, .. } => *self.sent.entry(id.to_string()).or_insert(0) += 1,
            Event::Finished { record } => drop(self.finished.insert(record.id.to_string())),
            Event::Failed { failure } => drop(self.failed.insert(failure.id.to_string())),
            _ => {}
        }
    }
}

fn of(row: Content) -> String {
    format!("Say {}.", row.0)
}

fn tally(rows: impl IntoIterator<Item = Content>) -> BTreeMap<Content, usize> {
    let mut tally = BTreeMap::new();
    rows.into_iter()
        .for_each(|row| *tally.entry(row).or_insert(0) += 1);
    tally
}

/// How many of one are in the other.
fn common(one: &BTreeMap<Content, usize>, other: &BTreeMap<Content, usize>) -> usize {
    let of = |(row, count): (&Content, &usize)| *count.min(other.get(row).unwrap_or(&0));
    one.iter().map(of).sum()
}

impl World {
    /// Everything that must be so, whatever happened.
    pub(crate) fn audit(
        &mut self,
        asked: &Asked,
        before: &Disk,
        dir: &Path,
        told: &Told,
        outcome: Option<Result<Report, Error>>,
    ) {
        for (id, index) in &told.started {
            let row = self.rows[*index as usize];
            assert_eq!(
                *self.known.entry(id.clone()).or_insert(row),
                row,
                "an id of two rows"
            );
        }
        let source = Disk::read(&self.dir());
        let after = Disk::read(dir);
        if asked.fork {
            assert_eq!(
                source.bytes, before.bytes,
                "the source of a fork stays as it is"
            );
        }
        // A fork begins with all answers, none of them judged, and with no line.
        let begun = match asked.fork {
            true => Disk {
                journal: before.journal.clone(),
                ..Disk::default()
            },
            false => before.clone(),
        };
        let refusal = self.refusal(asked, before, &begun);
        let report = match (&outcome, refusal) {
            (Some(Err(error)), Some(expected)) => {
                let text = error.to_string();
                assert!(expected.is(error), "{expected:?} is expected: {text}");
                assert!(told.started.is_empty());
                assert_eq!(source.bytes, before.bytes);
                return;
            }
            (Some(Err(error)), None) => panic!("it is refused: {error}"),
            (Some(Ok(_)), Some(expected)) => panic!("it is not refused: {expected:?}"),
            (None, Some(_)) => {
                assert!(told.started.is_empty(), "it began what is to be refused");
                return;
            }
            (Some(Ok(report)), None) => Some(report),
            (None, None) => None,
        };
        if !asked.fork {
            for (now, then) in after.bytes.iter().zip(&before.bytes) {
                assert!(
                    now.starts_with(then.trim_ascii_end()),
                    "a line that stood there is gone"
                );
            }
        }
        self.audit_requests(asked, &begun, told);
        self.audit_lines(asked, &begun, &after, told, report.is_some());
        self.audit_journal(asked, &after, report.is_some());
        if let Some(report) = report {
            self.audit_counts(asked, &begun, &after, told, report);
        }
    }

    /// Why the command must be refused, if it must.
    fn refusal(&self, asked: &Asked, before: &Disk, begun: &Disk) -> Option<Refusal> {
        if asked.fork {
            return (!self.dir().join("run.json").exists()).then_some(Refusal::NothingToFork);
        }
        if before.has_answers() && asked.extract != self.extract {
            return Some(Refusal::Changed);
        }
        let finished = tally(begun.results.iter().map(|(id, _)| self.known[id]));
        let is_other = common(&tally(self.rows.iter().copied()), &finished) == 0;
        let is_other = !finished.is_empty() && is_other;
        let is_gone = self.rows.is_empty() && before.had_rows;
        ((is_other || is_gone) && !asked.add).then_some(Refusal::OtherInput)
    }

    /// Nobody is asked for what is finished or paid for, nor more often than the budget allows.
    fn audit_requests(&self, asked: &Asked, begun: &Disk, told: &Told) {
        let ids: BTreeSet<&String> = told.started.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), told.started.len(), "a row is taken up twice");
        let given = self.dice.given.lock().unwrap();
        let now = &given.answers[asked.first..];
        // A pause costs a row no attempt, and what stops the run is tried once more.
        let free = now
            .iter()
            .filter(|(_, kind)| matches!(kind, Kind::Busy | Kind::BadKey));
        let free = free.count();
        for (id, sent) in &told.sent {
            assert!(!begun.is_finished(id), "{id} is asked for and was finished");
            assert!(*sent <= BUDGET + free, "{sent} requests for one row");
            let good = begun
                .unjudged(id)
                .find(|number| given.answers[*number].1.serves(asked.extract));
            assert_eq!(
                good, None,
                "{id} is asked for though an answer was paid for"
            );
        }
        for id in ids {
            assert!(!begun.is_finished(id), "{id} is taken up and was finished");
        }
    }

    /// Each line belongs to its row, its answer and its extractor.
    fn audit_lines(&self, asked: &Asked, begun: &Disk, after: &Disk, told: &Told, is_whole: bool) {
        let given = self.dice.given.lock().unwrap();
        for (id, line) in &after.results[begun.results.len()..] {
            let row = self.known[id];
            assert_eq!(
                (&line["input"]["n"], &line["input"]["v"]),
                (&json!(row.0), &json!(row.1))
            );
            let number = number_in(line["response"].as_str().unwrap());
            let (prompt, kind) = &given.answers[number];
            assert_eq!(*prompt, of(row), "the answer of another row");
            assert_eq!(line["response"], kind.text(prompt, number));
            assert!(kind.serves(asked.extract));
            let expected = asked
                .extract
                .map(|_| json!([format!("{prompt} serial-{number}-")]));
            assert_eq!(line.get("extracted"), expected.as_ref());
            let own = after
                .journal
                .iter()
                .any(|entry| entry.1 == *id && entry.2 == number);
            assert!(own, "a line rests on no answer of the journal");
        }
        for (id, judged) in &after.failures {
            let own: BTreeSet<u64> = after
                .journal
                .iter()
                .filter(|entry| entry.1 == *id)
                .map(|entry| entry.0)
                .collect();
            let judged: BTreeSet<u64> = judged.iter().copied().collect();
            assert!(
                judged.is_subset(&own),
                "a failure rests on answers that are not its own"
            );
            // What a kill has cut off may be told and not yet written.
            if is_whole && told.failed.contains(id) {
                assert_eq!(
                    judged, own,
                    "{id} failed before all of its answers were judged"
                );
            }
        }
        for entry in &after.journal {
            if let Some(row) = self.known.get(&entry.1) {
                assert_eq!(
                    given.answers[entry.2].0,
                    of(*row),
                    "an answer under another row"
                );
            }
        }
    }

    /// What was paid for is there; only a kill may lose what was in flight.
    fn audit_journal(&self, asked: &Asked, after: &Disk, is_whole: bool) {
        let kept: BTreeSet<usize> = after.journal.iter().map(|entry| entry.2).collect();
        let given = self.dice.given.lock().unwrap();
        let paid =
            (asked.first..given.answers.len()).filter(|number| given.answers[*number].1.is_paid());
        let lost = paid.filter(|number| !kept.contains(number)).count();
        let in_flight = if is_whole { 0 } else { asked.concurrency };
        assert!(lost <= in_flight, "{lost} answers are lost");
    }

    fn audit_counts(
        &self,
        asked: &Asked,
        begun: &Disk,
        after: &Disk,
        told: &Told,
        report: &Report,
    ) {
        let counts = report.counts;
        let limit = asked.limit.unwrap_or(u64::MAX).min(self.rows.len() as u64);
        assert_eq!(counts.rows, limit);
        assert_eq!(
            counts.rows,
            counts.ok + counts.failed + counts.skipped + counts.pending
        );
        assert_eq!(
            counts.ok as usize,
            after.results.len() - begun.results.len()
        );
        assert_eq!(
            (counts.ok as usize, counts.failed as usize),
            (told.finished.len(), told.failed.len())
        );
        assert_eq!(report.requests as usize, told.sent.values().sum::<usize>());
        assert_eq!(
            after.failure_lines,
            after.failures.len(),
            "a failed row stands once, a finished one not at all"
        );
        let finished = tally(begun.results.iter().map(|(id, _)| self.known[id]));
        let wanted = tally(self.rows.iter().copied());
        let matched = common(&wanted, &finished);
        if asked.limit.is_none() {
            assert_eq!(counts.skipped as usize, matched);
            assert_eq!(report.not_in_input as usize, begun.results.len() - matched);
        }
        if report.stopped.is_none() {
            assert_eq!(counts.pending, 0);
            for (id, _) in &told.started {
                assert!(
                    told.finished.contains(id) != told.failed.contains(id),
                    "{id} is neither or both"
                );
                let given = self.dice.given.lock().unwrap();
                if begun
                    .unjudged(id)
                    .any(|number| given.answers[number].1.serves(asked.extract))
                {
                    assert!(
                        after.is_finished(id),
                        "{id} was paid for and is not finished"
                    );
                }
            }
        }
        if report.stopped.is_none() && asked.limit.is_none() {
            let done = after.results.iter().map(|(id, _)| id).chain(&told.failed);
            let done = tally(done.map(|id| self.known[id]));
            assert_eq!(common(&wanted, &done), self.rows.len(), "a row is lost");
        }
    }
}

//! What a run folder says of itself, for who only looks.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::before::{answer, failed_id, finished_id};
use crate::error::{Error, ErrorKind};
use crate::identity::Finished;
use crate::journal::body_bytes;
use crate::lock;
use crate::manifest::Manifest;
use crate::numbers::Rising;
use crate::record::Usage;
use crate::row::RowId;
use crate::scan::{Scan, damaged};
use crate::swap;
use crate::torn;

/// What a run folder holds, as its files say at this moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The folder.
    pub run_dir: PathBuf,
    /// What it was made with, and by which commands.
    pub manifest: Manifest,
    /// How it stands.
    pub state: State,
    /// Rows in the dataset.
    pub ok: u64,
    /// Rows that are failed.
    pub failed: u64,
    /// Rows of the last input that are neither, or of those of it that the last run takes; `None` where nobody knows
    /// how many it has. While a run works, and after a kill, finished rows that its input does not have are taken for rows of it.
    pub pending: Option<u64>,
    /// Failed rows by class, most first.
    pub classes: Vec<(String, u64)>,
    /// What is said of failed rows, numbers as `N`; the three most common.
    pub messages: Vec<(String, u64)>,
    /// Answers in the journal.
    pub answers: u64,
    /// Answers that no line rests on: the next run judges them.
    pub unjudged: u64,
    /// Answers to a row's second request or a later one.
    pub re_asks: u64,
    /// Tokens of all prompts; a guess for answers that do not tell.
    pub prompt_tokens: u64,
    /// Tokens of all answers; a guess for those that do not tell.
    pub completion_tokens: u64,
    /// Answers that do not tell their tokens.
    pub untold: u64,
    /// How long requests took that were answered; `None` where none was.
    pub latencies: Option<Latencies>,
    /// Whether new files wait to be put in their places: who opens the folder next does it.
    pub put_in_place: bool,
    /// Bad lines, each with file, line and what is wrong; the first 20.
    pub damage: Vec<String>,
    /// How many bad lines there are.
    pub damaged_lines: u64,
    /// Files whose last line was torn by a crash: who opens the folder next mends them.
    pub torn: Vec<PathBuf>,
}

/// How a run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// A process works on it.
    Running {
        /// Which, as it wrote it down.
        holder: String,
    },
    /// The last input was worked through; rows may have failed, and a later command on rows of the folder may have
    /// been stopped.
    Finished,
    /// It stopped before the end of its input.
    Stopped {
        /// Why.
        why: String,
    },
    /// A command was killed, or the machine was switched off.
    Killed,
}

/// Milliseconds from sending to last byte; that many or less took this share of the answered requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latencies {
    /// Half of them.
    pub median_ms: u64,
    /// 95 of 100.
    pub p95_ms: u64,
    /// 99 of 100.
    pub p99_ms: u64,
    /// All of them together.
    pub sum_ms: u64,
}

/// Looks at a run folder, whether or not somebody works on it. Each file is read through once; memory grows with
/// the rows by some 16 bytes, with the answers by four, and with the failed rows by what they need. Blocks.
///
/// `tokens` reads what the body of an answer says of its cost, or guesses it; it is given what was guessed of the
/// prompt where the answer does not say.
///
/// ```
/// use data_generation_pipeline_core::{State, Usage, status};
/// # use data_generation_pipeline_core::{Place, Run, Source, Workflow};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let dir = tempfile::tempdir().unwrap();
/// # let place = Place { output_dir: dir.path().into(), experiment_name: "demo".into(), need_time_stamp: false };
/// # let report = Run::new(place, Source::rows([serde_json::json!({"n": 1})]), Workflow::new()).execute().await?;
/// let status = status(&report.run_dir, |_body, _prompt_guess| Usage::default())?;
/// assert_eq!((status.ok, status.failed, status.pending), (1, 0, Some(0)));
/// assert_eq!(status.state, State::Finished);
/// # Ok::<(), data_generation_pipeline_core::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// When it is no run folder, or a file cannot be read. Damaged lines are no error: they are in
/// [`Status::damage`].
pub fn status(
    dir: &Path,
    tokens: impl FnMut(&[u8], Option<u64>) -> Usage,
) -> Result<Status, Error> {
    let manifest = Manifest::of_run(dir)?;
    let holder = lock::holder(dir)?;
    let mut look = Look {
        damage: Damage::default(),
        holder,
    };
    let finished = look.finished(&swap::current(dir, &manifest, "result.jsonl"))?;
    let failures = look.failures(&swap::current(dir, &manifest, "failures.jsonl"), &finished)?;
    let answers = look.answers(&dir.join("journal.jsonl"), &finished, &failures, tokens)?;
    let Look { damage, holder } = look;

    let (ok, failed) = (finished.len(), failures.last.len() as u64);
    Ok(Status {
        run_dir: dir.to_owned(),
        state: state(&manifest, holder),
        ok,
        failed,
        pending: pending(&manifest, ok, failed),
        classes: failures.classes(),
        messages: failures.messages(),
        answers: answers.count,
        unjudged: answers.unjudged,
        re_asks: answers.re_asks,
        prompt_tokens: answers.prompt_tokens,
        completion_tokens: answers.completion_tokens,
        untold: answers.untold,
        latencies: latencies(answers.latencies),
        put_in_place: !manifest.put_in_place.is_empty(),
        manifest,
        damage: damage.first,
        damaged_lines: damage.lines,
        torn: damage.torn,
    })
}

fn state(manifest: &Manifest, holder: Option<String>) -> State {
    if let Some(holder) = holder {
        return State::Running { holder };
    }
    let through = manifest.last_through_an_input();
    let last = manifest.commands.last();
    let killed = |command: Option<&crate::manifest::Command>| {
        command.is_none_or(|command| command.ended.is_none())
    };
    let why = |command: Option<&crate::manifest::Command>| command?.stopped.clone();
    if killed(through) || killed(last) {
        State::Killed
    } else if let Some(why) = why(through) {
        State::Stopped { why }
    } else {
        State::Finished
    }
}

/// Rows of the last input that are neither finished nor failed; `None` where nobody knows.
pub(crate) fn pending(manifest: &Manifest, ok: u64, failed: u64) -> Option<u64> {
    let ended = manifest
        .last_through_an_input()
        .is_some_and(|command| command.ended.is_some());
    if ended {
        let counts = manifest.counts;
        // Lines that were there then and are not now are of rows that are to be made again.
        let had = counts.ok + counts.skipped + counts.failed;
        return Some(counts.pending + had.saturating_sub(ok + failed));
    }
    let through = manifest.last_through_an_input();
    let takes = through.and_then(|command| command.takes);
    let rows = takes.unwrap_or(manifest.input.rows?);
    Some(rows.saturating_sub(ok + failed))
}

fn latencies(mut all: Vec<u32>) -> Option<Latencies> {
    let sum_ms = all.iter().map(|ms| u64::from(*ms)).sum();
    let last = all.len().checked_sub(1)?;
    let mut at = |share: f64| {
        let rank = ((last + 1) as f64 * share).ceil() as usize;
        let (_, ms, _) = all.select_nth_unstable(rank.clamp(1, last + 1) - 1);
        u64::from(*ms)
    };
    Some(Latencies {
        median_ms: at(0.5),
        p95_ms: at(0.95),
        p99_ms: at(0.99),
        sum_ms,
    })
}

/// Bad lines, met on the way.
#[derive(Default)]
struct Damage {
    first: Vec<String>,
    lines: u64,
    torn: Vec<PathBuf>,
}

const TOLD: usize = 20;

/// One look at the files.
struct Look {
    damage: Damage,
    holder: Option<String>,
}

impl Look {
    /// Shows every whole line to `each`; what it refuses is noted as damage.
    fn lines(
        &mut self,
        path: &Path,
        mut each: impl FnMut(&str) -> Result<(), String>,
    ) -> Result<(), Error> {
        let Some(mut lines) = Scan::open(path)? else {
            return Ok(());
        };
        while let Some(line) = lines.next()? {
            let judged = line.text().and_then(&mut each);
            match judged {
                Ok(()) => {}
                // Half a line at the end is being written, or was when the machine stopped.
                Err(_) if !line.ended && self.holder.is_some() => {}
                Err(_)
                    if !line.ended
                        && torn::is_more_than_one(line.bytes)
                        && path.ends_with("journal.jsonl") =>
                {
                    let what = torn::told(line.bytes.len());
                    self.damaged(&damaged(path, line.number, what));
                }
                Err(_) if !line.ended => self.damage.torn.push(path.to_owned()),
                Err(what) => self.damaged(&damaged(path, line.number, what)),
            }
        }
        Ok(())
    }

    fn damaged(&mut self, error: &Error) {
        self.damage.lines += 1;
        if self.damage.first.len() < TOLD {
            self.damage.first.push(error.to_string());
        }
    }

    fn finished(&mut self, path: &Path) -> Result<Finished, Error> {
        let mut ids = Vec::new();
        self.lines(path, |line| {
            ids.push(finished_id(line)?);
            Ok(())
        })?;
        ids.sort_unstable();
        let lines = ids.len();
        ids.dedup();
        let doubled = lines - ids.len();
        if doubled > 0 {
            let what = match doubled {
                1 => "1 line stands here for a row that another line has; a run with `--repair` moves it aside".to_owned(),
                _ => format!(
                    "{doubled} lines stand here for rows that another line has; a run with `--repair` moves them aside"
                ),
            };
            self.damaged(
                &ErrorKind::Damaged {
                    path: path.to_owned(),
                    line: 0,
                    what,
                }
                .into(),
            );
        }
        Ok(Finished::new(ids).0)
    }

    fn failures(&mut self, path: &Path, finished: &Finished) -> Result<Failures, Error> {
        #[derive(Deserialize)]
        struct Line {
            error: crate::record::FailureReason,
        }
        let mut failures = Failures::default();
        self.lines(path, |line| {
            let (id, answers) = failed_id(line)?;
            if finished.contains(id) {
                return Ok(());
            }
            let Line { error } = serde_json::from_str(line)
                .map_err(|error| format!("is no line of failures: {error}"))?;
            let class = failures.names.number(error.class);
            let message = failures.said.number(unified(&error.message));
            failures.last.insert(id, (class, message, answers));
            Ok(())
        })?;
        Ok(failures)
    }

    fn answers(
        &mut self,
        path: &Path,
        finished: &Finished,
        failures: &Failures,
        mut tokens: impl FnMut(&[u8], Option<u64>) -> Usage,
    ) -> Result<Answers, Error> {
        let judged: HashSet<u64> = failures
            .last
            .values()
            .flat_map(|(_, _, answers)| answers)
            .copied()
            .collect();
        let (mut seen, mut numbers) = (Answers::default(), Rising::default());
        self.lines(path, |line| {
            let answer = answer(line)?;
            numbers.next(answer.seq)?;
            seen.count += 1;
            seen.re_asks += u64::from(answer.attempt > 1);
            seen.unjudged +=
                u64::from(!judged.contains(&answer.seq) && !finished.contains(answer.row));
            seen.latencies
                .push(u32::try_from(answer.latency_ms).unwrap_or(u32::MAX));
            let usage = tokens(&body_bytes(answer.body)?, answer.prompt_guess);
            seen.prompt_tokens = seen.prompt_tokens.saturating_add(usage.prompt_tokens);
            seen.completion_tokens = seen
                .completion_tokens
                .saturating_add(usage.completion_tokens);
            seen.untold += u64::from(usage.estimated);
            Ok(())
        })?;
        Ok(seen)
    }
}

#[derive(Default)]
struct Answers {
    count: u64,
    unjudged: u64,
    re_asks: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    untold: u64,
    latencies: Vec<u32>,
}

/// The failed rows: for each the numbers of class and message, and the answers that were judged for it.
#[derive(Default)]
struct Failures {
    last: HashMap<RowId, (u32, u32, Vec<u64>)>,
    names: Texts,
    said: Texts,
}

impl Failures {
    fn classes(&self) -> Vec<(String, u64)> {
        self.names
            .counted(self.last.values().map(|(class, _, _)| *class))
    }

    fn messages(&self) -> Vec<(String, u64)> {
        let mut messages = self
            .said
            .counted(self.last.values().map(|(_, message, _)| *message));
        messages.truncate(3);
        messages
    }
}

/// Texts that come again and again, by number.
#[derive(Default)]
struct Texts {
    numbers: HashMap<String, u32>,
    texts: Vec<String>,
}

/// Of so many different texts none is common; further ones are told together.
const DIFFERENT: usize = 10_000;
const OTHERS: &str = "others";

impl Texts {
    fn number(&mut self, text: String) -> u32 {
        let text = if self.texts.len() < DIFFERENT || self.numbers.contains_key(&text) {
            text
        } else {
            OTHERS.to_owned()
        };
        let next = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(text).or_insert_with_key(|text| {
            self.texts.push(text.clone());
            next
        })
    }

    /// How often each comes among the numbers, most first.
    fn counted(&self, numbers: impl Iterator<Item = u32>) -> Vec<(String, u64)> {
        let mut counts = vec![0_u64; self.texts.len()];
        numbers.for_each(|number| counts[number as usize] += 1);
        let mut counted: Vec<(String, u64)> = self.texts.iter().cloned().zip(counts).collect();
        counted.retain(|(_, count)| *count > 0);
        counted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counted
    }
}

/// Letters of a message that are looked at.
const MESSAGE: usize = 200;

/// A message with every number as `N`, so that those that differ in nothing else are one.
fn unified(message: &str) -> String {
    let mut text = String::new();
    let mut in_number = false;
    for letter in message.chars().take(MESSAGE) {
        let digit = letter.is_ascii_digit();
        if !digit {
            text.push(letter);
        } else if !in_number {
            text.push('N');
        }
        in_number = digit;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_differ_in_numbers_alone_are_one() {
        assert_eq!(
            unified("request 12 of 3 took 1.5 s"),
            "request N of N took N.N s"
        );
        assert_eq!(unified(&"é".repeat(300)).chars().count(), MESSAGE);
    }

    #[test]
    fn shares_of_latencies_are_those_of_the_nearest_rank() {
        assert_eq!(latencies(Vec::new()), None);
        let of = |all: Vec<u32>| {
            let Latencies {
                median_ms,
                p95_ms,
                p99_ms,
                sum_ms,
            } = latencies(all).unwrap();
            [median_ms, p95_ms, p99_ms, sum_ms]
        };
        assert_eq!(of(vec![7]), [7, 7, 7, 7]);
        assert_eq!(of((1..=100).rev().collect()), [50, 95, 99, 5050]);
        assert_eq!(of(vec![3, 1, 2]), [2, 3, 3, 6]);
    }

    #[test]
    fn too_many_different_texts_are_told_together() {
        let mut texts = Texts::default();
        let numbers: Vec<u32> = (0..DIFFERENT + 5)
            .map(|n| texts.number(n.to_string()))
            .collect();
        let counted = texts.counted(numbers.into_iter());
        assert_eq!(counted[0], (OTHERS.to_owned(), 5));
        assert_eq!(counted.len(), DIFFERENT + 1);
    }
}

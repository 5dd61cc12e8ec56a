//! Judging again what was answered: the dataset made once more from the journal, without a request.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::before::Before;
use crate::clock::RowClock;
use crate::disk::Disk;
use crate::error::Error;
use crate::files::Files;
use crate::folder::RunFolder;
use crate::line::push_line;
use crate::manifest::{Manifest, Setting};
use crate::place::Target;
use crate::record::{Answered, Failure, FailureReason, Record, timestamp};
use crate::repair;
use crate::report::Counts;
use crate::row::{Row, RowId};
use crate::scan::{Scan, damaged};
use crate::shared::Shared;
use crate::step::{Draft, StepContext, StepError, Workflow};
use crate::stop::StopHandle;
use crate::swap::{self, NewFiles};
use crate::unjournaled::UnderWay;
use crate::work;
use crate::writer::WriterHandle;

/// A finished or stopped run whose lines are to be made again from its journal, as with another extractor.
///
/// Of each row that has a line, the journaled answers are judged in their order: the first good one makes its
/// line in the dataset, and where none is good the row is failed. Nothing is sent. A failed row of which no
/// answer comes past the first step keeps its line: nothing else could be said of it. Answers of rows
/// without a line are left to the next run.
///
/// Where the journal has lost the answer that a line of the dataset rests on, the line has what the first step made of
/// it, and what comes after that step is done with that.
///
/// Files and manifest change at one moment: a kill leaves all as it was or all as it will be.
pub struct Rejudge {
    disk: Disk,
    folder: RunFolder,
    manifest: Manifest,
}

/// What judging again came to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rejudged {
    /// The run's folder.
    pub run_dir: PathBuf,
    /// Rows that have a line.
    pub rows: u64,
    /// Rows in the dataset now.
    pub ok: u64,
    /// Rows that are failed now.
    pub failed: u64,
    /// Rows that were failed and are in the dataset now.
    pub recovered: u64,
    /// Rows that were in the dataset and are failed now.
    pub lost: u64,
    /// Failed rows that kept their line, because no answer of theirs comes so far as to be judged anew.
    pub kept: u64,
    /// Rows that were judged by the text in their lines, because the journal does not hold their answers.
    pub from_lines: u64,
    /// Where there are such rows: the files of the folder to which `--repair` moved damaged lines.
    pub aside: Vec<PathBuf>,
    /// Answers of rows that have no line yet: the next run judges them.
    pub unjudged: u64,
    /// What was done to torn ends of files.
    pub repairs: Vec<String>,
    /// From start to end.
    pub wall: Duration,
}

/// What a line of the dataset or of the failures says of its row.
#[derive(Deserialize)]
struct Head<'a> {
    id: RowId,
    index: u64,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

/// What of a failure outlives another judgement.
#[derive(Deserialize)]
struct OldFailure {
    response: Option<String>,
    attempts: u32,
    timestamp: String,
    answered: Option<Box<Answered>>,
}

/// What the first step made of an answer that the journal has lost.
struct Said {
    response: String,
    answered: Answered,
}

impl From<Record> for Said {
    fn from(record: Record) -> Said {
        Said {
            response: record.response,
            answered: Answered {
                model: record.model,
                finish_reason: record.finish_reason,
                usage: record.usage,
                attempts: record.attempts,
                latency_ms: record.latency_ms,
                timestamp: record.timestamp,
                reasoning: record.reasoning,
                warnings: record.warnings,
                offline: record.offline,
            },
        }
    }
}

impl Said {
    fn draft(&self) -> Draft {
        let answered = self.answered.clone();
        let at = answered.timestamp.parse::<jiff::Timestamp>().ok();
        Draft {
            response: self.response.clone(),
            extracted: None,
            model: answered.model,
            finish_reason: answered.finish_reason,
            usage: answered.usage,
            latency_ms: answered.latency_ms,
            at: at.map(SystemTime::from),
            attempts: answered.attempts,
            reasoning: answered.reasoning,
            warnings: answered.warnings,
            offline: answered.offline,
        }
    }
}

enum Judged {
    Good(Vec<u8>),
    Bad(Failure),
    /// Nothing came past the first step: the numbers of the answers that there were.
    Nothing {
        answers: Vec<u64>,
    },
}

impl Rejudge {
    /// Opens a run folder: it is locked from here on.
    ///
    /// # Errors
    ///
    /// When it is no run folder, another process works on it, or its manifest cannot be read.
    pub fn open(dir: &Path) -> Result<Rejudge, Error> {
        Rejudge::open_on(Disk::default(), dir)
    }

    pub(crate) fn open_on(disk: Disk, dir: &Path) -> Result<Rejudge, Error> {
        Manifest::of_run(dir)?;
        let folder = RunFolder::open(&disk, &Target::Folder(dir.to_owned()))?;
        // Only now is it certain that nobody changes it.
        let manifest = Manifest::of_run(dir).map_err(|error| error.in_run(dir))?;
        Ok(Rejudge {
            disk,
            folder,
            manifest,
        })
    }

    /// What the folder was made with.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Judges all rows with these steps. `extract` names the extractor in what makes the dataset one;
    /// `settings` and `command` go into the manifest; `progress` hears every now and then how many rows are done.
    ///
    /// Reads and writes files on the task that polls it.
    ///
    /// # Errors
    ///
    /// When a file is damaged, cannot be read or written: nothing is changed then.
    pub async fn judge(
        self,
        workflow: &Workflow,
        extract: &str,
        settings: BTreeMap<String, Setting>,
        command: Value,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Rejudged, Error> {
        let (disk, dir) = (self.disk.clone(), self.folder.dir().to_owned());
        self.judge_in(&dir, workflow, extract, settings, command, progress)
            .await
            .map_err(|error| {
                swap::discard(&disk, &dir);
                error.in_run(&dir)
            })
    }

    async fn judge_in(
        mut self,
        dir: &Path,
        workflow: &Workflow,
        extract: &str,
        settings: BTreeMap<String, Setting>,
        command: Value,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Rejudged, Error> {
        let began = Instant::now();
        let same = self.manifest.dataset.get("extract").and_then(Value::as_str) == Some(extract);
        let old_counts = self.manifest.counts;
        self.manifest.begin_with_rows(settings, command);
        self.manifest
            .dataset
            .insert("extract".to_owned(), Value::from(extract));

        let disk = self.disk.clone();
        let files = Files::open(&disk, dir)?;
        let before = Before::load_all(dir)?;
        let shared = Shared::new(
            WriterHandle::reading(&files.journal),
            Vec::new(),
            StopHandle::new(),
            None,
            began,
        );
        let mut pass = Pass {
            shared: &shared,
            workflow,
            same,
            last: last_failures(dir, &before)?,
            new: NewFiles::create(&disk, dir)?,
            done: Rejudged {
                run_dir: dir.to_owned(),
                rows: 0,
                ok: 0,
                failed: 0,
                recovered: 0,
                lost: 0,
                kept: 0,
                from_lines: 0,
                aside: Vec::new(),
                unjudged: unjudged(&before),
                repairs: files.repairs.clone(),
                wall: Duration::ZERO,
            },
            before,
            progress,
        };
        pass.finished_rows(&dir.join("result.jsonl")).await?;
        pass.failed_rows(&dir.join("failures.jsonl")).await?;
        let Pass { new, mut done, .. } = pass;
        if done.from_lines > 0 {
            done.aside = repair::moved_aside(dir).map_err(Error::io("could not read", dir))?;
        }

        self.manifest.put_in_place = new.sync(&disk, dir)?;
        self.manifest.counts = old_counts;
        self.manifest.counts.shift(done.recovered, done.lost);
        self.manifest.end_with(
            Counts {
                rows: done.rows,
                ok: done.ok,
                failed: done.failed,
                ..Counts::default()
            },
            None,
        );
        // From here on the new files count.
        self.manifest.write(&disk, dir)?;
        swap::complete(&disk, dir)?;
        done.wall = began.elapsed();
        Ok(done)
    }
}

/// The last line of each row that is failed.
fn last_failures(dir: &Path, before: &Before) -> Result<HashMap<RowId, u64>, Error> {
    let mut last = HashMap::new();
    crate::append::each_line(&dir.join("failures.jsonl"), |number, _, line| {
        let (id, _) = crate::before::failed_id(line)?;
        if before.failed.contains_key(&id) {
            last.insert(id, number);
        }
        Ok(())
    })?;
    Ok(last)
}

/// Answers of rows that have no line.
fn unjudged(before: &Before) -> u64 {
    let without_line = |(row, _): &&(RowId, u64)| {
        !before.finished.contains(*row) && !before.failed.contains_key(row)
    };
    before.unjudged.iter().filter(without_line).count() as u64
}

/// One pass over the lines of a run.
struct Pass<'a> {
    shared: &'a Shared,
    workflow: &'a Workflow,
    /// Whether the extractor is the one that the lines were made with.
    same: bool,
    before: Before,
    last: HashMap<RowId, u64>,
    new: NewFiles,
    done: Rejudged,
    progress: &'a mut (dyn FnMut(u64) + Send),
}

/// Rows between two words on how far it is; an extractor may take its time for each.
const TOLD_EVERY: u64 = 16;

impl<'a> Pass<'a> {
    async fn finished_rows(&mut self, path: &Path) -> Result<(), Error> {
        let Some(mut lines) = Scan::open(path)? else {
            return Ok(());
        };
        while let Some(line) = lines.next()? {
            let number = line.number;
            let text = line.text().map_err(|what| damaged(path, number, what))?;
            let row = read_row(text).map_err(|what| damaged(path, number, what))?;
            let Some(row) = row else {
                let what = "has no `input`, so its row cannot be made again".to_owned();
                return Err(damaged(path, number, what));
            };
            let judged = match self.judge(&row).await? {
                good @ Judged::Good(_) => good,
                other => {
                    let record: Record = serde_json::from_str(text).map_err(|error| {
                        let what = format!("is no line of a dataset: {error}");
                        damaged(path, number, what)
                    })?;
                    if self.journal_holds(&record)? {
                        other
                    } else {
                        self.by_its_line(&row, record.into(), other).await?
                    }
                }
            };
            match judged {
                Judged::Good(line) => self.good(&line)?,
                Judged::Bad(failure) => {
                    self.done.lost += 1;
                    self.bad(&failure)?;
                }
                Judged::Nothing { answers } => {
                    let answers = answers.len();
                    let what = format!(
                        "the journal holds {answers} answers to this row and none of them is good, so the line \
                         cannot be made again; put the journal back that belongs to it"
                    );
                    return Err(damaged(path, number, what));
                }
            }
        }
        Ok(())
    }

    /// Whether the journal has the answer that a line rests on.
    fn journal_holds(&self, record: &Record) -> Result<bool, Error> {
        for offset in self.before.unjudged_of(record.id) {
            let entry = self.shared.writer.read_back(offset);
            let journal = self.done.run_dir.join("journal.jsonl");
            let answer = entry
                .map_err(Error::io("could not read back", &journal))?
                .answer;
            if answer.attempt == record.attempts
                && answer.latency == Duration::from_millis(record.latency_ms)
                && timestamp(answer.at) == record.timestamp
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Judges a row by what a line holds of its lost answer, after the answers that the journal does hold. Of more than
    /// two steps nobody knows which of them the line shows.
    async fn by_its_line(
        &mut self,
        row: &Row,
        said: Said,
        judged: Judged,
    ) -> Result<Judged, Error> {
        let answers = match judged {
            Judged::Good(_) => return Ok(judged),
            _ if self.workflow.steps.len() > 2 => return Ok(judged),
            Judged::Bad(failure) => failure.answers,
            Judged::Nothing { answers } => answers,
        };
        self.done.from_lines += 1;
        let mut draft = said.draft();
        let mut cx = self.context(row.id, VecDeque::new());
        let outcome = work::through(self.workflow, 1, row, &mut draft, &mut cx).await;
        match outcome {
            Ok(()) => {
                let mut line = Vec::new();
                let record = Record {
                    timestamp: said.answered.timestamp,
                    ..work::record(row.clone(), draft, 0)
                };
                push_line(&mut line, &record).expect("a record is JSON");
                Ok(Judged::Good(line))
            }
            Err(
                StepError::Fail { class, message, .. } | StepError::Again { class, message, .. },
            ) => Ok(Judged::Bad(Failure {
                id: row.id,
                index: row.index,
                input: Some(row.json.clone()),
                error: FailureReason { class, message },
                response: Some(said.response),
                answers,
                attempts: said.answered.attempts,
                timestamp: timestamp(SystemTime::now()),
                answered: Some(Box::new(said.answered)),
            })),
            Err(StepError::Stopped) => Err(self.stopped(None)),
            Err(StepError::Stop { message, .. }) => Err(self.stopped(Some(message))),
        }
    }

    fn context(&self, row: RowId, replays: VecDeque<u64>) -> StepContext<'a> {
        StepContext {
            shared: self.shared,
            row,
            step: "",
            requests: AtomicU32::new(0),
            answers: Mutex::new(Vec::new()),
            replays: Mutex::new(replays),
            may_send: false,
            furthest: 0,
            clock: RowClock::new(&self.shared.clock),
            under_way: UnderWay::new(&self.shared.unjournaled),
        }
    }

    async fn failed_rows(&mut self, path: &Path) -> Result<(), Error> {
        let Some(mut lines) = Scan::open(path)? else {
            return Ok(());
        };
        while let Some(line) = lines.next()? {
            let number = line.number;
            let text = line.text().map_err(|what| damaged(path, number, what))?;
            let broken = |what: String| damaged(path, number, what);
            let (id, _) = crate::before::failed_id(text).map_err(broken)?;
            if self.last.get(&id) != Some(&number) {
                continue;
            }
            let old: OldFailure = serde_json::from_str(text)
                .map_err(|error| broken(format!("is no line of failures: {error}")))?;
            let judged = match read_row(text).map_err(broken)? {
                Some(row) => {
                    let judged = self.judge(&row).await?;
                    match (old.response, old.answered) {
                        (Some(response), Some(answered)) => {
                            let answered = *answered;
                            let said = Said { response, answered };
                            self.by_its_line(&row, said, judged).await?
                        }
                        _ => judged,
                    }
                }
                // Too large to be held, or no JSON: it was never asked.
                None => Judged::Nothing {
                    answers: Vec::new(),
                },
            };
            match judged {
                Judged::Good(line) => {
                    self.done.recovered += 1;
                    self.good(&line)?;
                }
                Judged::Bad(failure) if !self.same => {
                    self.bad(&Failure {
                        attempts: old.attempts,
                        timestamp: old.timestamp,
                        ..failure
                    })?;
                }
                // The same extractor says the same again, and the line may know more: what no answer came to.
                Judged::Bad(_) => self.keep(text)?,
                Judged::Nothing { .. } => {
                    self.done.kept += 1;
                    self.keep(text)?;
                }
            }
        }
        Ok(())
    }

    /// Judges the answers of a row until one is good.
    async fn judge(&mut self, row: &Row) -> Result<Judged, Error> {
        let mut cx = self.context(row.id, self.before.unjudged_of(row.id).collect());
        loop {
            let mut draft = Draft::default();
            let outcome = work::through(self.workflow, 0, row, &mut draft, &mut cx).await;
            let (class, message, response) = match outcome {
                Ok(()) => {
                    let requests = cx.requests.load(Ordering::Relaxed);
                    let mut line = Vec::new();
                    push_line(&mut line, &work::record(row.clone(), draft, requests))
                        .expect("a record is JSON");
                    return Ok(Judged::Good(line));
                }
                Err(
                    StepError::Fail {
                        class,
                        message,
                        response,
                    }
                    | StepError::Again {
                        class,
                        message,
                        response,
                    },
                ) => (class, message, response),
                Err(StepError::Stopped) => return Err(self.stopped(None)),
                Err(StepError::Stop { message, .. }) => return Err(self.stopped(Some(message))),
            };
            // A step that gives up at one answer leaves the others, and they are paid for.
            if cx.has_replays() {
                continue;
            }
            let answers = cx.answers.into_inner();
            let answers = answers.unwrap_or_else(PoisonError::into_inner);
            if cx.furthest == 0 {
                return Ok(Judged::Nothing { answers });
            }
            return Ok(Judged::Bad(Failure {
                id: row.id,
                index: row.index,
                input: Some(row.json.clone()),
                error: FailureReason { class, message },
                response,
                attempts: cx.requests.load(Ordering::Relaxed),
                answers,
                timestamp: timestamp(SystemTime::now()),
                answered: None,
            }));
        }
    }

    fn stopped(&self, message: Option<String>) -> Error {
        let reason = self.shared.stop.reason().map(|reason| reason.message);
        let message = reason.or(message);
        Error::usage(message.unwrap_or_else(|| "a step stopped".to_owned()))
    }

    fn good(&mut self, line: &[u8]) -> Result<(), Error> {
        self.done.ok += 1;
        self.tell();
        self.new.result.write(line)
    }

    fn bad(&mut self, failure: &Failure) -> Result<(), Error> {
        let mut line = Vec::new();
        push_line(&mut line, failure).expect("a failure is JSON");
        self.fail(&line)
    }

    fn keep(&mut self, line: &str) -> Result<(), Error> {
        self.fail(format!("{line}\n").as_bytes())
    }

    fn fail(&mut self, line: &[u8]) -> Result<(), Error> {
        self.done.failed += 1;
        self.tell();
        self.new.failures.write(line)
    }

    fn tell(&mut self) {
        self.done.rows += 1;
        if self.done.rows.is_multiple_of(TOLD_EVERY) {
            (self.progress)(self.done.rows);
        }
    }
}

/// The row of a line; `None` where the line does not hold it.
fn read_row(line: &str) -> Result<Option<Row>, String> {
    let head: Head<'_> =
        serde_json::from_str(line).map_err(|error| format!("is no line of a run: {error}"))?;
    Ok(head.input.map(|input| Row {
        id: head.id,
        index: head.index,
        json: input.to_owned(),
    }))
}

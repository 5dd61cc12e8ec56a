//! One command's work on a run folder, from the first look to the last line.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::breaker::Breaker;
use crate::check::Check;
use crate::disk::Disk;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Observer};
use crate::failures;
use crate::folder::RunFolder;
use crate::fork::is_bare_copy;
use crate::look::{Look, Looked, blocking};
use crate::manifest::{Manifest, Setting};
use crate::past::Past;
use crate::place::{Place, Start, Target, has_answers};
use crate::report::{Counts, Left, Report};
use crate::shared::Shared;
use crate::source::Source;
use crate::status;
use crate::step::Workflow;
use crate::stop::StopHandle;
use crate::times::Times;
use crate::work::Work;
use crate::writer::Writer;

/// When an answer is safe from a power loss, and not only from the end of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// With the next commit, [`RunOptions::sync_every`] after it came: answers of that time share one sync, and
    /// a power loss may take them.
    #[default]
    Group,
    /// Before anything is made of it. Answers that wait together share one sync; a row keeps its place until
    /// its own has ended.
    Each,
}

/// How a run works; every value has a default that suits most (it stands in brackets).
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Rows at work at the same time (5), at most where a step has a [say](crate::Step::places); those that
    /// [step aside](crate::StepContext::step_aside) do not count, up to as many again or three.
    pub concurrency: NonZeroUsize,
    /// Only the first so many rows of the input, done or not (all).
    pub limit: Option<u64>,
    /// Bytes of a row's line at most (64 MiB); a longer row fails, class `row_too_large`, without being held.
    pub max_row_bytes: usize,
    /// No further row is taken up while those at work hold so many bytes of JSON or more (256 MiB): together
    /// they hold at most one row more than that.
    pub bytes_in_flight: u64,
    /// How long the first answer or line that waits for a commit waits for it at most (200 ms); a commit that
    /// is under way is waited for too.
    pub sync_every: Duration,
    /// When an answer is safe from a power loss ([`Durability::Group`]).
    pub durability: Durability,
    /// Rows that do not fit fail alone, class `invalid_row`, where else nothing would be sent (no).
    pub skip_invalid: bool,
    /// The run stops when the first so many rows all fail alike, or half of the last hundred: same class, same
    /// message but for numbers (20). Rows that failed in an earlier command, or that cannot be asked at all, do
    /// not count. `None`: it goes on to the end of the input.
    pub stop_on_failures: Option<NonZeroU32>,
    /// Classes of failures that are about one answer (none): of these, only the first rows count.
    pub of_one_answer: Vec<String>,
    /// The input may have none of the rows that the folder has finished (no).
    pub add: bool,
    /// Bad lines of the folder's files are moved aside, to `.damaged-<time>.jsonl`, and their rows made again, from the
    /// journal where their answers are still there (no: a bad line is refused).
    pub repair: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions {
            concurrency: NonZeroUsize::new(5).expect("5 is not 0"),
            limit: None,
            max_row_bytes: 64 * 1024 * 1024,
            bytes_in_flight: 256 * 1024 * 1024,
            sync_every: Duration::from_millis(200),
            durability: Durability::Group,
            skip_invalid: false,
            stop_on_failures: NonZeroU32::new(20),
            of_one_answer: Vec::new(),
            add: false,
            repair: false,
        }
    }
}

/// One command's work: which rows, through which steps, into which folder.
///
/// ```
/// use data_generation_pipeline_core::{Event, Place, Run, Source, Workflow};
/// use std::sync::Arc;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let dir = tempfile::tempdir().unwrap();
/// let place = Place { output_dir: dir.path().into(), experiment_name: "demo".into(), need_time_stamp: false };
/// let rows = Source::rows((1..=10).map(|n| serde_json::json!({"n": n})));
/// let mut run = Run::new(place, rows, Workflow::new());
/// run.options.limit = Some(3);
/// run.observers.push(Arc::new(|event: &Event<'_>| {
///     if let Event::Warning { message } = event {
///         println!("{message}");
///     }
/// }));
/// let report = run.execute().await?;
/// assert_eq!((report.counts.rows, report.counts.ok), (3, 3));
/// # Ok::<(), data_generation_pipeline_core::Error>(())
/// # }).unwrap();
/// ```
pub struct Run {
    /// Where runs go.
    pub place: Place,
    /// Which run it is.
    pub start: Start,
    /// The rows.
    pub source: Source,
    /// Judges every row before the first request, those of a stream each before its own.
    pub check: Box<dyn Check>,
    /// What is done with each row.
    pub workflow: Workflow,
    /// What makes this dataset one dataset; a folder that holds answers refuses another, and tells each
    /// value that differs. The key `extract` names the extractor: where only that changes, a fork keeps every
    /// answer.
    pub dataset: Map<String, Value>,
    /// Hashes of the prompts, by name, for the manifest; see [`hash`](crate::hash).
    pub hashes: BTreeMap<String, String>,
    /// The effective settings, for the manifest; no secrets.
    pub settings: BTreeMap<String, Setting>,
    /// What was asked for, for the manifest: anything, such as a command line without its secrets.
    pub command: Value,
    /// Whether no real model is asked, for the report.
    pub offline: bool,
    /// How to work.
    pub options: RunOptions,
    /// Who hears of it.
    pub observers: Vec<Arc<dyn Observer>>,
    /// Stops it.
    pub stop: StopHandle,
}

impl Run {
    /// A run with default options, no check, and an empty `dataset`, so that no change of settings is
    /// noticed: set it where answers cost something.
    pub fn new(place: Place, source: Source, workflow: Workflow) -> Run {
        Run {
            place,
            start: Start::default(),
            source,
            check: Box::new(()),
            workflow,
            dataset: Map::new(),
            hashes: BTreeMap::new(),
            settings: BTreeMap::new(),
            command: Value::Null,
            offline: false,
            options: RunOptions::default(),
            observers: Vec::new(),
            stop: StopHandle::new(),
        }
    }

    /// Works until every row is done or something stops it.
    ///
    /// Needs a tokio runtime with its timers enabled; of any flavour, the rows share one task. The folder is
    /// locked meanwhile. To end a run before its time use its [`StopHandle`]: a future that is dropped loses
    /// the answers that are under way, as a kill does, and a commit may then still be at work for a moment.
    ///
    /// # Errors
    ///
    /// When the run could not start, see [`ErrorKind`]: nothing was sent then, and a folder that was made for
    /// it is taken back. What stops it later (a refusal, a full disk, an interrupt) is in
    /// [`Report::stopped`].
    pub async fn execute(self) -> Result<Report, Error> {
        self.execute_on(Disk::default()).await
    }

    /// As [`execute`](Run::execute), through a disk that may be watched.
    pub(crate) async fn execute_on(self, disk: Disk) -> Result<Report, Error> {
        let Run {
            place,
            start,
            source,
            check,
            workflow,
            dataset,
            ..
        } = self;
        let target = place.target(&start)?;
        if start.offer_unfinished
            && !start.new
            && matches!(target, Target::Stamped(_))
            && let Some((dir, manifest)) = place.unfinished(&disk, &dataset)?
        {
            return Err(ErrorKind::Unfinished {
                dir,
                counts: manifest.counts,
            }
            .into());
        }
        let mut folder = RunFolder::open(&disk, &target)?;
        let job = Job {
            disk,
            dir: folder.dir().to_owned(),
            target,
            workflow,
            dataset,
            hashes: self.hashes,
            settings: self.settings,
            command: self.command,
            offline: self.offline,
            options: self.options,
            observers: self.observers,
            stop: self.stop,
        };
        match job.execute(&mut folder, source, check).await {
            Ok(report) => Ok(report),
            Err(error) if folder.made && !folder.dir().join("run.json").exists() => {
                folder.discard_if_made();
                Err(error)
            }
            Err(error) => Err(error.in_run(folder.dir())),
        }
    }
}

/// A run whose folder is open; without its rows, which are not to be shared between threads.
pub(crate) struct Job {
    pub(crate) disk: Disk,
    pub(crate) dir: PathBuf,
    pub(crate) target: Target,
    pub(crate) workflow: Workflow,
    pub(crate) dataset: Map<String, Value>,
    hashes: BTreeMap<String, String>,
    settings: BTreeMap<String, Setting>,
    command: Value,
    offline: bool,
    pub(crate) options: RunOptions,
    pub(crate) observers: Vec<Arc<dyn Observer>>,
    pub(crate) stop: StopHandle,
}

impl Job {
    async fn execute(
        mut self,
        folder: &mut RunFolder,
        source: Source,
        check: Box<dyn Check>,
    ) -> Result<Report, Error> {
        let began = Instant::now();
        let (mut manifest, resumed) = self.manifest()?;
        let looked = Look {
            job: &self,
            lock: folder.lock(),
            equal_rows: manifest.equal_rows,
            had_rows: resumed && manifest.input.rows != Some(0),
        }
        .at(source, check)
        .await?;
        self.dir = folder.take_place()?;
        let dir = self.dir.as_path();
        let past = Past::of(dir.to_owned(), resumed.then_some(&manifest))
            .forked_from(manifest.forked_from.as_deref());
        let steps = self.workflow.steps.clone();
        // They may read for long, and whoever looks on or interrupts shares this thread.
        let (of_the_dead, of_the_past) = blocking(move || {
            steps.iter().for_each(|step| step.resume(&past));
            Ok((past.assumed(), past.take_warnings()))
        })
        .await?;
        let Looked {
            mut before,
            plan,
            rows,
            facts,
            unjudged,
            left_failed,
            files,
            mut warnings,
            equal_rows,
            spool,
        } = looked;

        warnings.extend(of_the_past);

        let mut left = Left {
            failed: left_failed,
            pending: Some(0),
        };
        if facts.is_none() {
            // Rows that change from failed to finished are no part of this.
            let (ok, failed) = (before.finished.len(), before.failed.len() as u64);
            left.pending = status::pending(&manifest, ok, failed);
            if plan.rows == Some(0) {
                return Ok(self.nothing_to_do(&files.repairs, &warnings, left, began));
            }
        }

        // Whoever comes after this command knows only of this one that it died, if it does.
        if let Some((command, requests)) = of_the_dead {
            manifest.add_unjournaled(command, requests);
        }
        manifest.hashes = self.hashes.clone();
        let (settings, command) = (self.settings.clone(), self.command.clone());
        match facts {
            Some(facts) => {
                manifest.begin(facts, settings, command);
                manifest.note_takes(plan.rows);
            }
            None => manifest.begin_with_rows(settings, command),
        }
        manifest.note_first_seq(before.next_seq);
        manifest.equal_rows |= equal_rows;
        if let Some(spool) = spool {
            let (dir, lock) = (self.dir.clone(), folder.lock());
            let said = blocking(move || {
                let said = spool.accept(&dir);
                drop(lock);
                said
            });
            warnings.extend(said.await?);
        }
        // Before the first request: from here on the folder and all that is in it outlast a power loss.
        manifest.write(&self.disk, dir)?;

        let (writer, handle, repairs) = Writer::new(
            files,
            before.next_seq,
            &self.options,
            self.stop.clone(),
            folder.lock(),
        );
        let breaker = self
            .options
            .stop_on_failures
            .map(|first| Breaker::new(first, self.options.of_one_answer.clone()));
        let shared = Shared::new(
            handle,
            self.observers.clone(),
            self.stop.clone(),
            breaker,
            began,
        );
        for message in repairs.iter().chain(&warnings) {
            shared.event(&Event::Warning { message });
        }
        shared.event(&Event::Started {
            run_dir: dir,
            rows: plan.rows,
            finished: plan.finished,
            not_in_input: plan.rows.map(|_| plan.not_in_input),
            unjudged,
            resumed,
        });

        let mut work = Work::new(
            (&self.disk, dir),
            &shared,
            &self.workflow,
            &self.options,
            &mut before,
            &mut manifest,
            plan,
        );
        let writing = writer.run(|batch| shared.committed(batch));
        let ((), written) = futures::join!(work.all(rows), writing);

        let (plan, seen) = work.end();
        let is_finished = |id| before.finished.contains(id) || seen.recovered.contains(&id);
        // After a refused write nobody knows which lines are there; the next command reads them.
        if written && let Err(error) = failures::settle(&self.disk, dir, is_finished) {
            shared.stop_for_disk("could not settle failures.jsonl", &error);
        }
        manifest.equal_rows |= seen.equal_rows;
        let mut report = Report {
            run_dir: dir.to_owned(),
            counts: seen.counts(&plan, &shared.counters),
            not_in_input: plan
                .rows
                .map_or_else(|| before.finished.not_met(), |_| plan.not_in_input),
            requests: shared.counters.requests.load(Ordering::Relaxed),
            retries: shared.counters.retries.load(Ordering::Relaxed),
            prompt_tokens: shared.counters.prompt_tokens.load(Ordering::Relaxed),
            completion_tokens: shared.counters.completion_tokens.load(Ordering::Relaxed),
            untold: shared.counters.untold.load(Ordering::Relaxed),
            wall: began.elapsed(),
            offline: self.offline,
            cut: seen.cut,
            lost: shared.counters.lost.load(Ordering::Relaxed),
            stopped: shared.stop.reason(),
            failures: shared.counters.failures_by_class(),
            left_failed: 0,
            left_pending: Some(0),
            times: shared.clock.times(),
        };
        manifest.note_unjournaled(shared.unjournaled.list());
        manifest.note_steered(self.workflow.steered());
        // The manifest has what the command did.
        manifest.end(&report);
        report = report.with_left(left);
        if let Err(error) = manifest.write(&self.disk, dir) {
            shared.stop_for_disk("could not write run.json", &error);
            report.stopped = shared.stop.reason();
        }
        shared.event(&Event::Ended { report: &report });
        Ok(report)
    }

    /// A retry without a failed row: it leaves no trace in the folder, and is no event of the run.
    fn nothing_to_do(
        &self,
        repairs: &[String],
        warnings: &[String],
        left: Left,
        began: Instant,
    ) -> Report {
        for message in repairs.iter().chain(warnings) {
            for observer in &self.observers {
                observer.event(&Event::Warning { message });
            }
        }
        Report {
            run_dir: self.dir.clone(),
            counts: Counts::default(),
            not_in_input: 0,
            requests: 0,
            retries: 0,
            prompt_tokens: 0,
            completion_tokens: 0,
            untold: 0,
            wall: began.elapsed(),
            offline: self.offline,
            cut: 0,
            lost: 0,
            stopped: self.stop.reason(),
            failures: Vec::new(),
            left_failed: 0,
            left_pending: Some(0),
            times: Times::default(),
        }
        .with_left(left)
    }

    /// The folder's manifest, or a new one; whether an old run is continued.
    fn manifest(&self) -> Result<(Manifest, bool), Error> {
        let dir = self.dir.as_path();
        let Some(mut manifest) = Manifest::read(dir)? else {
            let unfinished_fork = match &self.target {
                Target::ForkOf { source, dir } => has_answers(dir) && is_bare_copy(source, dir)?,
                _ => false,
            };
            if has_answers(dir) && !unfinished_fork {
                return Err(Error::usage(format!(
                    "{} holds answers but no run.json, so nobody knows which model and prompts they are of; \
                     put run.json back, or begin a new run (the folder is then moved aside)",
                    dir.display()
                )));
            }
            let mut manifest = Manifest::new(self.dataset.clone(), self.settings.clone());
            if let Target::ForkOf { source, .. } = &self.target {
                manifest.forked_from = Some(source.clone());
            }
            return Ok((manifest, false));
        };
        let changes = manifest.changes(&self.dataset);
        if !changes.is_empty() {
            if has_answers(dir) {
                return Err(ErrorKind::Changed {
                    dir: dir.to_owned(),
                    changes,
                }
                .into());
            }
            manifest.dataset = self.dataset.clone();
        }
        Ok((manifest, true))
    }
}

//! The loop of a run: rows in, as many at work as there are places, lines out.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::before::Before;
use crate::clock::RowClock;
use crate::disk::Disk;
use crate::event::Event;
use crate::manifest::Manifest;
use crate::pass::Fault;
use crate::plan::{Plan, take_spare};
use crate::record::{Failure, FailureReason, Record, timestamp};
use crate::report::Counts;
use crate::row::{Row, RowId};
use crate::rows::{Next, Rows, RowsError};
use crate::run::RunOptions;
use crate::shared::{Counters, Shared};
use crate::step::{Draft, StepContext, StepError, Workflow};
use crate::stop::StopKind;
use crate::unjournaled::UnderWay;

/// How often it is looked whether another number of rows is worth being at work, where nothing else happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// So many rows that wait are held where fewer are at work. Where a gateway turns away who asks, three that met it tell
/// an endpoint that is away from a row that nobody can answer.
const LEAST_ASIDE: usize = 3;
/// How often the manifest is brought up to date while a run works.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);
/// After so many rows in a row that are done already, those at work get their turn.
const SKIPS_IN_A_ROW: u32 = 64;

/// A run at work.
pub(crate) struct Work<'a> {
    disk: &'a Disk,
    dir: &'a Path,
    shared: &'a Shared,
    workflow: &'a Workflow,
    options: &'a RunOptions,
    before: &'a mut Before,
    manifest: &'a mut Manifest,
    plan: Plan,
    seen: Seen,
}

/// What the loop met.
#[derive(Default)]
pub(crate) struct Seen {
    /// Rows that came from the input.
    rows: u64,
    /// Rows of these that were finished before.
    skipped: u64,
    /// Whether a row came that says what another said.
    pub(crate) equal_rows: bool,
    /// Requests under way that a stop at once cut off.
    pub(crate) cut: u64,
    /// Rows that failed in an earlier command and are finished now.
    pub(crate) recovered: HashSet<RowId>,
}

impl Seen {
    pub(crate) fn counts(&self, plan: &Plan, counters: &Counters) -> Counts {
        let rows = plan.rows.unwrap_or(self.rows);
        let skipped = plan.rows.map_or(self.skipped, |_| plan.finished);
        let (ok, failed) = (
            counters.ok.load(Ordering::Relaxed),
            counters.failed.load(Ordering::Relaxed),
        );
        Counts {
            rows,
            ok,
            failed,
            skipped,
            pending: rows.saturating_sub(ok + failed + skipped),
        }
    }
}

/// How a row ended.
enum End {
    Finished,
    Failed,
    /// Not done, and nothing to say about it: a later command makes it.
    Pending,
}

struct Done {
    id: RowId,
    bytes: u64,
    end: End,
}

impl<'a> Work<'a> {
    pub(crate) fn new(
        (disk, dir): (&'a Disk, &'a Path),
        shared: &'a Shared,
        workflow: &'a Workflow,
        options: &'a RunOptions,
        before: &'a mut Before,
        manifest: &'a mut Manifest,
        plan: Plan,
    ) -> Work<'a> {
        Work {
            disk,
            dir,
            shared,
            workflow,
            options,
            before,
            manifest,
            plan,
            seen: Seen::default(),
        }
    }

    pub(crate) fn end(self) -> (Plan, Seen) {
        (self.plan, self.seen)
    }

    /// Works until all rows are done or nothing new may be started, and closes the writer.
    pub(crate) async fn all(&mut self, mut rows: Rows) {
        let shared = self.shared;
        let most = self.options.concurrency.get();
        let mut told_places = None;
        let limit = self.options.limit.unwrap_or(u64::MAX);
        let mut open: FuturesUnordered<BoxFuture<'a, Done>> = FuturesUnordered::new();
        let mut bytes_open = 0;
        let mut exhausted = false;
        let mut skips = 0;
        let mut told = false;
        let mut checkpoint = Instant::now() + CHECKPOINT_EVERY;
        loop {
            exhausted |= self.seen.rows >= limit;
            let stopping = shared.stop.is_stopping();
            let by_steps = self.workflow.places().map(|places| places.clamp(1, most));
            if let Some(places) = by_steps
                && told_places.replace(places) != by_steps
            {
                shared.event(&Event::Places { places });
            }
            let concurrency = by_steps.unwrap_or(most);
            let next_look = match by_steps {
                Some(_) => checkpoint.min(Instant::now() + LOOK_EVERY),
                None => checkpoint,
            };
            // A row that waits has nothing in flight, so another may take its place; but the rows that are
            // held stay within twice the places.
            let most_aside = concurrency.max(LEAST_ASIDE);
            let places = concurrency + shared.rows_aside().min(most_aside);
            let room = open.is_empty() || bytes_open < self.options.bytes_in_flight;
            let may_start = !exhausted && !stopping && open.len() < places && room;
            if may_start {
                match rows.pass_over() {
                    Ok(finished) => {
                        self.seen.rows += finished;
                        self.seen.skipped += finished;
                    }
                    Err(error) => self.stop_for(error),
                }
            }
            if open.is_empty() && !may_start {
                break;
            }
            tokio::select! {
                biased;
                () = shared.stop.cut(), if stopping => {
                    self.seen.cut = shared.counters.in_flight.load(Ordering::Relaxed);
                    break;
                }
                () = shared.stop.token().cancelled(), if !told => {
                    told = true;
                    if let Some(reason) = shared.stop.reason() {
                        shared.event(&Event::Stopping { reason: &reason, open: open.len() });
                    }
                }
                next = rows.next(), if may_start && skips < SKIPS_IN_A_ROW => match next {
                    Ok(None) => exhausted = true,
                    Ok(Some(next)) => match self.take_up(next) {
                        Some((bytes, work)) => {
                            bytes_open += bytes;
                            open.push(work);
                        }
                        None => skips += 1,
                    },
                    Err(error) => self.stop_for(error),
                },
                done = open.next(), if !open.is_empty() => {
                    if let Some(done) = done {
                        bytes_open -= done.bytes;
                        self.count(&done);
                    }
                }
                () = shared.place_free.notified() => {}
                () = tokio::time::sleep_until(next_look) => {
                    let now = Instant::now();
                    if now >= checkpoint {
                        checkpoint = now + CHECKPOINT_EVERY;
                        self.checkpoint();
                    }
                }
                // Only reached when nothing else is ready.
                () = tokio::task::yield_now(), if skips >= SKIPS_IN_A_ROW => skips = 0,
            }
        }
        drop(open);
        self.seen.equal_rows = rows.any_repeated();
        shared.writer.close().await;
    }

    /// Starts work on a row that is not done yet: how many bytes it holds, and the work.
    fn take_up(&mut self, next: Next) -> Option<(u64, BoxFuture<'a, Done>)> {
        let Next {
            id,
            index,
            content,
            row,
        } = next;
        self.seen.rows += 1;
        if self.before.finished.meet(id) {
            self.seen.skipped += 1;
            return None;
        }
        if let Some(spare) = take_spare(&mut self.plan.spares, content) {
            self.before.finished.meet(spare);
            self.seen.skipped += 1;
            return None;
        }
        let failed_before = self.before.failed.get(&id);
        let is_news = failed_before.is_none();
        let judged = failed_before.cloned().unwrap_or_default();
        let shared = self.shared;
        match row {
            Ok(row) => {
                let bytes = row.json().len() as u64;
                let cx = StepContext {
                    shared,
                    row: id,
                    step: "",
                    requests: AtomicU32::new(0),
                    answers: Mutex::new(judged),
                    replays: Mutex::new(self.before.unjudged_of(id).collect()),
                    may_send: true,
                    furthest: 0,
                    clock: RowClock::new(&shared.clock),
                    under_way: UnderWay::new(&shared.unjournaled),
                };
                let work = work_on(shared, self.workflow, row, cx, is_news);
                Some((bytes, work))
            }
            Err((Fault { class, message }, input)) => {
                let reason = FailureReason {
                    class: class.to_owned(),
                    message,
                };
                let failure = Box::new(Failure {
                    id,
                    index,
                    input,
                    error: reason,
                    response: None,
                    answers: judged,
                    attempts: 0,
                    timestamp: timestamp(SystemTime::now()),
                    answered: None,
                });
                let fail = async move {
                    Done {
                        id,
                        bytes: 0,
                        end: fail(shared, failure, false).await,
                    }
                };
                Some((0, fail.boxed()))
            }
        }
    }

    fn stop_for(&self, error: RowsError) {
        match error {
            RowsError::Changed(what) => self.shared.stop.stop(StopKind::Input, what),
            RowsError::Io(error) => {
                self.shared
                    .stop_for_disk("could not read the input", &error);
            }
        }
    }

    fn count(&mut self, done: &Done) {
        if matches!(done.end, End::Finished) && self.before.failed.contains_key(&done.id) {
            self.seen.recovered.insert(done.id);
        }
    }

    /// A manifest that is half a minute old is no reason to stop: the files of lines are the truth.
    fn checkpoint(&mut self) {
        let counts = self.seen.counts(&self.plan, &self.shared.counters);
        self.manifest.note(counts, self.shared.clock.times());
        self.manifest
            .note_unjournaled(self.shared.unjournaled.list());
        self.manifest.note_steered(self.workflow.steered());
        if let Err(error) = self.manifest.write(self.disk, self.dir) {
            tracing::warn!(%error, "the manifest could not be brought up to date");
        }
    }
}

/// Takes one row through the steps from this one on; a panic is the row's own failure.
pub(crate) async fn through<'a>(
    workflow: &'a Workflow,
    from: usize,
    row: &Row,
    draft: &mut Draft,
    cx: &mut StepContext<'a>,
) -> Result<(), StepError> {
    let outcome = AssertUnwindSafe(workflow.run(from, row, draft, cx))
        .catch_unwind()
        .await;
    outcome.unwrap_or_else(|panic| {
        Err(StepError::Fail {
            class: "panic".to_owned(),
            message: format!(
                "the step `{}` panicked: {}",
                cx.step,
                panic_text(panic.as_ref())
            ),
            response: (!draft.response.is_empty()).then(|| draft.response.clone()),
        })
    })
}

/// Takes one row through all steps and hands its line to the writer.
fn work_on<'a>(
    shared: &'a Shared,
    workflow: &'a Workflow,
    row: Row,
    mut cx: StepContext<'a>,
    is_news: bool,
) -> BoxFuture<'a, Done> {
    // No `async fn`, which would hold what it is given twice.
    let work = async move {
        let (id, index) = (row.id(), row.index());
        shared.event(&Event::RowStarted { id, index });
        let mut draft = Draft::default();
        let outcome = through(workflow, 0, &row, &mut draft, &mut cx).await;
        let bytes = row.json().len() as u64;
        let made = what_came_of(shared, row, draft, cx, outcome);
        // In a box of its own: it is soon over, and every row under way would hold room for it.
        let end = Box::pin(hand_over(shared, made, is_news)).await;
        Done { id, bytes, end }
    };
    work.boxed()
}

/// What the steps made of a row.
enum Made {
    Finished(Box<Record>),
    Failed(Box<Failure>),
    Pending,
}

fn what_came_of(
    shared: &Shared,
    row: Row,
    draft: Draft,
    cx: StepContext<'_>,
    outcome: Result<(), StepError>,
) -> Made {
    let requests = cx.requests.load(Ordering::Relaxed);
    match outcome {
        Ok(()) => Made::Finished(Box::new(record(row, draft, requests))),
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
        ) => Made::Failed(Box::new(Failure {
            id: row.id,
            index: row.index,
            input: Some(row.json),
            error: FailureReason { class, message },
            response,
            answers: cx
                .answers
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
            attempts: requests,
            timestamp: timestamp(SystemTime::now()),
            answered: None,
        })),
        Err(StepError::Stopped) => Made::Pending,
        Err(StepError::Stop { kind, message }) => {
            shared.stop.stop(kind, message);
            Made::Pending
        }
    }
}

/// Hands it to the writer.
async fn hand_over(shared: &Shared, made: Made, is_news: bool) -> End {
    match made {
        Made::Finished(record) => {
            shared.judged(None);
            finish(shared, record).await
        }
        Made::Failed(failure) => fail(shared, failure, is_news).await,
        Made::Pending => End::Pending,
    }
}

/// The line of a row whose steps have all come through.
pub(crate) fn record(row: Row, draft: Draft, requests: u32) -> Record {
    Record {
        id: row.id,
        index: row.index,
        input: row.json,
        response: draft.response,
        extracted: draft.extracted,
        model: draft.model,
        finish_reason: draft.finish_reason,
        usage: draft.usage,
        attempts: if draft.attempts > 0 {
            draft.attempts
        } else {
            requests
        },
        latency_ms: draft.latency_ms,
        timestamp: timestamp(draft.at.unwrap_or_else(SystemTime::now)),
        reasoning: draft.reasoning,
        warnings: draft.warnings,
        offline: draft.offline,
    }
}

/// About how long a line with these will be.
fn line_bytes(input: &RawValue, response: &str) -> usize {
    input.get().len() + response.len() * 9 / 8 + 512
}

async fn finish(shared: &Shared, record: Box<Record>) -> End {
    let bytes = line_bytes(&record.input, &record.response);
    let Some(room) = shared.writer.room(bytes).await else {
        return End::Pending;
    };
    shared.event(&Event::Finished { record: &record });
    match shared.writer.finished(record, room).await {
        true => End::Finished,
        false => End::Pending,
    }
}

/// A failure is news where the row did not fail before.
async fn fail(shared: &Shared, failure: Box<Failure>, is_news: bool) -> End {
    let input = failure.input.as_deref().unwrap_or(RawValue::NULL);
    let response = failure.response.as_deref().unwrap_or_default();
    let bytes = line_bytes(input, response);
    let Some(room) = shared.writer.room(bytes).await else {
        return End::Pending;
    };
    shared.event(&Event::Failed { failure: &failure });
    if is_news {
        shared.judged(Some(&failure.error));
    }
    match shared.writer.failed(failure, room).await {
        true => End::Failed,
        false => End::Pending,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it gave no text")
        .chars()
        .take(300)
        .collect()
}

//! What is done with a row: steps, one after the other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::clock::RowClock;
use crate::event::Event;
use crate::journal::{JournaledAnswer, PaidAnswer};
use crate::past::Past;
use crate::record::Usage;
use crate::row::{Row, RowId};
use crate::shared::Shared;
use crate::stop::StopKind;
use crate::unjournaled::{Loss, UnderWay};

/// One step of a workflow.
///
/// A step that pays for answers hands each to the journal before it makes anything of it, and takes those
/// first that an earlier command paid for and did not come to judge:
///
/// ```
/// use data_generation_pipeline_core::{Draft, PaidAnswer, Row, Step, StepContext, StepError, call_key};
/// # use data_generation_pipeline_core::{Place, Run, Source, Workflow};
/// use futures::future::{BoxFuture, FutureExt};
/// use std::time::{Duration, SystemTime};
///
/// struct Ask;
///
/// impl Step for Ask {
///     fn name(&self) -> &str { "ask" }
///
///     fn run<'a>(&'a self, row: &'a Row, draft: &'a mut Draft, cx: &'a StepContext<'a>) -> BoxFuture<'a, Result<(), StepError>> {
///         async move {
///             let key = call_key(row.id(), self.name(), "echo", row.json().as_bytes());
///             let (body, attempt) = match cx.replay(&key) {
///                 Some(old) => (old.body, old.attempt),
///                 None => {
///                     let attempt = cx.next_attempt();
///                     let body = row.json().as_bytes().to_vec(); // a real step sends its request here
///                     let (at, latency) = (SystemTime::now(), Duration::ZERO);
///                     cx.answered(Some(200), latency);
///                     cx.journal(PaidAnswer { key: &key, attempt, status: 200, at, latency, prompt_guess: None, body: &body }).await?;
///                     (body, attempt)
///                 }
///             };
///             draft.response = String::from_utf8_lossy(&body).into_owned();
///             draft.attempts = attempt;
///             Ok(())
///         }
///         .boxed()
///     }
/// }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let dir = tempfile::tempdir().unwrap();
/// # let run = || {
/// #     let place = Place { output_dir: dir.path().into(), experiment_name: "demo".into(), need_time_stamp: false };
/// #     Run::new(place, Source::rows([serde_json::json!({"n": 1})]), Workflow::new().then(Ask))
/// # };
/// # let report = run().execute().await.unwrap();
/// # assert_eq!((report.counts.ok, report.requests), (1, 1));
/// # std::fs::remove_file(report.result_path()).unwrap();
/// # let report = run().execute().await.unwrap();
/// # assert_eq!((report.counts.ok, report.requests), (1, 0), "paid for once");
/// # });
/// ```
///
/// All rows share one task, so a step must not block it. A panic fails the row (class `panic`) and no other.
pub trait Step: Send + Sync {
    /// Its name: part of the journal and of a call's key, so it stays.
    fn name(&self) -> &str;

    /// Takes the row one step further. When nothing new may be started the future is still polled to its
    /// end; only a cut ([`StopHandle::interrupt_within`](crate::StopHandle::interrupt_within)), or a run that
    /// is dropped as a whole, drops it.
    ///
    /// # Errors
    ///
    /// What the variants of [`StepError`] say: the row fails, the step before is done again, or the run stops.
    fn run<'a>(
        &'a self,
        row: &'a Row,
        draft: &'a mut Draft,
        cx: &'a StepContext<'a>,
    ) -> BoxFuture<'a, Result<(), StepError>>;

    /// Called once, before the first row is taken up: for a step that keeps to limits over time, which a new
    /// start must not fill up again. It may block: a thread of its own calls it.
    fn resume(&self, _past: &Past<'_>) {}

    /// How many rows are worth being at work now, where that changes while the run works; asked before a row is
    /// taken up, and once a second. It is never more than
    /// [`RunOptions::concurrency`](crate::RunOptions::concurrency), and where several steps have a say the least
    /// counts.
    fn places(&self) -> Option<usize> {
        None
    }

    /// Settings that were changed since this command began, each with the value that it has now: a note for the
    /// manifest, not for the next command.
    fn steered(&self) -> BTreeMap<String, Value> {
        BTreeMap::new()
    }

    /// The key of the call that this step would make for a row, where the row alone decides it; see
    /// [`call_key`](crate::call_key). A fork keeps the answers whose key is unchanged, so those of a step
    /// that gives `None` here are kept only where nothing but the extractor changed.
    fn call_key(&self, _row: &Row) -> Option<String> {
        None
    }
}

/// What the steps have made of a row so far; after the last step it becomes the row's [`Record`](crate::Record).
///
/// It begins empty, with `at` at the Unix epoch.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The text of the model.
    pub response: String,
    /// What was taken out of it.
    pub extracted: Option<Value>,
    /// What the provider named, else what was asked.
    pub model: String,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// Tokens of this answer.
    pub usage: Usage,
    /// Milliseconds from sending to last byte.
    pub latency_ms: u64,
    /// When the answer arrived.
    pub at: Option<SystemTime>,
    /// The number of the request that was answered; where it stays 0, the record has the number of requests
    /// that this command sent for the row.
    pub attempts: u32,
    /// The model's reasoning.
    pub reasoning: Option<String>,
    /// Short codes of what was odd.
    pub warnings: Vec<String>,
    /// Whether no real model was asked.
    pub offline: bool,
}

/// Why a step did not come through.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StepError {
    /// This row fails: a line of `failures.jsonl`. A later command tries it anew.
    Fail {
        /// A stable word.
        class: String,
        /// What happened and what to do.
        message: String,
        /// The text of the model, where there is one.
        response: Option<String>,
    },
    /// What the step before it made is no good: do that one again, with the draft as it is now, if the
    /// workflow allows it ([`Workflow::again_at_most`]); else, and for the first step, as [`StepError::Fail`].
    Again {
        /// A stable word.
        class: String,
        /// What happened and what to do.
        message: String,
        /// The text of the model, where there is one.
        response: Option<String>,
    },
    /// Nothing was done, because the run stops: the row stays pending.
    Stopped,
    /// Nothing more may be started, for a reason that concerns every row: the row stays pending.
    Stop {
        /// What kind of reason.
        kind: StopKind,
        /// What happened and what to do.
        message: String,
    },
}

/// Steps in their order. Without any, a row becomes a record without an answer.
#[derive(Clone)]
pub struct Workflow {
    pub(crate) steps: Vec<Arc<dyn Step>>,
    pub(crate) again: u32,
}

impl Workflow {
    /// No steps yet; for each row, the work of a step may be done once more.
    pub fn new() -> Workflow {
        Workflow {
            steps: Vec::new(),
            again: 1,
        }
    }

    /// Adds a step at the end.
    #[must_use]
    pub fn then(mut self, step: impl Step + 'static) -> Workflow {
        self.steps.push(Arc::new(step));
        self
    }

    /// How often, for each row and in each command, a step may have the one before it done again
    /// ([`StepError::Again`]). The default is 1.
    #[must_use]
    pub fn again_at_most(mut self, times: u32) -> Workflow {
        self.again = times;
        self
    }

    /// How many rows are worth being at work now, where a step has a say.
    pub(crate) fn places(&self) -> Option<usize> {
        self.steps.iter().filter_map(|step| step.places()).min()
    }

    /// What was changed while this command worked.
    pub(crate) fn steered(&self) -> BTreeMap<String, Value> {
        let steps = self.steps.iter();
        steps.flat_map(|step| step.steered()).collect()
    }

    /// Takes a row through the steps from this one on; `cx.furthest` tells how many of them came through at best.
    pub(crate) async fn run<'a>(
        &'a self,
        from: usize,
        row: &Row,
        draft: &mut Draft,
        cx: &mut StepContext<'a>,
    ) -> Result<(), StepError> {
        let mut again = self.again;
        let mut at = from;
        while let Some(step) = self.steps.get(at) {
            cx.step = step.name();
            match step.run(row, draft, cx).await {
                Ok(()) => {
                    at += 1;
                    cx.furthest = cx.furthest.max(at);
                }
                // What is paid for already costs nothing to try: it leaves the re-asks to the answers to come.
                Err(StepError::Again { .. }) if at > 0 && cx.has_replays() => at -= 1,
                Err(StepError::Again { class, .. }) if at > 0 && again > 0 && cx.may_send => {
                    cx.clock.will_be_asked_again(&class);
                    again -= 1;
                    at -= 1;
                }
                Err(StepError::Again {
                    class,
                    message,
                    response,
                }) => {
                    return Err(StepError::Fail {
                        class,
                        message,
                        response,
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Default for Workflow {
    fn default() -> Self {
        Workflow::new()
    }
}

/// What a step may ask of the run while it works on a row; [`Step`] has an example.
pub struct StepContext<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) row: RowId,
    pub(crate) step: &'a str,
    /// Requests of this row: those of this command, on top of those whose answers were replayed.
    pub(crate) requests: AtomicU32,
    /// Numbers of the journal that were looked at for this row.
    pub(crate) answers: Mutex<Vec<u64>>,
    /// Offsets of answers that nobody has judged yet.
    pub(crate) replays: Mutex<VecDeque<u64>>,
    /// Whether a request may leave; if not, the answers of the journal are all there is.
    pub(crate) may_send: bool,
    /// How many steps came through, one after the other, at best.
    pub(crate) furthest: usize,
    pub(crate) clock: RowClock<'a>,
    pub(crate) under_way: UnderWay<'a>,
}

impl StepContext<'_> {
    /// Which row.
    pub fn row(&self) -> RowId {
        self.row
    }

    /// Whether a step may ask anybody anew. Where it may not, the answers that [`replay`](Self::replay) gives are
    /// all there is: when none of them is good the step fails, class `no_answer` if there was none.
    pub fn may_send(&self) -> bool {
        self.may_send
    }

    pub(crate) fn has_replays(&self) -> bool {
        let replays = self.replays.lock();
        !replays.unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Hands a paid answer to the journal, under the name of the step that is at work; resolves, with its
    /// number, when `write` has returned: from then on it survives this process, and after the next commit
    /// (see [`RunOptions::sync_every`](crate::RunOptions::sync_every)) a power loss. With
    /// [`Durability::Each`](crate::Durability::Each) it resolves only when it survives a power loss. Call it for every answer
    /// that was paid for, also for one that cannot be used, before anything is made of it.
    ///
    /// # Errors
    ///
    /// [`StepError::Stopped`] when it could not be written; the run stops, and says why. Pass it on.
    pub async fn journal(&self, answer: PaidAnswer<'_>) -> Result<u64, StepError> {
        let tail = crate::journal::tail(self.row, self.step, &answer);
        let seq = self.shared.writer.journal(tail).await.ok_or_else(|| {
            self.shared.counters.lost.fetch_add(1, Ordering::Relaxed);
            StepError::Stopped
        })?;
        self.under_way.is_journaled();
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(seq);
        Ok(seq)
    }

    /// The oldest answer to this call that an earlier command paid for and that no line of the dataset or
    /// of the failures rests on; each is given once, so ask until it is `None` before anything is sent.
    ///
    /// It stands in the journal already: it is not to be journaled, nor counted, again. Answers to other
    /// calls of the row are passed over for good. Reads a file, and so blocks for a moment.
    pub fn replay(&self, key: &str) -> Option<JournaledAnswer> {
        loop {
            let offset = self
                .replays
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front()?;
            match self.shared.writer.read_back(offset) {
                // Where nothing is asked, all that was ever answered to this row in this step is judged.
                Ok(entry) if entry.step == self.step && (entry.key == key || !self.may_send) => {
                    self.answers
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(entry.answer.seq);
                    self.requests
                        .fetch_max(entry.answer.attempt, Ordering::Relaxed);
                    return Some(entry.answer);
                }
                // An answer to another question, from before the settings changed.
                Ok(_) => {}
                Err(error) => {
                    self.shared
                        .stop_for_disk("could not read back the journal", &error);
                    return None;
                }
            }
        }
    }

    /// The number of the request that is about to leave, from 1 for the first of this row; it counts on from
    /// the answers that were replayed.
    /// Call it once for each request, and [`answered`](Self::answered) when it ended: it is how requests,
    /// retries (all but a row's first) and what is in flight are counted.
    pub fn next_attempt(&self) -> u32 {
        let attempt = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        self.shared.counters.count_request(attempt);
        self.clock.asks();
        self.under_way.leaves();
        self.shared.event(&Event::Sending {
            id: self.row,
            attempt,
        });
        attempt
    }

    /// The request that [`answered`](Self::answered) is about to tell of never reached anybody, and so cost nothing.
    pub fn never_arrived(&self) {
        self.under_way.is_lost(Loss::Refused);
    }

    /// The request ended after `latency`: with an answer of this status, or with none. Call it once for each
    /// [`next_attempt`](Self::next_attempt).
    pub fn answered(&self, status: Option<u16>, latency: std::time::Duration) {
        match status {
            // The journal gets it.
            Some(200..300) => {}
            Some(_) => self.under_way.is_lost(Loss::Refused),
            None => self.under_way.is_lost(Loss::Unanswered),
        }
        self.shared.counters.count_answer();
        self.clock.is_answered();
        self.shared.event(&Event::Answered {
            id: self.row,
            status,
            latency,
        });
    }

    /// Counts tokens that were paid for in this command: for [`Report`](crate::Report) and observers.
    pub fn spent(&self, usage: Usage) {
        self.shared.counters.count_tokens(usage);
        self.shared.event(&Event::Spent {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
        });
    }

    /// While the guard lives this row has nothing in flight and leaves its place to another: for the wait
    /// before a request is sent again. At most as many further rows are taken up as there are places.
    ///
    /// When the guard is dropped the row goes on at once, whether or not its place is free: what may be in
    /// flight at the same time is for the step to see to.
    pub fn step_aside(&self) -> Aside {
        self.shared.step_aside()
    }

    /// Tells the observers, on this very task. [`Waiting`](Event::Waiting), [`WaitEnded`](Event::WaitEnded) and
    /// [`Retrying`](Event::Retrying) are what [`Times`](crate::Times) are made of; a row waits for one thing at a
    /// time, and no longer than a step works on it.
    pub fn event(&self, event: &Event<'_>) {
        match event {
            Event::Waiting { reason, .. } => self.clock.waits(*reason),
            Event::WaitEnded { .. } => self.clock.goes_on(),
            Event::Retrying { class, .. } => self.clock.will_be_asked_again(class),
            _ => {}
        }
        self.shared.event(event);
    }

    /// Cancelled when nothing new may be started: a step that waits then ends with
    /// [`StepError::Stopped`], one whose request is under way waits for its answer.
    pub fn stopping(&self) -> &CancellationToken {
        self.shared.stop.token()
    }
}

/// A row that waits and has left its place to another; see [`StepContext::step_aside`].
#[derive(Debug)]
pub struct Aside {
    pub(crate) aside: Arc<AtomicU32>,
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.aside.fetch_sub(1, Ordering::Relaxed);
    }
}

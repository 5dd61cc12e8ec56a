//! What is done with a row: steps, one after the other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::event::Event;
use crate::journal::{JournaledAnswer, PaidAnswer};
use crate::record::Usage;
use crate::row::{Row, RowId};
use crate::shared::Shared;
use crate::stop::StopKind;

/// One step of a workflow.
pub trait Step: Send + Sync {
    /// Its name: part of the journal and of a call's key, so it stays.
    fn name(&self) -> &str;

    /// Takes the row one step further.
    fn run<'a>(
        &'a self,
        row: &'a Row,
        draft: &'a mut Draft,
        cx: &'a StepContext<'a>,
    ) -> BoxFuture<'a, Result<(), StepError>>;

    /// The key of the call that this step would make for a row, where the row alone decides it; see
    /// [`call_key`](crate::call_key). A fork keeps the answers whose key is unchanged.
    fn call_key(&self, _row: &Row) -> Option<String> {
        None
    }
}

/// What the steps have made of a row so far.
#[derive(Debug, Clone)]
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
    pub at: SystemTime,
    /// Requests for this row, as the journal counts them.
    pub attempts: u32,
    /// The model's reasoning.
    pub reasoning: Option<String>,
    /// Short codes of what was odd.
    pub warnings: Vec<String>,
    /// Whether no real model was asked.
    pub offline: bool,
}

impl Default for Draft {
    fn default() -> Self {
        Draft {
            response: String::new(),
            extracted: None,
            model: String::new(),
            finish_reason: None,
            usage: Usage::default(),
            latency_ms: 0,
            at: SystemTime::UNIX_EPOCH,
            attempts: 0,
            reasoning: None,
            warnings: Vec::new(),
            offline: false,
        }
    }
}

/// Why a step did not come through.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StepError {
    /// This row fails.
    Fail {
        /// A stable word.
        class: String,
        /// What happened and what to do.
        message: String,
        /// The text of the model, where there is one.
        response: Option<String>,
    },
    /// What the step before it made is no good: do that one again, if the workflow allows it.
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

/// Steps in their order.
#[derive(Clone)]
pub struct Workflow {
    pub(crate) steps: Vec<Arc<dyn Step>>,
    pub(crate) again: u32,
}

impl Workflow {
    /// Nothing yet; a step that finds the work of the step before it no good may have it done once more.
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

    /// How often, for each row, a step may have the one before it done again.
    #[must_use]
    pub fn again_at_most(mut self, times: u32) -> Workflow {
        self.again = times;
        self
    }

    /// Takes a row through all steps.
    pub(crate) async fn run<'a>(
        &'a self,
        row: &Row,
        draft: &mut Draft,
        cx: &mut StepContext<'a>,
    ) -> Result<(), StepError> {
        let mut again = self.again;
        let mut at = 0;
        while let Some(step) = self.steps.get(at) {
            cx.step = step.name();
            match step.run(row, draft, cx).await {
                Ok(()) => at += 1,
                Err(StepError::Again { .. }) if again > 0 && at > 0 => {
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

/// What a step may ask of the run while it works on a row.
pub struct StepContext<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) row: RowId,
    pub(crate) step: &'a str,
    /// Requests of this row in this command.
    pub(crate) requests: AtomicU32,
    /// The highest number among the requests whose answers were replayed.
    pub(crate) replayed: AtomicU32,
    /// Numbers of the journal that were looked at for this row.
    pub(crate) answers: Mutex<Vec<u64>>,
    /// Offsets of answers that nobody has judged yet.
    pub(crate) replays: Mutex<VecDeque<u64>>,
}

impl StepContext<'_> {
    /// Which row.
    pub fn row(&self) -> RowId {
        self.row
    }

    /// Hands a paid answer to the journal; resolves, with its number, when it would survive this process.
    ///
    /// # Errors
    ///
    /// When it could not be written; the run stops.
    pub async fn journal(&self, answer: PaidAnswer<'_>) -> Result<u64, StepError> {
        let tail = crate::journal::tail(self.row, self.step, &answer);
        let seq = self
            .shared
            .writer
            .journal(tail)
            .await
            .ok_or(StepError::Stopped)?;
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(seq);
        Ok(seq)
    }

    /// The oldest answer to this call that was paid for and that nobody has judged; each is given once.
    pub fn replay(&self, key: &str) -> Option<JournaledAnswer> {
        loop {
            let offset = self
                .replays
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front()?;
            match self.shared.writer.read_back(offset) {
                Ok(entry) if entry.key == key && entry.step == self.step => {
                    self.answers
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(entry.answer.seq);
                    self.replayed
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

    /// The number of the request that is about to leave, from 1 for the first of this row. Call it once
    /// for each request, and [`answered`](Self::answered) when it ended: it is how they are counted.
    pub fn next_attempt(&self) -> u32 {
        let attempt = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        self.shared.counters.count_request(attempt);
        self.shared.event(&Event::Sending {
            id: self.row,
            attempt,
        });
        attempt
    }

    /// The request ended: with an answer of this status, or with none.
    pub fn answered(&self, status: Option<u16>, latency: std::time::Duration) {
        self.shared.counters.count_answer();
        self.shared.event(&Event::Answered {
            id: self.row,
            status,
            latency,
        });
    }

    /// Counts tokens that were paid for in this command.
    pub fn spent(&self, prompt_tokens: u64, completion_tokens: u64) {
        self.shared
            .counters
            .count_tokens(prompt_tokens, completion_tokens);
        self.shared.event(&Event::Spent {
            prompt_tokens,
            completion_tokens,
        });
    }

    /// While the guard lives this row has nothing in flight and leaves its place to another.
    pub fn step_aside(&self) -> Aside {
        self.shared.step_aside()
    }

    /// Tells the observers.
    pub fn event(&self, event: &Event<'_>) {
        self.shared.event(event);
    }

    /// Cancelled when nothing new may be started.
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

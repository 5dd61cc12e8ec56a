//! The two steps of the simple workflow: what joins prompts, model, journal and extractor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use data_generation_extractors::{ErrorKind as ExtractErrorKind, Extract};
use data_generation_llm_client::{
    Answer, BoxError, Call, Client, Event as LlmEvent, LimitKind, Reply, Request,
    WaitReason as LlmWait, estimate_tokens,
};
use data_generation_llm_client::{ErrorKind as LlmErrorKind, Usage as LlmUsage};
use data_generation_pipeline_core::{
    Aside, Draft, Event, PaidAnswer, Past, Row, RowId, Step, StepContext, StepError, StopKind,
    Usage, WaitReason, call_key,
};
use data_generation_templating::Prompts;
use futures::future::{BoxFuture, FutureExt};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::look_back::{LookBack, Recall};
use crate::steering::Steering;
use crate::trace;

/// Renders the prompts of a row and asks the model.
pub(crate) struct Ask {
    pub(crate) prompts: Prompts,
    pub(crate) client: Arc<Client>,
    /// `model.base_url`, as the manifest has it.
    pub(crate) base_url: String,
    pub(crate) offline: bool,
    /// What is changed while the run works.
    pub(crate) steering: Steering,
}

impl Ask {
    fn request(&self, row: &Row) -> Result<Request, StepError> {
        let messages = self
            .prompts
            .render_row(row.json())
            .map_err(|error| StepError::Fail {
                class: "invalid_row".to_owned(),
                message: error.to_string(),
                response: None,
            })?;
        Ok(Request {
            system: messages.system,
            user: messages.user,
        })
    }

    fn key(&self, row: &Row, request: &Request) -> String {
        let model = self.client.model();
        call_key(
            row.id(),
            self.name(),
            model.provider(),
            &model.identity(request),
        )
    }

    /// Tokens of a prompt, by the letters of the templates.
    fn prompt_guess(&self) -> u64 {
        let system = self.prompts.system().map(|prompt| prompt.source());
        let texts = system.into_iter().chain([self.prompts.user().source()]);
        texts.map(estimate_tokens).sum()
    }

    fn fill(&self, draft: &mut Draft, reply: Reply) {
        let asked = if self.offline {
            "offline"
        } else {
            self.client.model().model()
        };
        draft.response = reply.text;
        draft.reasoning = reply.reasoning;
        draft.model = reply.model.unwrap_or_else(|| asked.to_owned());
        draft.finish_reason = reply.finish_reason;
        draft.usage = usage(reply.usage);
        draft.latency_ms = u64::try_from(reply.latency.as_millis()).unwrap_or(u64::MAX);
        draft.at = Some(reply.at);
        draft.attempts = reply.attempt;
        draft.warnings = reply.warnings.into_iter().map(str::to_owned).collect();
        draft.offline = self.offline;
    }
}

pub(crate) fn usage(usage: LlmUsage) -> Usage {
    Usage {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        total_tokens: usage.total_tokens,
        estimated: usage.estimated,
    }
}

impl Step for Ask {
    fn name(&self) -> &str {
        "ask"
    }

    fn run<'a>(
        &'a self,
        row: &'a Row,
        draft: &'a mut Draft,
        cx: &'a StepContext<'a>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            let request = self.request(row)?;
            let call = RowCall {
                cx,
                key: self.key(row, &request),
                aside: Mutex::new(None),
            };
            let reply = self
                .client
                .ask_for(&request, &call)
                .await
                .map_err(|error| step_error(error.into_kind()))?;
            self.fill(draft, reply);
            Ok(())
        }
        .boxed()
    }

    fn resume(&self, past: &Past<'_>) {
        self.steering.remember(Recall {
            dir: past.dir().to_owned(),
            base_url: self.base_url.clone(),
            prompt_guess: self.prompt_guess(),
        });
        if let Some(window) = self.client.longest_window() {
            let look_back = LookBack {
                client: &self.client,
                base_url: &self.base_url,
                prompt_guess: self.prompt_guess(),
                now: SystemTime::now(),
                window,
                at_work: None,
            };
            look_back.at(past);
        }
    }

    fn places(&self) -> Option<usize> {
        Some(self.client.places())
    }

    fn steered(&self) -> BTreeMap<String, Value> {
        self.steering.changed()
    }

    fn call_key(&self, row: &Row) -> Option<String> {
        let request = self.request(row).ok()?;
        Some(self.key(row, &request))
    }
}

/// What an error of the client means for the row and the run.
fn step_error(kind: LlmErrorKind) -> StepError {
    match kind {
        LlmErrorKind::Row {
            class,
            message,
            text,
        } => StepError::Fail {
            class: class.to_owned(),
            message,
            response: text,
        },
        LlmErrorKind::Run { message, cure, .. } => StepError::Stop {
            kind: StopKind::Refused,
            message: format!("{}; {cure}", message.trim_end_matches('.')),
        },
        LlmErrorKind::Later { message, wait } => StepError::Stop {
            kind: StopKind::Later,
            message: format!(
                "{}; {}",
                message.trim_end_matches('.'),
                when_to_come_back(wait)
            ),
        },
        // Where the journal could not be written, the writer has told why.
        LlmErrorKind::Stopped | LlmErrorKind::Call(_) => StepError::Stopped,
        other => StepError::Stop {
            kind: StopKind::Refused,
            message: other.to_string(),
        },
    }
}

/// The local time, because who reads it may read it tomorrow.
fn when_to_come_back(wait: Option<Duration>) -> String {
    let at = wait.and_then(|wait| {
        // To the next whole minute, so that nobody comes too early.
        let wait = jiff::SignedDuration::try_from(wait + Duration::from_secs(60)).ok()?;
        jiff::Zoned::now().checked_add(wait).ok()
    });
    match at {
        Some(at) => format!("come back after {}", at.strftime("%Y-%m-%d %H:%M %:z")),
        None => "come back later, it does not say when".to_owned(),
    }
}

/// A row's part in a call of the client: journal, events, stopping.
struct RowCall<'a> {
    cx: &'a StepContext<'a>,
    key: String,
    /// There while the row waits for its back-off and another row has its place.
    aside: Mutex<Option<Aside>>,
}

impl RowCall<'_> {
    fn set_aside(&self, aside: Option<Aside>) {
        *self.aside.lock().unwrap_or_else(PoisonError::into_inner) = aside;
    }
}

impl Call for RowCall<'_> {
    fn replay(&self) -> Option<(Answer, u32)> {
        let old = self.cx.replay(&self.key)?;
        let mut answer = Answer::from_body(old.status, old.body);
        answer.latency = old.latency;
        answer.at = old.at;
        Some((answer, old.attempt))
    }

    fn may_send(&self) -> bool {
        self.cx.may_send()
    }

    fn next_attempt(&self) -> u32 {
        self.cx.next_attempt()
    }

    fn paid<'a>(
        &'a self,
        answer: &'a Answer,
        usage: LlmUsage,
        attempt: u32,
    ) -> BoxFuture<'a, Result<(), BoxError>> {
        async move {
            let paid = PaidAnswer {
                key: &self.key,
                attempt,
                status: answer.status,
                at: answer.at,
                latency: answer.latency,
                prompt_guess: usage.estimated.then_some(usage.prompt_tokens),
                body: &answer.body,
            };
            self.cx
                .journal(paid)
                .await
                .map_err(|_| "the journal could not be written")?;
            Ok(())
        }
        .boxed()
    }

    fn event(&self, event: &LlmEvent) {
        let id = self.cx.row();
        match event {
            LlmEvent::Waiting { on, at_most } => {
                if matches!(on, LlmWait::BackOff { .. }) {
                    self.set_aside(Some(self.cx.step_aside()));
                }
                self.cx.event(&Event::Waiting {
                    id,
                    reason: reason_of(on),
                    on: &in_words(on),
                    at_most: *at_most,
                });
            }
            LlmEvent::StillWaiting {
                on,
                waited,
                at_most,
                others,
            } => tell_of_wait(id, on, *waited, *at_most, *others),
            LlmEvent::Resumed => {
                self.set_aside(None);
                self.cx.event(&Event::WaitEnded { id });
            }
            LlmEvent::Answered {
                status,
                latency,
                usage,
                arrived,
                ..
            } => {
                if !arrived {
                    self.cx.never_arrived();
                }
                self.cx.answered(*status, *latency);
                if let Some(usage) = usage {
                    self.cx.spent(self::usage(*usage));
                }
            }
            LlmEvent::Retrying {
                class,
                message,
                after,
            } => {
                self.cx.event(&Event::Retrying {
                    id,
                    class,
                    message,
                    after: *after,
                });
            }
            LlmEvent::Paused { message, wait, .. } => {
                self.cx.event(&Event::Paused {
                    message,
                    wait: *wait,
                });
            }
            LlmEvent::Warned { class, message } => {
                self.cx.event(&Event::Warning {
                    message: &format!("{class}: {message}"),
                });
            }
            // The context tells of it where it counts it.
            _ => {}
        }
    }

    fn stopping(&self) -> &CancellationToken {
        self.cx.stopping()
    }
}

/// A run that waits for long says so in the log: who, for what, how long.
fn tell_of_wait(
    row: RowId,
    on: &LlmWait,
    waited: Duration,
    at_most: Option<Duration>,
    others: usize,
) {
    let waited_s = waited.as_secs();
    let at_most_s = at_most.map(|left| left.as_secs());
    let on = trace::one_line(&in_words(on));
    tracing::info!(%row, waited_s, at_most_s, others, "still waits for {on}");
}

fn reason_of(wait: &LlmWait) -> WaitReason {
    match wait {
        LlmWait::RateLimit { kind, .. } => match kind {
            LimitKind::Requests | LimitKind::Unknown => WaitReason::RequestLimit,
            LimitKind::Tokens => WaitReason::TokenLimit,
            LimitKind::Day => WaitReason::DayLimit,
            _ => WaitReason::Other,
        },
        LlmWait::Slot => WaitReason::Slot,
        LlmWait::Hold => WaitReason::Held,
        LlmWait::Pause { .. } => WaitReason::Pause,
        LlmWait::Away { .. } => WaitReason::Away,
        LlmWait::BackOff { .. } => WaitReason::BackOff,
        _ => WaitReason::Other,
    }
}

fn in_words(wait: &LlmWait) -> String {
    match wait {
        LlmWait::RateLimit { limit, kind } if *kind == LimitKind::Unknown => limit.clone(),
        LlmWait::RateLimit { limit, .. } => format!("the limit of {limit}"),
        LlmWait::Slot => "a free slot".to_owned(),
        LlmWait::Hold => "the end of the pause that was asked for".to_owned(),
        LlmWait::Pause { reason } | LlmWait::Away { reason } => format!("the endpoint: {reason}"),
        LlmWait::BackOff { class, message } => format!("another try after {class}: {message}"),
        _ => "something new".to_owned(),
    }
}

/// Takes the value out of the answer.
pub(crate) struct Take {
    pub(crate) extractor: Arc<dyn Extract>,
}

impl Step for Take {
    fn name(&self) -> &str {
        "extract"
    }

    fn run<'a>(
        &'a self,
        _row: &'a Row,
        draft: &'a mut Draft,
        _cx: &'a StepContext<'a>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            match self.extractor.extract(&draft.response) {
                Ok(value) => {
                    draft.extracted = Some(value);
                    Ok(())
                }
                Err(error) => {
                    let class = error.class().to_owned();
                    let message = error.to_string();
                    let response = Some(std::mem::take(&mut draft.response));
                    // A limit is met again by the next answer; what did not fit may fit then.
                    let worth_asking_again =
                        error.is_miss() || matches!(error.kind(), ExtractErrorKind::Own(_));
                    Err(if worth_asking_again {
                        StepError::Again {
                            class,
                            message,
                            response,
                        }
                    } else {
                        StepError::Fail {
                            class,
                            message,
                            response,
                        }
                    })
                }
            }
        }
        .boxed()
    }
}

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::body::{self, Reading};
use crate::classify::classify_read;
use crate::gate::{Slot, Stopped, Wait};
use crate::outage::Sign;
use crate::pace::Slowed;
use crate::reserve::{Refused, Reserved, guess_of};
use crate::retry::Spent;
use crate::{
    Answer, Budget, Call, ClassifyOptions, Client, Error, ErrorKind, Event, Reply, Request,
    TransportError, Usage, Verdict, WaitReason, classify,
};

/// Requests of one row that find nobody, where nobody ever answered: then the address is wrong.
const NOBODY_THERE: u32 = 3;
/// The class of an answer that is a page, of a network that wants a log-in for example.
const HTML: &str = "html_answer";
/// While the endpoint is away, the wait before the next probe grows no further than after so many.
const PROBES: u32 = 4;

/// One question on its way: back-off, then a slot, then a permit, then the request; and again.
///
/// A row in back-off holds no slot, so that others use it. The slot comes before the permit, because a
/// permit is a moment in time: kept until a slot is free, several would be used at once.
pub(crate) struct Question<'a> {
    client: &'a Client,
    request: &'a Request,
    call: &'a dyn Call,
    spent: Spent,
    /// The number of the last request.
    attempt: u32,
    /// Whether the last request was the probe after an error that would stop the run.
    probed: bool,
    /// Its number among those that share the endpoint.
    number: u64,
    /// How often the endpoint had been away when that was last looked at.
    outages: u32,
    /// What was wrong with the last earlier answer that settled nothing.
    unsettled: Option<(&'static str, String)>,
    /// Tokens of the prompt: a guess, for answers that do not say.
    prompt_tokens: u64,
}

/// What became of a request, and what its body says where it was paid for: that is read once.
struct Came {
    outcome: Result<Answer, TransportError>,
    reading: Option<Reading>,
}

/// Why everybody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// More requests in some time than the endpoint allows.
    TooFast,
    /// More than it can work on.
    Busy,
    /// Nobody is there.
    Away,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.client.outage.left();
    }
}

/// What becomes of a question after an outcome.
enum Next<'a> {
    Settled(Result<Reply, Error>),
    /// Ask again, with a slot where one is kept.
    Again(Option<Slot<'a>>),
    /// Ask again after a wait of one's own.
    BackOff {
        class: &'static str,
        message: String,
        wait: Duration,
    },
}

impl<'a> Question<'a> {
    pub(crate) fn new(
        client: &'a Client,
        request: &'a Request,
        call: &'a dyn Call,
    ) -> Question<'a> {
        Question {
            client,
            request,
            call,
            spent: Spent::default(),
            attempt: 0,
            probed: false,
            number: client.outage.joined(),
            outages: client.outage.times(),
            prompt_tokens: guess_of(request),
            unsettled: None,
        }
    }

    pub(crate) async fn settle(mut self) -> Result<Reply, Error> {
        if let Some(settled) = self.replay() {
            return settled;
        }
        if !self.call.may_send() {
            return Err(self.without_sending());
        }
        let mut kept = None;
        loop {
            let mut slot = match kept.take() {
                Some(slot) => slot,
                None => self.enter().await?,
            };
            let Some(reserved) = self.permit(&slot).await? else {
                continue;
            };
            let came = self.send(reserved, &mut slot).await?;
            match self.judge(came, slot) {
                Next::Settled(settled) => return settled,
                Next::Again(slot) => kept = slot,
                Next::BackOff {
                    class,
                    message,
                    wait,
                } => self.back_off(class, message, wait).await?,
            }
            if self.call.stopping().is_cancelled() {
                return Err(self.error(ErrorKind::Stopped));
            }
        }
    }

    /// Judges what earlier runs paid for and did not come to judge: the first good answer counts. One that
    /// is final and bad counts only where no later one is good.
    fn replay(&mut self) -> Option<Result<Reply, Error>> {
        let mut failed = None;
        while let Some((answer, attempt)) = self.call.replay() {
            self.attempt = attempt;
            let (class, message, budget) = match classify(&Ok(answer), &self.classify_options()) {
                Verdict::Usable(reply) => return Some(Ok(reply)),
                Verdict::FailRow {
                    class,
                    message,
                    text,
                } => {
                    failed = Some(self.row(class, message, text));
                    continue;
                }
                Verdict::Retry {
                    class,
                    message,
                    budget,
                    ..
                } if class != HTML => (class, message, budget),
                // What the endpoint asked for then, or what stood between us and it, says nothing about now.
                Verdict::Retry { class, message, .. }
                | Verdict::Pause { class, message, .. }
                | Verdict::StopRun { class, message, .. } => (class, message, Budget::Attempts),
                Verdict::Later { message, .. } => ("later", message, Budget::Attempts),
            };
            let repeat = self.spent.repeat(budget, &self.client.options.retry);
            if repeat.is_none() {
                failed = Some(self.give_up(class, message));
            } else {
                self.unsettled = Some((class, message));
            }
        }
        failed.map(Err)
    }

    async fn wait_while_held(&self) -> Result<(), Error> {
        if !*self.client.held.borrow() {
            return Ok(());
        }
        self.call.event(&Event::Waiting {
            on: WaitReason::Hold,
            at_most: None,
        });
        let mut held = self.client.held.subscribe();
        tokio::select! {
            biased;
            () = self.call.stopping().cancelled() => return Err(self.error(ErrorKind::Stopped)),
            () = self.client.halted.cancelled() => return Err(self.error(ErrorKind::Stopped)),
            // The sender lives in the client.
            _ = held.wait_for(|held| !held) => {}
        }
        self.call.event(&Event::Resumed);
        Ok(())
    }

    /// What ends a question that no earlier answer settles and for which nothing may be sent.
    fn without_sending(&mut self) -> Error {
        let (class, message) = self.unsettled.take().unwrap_or_else(|| {
            let message = "no earlier answer is there, and none may be asked for";
            ("no_answer", message.to_owned())
        });
        self.row(class, message, None)
    }

    async fn enter(&self) -> Result<Slot<'a>, Error> {
        self.wait_while_held().await?;
        let mut waited = false;
        let entered = self.client.gate.enter(self.spent.lane(), |wait| {
            waited = true;
            let (on, at_most) = match wait {
                Wait::Slot => (WaitReason::Slot, None),
                Wait::Pause { reason, at_most } => (WaitReason::Pause { reason }, at_most),
            };
            self.call.event(&Event::Waiting { on, at_most });
        });
        let slot = tokio::select! {
            biased;
            () = self.call.stopping().cancelled() => return Err(self.error(ErrorKind::Stopped)),
            entered = entered => entered.map_err(|Stopped| self.error(ErrorKind::Stopped))?,
        };
        if waited {
            self.call.event(&Event::Resumed);
        }
        Ok(slot)
    }

    /// Waits for the limits. `None`: the gate has closed meanwhile, this slot is worth nothing.
    async fn permit(&self, slot: &Slot<'_>) -> Result<Option<Reserved<'a>>, Error> {
        let mut waited = false;
        let reserved = Reserved::wait(
            self.client,
            self.spent.lane(),
            self.prompt_tokens,
            |limit, wait| {
                waited = true;
                let limit = limit.to_owned();
                self.call.event(&Event::Waiting {
                    on: WaitReason::RateLimit { limit },
                    at_most: Some(wait),
                });
            },
        );
        let reserved = tokio::select! {
            biased;
            () = self.call.stopping().cancelled() => return Err(self.error(ErrorKind::Stopped)),
            () = slot.closed() => None,
            reserved = reserved => Some(reserved),
        };
        if waited {
            self.call.event(&Event::Resumed);
        }
        match reserved {
            Some(Ok(reserved)) if slot.is_open() && !*self.client.held.borrow() => {
                Ok(Some(reserved))
            }
            Some(Ok(reserved)) => {
                reserved.give_back();
                Ok(None)
            }
            None => Ok(None),
            Some(Err(Refused::NeverFits(message))) => {
                Err(self.row("above_token_limit", message, None))
            }
            Some(Err(Refused::TooLong(limit))) => {
                self.client.halt();
                let (message, wait) = (limit.to_string(), Some(limit.wait));
                Err(self.error(ErrorKind::Later { message, wait }))
            }
        }
    }

    /// One request, and its answer made safe.
    async fn send(&mut self, reserved: Reserved<'a>, slot: &mut Slot<'_>) -> Result<Came, Error> {
        self.spent.start();
        self.attempt = self.call.next_attempt();
        let _in_flight = InFlight::new(&self.client.in_flight);
        let attempt = self.attempt;
        self.call.event(&Event::Sending { attempt });
        tracing::debug!(attempt, system = ?self.request.system, user = ?self.request.user, "asking");
        slot.sent();
        let start = Instant::now();
        let outcome = self.client.model.ask(self.request, attempt).await;
        let (status, latency) = match &outcome {
            Ok(answer) => (Some(answer.status), answer.latency),
            Err(_) => (None, start.elapsed()),
        };
        let paid = outcome.as_ref().ok().filter(|answer| answer.is_paid());
        let reading = paid.map(|answer| body::read(&answer.body));
        let usage = reading
            .as_ref()
            .map(|reading| Usage::of_reading(reading, self.prompt_tokens));
        reserved.settle(&outcome, usage);
        slot.answered(usage.map(|usage| usage.completion_tokens));
        self.call.event(&Event::Answered {
            attempt,
            status,
            latency,
            usage,
        });
        match &outcome {
            Ok(answer) => {
                tracing::debug!(attempt, status, body = ?String::from_utf8_lossy(&answer.body), "answered");
                if answer.is_paid() {
                    let kept = self.call.paid(answer, attempt).await;
                    kept.map_err(|error| self.error(ErrorKind::Call(error)))?;
                }
            }
            Err(error) => {
                tracing::debug!(attempt, kind = ?error.kind(), error = error.message(), "not answered")
            }
        }
        Ok(Came { outcome, reading })
    }

    fn judge(&mut self, came: Came, mut slot: Slot<'a>) -> Next<'a> {
        let Came { outcome, reading } = came;
        let verdict = classify_read(&outcome, reading, &self.classify_options());
        if !matches!(verdict, Verdict::StopRun { .. }) {
            self.probed = false;
        }
        match verdict {
            Verdict::Usable(reply) => {
                self.client.succeeded.store(true, Ordering::Relaxed);
                self.good(&mut slot);
                Next::Settled(Ok(reply))
            }
            Verdict::FailRow {
                class,
                message,
                text,
            } => {
                if outcome.is_ok_and(|answer| answer.is_paid()) {
                    self.client.succeeded.store(true, Ordering::Relaxed);
                }
                self.good(&mut slot);
                self.warn_of_unknown(class, &message);
                Next::Settled(Err(self.row(class, message, text)))
            }
            Verdict::Retry {
                class,
                message,
                budget,
                hint,
            } => {
                if budget == Budget::Empty {
                    self.good(&mut slot);
                }
                self.warn_of_unknown(class, &message);
                if self.client.has_succeeded()
                    && let Some(sign) = Sign::of(class, &outcome)
                    && let Some(since) = self.met(sign)
                {
                    return self.wait_for_endpoint(class, message, hint, slot, since);
                }
                self.repeat(class, message, budget, hint)
            }
            Verdict::Pause {
                class,
                message,
                hint,
            } => self.pause(class, message, hint, slot),
            Verdict::StopRun {
                class,
                message,
                cure,
            } => self.stop(class, message, cure, slot),
            Verdict::Later { message, wait } => {
                tracing::info!(message, ?wait, "the endpoint asks to come back later");
                self.client.halt();
                Next::Settled(Err(self.error(ErrorKind::Later { message, wait })))
            }
        }
    }

    /// The endpoint works.
    fn good(&self, slot: &mut Slot<'_>) {
        slot.good();
        if let Some(away) = self.client.outage.over() {
            tracing::info!(?away, "the endpoint is back");
        }
    }

    /// Since when the endpoint is away for everybody, where this fault shows that it is.
    fn met(&self, sign: Sign) -> Option<Instant> {
        let last = self.spent.is_last(&self.client.options.retry);
        self.client.outage.met(self.number, sign, last)
    }

    /// Nobody is there, but somebody was: all wait, one probes now and then, and no attempt is counted.
    fn wait_for_endpoint(
        &mut self,
        class: &'static str,
        message: String,
        hint: Option<Duration>,
        slot: Slot<'a>,
        since: Instant,
    ) -> Next<'a> {
        let at_most = self.client.options.max_outage;
        if since.elapsed() >= at_most {
            let message = format!(
                "the endpoint has been away for {}: {message}",
                in_words(since.elapsed())
            );
            tracing::info!(class, message, "no longer waited for");
            self.client.halt();
            let wait = None;
            return Next::Settled(Err(self.error(ErrorKind::Later { message, wait })));
        }
        let reason = format!(
            "the endpoint is away, it is waited for up to {}: {message}",
            in_words(at_most)
        );
        self.put_off(class, reason, hint, slot, Cause::Away)
    }

    fn repeat(
        &mut self,
        class: &'static str,
        message: String,
        budget: Budget,
        hint: Option<Duration>,
    ) -> Next<'a> {
        let options = &self.client.options.retry;
        let never = !self.client.has_succeeded();
        let outages = self.client.outage.times();
        if std::mem::replace(&mut self.outages, outages) != outages {
            self.spent.was_away();
        }
        if Sign::is_nobody_there(class) && self.spent.not_reached() >= NOBODY_THERE && never {
            return self.halt(
                "endpoint_down",
                self.with_address(message),
                "check `model.base_url` and that the endpoint is up".into(),
            );
        }
        let Some(repeat) = self.spent.repeat(budget, options) else {
            if never && class == HTML {
                return self.halt(
                    class,
                    self.with_address(message),
                    "check `model.base_url` and whether this network wants a log-in".into(),
                );
            }
            return Next::Settled(Err(self.give_up(class, message)));
        };
        let wait = self.client.schedule.wait(repeat, hint);
        if self.spent.too_old_after(wait, options) {
            return Next::Settled(Err(self.too_old(class, &message)));
        }
        self.call.event(&Event::Retrying {
            class,
            message: message.clone(),
            after: wait,
        });
        Next::BackOff {
            class,
            message,
            wait,
        }
    }

    /// Everybody waits; the row loses no attempt, only time.
    fn pause(
        &mut self,
        class: &'static str,
        message: String,
        hint: Option<Duration>,
        slot: Slot<'a>,
    ) -> Next<'a> {
        let cause = match class {
            "rate_limited" => Cause::TooFast,
            _ => Cause::Busy,
        };
        self.put_off(class, message, hint, slot, cause)
    }

    /// Closes the gate for all; the wait grows with each pause in a row.
    fn put_off(
        &mut self,
        class: &'static str,
        message: String,
        hint: Option<Duration>,
        mut slot: Slot<'a>,
        cause: Cause,
    ) -> Next<'a> {
        let is_news = slot.is_news();
        let longest = match cause {
            Cause::Away => PROBES,
            Cause::TooFast | Cause::Busy => u32::MAX,
        };
        let too_many = cause != Cause::Away;
        let (wait, closed) = slot.pause(&message, too_many, hint.is_some(), |nth| {
            self.client.schedule.wait(nth.min(longest), hint)
        });
        drop(slot);
        if is_news && cause == Cause::TooFast {
            self.slow_down(wait);
        }
        if self.spent.too_old_after(wait, &self.client.options.retry) {
            return Next::Settled(Err(self.too_old(class, &message)));
        }
        self.call.event(&Event::Retrying {
            class,
            message: message.clone(),
            after: wait,
        });
        if !closed {
            return Next::BackOff {
                class,
                message,
                wait,
            };
        }
        tracing::info!(class, message, ?wait, "everybody waits");
        self.call.event(&Event::Paused {
            class,
            message,
            wait,
        });
        Next::Again(None)
    }

    /// The endpoint allows less than it was thought to.
    fn slow_down(&self, wait: Duration) {
        let Some(Slowed { share, is_first }) = self.client.limiter.pushed_back(wait) else {
            return;
        };
        let percent = (share * 100.0).round();
        let message = format!(
            "the endpoint pushes back although the limits are kept: requests leave at {percent} % of the configured rate for now, and faster again where it lets them"
        );
        tracing::info!(share, "{message}");
        if is_first {
            let class = "slowed_down";
            self.call.event(&Event::Warned { class, message });
        }
    }

    /// An error that would stop the run. In the middle of one it may be a hiccup: one request goes alone first.
    fn stop(
        &mut self,
        class: &'static str,
        message: String,
        cure: String,
        mut slot: Slot<'a>,
    ) -> Next<'a> {
        if self.probed || !self.client.has_succeeded() || self.client.halted.is_cancelled() {
            return self.halt(class, message, cure);
        }
        self.probed = slot.probe_alone(&message);
        if !self.probed
            && self
                .spent
                .repeat(Budget::Attempts, &self.client.options.retry)
                .is_none()
        {
            return self.halt(class, message, cure);
        }
        tracing::info!(class, message, "asking once more before the run is stopped");
        self.call.event(&Event::Retrying {
            class,
            message,
            after: Duration::ZERO,
        });
        // Where another row has closed the gate, its probe decides for this one too.
        Next::Again(self.probed.then_some(slot))
    }

    /// What is wrong there, and where that is; what was lost on the way says it already.
    fn with_address(&self, message: String) -> String {
        match self.client.model.address() {
            Some(address) if !message.contains(address) => format!("{address}: {message}"),
            _ => message,
        }
    }

    fn halt(&self, class: &'static str, message: String, cure: String) -> Next<'a> {
        tracing::info!(class, message, cure, "no question can be answered");
        self.client.halt();
        Next::Settled(Err(self.error(ErrorKind::Run {
            class,
            message,
            cure,
        })))
    }

    async fn back_off(
        &self,
        class: &'static str,
        message: String,
        wait: Duration,
    ) -> Result<(), Error> {
        let on = WaitReason::BackOff { class, message };
        self.call.event(&Event::Waiting {
            on,
            at_most: Some(wait),
        });
        tokio::select! {
            biased;
            () = self.call.stopping().cancelled() => Err(self.error(ErrorKind::Stopped)),
            () = self.client.halted.cancelled() => Err(self.error(ErrorKind::Stopped)),
            () = sleep(wait) => {
                self.call.event(&Event::Resumed);
                Ok(())
            }
        }
    }

    fn classify_options(&self) -> ClassifyOptions {
        ClassifyOptions {
            reasoning: self.client.options.reasoning,
            attempt: self.attempt,
            prompt_tokens: self.prompt_tokens,
            succeeded_before: self.client.has_succeeded(),
            max_pause: Duration::from_secs(self.client.options.retry.max_pause_s),
        }
    }

    fn warn_of_unknown(&self, class: &'static str, message: &str) {
        if class == "unknown_status" {
            tracing::info!(message, "an answer that is not known");
            self.call.event(&Event::Warned {
                class,
                message: message.to_owned(),
            });
        }
    }

    fn give_up(&self, class: &'static str, message: String) -> Error {
        self.row(
            class,
            format!("{message} (given up at request {})", self.attempt),
            None,
        )
    }

    /// Time is what it ran out of, not attempts.
    fn too_old(&self, class: &'static str, message: &str) -> Error {
        let (request, most) = (self.attempt, self.client.options.retry.max_row_s);
        let message = format!(
            "{message} (given up at request {request}: after another wait it would be older than `run.retry.max_row_s`, {most} s)"
        );
        self.row(class, message, None)
    }

    fn row(&self, class: &'static str, message: String, text: Option<String>) -> Error {
        self.error(ErrorKind::Row {
            class,
            message,
            text,
        })
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, self.attempt)
    }
}

/// As people say it.
fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

/// Counts a request until its answer is safe, or it was dropped.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn new(count: &'a AtomicUsize) -> InFlight<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        InFlight(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

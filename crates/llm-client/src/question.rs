use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::body::{self, Reading};
use crate::crowd::Left;
use crate::gate::{Slot, Stopped, Wait, Why};
use crate::next::Next;
use crate::outage::Stretch;
use crate::reserve::{Refused, Reserved, guess_of, never_arrived};
use crate::retry::Spent;
use crate::share::News;
use crate::watch::Watch;
use crate::{
    Answer, Budget, Call, ClassifyOptions, Client, Error, ErrorKind, Event, LimitKind, Reply,
    Request, TransportError, Usage, Verdict, WaitReason, classify,
};

/// The class of an answer that is a page, of a network that wants a log-in for example.
pub(crate) const HTML: &str = "html_answer";

/// One question on its way: back-off, then a slot, then a permit, then the request; and again.
///
/// A row in back-off holds no slot, so that others use it. The slot comes before the permit, because a
/// permit is a moment in time: kept until a slot is free, several would be used at once.
pub(crate) struct Question<'a> {
    pub(crate) client: &'a Client,
    request: &'a Request,
    pub(crate) call: &'a dyn Call,
    pub(crate) spent: Spent,
    /// The number of the last request.
    pub(crate) attempt: u32,
    /// Whether the last request was the probe after an error that would stop the run.
    pub(crate) probed: bool,
    /// Its number among those that share the endpoint.
    pub(crate) number: u64,
    /// How often the endpoint had been away when that was last looked at.
    pub(crate) outages: u32,
    /// What was wrong with the last earlier answer that settled nothing.
    unsettled: Option<(&'static str, String)>,
    /// Tokens of the prompt: a guess, for answers that do not say.
    prompt_tokens: u64,
}

/// What became of a request, and what its body says where it was paid for: that is read once.
pub(crate) struct Came {
    pub(crate) outcome: Result<Answer, TransportError>,
    pub(crate) reading: Option<Reading>,
    /// When it left, by the clock that stands still while the client is held.
    pub(crate) sent: Instant,
    /// The same by the clock that never stands still, and among how many.
    pub(crate) left: Left,
    /// Whether it has been said that the endpoint works.
    pub(crate) said: bool,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.client.outage.left();
    }
}

impl From<Why> for WaitReason {
    fn from(why: Why) -> WaitReason {
        match why {
            Why::Asked(reason) => WaitReason::Pause { reason },
            Why::Away(reason) => WaitReason::Away { reason },
        }
    }
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

    pub(crate) async fn settle(&mut self) -> Result<Reply, Error> {
        if let Some(settled) = self.replay() {
            return settled;
        }
        if !self.call.may_send() {
            return Err(self.without_sending());
        }
        // What is soon over has a box of its own: thousands of requests are under way for seconds.
        let mut kept = None;
        loop {
            let (mut slot, reserved) = match Box::pin(self.may_send(kept.take())).await? {
                Some(may) => may,
                None => continue,
            };
            let came = self.send(reserved, &mut slot).await?;
            match self.judge(came, slot) {
                Next::Settled(settled) => return settled,
                Next::Again(slot) => kept = slot,
                Next::BackOff {
                    class,
                    message,
                    wait,
                    stretch,
                } => Box::pin(self.back_off(class, message, wait, stretch)).await?,
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
        while let Some((mut answer, attempt)) = self.call.replay() {
            self.attempt = attempt;
            answer.body = self.client.model.without_secrets(answer.body);
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
        if !self.client.held.is_on() {
            return Ok(());
        }
        let watch = Watch::new(self.client, self.call);
        watch.on(WaitReason::Hold, None);
        let over = pin!(self.client.held.until(false));
        tokio::select! {
            biased;
            () = self.call.stopping().cancelled() => return Err(self.error(ErrorKind::Stopped)),
            () = self.client.halted.cancelled() => return Err(self.error(ErrorKind::Stopped)),
            () = watch.until(over) => {}
        }
        watch.over();
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

    /// Waits for the gate, where no slot was kept, and for the limits. `None`: the gate has closed meanwhile, or the
    /// client is held.
    async fn may_send(
        &self,
        kept: Option<Slot<'a>>,
    ) -> Result<Option<(Slot<'a>, Reserved<'a>)>, Error> {
        let slot = match kept {
            Some(slot) => slot,
            None => self.enter().await?,
        };
        let reserved = self.permit(&slot).await?;
        Ok(reserved.map(|reserved| (slot, reserved)))
    }

    async fn enter(&self) -> Result<Slot<'a>, Error> {
        self.wait_while_held().await?;
        let watch = Watch::new(self.client, self.call);
        let entered = self
            .client
            .gate
            .enter(self.spent.lane(), |wait| match wait {
                Wait::Slot => watch.on(WaitReason::Slot, None),
                Wait::Pause { why, at_most } => watch.on(why.into(), at_most),
            });
        let slot = {
            let entered = pin!(entered);
            tokio::select! {
                biased;
                () = self.call.stopping().cancelled() => return Err(self.error(ErrorKind::Stopped)),
                entered = watch.until(entered) => entered.map_err(|Stopped| self.error(ErrorKind::Stopped))?,
            }
        };
        watch.over();
        Ok(slot)
    }

    /// Waits for the limits. `None`: the gate has closed meanwhile, this slot is worth nothing; or the client is held,
    /// and that is what is waited for, not the limits.
    async fn permit(&self, slot: &Slot<'_>) -> Result<Option<Reserved<'a>>, Error> {
        let watch = Watch::new(self.client, self.call);
        let reserved = Reserved::wait(
            self.client,
            self.spent.lane(),
            (self.request, self.prompt_tokens),
            |limit, kind, wait| {
                let limit = limit.to_owned();
                let at_most = (kind != LimitKind::Unknown).then_some(wait);
                watch.on(WaitReason::RateLimit { limit, kind }, at_most);
                self.tell_news();
            },
        );
        let reserved = {
            let reserved = pin!(reserved);
            tokio::select! {
                biased;
                () = self.call.stopping().cancelled() => return Err(self.error(ErrorKind::Stopped)),
                () = slot.closed() => None,
                () = self.client.held.until(true) => None,
                reserved = watch.until(reserved) => Some(reserved),
            }
        };
        watch.over();
        self.tell_news();
        match reserved {
            Some(Ok(reserved)) if slot.is_open() && !self.client.held.is_on() => Ok(Some(reserved)),
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

    /// What the user should know of those who share the limits.
    fn tell_news(&self) {
        while let Some(News { class, message }) = self.client.limiter.news() {
            self.call.event(&Event::Warned { class, message });
        }
    }

    /// One request, and its answer made safe.
    async fn send(&mut self, reserved: Reserved<'a>, slot: &mut Slot<'_>) -> Result<Came, Error> {
        let sent = self.client.held.clock();
        self.spent.start(sent, || self.client.outage.time());
        self.attempt = self.call.next_attempt();
        let _in_flight = InFlight::new(&self.client.in_flight);
        let attempt = self.attempt;
        self.call.event(&Event::Sending { attempt });
        tracing::debug!(attempt, system = ?self.request.system, user = ?self.request.user, "asking");
        slot.sent();
        let start = Instant::now();
        let leaving = self.client.crowd.leaves();
        let outcome = self.client.model.ask(self.request, attempt).await;
        let left = leaving.ended();
        if outcome.as_ref().is_ok_and(Answer::is_paid) {
            self.client.crowd.answered(left);
        }
        Box::pin(self.keep(outcome, (sent, left), start, reserved, slot)).await
    }

    /// Makes an answer safe.
    async fn keep(
        &self,
        outcome: Result<Answer, TransportError>,
        (sent, left): (Instant, Left),
        start: Instant,
        reserved: Reserved<'a>,
        slot: &mut Slot<'_>,
    ) -> Result<Came, Error> {
        let attempt = self.attempt;
        let (status, latency) = match &outcome {
            Ok(answer) => (Some(answer.status), answer.latency),
            Err(_) => (None, start.elapsed()),
        };
        let paid = outcome.as_ref().ok().filter(|answer| answer.is_paid());
        let reading = paid.map(|answer| body::read(&answer.body));
        let usage = reading
            .as_ref()
            .map(|reading| Usage::of_reading(reading, self.prompt_tokens));
        let arrived = outcome
            .as_ref()
            .map_or_else(|error| !never_arrived(error.kind()), |_| true);
        if let Some(news) = reserved.settle(&outcome, usage) {
            self.call.event(&news);
        }
        self.warn_of_miscount(reading.as_ref());
        slot.answered(usage.map(|usage| usage.completion_tokens));
        self.call.event(&Event::Answered {
            attempt,
            status,
            latency,
            usage,
            arrived,
        });
        let mut said = false;
        match &outcome {
            Ok(answer) => {
                tracing::debug!(attempt, status, body = ?String::from_utf8_lossy(&answer.body), "answered");
                if let Some(Ok(completion)) = &reading
                    && completion.is_answer()
                {
                    // Now, not when it is safe: a disk may take longer than others need to find nobody there.
                    self.client.succeeded.store(true, Ordering::Relaxed);
                    self.works(slot);
                    said = true;
                }
                if let Some(usage) = usage {
                    let kept = self.call.paid(answer, usage, attempt).await;
                    kept.map_err(|error| self.error(ErrorKind::Call(error)))?;
                }
            }
            Err(error) => {
                tracing::debug!(attempt, kind = ?error.kind(), error = error.message(), "not answered")
            }
        }
        Ok(Came {
            outcome,
            reading,
            sent,
            left,
            said,
        })
    }

    /// Once: an endpoint that does it does it always.
    fn warn_of_miscount(&self, reading: Option<&Reading>) {
        let Some(tokens) = reading.and_then(Usage::impossible) else {
            return;
        };
        if self.client.miscounts.swap(true, Ordering::Relaxed) {
            return;
        }
        let message = format!(
            "the endpoint says that one answer cost {tokens} tokens, which cannot be: the limits and the sums take a guess by its letters instead"
        );
        let class = "usage_not_believed";
        self.call.event(&Event::Warned { class, message });
    }

    async fn back_off(
        &self,
        class: &'static str,
        message: String,
        wait: Duration,
        stretch: Option<Stretch>,
    ) -> Result<(), Error> {
        let watch = Watch::new(self.client, self.call);
        watch.on(WaitReason::BackOff { class, message }, Some(wait));
        let waited = pin!(async {
            match stretch {
                // The wait was for an endpoint that is back.
                Some(stretch) => drop(timeout(wait, self.client.outage.is_back(stretch)).await),
                None => sleep(wait).await,
            }
        });
        tokio::select! {
            biased;
            () = self.call.stopping().cancelled() => Err(self.error(ErrorKind::Stopped)),
            () = self.client.halted.cancelled() => Err(self.error(ErrorKind::Stopped)),
            () = watch.until(waited) => {
                watch.over();
                Ok(())
            }
        }
    }

    pub(crate) fn classify_options(&self) -> ClassifyOptions {
        ClassifyOptions {
            reasoning: self.client.options.reasoning,
            attempt: self.attempt,
            prompt_tokens: self.prompt_tokens,
            succeeded_before: self.client.has_succeeded(),
            max_pause: Duration::from_secs(self.client.options.retry.max_pause_s),
        }
    }

    pub(crate) fn give_up(&self, class: &'static str, message: String) -> Error {
        self.row(
            class,
            format!("{message} (given up at request {})", self.attempt),
            None,
        )
    }

    pub(crate) fn row(&self, class: &'static str, message: String, text: Option<String>) -> Error {
        self.error(ErrorKind::Row {
            class,
            message,
            text,
        })
    }

    pub(crate) fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, self.attempt)
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

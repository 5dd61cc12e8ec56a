use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::classify::classify_read;
use crate::crowd::{Left, Refusal};
use crate::gate::{Cause, PutOff, Slot, Why};
use crate::outage::{Away, Fault, Met, Sign, Stretch};
use crate::pace::{Push, Slowed};
use crate::question::{Came, HTML, Question};
use crate::{Budget, Error, ErrorKind, Event, Reply, Verdict};

/// Requests of one row that find nobody, where nobody ever answered: then the address is wrong.
const NOBODY_THERE: u32 = 3;
/// While the endpoint is away, the wait before the next probe grows no further than after so many.
const PROBES: u32 = 4;
/// Nor does that of a row that was one too many, as long as others get answers.
const TURNS: u32 = 4;

/// What becomes of a question after an outcome.
pub(crate) enum Next<'a> {
    Settled(Result<Reply, Error>),
    /// Ask again, with a slot where one is kept.
    Again(Option<Slot<'a>>),
    /// Ask again after a wait of one's own.
    BackOff {
        class: &'static str,
        message: String,
        wait: Duration,
        /// It ends with the outage, where one was the cause.
        stretch: Option<Stretch>,
    },
}

impl<'a> Question<'a> {
    pub(crate) fn judge(&mut self, came: Came, mut slot: Slot<'a>) -> Next<'a> {
        let Came {
            outcome,
            reading,
            sent,
            left,
            said,
        } = came;
        let verdict = classify_read(&outcome, reading, &self.classify_options());
        if !matches!(verdict, Verdict::StopRun { .. }) {
            self.probed = false;
        }
        match verdict {
            Verdict::Usable(reply) => {
                self.client.succeeded.store(true, Ordering::Relaxed);
                self.good(&mut slot, said);
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
                self.good(&mut slot, said);
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
                    self.good(&mut slot, said);
                }
                self.warn_of_unknown(class, &message);
                self.give_back();
                let sign = Sign::of(class, &outcome);
                let refusal = match sign {
                    Some(_) if Sign::may_be_full(class) => self.client.crowd.refused(left),
                    _ => Refusal::Unclear,
                };
                if let Refusal::TooMany { accepted } = refusal
                    && !self.client.outage.is_on()
                {
                    return self.ask_less(class, message, hint, slot, accepted);
                }
                let met = sign
                    .filter(|_| self.client.has_succeeded() && refusal != Refusal::Alone)
                    .map(|sign| self.met(sign, sent, hint));
                if let Some(away) = met.and_then(|met| met.away) {
                    return self.wait_for_endpoint(class, message, hint, slot, away);
                }
                if sign.is_some() && met.is_none_or(|met| !met.is_cause) {
                    self.spent.sign();
                }
                // What the endpoint asks for holds, whoever has found it back.
                let stretch = met.map(|met| met.stretch).filter(|_| hint.is_none());
                self.repeat(class, message, budget, hint, (stretch, left))
            }
            Verdict::Pause {
                class,
                message,
                hint,
            } => {
                self.client.crowd.put_off(left);
                self.pause(class, message, hint, slot)
            }
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

    /// It is known what became of a request, and the endpoint works.
    fn good(&self, slot: &mut Slot<'_>, said: bool) {
        if !said {
            self.works(slot);
        }
        slot.good();
    }

    /// The endpoint works.
    pub(crate) fn works(&self, slot: &Slot<'_>) {
        if let Some(away) = self
            .client
            .outage
            .over(slot.is_open(), self.client.held.clock())
        {
            tracing::info!(?away, "the endpoint is back");
        }
    }

    /// What an outage cost this question.
    fn give_back(&mut self) {
        let outages = self.client.outage.times();
        if std::mem::replace(&mut self.outages, outages) != outages {
            self.spent.was_away();
        }
    }

    /// A fault that may show that the endpoint is away for everybody.
    fn met(&self, sign: Sign, sent: Instant, hint: Option<Duration>) -> Met {
        let repeat = self.spent.next_repeat();
        let longest = self.client.schedule.longest(repeat, hint);
        self.client.outage.met(Fault {
            now: self.client.held.clock(),
            question: self.number,
            sign,
            sent,
            is_last: self.spent.is_last(&self.client.options.retry),
            too_old: self.too_old_after(longest),
            under_way: self.client.in_flight(),
        })
    }

    /// Nobody is there, but somebody was: all wait, one probes now and then, and no attempt is counted.
    fn wait_for_endpoint(
        &mut self,
        class: &'static str,
        message: String,
        hint: Option<Duration>,
        slot: Slot<'a>,
        away: Away,
    ) -> Next<'a> {
        let at_most = self.client.options.max_outage;
        // A fault from before may have been one of its own: only the time in which it was waited for counts.
        if away.waited >= at_most {
            let message = format!(
                "the endpoint has been away for {}: {message}",
                in_words(away.lasted)
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

    /// The endpoint works on others, and this was one too many: fewer go at once. It costs the row no attempt.
    fn ask_less(
        &mut self,
        class: &'static str,
        message: String,
        hint: Option<Duration>,
        mut slot: Slot<'a>,
        accepted: usize,
    ) -> Next<'a> {
        // The one that goes alone after a pause is no reason to let the others go.
        if slot.is_probe() {
            return self.put_off(class, message, hint, slot, Cause::Busy);
        }
        slot.refused(accepted);
        drop(slot);
        let turn = self.spent.turned_away().min(TURNS);
        let wait = self.client.schedule.wait(turn, hint);
        self.wait_alone(class, message, wait, None)
    }

    fn repeat(
        &mut self,
        class: &'static str,
        message: String,
        budget: Budget,
        hint: Option<Duration>,
        (stretch, left): (Option<Stretch>, Left),
    ) -> Next<'a> {
        let options = &self.client.options.retry;
        let never = !self.client.has_succeeded();
        if Sign::is_nobody_there(class)
            && self.spent.not_reached() >= NOBODY_THERE
            && never
            && !self.client.crowd.may_answer(left)
        {
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
        self.wait_alone(class, message, wait, stretch)
    }

    /// The row waits, the others do not; unless it would be too old by then.
    fn wait_alone(
        &self,
        class: &'static str,
        message: String,
        wait: Duration,
        stretch: Option<Stretch>,
    ) -> Next<'a> {
        if self.too_old_after(wait) {
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
            stretch,
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
        let push = match (slot.is_news(), slot.is_probe()) {
            (true, _) => Push::First,
            (_, true) => Push::Again,
            _ => Push::Behind,
        };
        let longest = match cause {
            Cause::Away => PROBES,
            Cause::TooFast | Cause::Busy => u32::MAX,
        };
        let why = match cause {
            Cause::Away => Why::Away(message.clone()),
            Cause::TooFast | Cause::Busy => Why::Asked(message.clone()),
        };
        let put_off = slot.pause(why, cause, hint.is_some(), |nth| {
            self.client.schedule.wait(nth.min(longest), hint)
        });
        drop(slot);
        let wait = put_off.wait();
        if cause == Cause::TooFast {
            self.slow_down(push, wait);
        }
        // How long an endpoint is waited for that is away is another setting.
        if cause != Cause::Away && self.too_old_after(wait) {
            return Next::Settled(Err(self.too_old(class, &message)));
        }
        self.call.event(&Event::Retrying {
            class,
            message: message.clone(),
            after: wait,
        });
        match put_off {
            PutOff::Closed(_) => {}
            // Whoever comes second waits for the same pause.
            PutOff::Behind(_) => return Next::Again(None),
            PutOff::Alone(_) => {
                return Next::BackOff {
                    class,
                    message,
                    wait,
                    stretch: None,
                };
            }
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
    fn slow_down(&self, push: Push, wait: Duration) {
        let Some(Slowed { share, is_news }) = self.client.limiter.pushed_back(push, wait) else {
            return;
        };
        let percent = (share * 100.0).round();
        let message = format!(
            "the endpoint pushes back although the limits are kept: requests leave at {percent} % of the configured rate for now, and faster again where it lets them"
        );
        match is_news {
            true => {
                let class = "slowed_down";
                self.call.event(&Event::Warned { class, message });
            }
            false => tracing::debug!(share, "{message}"),
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
        // Where another row has closed the gate its probe decides, however often this one has been asked.
        if !self.probed && self.too_old_after(Duration::ZERO) {
            return Next::Settled(Err(self.too_old(class, &message)));
        }
        tracing::info!(class, message, "asking once more before the run is stopped");
        self.call.event(&Event::Retrying {
            class,
            message,
            after: Duration::ZERO,
        });
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

    fn warn_of_unknown(&self, class: &'static str, message: &str) {
        if class == "unknown_status" {
            self.call.event(&Event::Warned {
                class,
                message: message.to_owned(),
            });
        }
    }

    fn too_old_after(&self, wait: Duration) -> bool {
        let (now, away) = (self.client.held.clock(), self.client.outage.time());
        let options = &self.client.options.retry;
        self.spent.too_old_after(wait, now, away, options)
    }

    /// Time is what it ran out of, not attempts.
    fn too_old(&self, class: &'static str, message: &str) -> Error {
        let (request, most) = (self.attempt, self.client.options.retry.max_row_s);
        let message = format!(
            "{message} (given up at request {request}: after another wait it would be older than `run.retry.max_row_s`, {most} s)"
        );
        self.row(class, message, None)
    }
}

/// As people say it.
fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

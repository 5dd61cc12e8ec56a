use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{Answer, TransportError};

/// Nothing succeeds for so long, and then the endpoint counts as away.
const SILENCE: Duration = Duration::from_secs(10);
/// So many questions meet it, so that it is no matter of one of them.
const QUESTIONS: usize = 3;

/// Whether the endpoint is away for everybody: restarted, or cut off from us. Then no question loses an
/// attempt by it.
///
/// All times are those of the clock that stands still while the client is held: nobody looks for the endpoint then.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    alive: AtomicUsize,
    state: Mutex<State>,
    /// Told when the endpoint is back.
    back: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// When the first fault came after which nothing has succeeded.
    since: Option<Instant>,
    /// When the last one of them came.
    last: Option<Instant>,
    /// Rises whenever something succeeds after faults.
    stretch: Stretch,
    /// The last stretch of faults that was an outage, and is over.
    ended: Option<Stretch>,
    /// Whose faults these are; the first few of them.
    questions: Vec<u64>,
    last_question: u64,
    /// Since when it is known that the endpoint is away, where it is.
    away: Option<Instant>,
    /// How often it has been.
    times: u32,
    /// For how long it had been, before this time.
    before: Duration,
}

/// Which of the stretches of faults without a success between them.
pub(crate) type Stretch = u64;

/// A fault that may be everybody's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) now: Instant,
    pub(crate) question: u64,
    pub(crate) sign: Sign,
    /// When the request left that met it.
    pub(crate) sent: Instant,
    /// It would end the question, which has no further attempt ...
    pub(crate) is_last: bool,
    /// ... or the next one would, by the time that it takes.
    pub(crate) too_old: bool,
    /// So many questions wait for an answer, and cannot meet it now.
    pub(crate) under_way: usize,
}

/// What such a fault came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Met {
    pub(crate) stretch: Stretch,
    /// The request was under way when the first fault came: it may be what the endpoint went away of, so that
    /// one costs an attempt. Else a row that kills its server would do so for ever.
    pub(crate) is_cause: bool,
    /// Where the endpoint is away.
    pub(crate) away: Option<Away>,
}

/// That the endpoint is away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Away {
    /// For how long, from the first fault of it.
    pub(crate) lasted: Duration,
    /// For how long that has been known, and it has been waited for.
    pub(crate) waited: Duration,
}

/// How sure a fault is that it concerns everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Nobody listens, whatever is asked.
    Unreachable,
    /// Nobody behind the gateway, or a connection that is closed at once: one question may be the cause.
    Turned,
}

/// Nobody listens at all.
const UNREACHABLE: [&str; 3] = ["connect", "connect_timeout", "dns"];
/// A gateway whose server is away.
const GATEWAY: [&str; 4] = [
    "bad_gateway",
    "unavailable",
    "gateway_timeout",
    "gateway_error",
];

impl Sign {
    /// What a fault says about the endpoint. A gateway that took long may have waited for this one answer
    /// only.
    pub(crate) fn of(class: &str, outcome: &Result<Answer, TransportError>) -> Option<Sign> {
        let at_once = outcome
            .as_ref()
            .map_or(true, |answer| answer.latency < SILENCE);
        if UNREACHABLE.contains(&class) {
            Some(Sign::Unreachable)
        } else if at_once && (GATEWAY.contains(&class) || class == "connection_closed") {
            Some(Sign::Turned)
        } else {
            None
        }
    }

    /// Whether an endpoint to which too many come at once may answer so.
    pub(crate) fn may_be_full(class: &str) -> bool {
        matches!(class, "unavailable" | "connect")
    }

    /// Whether it is a reason to stop where the endpoint never gave an answer.
    pub(crate) fn is_nobody_there(class: &str) -> bool {
        UNREACHABLE.contains(&class) || GATEWAY.contains(&class)
    }
}

impl Outage {
    /// Whether the endpoint is known to be away.
    pub(crate) fn is_on(&self) -> bool {
        self.lock().away.is_some()
    }

    /// A number for a question, which is alive until [`left`](Outage::left).
    pub(crate) fn joined(&self) -> u64 {
        self.alive.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        state.last_question += 1;
        state.last_question
    }

    pub(crate) fn left(&self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }

    /// Something succeeded: the endpoint is there. Says for how long it was away, where it was. `is_news`: the
    /// request left after the gate had last closed; one that is older does not know that the endpoint went away.
    pub(crate) fn over(&self, is_news: bool, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        let since = state.since?;
        if state.away.is_some() && !is_news {
            return None;
        }
        state.since = None;
        state.questions.clear();
        let stretch = state.stretch;
        state.stretch += 1;
        state.away.take()?;
        state.ended = Some(stretch);
        let away = now.saturating_duration_since(since);
        state.before += away;
        drop(state);
        self.back.notify_waiters();
        Some(away)
    }

    /// Resolves when the endpoint is back from the outage that a stretch of faults belonged to, or from a later one.
    pub(crate) async fn is_back(&self, stretch: Stretch) {
        loop {
            // First, so that nothing is missed; whoever has waited for longest is woken first.
            let back = self.back.notified();
            tokio::pin!(back);
            back.as_mut().enable();
            if self.lock().ended >= Some(stretch) {
                return;
            }
            back.await;
        }
    }

    /// For how long the endpoint has been away, all times together: this time as far as is known. One that is there
    /// again and only puts everybody off would else keep all rows young for ever.
    pub(crate) fn time(&self) -> Duration {
        let state = self.lock();
        let now = state.since.zip(state.last).filter(|_| state.away.is_some());
        state.before
            + now.map_or(Duration::ZERO, |(since, last)| {
                last.saturating_duration_since(since)
            })
    }

    /// A fault that may be everybody's.
    pub(crate) fn met(&self, fault: Fault) -> Met {
        let Fault {
            now,
            question,
            sign,
            sent,
            is_last,
            too_old,
            under_way,
        } = fault;
        let mut state = self.lock();
        let since = *state.since.get_or_insert(now);
        // Whoever looked at the clock first may come second.
        state.last = state.last.max(Some(now));
        if state.questions.len() < QUESTIONS && !state.questions.contains(&question) {
            state.questions.push(question);
        }
        let enough = match sign {
            // Where fewer can, no third one ever meets it.
            Sign::Unreachable => {
                let alive = self.alive.load(Ordering::Relaxed);
                QUESTIONS.min(alive.saturating_sub(under_way))
            }
            Sign::Turned => QUESTIONS,
        };
        let is_cause = sent < since;
        let is_due =
            now.saturating_duration_since(since) >= SILENCE || too_old || is_last && !is_cause;
        if state.away.is_none() && state.questions.len() >= enough && is_due {
            state.times += 1;
            state.away = Some(now);
        }
        Met {
            stretch: state.stretch,
            is_cause,
            away: state.away.map(|known| Away {
                lasted: now.saturating_duration_since(since),
                waited: now.saturating_duration_since(known),
            }),
        }
    }

    /// How often the endpoint has been away.
    pub(crate) fn times(&self) -> u32 {
        self.lock().times
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::{Answer, TransportError};

/// Nothing succeeds for so long, and then the endpoint counts as away.
const SILENCE: Duration = Duration::from_secs(10);
/// So many questions meet it, so that it is no matter of one of them.
const QUESTIONS: usize = 3;

/// Whether the endpoint is away for everybody: restarted, or cut off from us. Then no question loses an
/// attempt by it.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    alive: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the first fault came after which nothing has succeeded.
    since: Option<Instant>,
    /// Whose faults these are; the first few of them.
    questions: Vec<u64>,
    last_question: u64,
    away: bool,
    /// How often it has been.
    times: u32,
    /// For how long it had been, before this time.
    before: Duration,
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

    /// Whether it is a reason to stop where the endpoint never gave an answer.
    pub(crate) fn is_nobody_there(class: &str) -> bool {
        UNREACHABLE.contains(&class) || GATEWAY.contains(&class)
    }
}

impl Outage {
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

    /// Something succeeded: the endpoint is there. Says for how long it was away, where it was.
    pub(crate) fn over(&self) -> Option<Duration> {
        let mut state = self.lock();
        let since = state.since.take()?;
        state.questions.clear();
        let away = std::mem::take(&mut state.away).then(|| since.elapsed());
        state.before += away.unwrap_or_default();
        away
    }

    /// For how long the endpoint has been away, all times together.
    pub(crate) fn time(&self) -> Duration {
        let state = self.lock();
        let now = state.since.filter(|_| state.away);
        state.before + now.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// A fault that may be everybody's; with `last`, the next one would end the question. Says since when the
    /// endpoint is away, where it is.
    pub(crate) fn met(&self, question: u64, sign: Sign, last: bool) -> Option<Instant> {
        let mut state = self.lock();
        let since = *state.since.get_or_insert_with(Instant::now);
        if state.questions.len() < QUESTIONS && !state.questions.contains(&question) {
            state.questions.push(question);
        }
        let enough = match sign {
            // Where fewer are at work, no third one can ever meet it.
            Sign::Unreachable => QUESTIONS.min(self.alive.load(Ordering::Relaxed)),
            Sign::Turned => QUESTIONS,
        };
        if state.questions.len() >= enough && (last || since.elapsed() >= SILENCE) {
            state.times += u32::from(!state.away);
            state.away = true;
        }
        state.away.then_some(since)
    }

    /// How often the endpoint has been away.
    pub(crate) fn times(&self) -> u32 {
        self.lock().times
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

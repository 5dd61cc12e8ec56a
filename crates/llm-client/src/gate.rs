use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use crate::level::{Level, Sent};
use crate::queue::{Lane, Place, Queue};

/// Who may have a request under way: so many at once, nobody during a pause, one alone after it.
///
/// Only the first in the queue watches the gate; whatever changes wakes that one, so a thousand waiters cost no
/// more than one. Only when the gate closes or opens all are woken, because each then waits for something else.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    /// Rises whenever the gate closes: who entered before must not send any more.
    epoch: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    level: Level,
    /// Those that hold a slot, whether their request has left or not.
    entered: usize,
    /// Pauses without a good answer between them.
    pauses: u32,
    waiting: Queue,
}

#[derive(Debug, Clone)]
enum Phase {
    Open,
    /// Nobody enters until then, and then one alone.
    Paused {
        until: Instant,
        why: Why,
    },
    /// The one is under way.
    Probing {
        why: Why,
    },
    /// For good.
    Stopped,
}

/// Why somebody cannot enter now.
#[derive(Debug, Clone)]
pub(crate) enum Wait {
    Slot,
    Pause { why: Why, at_most: Option<Duration> },
}

impl Wait {
    /// Whether it is the same wait but for its words and its end.
    fn is_like(&self, other: &Wait) -> bool {
        match (self, other) {
            (Wait::Pause { why, .. }, Wait::Pause { why: other, .. }) => {
                std::mem::discriminant(why) == std::mem::discriminant(other)
            }
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

/// Why the gate is closed for a time, in words.
#[derive(Debug, Clone)]
pub(crate) enum Why {
    /// The endpoint asked for it.
    Asked(String),
    /// Nobody reaches the endpoint.
    Away(String),
}

/// What a pause is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// More requests in some time than the endpoint allows.
    TooFast,
    /// More than it can work on.
    Busy,
    /// Nobody is there.
    Away,
}

/// What becomes of a request that was put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PutOff {
    /// The gate has closed for everybody, for so long.
    Closed(Duration),
    /// It had closed before, and sees to it: so long at least.
    Behind(Duration),
    /// Others may send: this one has to wait alone, so long.
    Alone(Duration),
}

impl PutOff {
    pub(crate) fn wait(self) -> Duration {
        match self {
            PutOff::Closed(wait) | PutOff::Behind(wait) | PutOff::Alone(wait) => wait,
        }
    }
}

/// The gate is closed for good.
#[derive(Debug)]
pub(crate) struct Stopped;

impl Gate {
    /// With `adaptive` the limit is the most that may ever be.
    pub(crate) fn new(limit: NonZeroUsize, adaptive: bool) -> Gate {
        Gate {
            state: Mutex::new(State {
                phase: Phase::Open,
                level: Level::new(limit, adaptive),
                entered: 0,
                pauses: 0,
                waiting: Queue::default(),
            }),
            epoch: watch::Sender::new(0),
        }
    }

    /// Waits for a slot; `on_wait` hears why when it is not free at once, and again when it is something else that is
    /// waited for.
    pub(crate) async fn enter(
        &self,
        lane: Lane,
        mut on_wait: impl FnMut(Wait),
    ) -> Result<Slot<'_>, Stopped> {
        let ticket = self.queue(lane);
        let mut told: Option<Wait> = None;
        loop {
            let (turn, reason) = self.poll(&ticket)?;
            if let Turn::Enter { epoch, probe } = turn {
                return Ok(Slot {
                    gate: self,
                    epoch,
                    probe,
                    sent: None,
                    tokens: None,
                });
            }
            if let Some(reason) = reason
                && !told.as_ref().is_some_and(|told| told.is_like(&reason))
            {
                told = Some(reason.clone());
                on_wait(reason);
            }
            match turn {
                Turn::At(time) => tokio::select! {
                    () = sleep_until(time) => {}
                    () = ticket.woken.notified() => {}
                },
                _ => ticket.woken.notified().await,
            }
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.lock().level.limit()
    }

    /// How many may be under way at present, where the gate finds that out by itself.
    pub(crate) fn level(&self) -> Option<usize> {
        self.lock().level.found()
    }

    /// So many from now on. A running cut stays.
    pub(crate) fn set_limit(&self, limit: NonZeroUsize) {
        let mut state = self.lock();
        state.level.set_limit(limit);
        state.waiting.wake_first();
    }

    /// From now on as many as are best, up to so many; it begins with what there is.
    pub(crate) fn set_adaptive(&self, most: NonZeroUsize) {
        let mut state = self.lock();
        state.level.set_adaptive(most);
        state.waiting.wake_first();
    }

    /// Something else than the number of requests holds them up, or did: what was seen meanwhile says nothing.
    pub(crate) fn interrupted(&self) {
        self.lock().level.interrupted();
    }

    /// Closes for good.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.phase = Phase::Stopped;
        self.close();
        state.waiting.wake_all();
    }

    fn queue(&self, lane: Lane) -> Ticket<'_> {
        let (place, woken) = self.lock().waiting.join(lane);
        Ticket {
            gate: self,
            place,
            woken,
        }
    }

    fn poll(&self, ticket: &Ticket<'_>) -> Result<(Turn, Option<Wait>), Stopped> {
        let now = Instant::now();
        let mut state = self.lock();
        let first = state.waiting.is_first(ticket.place);
        let enter = match &state.phase {
            Phase::Stopped => return Err(Stopped),
            Phase::Open => first && state.entered < state.level.allowed(),
            Phase::Paused { until, .. } => first && *until <= now,
            Phase::Probing { .. } => false,
        };
        if !enter {
            return Ok(match &state.phase {
                Phase::Paused { until, why } => {
                    let at_most = Some(until.saturating_duration_since(now));
                    let turn = if first {
                        Turn::At(*until)
                    } else {
                        Turn::Behind
                    };
                    (
                        turn,
                        Some(Wait::Pause {
                            why: why.clone(),
                            at_most,
                        }),
                    )
                }
                Phase::Probing { why } => (
                    Turn::Behind,
                    Some(Wait::Pause {
                        why: why.clone(),
                        at_most: None,
                    }),
                ),
                _ => (Turn::Behind, Some(Wait::Slot)),
            });
        }
        state.entered += 1;
        state.waiting.served(ticket.place);
        let probe = match &state.phase {
            Phase::Paused { why, .. } => {
                state.phase = Phase::Probing { why: why.clone() };
                true
            }
            _ => false,
        };
        Ok((
            Turn::Enter {
                epoch: *self.epoch.borrow(),
                probe,
            },
            None,
        ))
    }

    fn close(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Turn {
    Enter { epoch: u64, probe: bool },
    At(Instant),
    Behind,
}

/// A place in the queue, given up when it is dropped.
struct Ticket<'a> {
    gate: &'a Gate,
    place: Place,
    woken: Arc<Notify>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.gate.lock().waiting.leave(self.place);
    }
}

/// The right to have one request under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    gate: &'a Gate,
    epoch: u64,
    probe: bool,
    /// Where its request has left.
    sent: Option<Sent>,
    /// Those of the answer, where it was paid for.
    tokens: Option<u64>,
}

impl<'a> Slot<'a> {
    /// Resolves when the gate has closed after this slot was given: nothing may be sent with it.
    pub(crate) async fn closed(&self) {
        let mut epoch = self.gate.epoch.subscribe();
        let closed = epoch.wait_for(|epoch| *epoch != self.epoch).await;
        // The sender lives in the gate that this slot borrows.
        debug_assert!(closed.is_ok());
    }

    /// Whether something may be sent with it.
    pub(crate) fn is_open(&self) -> bool {
        *self.gate.epoch.borrow() == self.epoch
    }

    /// A request leaves with it.
    pub(crate) fn sent(&mut self) {
        let mut state = self.gate.lock();
        self.ended(&mut state);
        self.sent = Some(state.level.sent());
    }

    /// The last request that left with it is no longer under way.
    fn ended(&mut self, state: &mut State) {
        let (sent, tokens) = (self.sent.take(), self.tokens.take());
        if let Some(sent) = sent {
            state.level.ended(sent, tokens);
        }
    }

    /// Whether what its request came to says something about now: the gate was open when it left, and is.
    pub(crate) fn is_news(&self) -> bool {
        self.is_open() && !self.probe
    }

    /// Its request was answered, with so many tokens where that was paid for.
    pub(crate) fn answered(&mut self, tokens: Option<u64>) {
        self.tokens = tokens;
    }

    /// The endpoint works: a probe opens the gate for all.
    pub(crate) fn good(&mut self) {
        let mut state = self.gate.lock();
        // What was sent before the gate closed says nothing about now.
        if !self.is_open() {
            return;
        }
        if self.probe {
            self.probe = false;
            state.phase = Phase::Open;
            state.waiting.wake_all();
            state.level.interrupted();
        }
        state.pauses = 0;
        state.level.good();
        state.waiting.wake_first();
    }

    /// The endpoint wants a pause. `wait` gets the number of pauses in a row, from 1.
    pub(crate) fn pause(
        &mut self,
        why: Why,
        cause: Cause,
        hinted: bool,
        wait: impl FnOnce(u32) -> Duration,
    ) -> PutOff {
        let mut state = self.gate.lock();
        let fresh = self.is_open();
        state.level.put_off();
        if fresh {
            state.pauses += 1;
            match cause {
                Cause::TooFast | Cause::Busy if !self.probe => state.level.cut(cause),
                // One that goes alone says nothing about how many may, nor does an endpoint that is away.
                _ => state.level.interrupted(),
            }
        }
        let wait = wait(state.pauses.max(1));
        let now = Instant::now();
        let until = now + wait;
        // Several requests under way when the first was put off bring the same news: only a longer
        // wait that the endpoint itself asked for makes a difference.
        let longer = match &state.phase {
            Phase::Stopped => false,
            Phase::Paused { until: other, .. } => hinted && until > *other,
            Phase::Open | Phase::Probing { .. } => hinted,
        };
        let closes = fresh && !matches!(state.phase, Phase::Stopped) || longer;
        if closes {
            self.probe = false;
            state.phase = Phase::Paused { until, why };
            self.gate.close();
            state.waiting.wake_all();
            return PutOff::Closed(wait);
        }
        match &state.phase {
            Phase::Open => PutOff::Alone(wait),
            Phase::Paused { until, .. } => PutOff::Behind(until.saturating_duration_since(now)),
            Phase::Probing { .. } | Phase::Stopped => PutOff::Behind(Duration::ZERO),
        }
    }

    /// Whether it goes alone, after a pause.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe
    }

    /// The endpoint works on `accepted`, and this was one too many. Whoever left before that was known brings no news.
    pub(crate) fn refused(&mut self, accepted: usize) {
        let mut state = self.gate.lock();
        if let Some(sent) = self.sent
            && self.is_open()
        {
            state.level.refused(sent, accepted);
        }
    }

    /// Closes the gate and keeps this slot as the one that goes alone. `false`: another one closed it.
    pub(crate) fn probe_alone(&mut self, reason: &str) -> bool {
        let mut state = self.gate.lock();
        if !self.is_open() || matches!(state.phase, Phase::Stopped) {
            return false;
        }
        state.phase = Phase::Probing {
            why: Why::Asked(reason.to_owned()),
        };
        state.level.interrupted();
        self.gate.close();
        state.waiting.wake_all();
        self.epoch = *self.gate.epoch.borrow();
        self.probe = true;
        true
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.entered -= 1;
        self.ended(&mut state);
        // A probe that came to nothing leaves the question open: the next one goes alone too.
        if self.probe
            && self.is_open()
            && let Phase::Probing { why } = &state.phase
        {
            state.phase = Phase::Paused {
                until: Instant::now(),
                why: why.clone(),
            };
        }
        state.waiting.wake_first();
    }
}

#[cfg(test)]
mod tests;

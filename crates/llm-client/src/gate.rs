use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

/// What is kept of the concurrency when the endpoint asks for less.
const CUT: f64 = 0.7;

/// Who may have a request under way: so many at once, nobody during a pause, one alone after it.
///
/// Only the first in the queue watches the gate; whatever changes wakes that one, and whoever leaves the
/// queue wakes the next. So a thousand waiters cost no more than one. Only when the gate closes or opens all are
/// woken, because each then waits for something else.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    /// Rises whenever the gate closes: who entered before must not send any more.
    epoch: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    limit: usize,
    /// The limit of the moment: cut by pauses, grown again by good answers.
    allowed: usize,
    entered: usize,
    /// Good answers since the allowance last grew.
    good: usize,
    /// Answers since the allowance was last cut.
    since_cut: Option<usize>,
    /// Pauses without a good answer between them.
    pauses: u32,
    last_ticket: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
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

/// The gate is closed for good.
#[derive(Debug)]
pub(crate) struct Stopped;

impl Gate {
    pub(crate) fn new(limit: NonZeroUsize) -> Gate {
        let state = State {
            phase: Phase::Open,
            limit: limit.get(),
            allowed: limit.get(),
            entered: 0,
            good: 0,
            since_cut: None,
            pauses: 0,
            last_ticket: 0,
            waiting: BTreeMap::new(),
        };
        Gate {
            state: Mutex::new(state),
            epoch: watch::Sender::new(0),
        }
    }

    /// Waits for a slot, in order of coming; `on_wait` hears why when it is not free at once, and again when it is
    /// something else that is waited for.
    pub(crate) async fn enter(&self, mut on_wait: impl FnMut(Wait)) -> Result<Slot<'_>, Stopped> {
        let ticket = self.queue();
        let mut told: Option<Wait> = None;
        loop {
            let (turn, reason) = self.poll(&ticket)?;
            if let Turn::Enter { epoch, probe } = turn {
                return Ok(Slot {
                    gate: self,
                    epoch,
                    probe,
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
                    () = ticket.turn.notified() => {}
                },
                _ => ticket.turn.notified().await,
            }
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.lock().limit
    }

    /// Changes the limit. A running cut stays.
    pub(crate) fn set_limit(&self, limit: NonZeroUsize) {
        let mut state = self.lock();
        state.allowed = match state.allowed == state.limit {
            true => limit.get(),
            false => state.allowed.min(limit.get()),
        };
        state.limit = limit.get();
        state.wake_first();
    }

    /// Closes for good.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.phase = Phase::Stopped;
        self.close();
        state.wake_all();
    }

    fn queue(&self) -> Ticket<'_> {
        let mut state = self.lock();
        state.last_ticket += 1;
        let (number, turn) = (state.last_ticket, Arc::new(Notify::new()));
        state.waiting.insert(number, Arc::clone(&turn));
        Ticket {
            gate: self,
            number,
            turn,
        }
    }

    fn poll(&self, ticket: &Ticket<'_>) -> Result<(Turn, Option<Wait>), Stopped> {
        let now = Instant::now();
        let mut state = self.lock();
        let first = state
            .waiting
            .first_key_value()
            .is_some_and(|(first, _)| *first == ticket.number);
        let enter = match &state.phase {
            Phase::Stopped => return Err(Stopped),
            Phase::Open => first && state.entered < state.allowed,
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

impl State {
    fn wake_first(&self) {
        if let Some((_, turn)) = self.waiting.first_key_value() {
            turn.notify_one();
        }
    }

    fn wake_all(&self) {
        for turn in self.waiting.values() {
            turn.notify_one();
        }
    }

    /// An answer to a request that was sent as things are now.
    fn count(&mut self) {
        self.since_cut = self.since_cut.map(|answers| answers.saturating_add(1));
    }

    /// Once in a full round of answers, however many of them ask for less.
    fn cut(&mut self) {
        if self.since_cut.is_none_or(|answers| answers >= self.allowed) {
            self.allowed = ((self.allowed as f64 * CUT) as usize).max(1);
            self.since_cut = Some(0);
            self.good = 0;
        }
    }

    fn grow(&mut self) {
        self.good += 1;
        if self.good >= self.allowed {
            self.good = 0;
            self.allowed = (self.allowed + 1).min(self.limit);
        }
    }
}

/// A place in the queue, given up when it is dropped.
struct Ticket<'a> {
    gate: &'a Gate,
    number: u64,
    turn: Arc<Notify>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.waiting.remove(&self.number);
        state.wake_first();
    }
}

/// The right to have one request under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    gate: &'a Gate,
    epoch: u64,
    probe: bool,
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
            state.wake_all();
        }
        state.pauses = 0;
        state.count();
        state.grow();
        state.wake_first();
    }

    /// The endpoint wants a pause. `wait` gets the number of pauses in a row, from 1. Returns the wait,
    /// and whether the gate sees to it; else whoever asked has to wait alone.
    pub(crate) fn pause(
        &mut self,
        why: Why,
        hinted: bool,
        wait: impl FnOnce(u32) -> Duration,
    ) -> (Duration, bool) {
        let mut state = self.gate.lock();
        let fresh = self.is_open();
        if fresh {
            state.pauses += 1;
            state.count();
            state.cut();
        }
        let wait = wait(state.pauses.max(1));
        let until = Instant::now() + wait;
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
            state.wake_all();
        }
        (wait, closes)
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
        self.gate.close();
        state.wake_all();
        self.epoch = *self.gate.epoch.borrow();
        self.probe = true;
        true
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.entered -= 1;
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
        state.wake_first();
    }
}

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use crate::adapt::Adapt;
use crate::fixed::Fixed;
use crate::queue::{Lane, Place, Queue};

/// What is kept of what was under way when the endpoint asks for less.
const CUT: f64 = 0.7;
/// A change of what the gate finds best is told when so much time has passed since the last one ...
const TELL_EVERY: Duration = Duration::from_secs(10);
/// ... and where it is noticeable.
const TELL_FROM: f64 = 1.25;

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
    limit: usize,
    /// How many may be under way, unless the gate finds that out by itself.
    fixed: Fixed,
    entered: usize,
    /// When a refusal last lowered what may be under way.
    lowered: Option<Instant>,
    /// Those of the entered whose request has left.
    under_way: usize,
    /// Pauses without a good answer between them.
    pauses: u32,
    /// There where the gate finds out by itself how many are best.
    adapt: Option<Adapt>,
    /// What was last told of it.
    told: Option<(usize, Instant)>,
    /// How often somebody began to find it out: what left before that is not looked at.
    begun: u32,
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
        let mut state = State {
            phase: Phase::Open,
            limit: limit.get(),
            fixed: Fixed::new(limit.get()),
            entered: 0,
            lowered: None,
            under_way: 0,
            pauses: 0,
            adapt: None,
            told: None,
            begun: 0,
            waiting: Queue::default(),
        };
        if adaptive {
            state.begin_to_adapt(limit, None);
        }
        Gate {
            state: Mutex::new(state),
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
        self.lock().limit
    }

    /// How many may be under way at present, where the gate finds that out by itself.
    pub(crate) fn level(&self) -> Option<usize> {
        self.lock().adapt.as_ref().map(Adapt::level)
    }

    /// So many from now on. A running cut stays.
    pub(crate) fn set_limit(&self, limit: NonZeroUsize) {
        let mut state = self.lock();
        match state.adapt.take() {
            Some(_) => state.fixed = Fixed::new(limit.get()),
            None => state.fixed.set_limit(limit.get()),
        }
        state.limit = limit.get();
        state.waiting.wake_first();
    }

    /// From now on as many as are best, up to so many; it begins with what there is.
    pub(crate) fn set_adaptive(&self, most: NonZeroUsize) {
        let mut state = self.lock();
        match state.adapt.is_some() {
            true => {
                state.limit = most.get();
                state.adapt(|adapt, _| adapt.set_max(most.get()));
            }
            false => {
                let level = state.fixed.level();
                state.begin_to_adapt(most, Some(level));
            }
        }
        state.waiting.wake_first();
    }

    /// Something else than the number of requests holds them up, or did: what was seen meanwhile says nothing.
    pub(crate) fn interrupted(&self) {
        self.lock().adapt(|adapt, _| adapt.interrupted());
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
            Phase::Open => first && state.entered < state.allowed(),
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

impl State {
    /// So many may be under way now.
    fn allowed(&self) -> usize {
        match &self.adapt {
            Some(adapt) => adapt.level(),
            None => self.fixed.level(),
        }
    }

    /// The endpoint asks for less.
    fn cut(&mut self, cause: Cause) {
        let (under_way, kept) = (self.under_way, self.share_of_those_under_way());
        match cause {
            _ if self.adapt.is_some() => {
                self.adapt(|adapt, now| adapt.pushed_back(now, under_way, kept));
            }
            _ if !self.fixed.is_due() => {}
            Cause::Busy => self.fixed.was_full(under_way, kept),
            Cause::TooFast | Cause::Away => self.fixed.lower(kept),
        }
    }

    /// Of what really was under way: who waits for a permit has asked for nothing, and nor has a slot that is free.
    fn share_of_those_under_way(&self) -> usize {
        (self.under_way as f64 * CUT) as usize
    }
}

impl State {
    fn begin_to_adapt(&mut self, most: NonZeroUsize, level: Option<usize>) {
        let adapt = Adapt::new(most.get(), level);
        self.limit = most.get();
        self.adapt = Some(adapt);
        self.told = None;
        self.begun += 1;
    }

    /// Something happened to a request; what is allowed follows from it.
    fn adapt(&mut self, what: impl FnOnce(&mut Adapt, Instant)) {
        let Some(adapt) = &mut self.adapt else {
            return;
        };
        let now = Instant::now();
        what(adapt, now);
        let settled = adapt.settled();
        let (told, at) = *self.told.get_or_insert((settled, now));
        let times = settled.max(told) as f64 / settled.min(told) as f64;
        if times >= TELL_FROM && now - at >= TELL_EVERY {
            self.told = Some((settled, now));
            tracing::info!(
                before = told,
                now = settled,
                "another number of requests at the same time is best"
            );
        }
    }
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
    /// When its request left, and who looked at that then.
    sent: Option<(u32, Instant)>,
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
        let now = Instant::now();
        let mut state = self.gate.lock();
        self.ended(&mut state);
        state.under_way += 1;
        self.sent = Some((state.begun, now));
        state.adapt(|adapt, now| adapt.sent(now));
    }

    /// The last request that left with it is no longer under way.
    fn ended(&mut self, state: &mut State) {
        let (sent, tokens) = (self.sent.take(), self.tokens.take());
        let Some((begun, sent)) = sent else {
            return;
        };
        state.under_way -= 1;
        if begun == state.begun {
            state.adapt(|adapt, now| adapt.ended(now, sent, tokens));
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
            state.adapt(|adapt, _| adapt.interrupted());
        }
        state.pauses = 0;
        if state.adapt.is_none() {
            state.fixed.good();
        }
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
        state.fixed.answered();
        if fresh {
            state.pauses += 1;
            match cause {
                Cause::TooFast | Cause::Busy if !self.probe => state.cut(cause),
                // One that goes alone says nothing about how many may, nor does an endpoint that is away.
                _ => state.adapt(|adapt, _| adapt.interrupted()),
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
        let Some((_, sent)) = self.sent else {
            return;
        };
        if !self.is_open() || state.lowered.is_some_and(|lowered| sent <= lowered) {
            return;
        }
        state.lowered = Some(Instant::now());
        let slots = state.under_way;
        let kept = state.share_of_those_under_way().max(accepted);
        match state.adapt.is_some() {
            false => state.fixed.was_full(slots, kept),
            true => state.adapt(|adapt, now| adapt.pushed_back(now, slots, kept)),
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
        state.adapt(|adapt, _| adapt.interrupted());
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

//! Who waits for what, and for how long by now.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::{Call, Client, Event, LimitKind, WaitReason};

/// Whoever waits for longer is told of, one of all who wait for the same in this time.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// How many questions wait for what.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<BTreeMap<&'static str, Kind>>);

#[derive(Debug, Default)]
struct Kind {
    waiting: usize,
    told: Option<Instant>,
}

/// The wait of one question: tells the asker of its beginning and its end, and now and then that it lasts. Every wait
/// goes through one, so that none is silent.
pub(crate) struct Watch<'a> {
    client: &'a Client,
    call: &'a dyn Call,
    state: Mutex<Option<Since>>,
}

struct Since {
    on: WaitReason,
    since: Instant,
    until: Option<Instant>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(client: &'a Client, call: &'a dyn Call) -> Watch<'a> {
        Watch {
            client,
            call,
            state: Mutex::new(None),
        }
    }

    /// It is this that is waited for, from now on.
    pub(crate) fn on(&self, on: WaitReason, at_most: Option<Duration>) {
        let now = Instant::now();
        let name = name(&on);
        let mut state = self.lock();
        let before = state.take();
        let is_same = before
            .as_ref()
            .is_some_and(|last| self::name(&last.on) == name);
        let since = before
            .as_ref()
            .filter(|_| is_same)
            .map_or(now, |last| last.since);
        if !is_same {
            self.leave(before);
            self.client.waits.lock().entry(name).or_default().waiting += 1;
        }
        let until = at_most.and_then(|wait| now.checked_add(wait));
        *state = Some(Since {
            on: on.clone(),
            since,
            until,
        });
        drop(state);
        self.call.event(&Event::Waiting { on, at_most });
    }

    /// Waits. What is waited for stays where it is: thousands may wait, and each would hold it twice.
    pub(crate) async fn until<T>(&self, mut waiting: Pin<&mut impl Future<Output = T>>) -> T {
        // Most do not wait at all.
        if let std::task::Poll::Ready(done) = futures::poll!(waiting.as_mut()) {
            return done;
        }
        loop {
            tokio::select! {
                biased;
                done = &mut waiting => return done,
                () = sleep_until(self.next()) => self.tell(),
            }
        }
    }

    /// It goes on.
    pub(crate) fn over(self) {
        if self.lock().is_some() {
            self.call.event(&Event::Resumed);
        }
    }

    fn next(&self) -> Instant {
        let now = Instant::now();
        let due = self.lock().as_ref().map(|wait| wait.since + TELL_EVERY);
        due.filter(|due| *due > now).unwrap_or(now + TELL_EVERY)
    }

    fn tell(&self) {
        let state = self.lock();
        let Some(wait) = state
            .as_ref()
            .filter(|wait| wait.since.elapsed() >= TELL_EVERY)
        else {
            return;
        };
        let mut waits = self.client.waits.lock();
        let kind = waits.entry(name(&wait.on)).or_default();
        if kind.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        kind.told = Some(Instant::now());
        let others = kind.waiting.saturating_sub(1);
        drop(waits);
        let left = wait
            .until
            .map(|until| until.saturating_duration_since(Instant::now()));
        let event = Event::StillWaiting {
            on: wait.on.clone(),
            waited: wait.since.elapsed(),
            at_most: left.filter(|left| !left.is_zero()),
            others,
        };
        drop(state);
        self.call.event(&event);
    }

    /// One less waits for what was waited for.
    fn leave(&self, before: Option<Since>) {
        let Some(before) = before else {
            return;
        };
        if let Some(kind) = self.client.waits.lock().get_mut(name(&before.on)) {
            kind.waiting = kind.waiting.saturating_sub(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Since>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let before = self.lock().take();
        self.leave(before);
    }
}

impl Waits {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Kind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all who wait for the same have in common.
fn name(on: &WaitReason) -> &'static str {
    match on {
        WaitReason::RateLimit { kind, .. } => match kind {
            LimitKind::Requests => "requests",
            LimitKind::Tokens => "tokens",
            LimitKind::Day => "day",
            LimitKind::Unknown => "unknown",
        },
        WaitReason::Slot => "slot",
        WaitReason::Hold => "hold",
        WaitReason::Pause { .. } => "pause",
        WaitReason::Away { .. } => "away",
        WaitReason::BackOff { .. } => "back-off",
    }
}

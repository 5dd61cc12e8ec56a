use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Whether somebody has asked to send nothing, and a clock that stands still meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    /// Asked for each request.
    is_on: AtomicBool,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Since when, where it is on.
    since: Option<Instant>,
    /// For how long it was on before.
    before: Duration,
}

impl Hold {
    /// Says whether that is a change.
    pub(crate) fn set(&self, on: bool) -> bool {
        let mut state = self.lock();
        if state.since.is_some() == on {
            return false;
        }
        match state.since.take() {
            Some(since) => state.before += since.elapsed(),
            None => state.since = Some(Instant::now()),
        }
        self.is_on.store(on, Ordering::SeqCst);
        drop(state);
        self.changed.notify_waiters();
        true
    }

    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::SeqCst)
    }

    /// Resolves when it is on, or when it is not.
    pub(crate) async fn until(&self, on: bool) {
        loop {
            // First, so that nothing is missed; whoever has waited for longest is woken first.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_on() == on {
                return;
            }
            changed.await;
        }
    }

    /// The time on a clock that stands still while it is on: nothing is asked meanwhile, so that time says nothing
    /// about rows nor about the endpoint.
    pub(crate) fn clock(&self) -> Instant {
        let state = self.lock();
        state.since.unwrap_or_else(Instant::now) - state.before
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

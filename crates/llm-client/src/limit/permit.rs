use std::sync::Arc;

use tokio::sync::Notify;

use super::{Limiter, Unknown};
use crate::ledger::Entry;
use crate::queue::Place;

/// The right to send one request, with what is reserved for it.
#[derive(Debug)]
pub struct Permit<'a> {
    pub(super) limiter: &'a Limiter,
    pub(super) entry: Entry,
    /// Its answer tells what the limits are.
    pub(super) finds_out: bool,
    /// Those that know as little wait for it.
    pub(super) is_first: bool,
}

impl Permit<'_> {
    /// Nothing is sent with it: it counts for nothing.
    pub fn give_back(self) {
        let now = self.limiter.now();
        let mut state = self.limiter.lock();
        state.with_books(self.limiter, now, |books| {
            books.change().withdraw(&self.entry)
        });
        state.pace.withdrawn(now);
        state.waiting.wake_first();
    }

    /// The endpoint let the request through.
    pub(crate) fn let_through(&self) {
        self.limiter.let_through(self.entry.at());
    }

    /// Tells what the request came to: the tokens it cost, none where it came to nothing. Without it what was
    /// reserved stays taken until the windows have passed.
    pub fn settle(self, tokens: u64) {
        // Where nobody counts tokens there is nothing to settle.
        if !self.entry.has_tokens() {
            return;
        }
        let now = self.limiter.now();
        let mut state = self.limiter.lock();
        state.cost.learn(tokens);
        state.with_books(self.limiter, now, |books| {
            books.change().settle(now, &self.entry, tokens);
        });
        state.waiting.wake_first();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // Whatever the answer said has been learnt by now; where there was none, somebody else finds out.
        if self.finds_out || self.is_first {
            let mut state = self.limiter.lock();
            if self.finds_out && state.unknown == Unknown::Asked {
                state.unknown = Unknown::Ask;
            }
            state.first_is_out &= !self.is_first;
            state.waiting.wake_first();
        }
    }
}

/// A place in the queue, given up when it is dropped.
pub(super) struct Ticket<'a> {
    pub(super) limiter: &'a Limiter,
    pub(super) place: Place,
    pub(super) woken: Arc<Notify>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.limiter.lock().waiting.leave(self.place);
    }
}

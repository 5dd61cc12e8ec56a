//! How long what is still to be sent will take, as far as limits go.

use std::time::Duration;

use super::Limiter;
use crate::share::Share;

/// The weight of one more request, once there were enough.
const WEIGHT: f64 = 0.02;

/// Tokens that a request came to on average, those that came to nothing included; the latest count most.
#[derive(Debug, Default)]
pub(super) struct Cost {
    requests: u32,
    mean: f64,
}

impl Cost {
    pub(super) fn learn(&mut self, tokens: u64) {
        self.requests = self.requests.saturating_add(1);
        let weight = WEIGHT.max(1.0 / f64::from(self.requests));
        self.mean += weight * (tokens as f64 - self.mean);
    }

    fn tokens(&self) -> Option<u64> {
        (self.requests > 0).then_some(self.mean.ceil() as u64)
    }
}

impl Limiter {
    /// Learns what an earlier request came to.
    pub(crate) fn learn_cost(&self, tokens: u64) {
        self.lock().cost.learn(tokens);
    }

    /// How long until so many more requests have left, if none does before so much time has passed; `None` where
    /// nothing is limited, or nobody knows what one costs.
    pub(crate) fn time_to_send(&self, requests: u64, after: Duration) -> Option<Duration> {
        let now = self.now();
        let mut state = self.lock();
        let tokens = match state.ledger.most_tokens().is_some() {
            true => state.cost.tokens()?,
            false => 0,
        };
        state.slow(now, tokens);
        let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        let from = now.saturating_add(after);
        // Whoever shares the limits takes every second permit, or third.
        let others = state.share.as_ref();
        let others = others.map_or(0, |share: &Share| share.others_waiting(now)) as u64;
        let requests = requests.saturating_mul(others + 1);
        let last = state.ledger.last_of(from, requests, tokens)?;
        Some(Duration::from_micros(last - now))
    }
}

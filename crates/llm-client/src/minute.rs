//! How much was let through lately, as the share of what is configured.

use std::collections::VecDeque;

use crate::ledger::{MINUTE, Micros, SECOND};

/// What left within the last minute and was not refused.
#[derive(Debug, Default)]
pub(crate) struct Minute {
    seconds: VecDeque<Second>,
    first: Option<Micros>,
}

#[derive(Debug, Default)]
struct Second {
    number: u64,
    requests: f64,
    /// The time that they take when they are as far apart as the limits say.
    space: f64,
}

impl Minute {
    pub(crate) fn sent(&mut self, now: Micros, space: Micros) {
        self.first.get_or_insert(now);
        self.add(now, 1.0, space as f64);
    }

    /// One of those that left comes to nothing.
    pub(crate) fn refused(&mut self, now: Micros) {
        self.forget(now);
        let (requests, space) = self.sum();
        if requests >= 1.0 {
            self.add(now, -1.0, -space / requests);
        }
    }

    /// The share of the last minute that was used.
    pub(crate) fn used(&mut self, now: Micros) -> f64 {
        self.used_of(now, MINUTE)
    }

    /// The same of the time since the first, where that is shorter.
    pub(crate) fn rate(&mut self, now: Micros) -> f64 {
        let since = self.first.map_or(0, |first| now.saturating_sub(first));
        self.used_of(now, since.clamp(SECOND, MINUTE))
    }

    fn used_of(&mut self, now: Micros, time: Micros) -> f64 {
        self.forget(now);
        (self.sum().1 / time as f64).max(0.0)
    }

    fn sum(&self) -> (f64, f64) {
        self.seconds
            .iter()
            .fold((0.0, 0.0), |(requests, space), one| {
                (requests + one.requests, space + one.space)
            })
    }

    fn add(&mut self, now: Micros, requests: f64, space: f64) {
        self.forget(now);
        let number = now / SECOND;
        if self.seconds.back().is_none_or(|last| last.number != number) {
            self.seconds.push_back(Second {
                number,
                ..Second::default()
            });
        }
        if let Some(last) = self.seconds.back_mut() {
            last.requests += requests;
            last.space += space;
        }
    }

    fn forget(&mut self, now: Micros) {
        let is_gone = |one: &Second| (one.number + 1) * SECOND + MINUTE <= now + SECOND;
        while self.seconds.front().is_some_and(is_gone) {
            self.seconds.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_holds_what_left_in_it_and_was_not_refused() {
        let mut minute = Minute::default();
        for n in 0..20 {
            minute.sent(n * SECOND, SECOND);
        }
        assert!((minute.used(20 * SECOND) - 20.0 / 60.0).abs() < 1e-9);
        assert!((minute.rate(20 * SECOND) - 1.0).abs() < 1e-9);
        for _ in 0..5 {
            minute.refused(20 * SECOND);
        }
        assert!((minute.used(20 * SECOND) - 15.0 / 60.0).abs() < 1e-9);
        assert_eq!(minute.used(200 * SECOND), 0.0);
        minute.refused(200 * SECOND);
        assert_eq!(minute.used(200 * SECOND), 0.0);
    }
}

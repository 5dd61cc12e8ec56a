use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::queue::Lane;
use crate::{Budget, RetryOptions};

/// How long to wait, with luck in it so that many rows do not come back at the same moment.
#[derive(Debug)]
pub(crate) struct Schedule {
    base: Duration,
    max: Duration,
    luck: Mutex<fastrand::Rng>,
}

impl Schedule {
    pub(crate) fn new(options: &RetryOptions, luck: fastrand::Rng) -> Schedule {
        let seconds = |value: f64| Duration::try_from_secs_f64(value).unwrap_or_default();
        Schedule {
            base: seconds(options.base_delay_s),
            max: seconds(options.max_delay_s),
            luck: Mutex::new(luck),
        }
    }

    /// A hint is obeyed to the letter and a little more; without one the wait before the n-th repeat
    /// (from 1) is anything from nothing to a limit that doubles ("full jitter").
    pub(crate) fn wait(&self, repeat: u32, hint: Option<Duration>) -> Duration {
        let luck = self
            .luck
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .f64();
        let least = hint.unwrap_or_default();
        least + (self.longest(repeat, hint) - least).mul_f64(luck)
    }

    /// What the wait is at most.
    pub(crate) fn longest(&self, repeat: u32, hint: Option<Duration>) -> Duration {
        match hint {
            Some(hint) => hint + (hint / 10).min(Duration::from_secs(1)),
            None => {
                let doubled = 2u32.saturating_pow(repeat.saturating_sub(1));
                self.base.saturating_mul(doubled).min(self.max)
            }
        }
    }
}

/// What one row has used up.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    /// When the first request of this row left, by the clock that stands still while the client is held, and for how
    /// long the endpoint had been away by then.
    since: Option<(Instant, Duration)>,
    attempts: u32,
    unusable: u32,
    empty: u32,
    repeats: u32,
    /// Failures of the way to the endpoint: refused, gateway.
    unreachable: u32,
    /// Attempts that an outage may have cost.
    signs: u32,
    /// Refusals because too many came at once.
    turned_away: u32,
}

impl Spent {
    pub(crate) fn start(&mut self, now: Instant, away: impl FnOnce() -> Duration) {
        self.since.get_or_insert_with(|| (now, away()));
    }

    /// The number of the next repeat.
    pub(crate) fn next_repeat(&self) -> u32 {
        self.repeats + 1
    }

    /// In which lane it waits for the next request.
    pub(crate) fn lane(&self) -> Lane {
        match self.since {
            None => Lane::New,
            Some(_) => Lane::Again,
        }
    }

    /// Counts a bad outcome. `None`: the budget is used up; else the number of the repeat, from 1.
    pub(crate) fn repeat(&mut self, budget: Budget, options: &RetryOptions) -> Option<u32> {
        let more = match budget {
            Budget::Free => true,
            Budget::Attempts => true,
            Budget::Unusable => {
                self.unusable += 1;
                self.unusable <= options.unusable_retries
            }
            Budget::Empty => {
                self.empty += 1;
                self.empty <= options.empty_retries
            }
        };
        if budget != Budget::Free {
            self.attempts += 1;
        }
        self.repeats += 1;
        (more && self.attempts < options.max_attempts).then_some(self.repeats)
    }

    /// Counts that the endpoint could not be reached; says how often that was so.
    pub(crate) fn not_reached(&mut self) -> u32 {
        self.unreachable += 1;
        self.unreachable
    }

    /// Counts that it was one too many, which costs nothing; says how often that was so.
    pub(crate) fn turned_away(&mut self) -> u32 {
        self.turned_away += 1;
        self.turned_away
    }

    /// Counts a fault that an outage may have been the cause of.
    pub(crate) fn sign(&mut self) {
        self.signs += 1;
    }

    /// The endpoint was away, as it turned out: what that cost is given back.
    pub(crate) fn was_away(&mut self) {
        let lost = std::mem::take(&mut self.signs);
        self.attempts = self.attempts.saturating_sub(lost);
        self.repeats = self.repeats.saturating_sub(lost);
    }

    /// Whether the next fault of server or network would be the last.
    pub(crate) fn is_last(&self, options: &RetryOptions) -> bool {
        self.attempts + 1 >= options.max_attempts
    }

    /// Whether the row would be too old after this wait. Neither the time in which the client was held makes it older,
    /// which `now` leaves out, nor that in which the endpoint was away.
    pub(crate) fn too_old_after(
        &self,
        wait: Duration,
        now: Instant,
        away: Duration,
        options: &RetryOptions,
    ) -> bool {
        let age = self.since.map_or(Duration::ZERO, |(since, before)| {
            now.saturating_duration_since(since)
                .saturating_sub(away.saturating_sub(before))
        });
        age.saturating_add(wait) > Duration::from_secs(options.max_row_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule() -> Schedule {
        Schedule::new(&RetryOptions::default(), fastrand::Rng::with_seed(7))
    }

    #[test]
    fn without_a_hint_the_wait_is_anything_up_to_a_doubling_limit() {
        let schedule = schedule();
        for (repeat, limit) in [
            (1, 1.0),
            (2, 2.0),
            (3, 4.0),
            (6, 32.0),
            (7, 60.0),
            (40, 60.0),
            (u32::MAX, 60.0),
        ] {
            let waits: Vec<f64> = (0..500)
                .map(|_| schedule.wait(repeat, None).as_secs_f64())
                .collect();
            assert!(waits.iter().all(|wait| (0.0..=limit).contains(wait)));
            assert!(
                waits.iter().any(|wait| *wait < 0.1 * limit)
                    && waits.iter().any(|wait| *wait > 0.9 * limit)
            );
        }
    }

    #[test]
    fn a_hint_is_never_undercut_and_hardly_exceeded() {
        let schedule = schedule();
        for (hint, most) in [(0.12, 0.132), (7.0, 7.7), (600.0, 601.0)] {
            for repeat in 1..200 {
                let wait = schedule
                    .wait(repeat, Some(Duration::from_secs_f64(hint)))
                    .as_secs_f64();
                assert!(
                    (hint..=most).contains(&wait),
                    "{wait} after a hint of {hint}"
                );
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let waits = |schedule: Schedule| -> Vec<Duration> {
            (1..9).map(|n| schedule.wait(n, None)).collect()
        };
        assert_eq!(waits(schedule()), waits(schedule()));
    }

    #[test]
    fn nonsense_in_the_options_means_no_wait_and_no_panic() {
        let options = RetryOptions {
            base_delay_s: -1.0,
            max_delay_s: f64::NAN,
            ..RetryOptions::default()
        };
        assert_eq!(
            Schedule::new(&options, fastrand::Rng::with_seed(1)).wait(3, None),
            Duration::ZERO
        );
    }

    #[test]
    fn each_budget_has_its_own_end() {
        let options = RetryOptions::default();
        for (budget, repeats) in [
            (Budget::Attempts, 5),
            (Budget::Unusable, 2),
            (Budget::Empty, 1),
        ] {
            let mut spent = Spent::default();
            let allowed = (0..100)
                .take_while(|_| spent.repeat(budget, &options).is_some())
                .count();
            assert_eq!(allowed, repeats, "{budget:?}");
        }
        let mut spent = Spent::default();
        assert!((0..100).all(|_| spent.repeat(Budget::Free, &options).is_some()));
    }
}

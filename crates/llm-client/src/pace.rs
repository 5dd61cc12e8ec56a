use std::time::Duration;

use crate::ledger::Micros;

/// What is kept of the rate when the endpoint pushes back again.
const KEPT: f64 = 0.8;
/// By how much it grows in a minute in which the endpoint does not.
const GROWS: f64 = 1.1;
/// It gets no lower than this share of the rate.
const LEAST: f64 = 0.01;
/// Who pushes back once so soon after the last pause does it again.
const AGAIN: Micros = 120_000_000;
const MINUTE: f64 = 60e6;

/// The share of the configured rate that is used, where an endpoint allows less than it was thought to.
///
/// One time that it pushes back may have many reasons. Where it does so again although the limits are kept, the
/// limits are too high, or somebody else uses the key: then requests leave further apart, and come closer to each
/// other again as time goes by, up to what is configured.
#[derive(Debug)]
pub(crate) struct Pace {
    share: f64,
    /// From when on it grows.
    since: Micros,
    /// The end of the last pause.
    pushed: Option<Micros>,
}

/// The endpoint pushed back again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Slowed {
    /// Of the configured rate, from 0 to 1.
    pub(crate) share: f64,
    /// Until now it was all of it.
    pub(crate) is_first: bool,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            share: 1.0,
            since: 0,
            pushed: None,
        }
    }
}

impl Pace {
    /// The endpoint pushed back, and everybody waits for so long; at least this share of the rate is left.
    pub(crate) fn pushed_back(
        &mut self,
        now: Micros,
        wait: Duration,
        least: f64,
    ) -> Option<Slowed> {
        let share = self.share(now);
        let wait = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        let end = now.saturating_add(wait);
        let last = self.pushed.replace(end);
        let is_again = last.is_some_and(|last| now < last.saturating_add(AGAIN));
        let is_first = share >= 1.0;
        if is_first && !is_again {
            return None;
        }
        (self.share, self.since) = ((share * KEPT).max(LEAST).max(least), end);
        let share = self.share;
        Some(Slowed { share, is_first })
    }

    /// How much longer requests are apart than the limits say: 1 or more.
    pub(crate) fn slower(&mut self, now: Micros) -> f64 {
        if self.share < 1.0 && self.share(now) >= 1.0 {
            self.share = 1.0;
            tracing::info!("requests leave at the configured rate again");
        }
        1.0 / self.share(now)
    }

    fn share(&self, now: Micros) -> f64 {
        if self.share >= 1.0 {
            return 1.0;
        }
        let minutes = now.saturating_sub(self.since) as f64 / MINUTE;
        (self.share * GROWS.powf(minutes)).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;
    const WAIT: Duration = Duration::from_secs(5);

    #[test]
    fn once_is_no_reason_and_again_is() {
        let mut pace = Pace::default();
        assert_eq!(pace.pushed_back(0, WAIT, 0.0), None);
        // Long ago by then.
        assert_eq!(pace.pushed_back(300 * SECOND, WAIT, 0.0), None);
        let slowed = pace.pushed_back(420 * SECOND, WAIT, 0.0).unwrap();
        assert_eq!((slowed.share, slowed.is_first), (0.8, true));
        let slowed = pace.pushed_back(421 * SECOND, WAIT, 0.0).unwrap();
        assert!(!slowed.is_first && (slowed.share - 0.64).abs() < 1e-9);
    }

    #[test]
    fn a_long_pause_is_not_time_without_trouble() {
        let mut pace = Pace::default();
        pace.pushed_back(0, Duration::from_secs(600), 0.0);
        let slowed = pace.pushed_back(601 * SECOND, Duration::from_secs(600), 0.0);
        assert_eq!(slowed.map(|slowed| slowed.share), Some(0.8));
        assert_eq!(pace.slower(1_200 * SECOND), 1.0 / 0.8);
    }

    #[test]
    fn it_grows_slowly_to_the_whole_rate_and_no_further() {
        let mut pace = Pace::default();
        for n in 0..3 {
            pace.pushed_back(n * SECOND, Duration::ZERO, 0.0);
        }
        let mut minutes = 0;
        let mut before = 1.0 / 0.64;
        while pace.slower((2 + minutes * 60) * SECOND) > 1.0 {
            let now = pace.slower((2 + minutes * 60) * SECOND);
            assert!(now <= before * 1.000_001 && now >= before / 1.11);
            (before, minutes) = (now, minutes + 1);
        }
        assert_eq!(minutes, 5);
        assert_eq!(pace.slower(u64::MAX), 1.0);
    }

    #[test]
    fn it_does_not_come_to_a_stop() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.pushed_back(0, Duration::MAX, 0.0);
        }
        assert_eq!(pace.slower(0), 100.0);
    }
}

//! How fast rows are done lately, and how long the others will take.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So far back counts.
const LATELY: Duration = Duration::from_secs(60);
/// Further back where fewer rows than this were done since.
const ENOUGH: u64 = 10;
/// How often it is noted how many are done.
const EVERY: Duration = Duration::from_secs(1);
/// In less time nobody can tell.
const LEAST: f64 = 0.2;

/// How many rows were done when. Time in which nothing may leave says nothing of how fast it goes, and does not count.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    at_work: Duration,
    looked: Option<Instant>,
    /// Oldest first.
    done: VecDeque<(Duration, u64)>,
}

impl Pace {
    /// So many rows are done now.
    pub(crate) fn look(&mut self, now: Instant, done: u64, is_paused: bool) {
        let before = self.looked.replace(now).unwrap_or(now);
        if !is_paused {
            self.at_work += now.saturating_duration_since(before);
        }
        let is_time = |(at, _): &(Duration, u64)| self.at_work >= *at + EVERY;
        if self.done.back().is_none_or(is_time) {
            self.done.push_back((self.at_work, done));
        }
        while let Some((at, then)) = self.done.get(1)
            && self.at_work.saturating_sub(*at) >= LATELY
            && done.saturating_sub(*then) >= ENOUGH
        {
            self.done.pop_front();
        }
    }

    /// Rows in a second; `None` where nobody can tell.
    pub(crate) fn rate(&self, done: u64) -> Option<f64> {
        let (at, then) = self.done.front()?;
        let seconds = self.at_work.saturating_sub(*at).as_secs_f64();
        let rows = done.saturating_sub(*then);
        (seconds > LEAST && rows > 0).then(|| rows as f64 / seconds)
    }
}

/// The rows that wait for a limit: how many, and how long the last of them does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queue {
    pub(crate) rows: u64,
    pub(crate) longest: Duration,
}

impl Queue {
    /// Seconds from one row to the next.
    fn space(self) -> f64 {
        self.longest.as_secs_f64() / self.rows.max(1) as f64
    }
}

/// How long so many rows will take, as fast as they go lately or as a limit lets them, after a pause.
pub(crate) fn left(
    rows: u64,
    rate: Option<f64>,
    queue: Option<Queue>,
    pause: Duration,
) -> Option<Duration> {
    let rows = rows as f64;
    let by_rate = rate.map(|rate| rows / rate);
    let by_limit = queue.map(|queue| rows * queue.space());
    let seconds = by_rate.into_iter().chain(by_limit).reduce(f64::max)?;
    Duration::try_from_secs_f64(seconds)
        .ok()?
        .checked_add(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pace after so many seconds of which each adds so many rows, or is part of a pause.
    fn after(seconds: &[(u64, Option<u64>)]) -> (Pace, u64) {
        let (mut pace, mut done, mut now) = (Pace::default(), 0, Instant::now());
        pace.look(now, 0, false);
        for (count, rows) in seconds {
            for _ in 0..*count {
                now += Duration::from_secs(1);
                done += rows.unwrap_or(0);
                pace.look(now, done, rows.is_none());
            }
        }
        (pace, done)
    }

    #[test]
    fn the_last_minute_counts_and_not_what_was_before() {
        let (pace, done) = after(&[(600, Some(50)), (120, Some(2))]);
        assert_eq!(pace.rate(done), Some(2.0));
    }

    #[test]
    fn where_little_was_done_in_a_minute_it_is_looked_at_for_longer() {
        let (pace, done) = after(&[(1, Some(1)), (59, Some(0)), (1, Some(1)), (59, Some(0))]);
        assert_eq!(pace.rate(done), Some(2.0 / 120.0));
    }

    #[test]
    fn a_pause_makes_nothing_slower() {
        let (pace, done) = after(&[(30, Some(3)), (300, None)]);
        assert_eq!(pace.rate(done), Some(3.0));
        let (pace, _) = after(&[(30, None)]);
        assert_eq!(pace.rate(0), None);
    }

    #[test]
    fn what_is_left_takes_as_long_as_the_limit_makes_it_and_the_pause_before() {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        let queue = Queue {
            rows: 20,
            longest: minutes(20),
        };
        assert_eq!(
            left(29, Some(0.1), Some(queue), Duration::ZERO),
            Some(minutes(29))
        );
        assert_eq!(left(60, Some(1.0), None, minutes(2)), Some(minutes(3)));
        assert_eq!(left(60, None, None, minutes(2)), None);
    }
}

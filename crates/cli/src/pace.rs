//! How fast rows are done lately, and how long the others will take.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

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

/// All that tells how long the other rows will take.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ahead {
    /// Rows in a second.
    pub(crate) rate: Option<f64>,
    /// Until the last request has left, as far as the limits go; `None` where there are none.
    pub(crate) sending: Option<Duration>,
    /// From a request to its answer.
    pub(crate) latency: Duration,
    /// As much of it as is left for those that left last.
    pub(crate) rest: Duration,
    /// Requests at the same time.
    pub(crate) places: u64,
    /// Requests that have yet to leave.
    pub(crate) requests: u64,
    /// Nothing leaves before.
    pub(crate) pause: Duration,
}

impl Ahead {
    /// How long so many rows will take. Under limits that is not what it was until now: how many left lately tells how
    /// full the windows were, not how fast it goes.
    pub(crate) fn left(&self, rows: u64) -> Option<Duration> {
        let seconds = match self.sending {
            Some(_) => self.by_places(),
            None => self.rate.map(|rate| rows as f64 / rate),
        };
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let time = time.and_then(|time| time.checked_add(self.pause));
        let last = match self.requests {
            0 => self.rest,
            _ => self.latency,
        };
        let by_limit = self.sending.map(|sending| sending + last);
        by_limit.into_iter().chain(time).max()
    }

    /// Seconds, if all places are always taken.
    fn by_places(&self) -> Option<f64> {
        let rounds = self.requests as f64 / self.places as f64;
        let seconds = rounds * self.latency.as_secs_f64() + self.rest.as_secs_f64();
        Some(seconds).filter(|seconds| seconds.is_finite())
    }
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
    fn without_a_limit_what_is_left_takes_as_long_as_before_and_the_pause() {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        let ahead = Ahead {
            rate: Some(1.0),
            pause: minutes(2),
            ..Ahead::default()
        };
        assert_eq!(ahead.left(60), Some(minutes(3)));
        assert_eq!(
            Ahead {
                rate: None,
                ..ahead
            }
            .left(60),
            None
        );
    }
}

//! Requests of which the journal holds nothing: a new start must not take them for never sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::record::timestamp;

/// Requests are counted together that left in the same minute, and once that is long ago in the same hour.
const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;
/// Nobody looks back further.
const KEPT: u64 = 25 * HOUR;
/// With more of them the old ones are put together.
const MANY: usize = 128;

/// Requests of a command that left at about the same time and of which its journal holds nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unjournaled {
    /// No later than this did the last of them leave, RFC 3339 in UTC.
    pub last: String,
    /// Those that cost nothing: answered with an error, or never arrived.
    #[serde(default, skip_serializing_if = "is_none")]
    pub refused: u64,
    /// Those whose answer nobody has: cut off, timed out, or not written. They may have been paid for.
    #[serde(default, skip_serializing_if = "is_none")]
    pub unanswered: u64,
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

impl Unjournaled {
    /// What was under way when a command died.
    pub(crate) fn at_death(at: SystemTime, unanswered: u64) -> Unjournaled {
        Unjournaled {
            last: timestamp(at + Duration::from_secs(1)),
            refused: 0,
            unanswered,
        }
    }

    /// No later than this did the last of them leave; `None` where somebody wrote no time.
    pub fn at(&self) -> Option<SystemTime> {
        let at: jiff::Timestamp = self.last.parse().ok()?;
        Some(at.into())
    }
}

/// Counts them while a command works.
#[derive(Default)]
pub(crate) struct Tally(Mutex<Vec<Part>>);

/// What left in one stretch of time, in seconds since 1970.
struct Part {
    stretch: u64,
    last: u64,
    refused: u64,
    unanswered: u64,
}

/// What came of a request of which the journal holds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It cost nothing.
    Refused,
    /// Nobody knows what it cost.
    Unanswered,
}

impl Tally {
    /// One that left in this second.
    fn count(&self, second: u64, loss: Loss) {
        let mut parts = self.lock();
        let stretch = second - second % MINUTE;
        // Requests end in another order than they leave in, and not much of one.
        let known = parts.iter().rposition(|part| part.stretch == stretch);
        let known = known.unwrap_or_else(|| {
            parts.push(Part {
                stretch,
                last: second,
                refused: 0,
                unanswered: 0,
            });
            parts.len() - 1
        });
        let part = &mut parts[known];
        part.last = part.last.max(second);
        match loss {
            Loss::Refused => part.refused += 1,
            Loss::Unanswered => part.unanswered += 1,
        }
        if parts.len() > MANY {
            put_together(&mut parts, second);
        }
    }

    /// All of them, oldest first.
    pub(crate) fn list(&self) -> Vec<Unjournaled> {
        let mut parts = self.lock();
        parts.sort_unstable_by_key(|part| part.last);
        let list = parts.iter().map(|part| Unjournaled {
            // A second is written down as its beginning.
            last: timestamp(UNIX_EPOCH + Duration::from_secs(part.last + 1)),
            refused: part.refused,
            unanswered: part.unanswered,
        });
        list.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those of an hour ago count as if all of the hour had left at its end: too late by less than an hour of a day.
fn put_together(parts: &mut Vec<Part>, now: u64) {
    let mut few: Vec<Part> = Vec::new();
    for mut part in parts.drain(..).filter(|part| part.last + KEPT > now) {
        if part.last + HOUR < now {
            part.stretch -= part.stretch % HOUR;
        }
        match few.iter_mut().find(|known| known.stretch == part.stretch) {
            Some(known) => {
                known.last = known.last.max(part.last);
                known.refused += part.refused;
                known.unanswered += part.unanswered;
            }
            None => few.push(part),
        }
    }
    *parts = few;
}

/// The request that a row has under way. Wherever it is dropped, cut off for example, it is counted.
pub(crate) struct UnderWay<'a> {
    tally: &'a Tally,
    /// The second in which it left; 0: there is none.
    left: AtomicU64,
}

impl<'a> UnderWay<'a> {
    pub(crate) fn new(tally: &'a Tally) -> UnderWay<'a> {
        UnderWay {
            tally,
            left: AtomicU64::new(0),
        }
    }

    /// One leaves. Whatever was under way before was never written down.
    pub(crate) fn leaves(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.is(now.map_or(1, |now| now.as_secs().max(1)), Loss::Unanswered);
    }

    /// The journal has its answer.
    pub(crate) fn is_journaled(&self) {
        self.left.store(0, Ordering::Relaxed);
    }

    /// The journal will have no answer to it.
    pub(crate) fn is_lost(&self, loss: Loss) {
        self.is(0, loss);
    }

    fn is(&self, next: u64, loss: Loss) {
        let left = self.left.swap(next, Ordering::Relaxed);
        if left > 0 {
            self.tally.count(left, loss);
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.is_lost(Loss::Unanswered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(tally: &Tally) -> Vec<(u64, u64)> {
        let list = tally.list();
        list.iter()
            .map(|part| (part.refused, part.unanswered))
            .collect()
    }

    #[test]
    fn what_is_journaled_is_not_counted_and_all_else_is() {
        let tally = Tally::default();
        let row = UnderWay::new(&tally);
        row.leaves();
        row.is_journaled();
        assert_eq!(counts(&tally), []);
        row.leaves();
        row.is_lost(Loss::Refused);
        row.is_lost(Loss::Unanswered);
        row.leaves();
        drop(row);
        let sums = counts(&tally)
            .iter()
            .fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        assert_eq!(sums, (1, 1));
        let last = tally.list().last().and_then(Unjournaled::at).unwrap();
        assert!(last >= SystemTime::now());
    }

    #[test]
    fn a_day_of_them_takes_little_room_and_none_counts_too_early() {
        let tally = Tally::default();
        let start = 1_000_000 * HOUR;
        for minute in 0..3 * 24 * 60 {
            tally.count(start + minute * MINUTE + 7, Loss::Refused);
        }
        let list = tally.list();
        assert!(list.len() <= MANY, "{}", list.len());
        let end = start + 3 * 24 * HOUR;
        for hours in [1, 2, 23, 24] {
            let since = UNIX_EPOCH + Duration::from_secs(end - hours * HOUR);
            let late = list.iter().filter(|part| part.at().unwrap() >= since);
            let count: u64 = late.map(|part| part.refused).sum();
            let exact = hours * 60;
            assert!((exact..=exact + 60).contains(&count), "{hours} h: {count}");
        }
    }
}

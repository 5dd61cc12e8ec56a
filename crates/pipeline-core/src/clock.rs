//! Measures where the time goes, while a run works.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::times::{Span, Times, WaitReason};

const REASONS: usize = WaitReason::ALL.len();
/// Requests after faults of further classes are counted together.
const CLASSES: usize = 64;
const OTHERS: &str = "others";

/// The sums of a run. A wait costs two looks at the clock and no memory.
pub(crate) struct Clock {
    began: Instant,
    prepared: Instant,
    sums: Mutex<Sums>,
}

struct Sums {
    asking: Sum,
    waiting: [Sum; REASONS],
    /// Requests by the class of what was wrong before; there are few classes.
    again: Vec<(String, u64)>,
}

impl Sums {
    /// Where requests after a fault of this class are counted.
    fn place_of(&mut self, class: &str) -> usize {
        let place =
            |again: &[(String, u64)], class| again.iter().position(|(known, _)| known == class);
        if let Some(known) = place(&self.again, class) {
            return known;
        }
        let class = if self.again.len() < CLASSES {
            class
        } else {
            OTHERS
        };
        place(&self.again, class).unwrap_or_else(|| {
            self.again.push((class.to_owned(), 0));
            self.again.len() - 1
        })
    }
}

/// How many there are at this moment, and the time until it last changed.
#[derive(Clone, Copy)]
struct Sum {
    open: u32,
    changed: Instant,
    wall: Duration,
    sum: Duration,
}

impl Sum {
    fn new(now: Instant) -> Sum {
        Sum {
            open: 0,
            changed: now,
            wall: Duration::ZERO,
            sum: Duration::ZERO,
        }
    }

    fn bring_up_to(&mut self, now: Instant) {
        let passed = now - self.changed;
        self.changed = now;
        if self.open > 0 {
            self.wall += passed;
            self.sum += passed * self.open;
        }
    }

    fn one_more(&mut self, now: Instant) {
        self.bring_up_to(now);
        self.open += 1;
    }

    fn one_less(&mut self, now: Instant) {
        self.bring_up_to(now);
        self.open -= 1;
    }

    fn span(mut self, now: Instant) -> Span {
        self.bring_up_to(now);
        Span {
            wall_ms: ms(self.wall),
            sum_ms: ms(self.sum),
        }
    }
}

impl Clock {
    /// Of a command that began then and takes up its first row now.
    pub(crate) fn new(began: Instant) -> Clock {
        let now = Instant::now();
        Clock {
            began,
            prepared: now,
            sums: Mutex::new(Sums {
                asking: Sum::new(now),
                waiting: [Sum::new(now); REASONS],
                again: Vec::new(),
            }),
        }
    }

    /// The sums up to now, what is not yet at its end included.
    pub(crate) fn times(&self) -> Times {
        let now = Instant::now();
        let sums = self.lock();
        let waiting = WaitReason::ALL
            .into_iter()
            .map(|reason| (reason, sums.waiting[reason as usize].span(now)));
        Times {
            wall_ms: ms(now - self.began),
            preparing_ms: ms(self.prepared - self.began),
            asking: sums.asking.span(now),
            waiting: waiting.filter(|(_, span)| span.sum_ms > 0).collect(),
            asked_again: sums
                .again
                .iter()
                .filter(|(_, requests)| *requests > 0)
                .cloned()
                .collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// One row's part in the sums; what it has begun ends with it, wherever it is dropped.
pub(crate) struct RowClock<'a> {
    clock: &'a Clock,
    now: Mutex<Doing>,
}

/// What a row does at this moment.
#[derive(Default)]
struct Doing {
    waiting: Option<WaitReason>,
    asking: u32,
    /// Where the class of the fault stands after which it is asked again.
    again: Option<usize>,
}

impl<'a> RowClock<'a> {
    pub(crate) fn new(clock: &'a Clock) -> RowClock<'a> {
        RowClock {
            clock,
            now: Mutex::default(),
        }
    }

    /// Begins to wait; one wait takes the place of another.
    pub(crate) fn waits(&self, reason: WaitReason) {
        let (mut doing, mut sums, now) = self.at_once();
        if let Some(other) = doing.waiting.replace(reason) {
            sums.waiting[other as usize].one_less(now);
        }
        sums.waiting[reason as usize].one_more(now);
    }

    pub(crate) fn goes_on(&self) {
        let (mut doing, mut sums, now) = self.at_once();
        if let Some(reason) = doing.waiting.take() {
            sums.waiting[reason as usize].one_less(now);
        }
    }

    /// Its next request, if there is one, is for this.
    pub(crate) fn will_be_asked_again(&self, class: &str) {
        let (mut doing, mut sums, _) = self.at_once();
        doing.again = Some(sums.place_of(class));
    }

    pub(crate) fn asks(&self) {
        let (mut doing, mut sums, now) = self.at_once();
        doing.asking += 1;
        sums.asking.one_more(now);
        if let Some(class) = doing.again.take() {
            sums.again[class].1 += 1;
        }
    }

    pub(crate) fn is_answered(&self) {
        let (mut doing, mut sums, now) = self.at_once();
        if let Some(left) = doing.asking.checked_sub(1) {
            doing.asking = left;
            sums.asking.one_less(now);
        }
    }

    fn at_once(&self) -> (MutexGuard<'_, Doing>, MutexGuard<'a, Sums>, Instant) {
        let doing = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let sums = self.clock.lock();
        // Read under the lock, so that no sum goes back in time.
        (doing, sums, Instant::now())
    }
}

impl Drop for RowClock<'_> {
    fn drop(&mut self) {
        self.goes_on();
        let (mut doing, mut sums, now) = self.at_once();
        for _ in 0..std::mem::take(&mut doing.asking) {
            sums.asking.one_less(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(wall: u64, sum: u64) -> Span {
        Span {
            wall_ms: wall * 1000,
            sum_ms: sum * 1000,
        }
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn rows_that_wait_at_the_same_time_count_once_in_the_wall_time() {
        let began = Instant::now();
        pass(1).await;
        let clock = Clock::new(began);
        let (a, b) = (RowClock::new(&clock), RowClock::new(&clock));
        a.waits(WaitReason::Pause);
        pass(10).await;
        b.waits(WaitReason::Pause);
        pass(20).await;
        a.goes_on();
        pass(5).await;
        // Not at its end, and counted all the same.
        assert_eq!(clock.times().waiting[&WaitReason::Pause], seconds(35, 55));
        b.goes_on();
        pass(100).await;
        a.waits(WaitReason::Pause);
        pass(1).await;
        a.goes_on();
        let times = clock.times();
        assert_eq!(times.waiting[&WaitReason::Pause], seconds(36, 56));
        assert_eq!(times.waiting.len(), 1);
        assert_eq!((times.wall_ms, times.preparing_ms), (137_000, 1_000));
    }

    #[tokio::test(start_paused = true)]
    async fn one_wait_takes_the_place_of_another_and_a_row_that_is_dropped_waits_no_longer() {
        let clock = Clock::new(Instant::now());
        let row = RowClock::new(&clock);
        row.waits(WaitReason::Slot);
        pass(2).await;
        row.waits(WaitReason::Away);
        pass(3).await;
        row.asks();
        pass(4).await;
        drop(row);
        pass(50).await;
        let times = clock.times();
        assert_eq!(times.waiting[&WaitReason::Slot], seconds(2, 2));
        assert_eq!(times.waiting[&WaitReason::Away], seconds(7, 7));
        assert_eq!(times.asking, seconds(4, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_counted_by_what_was_wrong_before_it_once_it_is_sent() {
        let clock = Clock::new(Instant::now());
        let row = RowClock::new(&clock);
        let again = || clock.times().asked_again.into_iter().collect::<Vec<_>>();
        row.asks();
        row.is_answered();
        row.will_be_asked_again("timeout");
        row.will_be_asked_again("rate_limited");
        row.asks();
        row.asks();
        // Twice answered is no harm.
        (0..3).for_each(|_| row.is_answered());
        assert_eq!(again(), [("rate_limited".to_owned(), 1)]);
        for class in 0..CLASSES + 5 {
            row.will_be_asked_again(&class.to_string());
            row.asks();
        }
        let again = again();
        assert_eq!(again.len(), CLASSES, "those of `timeout` were never sent");
        assert!(again.contains(&(OTHERS.to_owned(), 7)));
    }
}

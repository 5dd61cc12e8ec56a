use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How much later than its time a waiter may have been woken without the rate suffering for it.
const LATENESS: Duration = Duration::from_millis(20);

/// Requests a minute, shared by all tasks: evenly spaced and first come, first served.
///
/// Time that nobody used is not saved up, so there is never a burst. The space between two permits is
/// half a percent longer than a minute divided by the limit, so that no sliding minute as the server
/// sees it holds more than the limit.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// use data_generation_llm_client::Limiter;
/// use std::num::NonZeroU32;
/// use std::time::Duration;
///
/// let limiter = Limiter::per_minute(NonZeroU32::new(20).unwrap());
/// let start = tokio::time::Instant::now();
/// limiter.acquire().await; // at once
/// limiter.acquire().await; // about three seconds later
/// assert!(start.elapsed() > Duration::from_secs(3));
/// # }
/// ```
#[derive(Debug)]
pub struct Limiter {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the next permit may be given; `None` before the first.
    next: Option<Instant>,
    last_ticket: u64,
    /// Who waits, in order of coming; only the first one watches the clock.
    waiting: BTreeMap<u64, Arc<Notify>>,
}

impl Limiter {
    /// At most this many permits in any minute.
    pub fn per_minute(requests: NonZeroU32) -> Limiter {
        let interval = Duration::from_secs(60).mul_f64(1.005) / requests.get();
        Limiter {
            interval,
            state: Mutex::default(),
        }
    }

    /// Waits for the next permit. Whoever stops waiting loses nothing but his place.
    pub async fn acquire(&self) {
        let Some(ticket) = self.take_or_queue() else {
            return;
        };
        loop {
            match self.poll_front(ticket.number) {
                Front::Granted => return,
                Front::At(time) => sleep_until(time).await,
                Front::Behind => ticket.turn.notified().await,
            }
        }
    }

    /// How long somebody who came now would wait.
    pub fn wait_hint(&self) -> Duration {
        let state = self.lock();
        let ahead = u32::try_from(state.waiting.len()).unwrap_or(u32::MAX);
        let next = state.next.map_or(Duration::ZERO, |next| {
            next.saturating_duration_since(Instant::now())
        });
        next.saturating_add(self.interval.saturating_mul(ahead))
    }

    fn take_or_queue(&self) -> Option<Ticket<'_>> {
        let now = Instant::now();
        let mut state = self.lock();
        if state.waiting.is_empty() && state.next.is_none_or(|next| next <= now) {
            state.next = Some(now + self.interval);
            return None;
        }
        state.last_ticket += 1;
        let (number, turn) = (state.last_ticket, Arc::new(Notify::new()));
        state.waiting.insert(number, Arc::clone(&turn));
        Some(Ticket {
            limiter: self,
            number,
            turn,
        })
    }

    fn poll_front(&self, ticket: u64) -> Front {
        let now = Instant::now();
        let mut state = self.lock();
        if state
            .waiting
            .first_key_value()
            .is_none_or(|(first, _)| *first != ticket)
        {
            return Front::Behind;
        }
        match state.next {
            Some(next) if next > now => Front::At(next),
            next => {
                // Timers ring late by a millisecond or so; without this the loss would add up.
                let due = next.filter(|next| now - *next <= LATENESS).unwrap_or(now);
                state.next = Some(due + self.interval);
                Front::Granted
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Front {
    Granted,
    At(Instant),
    Behind,
}

/// A place in the queue, given up when it is dropped.
struct Ticket<'a> {
    limiter: &'a Limiter,
    number: u64,
    turn: Arc<Notify>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.limiter.lock();
        state.waiting.remove(&self.number);
        if let Some((_, next)) = state.waiting.first_key_value() {
            next.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::time::advance;

    use super::*;

    fn limiter(requests: u32) -> Arc<Limiter> {
        Arc::new(Limiter::per_minute(NonZeroU32::new(requests).unwrap()))
    }

    async fn times(limiter: &Limiter, permits: usize) -> Vec<Instant> {
        join_all((0..permits).map(|_| async {
            limiter.acquire().await;
            Instant::now()
        }))
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn no_sliding_minute_exceeds_the_limit_and_hardly_any_falls_short() {
        for requests in [1, 20, 60, 7_777] {
            let times = times(&limiter(requests), 2 * requests as usize + 1).await;
            for (first, last) in times.iter().zip(&times[requests as usize..]) {
                let minute = *last - *first;
                assert!(
                    minute > Duration::from_secs(60),
                    "{requests} a minute in {minute:?}"
                );
                assert!(
                    minute < Duration::from_secs(61),
                    "{requests} a minute in {minute:?}"
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_is_not_saved_up() {
        let limiter = limiter(20);
        limiter.acquire().await;
        advance(Duration::from_secs(600)).await;
        let times = times(&limiter, 3).await;
        assert!(times[1] - times[0] >= Duration::from_secs(3));
        assert!(times[2] - times[1] >= Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_first_is_served_first() {
        let limiter = limiter(60);
        let times = times(&limiter, 10).await;
        assert!(times.is_sorted());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stops_waiting_stalls_nobody_and_wastes_no_permit() {
        let limiter = limiter(60);
        limiter.acquire().await;
        let start = Instant::now();
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let limiter = Arc::clone(&limiter);
                tokio::spawn(async move { limiter.acquire().await })
            })
            .collect();
        advance(Duration::from_millis(500)).await;
        // The first one watches the clock, the second one is in the middle.
        waiters[0].abort();
        waiters[1].abort();
        for waiter in waiters.into_iter().skip(2) {
            waiter.await.unwrap();
        }
        assert!(
            start.elapsed() < Duration::from_millis(2100),
            "{:?}",
            start.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_hint_counts_those_ahead() {
        let limiter = limiter(60);
        assert_eq!(limiter.wait_hint(), Duration::ZERO);
        limiter.acquire().await;
        assert_eq!(limiter.wait_hint(), Duration::from_millis(1005));
        let waiting = tokio::spawn({
            let limiter = Arc::clone(&limiter);
            async move { limiter.acquire().await }
        });
        tokio::task::yield_now().await;
        assert_eq!(limiter.wait_hint(), Duration::from_millis(2010));
        waiting.abort();
    }
}

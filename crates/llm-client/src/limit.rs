use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::announced::Announced;
use crate::ledger::{Entry, Ledger, Limit, Micros, Unit};

/// So much may be sent to an endpoint in any stretch of time. All of them hold at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitOptions {
    /// Requests.
    pub requests: Rates,
    /// Tokens, those of the answers included.
    pub tokens: Rates,
    /// Requests that may leave at once after a quiet while (1: they are evenly spaced).
    pub burst: NonZeroU32,
    /// Take the limits from what the endpoint says in its headers; nothing goes beside the first request.
    pub auto: bool,
}

/// Amounts, each for a stretch of time; `None`: no such limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// In any second.
    pub a_second: Option<NonZeroU64>,
    /// In any minute.
    pub a_minute: Option<NonZeroU64>,
    /// In any 24 hours; not evenly spaced.
    pub a_day: Option<NonZeroU64>,
}

impl Default for LimitOptions {
    /// No limits.
    fn default() -> LimitOptions {
        LimitOptions {
            requests: Rates::default(),
            tokens: Rates::default(),
            burst: NonZeroU32::MIN,
            auto: false,
        }
    }
}

impl LimitOptions {
    /// Requests a minute and nothing else.
    pub fn per_minute(requests: Option<NonZeroU32>) -> LimitOptions {
        let requests = Rates {
            a_minute: requests.map(NonZeroU64::from),
            ..Rates::default()
        };
        LimitOptions {
            requests,
            ..LimitOptions::default()
        }
    }

    /// Whether there is anything to keep.
    pub fn is_none(&self) -> bool {
        !self.auto && self.limits().next().is_none()
    }

    /// Whether one of them counts tokens.
    pub(crate) fn counts_tokens(&self) -> bool {
        self.auto || self.tokens != Rates::default()
    }

    pub(crate) fn limits(&self) -> impl Iterator<Item = Limit> + use<> {
        let of = |unit, rates: Rates| {
            let windows = [
                (rates.a_second, 1),
                (rates.a_minute, 60),
                (rates.a_day, 86_400),
            ];
            windows.into_iter().filter_map(move |(amount, seconds)| {
                let amount = amount?.get();
                let window = seconds * 1_000_000;
                Some(Limit {
                    unit,
                    amount,
                    window,
                })
            })
        };
        of(Unit::Requests, self.requests).chain(of(Unit::Tokens, self.tokens))
    }
}

/// Limits of an endpoint, shared by all tasks: first come, first served, evenly spaced.
///
/// Time that nobody used is not saved up, so there is never a burst that was not asked for. The space between
/// two permits is half a percent longer than a minute divided by the limit, so that no sliding minute as the
/// server sees it holds more than the limit. Tokens are reserved when a request leaves and settled when it is
/// known what it cost.
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
    /// The zero of the ledger's clock.
    base: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    /// What was asked for; what an endpoint says only lowers it.
    configured: Vec<Limit>,
    burst: u64,
    /// Nobody has said yet what the limits are: one request alone finds out.
    unknown: Unknown,
    last_ticket: u64,
    /// Who waits, in order of coming; only the first one watches the clock.
    waiting: BTreeMap<u64, Arc<Notify>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    No,
    /// The next request finds out.
    Ask,
    /// One is under way.
    Asked,
}

/// The right to send one request, with what is reserved for it.
#[derive(Debug)]
pub struct Permit<'a> {
    limiter: &'a Limiter,
    entry: Entry,
    finds_out: bool,
}

/// A limit that would have to be waited for longer than anybody wants to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooLong {
    /// The limit, in words.
    pub limit: String,
    /// How long.
    pub wait: Duration,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the limit of {} is used up", self.limit)
    }
}

impl Limiter {
    /// Keeps these limits.
    pub fn new(options: &LimitOptions) -> Limiter {
        let configured: Vec<Limit> = options.limits().collect();
        let burst = u64::from(options.burst.get());
        // What was sent before this process began has a place before the clock's zero.
        let base = Instant::now();
        let state = State {
            ledger: Ledger::new(configured.iter().copied(), burst),
            configured,
            burst,
            unknown: if options.auto {
                Unknown::Ask
            } else {
                Unknown::No
            },
            last_ticket: 0,
            waiting: BTreeMap::new(),
        };
        Limiter {
            base,
            state: Mutex::new(state),
        }
    }

    /// At most this many permits in any minute.
    pub fn per_minute(requests: NonZeroU32) -> Limiter {
        Limiter::new(&LimitOptions::per_minute(Some(requests)))
    }

    /// Waits for the next permit. Whoever stops waiting loses nothing but his place.
    pub async fn acquire(&self) -> Permit<'_> {
        match self.acquire_for(|| 0, Duration::MAX, |_, _| {}).await {
            Ok(permit) => permit,
            Err(_) => unreachable!("no wait is longer than the longest"),
        }
    }

    /// Waits for a permit for a request of so many tokens; they are counted anew whenever its turn has come,
    /// because what is known of them grows. `on_wait` hears what it waits for, once, where it does: the limit and the
    /// time until the next permit.
    ///
    /// # Errors
    /// At once, when the wait until the next permit is longer than `longest`.
    pub async fn acquire_for(
        &self,
        tokens: impl Fn() -> u64,
        longest: Duration,
        on_wait: impl FnOnce(&str, Duration),
    ) -> Result<Permit<'_>, TooLong> {
        let ticket = self.queue();
        let mut on_wait = Some(on_wait);
        loop {
            match self.poll(ticket.number, tokens()) {
                Front::Granted(permit) => return Ok(permit),
                Front::At(time, limit) => {
                    let wait = time.saturating_duration_since(Instant::now());
                    if wait > longest {
                        let limit = limit.to_string();
                        return Err(TooLong { limit, wait });
                    }
                    if let Some(on_wait) = on_wait.take() {
                        on_wait(&limit.to_string(), wait);
                    }
                    tokio::select! {
                        () = sleep_until(time) => {}
                        () = ticket.turn.notified() => {}
                    }
                }
                Front::Behind(limit, wait) => {
                    if let Some(on_wait) = on_wait.take() {
                        on_wait(&limit, wait);
                    }
                    ticket.turn.notified().await;
                }
            }
        }
    }

    /// How long somebody who came now would wait.
    pub fn wait_hint(&self) -> Duration {
        let now = self.now();
        let state = self.lock();
        let (at, _) = state.ledger.earliest(now, 0);
        let ahead = state
            .ledger
            .pace(0)
            .saturating_mul(state.waiting.len() as u64);
        Duration::from_micros((at - now).saturating_add(ahead))
    }

    /// Counts a request of so many tokens that left so long ago, in another process for example.
    pub fn sent_before(&self, ago: Duration, tokens: u64) {
        let now = self.now();
        let ago = u64::try_from(ago.as_micros()).unwrap_or(u64::MAX);
        self.lock()
            .ledger
            .sent_before(now.saturating_sub(ago), tokens);
    }

    /// Other limits from now on; what was sent goes on to count.
    pub fn set(&self, options: &LimitOptions) {
        let now = self.now();
        let mut state = self.lock();
        state.configured = options.limits().collect();
        state.burst = u64::from(options.burst.get());
        let (configured, burst) = (state.configured.clone(), state.burst);
        state.ledger.set(now, configured, burst);
        state.wake_first();
    }

    /// The smallest limit of tokens: a request with more never fits.
    pub(crate) fn most_tokens(&self) -> Option<Limit> {
        self.lock().ledger.most_tokens()
    }

    /// What the endpoint says about its own limits. It lowers what is configured and never raises it.
    pub(crate) fn learn(&self, announced: &[Announced]) {
        let now = self.now();
        let mut state = self.lock();
        for said in announced {
            let configured = state.configured.iter().find(|own| own.is_like(said.limit));
            let amount =
                configured.map_or(said.limit.amount, |own| own.amount.min(said.limit.amount));
            let limit = Limit {
                amount,
                ..said.limit
            };
            if !state.ledger.limits().any(|known| known == limit) {
                tracing::info!(%limit, "the endpoint says what its limit is");
            }
            state.ledger.lower(now, limit);
            let Some(remaining) = said.remaining else {
                continue;
            };
            if let (0, Some(reset)) = (remaining, said.reset) {
                let reset = u64::try_from(reset.as_micros()).unwrap_or(u64::MAX);
                state.ledger.hold(limit, now.saturating_add(reset));
            }
            // Somebody else uses the same key.
            let used = said.limit.amount.saturating_sub(remaining);
            let others = used.saturating_sub(state.ledger.used(limit, now));
            if others > 1 + said.limit.amount / 50 {
                state.ledger.others(limit, now, others);
            }
        }
        state.wake_first();
    }

    fn now(&self) -> Micros {
        BEFORE + u64::try_from(self.base.elapsed().as_micros()).unwrap_or(u64::MAX / 2)
    }

    fn at(&self, time: Micros) -> Instant {
        self.base + Duration::from_micros(time.saturating_sub(BEFORE).min(FAR))
    }

    fn queue(&self) -> Ticket<'_> {
        let mut state = self.lock();
        state.last_ticket += 1;
        let (number, turn) = (state.last_ticket, Arc::new(Notify::new()));
        state.waiting.insert(number, Arc::clone(&turn));
        Ticket {
            limiter: self,
            number,
            turn,
        }
    }

    fn poll(&self, ticket: u64, tokens: u64) -> Front<'_> {
        let now = self.now();
        let mut state = self.lock();
        let first = state.waiting.first_key_value();
        let is_first = first.is_some_and(|(first, _)| *first == ticket);
        let (at, limit) = state.ledger.earliest(now, tokens);
        if !is_first {
            // Exact for whoever has just come, and only he tells of it.
            let ahead = state.waiting.len() as u64 - 1;
            let limit = limit.or_else(|| state.ledger.limits().next());
            let wait = (at - now).saturating_add(state.ledger.pace(tokens).saturating_mul(ahead));
            let limit = limit.map_or_else(String::new, |limit| limit.to_string());
            return Front::Behind(limit, Duration::from_micros(wait));
        }
        match (limit, state.unknown) {
            (Some(limit), _) => Front::At(self.at(at), limit),
            (None, Unknown::Asked) => {
                let what = "the endpoint's limits, which the first answer will tell";
                Front::Behind(what.to_owned(), Duration::ZERO)
            }
            (None, unknown) => {
                let finds_out = unknown == Unknown::Ask;
                if finds_out {
                    state.unknown = Unknown::Asked;
                }
                let entry = state.ledger.take(now, tokens);
                Front::Granted(Permit {
                    limiter: self,
                    entry,
                    finds_out,
                })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ledger's clock begins so early that a day before the process has its place on it.
const BEFORE: Micros = 2 * 86_400 * 1_000_000;
/// Longer than any process runs.
const FAR: Micros = 10 * 365 * 86_400 * 1_000_000;

impl State {
    fn wake_first(&self) {
        if let Some((_, turn)) = self.waiting.first_key_value() {
            turn.notify_one();
        }
    }
}

impl Permit<'_> {
    /// Tells what the request came to: the tokens it cost, none where it came to nothing. Without it what was
    /// reserved stays taken until the windows have passed.
    pub fn settle(self, tokens: u64) {
        let mut state = self.limiter.lock();
        state.ledger.settle(self.entry, tokens);
        state.wake_first();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // Whatever the answer said has been learnt by now.
        if self.finds_out {
            let mut state = self.limiter.lock();
            state.unknown = Unknown::No;
            state.wake_first();
        }
    }
}

enum Front<'a> {
    Granted(Permit<'a>),
    At(Instant, Limit),
    Behind(String, Duration),
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
        state.wake_first();
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
                tokio::spawn(async move { drop(limiter.acquire().await) })
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
            async move { drop(limiter.acquire().await) }
        });
        tokio::task::yield_now().await;
        assert_eq!(limiter.wait_hint(), Duration::from_millis(2010));
        waiting.abort();
    }

    fn of_tokens(a_minute: u64) -> Limiter {
        let tokens = Rates {
            a_minute: NonZeroU64::new(a_minute),
            ..Rates::default()
        };
        Limiter::new(&LimitOptions {
            tokens,
            ..LimitOptions::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_were_not_used_are_given_to_the_next() {
        let limiter = of_tokens(1_000);
        let start = Instant::now();
        let acquire = || limiter.acquire_for(|| 900, Duration::MAX, |_, _| {});
        let first = acquire().await.unwrap();
        let (second, ()) = tokio::join!(acquire(), async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            first.settle(0);
        });
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        second.unwrap().settle(900);
        acquire().await.unwrap();
        assert!(start.elapsed() > Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_hears_for_which_limit_and_how_long() {
        let limiter = of_tokens(1_000);
        limiter
            .acquire_for(|| 500, Duration::MAX, |_, _| {})
            .await
            .unwrap();
        let mut heard = None;
        let told = |limit: &str, wait: Duration| heard = Some((limit.to_owned(), wait.as_secs()));
        limiter
            .acquire_for(|| 500, Duration::MAX, told)
            .await
            .unwrap();
        assert_eq!(heard, Some(("1000 tokens a minute".to_owned(), 30)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_too_long_is_refused_with_its_length() {
        let requests = Rates {
            a_day: NonZeroU64::new(1),
            ..Rates::default()
        };
        let limiter = Limiter::new(&LimitOptions {
            requests,
            ..LimitOptions::default()
        });
        let longest = Duration::from_secs(900);
        limiter.acquire_for(|| 0, longest, |_, _| {}).await.unwrap();
        let refused = limiter
            .acquire_for(|| 0, longest, |_, _| {})
            .await
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the limit of 1 requests a day is used up"
        );
        assert!(refused.wait > Duration::from_secs(86_000));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_is_no_longer_there_to_be_used() {
        let limiter = limiter(10);
        for n in 0..10 {
            limiter.sent_before(Duration::from_secs(50 - n), 0);
        }
        let start = Instant::now();
        limiter.acquire().await;
        assert!(
            (9..=11).contains(&start.elapsed().as_secs()),
            "{:?}",
            start.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn limits_can_be_changed_while_somebody_waits() {
        let limiter = limiter(1);
        limiter.acquire().await;
        let start = Instant::now();
        let (_, ()) = tokio::join!(limiter.acquire(), async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            limiter.set(&LimitOptions::per_minute(NonZeroU32::new(600)));
        });
        assert!(
            start.elapsed() < Duration::from_secs(6),
            "{:?}",
            start.elapsed()
        );
        let start = Instant::now();
        limiter.acquire().await;
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    fn said(amount: u64, remaining: u64, reset: u64) -> Announced {
        Announced {
            limit: Limit {
                unit: Unit::Requests,
                amount,
                window: 60_000_000,
            },
            remaining: Some(remaining),
            reset: Some(Duration::from_secs(reset)),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_endpoint_says_lowers_a_limit_and_never_raises_it() {
        for (announced, interval) in [(6_000, 1), (6, 10)] {
            let limiter = limiter(60);
            limiter.learn(&[said(announced, announced - 1, 1)]);
            let times = times(&limiter, 4).await;
            let apart = (times[3] - times[2]).as_secs();
            assert_eq!(apart, interval, "{announced} a minute");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_has_nothing_left_is_waited_for() {
        let limiter = limiter(60);
        limiter.learn(&[said(60, 0, 25)]);
        let start = Instant::now();
        limiter.acquire().await;
        assert!(start.elapsed() >= Duration::from_secs(25));
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_use_of_the_same_key_is_left_to_them() {
        let limiter = limiter(60);
        limiter.acquire().await;
        limiter.learn(&[said(60, 10, 50)]);
        let start = Instant::now();
        let times = times(&limiter, 60).await;
        let at_once = times
            .iter()
            .filter(|time| **time - start < Duration::from_secs(58));
        assert_eq!(at_once.count(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn with_auto_one_request_alone_finds_out_what_the_limits_are() {
        let limiter = Arc::new(Limiter::new(&LimitOptions {
            auto: true,
            ..LimitOptions::default()
        }));
        let first = limiter.acquire().await;
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let limiter = Arc::clone(&limiter);
                tokio::spawn(async move {
                    drop(limiter.acquire().await);
                    Instant::now()
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        limiter.learn(&[said(60, 59, 1)]);
        first.settle(0);
        let mut times = Vec::new();
        for waiting in waiting {
            times.push(waiting.await.unwrap());
        }
        assert!((1..=2).contains(&(times[2] - times[1]).as_secs()));
    }
}

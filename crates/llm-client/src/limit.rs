use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::announced::Announced;
use crate::ledger::{Entry, Ledger, Limit, Micros};
use crate::pace::{Pace, Slowed};
use crate::queue::{Lane, Place, Queue};
use crate::window::Windows;
use crate::{LimitFile, LimitKind, LimitOptions};

/// Limits of an endpoint, shared by all tasks: first come, first served, evenly spaced. In a
/// [`Client`](crate::Client) what is sent again takes turns with what is new.
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
    /// What the clock says then.
    start: Micros,
    share: Option<LimitFile>,
    /// Whether there is anything to keep: asked for each request.
    in_use: AtomicBool,
    /// Whether there is something to tell: asked for each request too.
    to_tell: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    /// What was asked for; what an endpoint says only lowers it.
    configured: Vec<Limit>,
    /// What the endpoint says its limits are, the latest of each unit.
    learnt: Vec<Limit>,
    windows: Windows,
    burst: u64,
    auto: bool,
    /// Nobody has said yet what the limits are: one request alone finds out.
    unknown: Unknown,
    /// One is under way that will tell what a request costs.
    first_is_out: bool,
    /// Why the shared file cannot be used, from when that was first met until it is told.
    trouble: Option<String>,
    /// Whether it was ever met.
    met_trouble: bool,
    /// Where the endpoint allows less than is configured.
    pace: Pace,
    /// Only the first one watches the clock.
    waiting: Queue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    No,
    /// The next request finds out.
    Ask,
    /// One is under way.
    Asked,
}

/// What somebody asks for who asks for a permit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) tokens: u64,
    /// Nobody knows what one costs: only one such request is under way, and those after it know.
    pub(crate) is_first: bool,
}

/// The right to send one request, with what is reserved for it.
#[derive(Debug)]
pub struct Permit<'a> {
    limiter: &'a Limiter,
    entry: Entry,
    finds_out: bool,
    /// Those that know as little wait for it.
    is_first: bool,
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
        // Those who share limits need one clock; others get one on which the past has a place.
        let start = options.share.as_ref().map_or(0, |_| micros_since_boot());
        let state = State {
            ledger: Ledger::new(configured.iter().copied(), burst),
            configured,
            learnt: Vec::new(),
            windows: Windows::default(),
            burst,
            auto: options.auto,
            unknown: if options.auto {
                Unknown::Ask
            } else {
                Unknown::No
            },
            first_is_out: false,
            trouble: None,
            met_trouble: false,
            pace: Pace::default(),
            waiting: Queue::default(),
        };
        Limiter {
            base: Instant::now(),
            start: BEFORE + start,
            share: options.share.clone(),
            in_use: AtomicBool::new(!options.is_none()),
            to_tell: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// At most this many permits in any minute.
    pub fn per_minute(requests: NonZeroU32) -> Limiter {
        Limiter::new(&LimitOptions::per_minute(Some(requests)))
    }

    /// Waits for the next permit. Whoever stops waiting loses nothing but his place.
    pub async fn acquire(&self) -> Permit<'_> {
        match self.acquire_for(|| 0, Duration::MAX, |_, _, _| {}).await {
            Ok(permit) => permit,
            Err(_) => unreachable!("no wait is longer than the longest"),
        }
    }

    /// Waits for a permit for a request of so many tokens; they are counted anew whenever its turn has come,
    /// because what is known of them grows. `on_wait` hears what it waits for, where it does, and again when that becomes
    /// another: the limit in words, its kind, and the time until the next permit.
    ///
    /// # Errors
    /// At once, when the wait until the next permit is longer than `longest`.
    pub async fn acquire_for(
        &self,
        tokens: impl Fn() -> u64,
        longest: Duration,
        on_wait: impl FnMut(&str, LimitKind, Duration),
    ) -> Result<Permit<'_>, TooLong> {
        let need = || Need {
            tokens: tokens(),
            is_first: false,
        };
        self.acquire_in(Lane::New, need, longest, on_wait).await
    }

    /// The same for somebody in either lane.
    pub(crate) async fn acquire_in(
        &self,
        lane: Lane,
        need: impl Fn() -> Need,
        longest: Duration,
        mut on_wait: impl FnMut(&str, LimitKind, Duration),
    ) -> Result<Permit<'_>, TooLong> {
        let ticket = self.queue(lane);
        let mut told = String::new();
        let mut tell = |limit: String, kind, wait| {
            if told != limit {
                on_wait(&limit, kind, wait);
                told = limit;
            }
        };
        loop {
            match self.poll(ticket.place, need()) {
                Front::Granted(permit) => return Ok(permit),
                Front::At(time, limit) => {
                    let wait = time.saturating_duration_since(Instant::now());
                    if wait > longest {
                        let limit = limit.to_string();
                        return Err(TooLong { limit, wait });
                    }
                    tell(limit.to_string(), limit.kind(), wait);
                    // Others may give back what they did not use, and nobody tells us.
                    let look = self.share.as_ref().map(|_| Instant::now() + LOOK_EVERY);
                    let time = look.map_or(time, |look| look.min(time));
                    tokio::select! {
                        () = sleep_until(time) => {}
                        () = ticket.woken.notified() => {}
                    }
                }
                Front::Behind(limit, kind, wait) => {
                    tell(limit, kind, wait);
                    ticket.woken.notified().await;
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
        let at = now.saturating_sub(ago);
        self.lock()
            .with_ledger(self, now, |ledger| ledger.sent_before(at, tokens));
    }

    /// Other limits from now on; what was sent goes on to count.
    pub fn set(&self, options: &LimitOptions) {
        let now = self.now();
        let mut state = self.lock();
        state.configured = options.limits().collect();
        state.burst = u64::from(options.burst.get());
        // Whoever sets them knows better.
        state.pace = Pace::default();
        let (kept, burst) = (state.kept(), state.burst);
        state.with_ledger(self, now, |ledger| ledger.set(now, kept, burst));
        let was_auto = std::mem::replace(&mut state.auto, options.auto);
        if !options.auto {
            state.unknown = Unknown::No;
        } else if !was_auto && state.learnt.is_empty() {
            state.unknown = Unknown::Ask;
        }
        self.in_use.store(!options.is_none(), Ordering::Relaxed);
        state.waiting.wake_all();
    }

    /// The endpoint pushed back although all this was kept, and everybody waits for so long. Says so where requests
    /// leave further apart from now on.
    pub(crate) fn pushed_back(&self, wait: Duration) -> Option<Slowed> {
        let now = self.now();
        let mut state = self.lock();
        state.ledger.slow(1.0);
        let space = state.ledger.pace(1);
        // What is not evenly spaced cannot be slower, and what is far apart need not be.
        if space == 0 || space >= MOST_APART {
            return None;
        }
        let least = space as f64 / MOST_APART as f64;
        state.pace.pushed_back(now, wait, least)
    }

    /// Why the limits are not shared although they should be; said once.
    pub(crate) fn trouble(&self) -> Option<String> {
        let is_there = self.to_tell.load(Ordering::Relaxed);
        is_there.then(|| {
            self.to_tell.store(false, Ordering::Relaxed);
            self.lock().trouble.take()
        })?
    }

    /// Whether there are any limits, or may be.
    pub(crate) fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::Relaxed)
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
            state.hear(said, now);
        }
        let (kept, burst) = (state.kept(), state.burst);
        let learnt = state.learnt.clone();
        let is_known = std::mem::replace(&mut state.unknown, Unknown::No) == Unknown::No;
        let is_new = state.with_ledger(self, now, |ledger| {
            let before: Vec<Limit> = ledger.limits().collect();
            let is_new = before != kept;
            if is_new {
                ledger.set(now, kept, burst);
            }
            for said in announced {
                if let Some(limit) = learnt.iter().find(|limit| limit.unit == said.unit) {
                    let is_fresh = !before.iter().any(|known| known.is_like(*limit));
                    use_up(ledger, *limit, said, now, is_fresh);
                }
            }
            is_new
        });
        // Whoever waits behind the first waits for something else from now on, and wants to know.
        match is_new || !is_known {
            true => state.waiting.wake_all(),
            false => state.waiting.wake_first(),
        }
    }

    /// A good answer says nothing about limits. Tells of it where somebody counts on it.
    pub(crate) fn learn_nothing(&self) -> Option<String> {
        let mut state = self.lock();
        if std::mem::replace(&mut state.unknown, Unknown::No) == Unknown::No {
            return None;
        }
        state.waiting.wake_all();
        let kept: Vec<String> = state.ledger.limits().map(|l| l.to_string()).collect();
        let kept = match kept.is_empty() {
            true => "none is kept; `model.rate_limit` sets one".to_owned(),
            false => format!("only what is configured is kept: {}", kept.join(", ")),
        };
        Some(format!("the endpoint announces no limits, {kept}"))
    }

    /// All limits that are kept, in words.
    pub(crate) fn kept(&self) -> Vec<String> {
        let state = self.lock();
        state.ledger.limits().map(|l| l.to_string()).collect()
    }

    /// The share of the configured rate that is used at present.
    pub(crate) fn rate_share(&self) -> f64 {
        let now = self.now();
        1.0 / self.lock().pace.slower(now)
    }

    /// The setting that a limit comes from, where it is configured.
    pub(crate) fn setting_of(&self, limit: Limit) -> Option<&'static str> {
        let state = self.lock();
        let is_own = state.configured.contains(&limit);
        is_own.then(|| limit.setting())
    }

    /// Whether nothing is known of what was sent, by anybody who shares these limits.
    pub(crate) fn is_blank(&self) -> bool {
        let now = self.now();
        self.lock()
            .with_ledger(self, now, |ledger| ledger.is_blank())
    }

    fn now(&self) -> Micros {
        self.start + u64::try_from(self.base.elapsed().as_micros()).unwrap_or(u64::MAX / 2)
    }

    fn at(&self, time: Micros) -> Instant {
        self.base + Duration::from_micros(time.saturating_sub(self.start).min(FAR))
    }

    fn queue(&self, lane: Lane) -> Ticket<'_> {
        let (place, woken) = self.lock().waiting.join(lane);
        Ticket {
            limiter: self,
            place,
            woken,
        }
    }

    fn poll(&self, place: Place, need: Need) -> Front<'_> {
        let tokens = need.tokens;
        let now = self.now();
        let mut state = self.lock();
        state.slow(now, tokens);
        if need.is_first && state.first_is_out {
            let what = "tokens, until the first answer tells what one costs";
            return Front::Behind(what.to_owned(), LimitKind::Unknown, Duration::ZERO);
        }
        if state.unknown == Unknown::Asked
            || state.unknown == Unknown::Ask && !state.waiting.is_first(place)
        {
            let what = "the endpoint's limits, which the first answer will tell";
            return Front::Behind(what.to_owned(), LimitKind::Unknown, Duration::ZERO);
        }
        if !state.waiting.is_first(place) {
            let (at, limit) = state.ledger.earliest(now, tokens);
            // Exact for whoever has just come, and only he tells of it.
            let ahead = state.waiting.ahead(place) as u64;
            let limit = limit.or_else(|| state.ledger.limits().next());
            let wait = (at - now).saturating_add(state.ledger.pace(tokens).saturating_mul(ahead));
            let kind = limit.map_or(LimitKind::Requests, Limit::kind);
            let limit = limit.map_or_else(String::new, |limit| limit.to_string());
            return Front::Behind(limit, kind, Duration::from_micros(wait));
        }
        let taken = state.with_ledger(self, now, |ledger| match ledger.earliest(now, tokens) {
            (at, Some(limit)) => Err((at, limit)),
            (_, None) => Ok(ledger.take(now, tokens)),
        });
        match taken {
            Err((at, limit)) => Front::At(self.at(at), limit),
            Ok(entry) => {
                let finds_out = state.unknown == Unknown::Ask;
                if finds_out {
                    state.unknown = Unknown::Asked;
                }
                state.first_is_out |= need.is_first;
                state.waiting.served(place);
                Front::Granted(Permit {
                    limiter: self,
                    entry,
                    finds_out,
                    is_first: need.is_first,
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
/// Requests that leave further apart because the endpoint pushes back are no further apart than this.
const MOST_APART: Micros = 60_000_000;
/// Longer than any process runs.
const FAR: Micros = 10 * 365 * 86_400 * 1_000_000;

/// What is left of a limit, as the endpoint counts it. Where nobody has counted here until now, at least the request
/// that told of it is used up.
fn use_up(ledger: &mut Ledger, limit: Limit, said: &Announced, now: Micros, is_fresh: bool) {
    if let (Some(0), Some(reset)) = (said.remaining, said.reset) {
        let reset = u64::try_from(reset.as_micros()).unwrap_or(u64::MAX);
        ledger.hold(limit, now.saturating_add(reset));
    }
    // Somebody else uses the same key.
    let (used, tolerated) = match is_fresh {
        true => (said.used().max(1), 0),
        false => (said.used(), 1 + said.amount / 50),
    };
    let others = used.saturating_sub(ledger.used(limit, now));
    if others > tolerated {
        ledger.others(limit, now, others);
    }
}

/// How often whoever shares limits looks whether others have given something back.
const LOOK_EVERY: Duration = Duration::from_millis(250);

fn micros_since_boot() -> Micros {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds * 1_000_000 + nanos / 1_000
}

impl State {
    /// Takes note of a limit; what was thought of it before no longer counts.
    fn hear(&mut self, said: &Announced, now: Micros) {
        let limit = Limit {
            unit: said.unit,
            amount: said.amount,
            window: self.windows.hear(said, now),
        };
        let before = self
            .learnt
            .iter_mut()
            .find(|before| before.unit == limit.unit);
        match before {
            Some(before) if *before == limit => return,
            Some(before) => *before = limit,
            None => self.learnt.push(limit),
        }
        tracing::info!(%limit, "the endpoint says what its limit is");
    }

    /// Lets requests of so many tokens leave as far apart as the endpoint makes them.
    fn slow(&mut self, now: Micros, tokens: u64) {
        let mut slower = self.pace.slower(now);
        if slower > 1.0 {
            self.ledger.slow(1.0);
            let most = MOST_APART as f64 / self.ledger.pace(tokens).max(1) as f64;
            slower = slower.min(most.max(1.0));
        }
        self.ledger.slow(slower);
    }

    /// What is configured, lowered to what the endpoint says, and what it says besides.
    fn kept(&self) -> Vec<Limit> {
        let like = |limits: &[Limit], one: Limit| limits.iter().copied().find(|l| l.is_like(one));
        let lowered = self.configured.iter().map(|own| Limit {
            amount: like(&self.learnt, *own).map_or(own.amount, |said| own.amount.min(said.amount)),
            ..*own
        });
        let besides = self
            .learnt
            .iter()
            .filter(|said| like(&self.configured, **said).is_none());
        lowered.chain(besides.copied()).collect()
    }

    /// Looks at the ledger and changes it: the one of this process, or the one that it shares.
    fn with_ledger<T>(
        &mut self,
        limiter: &Limiter,
        now: Micros,
        act: impl FnOnce(&mut Ledger) -> T,
    ) -> T {
        let Some(share) = &limiter.share else {
            return act(&mut self.ledger);
        };
        let (value, shared) = share.with(&mut self.ledger, now, act);
        if let Err(error) = shared
            && !std::mem::replace(&mut self.met_trouble, true)
        {
            let file = share.path().display();
            let message = format!(
                "the limits are not shared for now: {file} could not be used ({error}); this run goes on to keep \
                 them alone, and others with the same key do not hear of what it sends"
            );
            tracing::warn!("{message}");
            self.trouble = Some(message);
            limiter.to_tell.store(true, Ordering::Relaxed);
        }
        value
    }
}

impl Permit<'_> {
    /// Nothing is sent with it: it counts for nothing.
    pub fn give_back(self) {
        let now = self.limiter.now();
        let mut state = self.limiter.lock();
        state.with_ledger(self.limiter, now, |ledger| ledger.withdraw(&self.entry));
        state.waiting.wake_first();
    }

    /// Tells what the request came to: the tokens it cost, none where it came to nothing. Without it what was
    /// reserved stays taken until the windows have passed.
    pub fn settle(self, tokens: u64) {
        let now = self.limiter.now();
        let mut state = self.limiter.lock();
        state.with_ledger(self.limiter, now, |ledger| {
            ledger.settle(now, &self.entry, tokens)
        });
        state.waiting.wake_first();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // Whatever the answer said has been learnt by now; where there was none, somebody else finds out.
        if self.finds_out || self.is_first {
            let mut state = self.limiter.lock();
            if self.finds_out && state.unknown == Unknown::Asked {
                state.unknown = Unknown::Ask;
            }
            state.first_is_out &= !self.is_first;
            state.waiting.wake_first();
        }
    }
}

enum Front<'a> {
    Granted(Permit<'a>),
    At(Instant, Limit),
    Behind(String, LimitKind, Duration),
}

/// A place in the queue, given up when it is dropped.
struct Ticket<'a> {
    limiter: &'a Limiter,
    place: Place,
    woken: Arc<Notify>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.limiter.lock().waiting.leave(self.place);
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::ledger::Unit;

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

    fn said(amount: u64, remaining: u64, reset: u64) -> Announced {
        Announced {
            unit: Unit::Requests,
            amount,
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
    async fn a_minute_that_begins_at_fixed_times_is_used_to_the_full() {
        let auto = LimitOptions {
            auto: true,
            ..LimitOptions::default()
        };
        let configured = LimitOptions::per_minute(NonZeroU32::new(600));
        for (options, amount) in [(auto, 600), (configured, 60)] {
            let limiter = Limiter::new(&options);
            let start = Instant::now();
            let (mut used, mut minute, mut sent) = (0, 0, 0);
            while start.elapsed() < Duration::from_secs(90) {
                let permit = limiter.acquire().await;
                let since = start.elapsed().as_secs() + 8;
                if since / 60 != minute {
                    (minute, used) = (since / 60, 0);
                }
                (used, sent) = (used + 1, sent + 1);
                limiter.learn(&[said(amount, amount.saturating_sub(used), 60 - since % 60)]);
                permit.settle(0);
            }
            let most = amount * 3 / 2;
            assert!(
                (most * 97 / 100..=most + 1).contains(&sent),
                "{amount}: {sent}"
            );
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

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_pushes_back_again_and_again_does_not_bring_a_slow_rate_to_a_stop() {
        for (requests, apart) in [(1, 60), (6, 60), (600, 10)] {
            let limiter = limiter(requests);
            for _ in 0..100 {
                limiter.pushed_back(Duration::ZERO);
            }
            let times = times(&limiter, 3).await;
            let waited = (times[2] - times[1]).as_secs();
            assert!(
                (apart * 9 / 10..=apart).contains(&waited),
                "{requests} a minute: {waited} s"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_share_a_limit_keep_it_together() {
        let dir = tempfile::tempdir().unwrap();
        let of = |requests| {
            let share = LimitFile::open(dir.path().join("x.json")).unwrap();
            Limiter::new(&LimitOptions {
                share: Some(share),
                ..LimitOptions::per_minute(NonZeroU32::new(requests))
            })
        };
        let (limiters, later) = ([of(60), of(60), of(60)], of(60));
        let all = join_all(limiters.iter().map(|limiter| times(limiter, 40))).await;
        let mut times: Vec<Instant> = all.into_iter().flatten().collect();
        times.sort();
        for pair in times.windows(61) {
            assert!(pair[60] - pair[0] > Duration::from_secs(60));
        }
        assert!(times[119] - times[0] < Duration::from_secs(130));
        assert!(!later.is_blank(), "it knows what the others have sent");
    }

    #[tokio::test(start_paused = true)]
    async fn a_shared_file_that_cannot_be_written_takes_no_limit_away() {
        let dir = tempfile::tempdir().unwrap();
        let of = || {
            let share = LimitFile::open(dir.path().join("x.json")).unwrap();
            Limiter::new(&LimitOptions {
                share: Some(share),
                ..LimitOptions::per_minute(NonZeroU32::new(60))
            })
        };
        let (limiter, other) = (of(), of());
        times(&limiter, 2).await;
        assert_eq!(limiter.trouble(), None);
        // What is written beside the file cannot be: the file stays as it is, and can be read.
        let beside = dir.path().join("x.new");
        std::fs::create_dir(&beside).unwrap();
        let start = Instant::now();
        let sent = times(&limiter, 100).await;
        for pair in sent.windows(61) {
            assert!(pair[60] - pair[0] > Duration::from_secs(60));
        }
        assert!(start.elapsed() < Duration::from_secs(110));
        let trouble = limiter.trouble().unwrap();
        assert!(trouble.contains("x.json could not be used"), "{trouble}");
        assert_eq!(limiter.trouble(), None, "it is said once");
        // Once it can be written, everybody hears of all that was sent.
        std::fs::remove_dir(&beside).unwrap();
        limiter.acquire().await;
        let start = Instant::now();
        other.acquire().await;
        assert!(start.elapsed() >= Duration::from_millis(900));
    }
}

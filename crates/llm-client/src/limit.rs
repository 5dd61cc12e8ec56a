use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::kept::Kept;
use crate::ledger::{DAY, Ledger, Limit, Micros, SECOND};
use crate::pace::Pace;
use crate::queue::{Lane, Place, Queue};
use crate::share::{Books, News, Share};
use crate::{LimitKind, LimitOptions};

mod forecast;
mod heard;
mod permit;
mod told;

use forecast::Cost;
use heard::Heard;
pub use permit::Permit;
use permit::Ticket;

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
    is_shared: bool,
    /// Whether there is anything to keep, or ever was: asked for each request.
    in_use: AtomicBool,
    /// Whether there is something to tell: asked for each request too.
    to_tell: AtomicBool,
    /// Whether the endpoint has pushed back and let nothing through since.
    is_pushed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    kept: Kept,
    share: Option<Share>,
    auto: bool,
    /// Nobody has said yet what the limits are: one request alone finds out.
    unknown: Unknown,
    /// One is under way that will tell what a request costs.
    first_is_out: bool,
    /// So many are about to tell what was sent before.
    looking_back: usize,
    /// Where the endpoint allows less than is configured.
    pace: Pace,
    /// Only the first one watches the clock.
    waiting: Queue,
    /// What it waits for, and the others behind it too.
    first_waits_for: Option<Limit>,
    /// What one request costs.
    cost: Cost,
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
    /// Too few answers have told what one costs: it may be much less.
    pub(crate) is_unknown: bool,
    /// How much later than others a request may have arrived lately.
    pub(crate) lateness: Duration,
}

/// A limit that would have to be waited for longer than anybody wants to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooLong {
    /// The limit, in words.
    pub limit: String,
    /// How long.
    pub wait: Duration,
}

impl Drop for Limiter {
    fn drop(&mut self) {
        let now = self.now();
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = &mut state.share
            && let Err(error) = share.leave(&mut state.ledger, now)
        {
            // The others find out by themselves, after a while.
            tracing::debug!(%error, "could not take leave of those who share the limits");
        }
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the limit of {} is used up", self.limit)
    }
}

impl Limiter {
    /// Keeps these limits.
    pub fn new(options: &LimitOptions) -> Limiter {
        // Those who share limits need one clock; others get one on which the past has a place.
        let start = options.share.as_ref().map_or(0, |_| micros_since_boot());
        Limiter::begin(options, start)
    }

    /// The same where the clock says this now.
    pub(crate) fn begin(options: &LimitOptions, start: Micros) -> Limiter {
        let kept = Kept::new(options);
        let mut state = State {
            ledger: Ledger::new(kept.all(), kept.burst),
            kept,
            share: options.share.clone().map(Share::new),
            auto: options.auto,
            unknown: if options.auto {
                Unknown::Ask
            } else {
                Unknown::No
            },
            first_is_out: false,
            looking_back: 0,
            pace: Pace::default(),
            waiting: Queue::default(),
            first_waits_for: None,
            cost: Cost::default(),
        };
        let start = BEFORE + start;
        if options.share.is_some() {
            // What left before now nobody has counted yet.
            state.ledger.count_from(start);
        }
        Limiter {
            base: Instant::now(),
            start,
            is_shared: options.share.is_some(),
            in_use: AtomicBool::new(!options.is_none() || options.share.is_some()),
            to_tell: AtomicBool::new(false),
            is_pushed: AtomicBool::new(false),
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
    /// because what is known of them grows. `on_wait` hears what it waits for, where it does: the limit in words, its
    /// kind, and the time until the permit as far as that can be known. It hears so again when that becomes another, and
    /// when the end moves by more than a second.
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
            ..Need::default()
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
        let mut heard = Heard::default();
        loop {
            match self.poll(ticket.place, need()) {
                Front::Granted(permit) => return Ok(permit),
                Front::At(time, limit, kind) => {
                    let wait = time.saturating_duration_since(Instant::now());
                    if wait > longest {
                        return Err(TooLong { limit, wait });
                    }
                    if heard.is_news(&limit, kind, wait) {
                        on_wait(&limit, kind, wait);
                    }
                    // Others may give back what they did not use, and nobody tells us.
                    let time = match self.is_shared {
                        true => time.min(Instant::now() + LOOK_EVERY),
                        false => time,
                    };
                    tokio::select! {
                        () = sleep_until(time) => {}
                        () = ticket.woken.notified() => {}
                    }
                }
                Front::Behind(limit, kind, wait) => {
                    if heard.is_news(&limit, kind, wait) {
                        on_wait(&limit, kind, wait);
                    }
                    // Those before him may cost more than they were thought to, and nobody tells him.
                    match heard.doubts_at() {
                        Some(time) => drop(timeout_at(time, ticket.woken.notified()).await),
                        None => ticket.woken.notified().await,
                    }
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

    /// What the user should know of those who share these limits; each said once.
    pub(crate) fn news(&self) -> Option<News> {
        if !self.to_tell.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.lock();
        let news = state.share.as_mut().and_then(Share::news);
        self.to_tell.store(news.is_some(), Ordering::Relaxed);
        news
    }

    /// Whether there are any limits, or may be, or were: then all that leaves is counted.
    pub(crate) fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::Relaxed)
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
        let lateness = u64::try_from(need.lateness.as_micros()).unwrap_or(u64::MAX);
        state.ledger.arrive_late(lateness);
        let space = state.slow(now, tokens);
        if state.looking_back > 0 {
            let what = "the count of what was sent before";
            return Front::Behind(what.to_owned(), LimitKind::Unknown, Duration::ZERO);
        }
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
            let (_, limit) = state.ledger.earliest(now, tokens);
            let ahead = state.waiting.ahead(place) as u64;
            let limit = state.first_waits_for.or(limit);
            let limit = limit.or_else(|| state.ledger.slowest(tokens));
            let others = state
                .share
                .as_ref()
                .map_or(0, |share| share.others_waiting(now)) as u64;
            let before = ahead.saturating_mul(others + 1).saturating_add(1);
            let last = state.ledger.last_of(now, before, tokens);
            let wait = last.map_or(0, |last| last - now);
            let kind = limit.map_or(LimitKind::Requests, Limit::kind);
            let limit = limit.map_or_else(String::new, |limit| state.why(limit, need, now));
            return Front::Behind(limit, kind, Duration::from_micros(wait));
        }
        let taken = state.with_books(self, now, |books| {
            if let (at, Some(limit)) = books.ledger().earliest(now, tokens) {
                books.wait(tokens);
                return Err((at, limit));
            }
            match books.ledger().slowest(tokens) {
                Some(limit) if !books.is_own_turn(tokens) => {
                    books.wait(tokens);
                    Err((books.look_again(tokens), limit))
                }
                _ => Ok(books.take(tokens)),
            }
        });
        match taken {
            Err((at, limit)) => {
                state.first_waits_for = Some(limit);
                Front::At(self.at(at), state.why(limit, need, now), limit.kind())
            }
            Ok(entry) => {
                state.first_waits_for = None;
                let finds_out = state.unknown == Unknown::Ask;
                if finds_out {
                    state.unknown = Unknown::Asked;
                }
                if space > 0 {
                    state.pace.sent(now, space);
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
const BEFORE: Micros = 2 * DAY;
/// Longer than any process runs.
const FAR: Micros = 10 * 365 * DAY;

/// How often whoever shares limits looks whether others have given something back.
const LOOK_EVERY: Duration = Duration::from_millis(250);

fn micros_since_boot() -> Micros {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds * SECOND + nanos / 1_000
}

impl State {
    /// Looks at the books and changes them: those of this process, or those that it shares.
    fn with_books<T>(
        &mut self,
        limiter: &Limiter,
        now: Micros,
        act: impl FnOnce(&mut Books<'_>) -> T,
    ) -> T {
        let State { ledger, kept, .. } = self;
        let Some(share) = &mut self.share else {
            return act(&mut Books::alone(ledger, kept, now));
        };
        let had_news = share.has_news();
        let value = share.with(ledger, kept, now, act);
        if share.has_news() && !had_news {
            limiter.to_tell.store(true, Ordering::Relaxed);
            // Whoever waits may wait for something else from now on.
            self.waiting.wake_all();
        }
        value
    }
}

enum Front<'a> {
    Granted(Permit<'a>),
    At(Instant, String, LimitKind),
    Behind(String, LimitKind, Duration),
}

#[cfg(test)]
mod played;
#[cfg(test)]
mod tests;

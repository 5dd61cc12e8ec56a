//! What a limiter is told: other limits, what was sent before, what the endpoint says. And what it tells of its limits.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Limiter, Need, State, Unknown};
use crate::announced::Announced;
use crate::kept::Origin;
use crate::ledger::{Limit, Micros};
use crate::pace::{Pace, Push, Slowed};
use crate::share::Books;
use crate::{LimitKind, LimitOptions};

/// Requests that leave further apart because the endpoint pushes back are no further apart than this.
const MOST_APART: Micros = 60_000_000;

impl Limiter {
    /// Counts a request of so many tokens that left so long ago, in another process for example.
    pub fn sent_before(&self, ago: Duration, tokens: u64) {
        let now = self.now();
        let ago = u64::try_from(ago.as_micros()).unwrap_or(u64::MAX);
        let at = now.saturating_sub(ago);
        let mut state = self.lock();
        state.with_books(self, now, |books| books.change().sent_before(at, tokens));
    }

    /// Counts what a source (a run's folder, for example) has sent: so long ago, and of so many tokens. Nothing is
    /// counted twice of what is counted already because limits are shared.
    pub(crate) fn look_back(&self, source: u64, sent: impl Iterator<Item = (Duration, u64)>) {
        self.count(source, sent, false);
    }

    /// The same of what a source has sent without sharing its limits: all of it, each time.
    pub(crate) fn look_back_apart(&self, source: u64, sent: impl Iterator<Item = (Duration, u64)>) {
        self.count(source, sent, true);
    }

    fn count(&self, source: u64, sent: impl Iterator<Item = (Duration, u64)>, is_apart: bool) {
        let now = self.now();
        let sent = sent.map(|(ago, tokens)| {
            let ago = u64::try_from(ago.as_micros()).unwrap_or(u64::MAX);
            (now.saturating_sub(ago), tokens)
        });
        let sent: Vec<(Micros, u64)> = sent.collect();
        let mut state = self.lock();
        match &mut state.share {
            Some(share) => share.look_back(source, sent, now, is_apart),
            None => state.ledger.look_back(source, &sent, now),
        }
        // They may have to wait for something else.
        state.waiting.wake_all();
    }

    /// Nothing leaves from now on until it is said that the look back is over.
    pub(crate) fn looks_back(&self) {
        self.lock().looking_back += 1;
    }

    pub(crate) fn has_looked_back(&self) {
        let mut state = self.lock();
        state.looking_back -= 1;
        state.waiting.wake_all();
    }

    /// Whether other processes keep the same limits.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The longest stretch of time that a limit looks back on.
    pub(crate) fn longest_window(&self) -> Option<Duration> {
        let state = self.lock();
        let windows = state.ledger.limits().map(|limit| limit.window);
        windows.max().map(Duration::from_micros)
    }

    /// Whether it is counted already what this source has sent.
    pub(crate) fn knows(&self, source: u64) -> bool {
        let now = self.now();
        self.lock()
            .with_books(self, now, |books| books.ledger().knows(source, now))
    }

    /// Other limits from now on; what was sent goes on to count.
    pub fn set(&self, options: &LimitOptions) {
        let now = self.now();
        let mut state = self.lock();
        // Whoever sets them knows better.
        state.pace = Pace::default();
        state.first_waits_for = None;
        state.with_books(self, now, |books| {
            books.kept.set(options);
            books.keep();
        });
        let was_auto = std::mem::replace(&mut state.auto, options.auto);
        if !options.auto {
            state.unknown = Unknown::No;
        } else if !was_auto && !state.kept.has_learnt() {
            state.unknown = Unknown::Ask;
        }
        // What was taken away goes on to count what leaves: it may be set again.
        self.in_use.fetch_or(!options.is_none(), Ordering::Relaxed);
        state.waiting.wake_all();
    }

    /// The endpoint pushed back although all this was kept, and everybody waits for so long. Says so where requests
    /// leave further apart from now on.
    pub(crate) fn pushed_back(&self, push: Push, wait: Duration) -> Option<Slowed> {
        let now = self.now();
        self.is_pushed.store(true, Ordering::Relaxed);
        let mut state = self.lock();
        state.ledger.slow(1.0);
        let space = state.ledger.pace(1);
        // What is not evenly spaced cannot be slower, and what is far apart need not be.
        if space == 0 || space >= MOST_APART {
            return None;
        }
        let least = space as f64 / MOST_APART as f64;
        state.pace.pushed_back(push, now, wait, least)
    }

    /// A request that left then was let through.
    pub(super) fn let_through(&self, sent: Micros) {
        if self.is_pushed.load(Ordering::Relaxed) && self.lock().pace.let_through(sent) {
            self.is_pushed.store(false, Ordering::Relaxed);
        }
    }

    /// Whether anything counts tokens, be it a limit that is kept or one that may be set again.
    pub(crate) fn counts_tokens(&self) -> bool {
        self.lock().ledger.counts_tokens()
    }

    /// The smallest limit of tokens: a request with more never fits.
    pub(crate) fn most_tokens(&self) -> Option<Limit> {
        self.lock().ledger.most_tokens()
    }

    /// What the endpoint says about its own limits. It lowers what is configured and never raises it. Says whether
    /// there is a limit from now on that was not kept before, over another time for example.
    pub(crate) fn learn(&self, announced: &[Announced]) -> bool {
        let now = self.now();
        let mut state = self.lock();
        if !state.kept.heeds_endpoint() {
            return false;
        }
        let is_known = std::mem::replace(&mut state.unknown, Unknown::No) == Unknown::No;
        let (is_new, is_another) = state.with_books(self, now, |books| {
            let before: Vec<Limit> = books.ledger().limits().collect();
            for said in announced {
                books.kept.hear(said, now);
            }
            let is_new = books.keep();
            for said in announced {
                if let Some(limit) = books.kept.learnt(said) {
                    let is_fresh = !before.iter().any(|known| known.is_like(limit));
                    use_up(books, limit, said, now, is_fresh);
                }
            }
            let mut kept = books.ledger().limits();
            let is_another = kept.any(|limit| !before.iter().any(|known| known.is_like(limit)));
            (is_new, is_another)
        });
        // Whoever waits behind the first waits for something else from now on, and wants to know.
        match is_new || !is_known {
            true => state.waiting.wake_all(),
            false => state.waiting.wake_first(),
        }
        is_another
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
        let now = self.now();
        let state = self.lock();
        let limits = state.ledger.limits();
        limits.map(|limit| state.in_words(limit, now)).collect()
    }

    /// The share of the configured rate that is used at present.
    pub(crate) fn rate_share(&self) -> f64 {
        let now = self.now();
        1.0 / self.lock().pace.slower(now)
    }

    /// Where a limit comes from.
    pub(crate) fn origin(&self, limit: Limit) -> Origin {
        self.lock().kept.origin(limit)
    }
}

impl State {
    /// Lets requests of so many tokens leave as far apart as the endpoint makes them. Says how far the limits do.
    pub(super) fn slow(&mut self, now: Micros, tokens: u64) -> Micros {
        self.ledger.slow(1.0);
        let space = self.ledger.pace(tokens);
        let slower = self.pace.slower(now);
        if slower > 1.0 {
            let most = MOST_APART as f64 / space.max(1) as f64;
            self.ledger.slow(slower.min(most.max(1.0)));
        }
        space
    }

    /// A limit, and why it is one where nobody here has asked for it.
    fn in_words(&self, limit: Limit, now: Micros) -> String {
        let why = match self.kept.origin(limit) {
            _ if self.ledger.is_held(limit, now) => {
                ", of which the endpoint says that nothing is left"
            }
            Origin::Other => ", which another process with the same key keeps",
            Origin::Setting(_) | Origin::Endpoint => "",
        };
        format!("{limit}{why}")
    }

    /// The same for somebody who waits: also why for so long, where hardly two fit into it as long as nobody knows
    /// better.
    pub(super) fn why(&self, limit: Limit, need: Need, now: Micros) -> String {
        let words = self.in_words(limit, now);
        // Nobody waits for a day: it is used up.
        let goes_alone =
            limit.kind() == LimitKind::Tokens && need.tokens.saturating_mul(2) > limit.amount;
        match need.is_unknown && goes_alone {
            true => format!("{words}, until the first answers tell what one costs"),
            false => words,
        }
    }
}

/// What is left of a limit, as the endpoint counts it. Where nobody has counted here until now, at least the request
/// that told of it is used up.
fn use_up(books: &mut Books<'_>, limit: Limit, said: &Announced, now: Micros, is_fresh: bool) {
    if let (Some(0), Some(reset)) = (said.remaining, said.reset) {
        let reset = u64::try_from(reset.as_micros()).unwrap_or(u64::MAX);
        books.change().hold(limit, now.saturating_add(reset));
    }
    // Somebody else uses the same key.
    let (used, tolerated) = match is_fresh {
        true => (said.used().max(1), 0),
        false => (said.used(), 1 + said.amount / 50),
    };
    let others = used.saturating_sub(books.ledger().used(limit, now));
    if others > tolerated {
        books.change().others(limit, now, others);
    }
    // The endpoint has counted whatever left before.
    if is_fresh && said.remaining.is_some() {
        books.change().knows_all(limit);
    }
}

//! How many requests may be under way at the same time: a number that somebody set, or one that is found out.

use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::time::Instant;

use crate::adapt::Adapt;
use crate::fixed::Fixed;
use crate::gate::Cause;

/// What is kept of what was under way when the endpoint asks for less.
const CUT: f64 = 0.7;
/// A change of what is found best is told when so much time has passed since the last one ...
const TELL_EVERY: Duration = Duration::from_secs(10);
/// ... and where it is noticeable.
const TELL_FROM: f64 = 1.25;

/// How many requests may be under way, and how many are.
#[derive(Debug)]
pub(crate) struct Level {
    kind: Kind,
    /// The most that may ever be.
    limit: usize,
    under_way: usize,
    /// When a refusal last lowered what may be under way.
    lowered: Option<Instant>,
    /// How often somebody began to find the level out: what left before that is not looked at.
    begun: u32,
}

#[derive(Debug)]
enum Kind {
    /// Somebody has set a number.
    Fixed(Fixed),
    /// It is found out how many are best.
    Found {
        adapt: Box<Adapt>,
        /// What was last told of it.
        told: Option<(usize, Instant)>,
    },
}

/// A request that has left: when, and who looked at that then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    at: Instant,
    begun: u32,
}

impl Level {
    /// With `adaptive` the limit is the most that may ever be.
    pub(crate) fn new(limit: NonZeroUsize, adaptive: bool) -> Level {
        let kind = match adaptive {
            true => Kind::found(limit, None),
            false => Kind::Fixed(Fixed::new(limit.get())),
        };
        Level {
            kind,
            limit: limit.get(),
            under_way: 0,
            lowered: None,
            begun: 0,
        }
    }

    /// So many may be under way now.
    pub(crate) fn allowed(&self) -> usize {
        match &self.kind {
            Kind::Fixed(fixed) => fixed.level(),
            Kind::Found { adapt, .. } => adapt.level(),
        }
    }

    /// The same where it is found out.
    pub(crate) fn found(&self) -> Option<usize> {
        match &self.kind {
            Kind::Fixed(_) => None,
            Kind::Found { adapt, .. } => Some(adapt.level()),
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// So many from now on. A running cut of a number that was set stays.
    pub(crate) fn set_limit(&mut self, limit: NonZeroUsize) {
        self.limit = limit.get();
        match &mut self.kind {
            Kind::Fixed(fixed) => fixed.set_limit(limit.get()),
            found => *found = Kind::Fixed(Fixed::new(limit.get())),
        }
    }

    /// From now on as many as are best, up to so many; it begins with what there is.
    pub(crate) fn set_adaptive(&mut self, most: NonZeroUsize) {
        self.limit = most.get();
        match &self.kind {
            Kind::Fixed(fixed) => {
                self.kind = Kind::found(most, Some(fixed.level()));
                self.begun += 1;
            }
            Kind::Found { .. } => self.find(|adapt, _| adapt.set_max(most.get())),
        }
    }

    /// Something else than the number of requests holds them up, or did: what was seen meanwhile says nothing.
    pub(crate) fn interrupted(&mut self) {
        self.find(|adapt, _| adapt.interrupted());
    }

    /// A request leaves.
    pub(crate) fn sent(&mut self) -> Sent {
        self.under_way += 1;
        self.find(|adapt, now| adapt.sent(now));
        Sent {
            at: Instant::now(),
            begun: self.begun,
        }
    }

    /// It is no longer under way; with the tokens of its answer, where that was paid for.
    pub(crate) fn ended(&mut self, sent: Sent, tokens: Option<u64>) {
        self.under_way -= 1;
        if sent.begun == self.begun {
            self.find(|adapt, now| adapt.ended(now, sent.at, tokens));
        }
    }

    /// A good answer to a request that was sent as things are now.
    pub(crate) fn good(&mut self) {
        if let Kind::Fixed(fixed) = &mut self.kind {
            fixed.good();
        }
    }

    /// A request was put off.
    pub(crate) fn put_off(&mut self) {
        if let Kind::Fixed(fixed) = &mut self.kind {
            fixed.answered();
        }
    }

    /// The endpoint asks for less.
    pub(crate) fn cut(&mut self, cause: Cause) {
        let (under_way, kept) = (self.under_way, self.share_of_those_under_way());
        match (&mut self.kind, cause) {
            (Kind::Found { .. }, _) => {
                self.find(|adapt, now| adapt.pushed_back(now, under_way, kept));
            }
            (Kind::Fixed(fixed), _) if !fixed.is_due() => {}
            (Kind::Fixed(fixed), Cause::Busy) => fixed.was_full(under_way, kept),
            (Kind::Fixed(fixed), Cause::TooFast | Cause::Away) => fixed.lower(kept),
        }
    }

    /// The endpoint works on `accepted`, and the one that left then was one too many. Whoever left before that was
    /// known brings no news.
    pub(crate) fn refused(&mut self, sent: Sent, accepted: usize) {
        if self.lowered.is_some_and(|lowered| sent.at <= lowered) {
            return;
        }
        self.lowered = Some(Instant::now());
        let slots = self.under_way;
        let kept = self.share_of_those_under_way().max(accepted);
        match &mut self.kind {
            Kind::Fixed(fixed) => fixed.was_full(slots, kept),
            Kind::Found { .. } => self.find(|adapt, now| adapt.pushed_back(now, slots, kept)),
        }
    }

    /// Of what really was under way: who waits for a permit has asked for nothing, and nor has a slot that is free.
    fn share_of_those_under_way(&self) -> usize {
        (self.under_way as f64 * CUT) as usize
    }

    /// Something happened to a request; where it is found out how many are best, that follows from it.
    fn find(&mut self, what: impl FnOnce(&mut Adapt, Instant)) {
        let Kind::Found { adapt, told: last } = &mut self.kind else {
            return;
        };
        let now = Instant::now();
        what(adapt, now);
        let settled = adapt.settled();
        let (told, at) = *last.get_or_insert((settled, now));
        let times = settled.max(told) as f64 / settled.min(told) as f64;
        if times >= TELL_FROM && now - at >= TELL_EVERY {
            *last = Some((settled, now));
            tracing::info!(
                before = told,
                now = settled,
                "another number of requests at the same time is best"
            );
        }
    }
}

impl Kind {
    fn found(most: NonZeroUsize, level: Option<usize>) -> Kind {
        Kind::Found {
            adapt: Box::new(Adapt::new(most.get(), level)),
            told: None,
        }
    }
}

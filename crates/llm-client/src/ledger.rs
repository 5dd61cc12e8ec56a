//! What was sent lately, and when more may be: arithmetic on a clock of microseconds, without waiting.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::LimitKind;
use crate::meter::Meter;

mod forecast;

/// Microseconds on a clock that never runs backwards.
pub(crate) type Micros = u64;

const SECOND: Micros = 1_000_000;
const DAY: Micros = 86_400 * SECOND;
/// More than any request has, and so little that sums of them stay far from the end of the numbers: what an answer
/// says that it cost is not always true.
pub(crate) const MOST_TOKENS: u64 = 1 << 40;

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    Requests,
    Tokens,
}

/// So much in any stretch of time of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limit {
    pub(crate) unit: Unit,
    pub(crate) amount: u64,
    pub(crate) window: Micros,
}

impl Limit {
    /// The same thing is counted over the same time.
    pub(crate) fn is_like(self, other: Limit) -> bool {
        self.unit == other.unit && self.window == other.window
    }

    /// Where it is configured.
    pub(crate) fn setting(self) -> &'static str {
        match (self.unit, self.window) {
            (Unit::Requests, SECOND) => "limits.requests_per_second",
            (Unit::Requests, DAY) => "limits.requests_per_day",
            (Unit::Requests, _) => "model.rate_limit",
            (Unit::Tokens, SECOND) => "limits.tokens_per_second",
            (Unit::Tokens, DAY) => "limits.tokens_per_day",
            (Unit::Tokens, _) => "model.token_limit",
        }
    }

    pub(crate) fn kind(self) -> LimitKind {
        match self.unit {
            _ if self.window >= DAY => LimitKind::Day,
            Unit::Requests => LimitKind::Requests,
            Unit::Tokens => LimitKind::Tokens,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match (self.unit, self.amount) {
            (Unit::Requests, 1) => "request",
            (Unit::Requests, _) => "requests",
            (Unit::Tokens, 1) => "token",
            (Unit::Tokens, _) => "tokens",
        };
        let window = match self.window / SECOND {
            1 => "a second".to_owned(),
            60 => "a minute".to_owned(),
            3_600 => "an hour".to_owned(),
            86_400 => "a day".to_owned(),
            seconds => format!("in {seconds} s"),
        };
        write!(f, "{} {unit} {window}", self.amount)
    }
}

/// All limits of an endpoint: a request goes when every one of them allows it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Ledger {
    meters: Vec<Meter>,
    /// What others count and we do not.
    #[serde(default)]
    not_ours: Vec<Meter>,
    /// Requests that may leave at once.
    burst: u64,
    /// Whether the shared file lacks something of this, because it could not be written.
    #[serde(skip)]
    pub(crate) is_unsaved: bool,
}

/// Where one request stands in the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    at: Micros,
    /// As how much each limit has booked it: limits come, go and change while it is under way.
    booked: Vec<(Limit, u64)>,
}

impl Entry {
    /// Whether a limit of tokens has booked it.
    pub(crate) fn has_tokens(&self) -> bool {
        let mut booked = self.booked.iter();
        booked.any(|(limit, _)| limit.unit == Unit::Tokens)
    }
}

impl Ledger {
    pub(crate) fn new(limits: impl IntoIterator<Item = Limit>, burst: u64) -> Ledger {
        Ledger {
            meters: limits.into_iter().map(Meter::new).collect(),
            not_ours: Vec::new(),
            burst: burst.max(1),
            is_unsaved: false,
        }
    }

    /// Other limits from now on. What was sent counts for those that count the same over the same time, and what
    /// none of them counts is kept: for others, and for the time when there is such a limit again.
    pub(crate) fn set(&mut self, now: Micros, limits: impl IntoIterator<Item = Limit>, burst: u64) {
        self.not_ours.append(&mut self.meters);
        for limit in limits {
            self.add(now, limit);
        }
        self.burst = burst.max(1);
    }

    fn add(&mut self, now: Micros, limit: Limit) {
        let known = |meter: &Meter| meter.limit.is_like(limit);
        let mut meter = match self.not_ours.iter().position(known) {
            Some(at) => self.not_ours.swap_remove(at),
            None => self.begin(limit, now),
        };
        meter.change(now, limit);
        self.meters.push(meter);
    }

    /// A meter of a limit that nobody kept until now.
    fn begin(&self, limit: Limit, now: Micros) -> Meter {
        let all = self.meters.iter().chain(&self.not_ours);
        let same = all.filter(|meter| meter.limit.unit == limit.unit);
        match same.max_by_key(|meter| meter.limit.window) {
            Some(longest) => longest.begin_another(limit, now),
            None => {
                let mut meter = Meter::new(limit);
                meter.since = now;
                meter
            }
        }
    }

    /// Nothing leaves from now on without being counted here.
    pub(crate) fn count_from(&mut self, now: Micros) {
        for meter in &mut self.meters {
            meter.since = now;
        }
    }

    /// Whether it is counted already what this source sent, as far as the limits look back.
    pub(crate) fn knows(&self, source: u64, now: Micros) -> bool {
        self.meters.iter().all(|meter| meter.knows(source, now))
    }

    /// What a source has sent, as it says itself: so much of it as is not counted yet.
    pub(crate) fn look_back(&mut self, source: u64, sent: &[(Micros, u64)], now: Micros) {
        for meter in &mut self.meters {
            meter.look_back(source, sent, now);
        }
    }

    /// The meter of a limit that counts the same over the same time, whether it is kept here or by others.
    fn books(&mut self, like: Limit) -> Option<&mut Meter> {
        let mut all = self.meters.iter_mut().chain(&mut self.not_ours);
        all.find(|meter| meter.limit.is_like(like))
    }

    /// What others have sent too, as they wrote it down; the limits stay one's own. What nobody here counts is
    /// kept for those who do. Where something of this is not in it, the more counts of what both have: a file that
    /// cannot be written would give back again and again what has left since.
    pub(crate) fn take_over(&mut self, shared: Ledger, now: Micros) {
        if !self.is_unsaved {
            self.not_ours.clear();
        }
        let is_unsaved = self.is_unsaved;
        for mut theirs in shared.meters.into_iter().chain(shared.not_ours) {
            if !theirs.is_sound(now) {
                continue;
            }
            match self.books(theirs.limit) {
                Some(own) if is_unsaved => own.merge(&theirs),
                Some(own) => own.take_over(theirs, now),
                None => self.not_ours.push(theirs),
            }
        }
    }

    pub(crate) fn limits(&self) -> impl Iterator<Item = Limit> + '_ {
        self.meters.iter().map(|meter| meter.limit)
    }

    /// The most tokens that a single request can ever have.
    pub(crate) fn most_tokens(&self) -> Option<Limit> {
        self.limits()
            .filter(|limit| limit.unit == Unit::Tokens)
            .min_by_key(|limit| limit.amount)
    }

    /// When a request of so many tokens may leave, and the limit that decides it; not before `now`.
    pub(crate) fn earliest(&self, now: Micros, tokens: u64) -> (Micros, Option<Limit>) {
        self.meters
            .iter()
            .map(|meter| (meter.earliest(now, tokens, self.burst), Some(meter.limit)))
            .max_by_key(|(at, _)| *at)
            .filter(|(at, _)| *at > now)
            .unwrap_or((now, None))
    }

    /// When the windows have room for a request of so many tokens, however far apart requests leave.
    pub(crate) fn room(&self, now: Micros, tokens: u64) -> Micros {
        let meters = self.meters.iter();
        let rooms = meters.map(|meter| meter.has_room(now, tokens));
        rooms.max().unwrap_or(now)
    }

    /// A request leaves.
    pub(crate) fn take(&mut self, now: Micros, tokens: u64) -> Entry {
        let meters = self.meters.iter_mut();
        let booked = meters.map(|meter| (meter.limit, meter.take(now, tokens)));
        Entry {
            at: now,
            booked: booked.collect(),
        }
    }

    /// A request did not leave after all.
    pub(crate) fn withdraw(&mut self, entry: &Entry) {
        for (limit, booked) in &entry.booked {
            if let Some(meter) = self.books(*limit) {
                meter.withdraw(entry.at, *booked);
            }
        }
    }

    /// What it came to.
    pub(crate) fn settle(&mut self, now: Micros, entry: &Entry, tokens: u64) {
        let tokens = tokens.min(MOST_TOKENS);
        let of_tokens = |(limit, _): &&(Limit, u64)| limit.unit == Unit::Tokens;
        for (limit, booked) in entry.booked.iter().filter(of_tokens) {
            if let Some(meter) = self.books(*limit) {
                meter.settle(now, entry.at, *booked, tokens);
            }
        }
    }

    /// Requests leave so many times further apart than the limits say.
    pub(crate) fn slow(&mut self, slower: f64) {
        for meter in &mut self.meters {
            meter.slower = slower;
        }
    }

    /// Nothing leaves before then, whatever else allows it.
    pub(crate) fn hold(&mut self, like: Limit, until: Micros) {
        for meter in &mut self.meters {
            if meter.limit.is_like(like) {
                meter.held = meter.held.max(until);
            }
        }
    }

    /// Whether somebody has said that nothing leaves for now.
    pub(crate) fn is_held(&self, like: Limit, now: Micros) -> bool {
        let mut meters = self.meters.iter();
        meters.any(|meter| meter.limit.is_like(like) && meter.held > now)
    }

    /// A request that left earlier than anybody knew.
    pub(crate) fn sent_before(&mut self, at: Micros, tokens: u64) {
        for meter in &mut self.meters {
            meter.sent_before(at, tokens);
        }
    }

    /// So much was sent by somebody else.
    pub(crate) fn others(&mut self, like: Limit, now: Micros, amount: u64) {
        for meter in &mut self.meters {
            if meter.limit.is_like(like) {
                meter.add(now / meter.piece(), amount);
            }
        }
    }

    /// Nothing that was sent is to be counted here any more: somebody has told how much it was.
    pub(crate) fn knows_all(&mut self, like: Limit) {
        for meter in &mut self.meters {
            if meter.limit.is_like(like) {
                meter.since = 0;
            }
        }
    }

    /// The time between two requests of so many tokens in the long run.
    pub(crate) fn pace(&self, tokens: u64) -> Micros {
        let spaces = self
            .meters
            .iter()
            .map(|meter| meter.space(meter.weight(tokens)));
        spaces.max().unwrap_or(0)
    }

    /// How much was sent within the window of such a limit.
    pub(crate) fn used(&self, like: Limit, now: Micros) -> u64 {
        let mut meters = self.meters.iter();
        let meter = meters.find(|meter| meter.limit.is_like(like));
        meter.map_or(0, |meter| meter.used(now))
    }

    /// The limit that sets the pace of requests of so many tokens.
    pub(crate) fn slowest(&self, tokens: u64) -> Option<Limit> {
        let space = |meter: &&Meter| meter.space(meter.weight(tokens));
        let slowest = self.meters.iter().max_by_key(space);
        slowest.map(|meter| meter.limit)
    }

    pub(crate) fn burst(&self) -> u64 {
        self.burst
    }
}

#[cfg(test)]
mod played;
#[cfg(test)]
mod tests;

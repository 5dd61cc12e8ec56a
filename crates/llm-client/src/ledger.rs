//! What was sent lately, and when more may be: arithmetic on a clock of microseconds, without waiting.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::LimitKind;
use crate::meter::Meter;

mod forecast;

/// Microseconds on a clock that never runs backwards.
pub(crate) type Micros = u64;

pub(crate) const SECOND: Micros = 1_000_000;
pub(crate) const MINUTE: Micros = 60 * SECOND;
pub(crate) const DAY: Micros = 86_400 * SECOND;
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
    /// Those that are kept.
    meters: Vec<Meter>,
    /// Those that others keep, or that were kept until they were taken away. What leaves is booked there too: whoever
    /// keeps one of them again finds nothing missing.
    #[serde(default, alias = "not_ours")]
    not_kept: Vec<Meter>,
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
    booked: Vec<Booked>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Booked {
    limit: Limit,
    amount: u64,
    /// Whether the next one leaves so much later for it.
    is_spaced: bool,
}

impl Entry {
    /// When it left.
    pub(crate) fn at(&self) -> Micros {
        self.at
    }

    /// Whether a limit of tokens has booked it.
    pub(crate) fn has_tokens(&self) -> bool {
        self.of_tokens().next().is_some()
    }

    fn of_tokens(&self) -> impl Iterator<Item = &Booked> {
        let booked = self.booked.iter();
        booked.filter(|booked| booked.limit.unit == Unit::Tokens)
    }
}

impl Ledger {
    pub(crate) fn new(limits: impl IntoIterator<Item = Limit>, burst: u64) -> Ledger {
        Ledger {
            meters: limits.into_iter().map(Meter::new).collect(),
            not_kept: Vec::new(),
            burst: burst.max(1),
            is_unsaved: false,
        }
    }

    /// Other limits from now on. What was sent counts for those that count the same over the same time, and those that
    /// are no longer kept go on to count: for others, and for the time when there is such a limit again.
    pub(crate) fn set(&mut self, now: Micros, limits: impl IntoIterator<Item = Limit>, burst: u64) {
        self.not_kept.append(&mut self.meters);
        for limit in limits {
            self.add(now, limit);
        }
        self.burst = burst.max(1);
    }

    fn add(&mut self, now: Micros, limit: Limit) {
        let known = |meter: &Meter| meter.limit.is_like(limit);
        let mut meter = match self.not_kept.iter().position(known) {
            Some(at) => self.not_kept.swap_remove(at),
            None => self.begin(limit, now),
        };
        meter.change(now, limit);
        self.meters.push(meter);
    }

    /// A meter of a limit that nobody kept until now.
    fn begin(&self, limit: Limit, now: Micros) -> Meter {
        let all = self.meters.iter().chain(&self.not_kept);
        let same = all.filter(|meter| meter.limit.unit == limit.unit);
        // The shortest that looks back far enough knows best when something left.
        let best = same.max_by_key(|meter| {
            let window = meter.limit.window;
            match window < limit.window {
                true => (0, window),
                false => (1, Micros::MAX - window),
            }
        });
        match best {
            Some(best) => best.begin_another(limit, now),
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

    /// The same of one that did not share the limits when it sent that.
    pub(crate) fn look_back_apart(&mut self, source: u64, sent: &[(Micros, u64)], told: Micros) {
        for meter in &mut self.meters {
            meter.look_back_apart(source, sent, told);
        }
    }

    /// The meter of a limit that counts the same over the same time, whether it is kept here or by others.
    fn books(&mut self, like: Limit) -> Option<&mut Meter> {
        let mut all = self.all();
        all.find(|meter| meter.limit.is_like(like))
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Meter> {
        self.meters.iter_mut().chain(&mut self.not_kept)
    }

    /// What others have sent too, as they wrote it down; the limits stay one's own. What nobody here counts is
    /// kept for those who do. Where something of this is not in it, the more counts of what both have: a file that
    /// cannot be written would give back again and again what has left since.
    pub(crate) fn take_over(&mut self, shared: Ledger, now: Micros) {
        if !self.is_unsaved {
            self.not_kept.clear();
        }
        let is_unsaved = self.is_unsaved;
        for mut theirs in shared.meters.into_iter().chain(shared.not_kept) {
            if !theirs.is_sound(now) {
                continue;
            }
            match self.books(theirs.limit) {
                Some(own) if is_unsaved => own.merge(&theirs),
                Some(own) => own.take_over(theirs, now),
                None => self.not_kept.push(theirs),
            }
        }
    }

    /// Whether anything counts tokens, be it kept or not.
    pub(crate) fn counts_tokens(&self) -> bool {
        let mut all = self.meters.iter().chain(&self.not_kept);
        all.any(|meter| meter.limit.unit == Unit::Tokens)
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
        let kept = self.meters.iter_mut().map(|meter| (meter, true));
        let others = self.not_kept.iter_mut().map(|meter| (meter, false));
        let booked = kept.chain(others).map(|(meter, is_spaced)| {
            let amount = meter.book(now, tokens);
            if is_spaced {
                meter.space_out(now, amount);
            }
            Booked {
                limit: meter.limit,
                amount,
                is_spaced,
            }
        });
        Entry {
            at: now,
            booked: booked.collect(),
        }
    }

    /// A request did not leave after all.
    pub(crate) fn withdraw(&mut self, entry: &Entry) {
        for booked in &entry.booked {
            if let Some(meter) = self.books(booked.limit) {
                meter.withdraw(entry.at, booked.amount, booked.is_spaced);
            }
        }
    }

    /// What it came to.
    pub(crate) fn settle(&mut self, now: Micros, entry: &Entry, tokens: u64) {
        let tokens = tokens.min(MOST_TOKENS);
        for booked in entry.of_tokens() {
            if let Some(meter) = self.books(booked.limit) {
                match booked.is_spaced {
                    true => meter.settle(now, entry.at, booked.amount, tokens),
                    false => drop(meter.book_anew(entry.at, booked.amount, tokens)),
                }
            }
        }
        // A limit that came while it was under way has begun with what another one had booked.
        let Some(booked) = entry.of_tokens().map(|booked| booked.amount).max() else {
            return;
        };
        for meter in self.all().filter(|meter| meter.limit.unit == Unit::Tokens) {
            let mut known = entry.of_tokens();
            if !known.any(|booked| booked.limit.is_like(meter.limit)) {
                meter.settle_copy(entry.at, booked, tokens);
            }
        }
    }

    /// Requests leave so many times further apart than the limits say.
    pub(crate) fn slow(&mut self, slower: f64) {
        for meter in &mut self.meters {
            meter.slower = slower;
        }
    }

    /// A request may arrive so much later than another one that left with it.
    pub(crate) fn arrive_late(&mut self, lateness: Micros) {
        for meter in &mut self.meters {
            meter.lateness = lateness;
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
        for meter in self.all() {
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

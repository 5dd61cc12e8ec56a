use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::ledger::{Limit, MOST_TOKENS, Micros, SECOND, Unit};

mod forecast;

/// What was sent is remembered in so many pieces of a window.
const PIECES: u64 = 600;
/// A permit that is taken so much later than its time does not shift those after it: timers ring late, and
/// the loss would add up.
const LATENESS: Micros = 10_000;

/// So many sources are remembered, which is more than anybody starts within a window.
const SOURCES: usize = 256;

/// Times that are written down in whole seconds are up to so much later than they were.
const ROUNDED: Micros = SECOND;

/// Nobody sends so much within a window: who wrote that down wrote something else.
const MOST_SENT: u64 = 1 << 62;

/// What was sent lately as one limit counts it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Meter {
    pub(crate) limit: Limit,
    /// What left in which piece of time, oldest first; pieces without anything are left out.
    pub(crate) pieces: VecDeque<(u64, u64)>,
    sum: u64,
    /// When the next may leave, if all are to be evenly spaced.
    pub(crate) next: Micros,
    /// Time before now that was reserved and given back: it may still be used.
    #[serde(default)]
    credit: Micros,
    pub(crate) held: Micros,
    /// From when on it counts whatever leaves.
    #[serde(default = "never")]
    pub(crate) since: Micros,
    /// Whose sending from before that time it counts too.
    #[serde(default)]
    pub(crate) sources: Vec<u64>,
    /// What it counts of those who told nobody when they sent something.
    #[serde(default)]
    apart: Vec<Apart>,
    /// For nobody else to know: each finds out for himself.
    #[serde(skip, default = "as_it_is")]
    pub(crate) slower: f64,
    /// The same: how much later than others a request may arrive.
    #[serde(skip)]
    pub(crate) lateness: Micros,
}

/// Of what a source has sent without sharing its limits, what left between these times is counted.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Apart {
    source: u64,
    from: Micros,
    until: Micros,
}

fn as_it_is() -> f64 {
    1.0
}

fn never() -> Micros {
    Micros::MAX
}

impl Meter {
    pub(crate) fn new(limit: Limit) -> Meter {
        Meter {
            limit,
            pieces: VecDeque::new(),
            sum: 0,
            next: 0,
            credit: 0,
            held: 0,
            since: never(),
            sources: Vec::new(),
            apart: Vec::new(),
            slower: as_it_is(),
            lateness: 0,
        }
    }

    /// The rest of a wait that was for the old amount is as much shorter or longer as the new one is.
    pub(crate) fn change(&mut self, now: Micros, limit: Limit) {
        let rest = u128::from(self.next.saturating_sub(now));
        let rest = rest * u128::from(self.limit.amount) / u128::from(limit.amount.max(1));
        self.limit = limit;
        // When a whole window has passed everything is free again.
        let rest = u64::try_from(rest).unwrap_or(u64::MAX).min(self.whole());
        self.next = self.next.min(now) + rest;
    }

    /// As how much a request asks for room.
    pub(crate) fn weight(&self, tokens: u64) -> u64 {
        self.fitting(self.counted(tokens))
    }

    /// As how much it counts, which may be above the limit: there may be a higher one later on.
    fn counted(&self, tokens: u64) -> u64 {
        match self.limit.unit {
            Unit::Requests => 1,
            Unit::Tokens => tokens.min(MOST_TOKENS),
        }
    }

    /// What never fits goes alone: whoever asks has been told before.
    fn fitting(&self, amount: u64) -> u64 {
        amount.min(self.limit.amount)
    }

    pub(crate) fn piece(&self) -> Micros {
        (self.limit.window / PIECES).max(1)
    }

    /// Longer than the window, so that nothing exceeds it as the endpoint sees it: on the way requests
    /// come closer to each other by some milliseconds, and by more where one has to wait for its connection.
    fn remembered(&self) -> Micros {
        let margin = (self.limit.window / 400).max(5_000);
        self.limit.window + margin + self.lateness.min(self.limit.window / 2)
    }

    /// The time that so much takes when it is evenly spaced. A day is not: whoever has 10,000 requests a day
    /// wants them now.
    pub(crate) fn space(&self, weight: u64) -> Micros {
        if self.limit.window > 3_600 * SECOND {
            return 0;
        }
        let window = self.limit.window + (self.limit.window / 200).max(10_000);
        let space = u128::from(window) * u128::from(weight) / u128::from(self.limit.amount.max(1));
        let space = u64::try_from(space).unwrap_or(u64::MAX);
        match self.slower > 1.0 {
            true => (space as f64 * self.slower) as u64,
            false => space,
        }
    }

    /// The space of all that the limit allows.
    fn whole(&self) -> Micros {
        self.space(self.limit.amount)
    }

    pub(crate) fn earliest(&self, now: Micros, tokens: u64, burst: u64) -> Micros {
        let weight = self.weight(tokens);
        let ahead = self.space(weight).saturating_mul(burst - 1);
        let spaced = self.next.saturating_sub(ahead);
        spaced.max(self.has_room(now, tokens))
    }

    /// The same for whoever may leave at any distance from the others.
    pub(crate) fn has_room(&self, now: Micros, tokens: u64) -> Micros {
        let room = self.room(now, self.weight(tokens));
        room.max(self.held).max(now)
    }

    /// When so much more fits into the window.
    fn room(&self, now: Micros, weight: u64) -> Micros {
        let mut sum = self.sum;
        for (number, amount) in &self.pieces {
            let gone = (number + 1) * self.piece() + self.remembered();
            if gone > now && sum + weight <= self.limit.amount {
                return now;
            }
            sum -= amount;
            if gone > now && sum + weight <= self.limit.amount {
                return gone;
            }
        }
        now
    }

    /// Books a request, and says as how much: what the limit is later on has no say in what was booked.
    pub(crate) fn book(&mut self, now: Micros, tokens: u64) -> u64 {
        self.forget(now);
        let amount = self.counted(tokens);
        self.add(now / self.piece(), amount);
        amount
    }

    /// The next one leaves so much later.
    pub(crate) fn space_out(&mut self, now: Micros, booked: u64) {
        let late = now.saturating_sub(self.next);
        // After a quiet while nobody was late.
        let made_up = if late < SECOND {
            late.min(LATENESS + self.credit)
        } else {
            0
        };
        self.credit = self.credit.saturating_sub(made_up.saturating_sub(LATENESS));
        let from = (now - made_up).max(self.next);
        self.next = from.saturating_add(self.space(self.fitting(booked)));
    }

    pub(crate) fn add(&mut self, number: u64, amount: u64) {
        let at = self.pieces.partition_point(|(piece, _)| *piece < number);
        match self.pieces.get_mut(at) {
            Some((piece, sum)) if *piece == number => *sum += amount,
            _ => self.pieces.insert(at, (number, amount)),
        }
        self.sum += amount;
    }

    /// What was booked then as so much comes to nothing: it did not leave.
    pub(crate) fn withdraw(&mut self, at: Micros, booked: u64, is_spaced: bool) {
        self.book_anew(at, booked, 0);
        if is_spaced {
            let space = self.space(self.fitting(booked));
            self.next = self.next.saturating_sub(space);
        }
    }

    /// What was booked then as so much came to something else.
    pub(crate) fn settle(&mut self, now: Micros, at: Micros, booked: u64, actual: u64) {
        self.book_anew(at, booked, actual);
        if actual < booked {
            let space = self.space(self.fitting(booked) - self.fitting(actual));
            let before = self.next;
            self.next = before.saturating_sub(space);
            if before > now {
                self.credit = (self.credit + now.saturating_sub(self.next)).min(SECOND);
            }
        } else {
            // No longer than until everything is free again: one dear answer does not stop a run for an hour.
            let space = self.space(actual - booked);
            let latest = self.next.max(now.saturating_add(self.whole()));
            self.next = self.next.saturating_add(space).min(latest);
        }
    }

    /// What another limit had booked as so much before this one began with a copy of it came to something else. Where
    /// it does not stand at its own time, it may count for too much, but never for too little.
    pub(crate) fn settle_copy(&mut self, at: Micros, booked: u64, actual: u64) {
        if !self.book_anew(at, booked, actual) && actual > booked {
            self.add(at / self.piece(), actual - booked);
        }
    }

    /// Where the time it was booked for is forgotten, nothing is changed. Says whether it was not.
    pub(crate) fn book_anew(&mut self, at: Micros, booked: u64, actual: u64) -> bool {
        let number = at / self.piece();
        let place = self.pieces.partition_point(|(piece, _)| *piece < number);
        let Some((_, amount)) = self
            .pieces
            .get_mut(place)
            .filter(|(piece, _)| *piece == number)
        else {
            return false;
        };
        // Only a file that somebody took away has less than was booked: then it holds nothing of it.
        let rest = amount.checked_sub(booked).unwrap_or_else(|| {
            tracing::debug!(limit = %self.limit, booked, found = *amount, "what was sent is not in the books");
            *amount
        });
        self.sum = self.sum - *amount + rest + actual;
        *amount = rest + actual;
        true
    }

    /// Whether what somebody wrote down can be true. It is no ledger of this machine's clock where it tells of
    /// requests that are still to come: it was written before the machine was started anew.
    pub(crate) fn is_sound(&mut self, now: Micros) -> bool {
        let piece = self.piece();
        let latest = now.saturating_add(SECOND) / piece;
        let in_order = self.pieces.iter().is_sorted_by(|a, b| a.0 < b.0);
        let amounts = self.pieces.iter().map(|(_, amount)| *amount);
        let sum = amounts.fold(0, u64::saturating_add);
        self.sum = sum;
        let is_past = self
            .pieces
            .back()
            .is_none_or(|(number, _)| *number <= latest);
        self.limit.amount > 0 && in_order && is_past && sum < MOST_SENT
    }

    /// What others wrote down; limit and pace stay one's own. A wait is as long for both, whatever their limits are.
    pub(crate) fn take_over(&mut self, theirs: Meter, now: Micros) {
        let limit = self.limit;
        *self = Meter {
            slower: self.slower,
            lateness: self.lateness,
            ..theirs
        };
        if self.limit != limit {
            self.change(now, limit);
        }
    }

    /// Whether it counts what this source sent in the whole window.
    pub(crate) fn knows(&self, source: u64, now: Micros) -> bool {
        let begin = now.saturating_sub(self.limit.window);
        self.since <= begin || self.sources.contains(&source)
    }

    /// What a source has sent, as it says itself: so much of it as is not known.
    pub(crate) fn look_back(&mut self, source: u64, sent: &[(Micros, u64)], now: Micros) {
        if self.knows(source, now) {
            return;
        }
        let since = self.since;
        for (at, tokens) in sent.iter().filter(|(at, _)| *at < since) {
            self.sent_before(*at, *tokens);
        }
        if self.sources.len() == SOURCES {
            self.sources.remove(0);
        }
        self.sources.push(source);
    }

    /// What a source has sent without sharing its limits, all of the window: so much of it as is not known.
    pub(crate) fn look_back_apart(&mut self, source: u64, sent: &[(Micros, u64)], told: Micros) {
        let begin = told.saturating_sub(self.limit.window);
        self.apart.retain(|apart| apart.until > begin);
        let known = self.apart.iter().position(|apart| apart.source == source);
        let known = known.map(|at| self.apart.swap_remove(at));
        let is_known = |at: Micros| known.is_some_and(|k| (k.from..=k.until).contains(&at));
        for (at, tokens) in sent.iter().filter(|(at, _)| !is_known(*at)) {
            self.sent_before(*at, *tokens);
        }
        if self.apart.len() == SOURCES {
            self.apart.remove(0);
        }
        self.apart.push(Apart {
            source,
            from: known.map_or(begin, |known| known.from.min(begin)),
            until: told.saturating_add(ROUNDED),
        });
    }

    /// A request that left earlier than anybody here knew.
    pub(crate) fn sent_before(&mut self, at: Micros, tokens: u64) {
        self.add(at / self.piece(), self.counted(tokens));
        let space = self.space(self.weight(tokens));
        self.next = self.next.max(at.saturating_add(space));
    }

    /// A limit that counts the same over another time begins with what this one knows: when exactly something left it
    /// does not, so it takes the latest.
    pub(crate) fn begin_another(&self, limit: Limit, now: Micros) -> Meter {
        let mut another = Meter::new(limit);
        for (number, amount) in &self.pieces {
            let latest = ((number + 1) * self.piece() - 1).min(now);
            another.add(latest / another.piece(), *amount);
        }
        let begin = now.saturating_sub(self.limit.window);
        let apart = self.apart.iter().map(|apart| Apart {
            from: apart.from.max(begin),
            ..*apart
        });
        another.apart = apart.collect();
        if limit.window <= self.limit.window {
            another.since = self.since.max(begin);
            another.sources.clone_from(&self.sources);
        } else {
            // What left before this one began to remember has to be looked up, whoever sent it.
            another.since = match self.since {
                since if since == never() || !self.sources.is_empty() => begin,
                since => since.max(begin),
            };
        }
        another
    }

    /// The more of both.
    pub(crate) fn merge(&mut self, theirs: &Meter) {
        for (number, amount) in &theirs.pieces {
            let place = self.pieces.partition_point(|(piece, _)| piece < number);
            let own = self.pieces.get(place).filter(|(piece, _)| piece == number);
            let more = amount.saturating_sub(own.map_or(0, |(_, own)| *own));
            if more > 0 {
                self.add(*number, more);
            }
        }
        self.next = self.next.max(theirs.next);
        self.held = self.held.max(theirs.held);
        self.credit = self.credit.min(theirs.credit);
        self.since = self.since.max(theirs.since);
        let sources = theirs.sources.iter();
        let others = sources.filter(|source| !self.sources.contains(source));
        let others: Vec<u64> = others.copied().collect();
        self.sources.extend(others);
        for theirs in &theirs.apart {
            let mut own = self.apart.iter_mut();
            match own.find(|own| own.source == theirs.source) {
                Some(own) => {
                    own.from = own.from.max(theirs.from);
                    own.until = own.until.min(theirs.until);
                }
                None => self.apart.push(*theirs),
            }
        }
    }

    /// How much is remembered.
    #[cfg(test)]
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// How much was sent within the window.
    pub(crate) fn used(&self, now: Micros) -> u64 {
        let gone = self
            .pieces
            .iter()
            .take_while(|(number, _)| self.is_gone(*number, now));
        self.sum - gone.map(|(_, amount)| amount).sum::<u64>()
    }

    fn forget(&mut self, now: Micros) {
        while let Some((number, amount)) = self.pieces.front().copied()
            && self.is_gone(number, now)
        {
            self.sum -= amount;
            self.pieces.pop_front();
        }
    }

    fn is_gone(&self, number: u64, now: Micros) -> bool {
        (number + 1) * self.piece() + self.remembered() <= now
    }
}

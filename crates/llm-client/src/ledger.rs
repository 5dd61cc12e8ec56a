//! What was sent lately, and when more may be: arithmetic on a clock of microseconds, without waiting.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::LimitKind;
use crate::meter::Meter;

/// Microseconds on a clock that never runs backwards.
pub(crate) type Micros = u64;

const SECOND: Micros = 1_000_000;
const DAY: Micros = 86_400 * SECOND;

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
        let unit = match self.unit {
            Unit::Requests => "requests",
            Unit::Tokens => "tokens",
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
}

/// What one request weighs, and where it stands in the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) at: Micros,
    pub(crate) tokens: u64,
}

impl Ledger {
    pub(crate) fn new(limits: impl IntoIterator<Item = Limit>, burst: u64) -> Ledger {
        Ledger {
            meters: limits.into_iter().map(Meter::new).collect(),
            not_ours: Vec::new(),
            burst: burst.max(1),
        }
    }

    /// Other limits from now on. What was sent counts for those that count the same over the same time.
    pub(crate) fn set(&mut self, now: Micros, limits: impl IntoIterator<Item = Limit>, burst: u64) {
        let mut old = std::mem::take(&mut self.meters);
        for limit in limits {
            let at = old.iter().position(|meter| meter.limit.is_like(limit));
            let mut meter = at.map_or_else(|| Meter::new(limit), |at| old.swap_remove(at));
            meter.change(now, limit);
            self.meters.push(meter);
        }
        self.burst = burst.max(1);
    }

    /// What others have sent too, as they wrote it down; the limits stay one's own. What nobody here counts is
    /// kept for those who do.
    pub(crate) fn take_over(&mut self, shared: Ledger, now: Micros) {
        self.not_ours.clear();
        for theirs in shared.meters.into_iter().chain(shared.not_ours) {
            // Written before the machine was started anew.
            if theirs
                .pieces
                .back()
                .is_some_and(|(number, _)| number * theirs.piece() > now + SECOND)
            {
                continue;
            }
            match self
                .meters
                .iter_mut()
                .find(|own| own.limit.is_like(theirs.limit))
            {
                Some(own) => {
                    own.take_over(theirs);
                }
                None => self.not_ours.push(theirs),
            }
        }
    }

    /// Whether nothing is known of what was sent.
    pub(crate) fn is_blank(&self) -> bool {
        self.meters.iter().all(|meter| meter.pieces.is_empty())
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

    /// A request leaves.
    pub(crate) fn take(&mut self, now: Micros, tokens: u64) -> Entry {
        for meter in &mut self.meters {
            meter.take(now, tokens);
        }
        Entry { at: now, tokens }
    }

    /// A request did not leave after all.
    pub(crate) fn withdraw(&mut self, entry: Entry) {
        for meter in &mut self.meters {
            meter.withdraw(entry);
        }
    }

    /// What it came to.
    pub(crate) fn settle(&mut self, now: Micros, entry: Entry, tokens: u64) {
        for meter in &mut self.meters {
            if meter.limit.unit == Unit::Tokens {
                meter.settle(now, entry, tokens);
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

    /// A request that left earlier than anybody knew.
    pub(crate) fn sent_before(&mut self, at: Micros, tokens: u64) {
        for meter in &mut self.meters {
            let weight = meter.weight(tokens);
            meter.add(at / meter.piece(), weight);
            meter.next = meter.next.max(at.saturating_add(meter.space(weight)));
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

    /// The time between two requests of so many tokens in the long run.
    pub(crate) fn pace(&self, tokens: u64) -> Micros {
        let spaces = self
            .meters
            .iter()
            .map(|meter| meter.space(meter.weight(tokens)));
        spaces.max().unwrap_or(0)
    }

    /// How much was sent within the window of such a limit.
    pub(crate) fn used(&mut self, like: Limit, now: Micros) -> u64 {
        let meter = self
            .meters
            .iter_mut()
            .find(|meter| meter.limit.is_like(like));
        meter.map_or(0, |meter| {
            meter.forget(now);
            meter.sum()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use proptest::prelude::*;

    const MINUTE: Micros = 60 * SECOND;

    fn limit(unit: Unit, amount: u64, window: Micros) -> Limit {
        Limit {
            unit,
            amount,
            window,
        }
    }

    /// What left when, and with how many tokens in the end.
    type Sent = Vec<(Micros, u64)>;

    /// The most that any such stretch of time held.
    fn most_within(sent: &Sent, window: Micros, weight: impl Fn(u64) -> u64) -> u64 {
        let (mut first, mut sum, mut most) = (0, 0, 0);
        for (at, tokens) in sent {
            sum += weight(*tokens);
            while sent[first].0 + window <= *at {
                sum -= weight(sent[first].1);
                first += 1;
            }
            most = most.max(sum);
        }
        most
    }

    /// One thing that happens to a client.
    #[derive(Debug, Clone)]
    enum Deed {
        /// Somebody asks, with so many tokens reserved; it comes to a share of them after a while.
        Ask {
            tokens: u64,
            cost: f64,
            after: Micros,
        },
        /// Nothing happens for so long, or the machine slept.
        Pass(Micros),
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let cost = prop_oneof![Just(0.0), Just(1.0), 0.0..1.0];
        let ask =
            (1..5_000_u64, cost, 0..90 * SECOND).prop_map(|(tokens, cost, after)| Deed::Ask {
                tokens,
                cost,
                after,
            });
        let pass =
            prop_oneof![0..SECOND, 0..200 * SECOND, Just(86_400 * SECOND)].prop_map(Deed::Pass);
        proptest::collection::vec(prop_oneof![6 => ask, 1 => pass], 1..120)
    }

    fn limits() -> impl Strategy<Value = Vec<Limit>> {
        let requests = (1..5_000_u64).prop_map(|amount| limit(Unit::Requests, amount, MINUTE));
        let second = (1..100_u64).prop_map(|amount| limit(Unit::Requests, amount, SECOND));
        let tokens = (5_000..500_000_u64).prop_map(|amount| limit(Unit::Tokens, amount, MINUTE));
        let day = (50..5_000_u64).prop_map(|amount| limit(Unit::Requests, amount, 86_400 * SECOND));
        let maybe = |of: BoxedStrategy<Limit>| proptest::option::of(of);
        (
            maybe(requests.boxed()),
            maybe(second.boxed()),
            maybe(tokens.boxed()),
            maybe(day.boxed()),
        )
            .prop_map(|(a, b, c, d)| [a, b, c, d].into_iter().flatten().collect())
    }

    /// Plays deeds on a clock of its own; nobody may wait for longer than the windows last.
    fn play(limits: &[Limit], burst: u64, deeds: &[Deed], start: Micros) -> (Sent, Ledger) {
        let mut ledger = Ledger::new(limits.iter().copied(), burst);
        let longest = limits.iter().map(|limit| limit.window).max().unwrap_or(0);
        let (mut now, mut sent, mut open) = (start, Sent::new(), Vec::new());
        for deed in deeds {
            match deed {
                Deed::Pass(time) => now += time,
                Deed::Ask {
                    tokens,
                    cost,
                    after,
                } => {
                    let asked = now;
                    loop {
                        open.retain(|(at, entry, cost)| {
                            let due = *at <= now;
                            if due {
                                ledger.settle(now, *entry, *cost);
                            }
                            !due
                        });
                        let (at, _) = ledger.earliest(now, *tokens);
                        if at == now {
                            break;
                        }
                        now = at;
                        assert!(now - asked <= 2 * longest + SECOND, "it waits for ever");
                    }
                    let entry = ledger.take(now, *tokens);
                    let cost = (*tokens as f64 * cost) as u64;
                    open.push((now + after, entry, cost));
                    sent.push((now, cost));
                }
            }
        }
        (sent, ledger)
    }

    fn config() -> ProptestConfig {
        let of_environment = std::env::var_os("PROPTEST_CASES").is_some();
        let cases = if of_environment {
            ProptestConfig::default().cases
        } else {
            64
        };
        ProptestConfig::with_cases(cases)
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn no_window_is_ever_exceeded_and_nobody_waits_for_ever(
            limits in limits(),
            burst in 1..20_u64,
            deeds in deeds(),
            start in 0..1_000_000_000_000_u64,
        ) {
            let (sent, _) = play(&limits, burst, &deeds, start);
            for limit in &limits {
                let weight = |tokens: u64| match limit.unit {
                    Unit::Requests => 1,
                    Unit::Tokens => tokens,
                };
                let most = most_within(&sent, limit.window, weight);
                prop_assert!(most <= limit.amount, "{most} of {limit}");
            }
        }

        #[test]
        fn a_ledger_that_was_written_down_goes_on_as_it_was(
            limits in limits(),
            deeds in deeds(),
            tokens in 1..5_000_u64,
        ) {
            let (sent, ledger) = play(&limits, 1, &deeds, 0);
            let text = serde_json::to_string(&ledger).unwrap();
            let read: Ledger = serde_json::from_str(&text).unwrap();
            let now = sent.last().map_or(0, |(at, _)| *at);
            prop_assert_eq!(read.earliest(now, tokens), ledger.earliest(now, tokens));
        }
    }

    /// Leaves as fast as it may for so long.
    fn saturate(limits: &[Limit], tokens: u64, time: Micros) -> Sent {
        let mut ledger = Ledger::new(limits.iter().copied(), 1);
        let (mut now, mut sent) = (0, Sent::new());
        while now < time {
            now = ledger.earliest(now, tokens).0;
            ledger.take(now, tokens);
            sent.push((now, tokens));
        }
        sent
    }

    #[test]
    fn in_the_long_run_nearly_all_of_a_limit_is_used_evenly() {
        for amount in [60, 600, 6_000, 60_000] {
            let sent = saturate(&[limit(Unit::Requests, amount, MINUTE)], 0, 2 * MINUTE);
            let share = sent.len() as f64 / (2 * amount) as f64;
            assert!(
                (0.99..=1.0 + 1.0 / amount as f64).contains(&share),
                "{amount}: {share}"
            );
            let worst = most_within(&sent, SECOND, |_| 1) as f64;
            assert!(
                worst <= amount as f64 / 60.0 * 1.02 + 1.0,
                "{amount}: {worst} in a second"
            );
        }
        let sent = saturate(&[limit(Unit::Tokens, 90_000, MINUTE)], 300, 5 * MINUTE);
        let share = (sent.len() * 300) as f64 / (5 * 90_000) as f64;
        assert!((0.98..=1.01).contains(&share), "{share}");
    }

    #[test]
    fn all_limits_hold_together_and_the_tightest_is_named() {
        let ledger_of = |tokens_a_minute| {
            let limits = [
                limit(Unit::Requests, 60, MINUTE),
                limit(Unit::Tokens, tokens_a_minute, MINUTE),
            ];
            let mut ledger = Ledger::new(limits, 1);
            ledger.take(0, 100);
            ledger
        };
        let named = |ledger: Ledger| ledger.earliest(1, 100).1.unwrap().to_string();
        assert_eq!(named(ledger_of(90_000)), "60 requests a minute");
        assert_eq!(named(ledger_of(1_000)), "1000 tokens a minute");
    }

    #[test]
    fn what_is_given_back_can_be_used_at_once() {
        let mut ledger = Ledger::new([limit(Unit::Tokens, 1_000, MINUTE)], 1);
        let entry = ledger.take(0, 900);
        assert!(ledger.earliest(SECOND, 900).0 > 50 * SECOND);
        ledger.settle(SECOND, entry, 0);
        assert_eq!(ledger.earliest(SECOND, 900).0, SECOND);
        let entry = ledger.take(SECOND, 900);
        // It came to more than was reserved: that counts too.
        ledger.settle(SECOND, entry, 1_800);
        assert!(ledger.earliest(2 * SECOND, 10).0 > 60 * SECOND);
    }

    #[test]
    fn what_was_sent_before_counts() {
        let mut ledger = Ledger::new([limit(Unit::Requests, 10, MINUTE)], 1);
        for n in 0..10 {
            ledger.sent_before(100 * SECOND + n * SECOND, 0);
        }
        let (at, _) = ledger.earliest(110 * SECOND, 0);
        assert!((160 * SECOND..161 * SECOND).contains(&at), "{at}");
    }

    #[test]
    fn a_burst_is_for_those_who_waited() {
        let mut ledger = Ledger::new([limit(Unit::Requests, 60, MINUTE)], 5);
        let start = 1_000 * SECOND;
        let at_once = (0..20)
            .take_while(|_| {
                let free = ledger.earliest(start, 0).0 == start;
                if free {
                    ledger.take(start, 0);
                }
                free
            })
            .count();
        assert_eq!(at_once, 5);
    }

    #[test]
    fn a_day_is_not_spread_out_and_ends_when_it_is_used_up() {
        let mut ledger = Ledger::new([limit(Unit::Requests, 3, 86_400 * SECOND)], 1);
        for _ in 0..3 {
            assert_eq!(ledger.earliest(5, 0).0, 5);
            ledger.take(5, 0);
        }
        assert!(ledger.earliest(5, 0).0 >= 86_400 * SECOND);
    }

    #[test]
    fn what_answers_give_back_is_used_though_they_come_late() {
        // Twice as much is reserved as is needed, and known to be too much after 400 ms.
        let mut ledger = Ledger::new([limit(Unit::Tokens, 60_000, MINUTE)], 1);
        let (mut now, mut used, mut open) = (0, 0, VecDeque::new());
        while now < 5 * MINUTE {
            let mut at = ledger.earliest(now, 300).0;
            if let Some((due, _)) = open.front() {
                at = at.min(*due);
            }
            now = at.max(now);
            while let Some((due, entry)) = open.front().copied()
                && due <= now
            {
                ledger.settle(now, entry, 150);
                open.pop_front();
            }
            if ledger.earliest(now, 300).0 == now {
                open.push_back((now + 400_000, ledger.take(now, 300)));
                used += 150;
            }
        }
        let share = f64::from(used) / 300_000.0;
        assert!((0.97..=1.01).contains(&share), "{share}");
    }

    #[test]
    fn a_request_that_did_not_leave_leaves_no_trace() {
        let limits = [
            limit(Unit::Requests, 60, MINUTE),
            limit(Unit::Tokens, 1_000, MINUTE),
        ];
        let mut ledger = Ledger::new(limits, 1);
        let start = 5 * SECOND;
        let entry = ledger.take(start, 900);
        assert!(ledger.earliest(start, 900).0 > start);
        ledger.withdraw(entry);
        assert_eq!(ledger.earliest(start, 900).0, start);
    }
}

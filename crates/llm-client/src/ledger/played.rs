//! Whatever happens, in whatever order, no window holds more than its limit as far as anybody could know.

use proptest::prelude::*;

use super::tests::{MINUTE, limit};
use super::*;
use crate::cases::cases;

/// One thing that happens to a process that keeps limits.
#[derive(Debug, Clone)]
enum Deed {
    /// Somebody asks, with so many tokens reserved; it comes to so many times as many after a while, or does not
    /// leave after all.
    Ask {
        tokens: u64,
        cost: Option<f64>,
        after: Micros,
    },
    /// Nothing happens for so long, or the machine slept.
    Pass(Micros),
    /// The limits are changed.
    Set { limits: Vec<Limit>, burst: u64 },
    /// The endpoint says what one of its limits is.
    Announced(Limit),
    /// Somebody else uses the same key.
    Others { limit: Limit, amount: u64 },
    /// Something left before this process knew of it.
    Before { ago: Micros, tokens: u64 },
}

fn deeds() -> impl Strategy<Value = Vec<(usize, Deed)>> {
    let cost = prop_oneof![
        Just(Some(0.0)),
        Just(Some(1.0)),
        (0.0..3.0).prop_map(Some),
        Just(None)
    ];
    let ask = (1..5_000_u64, cost, 0..90 * SECOND).prop_map(|(tokens, cost, after)| Deed::Ask {
        tokens,
        cost,
        after,
    });
    let pass = prop_oneof![0..SECOND, 0..200 * SECOND, Just(86_400 * SECOND)].prop_map(Deed::Pass);
    let set = (limits(), 1..20_u64).prop_map(|(limits, burst)| Deed::Set { limits, burst });
    let announced = one_limit().prop_map(Deed::Announced);
    let others =
        (one_limit(), 1..3_000_u64).prop_map(|(limit, amount)| Deed::Others { limit, amount });
    let before = (0..MINUTE, 1..5_000_u64).prop_map(|(ago, tokens)| Deed::Before { ago, tokens });
    let deed =
        prop_oneof![30 => ask, 5 => pass, 3 => set, 2 => announced, 1 => others, 1 => before];
    proptest::collection::vec((0..2_usize, deed), 1..120)
}

fn one_limit() -> impl Strategy<Value = Limit> {
    prop_oneof![
        (1..5_000_u64).prop_map(|amount| limit(Unit::Requests, amount, MINUTE)),
        (1..100_u64).prop_map(|amount| limit(Unit::Requests, amount, SECOND)),
        (50..5_000_u64).prop_map(|amount| limit(Unit::Requests, amount, DAY)),
        (500..500_000_u64).prop_map(|amount| limit(Unit::Tokens, amount, MINUTE)),
        (500..50_000_u64).prop_map(|amount| limit(Unit::Tokens, amount, SECOND)),
    ]
}

/// No two of the same kind.
fn limits() -> impl Strategy<Value = Vec<Limit>> {
    proptest::collection::vec(one_limit(), 0..5).prop_map(|limits| {
        let mut kinds: Vec<Limit> = Vec::new();
        for limit in limits {
            if !kinds.iter().any(|known| known.is_like(limit)) {
                kinds.push(limit);
            }
        }
        kinds
    })
}

/// What left when, and what each limit that was kept then has to count for it: the truth.
struct Sent {
    at: Micros,
    weights: Vec<(Limit, u64)>,
}

/// One process, or two that share what they write down.
struct World {
    ledgers: Vec<Ledger>,
    file: Option<String>,
    now: Micros,
    sent: Vec<Sent>,
    /// Whose it is, when it ends, which of `sent` it is, and what it comes to.
    open: Vec<(usize, Micros, Entry, usize, Option<u64>)>,
}

impl World {
    fn with<T>(&mut self, who: usize, act: impl FnOnce(&mut Ledger) -> T) -> T {
        let is_shared = self.ledgers.len() > 1;
        let ledger = &mut self.ledgers[who];
        if let Some(text) = &self.file {
            ledger.take_over(serde_json::from_str(text).unwrap(), self.now);
        }
        let value = act(ledger);
        if is_shared {
            self.file = Some(serde_json::to_string(ledger).unwrap());
        }
        for meter in ledger.meters.iter().chain(&ledger.not_ours) {
            let sum: u64 = meter.pieces.iter().map(|(_, amount)| amount).sum();
            assert_eq!(meter.sum(), sum, "{}", meter.limit);
        }
        value
    }

    fn end_what_is_due(&mut self) {
        let now = self.now;
        let (due, open) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|(_, at, ..)| *at <= now);
        self.open = open;
        for (who, _, entry, number, cost) in due {
            self.with(who, |ledger| match cost {
                Some(cost) => ledger.settle(now, &entry, cost),
                None => ledger.withdraw(&entry),
            });
            for (limit, weight) in &mut self.sent[number].weights {
                *weight = match (cost, limit.unit) {
                    (None, _) => 0,
                    (Some(_), Unit::Requests) => 1,
                    (Some(cost), Unit::Tokens) => cost,
                };
            }
        }
    }

    /// What is in the window of such a limit now.
    fn used(&self, like: Limit) -> u64 {
        let within = self
            .sent
            .iter()
            .filter(|sent| sent.at + like.window > self.now);
        let weights = within.flat_map(|sent| &sent.weights);
        weights
            .filter(|(limit, _)| limit.is_like(like))
            .map(|(_, weight)| weight)
            .sum()
    }

    fn ask(&mut self, who: usize, tokens: u64, cost: Option<f64>, after: Micros) {
        let asked = self.now;
        loop {
            self.end_what_is_due();
            let now = self.now;
            let (at, _) = self.with(who, |ledger| ledger.earliest(now, tokens));
            if at == now {
                break;
            }
            let due = self.open.iter().map(|(_, at, ..)| *at).min();
            self.now = due.map_or(at, |due| due.min(at));
            let longest = self.ledgers[who].limits().map(|limit| limit.window).max();
            let longest = 2 * longest.unwrap_or(0) + 100 * SECOND;
            assert!(self.now - asked <= longest, "it waits for ever");
        }
        let now = self.now;
        let weights: Vec<(Limit, u64)> = self.ledgers[who]
            .limits()
            .map(|limit| match limit.unit {
                Unit::Requests => (limit, 1),
                Unit::Tokens => (limit, tokens.min(limit.amount)),
            })
            .collect();
        for (limit, weight) in &weights {
            let used = self.used(*limit);
            assert!(
                used + weight <= limit.amount,
                "{used} and {weight} of {limit}"
            );
        }
        let entry = self.with(who, |ledger| ledger.take(now, tokens));
        let cost = cost.map(|cost| (tokens as f64 * cost) as u64);
        self.open
            .push((who, now + after, entry, self.sent.len(), cost));
        self.sent.push(Sent { at: now, weights });
    }

    fn play(&mut self, who: usize, deed: &Deed) {
        let now = self.now;
        match deed {
            Deed::Pass(time) => self.now += time,
            Deed::Ask {
                tokens,
                cost,
                after,
            } => self.ask(who, *tokens, *cost, *after),
            Deed::Set { limits, burst } => {
                self.with(who, |ledger| {
                    ledger.set(now, limits.iter().copied(), *burst)
                });
            }
            Deed::Announced(limit) => self.with(who, |ledger| {
                let others = ledger.limits().filter(|own| !own.is_like(*limit));
                let limits: Vec<Limit> = others.chain([*limit]).collect();
                ledger.set(now, limits, ledger.burst);
            }),
            Deed::Others { limit, amount } => {
                self.with(who, |ledger| ledger.others(*limit, now, *amount));
                let counts = self.ledgers[who].limits().any(|own| own.is_like(*limit));
                let weights = counts.then_some((*limit, *amount)).into_iter().collect();
                self.sent.push(Sent { at: now, weights });
            }
            Deed::Before { ago, tokens } => {
                let at = now.saturating_sub(*ago);
                self.with(who, |ledger| ledger.sent_before(at, *tokens));
                let weights = self.ledgers[who].limits().map(|limit| match limit.unit {
                    Unit::Requests => (limit, 1),
                    Unit::Tokens => (limit, *tokens.min(&limit.amount)),
                });
                let weights = weights.collect();
                self.sent.push(Sent { at, weights });
            }
        }
    }
}

/// Plays deeds on a clock of its own; nobody may wait for longer than the windows last.
fn play(
    processes: usize,
    limits: &[Limit],
    burst: u64,
    deeds: &[(usize, Deed)],
    start: Micros,
) -> World {
    let mut world = World {
        ledgers: (0..processes)
            .map(|_| Ledger::new(limits.iter().copied(), burst))
            .collect(),
        file: None,
        now: start,
        sent: Vec::new(),
        open: Vec::new(),
    };
    for (who, deed) in deeds {
        world.play(who % processes, deed);
    }
    world
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn no_window_is_ever_exceeded_and_nobody_waits_for_ever(
        limits in limits(),
        burst in 1..20_u64,
        deeds in deeds(),
        start in 0..1_000_000_000_000_u64,
    ) {
        play(1, &limits, burst, &deeds, start);
    }

    #[test]
    fn two_that_share_their_limits_exceed_none_of_them_together(
        limits in limits(),
        burst in 1..20_u64,
        deeds in deeds(),
        start in 0..1_000_000_000_000_u64,
    ) {
        play(2, &limits, burst, &deeds, start);
    }

    #[test]
    fn a_ledger_that_was_written_down_goes_on_as_it_was(
        limits in limits(),
        deeds in deeds(),
        tokens in 1..5_000_u64,
    ) {
        let world = play(1, &limits, 1, &deeds, 0);
        let (ledger, now) = (&world.ledgers[0], world.now);
        let text = serde_json::to_string(ledger).unwrap();
        let read: Ledger = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read.earliest(now, tokens), ledger.earliest(now, tokens));
    }
}

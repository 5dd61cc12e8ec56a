//! What may happen, and how often.

use std::num::NonZeroU64;

use super::*;
use crate::Rates;
use crate::announced::Announced;

/// One thing that happens.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    Start(Wishes),
    /// So many requests like this one, at once.
    Ask(usize, Ask, usize),
    /// So many milliseconds go by.
    Pass(u64),
    /// It stands still for so many milliseconds.
    Stop(usize, u64),
    /// It ends and takes leave, or dies without a word; perhaps while it writes.
    End(usize),
    Die(usize, bool),
    Set(usize, Wishes),
    /// The endpoint pushes back.
    PushBack(usize),
    Harm(Harm),
    /// The machine is started anew.
    Boot,
}

/// What becomes of the file.
#[derive(Debug, Clone)]
pub(super) enum Harm {
    Cut(u64),
    Rubbish(u64),
    NewerCopy,
    OlderCopy,
    Removed,
    /// What stood in it some time ago stands in it again.
    Restored,
    /// It cannot be opened for so many milliseconds.
    Unusable(u64),
    /// A process is stopped while it has the lock, for so many milliseconds.
    Locked(u64),
}

#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) tokens: u64,
    pub(super) millis: u64,
    /// So many times as many tokens, or it did not leave after all; `None` where nobody ever knows.
    pub(super) cost: Option<Option<f64>>,
    pub(super) said: Option<Announced>,
}

/// What a process is configured to keep.
#[derive(Debug, Clone)]
pub(super) struct Wishes {
    pub(super) requests: [Option<u64>; 3],
    pub(super) tokens: [Option<u64>; 2],
    pub(super) burst: u32,
}

impl Wishes {
    pub(super) fn options(&self, file: &LimitFile) -> LimitOptions {
        let number = |number: Option<u64>| number.and_then(NonZeroU64::new);
        LimitOptions {
            requests: Rates {
                a_second: number(self.requests[0]),
                a_minute: number(self.requests[1]),
                a_day: number(self.requests[2]),
            },
            tokens: Rates {
                a_second: number(self.tokens[0]),
                a_minute: number(self.tokens[1]),
                a_day: None,
            },
            burst: NonZeroU32::new(self.burst).unwrap(),
            auto: false,
            share: Some(file.clone()),
        }
    }
}

pub(super) fn wishes() -> impl Strategy<Value = Wishes> {
    let perhaps = |weight, amounts| proptest::option::weighted(weight, amounts);
    let requests = (
        perhaps(0.3, 1..40_u64),
        perhaps(0.8, 12..600_u64),
        perhaps(0.1, 20..200_u64),
    );
    let tokens = (
        perhaps(0.2, 1_000..5_000_u64),
        perhaps(0.4, 4_000..50_000_u64),
    );
    let burst = prop_oneof![Just(1), 1..8_u32];
    (requests, tokens, burst).prop_map(|(requests, tokens, burst)| Wishes {
        requests: requests.into(),
        tokens: tokens.into(),
        burst,
    })
}

fn said() -> impl Strategy<Value = Announced> {
    let unit = prop_oneof![Just(Unit::Requests), Just(Unit::Tokens)];
    let left = prop_oneof![Just(None), Just(Some(0.0)), (0.0..1.0).prop_map(Some)];
    (unit, 20..400_u64, left, 5..20_u64).prop_map(|(unit, amount, left, reset)| {
        let amount = if unit == Unit::Tokens {
            40 * amount
        } else {
            amount
        };
        let remaining = left.map(|left| (left * amount as f64) as u64);
        let reset = (remaining == Some(0)).then_some(Duration::from_secs(reset));
        Announced {
            unit,
            amount,
            remaining,
            reset,
        }
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    let cost = prop_oneof![
        3 => Just(Some(Some(1.0))),
        3 => (0.0..2.0).prop_map(|times| Some(Some(times))),
        1 => Just(Some(None)),
        1 => Just(None),
    ];
    let said = proptest::option::weighted(0.05, said());
    (1..400_u64, 0..20_000_u64, cost, said).prop_map(|(tokens, millis, cost, said)| Ask {
        tokens,
        millis,
        cost,
        said,
    })
}

pub(super) fn deeds(is_harmed: bool) -> impl Strategy<Value = Vec<Deed>> {
    let who = || 0..MOST;
    let millis = || prop_oneof![3 => 0..3_000_u64, 1 => 0..100_000_u64];
    let harm = prop_oneof![
        prop_oneof![0..200_u64, Just(COPY), COPY..COPY + 200].prop_map(Harm::Cut),
        any::<u64>().prop_map(Harm::Rubbish),
        Just(Harm::NewerCopy),
        Just(Harm::OlderCopy),
        Just(Harm::Removed),
        Just(Harm::Restored),
        millis().prop_map(Harm::Unusable),
        millis().prop_map(Harm::Locked),
    ];
    let (of_harm, of_boot) = if is_harmed { (6, 1) } else { (0, 0) };
    let deed = prop_oneof![
        10 => (who(), ask(), 1..12_usize).prop_map(|(who, ask, n)| Deed::Ask(who, ask, n)),
        10 => millis().prop_map(Deed::Pass),
        3 => wishes().prop_map(Deed::Start),
        2 => (who(), millis()).prop_map(|(who, millis)| Deed::Stop(who, millis)),
        1 => who().prop_map(Deed::End),
        2 => (who(), any::<bool>()).prop_map(|(who, torn)| Deed::Die(who, torn)),
        2 => (who(), wishes()).prop_map(|(who, wishes)| Deed::Set(who, wishes)),
        1 => who().prop_map(Deed::PushBack),
        of_harm => harm.prop_map(Deed::Harm),
        of_boot => Just(Deed::Boot),
    ];
    proptest::collection::vec(deed, 1..40)
}

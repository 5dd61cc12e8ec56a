//! The same for all limits together.

use super::{Ledger, Micros};

impl Ledger {
    /// When the last of so many requests of so many tokens may leave, if none does before `from`; `None` where nothing
    /// is limited.
    pub(crate) fn last_of(&self, from: Micros, requests: u64, tokens: u64) -> Option<Micros> {
        let (requests, pace) = ((requests, tokens), (self.pace(tokens), self.burst));
        let meters = self.meters.iter();
        let last = meters.map(|meter| meter.last_of(from, requests, pace));
        last.max()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limit, SECOND, Unit};
    use super::*;

    const NOW: Micros = 200_000 * SECOND;

    fn limit(unit: Unit, amount: u64, seconds: u64) -> Limit {
        let window = seconds * SECOND;
        Limit {
            unit,
            amount,
            window,
        }
    }

    /// When the last of so many really leaves.
    fn played(mut ledger: Ledger, requests: u64, tokens: u64) -> Micros {
        let mut now = NOW;
        for _ in 0..requests {
            now = ledger.earliest(now, tokens).0;
            ledger.take(now, tokens);
        }
        now
    }

    #[test]
    fn what_is_foretold_is_what_happens() {
        let requests = |amount, seconds| limit(Unit::Requests, amount, seconds);
        let tokens = |amount, seconds| limit(Unit::Tokens, amount, seconds);
        let mut wrong = Vec::new();
        for limits in [
            vec![requests(60, 60)],
            vec![requests(7, 60), tokens(2_000, 60)],
            vec![requests(5, 1), requests(100, 60)],
            vec![tokens(1_000, 60)],
            vec![tokens(310, 60)],
            vec![requests(50, 86_400)],
        ] {
            for burst in [1, 10, 60] {
                for before in [0, 1, 30, 70] {
                    let mut ledger = Ledger::new(limits.iter().copied(), burst);
                    for n in 0..before {
                        ledger.sent_before(NOW - n * SECOND / 2, 200);
                    }
                    for count in [1, 2, 9, 60, 61, 250] {
                        let foretold = ledger.last_of(NOW, count, 200).unwrap() - NOW;
                        let took = played(ledger.clone(), count, 200) - NOW;
                        let tolerated = took / 10 + SECOND;
                        if foretold.abs_diff(took) > tolerated {
                            wrong.push(format!("{limits:?} burst {burst} before {before}: {count} took {took}, not {foretold}"));
                        }
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn where_nothing_is_limited_nothing_is_foretold() {
        assert_eq!(Ledger::default().last_of(NOW, 5, 0), None);
    }
}

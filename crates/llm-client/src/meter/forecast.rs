//! When what is still to be sent will have left, if every request leaves as soon as it may.

use super::Meter;
use crate::ledger::Micros;

impl Meter {
    /// When the last of so many requests of so many tokens may leave, if none does before `from`, and they leave so far
    /// apart because of any limit.
    pub(crate) fn last_of(
        &self,
        from: Micros,
        (requests, tokens): (u64, u64),
        (apart, burst): (Micros, u64),
    ) -> Micros {
        let from = from.max(self.held);
        let weight = self.weight(tokens);
        let spaces = requests.saturating_sub(1).saturating_sub(burst - 1);
        let spaced = self.next.max(from);
        let spaced = match requests.saturating_sub(1) < burst - 1 {
            true => {
                let ahead = burst - 1 - requests.saturating_sub(1);
                spaced.saturating_sub(self.space(weight).saturating_mul(ahead))
            }
            false => spaced.saturating_add(self.space(weight).saturating_mul(spaces)),
        };
        // What is less than one more request stays unused.
        let at_once = (self.limit.amount / weight.max(1)).max(1);
        let windows = requests.saturating_sub(1) / at_once;
        let rest = requests - windows * at_once;
        let later = windows.saturating_mul(self.remembered());
        let mut latest = spaced.max(from.saturating_add(later));
        for (nth, at) in self.rooms(from, weight) {
            if nth <= rest {
                // What leaves makes room in its turn when a window has passed.
                latest = latest.max(at.saturating_add(later));
            }
            if nth > requests {
                break;
            }
            let behind = (requests - nth).saturating_sub(burst - 1);
            latest = latest.max(at.saturating_add(apart.saturating_mul(behind)));
        }
        latest
    }

    /// Which of the next requests have to wait for what has left already, and until when: the first for each piece.
    fn rooms(&self, from: Micros, weight: u64) -> impl Iterator<Item = (u64, Micros)> + '_ {
        let used = self.used(from);
        let mut room = self.limit.amount.saturating_sub(used);
        let mut above = used.saturating_sub(self.limit.amount);
        let kept = self.pieces.iter();
        let kept = kept.filter(move |(number, _)| !self.is_gone(*number, from));
        kept.map(move |(number, amount)| {
            let nth = room / weight.max(1) + 1;
            room += amount.saturating_sub(above);
            above = above.saturating_sub(*amount);
            (nth, (number + 1) * self.piece() + self.remembered())
        })
    }
}

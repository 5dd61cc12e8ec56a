/// How near to a level where the endpoint had no slot for one more a second one counts as the same.
const NEAR: f64 = 0.9;
/// Full rounds of good answers before such a level is tried again, first and at most; twice as many each time that it
/// is too much once more.
const PATIENCE: (usize, usize) = (10, 80);

/// How many requests may be under way where somebody has set a number: fewer after the endpoint asked for less, and one
/// more for each full round of good answers.
#[derive(Debug)]
pub(crate) struct Fixed {
    limit: usize,
    level: usize,
    /// Good answers since the level last grew.
    good: usize,
    /// Answers since the level was last cut, those included that were put off then.
    since_cut: Option<usize>,
    /// Where there was no slot for one more.
    full: Option<Full>,
}

#[derive(Debug, Clone, Copy)]
struct Full {
    level: usize,
    /// Rounds that it is left alone.
    patience: usize,
}

impl Fixed {
    pub(crate) fn new(limit: usize) -> Fixed {
        Fixed {
            limit,
            level: limit,
            good: 0,
            since_cut: None,
            full: None,
        }
    }

    /// How many requests may be under way now.
    pub(crate) fn level(&self) -> usize {
        self.level
    }

    /// A running cut stays.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.level = match self.level == self.limit {
            true => limit,
            false => self.level.min(limit),
        };
        self.limit = limit;
    }

    /// A good answer to a request that was sent as things are now.
    pub(crate) fn good(&mut self) {
        self.answered();
        self.good += 1;
        let rounds = match self.full {
            Some(full) if self.level + 1 == full.level => full.patience,
            _ => 1,
        };
        if self.good < self.level.saturating_mul(rounds) {
            return;
        }
        self.good = 0;
        if self.full.is_some_and(|full| self.level >= full.level) {
            self.full = None;
        }
        self.level = (self.level + 1).min(self.limit);
    }

    /// An answer of any kind.
    pub(crate) fn answered(&mut self) {
        self.since_cut = self.since_cut.map(|answers| answers.saturating_add(1));
    }

    /// Whether it may be cut: once in a full round of answers, however many of them ask for it.
    pub(crate) fn is_due(&self) -> bool {
        self.since_cut.is_none_or(|answers| answers >= self.level)
    }

    /// There was no slot for one more with so many under way, of which so many are kept.
    pub(crate) fn was_full(&mut self, under_way: usize, kept: usize) {
        let level = under_way.max(1);
        let patience = match self.full {
            Some(before) if level as f64 >= NEAR * before.level as f64 => {
                (2 * before.patience).min(PATIENCE.1)
            }
            _ => PATIENCE.0,
        };
        self.full = Some(Full { level, patience });
        self.lower(kept);
    }

    /// So many at most from now on, until good answers let more.
    pub(crate) fn lower(&mut self, to: usize) {
        self.level = self.level.min(to).max(1);
        self.since_cut = Some(0);
        self.good = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(fixed: &mut Fixed, rounds: usize) {
        (0..rounds * fixed.level()).for_each(|_| fixed.good());
    }

    #[test]
    fn it_grows_by_one_for_a_full_round_and_is_cut_once_in_one() {
        let mut fixed = Fixed::new(20);
        assert!(fixed.is_due());
        fixed.lower(14);
        // Those that were put off count among the answers of a round.
        (0..13).for_each(|_| fixed.answered());
        assert!(!fixed.is_due());
        fixed.answered();
        assert!(fixed.is_due());
        rounds(&mut fixed, 1);
        assert_eq!(fixed.level(), 15);
        (0..1_000).for_each(|_| fixed.good());
        assert_eq!(fixed.level(), 20);
    }

    #[test]
    fn a_level_where_there_was_no_slot_is_left_alone_for_a_while_and_for_longer_the_next_time() {
        let mut fixed = Fixed::new(20);
        fixed.was_full(9, 6);
        rounds(&mut fixed, 1);
        rounds(&mut fixed, 1);
        assert_eq!(fixed.level(), 8);
        rounds(&mut fixed, PATIENCE.0 - 1);
        assert_eq!(fixed.level(), 8);
        rounds(&mut fixed, 1);
        assert_eq!(fixed.level(), 9);
        fixed.was_full(9, 8);
        rounds(&mut fixed, 2 * PATIENCE.0 - 1);
        assert_eq!(fixed.level(), 8);
        rounds(&mut fixed, 1);
        assert_eq!(fixed.level(), 9);
        // A round there that went well, and it is as any other.
        rounds(&mut fixed, 1);
        assert_eq!(fixed.level(), 10);
        fixed.lower(8);
        rounds(&mut fixed, 1);
        assert_eq!(fixed.level(), 9);
    }

    #[test]
    fn a_far_lower_level_that_is_full_is_not_waited_for_any_longer() {
        let mut fixed = Fixed::new(64);
        for level in [64, 44, 30, 3] {
            fixed.was_full(level, level - 1);
        }
        rounds(&mut fixed, PATIENCE.0);
        assert_eq!(fixed.level(), 3);
    }
}

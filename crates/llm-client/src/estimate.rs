use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Usage;
use crate::fit::Fit;
use crate::reply::with_margin;

/// Before this many answers have told what they cost, an answer counts as long as it may be.
const FIRST: u32 = 8;
/// The weight of one more answer, once there were enough.
const WEIGHT: f64 = 0.02;
/// An answer whose length nobody limits, before the first ones are known, is as long as this, ...
const UNKNOWN: f64 = 1024.0;
/// ... or so many times as long as the longest that is known.
const LONGER: f64 = 2.0;
/// How many standard deviations lie between what is expected and what is reserved.
const CAUTION: f64 = 3.0;

/// How many tokens a request will cost: learnt from what the endpoint counted, on the safe side.
#[derive(Debug, Default)]
pub(crate) struct Estimator(Mutex<Learnt>);

#[derive(Debug, Default)]
struct Learnt {
    /// Answers that said what they cost.
    told: u32,
    /// Answers of which that was guessed.
    guessed: u32,
    prompt: Fit,
    completion: Spread,
    /// Tokens of the longest answer, those included that did not say themselves how long they were.
    longest: Option<u64>,
    /// Requests whose tokens are reserved and not settled.
    open: u32,
}

impl Learnt {
    fn answers(&self) -> u32 {
        self.told.saturating_add(self.guessed)
    }
}

/// Mean and variance, in which the latest count most.
#[derive(Debug, Default)]
struct Spread {
    mean: f64,
    variance: f64,
}

impl Spread {
    fn learn(&mut self, value: f64, weight: f64) {
        let difference = value - self.mean;
        self.mean += weight * difference;
        self.variance = (1.0 - weight) * (self.variance + weight * difference * difference);
    }

    /// What `n` of them do not exceed on average.
    fn bound(&self, n: u32) -> f64 {
        self.mean + CAUTION * (self.variance / f64::from(n.max(1))).sqrt()
    }
}

impl Estimator {
    /// Tokens to reserve for a request, of whose prompt `guess` is a guess.
    pub(crate) fn tokens(&self, guess: u64, max_tokens: Option<u64>) -> u64 {
        let learnt = self.lock();
        let most = max_tokens.map_or(f64::INFINITY, |most| most as f64);
        if learnt.answers() < FIRST {
            let longest = learnt.longest.unwrap_or(0) as f64;
            let answer = max_tokens.map_or((LONGER * longest).max(UNKNOWN), |_| most);
            // A guess by letters is seldom wrong by more than this.
            return (guess as f64 * 1.3 + answer).ceil() as u64;
        }
        let prompt = match learnt.told {
            // Nobody says how good the guess is.
            0..FIRST => with_margin(guess) as f64,
            _ => learnt.prompt.bound(guess),
        };
        // Those that are under way together are seldom all long: what is reserved for all of them has to do.
        let completion = learnt.completion.bound(learnt.open + 1).min(most);
        (prompt + completion).ceil() as u64
    }

    /// Whether nobody can say how long an answer is: not even one is known, and nothing limits them.
    pub(crate) fn is_blank(&self, max_tokens: Option<u64>) -> bool {
        max_tokens.is_none() && self.lock().longest.is_none()
    }

    /// Whether too few answers have come to tell what one costs.
    pub(crate) fn is_learning(&self) -> bool {
        self.lock().answers() < FIRST
    }

    /// So long was an answer.
    pub(crate) fn answered(&self, completion_tokens: u64) {
        let mut learnt = self.lock();
        learnt.longest = learnt.longest.max(Some(completion_tokens));
    }

    pub(crate) fn opened(&self) {
        self.lock().open += 1;
    }

    /// A reservation is settled; by an answer, where there was one that was paid for.
    pub(crate) fn closed(&self, guess: u64, usage: Option<Usage>) {
        let mut learnt = self.lock();
        learnt.open = learnt.open.saturating_sub(1);
        let length = usage.map(|usage| usage.of_answer());
        learnt.longest = learnt.longest.max(length);
        let Some(usage) = usage else {
            return;
        };
        let completion = match usage.estimated {
            // Who is told better does not learn from a guess.
            true if learnt.told >= FIRST => return,
            true => {
                learnt.guessed = learnt.guessed.saturating_add(1);
                with_margin(usage.of_answer())
            }
            false => {
                learnt.told = learnt.told.saturating_add(1);
                learnt.prompt.learn(guess, usage.prompt_tokens);
                usage.of_answer()
            }
        };
        let weight = WEIGHT.max(1.0 / f64::from(learnt.answers()));
        learnt.completion.learn(completion as f64, weight);
    }

    fn lock(&self) -> MutexGuard<'_, Learnt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(prompt_tokens: u64, completion_tokens: u64) -> Option<Usage> {
        Some(Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            ..Usage::default()
        })
    }

    #[test]
    fn before_anything_is_known_an_answer_is_as_long_as_it_may_be() {
        let estimator = Estimator::default();
        assert_eq!(estimator.tokens(100, Some(5000)), 5130);
        assert_eq!(estimator.tokens(100, None), 1154);
    }

    #[test]
    fn before_enough_is_known_an_answer_whose_length_nobody_limits_is_twice_the_longest() {
        let estimator = Estimator::default();
        assert!(estimator.is_blank(None) && !estimator.is_blank(Some(10)));
        estimator.opened();
        estimator.closed(100, None);
        assert!(estimator.is_blank(None), "a failure says nothing of it");
        estimator.opened();
        estimator.closed(100, usage(100, 3_000));
        assert!(!estimator.is_blank(None));
        assert_eq!(estimator.tokens(100, None), 6_130);
        estimator.answered(10);
        assert_eq!(estimator.tokens(100, None), 6_130);
        assert_eq!(estimator.tokens(100, Some(500)), 630);
    }

    #[test]
    fn what_the_endpoint_counts_is_learnt() {
        let estimator = Estimator::default();
        for _ in 0..50 {
            estimator.opened();
            estimator.closed(100, usage(150, 200));
        }
        let expected = estimator.tokens(100, Some(5000));
        assert!((350..=360).contains(&expected), "{expected}");
        let most = estimator.tokens(100, Some(120));
        assert_eq!(most + 80, expected, "never more than may be");
    }

    #[test]
    fn a_long_prompt_among_short_ones_reserves_what_it_costs() {
        let estimator = Estimator::default();
        for n in 0..120 {
            let guess = if n % 12 == 11 { 3_000 } else { 2 };
            estimator.closed(guess, usage(guess + 8, 8));
        }
        let (short, long) = (estimator.tokens(2, None), estimator.tokens(3_000, None));
        assert!((18..=24).contains(&short), "{short}");
        assert!((3_016..=3_400).contains(&long), "{long}");
    }

    #[test]
    fn thoughts_that_only_the_sum_has_are_reserved_for() {
        let estimator = Estimator::default();
        let thinks = usage(10, 20).map(|usage| Usage {
            total_tokens: 530,
            ..usage
        });
        for _ in 0..50 {
            estimator.closed(10, thinks);
        }
        let tokens = estimator.tokens(10, Some(5000));
        assert!((530..=540).contains(&tokens), "{tokens}");
    }

    #[test]
    fn a_failure_teaches_nothing() {
        let estimator = Estimator::default();
        for _ in 0..50 {
            estimator.closed(100, None);
        }
        assert!(estimator.is_learning());
        assert_eq!(estimator.tokens(100, Some(5000)), 5130);
    }

    #[test]
    fn a_guess_teaches_with_a_margin_where_nobody_says_better() {
        let estimator = Estimator::default();
        let estimated = |prompt, completion| {
            let usage = usage(prompt, completion)?;
            Some(Usage {
                estimated: true,
                ..usage
            })
        };
        for _ in 0..50 {
            estimator.closed(100, estimated(100, 1_000));
        }
        assert!(!estimator.is_learning());
        assert_eq!(estimator.tokens(100, Some(5000)), 130 + 1_210);
        for _ in 0..1_000 {
            estimator.closed(100, usage(100, 10));
            estimator.closed(100, estimated(100, 9_000));
        }
        let told = estimator.tokens(100, Some(5000));
        assert!((110..=120).contains(&told), "{told}");
    }

    #[test]
    fn what_is_reserved_for_many_is_enough_for_them_and_not_much_more() {
        let mut luck = fastrand::Rng::with_seed(3);
        let mut length = move || -> u64 {
            let normal: f64 = (0..12).map(|_| luck.f64()).sum::<f64>() - 6.0;
            (200.0 * (0.5 * normal).exp()) as u64
        };
        let estimator = Estimator::default();
        for _ in 0..300 {
            estimator.closed(100, usage(120, length()));
        }
        let (mut short, mut reserved, mut spent) = (0, 0, 0);
        for _ in 0..200 {
            let together: u64 = (0..40)
                .map(|_| {
                    let tokens = estimator.tokens(100, Some(4000));
                    estimator.opened();
                    tokens
                })
                .sum();
            let actual: u64 = (0..40)
                .map(|_| {
                    let length = length();
                    estimator.closed(100, usage(120, length));
                    120 + length
                })
                .sum();
            short += u32::from(actual > together);
            reserved += together;
            spent += actual;
        }
        assert!(short <= 4, "{short} of 200 times it was too little");
        let share = spent as f64 / reserved as f64;
        assert!(share > 0.7, "{share}");
    }
}

/// The weight of what is known when one more answer is.
const KEPT: f64 = 0.98;
/// How far what an endpoint counts may be from a straight line: so many tokens, ...
const NOISE: f64 = 2.0;
/// ... and this part of the guess.
const NOISE_SHARE: f64 = 0.05;
/// What a request costs besides its text, before anything is known, and how sure that is.
const OVERHEAD: (f64, f64) = (8.0, 50.0);
/// What a guessed token comes to, before anything is known, and how sure that is.
const RATIO: (f64, f64) = (1.0, 0.2);
/// No token has less than one of the four bytes that make a guessed one.
const MOST_RATIO: f64 = 4.0;
/// An answer that is further from what was expected, squared, counts as if it were so far.
const SURPRISE: f64 = 9.0;
/// How many standard deviations lie between what is expected and what is reserved.
const CAUTION: f64 = 2.0;

/// What an endpoint counts of a prompt, as far as it follows from our guess: so much for any request, and so much for
/// each token of the guess. Both are needed, or what a short prompt costs besides its text would be multiplied onto a
/// long one.
///
/// The least squares of the answers so far, of which the latest count most. What one is used to stands beside them as
/// if it had been measured: where all prompts are alike nothing else tells the two numbers apart.
#[derive(Debug)]
pub(crate) struct Fit {
    /// Sums of the weights, of weighted guesses, their squares, what was counted, and the product of both.
    weights: f64,
    guesses: f64,
    squares: f64,
    counted: f64,
    products: f64,
    answers: u32,
    /// How far the answers were from the line, squared, with what was expected of them as the measure.
    scatter: f64,
}

impl Default for Fit {
    fn default() -> Fit {
        Fit {
            weights: 0.0,
            guesses: 0.0,
            squares: 0.0,
            counted: 0.0,
            products: 0.0,
            answers: 0,
            scatter: 1.0,
        }
    }
}

/// A straight line, and how well it is known.
struct Line {
    overhead: f64,
    ratio: f64,
    /// Variances of both, and what they have in common.
    of_overhead: f64,
    of_ratio: f64,
    of_both: f64,
}

impl Line {
    fn at(&self, guess: f64) -> f64 {
        self.overhead + self.ratio * guess
    }

    /// How well that is known, squared.
    fn variance(&self, guess: f64) -> f64 {
        let variance = self.of_overhead + guess * (2.0 * self.of_both + guess * self.of_ratio);
        variance.max(0.0)
    }
}

fn noise(guess: f64) -> f64 {
    NOISE + NOISE_SHARE * guess
}

impl Fit {
    /// The endpoint counted so much where the guess was this.
    pub(crate) fn learn(&mut self, guess: u64, counted: u64) {
        let (guess, mut counted) = (guess as f64, counted as f64);
        let line = self.line();
        let expected = line.at(guess);
        // What one answer says is not always true; what several say is believed step by step.
        if self.answers > 1 {
            let far = expected + 4.0 * noise(guess);
            counted = counted.clamp((expected - far).max(0.0), expected + far);
        }
        self.answers = self.answers.saturating_add(1);
        // How far it is from what could be known; a surprise is one, and no reason to expect it for ever.
        let error = (counted - expected).powi(2) / (noise(guess).powi(2) + line.variance(guess));
        let weight = (1.0 - KEPT).max(1.0 / f64::from(self.answers.saturating_add(1)));
        self.scatter += weight * (error.min(SURPRISE) - self.scatter);
        let weight = noise(guess).powi(-2);
        for (sum, more) in [
            (&mut self.weights, weight),
            (&mut self.guesses, weight * guess),
            (&mut self.squares, weight * guess * guess),
            (&mut self.counted, weight * counted),
            (&mut self.products, weight * guess * counted),
        ] {
            *sum = KEPT * *sum + more;
        }
    }

    /// What such a prompt comes to.
    #[cfg(test)]
    pub(crate) fn expected(&self, guess: u64) -> f64 {
        self.line().at(guess as f64)
    }

    /// What such a prompt seldom exceeds.
    pub(crate) fn bound(&self, guess: u64) -> f64 {
        let line = self.line();
        let guess = guess as f64;
        let variance = self.scatter * noise(guess).powi(2) + line.variance(guess);
        line.at(guess) + CAUTION * variance.sqrt()
    }

    fn line(&self) -> Line {
        let [before_overhead, before_ratio] = [OVERHEAD, RATIO].map(|(_, sure)| sure.powi(-2));
        let (first, mixed) = (self.weights + before_overhead, self.guesses);
        let second = self.squares + before_ratio;
        let of_first = self.counted + before_overhead * OVERHEAD.0;
        let of_second = self.products + before_ratio * RATIO.0;
        // Above zero whatever was learnt: the product of what was known before is in it.
        let all = first * second - mixed * mixed;
        let mut overhead = (of_first * second - of_second * mixed) / all;
        let mut ratio = (of_second * first - of_first * mixed) / all;
        if overhead < 0.0 {
            overhead = 0.0;
            ratio = of_second / second;
        } else if !(0.0..=MOST_RATIO).contains(&ratio) {
            ratio = ratio.clamp(0.0, MOST_RATIO);
            overhead = ((of_first - ratio * mixed) / first).max(0.0);
        }
        Line {
            overhead,
            ratio: ratio.clamp(0.0, MOST_RATIO),
            of_overhead: second / all,
            of_ratio: first / all,
            of_both: -mixed / all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learnt(of: impl IntoIterator<Item = (u64, u64)>) -> Fit {
        let mut fit = Fit::default();
        of.into_iter()
            .for_each(|(guess, counted)| fit.learn(guess, counted));
        fit
    }

    #[track_caller]
    fn near(fit: &Fit, guess: u64, counted: f64, part: f64) {
        let expected = fit.expected(guess);
        assert!(
            (expected - counted).abs() <= part * counted,
            "{expected} for {guess}, of which {counted} are counted: {fit:?}"
        );
    }

    #[test]
    fn what_short_prompts_cost_besides_their_text_is_not_multiplied_onto_long_ones() {
        for overhead in [8, 30, 200] {
            let fit = learnt((0..40).map(|n| (2 + n % 3, 2 + n % 3 + overhead)));
            near(&fit, 3, 3.0 + overhead as f64, 0.05);
            near(&fit, 6_000, 6_000.0, 0.15);
            assert!(fit.bound(6_000) < 9_500.0, "{}", fit.bound(6_000));
        }
    }

    #[test]
    fn sizes_that_are_mixed_tell_both_numbers_apart() {
        for (overhead, ratio) in [(0, 0.6), (8, 1.0), (300, 1.8), (10, 3.0)] {
            let counted = |guess: u64| overhead + (ratio * guess as f64) as u64;
            let sizes = (0..120).map(|n| if n % 12 == 11 { 3_000 } else { 10 + n % 5 });
            let fit = learnt(sizes.map(|guess| (guess, counted(guess))));
            for guess in [10, 100, 3_000, 6_000] {
                let error = (fit.expected(guess) - counted(guess) as f64).abs();
                assert!(
                    error < 8.0 + 0.03 * counted(guess) as f64,
                    "{guess}: {error}"
                );
            }
            let (bound, counted) = (fit.bound(3_000), counted(3_000) as f64);
            assert!(
                (counted..1.15 * counted).contains(&bound),
                "{bound} of {counted}"
            );
        }
    }

    #[test]
    fn prompts_that_are_all_alike_are_told_exactly() {
        for (guess, counted) in [(1, 9), (100, 150), (10_000, 18_000), (2_000, 700), (0, 40)] {
            let fit = learnt(std::iter::repeat_n((guess, counted), 100));
            near(&fit, guess, counted as f64, 0.02);
            assert!(
                fit.bound(guess) < 1.1 * counted as f64 + 3.0,
                "{}",
                fit.bound(guess)
            );
        }
    }

    #[test]
    fn sizes_that_nobody_has_seen_are_reserved_with_more_room() {
        let bound = Fit::default().bound(1_000);
        assert!(bound > 1_300.0, "{bound}");
        let short = learnt((0..40).map(|n| (2 + n % 3, 10 + n % 3)));
        let seen = learnt((0..40).map(|n| (6_000 + n, 6_008 + n)));
        let (unsure, sure) = (short.bound(6_000), seen.bound(6_000));
        assert!(unsure > 7_200.0 && sure < 6_700.0, "{unsure} and {sure}");
    }

    #[test]
    fn nothing_is_ever_below_zero_or_without_end() {
        let mut luck = fastrand::Rng::with_seed(7);
        for _ in 0..300 {
            let mut fit = Fit::default();
            for _ in 0..luck.u32(0..60) {
                let [guess, counted] = [0; 2].map(|_: u64| luck.u64(..) >> luck.u32(20..64));
                fit.learn(guess, counted);
                for guess in [0, 1, 1_000, 1 << 40] {
                    let (expected, bound) = (fit.expected(guess), fit.bound(guess));
                    assert!(
                        expected >= 0.0 && bound >= expected && bound.is_finite(),
                        "{fit:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn one_wild_number_is_not_believed_and_a_new_measure_is() {
        let mut fit = learnt((0..50).map(|n| (100 + n, 110 + n)));
        fit.learn(100, 1 << 40);
        assert!(fit.expected(100) < 150.0, "{}", fit.expected(100));
        assert!(fit.bound(100) < 140.0, "{}", fit.bound(100));
        for _ in 0..150 {
            fit.learn(100, 400);
        }
        near(&fit, 100, 400.0, 0.1);
    }
}

//! For which stretch of time an announced limit is: no endpoint says it, and only several answers tell.

use std::time::Duration;

use crate::announced::Announced;
use crate::ledger::{DAY, MINUTE, Micros, SECOND, Unit};

const HOUR: Micros = 60 * MINUTE;

/// So many answers, one after another, have to agree.
const AGREE: u32 = 3;

/// What the answers so far tell about the windows of an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    requests: Window,
    tokens: Window,
}

/// The window of one limit.
///
/// It is a minute until answers say something else, because that is what most are and a limit that is thought to be
/// for a minute holds nobody up for longer. Two things say something else:
///
/// - Where a limit fills up steadily, the time until it is full is in proportion to what is used. One answer shows
///   nothing: in a window that begins anew at fixed times both numbers may be anything. There the time only falls while
///   the use rises, though, so proportion that outlasts a doubling of the use is no accident.
/// - No window is shorter than the time until it is full or begins anew.
#[derive(Debug)]
struct Window {
    guess: Micros,
    /// Where the proportion has told it.
    steady: bool,
    /// The window that the last answers fit by proportion.
    fit: Option<Proportion>,
    /// Answers in a row that do not fit a window which was told by proportion.
    misfits: u32,
    /// The shortest window that is long enough, as the last answers say, and how many of them.
    enough: (Micros, u32),
    /// When the window begins anew, as the last answer that took it to be as long as the guess said.
    ends: Micros,
}

#[derive(Debug, Clone, Copy)]
struct Proportion {
    window: Micros,
    answers: u32,
    least: u64,
    most: u64,
}

impl Default for Window {
    fn default() -> Window {
        Window {
            guess: MINUTE,
            steady: false,
            fit: None,
            misfits: 0,
            enough: (MINUTE, 0),
            ends: 0,
        }
    }
}

impl Windows {
    /// Looks at what one answer says, and tells the window as it seems to be now.
    pub(crate) fn hear(&mut self, said: &Announced, now: Micros) -> Micros {
        let window = match said.unit {
            Unit::Requests => &mut self.requests,
            Unit::Tokens => &mut self.tokens,
        };
        if let Some(reset) = said.reset {
            window.hear(said, reset, now);
        }
        window.guess
    }
}

impl Window {
    fn hear(&mut self, said: &Announced, reset: Duration, now: Micros) {
        let used = said.used();
        let reset = u64::try_from(reset.as_micros()).unwrap_or(u64::MAX);
        if used > 0 {
            let whole = reset as f64 * said.amount as f64 / used as f64;
            self.fit(whole, used);
        }
        if let Some(fit) = self.fit.filter(Proportion::is_no_accident) {
            (self.guess, self.steady, self.misfits) = (fit.window, true, 0);
        }
        if !self.steady {
            self.is_long_enough(reset, now);
        }
    }

    /// `whole`: how long all of it would take to be free again, if that is steady.
    fn fit(&mut self, whole: f64, used: u64) {
        let near = |window: &Micros| (0.8..1.25).contains(&(whole / *window as f64));
        let window = [SECOND, MINUTE, HOUR, DAY].into_iter().find(near);
        self.fit = window.map(|window| match self.fit {
            Some(fit) if fit.window == window => Proportion {
                answers: fit.answers.saturating_add(1),
                least: fit.least.min(used),
                most: fit.most.max(used),
                ..fit
            },
            _ => Proportion {
                window,
                answers: 1,
                least: used,
                most: used,
            },
        });
        // Little use is rounded too much to say anything against it.
        let is_misfit = used > 4 && !(0.5..2.0).contains(&(whole / self.guess as f64));
        self.misfits = if is_misfit { self.misfits + 1 } else { 0 };
        if self.misfits >= AGREE {
            self.steady = false;
        }
    }

    fn is_long_enough(&mut self, reset: Micros, now: Micros) {
        // Clocks and roundings differ.
        let is_enough = |window: &Micros| reset <= *window + *window / 20;
        let window = [MINUTE, HOUR].into_iter().find(is_enough).unwrap_or(DAY);
        // Towards its end a long window says as little as a short one.
        let runs_out = now.saturating_add(reset).abs_diff(self.ends) <= self.guess / 20;
        if window == self.guess || window < self.guess && runs_out {
            self.enough.1 = 0;
            if window == self.guess {
                self.ends = now.saturating_add(reset);
            }
            return;
        }
        self.enough = match self.enough {
            (last, answers) if last == window && answers > 0 => (window, answers + 1),
            _ => (window, 1),
        };
        if self.enough.1 >= AGREE {
            (self.guess, self.ends) = (window, now.saturating_add(reset));
            self.enough.1 = 0;
        }
    }
}

impl Proportion {
    fn is_no_accident(&self) -> bool {
        self.answers >= AGREE && self.most >= 2 * self.least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(amount: u64, used: u64, reset: Micros) -> Announced {
        Announced {
            unit: Unit::Requests,
            amount,
            remaining: Some(amount - used),
            reset: Some(Duration::from_micros(reset)),
        }
    }

    /// All guesses while an endpoint with a window that begins anew at fixed times answers so many requests.
    fn fixed(amount: u64, window: Micros, begun: Micros, apart: Micros, count: u64) -> Vec<Micros> {
        let (mut windows, mut used, mut last) = (Windows::default(), 0, 0);
        let mut guesses: Vec<Micros> = (0..count)
            .map(|n| {
                let now = begun + n * apart;
                if now / window != last {
                    (last, used) = (now / window, 0);
                }
                used = (used + 1).min(amount);
                // As most do, in whole seconds.
                let reset = (window - now % window).div_ceil(SECOND) * SECOND;
                windows.hear(&said(amount, used, reset), now)
            })
            .collect();
        guesses.dedup();
        guesses
    }

    #[test]
    fn a_minute_that_begins_at_fixed_times_is_never_taken_for_anything_else() {
        for amount in [6, 10, 60, 100, 600, 1_000, 6_000, 60_000, 600_000] {
            for begun in [0, 8, 30, 52, 59] {
                for apart in [MINUTE / amount, 2 * MINUTE / amount, 50_000] {
                    let count = (5 * MINUTE / apart).min(20_000);
                    let guesses = fixed(amount, MINUTE, begun * SECOND, apart, count);
                    assert_eq!(
                        guesses,
                        [MINUTE],
                        "{amount} a minute, begun {begun} s before, {apart} us apart"
                    );
                }
            }
        }
    }

    #[test]
    fn an_hour_that_begins_at_fixed_times_stays_one_to_its_end() {
        let guesses = fixed(1_000, HOUR, 0, 3_600_000, 3_000);
        assert_eq!(guesses, [MINUTE, HOUR]);
        let guesses = fixed(1_000, DAY, 0, 86_400_000, 2_500);
        assert_eq!(guesses, [MINUTE, DAY]);
    }

    /// The guess after so many requests of an endpoint whose limit fills up steadily.
    fn steady(
        windows: &mut Windows,
        amount: u64,
        window: Micros,
        from: Micros,
        count: u64,
    ) -> Micros {
        let (mut used, mut guess) = (0.0_f64, 0);
        let apart = window / amount / 3;
        for n in 0..count {
            used = (used - apart as f64 * amount as f64 / window as f64).max(0.0) + 1.0;
            let reset = (used / amount as f64 * window as f64) as u64;
            guess = windows.hear(&said(amount, used.ceil() as u64, reset), from + n * apart);
        }
        guess
    }

    #[test]
    fn a_limit_that_fills_up_steadily_is_known_by_its_proportion() {
        for (amount, window) in [(14_400, DAY), (1_000, HOUR), (500, MINUTE), (600, SECOND)] {
            let guess = steady(&mut Windows::default(), amount, window, 0, 40);
            assert_eq!(guess, window, "{amount} in {window}");
        }
    }

    #[test]
    fn the_latest_guess_replaces_the_earlier_one() {
        let mut windows = Windows::default();
        assert_eq!(steady(&mut windows, 14_400, DAY, 0, 40), DAY);
        assert_eq!(steady(&mut windows, 500, MINUTE, HOUR, 40), MINUTE);
        // A time that is too long, said once or twice, is a slip.
        let slip = said(500, 3, HOUR);
        windows.hear(&slip, 2 * HOUR);
        assert_eq!(windows.hear(&slip, 2 * HOUR), MINUTE);
        let mut windows = Windows::default();
        for n in 0..3 {
            windows.hear(&said(60, 3, 50 * MINUTE), n);
        }
        assert_eq!(windows.hear(&said(60, 3, 50 * MINUTE), 3), HOUR);
        for n in 0..3 {
            windows.hear(&said(60, 3, 20 * SECOND), SECOND * n);
        }
        assert_eq!(windows.hear(&said(60, 3, 20 * SECOND), 4 * SECOND), MINUTE);
    }

    #[test]
    fn without_a_time_it_is_a_minute() {
        let mut windows = Windows::default();
        let said = Announced {
            reset: None,
            ..said(60, 1, 0)
        };
        assert_eq!(windows.hear(&said, 0), MINUTE);
    }
}

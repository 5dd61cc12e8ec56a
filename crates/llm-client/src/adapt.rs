use std::f64::consts::SQRT_2;
use std::time::Duration;

use tokio::time::Instant;

use crate::round::{Gain, Round};

/// Requests at the same time while nothing is known.
const START: usize = 8;
/// The step while throughput grows with the level.
const STRIDE: f64 = 2.0;
/// The step while the best level is near.
const STEP: f64 = SQRT_2;
/// A step up is taken where throughput gains so much of what it could gain at best, in logarithms ...
const WORTH: f64 = 0.15;
/// ... and a step down where it costs less than so much. Between the two nothing is done.
const CHEAP: f64 = 0.07;
/// Standard errors by which a comparison must be clear.
const CLEAR: f64 = 1.5;
/// Standard errors, and the least difference, by which the endpoint counts as another than before.
const CHANGED: (f64, f64) = (3.0, 0.15);
/// Requests that a round has at least, and those after which a comparison is decided as it stands.
const REQUESTS: (usize, usize) = (16, 256);
/// A shorter round says more about our own machine than about the endpoint.
const SHORTEST: f64 = 0.5;
/// Where fewer of the slots are used, something else is in the way: the rate limit, rows, the disk.
const FULL: f64 = 0.85;
/// What trying other levels may cost of the throughput.
const COST: f64 = 0.02;
/// The same trial comes again after so many latencies at the earliest, and after this time at the latest.
const AGAIN: (u32, Duration) = (8, Duration::from_secs(600));
/// How near to such a level it goes, and how far beyond once that is forgiven.
const BELOW: f64 = 0.9;
const BEYOND: f64 = 1.1;
/// For how long it stays below, first and at most; twice as long each time it is pushed back there again.
const AVOIDED: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(3600));

/// Finds out how many requests at the same time (the *level*) an endpoint is worth.
///
/// It climbs: it compares the throughput of a level with that of the next, doubles the level while that pays, and
/// then tries in small steps, up and down, now and then, because endpoints change. A server that works on what it
/// has in batches gives the more the more it has, up to a point; from there on it only grows slow, and nothing but
/// throughput shows that point, for latency grows before it too. A comparison lasts until it is clear, however
/// much the answers vary. A step down is compared with rounds before and after it, so that a slow moment in one of
/// them proves nothing. What trials cost is made up for by time without any.
///
/// It draws no lots and reads no clock: the same events give the same levels.
#[derive(Debug)]
pub(crate) struct Adapt {
    max: usize,
    level: usize,
    /// The level to which a trial that does not pay returns.
    home: usize,
    stage: Stage,
    /// What is known of `home`.
    base: Option<Round>,
    step: f64,
    round: Round,
    /// Requests that began at another level, more or less: they are not looked at.
    to_skip: usize,
    under_way: usize,
    last_event: Option<Instant>,
    trial_began: Option<Instant>,
    /// Before these times there is no trial in that direction.
    up_from: Option<Instant>,
    down_from: Option<Instant>,
    avoided: Option<Avoided>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Home,
    Up,
    Down,
    /// Home again, to compare it with a lower level that did as well.
    Back {
        lower: usize,
        there: Round,
    },
}

/// A level that the endpoint pushed back.
#[derive(Debug, Clone, Copy)]
struct Avoided {
    level: usize,
    until: Instant,
    for_so_long: Duration,
}

impl Adapt {
    /// Up to so many; it begins with a level that was good until now, where there is one.
    pub(crate) fn new(max: usize, level: Option<usize>) -> Adapt {
        let level = level.unwrap_or(START).clamp(1, max);
        Adapt {
            max,
            level,
            home: level,
            stage: Stage::Home,
            base: None,
            step: STRIDE,
            round: Round::default(),
            to_skip: 0,
            under_way: 0,
            last_event: None,
            trial_began: None,
            up_from: None,
            down_from: None,
            avoided: None,
        }
    }

    /// How many requests may be under way now.
    pub(crate) fn level(&self) -> usize {
        self.level
    }

    /// The same without the trial that may be on.
    pub(crate) fn settled(&self) -> usize {
        self.home
    }

    pub(crate) fn set_max(&mut self, max: usize) {
        self.max = max;
        if self.level.max(self.home) > max {
            self.go_home(self.home.min(max));
        }
    }

    /// A request leaves.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.pass(now);
        self.under_way += 1;
    }

    /// A request has ended; `tokens` are those of a good answer.
    pub(crate) fn ended(&mut self, now: Instant, began: Instant, tokens: Option<u64>) {
        self.pass(now);
        self.under_way -= 1;
        if self.to_skip > 0 {
            self.to_skip -= 1;
            return;
        }
        self.round.ended(now - began, tokens);
        let requests = self.round.requests as usize;
        let whole = requests.is_multiple_of(self.level) && requests >= REQUESTS.0;
        if whole && self.round.time >= SHORTEST {
            self.look(now);
        }
    }

    /// The endpoint pushed back with so many under way, of which so many are to be kept.
    pub(crate) fn pushed_back(&mut self, now: Instant, under_way: usize, kept: usize) {
        let level = under_way.min(self.level).max(1);
        let for_so_long = match self.avoided {
            Some(before) if level as f64 >= BELOW * before.level as f64 => {
                (before.for_so_long * 2).min(AVOIDED.1)
            }
            _ => AVOIDED.0,
        };
        self.avoided = Some(Avoided {
            level,
            until: now + for_so_long,
            for_so_long,
        });
        self.base = None;
        self.go_home(kept.min(self.level).max(1));
        self.up_from = None;
    }

    /// Requests were held up, or are, by something that has nothing to do with how many there are: a pause that
    /// somebody asked for, a server that is away.
    pub(crate) fn interrupted(&mut self) {
        self.go_home(self.home);
    }

    fn pass(&mut self, now: Instant) {
        if let Some(last) = self.last_event.replace(now)
            && self.to_skip == 0
        {
            self.round.passed(self.under_way, now - last);
        }
    }

    /// A round is whole: what does it say?
    fn look(&mut self, now: Instant) {
        match self.stage {
            Stage::Home => self.at_home(now),
            Stage::Up => self.above(now),
            Stage::Down => self.below(now),
            Stage::Back { lower, there } => self.back(now, lower, &there),
        }
    }

    fn at_home(&mut self, now: Instant) {
        let round = std::mem::take(&mut self.round);
        if round.under_way() < FULL * self.home as f64 {
            self.base = None;
            return;
        }
        let known = match &self.base {
            None => round,
            Some(base) => {
                let Gain { gain, error } = round.gain_over(base);
                if gain.abs() < CHANGED.1.max(CHANGED.0 * error) {
                    round.after(base)
                } else {
                    let due = match gain > 0.0 {
                        true => &mut self.up_from,
                        false => &mut self.down_from,
                    };
                    *due = None;
                    round
                }
            }
        };
        self.base = Some(known);
        let due = |from: Option<Instant>| from.is_none_or(|from| from <= now);
        let up = self.higher(now).filter(|_| due(self.up_from));
        let down = self.lower().filter(|_| due(self.down_from));
        match (up, down) {
            (Some(_), Some(down)) if self.down_from < self.up_from => {
                self.try_level(now, Stage::Down, down)
            }
            (Some(up), _) => self.try_level(now, Stage::Up, up),
            (None, Some(down)) => self.try_level(now, Stage::Down, down),
            (None, None) => {}
        }
    }

    /// The next level up that is worth a trial.
    fn higher(&self, now: Instant) -> Option<usize> {
        let home = self.home as f64;
        let top = match &self.avoided {
            Some(avoided) if now < avoided.until => avoided.level as f64 * BELOW,
            Some(avoided) => (avoided.level as f64 * BEYOND).max(home * BEYOND),
            None => f64::INFINITY,
        };
        let top = top.min(self.max as f64);
        let next = (home * self.step).round().max(home + 1.0).min(top);
        // What is nearly the same cannot be told apart.
        (next >= home * 1.06).then_some(next as usize)
    }

    fn lower(&self) -> Option<usize> {
        let next = (self.home as f64 / STEP) as usize;
        (next >= 1).then_some(next)
    }

    fn above(&mut self, now: Instant) {
        let Some(base) = &self.base else {
            return self.go_home(self.home);
        };
        let measured = self.round.gain_over(base);
        let size = (self.level as f64 / self.home as f64).ln();
        let Some(pays) = self.is_more(measured, WORTH * size) else {
            return;
        };
        let lost = 1.0 - measured.gain.exp();
        if !pays {
            self.go_home(self.home);
            self.up_from = match self.step == STRIDE {
                // The best level may be between the two.
                true => None,
                false => Some(self.not_before(now, lost)),
            };
            self.step = STEP;
            return;
        }
        // The level that was left is known to give less: no trial there for a while.
        self.down_from = Some(self.not_before(now, 1.0 - (-measured.gain).exp()));
        self.up_from = None;
        self.step = if measured.gain > size / 2.0 {
            STRIDE
        } else {
            STEP
        };
        if self
            .avoided
            .is_some_and(|avoided| self.level > avoided.level && avoided.until <= now)
        {
            self.avoided = None;
        }
        self.home = self.level;
        self.stage = Stage::Home;
        self.base = None;
        self.at_home(now);
    }

    fn below(&mut self, now: Instant) {
        let Some(base) = &self.base else {
            return self.go_home(self.home);
        };
        let measured = self.round.gain_over(base);
        let size = (self.home as f64 / self.level as f64).ln();
        match self.is_more(measured, -CHEAP * size) {
            None => {}
            Some(false) => {
                self.down_from = Some(self.not_before(now, 1.0 - measured.gain.exp()));
                self.go_home(self.home);
            }
            Some(true) => {
                let (lower, there) = (self.level, self.round);
                self.go_home(self.home);
                self.stage = Stage::Back { lower, there };
            }
        }
    }

    fn back(&mut self, now: Instant, lower: usize, there: &Round) {
        if self.round.under_way() < FULL * self.home as f64 {
            self.stage = Stage::Home;
            return self.at_home(now);
        }
        let measured = there.gain_over(&self.round);
        let size = (self.home as f64 / lower as f64).ln();
        match self.is_more(measured, -CHEAP * size) {
            None => {}
            Some(true) => {
                self.base = Some(*there);
                self.up_from = Some(self.not_before(now, 1.0 - (-measured.gain).exp()));
                self.down_from = None;
                self.go_home(lower);
            }
            Some(false) => {
                self.down_from = Some(self.not_before(now, 1.0 - measured.gain.exp()));
                self.stage = Stage::Home;
                self.base = None;
                self.at_home(now);
            }
        }
    }

    /// Whether there is more than that; `None`: this needs more answers. What stays in doubt on the way up is
    /// not taken: a level too many gains nothing, and waits for longer.
    fn is_more(&self, Gain { gain, error }: Gain, than: f64) -> Option<bool> {
        if (gain - than).abs() >= CLEAR * error {
            return Some(gain > than);
        }
        let enough = REQUESTS.1.max(4 * self.level) as f64;
        let doubt = match self.stage {
            Stage::Up => error,
            _ => 0.0,
        };
        (self.round.requests >= enough).then_some(gain - doubt > than)
    }

    /// When a trial that lost this share of the throughput may come again, so that trials cost little in all.
    fn not_before(&self, now: Instant, lost: f64) -> Instant {
        let took = self.trial_began.map_or(Duration::ZERO, |began| now - began);
        let least = self.round.latency() * AGAIN.0;
        let paid_off = took.mul_f64(lost.clamp(0.0, 1.0) / COST);
        now + paid_off.max(least).min(AGAIN.1)
    }

    fn try_level(&mut self, now: Instant, stage: Stage, level: usize) {
        self.trial_began = Some(now);
        self.stage = stage;
        self.change_to(level);
    }

    fn go_home(&mut self, home: usize) {
        self.home = home;
        self.stage = Stage::Home;
        self.change_to(home);
    }

    fn change_to(&mut self, level: usize) {
        self.level = level;
        // Those under way began at another level. On the way down the long ones are left, and nobody comes in
        // until it is reached.
        self.to_skip = level.max(self.under_way);
        self.to_skip += self.to_skip / 4;
        self.round = Round::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An endpoint on which every answer takes a second, whose requests all begin and end together.
    struct Bursts {
        adapt: Adapt,
        now: Instant,
    }

    impl Bursts {
        fn new(max: usize) -> Bursts {
            Bursts {
                adapt: Adapt::new(max, None),
                now: Instant::now(),
            }
        }

        /// As many requests at once as are allowed, for so many seconds.
        fn one(&mut self, seconds: u64) {
            let (began, level) = (self.now, self.adapt.level());
            (0..level).for_each(|_| self.adapt.sent(began));
            self.now += Duration::from_secs(seconds);
            (0..level).for_each(|_| self.adapt.ended(self.now, began, Some(10)));
        }

        fn many(&mut self, bursts: usize) {
            (0..bursts).for_each(|_| self.one(1));
        }

        fn until_above(&mut self, level: usize) {
            for _ in 0..1_000 {
                if self.adapt.level() > level {
                    return;
                }
                self.one(1);
            }
            panic!("it never comes above {level}");
        }
    }

    #[test]
    fn it_doubles_while_that_pays_and_ends_at_the_most() {
        let mut bursts = Bursts::new(100);
        let mut levels = vec![bursts.adapt.level()];
        for _ in 0..30 {
            bursts.one(1);
            levels.push(bursts.adapt.level());
        }
        levels.dedup();
        assert_eq!(levels, [8, 16, 32, 64, 100]);
    }

    #[test]
    fn a_slow_moment_proves_nothing() {
        let mut bursts = Bursts::new(64);
        bursts.many(40);
        assert_eq!(bursts.adapt.settled(), 64);
        for _ in 0..5 {
            bursts.one(30);
            for _ in 0..15 {
                bursts.one(1);
                assert_eq!(bursts.adapt.settled(), 64);
            }
        }
    }

    #[test]
    fn it_stays_below_a_level_that_was_pushed_back_until_that_is_forgiven() {
        let mut bursts = Bursts::new(1000);
        bursts.many(14);
        assert!(bursts.adapt.level() >= 64);
        bursts.adapt.pushed_back(bursts.now, 50, 35);
        assert_eq!(bursts.adapt.level(), 35);
        let mut levels = Vec::new();
        for _ in 0..110 {
            bursts.one(1);
            levels.push(bursts.adapt.level());
        }
        assert_eq!(levels.iter().max(), Some(&45));
        // A little above it first, and twice as long a wait when that is pushed back too.
        bursts.until_above(45);
        assert_eq!(bursts.adapt.level(), 55);
        bursts.adapt.pushed_back(bursts.now, 55, 38);
        let again = bursts.now;
        bursts.until_above(55);
        let after = bursts.now - again;
        assert!(after >= 2 * AVOIDED.0, "{after:?}");
    }

    #[test]
    fn time_in_which_something_else_held_them_up_does_not_count() {
        let mut bursts = Bursts::new(64);
        bursts.until_above(8);
        // What began at another level is over; now a round of the trial is on.
        bursts.many(2);
        bursts.adapt.interrupted();
        bursts.now += Duration::from_secs(1000);
        bursts.adapt.interrupted();
        let mut levels = vec![bursts.adapt.level()];
        for _ in 0..30 {
            bursts.one(1);
            levels.push(bursts.adapt.level());
        }
        levels.dedup();
        assert_eq!(levels, [8, 16, 32, 64]);
    }

    #[test]
    fn one_request_at_a_time_is_the_least() {
        let mut bursts = Bursts::new(1);
        bursts.many(50);
        bursts.adapt.pushed_back(bursts.now, 1, 1);
        bursts.many(50);
        assert_eq!(bursts.adapt.level(), 1);
    }
}

//! How far apart requests leave where an endpoint allows less than it was thought to.

use std::time::Duration;

use crate::ledger::{MINUTE, Micros};
use crate::minute::Minute;

/// It gets no lower than this share of the rate, and by one refusal no lower than this part of what it was.
const LEAST: f64 = 0.01;
const LEAST_AT_ONCE: f64 = 0.25;
/// What is used of a limit that was met.
const BELOW: f64 = 0.92;
/// Whoever is refused with so much of it used has met it.
const EDGE: f64 = 0.95;
/// So far above the limit that was met it grows slowly, by so much a minute; then by twice that, and twice that again
/// after each half a minute, because nobody is there any more.
const BEYOND: f64 = 1.05;
const GROWS: f64 = 0.08;
const FASTER_AFTER: f64 = 0.5;
const FASTEST: f64 = 2.0;
/// The weight of what is known of refusals when one more request leaves.
const KEPT: f64 = 0.99;
/// So many refusals one after another, each after the pause that the one before asked for, are no accident ...
const IN_A_ROW: u32 = 3;
/// ... or so many more that it would happen so seldom, ...
const ACCIDENT: f64 = 0.005;
/// ... and more again where it was one before, up to this.
const MOST_STRIKES: u32 = 5;
/// Refusals that are no more than this share of the requests, or so few, slow nothing.
const TOLERATED: f64 = 0.08;
const FEW: f64 = 3.2;
/// Where slower requests were refused as often, that is not tried again for so long; twice that the next time, up to
/// eight times.
const TRIED: Micros = 2 * MINUTE;
const LONGEST_TRIED: Micros = 16 * MINUTE;

/// The share of the configured rate that is used, where an endpoint allows less than it was thought to.
///
/// A refusal may have many reasons, and to slow down is worth something only where slower requests are refused less.
/// Two things show a limit that is lower than what is configured:
///
/// - The request after the pause is refused too, and the one after the next pause. Then what was let through in the
///   minute before is taken for the limit, and requests leave a little more slowly than that.
/// - Many are refused, one here and one there. Then requests leave more slowly for a trial: where as many are refused
///   all the same, the reason is another one, and they leave as before.
///
/// Requests come closer to each other again as time goes by, slowly up to where they were refused, and then faster and
/// faster. Whoever is refused well below that was not refused because of it, and it is forgotten.
#[derive(Debug)]
pub(crate) struct Pace {
    share: f64,
    /// From when on it grows.
    since: Micros,
    minute: Minute,
    /// Requests and refusals, of which the latest count most.
    requests: f64,
    refusals: f64,
    /// The last refusal that came as a surprise, what was let through in the minute before it, and how many there were
    /// in a row since then.
    pushed: Micros,
    used: f64,
    in_a_row: u32,
    known: Known,
    strikes: u32,
    /// The share of refusals that a slower rate did not help against, until when, and for how long that holds.
    noise: f64,
    noise_until: Micros,
    tried: Micros,
    /// What was told last.
    told: f64,
}

#[derive(Debug)]
enum Known {
    Nothing,
    /// It was refused with so much of a minute used.
    Limit {
        limit: f64,
        /// The share before that.
        before: f64,
        /// Refusals that another reason must have had.
        others: u32,
    },
    /// Whether slower requests are refused less.
    Trial {
        before: f64,
        used: f64,
        /// Of the requests before, so many were refused.
        refused: f64,
        requests: f64,
        refusals: f64,
    },
}

/// What kind of refusal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Push {
    /// Everybody was let through before.
    First,
    /// Again, after the pause.
    Again,
    /// It left before another one was refused.
    Behind,
}

/// The endpoint allows less than it was thought to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Slowed {
    /// Of the configured rate, from 0 to 1.
    pub(crate) share: f64,
    /// Until now it was all of it, or twice as much.
    pub(crate) is_news: bool,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            share: 1.0,
            since: 0,
            minute: Minute::default(),
            requests: 0.0,
            refusals: 0.0,
            pushed: 0,
            used: 0.0,
            in_a_row: 0,
            known: Known::Nothing,
            strikes: 0,
            noise: 0.0,
            noise_until: 0,
            tried: TRIED,
            told: 1.0,
        }
    }
}

impl Pace {
    /// A request leaves that takes so much time where all are as far apart as the limits say.
    pub(crate) fn sent(&mut self, now: Micros, space: Micros) {
        self.minute.sent(now, space);
        self.requests = self.requests * KEPT + 1.0;
        self.refusals *= KEPT;
        if let Known::Trial { requests, .. } = &mut self.known {
            *requests += 1.0;
            self.judge(now);
        }
    }

    /// One did not leave after all.
    pub(crate) fn withdrawn(&mut self, now: Micros) {
        self.minute.refused(now);
    }

    /// A request that left then was let through. Says whether that was after the last refusal.
    pub(crate) fn let_through(&mut self, sent: Micros) -> bool {
        let is_after = sent > self.pushed;
        if is_after {
            self.in_a_row = 0;
        }
        is_after
    }

    /// The endpoint pushed back, and everybody waits for so long; at least this share of the rate is left.
    pub(crate) fn pushed_back(
        &mut self,
        push: Push,
        now: Micros,
        wait: Duration,
        least: f64,
    ) -> Option<Slowed> {
        self.minute.refused(now);
        let wait = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        let end = now.saturating_add(wait);
        match push {
            Push::Behind => None,
            Push::First => self.first(now, end, least),
            Push::Again => self.again(now, end, least),
        }
    }

    fn first(&mut self, now: Micros, end: Micros, least: f64) -> Option<Slowed> {
        (self.pushed, self.in_a_row) = (now, 1);
        self.used = self.minute.used(now);
        self.refusals += 1.0;
        let (share, used, refused) = (self.share(now), self.used, self.refused());
        match &mut self.known {
            Known::Trial { refusals, .. } => {
                *refusals += 1.0;
                self.judge(now);
                None
            }
            Known::Limit {
                limit,
                before,
                others,
            } => {
                // Before it has grown for a minute it cannot be there again.
                if used >= EDGE * *limit && now >= self.since.saturating_add(MINUTE) {
                    (*limit, *before, *others) = (used.max(*limit), share, 0);
                    return self.slow(end, (BELOW * used).min(EDGE * share), least);
                }
                *others += 1;
                let before = *before;
                if *others > 1 {
                    self.strikes = (self.strikes + 1).min(MOST_STRIKES);
                    self.as_before(now, before);
                }
                None
            }
            Known::Nothing => {
                let noise = match now < self.noise_until {
                    true => 2.0 * self.noise,
                    false => 0.0,
                };
                if self.refusals < FEW || refused < noise.max(TOLERATED) {
                    return None;
                }
                let used = self.minute.rate(now).min(share);
                self.known = Known::Trial {
                    before: share,
                    used,
                    refused,
                    requests: 0.0,
                    refusals: 0.0,
                };
                self.slow(end, (BELOW * used).min(BELOW * share), least)
            }
        }
    }

    fn again(&mut self, now: Micros, end: Micros, least: f64) -> Option<Slowed> {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let seldom = ACCIDENT.ln() / self.refused().clamp(0.001, 0.9).ln();
        let enough = (seldom.ceil() as u32).max(IN_A_ROW) + self.strikes;
        if self.in_a_row != enough {
            if self.in_a_row > enough {
                self.since = self.since.max(end);
            }
            return None;
        }
        let share = self.share(now);
        let to = (BELOW * self.used).min(EDGE * share);
        let to = to.max(LEAST_AT_ONCE * share);
        self.known = Known::Limit {
            limit: self.used.max(to),
            before: share,
            others: 0,
        };
        self.slow(end, to, least)
    }

    /// Whether the trial shows something by now.
    fn judge(&mut self, now: Micros) {
        let Known::Trial {
            before,
            used,
            refused,
            requests,
            refusals,
        } = self.known
        else {
            return;
        };
        let still = refusals / requests.max(1.0);
        if refusals > 1.0 && still >= refused / 2.0 {
            (self.noise, self.noise_until) = (still, now.saturating_add(self.tried));
            self.tried = (2 * self.tried).min(LONGEST_TRIED);
            self.as_before(now, before);
        } else if requests >= 5.0 / refused && still < refused / 3.0 {
            self.refusals = 0.0;
            self.since = now;
            self.known = Known::Limit {
                limit: used,
                before,
                others: 0,
            };
        }
    }

    /// Slower requests are refused as often.
    fn as_before(&mut self, now: Micros, before: f64) {
        self.share = before.max(self.share(now));
        (self.since, self.known) = (now, Known::Nothing);
        let share = self.share;
        tracing::info!(
            share,
            "slower requests are refused as often: they leave as before"
        );
        self.is_back();
    }

    fn slow(&mut self, end: Micros, to: f64, least: f64) -> Option<Slowed> {
        (self.share, self.since) = (to.max(LEAST).max(least).min(1.0), end);
        let share = self.share;
        let is_news = share < 1.0 && (self.told >= 1.0 || share <= self.told / 2.0);
        if is_news {
            self.told = share;
        }
        Some(Slowed { share, is_news })
    }

    fn refused(&self) -> f64 {
        self.refusals / self.requests.max(1.0)
    }

    /// How much longer requests are apart than the limits say: 1 or more.
    pub(crate) fn slower(&mut self, now: Micros) -> f64 {
        if self.share < 1.0 && self.share(now) >= 1.0 {
            (self.share, self.known) = (1.0, Known::Nothing);
            self.is_back();
        }
        1.0 / self.share(now)
    }

    fn is_back(&mut self) {
        if self.share >= 1.0 && std::mem::replace(&mut self.told, 1.0) < 1.0 {
            tracing::info!("requests leave at the configured rate again");
        }
    }

    fn share(&self, now: Micros) -> f64 {
        let limit = match &self.known {
            Known::Trial { .. } => return self.share,
            Known::Limit { limit, .. } => *limit,
            Known::Nothing => 0.0,
        };
        let mut minutes = now.saturating_sub(self.since) as f64 / MINUTE as f64;
        let (mut share, mut grows) = (self.share, GROWS);
        let edge = BEYOND * limit;
        if share < edge {
            let slow = minutes.min((edge / share).ln() / (1.0 + grows).ln());
            share *= (1.0 + grows).powf(slow);
            minutes -= slow;
        }
        while minutes > 0.0 && share < 1.0 {
            grows = (2.0 * grows).min(FASTEST);
            share *= (1.0 + grows).powf(minutes.min(FASTER_AFTER));
            minutes -= FASTER_AFTER;
        }
        share.min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::SECOND;

    const WAIT: Duration = Duration::from_secs(1);
    /// Sixty a minute.
    const SPACE: Micros = SECOND;

    /// So many a minute were sent for two minutes.
    fn sending(share: f64) -> (Pace, Micros) {
        let (mut pace, mut now) = (Pace::default(), 0);
        while now < 2 * MINUTE {
            pace.sent(now, SPACE);
            now += (SPACE as f64 / share) as Micros;
        }
        (pace, now)
    }

    /// One is refused, and so many probes after it.
    fn refuse(pace: &mut Pace, now: Micros, probes: u32) -> Option<Slowed> {
        pace.sent(now, SPACE);
        let mut slowed = pace.pushed_back(Push::First, now, WAIT, 0.0);
        for _ in 0..probes {
            pace.sent(now, SPACE);
            slowed = slowed.or(pace.pushed_back(Push::Again, now, WAIT, 0.0));
        }
        slowed
    }

    #[test]
    fn one_refusal_is_no_reason_and_several_in_a_row_are() {
        let (mut pace, now) = sending(0.5);
        assert_eq!(refuse(&mut pace, now, 1), None);
        assert!(!pace.let_through(now) && pace.let_through(now + 1));
        assert_eq!(refuse(&mut pace, now + SECOND, 1), None);
        assert_eq!(pace.slower(now + SECOND), 1.0);
        let slowed = refuse(&mut pace, now + 2 * SECOND, 3).unwrap();
        assert!(slowed.is_news);
        assert!((0.4..=0.46).contains(&slowed.share), "{slowed:?}");
    }

    #[test]
    fn it_grows_slowly_to_where_it_was_refused_and_then_faster_to_the_whole_rate() {
        let (mut pace, now) = sending(0.5);
        let slowed = refuse(&mut pace, now, 3).unwrap();
        let at = |pace: &mut Pace, seconds: u64| 1.0 / pace.slower(now + seconds * SECOND);
        assert!(at(&mut pace, 61) < 1.09 * slowed.share);
        assert!((0.47..=0.53).contains(&at(&mut pace, 120)));
        assert!(at(&mut pace, 130) < 0.6);
        assert_eq!(at(&mut pace, 400), 1.0);
        assert_eq!(pace.slower(u64::MAX), 1.0);
    }

    #[test]
    fn it_is_told_again_when_it_has_halved_and_when_it_was_back() {
        let (mut pace, mut now) = sending(1.0);
        let mut told = Vec::new();
        for _ in 0..60 {
            now += 2 * SECOND;
            told.extend(refuse(&mut pace, now, 8).filter(|slowed| slowed.is_news));
            pace.strikes = 0;
        }
        let shares: Vec<f64> = told.iter().map(|slowed| slowed.share).collect();
        assert!(shares.len() > 2, "{shares:?}");
        assert!(
            shares.windows(2).all(|two| two[1] <= two[0] / 2.0),
            "{shares:?}"
        );
        pace.slower(now + 60 * MINUTE);
        let again = refuse(&mut pace, now + 60 * MINUTE, 8);
        assert!(again.is_some_and(|slowed| slowed.is_news));
    }

    #[test]
    fn what_slower_requests_do_not_help_against_is_no_reason_to_be_slow() {
        let (mut pace, mut now) = (Pace::default(), 0);
        let mut most = 1.0_f64;
        // Every fifth is refused, at whatever rate.
        for n in 0..600 {
            now += (SPACE as f64 * pace.slower(now)) as Micros;
            pace.sent(now, SPACE);
            match n % 5 {
                4 => drop(pace.pushed_back(Push::First, now, WAIT, 0.0)),
                _ => drop(pace.let_through(now)),
            }
            most = most.max(pace.slower(now));
        }
        assert!(most > 1.0, "it was never tried");
        let took = now as f64 / (600 * SPACE) as f64;
        assert!(took < 1.1, "{took} times as long");
    }

    #[test]
    fn it_does_not_come_to_a_stop() {
        let mut pace = Pace::default();
        for n in 0..100 {
            refuse(&mut pace, n, 20);
        }
        assert!(pace.slower(100) <= 100.0);
    }
}

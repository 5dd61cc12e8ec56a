use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Who has been under way for so many times as long as a refusal took was not refused.
const LONGER: f64 = 1.5;
/// So much longer than others none is refused, even where the machine is busy.
const SURELY: Duration = Duration::from_secs(1);
/// So long after a refusal an answer says that others get answers all the same, and so long that holds.
const LATELY: Duration = Duration::from_secs(5);

/// What is under way, to tell an endpoint to which too many came at once from one that is away: the first refuses some
/// and works on others meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Those that have not ended, in the order in which they left.
    under_way: BTreeMap<u64, UnderWay>,
    last: u64,
    /// The most that were worked on when one left that was answered; one less for each that was refused among no more.
    carried: usize,
    /// The last refusal, the last answer, and the last answer that came soon after a refusal.
    refused: Option<Instant>,
    answered: Option<Instant>,
    answered_beside: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct UnderWay {
    left: Instant,
    /// Under way then, itself included, without those of which it is known by now that they were turned away.
    among: usize,
}

/// A request that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Leaving<'a> {
    crowd: &'a Crowd,
    number: u64,
    this: UnderWay,
}

/// When a request left, and with how many others, as far as that was known when it ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left {
    this: UnderWay,
    number: u64,
    /// The last one that left before it ended.
    last: u64,
}

/// What a refusal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many came at once.
    TooMany {
        /// So many are worked on.
        accepted: usize,
    },
    /// Others are worked on, and it is not their number that this one was refused for.
    Alone,
    /// Nothing: the endpoint may be away.
    Unclear,
}

impl Crowd {
    /// A request leaves.
    pub(crate) fn leaves(&self) -> Leaving<'_> {
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        let this = UnderWay {
            left: Instant::now(),
            among: state.under_way.len() + 1,
        };
        state.under_way.insert(number, this);
        Leaving {
            crowd: self,
            number,
            this,
        }
    }

    /// The endpoint has worked on a request.
    pub(crate) fn answered(&self, left: Left) {
        let now = Instant::now();
        let mut state = self.lock();
        state.carried = state.carried.max(left.this.among);
        state.answered = Some(now);
        if state.refused.is_some_and(|refused| now - refused < LATELY) {
            state.answered_beside = Some(now);
        }
    }

    /// Whether there may be answers on their way, where none has come yet: somebody has been under way for much longer
    /// than the request took that has just been refused.
    pub(crate) fn may_answer(&self, refused: Left) -> bool {
        let state = self.lock();
        state.accepted(refused, Instant::now(), SURELY) > 0
    }

    /// A request has been put off, so nobody has worked on it: those that left after it did so among one less.
    pub(crate) fn put_off(&self, left: Left) {
        self.lock().put_off(left);
    }

    /// A request has been refused.
    pub(crate) fn refused(&self, left: Left) -> Refusal {
        let now = Instant::now();
        let mut state = self.lock();
        state.put_off(left);
        state.refused = Some(now);
        let accepted = state.accepted(left, now, Duration::ZERO);
        let lately = |at: Option<Instant>| at.is_some_and(|at| now - at < LATELY);
        let beside = accepted > 0 || lately(state.answered_beside);
        let is_more = left.this.among > state.carried;
        // Where one more left than were ever answered, an answer of a moment ago is enough.
        let others_are_worked_on = beside || is_more && lately(state.answered);
        if left.this.among < 2 || !others_are_worked_on {
            return Refusal::Unclear;
        }
        // As many have been answered: it may be about this one. Where it is not, fewer are from now on.
        if !is_more {
            state.carried = left.this.among - 1;
            return Refusal::Alone;
        }
        Refusal::TooMany { accepted }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// So many left before a request that has just been refused, and have been under way for longer than a refusal
    /// takes, and for so long at the least: they are worked on.
    fn accepted(&self, refused: Left, now: Instant, least: Duration) -> usize {
        let long = (now - refused.this.left).mul_f64(LONGER).max(least);
        let for_longer =
            |other: &&UnderWay| other.left < refused.this.left && now - other.left >= long;
        self.under_way.values().take_while(for_longer).count()
    }

    fn put_off(&mut self, left: Left) {
        let meanwhile = self.under_way.range_mut(left.number..=left.last);
        meanwhile.for_each(|(_, other)| other.among -= 1);
    }
}

impl Leaving<'_> {
    /// It has ended, in whatever way.
    pub(crate) fn ended(self) -> Left {
        let mut state = self.crowd.lock();
        Left {
            this: state.under_way.remove(&self.number).unwrap_or(self.this),
            number: self.number,
            last: state.last,
        }
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.crowd.lock().under_way.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_while_others_are_worked_on_was_one_too_many() {
        let crowd = Crowd::default();
        let _worked_on = [crowd.leaves(), crowd.leaves(), crowd.leaves()];
        // Whether those who left at the same moment are refused as well is not known yet.
        let first = crowd.leaves().ended();
        assert_eq!(crowd.refused(first), Refusal::Unclear);
        sleep(SECOND).await;
        let later = crowd.leaves();
        sleep(SECOND / 10).await;
        let later = later.ended();
        assert_eq!(crowd.refused(later), Refusal::TooMany { accepted: 3 });
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_turned_away_was_not_worked_on_with_those_that_left_after() {
        for put_off in [false, true] {
            let crowd = Crowd::default();
            let mut turned_away: Vec<Leaving<'_>> = (0..8).map(|_| crowd.leaves()).collect();
            let (before, accepted) = (turned_away.remove(0), crowd.leaves());
            for leaving in turned_away {
                let left = leaving.ended();
                // It came when that was over already.
                let _later = crowd.leaves();
                match put_off {
                    true => crowd.put_off(left),
                    false => assert_eq!(crowd.refused(left), Refusal::Unclear),
                }
            }
            crowd.answered(before.ended());
            assert_eq!(crowd.lock().carried, 1);
            crowd.answered(accepted.ended());
            assert_eq!(crowd.lock().carried, 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_than_were_ever_answered_is_too_many_soon_after_an_answer() {
        let crowd = Crowd::default();
        let refused = |others: usize| {
            let _others: Vec<Leaving<'_>> = (0..others).map(|_| crowd.leaves()).collect();
            crowd.refused(crowd.leaves().ended())
        };
        let other = crowd.leaves();
        crowd.answered(crowd.leaves().ended());
        drop(other);
        // As many were answered, and nobody has been since.
        assert_eq!(refused(1), Refusal::Unclear);
        assert_eq!(refused(2), Refusal::TooMany { accepted: 0 });
        sleep(LATELY).await;
        assert_eq!(refused(2), Refusal::Unclear);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_long_after_a_refusal_says_nothing_about_it_nor_does_one_that_goes_alone() {
        let crowd = Crowd::default();
        let refused = || crowd.refused(crowd.leaves().ended());
        assert_eq!(refused(), Refusal::Unclear);
        sleep(LATELY).await;
        let other = crowd.leaves();
        crowd.answered(crowd.leaves().ended());
        assert_eq!(refused(), Refusal::Unclear);
        // Now one came soon after a refusal.
        crowd.answered(crowd.leaves().ended());
        assert_eq!(refused(), Refusal::Alone);
        drop(other);
        assert_eq!(refused(), Refusal::Unclear);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_under_way_for_hardly_longer_than_the_refusal_took_may_be_refused_too() {
        let crowd = Crowd::default();
        let _other = crowd.leaves();
        sleep(SECOND).await;
        let slow = crowd.leaves();
        sleep(3 * SECOND).await;
        assert_eq!(crowd.refused(slow.ended()), Refusal::Unclear);
        let quick = crowd.leaves();
        sleep(SECOND).await;
        let too_many = Refusal::TooMany { accepted: 1 };
        assert_eq!(crowd.refused(quick.ended()), too_many);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_where_as_many_were_answered_may_be_the_cause() {
        let crowd = Crowd::default();
        let (first, second) = (crowd.leaves(), crowd.leaves().ended());
        crowd.answered(second);
        sleep(SECOND).await;
        // The first time; after that it is known that fewer fit.
        let refused: Vec<Refusal> = (0..2)
            .map(|_| crowd.refused(crowd.leaves().ended()))
            .collect();
        let too_many = Refusal::TooMany { accepted: 1 };
        assert_eq!(refused, [Refusal::Alone, too_many]);
        drop(first);
        assert_eq!(crowd.refused(crowd.leaves().ended()), Refusal::Unclear);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_beside_refusals_says_that_others_are_worked_on_for_a_while() {
        let crowd = Crowd::default();
        let slow = [crowd.leaves(), crowd.leaves()];
        let refused = || crowd.refused(crowd.leaves().ended());
        assert_eq!(refused(), Refusal::Unclear);
        crowd.answered(crowd.leaves().ended());
        {
            let mut state = crowd.lock();
            (state.carried, state.answered) = (0, None);
        }
        assert_eq!(refused(), Refusal::TooMany { accepted: 0 });
        drop(slow);
        sleep(LATELY).await;
        let _beside = [crowd.leaves(), crowd.leaves()];
        assert_eq!(refused(), Refusal::Unclear);
    }
}

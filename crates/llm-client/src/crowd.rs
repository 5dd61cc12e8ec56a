use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Who has been under way for so many times as long as a refusal took was not refused.
const LONGER: f64 = 1.5;
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
    /// When those left that have not ended, in that order.
    under_way: BTreeSet<(Instant, u64)>,
    last: u64,
    /// The most that were under way when one left that was answered; one less for each that was refused among no more.
    carried: usize,
    /// The last refusal, and the last answer that came soon after one.
    refused: Option<Instant>,
    answered_beside: Option<Instant>,
}

/// A request that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Leaving<'a> {
    crowd: &'a Crowd,
    number: u64,
    left: Left,
}

/// When a request left, and with how many others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left {
    at: Instant,
    /// Under way then, itself included.
    among: usize,
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
        let at = Instant::now();
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        state.under_way.insert((at, number));
        let among = state.under_way.len();
        Leaving {
            crowd: self,
            number,
            left: Left { at, among },
        }
    }

    /// The endpoint has worked on a request.
    pub(crate) fn answered(&self, left: Left) {
        let now = Instant::now();
        let mut state = self.lock();
        state.carried = state.carried.max(left.among);
        if state.refused.is_some_and(|refused| now - refused < LATELY) {
            state.answered_beside = Some(now);
        }
    }

    /// So many have been under way for longer than a refusal takes, so that they are worked on: those that left before
    /// a request that has just been refused.
    pub(crate) fn accepted(&self, refused: Left) -> usize {
        self.lock().accepted(refused, Instant::now())
    }

    /// A request has been refused.
    pub(crate) fn refused(&self, left: Left) -> Refusal {
        let now = Instant::now();
        let mut state = self.lock();
        state.refused = Some(now);
        let accepted = state.accepted(left, now);
        let lately = state.answered_beside.is_some_and(|at| now - at < LATELY);
        if left.among < 2 || accepted == 0 && !lately {
            return match accepted {
                0 => Refusal::Unclear,
                _ => Refusal::Alone,
            };
        }
        // As many have been answered: it may be about this one. Where it is not, fewer are from now on.
        if left.among <= state.carried {
            state.carried = left.among - 1;
            return Refusal::Alone;
        }
        Refusal::TooMany { accepted }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn accepted(&self, refused: Left, now: Instant) -> usize {
        let took = now - refused.at;
        let for_longer =
            |(at, _): &&(Instant, u64)| *at < refused.at && now - *at >= took.mul_f64(LONGER);
        self.under_way.iter().take_while(for_longer).count()
    }
}

impl Leaving<'_> {
    /// It has ended, in whatever way.
    pub(crate) fn ended(self) -> Left {
        self.left
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut state = self.crowd.lock();
        state.under_way.remove(&(self.left.at, self.number));
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
        crowd.lock().carried = 0;
        assert_eq!(refused(), Refusal::TooMany { accepted: 0 });
        drop(slow);
        sleep(LATELY).await;
        let _beside = [crowd.leaves(), crowd.leaves()];
        assert_eq!(refused(), Refusal::Unclear);
    }
}

//! Who keeps limits together, what each of them keeps, and whose turn it is.

use serde::{Deserialize, Serialize};

use crate::ledger::{Limit, Micros, SECOND};

/// Whoever was not seen for so long is taken to have ended without a word, where nobody can say.
const GONE: Micros = 60 * SECOND;
/// Whoever was not seen for so long is not waited for when it is his turn.
const AWAY: Micros = SECOND;
/// Whoever waits shows himself this often, well before he would be taken to be away.
const SHOWS: Micros = SECOND / 5;

/// Processes that keep limits together.
///
/// They are served in turns: each has a count of its permits, and whoever has fewer goes first. Somebody who comes, or
/// comes back, begins at the count of whoever was served last, so that time in which he asked for nothing is not saved
/// up. A turn is held only for somebody who could go and shows that he is there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Members {
    all: Vec<Member>,
    /// The count of whoever was served last.
    turn: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Member {
    id: u64,
    /// What it keeps by itself, whatever the others do.
    limits: Vec<Limit>,
    seen: Micros,
    /// Since when it could have sent something if nobody else had.
    wants: Option<Micros>,
    served: u64,
}

impl Members {
    /// What the others wrote down; of `id` nobody knows more than it does itself.
    pub(crate) fn take_over(&mut self, theirs: Members, id: u64, now: Micros) {
        self.turn = self.turn.max(theirs.turn);
        self.all.retain(|member| member.id == id);
        self.all
            .extend(theirs.all.into_iter().filter(|member| member.id != id));
        // Whoever was seen on a clock that is not this one was there before the machine was started anew.
        let latest = now.saturating_add(SECOND);
        self.all.retain(|member| member.seen <= latest);
    }

    /// Leaves out whoever but `id` has ended: at once where that is known, else when it was not seen for long. One whose requests
    /// are all under way has nothing to show itself for. Says whether the others have to hear of it.
    pub(crate) fn forget(
        &mut self,
        id: u64,
        now: Micros,
        is_there: impl Fn(u64) -> Option<bool>,
    ) -> bool {
        let before = self.all.len();
        self.all.retain(|member| {
            member.id == id
                || member.seen.saturating_add(AWAY) > now
                || is_there(member.id).unwrap_or(member.seen.saturating_add(GONE) > now)
        });
        self.all.len() < before
    }

    /// `id` is there and keeps these limits. Says whether the others have to hear of it.
    pub(crate) fn show(&mut self, id: u64, limits: &[Limit], now: Micros) -> bool {
        let Some(own) = self.all.iter_mut().find(|member| member.id == id) else {
            self.all.push(Member {
                id,
                limits: limits.to_vec(),
                seen: now,
                wants: None,
                served: self.turn,
            });
            return true;
        };
        if own.seen.saturating_add(AWAY) <= now {
            // Nobody waits here any more who waited then.
            own.wants = None;
        }
        let is_news = own.limits != limits || own.seen.saturating_add(SHOWS) <= now;
        if is_news {
            own.limits = limits.to_vec();
            own.seen = now;
        }
        is_news
    }

    pub(crate) fn leave(&mut self, id: u64) {
        self.all.retain(|member| member.id != id);
    }

    /// The lowest of each limit that others keep.
    pub(crate) fn limits_of_others(&self, id: u64) -> Vec<Limit> {
        let others = self.all.iter().filter(|member| member.id != id);
        let mut lowest: Vec<Limit> = Vec::new();
        for limit in others.flat_map(|member| &member.limits) {
            match lowest.iter_mut().find(|low| low.is_like(*limit)) {
                Some(low) => low.amount = low.amount.min(limit.amount),
                None => lowest.push(*limit),
            }
        }
        lowest
    }

    /// `id` waits, and could go at that time. Says whether the others have to hear of it.
    pub(crate) fn wait(&mut self, id: u64, since: Micros, ahead: u64) -> bool {
        let floor = self.floor(ahead);
        let Some(own) = self.of(id).filter(|own| own.wants.is_none()) else {
            return false;
        };
        own.wants = Some(since);
        own.served = own.served.max(floor);
        true
    }

    /// `id` has got a permit.
    pub(crate) fn serve(&mut self, id: u64, ahead: u64) {
        let floor = self.floor(ahead);
        if let Some(own) = self.of(id) {
            own.wants = None;
            own.served = own.served.max(floor).saturating_add(1);
            let served = own.served;
            self.turn = self.turn.max(served);
        }
    }

    /// Whether `id` may go before all others that could, where it may be so many permits ahead of them.
    pub(crate) fn is_turn_of(&self, id: u64, now: Micros, ahead: u64) -> bool {
        let floor = self.floor(ahead);
        let own = self.all.iter().find(|member| member.id == id);
        let served = own.map_or(floor, |own| own.served.max(floor));
        let mut others = self.waiting(id, now);
        others.all(|other| other.served.max(floor).saturating_add(ahead) >= served)
    }

    /// Nobody is further behind than this: time in which he asked for nothing is not saved up.
    fn floor(&self, ahead: u64) -> u64 {
        self.turn.saturating_sub(ahead.saturating_add(1))
    }

    /// How many others could go now and wait for it.
    pub(crate) fn others_waiting(&self, id: u64, now: Micros) -> usize {
        self.waiting(id, now).count()
    }

    fn waiting(&self, id: u64, now: Micros) -> impl Iterator<Item = &Member> {
        self.all.iter().filter(move |member| {
            member.id != id
                && member.wants.is_some_and(|since| since <= now)
                && member.seen.saturating_add(AWAY) > now
        })
    }

    fn of(&mut self, id: u64) -> Option<&mut Member> {
        self.all.iter_mut().find(|member| member.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Unit;

    fn requests(amount: u64) -> Limit {
        Limit {
            unit: Unit::Requests,
            amount,
            window: 60 * SECOND,
        }
    }

    /// Members 1, 2, ..., all there and waiting.
    fn waiting(members: u64, now: Micros) -> Members {
        let mut all = Members::default();
        for id in 1..=members {
            all.show(id, &[requests(60)], now);
            all.wait(id, now, 0);
        }
        all
    }

    /// Whoever may go, goes; those with high numbers are always the first to try.
    fn serve(members: &mut Members, among: u64, now: Micros, ahead: u64) -> u64 {
        let mut ids = (1..=among).rev();
        let id = ids.find(|id| members.is_turn_of(*id, now, ahead)).unwrap();
        members.serve(id, ahead);
        members.wait(id, now, ahead);
        id
    }

    #[test]
    fn all_are_served_in_turns_whoever_is_quickest() {
        let mut members = waiting(3, 0);
        let order: Vec<u64> = (0..9).map(|_| serve(&mut members, 3, 0, 0)).collect();
        for turn in order.chunks(3) {
            let mut turn = turn.to_vec();
            turn.sort_unstable();
            assert_eq!(turn, [1, 2, 3], "{order:?}");
        }
    }

    #[test]
    fn nobody_gets_further_ahead_than_he_may() {
        let mut members = waiting(2, 0);
        let order: Vec<u64> = (0..20).map(|_| serve(&mut members, 2, 0, 5)).collect();
        assert_eq!(order[..6], [2; 6], "{order:?}");
        assert!(order[6..].contains(&1), "{order:?}");
    }

    #[test]
    fn whoever_comes_or_comes_back_does_not_make_up_for_the_time_before() {
        let mut members = waiting(1, 0);
        for _ in 0..100 {
            members.serve(1, 0);
            members.wait(1, 0, 0);
        }
        members.show(2, &[requests(60)], 0);
        members.wait(2, 0, 0);
        let order: Vec<u64> = (0..20).map(|_| serve(&mut members, 2, 0, 0)).collect();
        let of_the_new = order.iter().filter(|id| **id == 2).count();
        assert!((10..=11).contains(&of_the_new), "{order:?}");
        // The same where it was there all the time and asked for nothing.
        let mut members = waiting(2, 0);
        for _ in 0..100 {
            members.serve(1, 0);
        }
        members.wait(1, 0, 0);
        let order: Vec<u64> = (0..20).map(|_| serve(&mut members, 2, 0, 0)).collect();
        let of_the_quiet = order.iter().filter(|id| **id == 2).count();
        assert!((10..=11).contains(&of_the_quiet), "{order:?}");
    }

    #[test]
    fn a_turn_is_held_only_for_somebody_who_could_go_and_is_there() {
        let mut members = waiting(2, 0);
        members.serve(1, 0);
        assert!(!members.is_turn_of(1, 0, 0));
        // It does not show itself any more.
        assert!(!members.is_turn_of(1, AWAY - 1, 0));
        assert!(members.is_turn_of(1, AWAY, 0));
        // It is back, but could not go before some time.
        members.show(2, &[requests(60)], AWAY);
        members.wait(2, AWAY + 10, 0);
        assert!(members.is_turn_of(1, AWAY + 9, 0));
        assert!(!members.is_turn_of(1, AWAY + 10, 0));
    }

    #[test]
    fn what_others_keep_is_forgotten_when_they_are_gone() {
        let mut members = waiting(1, 0);
        members.show(2, &[requests(30)], 0);
        members.show(3, &[requests(20)], SECOND);
        assert_eq!(members.limits_of_others(1), [requests(20)]);
        assert_eq!(members.limits_of_others(3), [requests(30)]);
        // Nobody is looked for who has just been seen, and whoever is there stays, however quiet.
        assert!(!members.forget(1, AWAY - 1, |_| Some(false)));
        assert!(!members.forget(1, GONE + SECOND, |_| Some(true)));
        assert_eq!(members.limits_of_others(1), [requests(20)]);
        // Whose end is known is forgotten at once, another one after a while.
        assert!(members.forget(1, AWAY + SECOND, |id| (id == 3).then_some(false)));
        assert_eq!(members.limits_of_others(1), [requests(30)]);
        assert!(!members.forget(1, GONE - 1, |_| None));
        assert!(members.forget(1, GONE, |_| None));
        assert_eq!(members.limits_of_others(1), []);
        members.show(2, &[requests(30)], GONE);
        members.show(3, &[requests(20)], GONE);
        members.leave(3);
        assert_eq!(members.limits_of_others(1), [requests(30)]);
    }

    #[test]
    fn members_of_another_clock_are_none() {
        let mut members = Members::default();
        members.take_over(waiting(2, 3_600 * SECOND), 9, 60 * SECOND);
        assert_eq!(members.limits_of_others(9), []);
    }

    #[test]
    fn other_limits_are_news_at_once_and_that_one_is_there_now_and_then() {
        let mut members = waiting(1, 0);
        assert!(!members.show(1, &[requests(60)], SHOWS - 1));
        assert!(members.show(1, &[requests(30)], SHOWS - 1));
        assert!(!members.show(1, &[requests(30)], SHOWS));
        assert!(members.show(1, &[requests(30)], 2 * SHOWS - 1));
        assert_eq!(members.limits_of_others(9), [requests(30)]);
    }

    #[test]
    fn the_lowest_of_each_limit_counts_in_whatever_order_they_came() {
        let a_day = Limit {
            window: 86_400 * SECOND,
            ..requests(50)
        };
        let mut members = Members::default();
        for (id, amount) in [(1, 40), (2, 20), (3, 30)] {
            members.show(id, &[requests(amount), a_day], 0);
        }
        assert_eq!(members.limits_of_others(9), [requests(20), a_day]);
    }

    #[test]
    fn what_others_wrote_down_of_oneself_is_older_than_what_one_knows() {
        let theirs = waiting(3, 0);
        let mut own = theirs.clone();
        own.show(1, &[requests(30)], SECOND / 2);
        own.serve(1, 0);
        own.take_over(theirs, 1, SECOND / 2);
        assert_eq!(own.limits_of_others(9), [requests(30)]);
        // It was served, so the others go first; whoever left nothing in their book is gone.
        own.wait(1, SECOND / 2, 0);
        own.show(2, &[requests(60)], SECOND / 2);
        assert!(!own.is_turn_of(1, SECOND / 2, 0) && own.is_turn_of(2, SECOND / 2, 0));
        own.take_over(Members::default(), 1, SECOND / 2);
        assert_eq!(own.others_waiting(1, SECOND / 2), 0);
        own.show(2, &[requests(60)], SECOND / 2);
        own.wait(2, SECOND / 2, 0);
        // The count of whoever was served last is not forgotten with them: nobody begins at nothing.
        assert!(own.is_turn_of(1, SECOND / 2, 0));
    }
}

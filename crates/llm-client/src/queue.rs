use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

/// Who waits for something, and who is next.
///
/// There are two lanes, each in order of coming, and where somebody waits in both they take turns. In a single one
/// all that is sent again would stand behind all that is new: a row would wait for ever longer, and a run would end
/// with nothing but repeats. And if repeats went first, an endpoint with many faults would get nothing else.
///
/// Only the first one watches what is waited for; whoever leaves wakes the next.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    new: Waiting,
    again: Waiting,
    last: u64,
    /// Whose turn it is where somebody waits in both.
    turn: Lane,
}

type Waiting = BTreeMap<u64, Arc<Notify>>;

/// Who waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Somebody who has sent nothing yet.
    #[default]
    New,
    /// Somebody who has to send again.
    Again,
}

/// A place in the queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    lane: Lane,
    number: u64,
}

impl Queue {
    /// A place at the end of a lane, and what wakes whoever stands there.
    pub(crate) fn join(&mut self, lane: Lane) -> (Place, Arc<Notify>) {
        self.last += 1;
        let (number, woken) = (self.last, Arc::new(Notify::new()));
        self.lane(lane).insert(number, Arc::clone(&woken));
        (Place { lane, number }, woken)
    }

    pub(crate) fn leave(&mut self, place: Place) {
        self.lane(place.lane).remove(&place.number);
        self.wake_first();
    }

    pub(crate) fn is_first(&self, place: Place) -> bool {
        let first = self.first();
        first.is_some_and(|(lane, number, _)| (lane, number) == (place.lane, place.number))
    }

    /// Whoever stands there has got what he waited for, so it is the other lane's turn.
    pub(crate) fn served(&mut self, place: Place) {
        self.turn = match place.lane {
            Lane::New => Lane::Again,
            Lane::Again => Lane::New,
        };
    }

    /// How many are served before whoever stands there, if nobody else comes: exact at the end of a lane, and at most so
    /// many elsewhere.
    pub(crate) fn ahead(&self, place: Place) -> usize {
        let (own, other) = match place.lane {
            Lane::New => (&self.new, &self.again),
            Lane::Again => (&self.again, &self.new),
        };
        // Numbers are given to both lanes, so some of those between may stand in the other.
        let first = own
            .first_key_value()
            .map_or(place.number, |(first, _)| *first);
        let between = usize::try_from(place.number.saturating_sub(first)).unwrap_or(usize::MAX);
        let before = between.min(own.len().saturating_sub(1));
        let turns = before + usize::from(self.turn != place.lane);
        before + other.len().min(turns)
    }

    pub(crate) fn wake_first(&self) {
        if let Some((.., woken)) = self.first() {
            woken.notify_one();
        }
    }

    pub(crate) fn wake_all(&self) {
        for woken in self.new.values().chain(self.again.values()) {
            woken.notify_one();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.new.len() + self.again.len()
    }

    fn first(&self) -> Option<(Lane, u64, &Arc<Notify>)> {
        fn of(lane: Lane, waiting: &Waiting) -> Option<(Lane, u64, &Arc<Notify>)> {
            let (number, woken) = waiting.first_key_value()?;
            Some((lane, *number, woken))
        }
        let (new, again) = (of(Lane::New, &self.new), of(Lane::Again, &self.again));
        match self.turn {
            Lane::New => new.or(again),
            Lane::Again => again.or(new),
        }
    }

    fn lane(&mut self, lane: Lane) -> &mut Waiting {
        match lane {
            Lane::New => &mut self.new,
            Lane::Again => &mut self.again,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everybody in the order in which they are served, with the numbers that were foretold.
    fn served(lanes: &str) -> (String, bool) {
        let mut queue = Queue::default();
        let mut places: Vec<(Place, char)> = lanes
            .chars()
            .map(|who| {
                let lane = match who.is_uppercase() {
                    true => Lane::Again,
                    false => Lane::New,
                };
                (queue.join(lane).0, who)
            })
            .collect();
        let last_of = |is_again: fn(&char) -> bool| {
            let last = places.iter().rfind(|(_, who)| is_again(who));
            last.map(|(place, who)| (*who, queue.ahead(*place)))
        };
        let foretold = [
            last_of(|who| who.is_uppercase()),
            last_of(|who| !who.is_uppercase()),
        ];
        let mut order = String::new();
        while let Some(at) = places.iter().position(|(place, _)| queue.is_first(*place)) {
            let (place, who) = places.remove(at);
            queue.served(place);
            queue.leave(place);
            order.push(who);
        }
        let true_for = |(who, ahead): &(char, usize)| order.find(*who) == Some(*ahead);
        let is_true = foretold.iter().flatten().all(true_for);
        (order, is_true)
    }

    #[test]
    fn lanes_take_turns_and_each_is_in_order_of_coming() {
        for (lanes, order) in [
            ("abc", "abc"),
            ("ABC", "ABC"),
            ("abcdeAB", "aAbBcde"),
            ("ABCab", "aAbBC"),
            ("", ""),
        ] {
            assert_eq!(served(lanes), (order.to_owned(), true), "{lanes}");
        }
    }

    #[test]
    fn whoever_stands_in_the_middle_is_told_of_those_before_him_alone() {
        let mut queue = Queue::default();
        let places: Vec<Place> = (0..5).map(|_| queue.join(Lane::New).0).collect();
        assert_eq!(
            places
                .iter()
                .map(|place| queue.ahead(*place))
                .collect::<Vec<_>>(),
            [0, 1, 2, 3, 4]
        );
        queue.leave(places[0]);
        assert_eq!(queue.ahead(places[2]), 1);
    }

    #[test]
    fn the_turn_of_a_lane_in_which_nobody_waits_is_not_lost() {
        let mut queue = Queue::default();
        for _ in 0..3 {
            let (place, _) = queue.join(Lane::New);
            queue.served(place);
            queue.leave(place);
        }
        let (new, _) = queue.join(Lane::New);
        let (again, _) = queue.join(Lane::Again);
        assert!(queue.is_first(again) && !queue.is_first(new));
    }
}

//! The endpoint as a plain model: it sees all that arrives, and knows what each process keeps.

use super::*;

/// Since when a process keeps these limits by itself.
type Kept = (Micros, Vec<Limit>);

/// What arrived when, from whom, and as how much each limit that was in force then has to count it.
#[derive(Debug)]
struct Arrival {
    at: Micros,
    who: usize,
    weights: Vec<(Limit, u64)>,
}

/// A process as the endpoint's judge sees it.
#[derive(Debug)]
struct Known {
    /// What it has kept by itself.
    kept: Vec<Kept>,
    /// What all others can know of that.
    told: Vec<Limit>,
    ended: Option<Micros>,
    waiting: usize,
    /// Since when nothing went on for those who wait there.
    still_since: Micros,
    is_stopped: bool,
}

impl Known {
    fn is_there(&self) -> bool {
        self.ended.is_none() && !self.is_stopped
    }
}

#[derive(Debug, Default)]
pub(super) struct Server {
    arrivals: Vec<Arrival>,
    processes: Vec<Known>,
    /// When the file was harmed or could not be used.
    troubles: Vec<(Micros, Option<Micros>)>,
    pub(super) has_pushed_back: bool,
}

impl Server {
    pub(super) fn begins(&mut self, limits: Vec<Limit>, now: Micros) -> usize {
        self.processes.push(Known {
            kept: vec![(now, limits)],
            told: Vec::new(),
            ended: None,
            waiting: 0,
            still_since: now,
            is_stopped: false,
        });
        self.processes.len() - 1
    }

    pub(super) fn ends(&mut self, who: usize, now: Micros) {
        self.processes[who].ended = Some(now);
    }

    /// It keeps this from now on, and has just told it to all who can read it.
    pub(super) fn keeps(&mut self, who: usize, limits: Vec<Limit>, now: Micros) {
        let is_usable = self.is_usable();
        let process = &mut self.processes[who];
        if process.kept.last().is_none_or(|(_, last)| *last != limits) {
            process.kept.push((now, limits.clone()));
        }
        if is_usable {
            process.told = limits;
        }
    }

    /// From now until `heals` nobody can count on the file.
    pub(super) fn trouble(&mut self, now: Micros) {
        self.troubles.push((now, None));
        for process in &mut self.processes {
            process.told.clear();
        }
    }

    pub(super) fn heals(&mut self, now: Micros) {
        let last = self.troubles.last_mut().filter(|(_, to)| to.is_none());
        last.unwrap().1 = Some(now);
    }

    fn is_usable(&self) -> bool {
        self.troubles.last().is_none_or(|(_, to)| to.is_some())
    }

    /// The machine is started anew; on its clock nothing was ever sent.
    pub(super) fn is_new(&mut self, now: Micros) {
        self.arrivals.clear();
        self.disturbed(now);
    }

    pub(super) fn waits(&mut self, who: usize, now: Micros) {
        let process = &mut self.processes[who];
        if process.waiting == 0 {
            process.still_since = now;
        }
        process.waiting += 1;
    }

    pub(super) fn goes_on(&mut self, who: usize, now: Micros) {
        let process = &mut self.processes[who];
        process.waiting -= 1;
        process.still_since = now;
    }

    pub(super) fn stops(&mut self, who: usize, is_stopped: bool, now: Micros) {
        let process = &mut self.processes[who];
        (process.is_stopped, process.still_since) = (is_stopped, now);
    }

    /// Everybody has to wait for something else from now on.
    pub(super) fn disturbed(&mut self, now: Micros) {
        for process in &mut self.processes {
            process.still_since = now;
        }
    }

    /// Nobody waits for longer than all the others together need for one request each.
    pub(super) fn nobody_waits_for_ever(&self, now: Micros) {
        let longest = 60 * SECOND * (MOST as u64 + 4);
        for (who, process) in self.processes.iter().enumerate() {
            if process.is_there() && process.waiting > 0 {
                let waits = now - process.still_since;
                assert!(
                    waits <= longest,
                    "{who} waits for {waits} us: {:?}",
                    self.in_force(who)
                );
            }
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        let mut there = self.processes.iter().filter(|known| known.is_there());
        there.any(|process| process.waiting > 0)
    }

    /// The lowest of each limit that living processes keep, as far as `who` can know.
    pub(super) fn in_force(&self, who: usize) -> Vec<Limit> {
        let mut lowest: Vec<Limit> = Vec::new();
        let (_, own) = self.processes[who].kept.last().unwrap();
        let living = self.processes.iter().filter(|known| known.ended.is_none());
        for limit in living.flat_map(|known| &known.told).chain(own) {
            match lowest.iter_mut().find(|low| low.is_like(*limit)) {
                Some(low) => low.amount = low.amount.min(limit.amount),
                None => lowest.push(*limit),
            }
        }
        lowest
    }

    /// A request of so many tokens arrives: none of the limits is exceeded.
    pub(super) fn arrives(&mut self, who: usize, tokens: u64, now: Micros) -> usize {
        self.goes_on(who, now);
        let mut weights = Vec::new();
        for limit in self.in_force(who) {
            let weight = match limit.unit {
                Unit::Requests => 1,
                Unit::Tokens => tokens.min(limit.amount),
            };
            let used = weight + self.used(limit, now, |_| true);
            let begin = now.saturating_sub(limit.window);
            let is_whole = !self
                .troubles
                .iter()
                .any(|(_, to)| to.is_none_or(|to| to >= begin));
            match is_whole {
                true => assert!(used <= limit.amount, "{used} of {limit} at {now}"),
                false => {
                    // Each keeps at least its own, whatever becomes of the file.
                    let of_one = self.most_of(who, limit, begin);
                    let own = weight + self.used(limit, now, |arrival| arrival.who == who);
                    assert!(
                        of_one.is_none_or(|most| own <= most),
                        "{own} of {who}, {limit}"
                    );
                    let most = self.most_of_all(limit, begin);
                    assert!(
                        most.is_none_or(|most| used <= most),
                        "{used} of {most:?}, {limit}"
                    );
                }
            }
            weights.push((limit, weight));
        }
        let at = now;
        self.arrivals.push(Arrival { at, who, weights });
        self.arrivals.len() - 1
    }

    /// What has come to `cost` tokens, or did not leave after all.
    pub(super) fn came_to(&mut self, number: usize, cost: Option<u64>) {
        // Another start of the machine has forgotten it.
        let Some(arrival) = self.arrivals.get_mut(number) else {
            return;
        };
        for (limit, weight) in &mut arrival.weights {
            *weight = match (cost, limit.unit) {
                (None, _) => 0,
                (Some(_), Unit::Requests) => 1,
                (Some(cost), Unit::Tokens) => cost,
            };
        }
    }

    fn used(&self, like: Limit, now: Micros, whose: impl Fn(&Arrival) -> bool) -> u64 {
        let lately = self.arrivals.iter().rev();
        let lately = lately.take_while(|arrival| arrival.at + like.window > now);
        let weights = lately
            .filter(|arrival| whose(arrival))
            .flat_map(|arrival| &arrival.weights);
        let of_it = weights.filter(|(limit, _)| limit.is_like(like));
        of_it.map(|(_, weight)| weight).sum()
    }

    /// The most that a process kept by itself since then; `None` where it kept no such limit for some of the time.
    fn most_of(&self, who: usize, like: Limit, since: Micros) -> Option<u64> {
        let kept = &self.processes[who].kept;
        let ends = kept.iter().skip(1).map(|(from, _)| *from);
        let with_ends = kept.iter().zip(ends.chain([Micros::MAX]));
        let lately = with_ends.filter(|(_, end)| *end > since);
        let mut amounts = lately.map(|((_, limits), _)| {
            let limit = limits.iter().find(|limit| limit.is_like(like));
            limit.map(|limit| limit.amount)
        });
        amounts.try_fold(0, |most, amount| Some(amount?.max(most)))
    }

    fn most_of_all(&self, like: Limit, since: Micros) -> Option<u64> {
        let all = self.processes.iter().enumerate();
        let lived = all.filter(|(_, known)| known.ended.is_none_or(|ended| ended > since));
        lived.map(|(who, _)| self.most_of(who, like, since)).sum()
    }
}

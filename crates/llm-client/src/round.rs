use std::time::Duration;

/// What was seen of the endpoint while the number of requests at the same time stayed as it is.
///
/// One latency says little, for answers differ in length. So it adds up how long requests were under way and how
/// much came of it, in answers and in tokens: their ratio is the speed of one request, and that times the requests
/// under way is the throughput (Little's law). It does not matter where in their work requests are when the round
/// begins and ends, nor whether they move in step.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Round {
    pub(crate) requests: f64,
    /// Seconds that the requests which ended were under way, added up.
    busy: f64,
    busy_squared: f64,
    answers: Work,
    tokens: Work,
    /// Requests under way, times seconds.
    area: f64,
    /// Seconds.
    pub(crate) time: f64,
}

/// What came of requests, in one unit.
#[derive(Debug, Clone, Copy, Default)]
struct Work {
    sum: f64,
    squared: f64,
    by_busy: f64,
}

/// How much more throughput there is than somewhere else, as a natural logarithm, and its standard error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gain {
    pub(crate) gain: f64,
    pub(crate) error: f64,
}

impl Round {
    /// A request has ended; `tokens` are those of a good answer.
    pub(crate) fn ended(&mut self, under_way: Duration, tokens: Option<u64>) {
        let busy = under_way.as_secs_f64();
        self.requests += 1.0;
        self.busy += busy;
        self.busy_squared += busy * busy;
        if let Some(tokens) = tokens {
            self.answers.add(1.0, busy);
            self.tokens.add(tokens as f64, busy);
        }
    }

    /// So many requests were under way for so long.
    pub(crate) fn passed(&mut self, under_way: usize, time: Duration) {
        self.area += under_way as f64 * time.as_secs_f64();
        self.time += time.as_secs_f64();
    }

    /// Requests under way, on an average.
    pub(crate) fn under_way(&self) -> f64 {
        self.area / self.time
    }

    /// The mean time that a request took.
    pub(crate) fn latency(&self) -> Duration {
        Duration::try_from_secs_f64(self.busy / self.requests).unwrap_or_default()
    }

    /// This round and half of what was known before.
    pub(crate) fn after(&self, before: &Round) -> Round {
        let work = |now: Work, then: Work| Work {
            sum: now.sum + then.sum / 2.0,
            squared: now.squared + then.squared / 2.0,
            by_busy: now.by_busy + then.by_busy / 2.0,
        };
        Round {
            requests: self.requests + before.requests / 2.0,
            busy: self.busy + before.busy / 2.0,
            busy_squared: self.busy_squared + before.busy_squared / 2.0,
            answers: work(self.answers, before.answers),
            tokens: work(self.tokens, before.tokens),
            area: self.area + before.area / 2.0,
            time: self.time + before.time / 2.0,
        }
    }

    /// Compares two rounds by answers or by tokens, whichever fits the latencies better: where long answers
    /// take long, tokens say the same much sooner.
    pub(crate) fn gain_over(&self, other: &Round) -> Gain {
        let by = |work: fn(&Round) -> Work| {
            let (here, error) = self.throughput(work(self));
            let (there, other_error) = other.throughput(work(other));
            Gain {
                gain: here - there,
                error: error.hypot(other_error),
            }
        };
        let (answers, tokens) = (by(|round| round.answers), by(|round| round.tokens));
        if tokens.error < answers.error {
            tokens
        } else {
            answers
        }
    }

    /// The logarithm of the throughput, and its standard error: that of a ratio of sums.
    fn throughput(&self, work: Work) -> (f64, f64) {
        // So that nothing at all has a logarithm too.
        let sum = work.sum.max(1e-6);
        let speed = sum / self.busy;
        let residual =
            work.squared - 2.0 * speed * work.by_busy + speed * speed * self.busy_squared;
        (
            (self.under_way() * speed).ln(),
            residual.max(0.0).sqrt() / sum,
        )
    }
}

impl Work {
    fn add(&mut self, amount: f64, busy: f64) {
        self.sum += amount;
        self.squared += amount * amount;
        self.by_busy += amount * busy;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(requests: &[(f64, Option<u64>)], under_way: usize, seconds: u64) -> Round {
        let mut round = Round::default();
        for (busy, tokens) in requests {
            round.ended(Duration::from_secs_f64(*busy), *tokens);
        }
        round.passed(under_way, Duration::from_secs(seconds));
        round
    }

    #[test]
    fn answers_that_take_as_long_as_they_are_are_compared_by_tokens() {
        let long = round(&[(9.0, Some(90)), (3.0, Some(30))], 2, 6);
        let short = round(&[(1.0, Some(10)), (2.0, Some(20))], 2, 6);
        let Gain { gain, error } = long.gain_over(&short);
        assert!(gain.abs() < 1e-9 && error < 1e-9, "{gain} +- {error}");
    }

    #[test]
    fn tokens_that_have_nothing_to_do_with_the_time_are_not_looked_at() {
        let few = round(&[(2.0, Some(3)), (2.0, Some(700))], 2, 2);
        let many = round(&[(2.0, Some(90)), (2.0, Some(1))], 4, 2);
        let Gain { gain, error } = many.gain_over(&few);
        assert!((gain - 2f64.ln()).abs() < 1e-9 && error < 1e-9, "{gain}");
    }

    #[test]
    fn a_request_that_came_to_nothing_is_time_without_work() {
        let all = round(&[(1.0, Some(5)); 4], 4, 1);
        let half = round(
            &[(1.0, Some(5)), (1.0, None), (1.0, None), (1.0, Some(5))],
            4,
            1,
        );
        assert!((half.gain_over(&all).gain + 2f64.ln()).abs() < 1e-9);
        let none = round(&[(1.0, None); 4], 4, 1);
        assert!(none.gain_over(&all).gain < -10.0);
    }
}

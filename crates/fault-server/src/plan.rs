use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::fault::{Fault, Play};
use crate::question::Question;

/// What a server does to whom, and when. The same plan does the same to the same rows.
///
/// ```
/// use data_generation_fault_server::{Latency, Plan, Times, Who, Fault};
/// use std::time::Duration;
///
/// let fault = Fault::named("insufficient-quota").expect("it is in the table");
/// let plan = Plan::good()
///     .fault(fault, Who::Row(7), Times::Always)
///     .latency(Latency::Fixed(Duration::from_millis(50)));
/// ```
#[derive(Clone)]
pub struct Plan {
    pub(crate) seed: u64,
    pub(crate) port: u16,
    pub(crate) rules: Vec<Rule>,
    pub(crate) latency: Latency,
    /// Of what is played as a fault, where it is another one.
    pub(crate) fault_latency: Option<Latency>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) concurrency: Option<usize>,
    /// What whoever exceeds that gets, where it is not 429.
    pub(crate) busy: Option<(u16, &'static str)>,
    pub(crate) outages: Vec<Outage>,
    pub(crate) hurry: u32,
    pub(crate) text: Arc<dyn Fn(&Question) -> String + Send + Sync>,
}

/// One fault, for some rows, some times.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) fault: &'static Fault,
    pub(crate) who: Who,
    pub(crate) times: Times,
}

/// The rows that meet a fault.
#[derive(Clone)]
pub enum Who {
    /// The row that asks first.
    FirstRow,
    /// The n-th different row to ask, from 0.
    Arrival(usize),
    /// The row with this number in its user message.
    Row(u64),
    /// Rows whose number is a multiple of this.
    EveryNth(u64),
    /// All rows.
    Every,
    /// Rows whose user message is such.
    Rows(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

/// How often a row meets a fault before it gets good answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The first time only.
    Once,
    /// So many times.
    First(u32),
    /// Always.
    Always,
}

/// The time between a question and its answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Latency {
    /// None.
    None,
    /// Always the same.
    Fixed(Duration),
    /// Anything between two, equally likely.
    Uniform(Duration, Duration),
    /// Mostly near the median, sometimes many times as long.
    LogNormal {
        /// Half of the answers are quicker.
        median: Duration,
        /// How far they spread; 0.5 is a calm endpoint, 1 a lively one.
        sigma: f64,
    },
}

/// What may be asked within any stretch of time. What is refused does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The stretch of time.
    pub window: Duration,
    /// Questions, at most.
    pub requests: Option<u64>,
    /// Tokens of questions and answers, at most, counted when a question arrives.
    pub tokens: Option<u64>,
    /// Whether the 429 says how long to wait.
    pub retry_after: bool,
}

/// A stretch of time without an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// From this time after the start of the server.
    pub from: Duration,
    /// To this time after the start of the server.
    pub to: Duration,
    /// What everybody gets.
    pub how: Down,
}

/// What everybody gets while the endpoint is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// Nobody listens: what is under way is reset, what comes is refused.
    Refused,
    /// A status, as from a proxy whose server is away.
    Status(u16),
}

impl Plan {
    /// Good answers, at once: `<draft>answer to row N</draft>`.
    pub fn good() -> Plan {
        Plan {
            seed: 0,
            port: 0,
            rules: Vec::new(),
            latency: Latency::None,
            fault_latency: None,
            limits: Vec::new(),
            concurrency: None,
            busy: None,
            outages: Vec::new(),
            hurry: 1,
            text: Arc::new(|question| format!("<draft>answer to row {}</draft>", question.row)),
        }
    }

    /// Plays a fault. Of several rules for a request the first one holds.
    pub fn fault(mut self, fault: &'static Fault, who: Who, times: Times) -> Plan {
        self.rules.push(Rule { fault, who, times });
        self
    }

    /// The time before each answer.
    pub fn latency(mut self, latency: Latency) -> Plan {
        self.latency = latency;
        self
    }

    /// The time before what is played as a fault, where it is not that of every answer: so a test says which
    /// of several answers under way comes first.
    pub fn fault_latency(mut self, latency: Latency) -> Plan {
        self.fault_latency = Some(latency);
        self
    }

    /// What the luck of the latencies is made of, together with row and number of the request.
    pub fn seed(mut self, seed: u64) -> Plan {
        self.seed = seed;
        self
    }

    /// Adds a limit; whoever exceeds it gets 429.
    pub fn limit(mut self, limit: Limit) -> Plan {
        self.limits.push(limit);
        self
    }

    /// Questions at the same time, at most; whoever exceeds it gets 429.
    pub fn concurrency(mut self, most: usize) -> Plan {
        self.concurrency = Some(most);
        self
    }

    /// What whoever exceeds [`concurrency`](Plan::concurrency) gets instead of 429: a status, and the words of the body.
    pub fn busy(mut self, status: u16, words: &'static str) -> Plan {
        self.busy = Some((status, words));
        self
    }

    /// Adds a time without an endpoint. What is earlier comes first.
    pub fn outage(mut self, from: Duration, to: Duration, how: Down) -> Plan {
        self.outages.push(Outage { from, to, how });
        self.outages.sort_by_key(|outage| outage.from);
        self
    }

    /// Divides the durations of stalling plays (a byte every five seconds, ...) by this, for tests.
    pub fn hurried(mut self, factor: u32) -> Plan {
        self.hurry = factor.max(1);
        self
    }

    /// The port; 0 (the default) for any that is free.
    pub fn port(mut self, port: u16) -> Plan {
        self.port = port;
        self
    }

    /// What a good answer says.
    pub fn answers(mut self, text: impl Fn(&Question) -> String + Send + Sync + 'static) -> Plan {
        self.text = Arc::new(text);
        self
    }

    /// The fault of the address itself, where one is planned.
    pub(crate) fn of_the_address(&self) -> Option<&'static Fault> {
        let mut faults = self.rules.iter().map(|rule| rule.fault);
        faults.find(|fault| fault.is_of_the_address())
    }

    pub(crate) fn speaks_http2(&self) -> bool {
        let mut faults = self.rules.iter().map(|rule| rule.fault);
        faults.any(|fault| matches!(fault.play, Play::NotProcessed { .. }))
    }

    /// Whether nobody ever listens.
    pub(crate) fn is_never_there(&self) -> bool {
        self.rules.iter().any(|rule| {
            matches!(rule.fault.play, Play::Refused(_))
                && matches!((&rule.who, rule.times), (Who::Every, Times::Always))
        })
    }
}

impl Default for Plan {
    fn default() -> Plan {
        Plan::good()
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<_> = self.rules.iter().map(|rule| rule.fault.name).collect();
        f.debug_struct("Plan")
            .field("seed", &self.seed)
            .field("faults", &rules)
            .field("latency", &self.latency)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::FirstRow => f.write_str("FirstRow"),
            Who::Arrival(n) => write!(f, "Arrival({n})"),
            Who::Row(row) => write!(f, "Row({row})"),
            Who::EveryNth(n) => write!(f, "EveryNth({n})"),
            Who::Every => f.write_str("Every"),
            Who::Rows(_) => f.write_str("Rows(..)"),
        }
    }
}

impl Who {
    /// `arrival` is the place of the question's row among all rows that asked, from 0.
    pub(crate) fn meets(&self, question: &Question, arrival: usize) -> bool {
        match self {
            Who::FirstRow => arrival == 0,
            Who::Arrival(n) => arrival == *n,
            Who::Row(row) => question.row == *row,
            Who::EveryNth(n) => *n != 0 && question.row.is_multiple_of(*n),
            Who::Every => true,
            Who::Rows(such) => such(&question.user),
        }
    }
}

impl Times {
    /// Whether there is another time after so many.
    pub(crate) fn again_after(self, met: u32) -> bool {
        match self {
            Times::Once => met == 0,
            Times::First(times) => met < times,
            Times::Always => true,
        }
    }
}

impl Latency {
    /// The same for the same seed, row and number, in whatever order questions come.
    pub(crate) fn of(self, seed: u64, row: u64, nth: u32) -> Duration {
        let parts = [seed, row, u64::from(nth)].map(u64::to_le_bytes);
        let mut luck = fastrand::Rng::with_seed(crate::question::hash(parts.as_flattened()));
        match self {
            Latency::None => Duration::ZERO,
            Latency::Fixed(time) => time,
            Latency::Uniform(least, most) => least + most.saturating_sub(least).mul_f64(luck.f64()),
            Latency::LogNormal { median, sigma } => {
                // Box and Muller make a normal number of two equal ones.
                let radius = (-2.0 * (1.0 - luck.f64()).ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * luck.f64()).cos();
                // No answer takes longer than a thousand times the median.
                median.mul_f64((sigma * normal).exp().clamp(0.0, 1000.0))
            }
        }
    }
}

/// What a limit still knows: who came when within its window, and with how many tokens.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    limit: Limit,
    taken: VecDeque<(Instant, u64)>,
}

impl Window {
    pub(crate) fn new(limit: Limit) -> Window {
        Window {
            limit,
            taken: VecDeque::new(),
        }
    }

    pub(crate) fn says_when(&self) -> bool {
        self.limit.retry_after
    }

    /// How long until a question of so many tokens fits; zero: now.
    pub(crate) fn wait(&mut self, now: Instant, tokens: u64) -> Duration {
        while let Some((time, _)) = self.taken.front()
            && now - *time >= self.limit.window
        {
            self.taken.pop_front();
        }
        let mut requests = self.taken.len() as u64;
        let mut spent: u64 = self.taken.iter().map(|(_, tokens)| tokens).sum();
        let fits = |requests: u64, spent: u64| {
            self.limit.requests.is_none_or(|most| requests < most)
                && self.limit.tokens.is_none_or(|most| spent + tokens <= most)
        };
        if fits(requests, spent) {
            return Duration::ZERO;
        }
        for (time, tokens) in &self.taken {
            requests -= 1;
            spent -= tokens;
            if fits(requests, spent) {
                return *time + self.limit.window - now;
            }
        }
        // It never fits; a whole window is as good an answer as any.
        self.limit.window
    }

    pub(crate) fn take(&mut self, now: Instant, tokens: u64) {
        self.taken.push_back((now, tokens));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_latencies_and_another_one_others() {
        let latency = Latency::LogNormal {
            median: Duration::from_millis(100),
            sigma: 0.5,
        };
        let of = |seed| -> Vec<Duration> { (0..50).map(|row| latency.of(seed, row, 1)).collect() };
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        assert_ne!(latency.of(7, 1, 1), latency.of(7, 1, 2));
    }

    #[test]
    fn latencies_are_spread_as_they_should_be() {
        let ms = Duration::from_millis;
        let uniform = Latency::Uniform(ms(10), ms(20));
        let times: Vec<Duration> = (0..1000).map(|row| uniform.of(1, row, 1)).collect();
        assert!(times.iter().all(|time| (ms(10)..=ms(20)).contains(time)));
        let normal = Latency::LogNormal {
            median: ms(100),
            sigma: 1.0,
        };
        let mut times: Vec<Duration> = (0..1000).map(|row| normal.of(1, row, 1)).collect();
        times.sort();
        assert!((ms(85)..ms(118)).contains(&times[500]), "{:?}", times[500]);
        assert!(times[975] > ms(400) && times[25] < ms(25));
    }

    #[test]
    fn a_window_slides() {
        let mut window = Window::new(Limit {
            window: Duration::from_secs(60),
            requests: Some(2),
            tokens: Some(100),
            retry_after: true,
        });
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(window.wait(at(0), 10), Duration::ZERO);
        window.take(at(0), 10);
        window.take(at(30), 80);
        assert_eq!(window.wait(at(40), 10), Duration::from_secs(20));
        // A minute after the first one there is room for a request, but only for twenty tokens.
        assert_eq!(window.wait(at(60), 20), Duration::ZERO);
        assert_eq!(window.wait(at(60), 21), Duration::from_secs(30));
        assert_eq!(window.wait(at(60), 101), Duration::from_secs(60));
    }

    #[test]
    fn rules_know_whom_and_how_often() {
        let mut question = Question::of(br#"{"messages":[{"role":"user","content":"row 6"}]}"#);
        assert!(Who::Row(6).meets(&question, 3) && Who::EveryNth(3).meets(&question, 3));
        assert!(Who::Arrival(3).meets(&question, 3) && !Who::FirstRow.meets(&question, 3));
        assert!(Who::Rows(Arc::new(|user| user.contains("row"))).meets(&question, 0));
        question.row = 7;
        assert!(!Who::EveryNth(3).meets(&question, 0) && !Who::EveryNth(0).meets(&question, 0));
        assert!(Times::Once.again_after(0) && !Times::Once.again_after(1));
        assert!(Times::First(2).again_after(1) && !Times::First(2).again_after(2));
        assert!(Times::Always.again_after(9));
    }
}

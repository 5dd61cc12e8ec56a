//! The number of requests at the same time that the client finds by itself, against the best that anybody could have
//! set, on endpoints of many shapes. It stands here because it keeps a processor busy for some seconds, and beside
//! the integration tests it would be in the way of those that wait for sockets.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::{Answer, Client, ClientOptions, Headers, LimitOptions, Model, Request, TransportError};

/// Seconds that an answer takes, on an average, while the endpoint has little to do.
const LATENCY: f64 = 4.0;

/// How an endpoint behaves under load.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    /// How fast each request is worked on, from 0 to 1, with so many at once and so many seconds after the
    /// start.
    speed: fn(usize, f64) -> f64,
    /// Above so many at once it refuses.
    refuses_above: Option<(usize, Refusal)>,
    /// Whether long answers are what takes long; else all are as long as each other.
    by_length: bool,
}

/// What those above its limit get from an endpoint.
#[derive(Clone, Copy)]
struct Refusal {
    status: u16,
    body: &'static str,
    retry_after: Option<&'static str>,
}

impl Refusal {
    const fn of(status: u16, body: &'static str, retry_after: Option<&'static str>) -> Refusal {
        Refusal {
            status,
            body,
            retry_after,
        }
    }
}

struct Endpoint {
    shape: Shape,
    /// Of the logarithm of the work that an answer takes.
    sigma: f64,
    start: Instant,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    luck: fastrand::Rng,
    /// What each of those that are under way has been given since the start, in seconds of work.
    progress: f64,
    counted_until: Instant,
    /// Those under way, by the progress at which they are done.
    open: BinaryHeap<Reverse<(u64, u64)>>,
    waiting: std::collections::HashMap<u64, oneshot::Sender<()>>,
    joined: u64,
    answered: u64,
}

impl Endpoint {
    fn new(shape: Shape, sigma: f64) -> Arc<Endpoint> {
        let start = Instant::now();
        let state = State {
            luck: fastrand::Rng::with_seed(11),
            progress: 0.0,
            counted_until: start,
            open: BinaryHeap::new(),
            waiting: std::collections::HashMap::new(),
            joined: 0,
            answered: 0,
        };
        Arc::new(Endpoint {
            shape,
            sigma,
            start,
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    /// What has been done until now.
    fn catch_up(&self, state: &mut State) -> f64 {
        let now = Instant::now();
        let at = (state.counted_until - self.start).as_secs_f64();
        let speed = (self.shape.speed)(state.open.len(), at);
        state.progress += speed * (now - state.counted_until).as_secs_f64();
        state.counted_until = now;
        speed
    }

    /// As short as an answer can be: there are tens of thousands.
    fn body(&self, work: f64) -> String {
        let tokens = if self.shape.by_length {
            work * 100.0
        } else {
            100.0
        } as u64;
        format!(
            r#"{{"choices":[{{"message":{{"content":"good"}}}}],"usage":{{"prompt_tokens":9,"completion_tokens":{tokens}}}}}"#
        )
    }

    async fn works(self: Arc<Self>) {
        loop {
            let wait = {
                let mut state = self.state.lock().unwrap();
                self.catch_up(&mut state);
                while let Some(Reverse((at, number))) = state.open.peek().copied()
                    && nanos(state.progress) >= at
                {
                    state.open.pop();
                    state.answered += 1;
                    let waits = state.waiting.remove(&number);
                    waits.expect("somebody").send(()).unwrap();
                }
                let speed = self.catch_up(&mut state);
                let next = state.open.peek();
                next.map_or(1.0, |Reverse((at, _))| {
                    (*at as f64 / 1e9 - state.progress).max(0.0) / speed
                })
            };
            // Speeds change with time as well.
            let wait = Duration::from_secs_f64(wait.clamp(0.001, 1.0));
            drop(timeout(wait, self.changed.notified()).await);
        }
    }
}

/// As much work as an answer has: seconds, log-normal with a mean of [`LATENCY`].
fn work(luck: &mut fastrand::Rng, sigma: f64) -> f64 {
    let normal =
        (-2.0 * (1.0 - luck.f64()).ln()).sqrt() * (luck.f64() * std::f64::consts::TAU).cos();
    LATENCY * (sigma * normal - sigma * sigma / 2.0).exp()
}

/// Answers a second of an endpoint that always has exactly so many to work on, by calculation alone: it takes no
/// client and no runtime, so that many can be tried. Nothing is refused.
fn throughput_at(shape: Shape, sigma: f64, at_once: usize, time: Duration) -> f64 {
    let mut luck = fastrand::Rng::with_seed(12);
    let (mut now, mut progress, mut answered) = (0.0, 0.0, 0);
    let mut open: BinaryHeap<Reverse<u64>> = (0..at_once)
        .map(|_| Reverse(nanos(work(&mut luck, sigma))))
        .collect();
    while now < time.as_secs_f64() {
        let speed = (shape.speed)(at_once, now);
        let next = open.peek().map_or(0, |Reverse(at)| *at) as f64 / 1e9;
        let wait = ((next - progress).max(0.0) / speed).min(1.0);
        (now, progress) = (now + wait, progress + wait * speed);
        while open
            .peek()
            .is_some_and(|Reverse(at)| *at <= nanos(progress))
        {
            answered += 1;
            open.pop();
            open.push(Reverse(nanos(progress + work(&mut luck, sigma))));
        }
    }
    f64::from(answered) / time.as_secs_f64()
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

impl Model for Endpoint {
    fn provider(&self) -> &str {
        "shaped"
    }

    fn model(&self) -> &str {
        "shaped-1"
    }

    fn ask<'a>(&'a self, _: &'a Request, _: u32) -> BoxFuture<'a, Result<Answer, TransportError>> {
        Box::pin(async move {
            let joined = {
                let mut state = self.state.lock().unwrap();
                self.catch_up(&mut state);
                match self.shape.refuses_above {
                    Some((most, refusal)) if state.open.len() >= most => Err(refusal),
                    _ => {
                        let work = work(&mut state.luck, self.sigma);
                        let number = state.joined;
                        state.joined += 1;
                        let done_at = nanos(state.progress + work);
                        state.open.push(Reverse((done_at, number)));
                        let (done, hears) = oneshot::channel();
                        state.waiting.insert(number, done);
                        Ok((hears, work))
                    }
                }
            };
            match joined {
                Ok((hears, work)) => {
                    self.changed.notify_one();
                    hears.await.unwrap();
                    Ok(Answer::from_body(200, self.body(work)))
                }
                Err(refusal) => {
                    sleep(Duration::from_millis(50)).await;
                    let mut answer = Answer::from_body(refusal.status, refusal.body);
                    let hint = refusal.retry_after.map(|hint| ("retry-after", hint));
                    answer.headers = Headers::from_pairs(hint);
                    Ok(answer)
                }
            }
        })
    }
}

/// What a run came to.
struct Ran {
    /// Answers a second.
    throughput: f64,
    /// The level every ten seconds, where it is not fixed.
    levels: Vec<usize>,
}

/// Asks for so long, about so many rows at once, of which there are more than there is time for.
fn run(
    shape: Shape,
    sigma: f64,
    options: &ClientOptions,
    rows_at_once: usize,
    time: Duration,
) -> Ran {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let endpoint = Endpoint::new(shape, sigma);
        tokio::spawn(Arc::clone(&endpoint).works());
        let model = Arc::clone(&endpoint) as Arc<dyn Model>;
        let client = Arc::new(Client::new(model, options.clone()).seeded(1));
        for worker in 0..rows_at_once {
            let client = Arc::clone(&client);
            let request = Request::user(format!("row {worker}"));
            tokio::spawn(async move {
                loop {
                    client.ask(&request).await.unwrap();
                }
            });
        }
        let mut levels = Vec::new();
        while endpoint.start.elapsed() < time {
            sleep(Duration::from_secs(10)).await;
            levels.extend(client.level());
        }
        let answered = endpoint.state.lock().unwrap().answered;
        Ran {
            throughput: answered as f64 / time.as_secs_f64(),
            levels,
        }
    })
}

/// Twelve minutes on the clock of the test, 180 times as long as an answer takes.
const TIME: Duration = Duration::from_secs(720);
/// Of the best fixed number's throughput.
const AT_LEAST: f64 = 0.85;

/// What a server that works on `capacity` requests at full speed gives to each of `n`.
fn shared(capacity: f64, n: usize) -> f64 {
    (capacity / n as f64).min(1.0)
}

const FLAT: Shape = Shape {
    name: "flat",
    speed: |_, _| 1.0,
    refuses_above: None,
    by_length: false,
};

fn at_once(concurrency: usize) -> ClientOptions {
    ClientOptions {
        concurrency: concurrency.try_into().unwrap(),
        ..ClientOptions::default()
    }
}

fn adaptive(most: usize) -> ClientOptions {
    ClientOptions {
        adaptive: true,
        ..at_once(most)
    }
}

/// How much latencies differ: the sigma of a log-normal distribution.
const USUAL: f64 = 0.5;

/// The levels that come after the climb.
fn is_found(shape: Shape, sigma: f64, most: usize, time: Duration) -> Vec<usize> {
    let found = run(shape, sigma, &adaptive(most), most, time);
    // What becomes of those that are refused is for the client to decide, so that is no matter of calculation.
    let fixed: Vec<(usize, f64)> = match shape.refuses_above {
        None => [8, 16, 32, 64, 96, 128, 256]
            .into_iter()
            .filter(|fixed| *fixed <= most)
            .map(|fixed| (fixed, throughput_at(shape, sigma, fixed, time)))
            .collect(),
        Some((limit, _)) => [limit, limit + limit / 4]
            .into_iter()
            .map(|fixed| {
                (
                    fixed,
                    run(shape, sigma, &at_once(fixed), fixed, time / 6).throughput,
                )
            })
            .collect(),
    };
    let best = fixed.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let share = found.throughput / best;
    let mut table = format!("{}, sigma {sigma}: answers a second\n", shape.name);
    for (fixed, rate) in &fixed {
        writeln!(table, "  {fixed:>5} {rate:>7.2}").unwrap();
    }
    writeln!(
        table,
        "   auto {:>7.2}, {share:.3} of the best",
        found.throughput
    )
    .unwrap();
    writeln!(table, "  levels {:?}", found.levels).unwrap();
    println!("{table}");
    assert!(share >= AT_LEAST, "{table}");
    found.levels[found.levels.len() / 4..].to_vec()
}

#[test]
fn an_endpoint_without_a_knee_gets_as_many_as_are_allowed() {
    is_found(FLAT, USUAL, 64, TIME / 2);
}

#[test]
fn a_knee_is_found() {
    let shape = Shape {
        name: "knee at 64",
        speed: |n, _| shared(64.0, n),
        refuses_above: None,
        by_length: false,
    };
    for (sigma, time) in [(0.0, TIME / 2), (USUAL, TIME)] {
        let levels = is_found(shape, sigma, 1024, time);
        assert!(
            levels.iter().all(|level| (40..=128).contains(level)),
            "{levels:?}"
        );
    }
}

#[test]
fn a_knee_that_moves_is_followed() {
    let shape = Shape {
        name: "knee at 64, then 24, then 96",
        speed: |n, at| match at {
            ..240.0 => shared(64.0, n),
            ..480.0 => shared(24.0, n),
            _ => shared(96.0, n),
        },
        refuses_above: None,
        by_length: false,
    };
    is_found(shape, USUAL, 1024, TIME);
}

#[test]
fn slow_moments_change_little() {
    let shape = Shape {
        name: "knee at 64, and now and then everything takes ten times as long for 12 s",
        speed: |n, at| shared(64.0, n) * if at % 150.0 > 138.0 { 0.1 } else { 1.0 },
        refuses_above: None,
        by_length: false,
    };
    is_found(shape, USUAL, 1024, TIME);
}

#[test]
fn a_limit_that_is_not_told_is_kept_below() {
    for hint in [None, Some("5")] {
        let shape = Shape {
            name: "429 above 40",
            speed: |_, _| 1.0,
            refuses_above: Some((40, Refusal::of(429, "", hint))),
            by_length: false,
        };
        is_found(shape, USUAL, 1024, TIME);
    }
}

#[test]
fn a_server_that_has_no_slot_for_more_is_kept_near_its_slots() {
    for (body, hint) in [
        ("", None),
        ("", Some("1")),
        (
            "server busy, please try again. maximum pending requests exceeded",
            None,
        ),
    ] {
        let shape = Shape {
            name: "503 above 40",
            speed: |_, _| 1.0,
            refuses_above: Some((40, Refusal::of(503, body, hint))),
            by_length: false,
        };
        let levels = is_found(shape, USUAL, 1024, TIME);
        assert!(
            levels.iter().all(|level| (20..=48).contains(level)),
            "{levels:?}"
        );
    }
}

#[test]
fn a_server_that_works_in_batches_is_given_large_ones() {
    let shape = Shape {
        name: "batches",
        speed: |n, _| 1.0 / (1.0 + n as f64 / 64.0),
        refuses_above: None,
        by_length: false,
    };
    is_found(shape, USUAL, 256, TIME / 2);
}

#[test]
fn a_server_that_too_many_slow_down_is_not_given_too_many() {
    let shape = Shape {
        name: "knee at 64, and less in all above it",
        speed: |n, _| shared(64.0, n).powi(2),
        refuses_above: None,
        by_length: false,
    };
    is_found(shape, USUAL, 1024, TIME);
}

#[test]
fn where_rows_or_a_rate_limit_are_what_holds_it_does_not_grow() {
    let few_rows = run(FLAT, 0.5, &adaptive(1024), 6, TIME);
    assert_eq!(few_rows.levels.iter().max(), Some(&8));
    // Five are under way on an average.
    let mut slow = adaptive(1024);
    slow.limits = LimitOptions::per_minute(75.try_into().ok());
    let slow = run(FLAT, 0.5, &slow, 64, TIME);
    assert_eq!(slow.levels.iter().max(), Some(&8));
    // Twelve are: what the limit allows is used all the same.
    let mut used = adaptive(1024);
    used.limits = LimitOptions::per_minute(180.try_into().ok());
    let used = run(FLAT, 0.5, &used, 64, TIME);
    assert!(used.throughput > 2.9, "{} a second", used.throughput);
    // Now and then all sixteen happen to be used, and then it tries more.
    let above = used.levels.iter().filter(|level| **level > 16).count();
    assert!(above * 2 < used.levels.len(), "{:?}", used.levels);
    assert!(
        used.levels.iter().all(|level| *level <= 32),
        "{:?}",
        used.levels
    );
}

#[test]
fn the_same_events_give_the_same_levels() {
    let levels = || run(FLAT, 0.5, &adaptive(64), 64, TIME / 10).levels;
    assert_eq!(levels(), levels());
}

#[test]
fn answers_of_different_length_do_not_hide_a_knee() {
    let shape = Shape {
        name: "knee at 64, and long answers are what takes long",
        speed: |n, _| shared(64.0, n),
        refuses_above: None,
        by_length: true,
    };
    let found = run(shape, USUAL, &adaptive(1024), 1024, TIME / 2);
    assert!(
        found.throughput > AT_LEAST * 16.0,
        "{} a second",
        found.throughput
    );
    // A trial goes a step of 1.4 further.
    let (_, settled) = found.levels.split_at(found.levels.len() / 4);
    assert!(
        settled.iter().all(|level| (40..=96).contains(level)),
        "{settled:?}"
    );
}

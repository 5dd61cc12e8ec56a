//! An endpoint that works on so many at once and turns away whoever finds no slot: no row is lost by that.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation_llm_client::{
    Answer, Client, ClientOptions, Error, Model, Reply, Request, TransportError, TransportKind,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};

use crate::cases::number;
use crate::scripted::{Outcome, at_once, row, status, with_header};

const SECOND: Duration = Duration::from_secs(1);

struct Slots {
    slots: usize,
    takes: Duration,
    refused: fn() -> Outcome,
    taken: Mutex<usize>,
    asked: AtomicUsize,
}

impl Slots {
    fn new(slots: usize, takes: Duration, refused: fn() -> Outcome) -> Arc<Slots> {
        Arc::new(Slots {
            slots,
            takes,
            refused,
            taken: Mutex::default(),
            asked: AtomicUsize::new(0),
        })
    }

    fn client(self: &Arc<Slots>, options: ClientOptions, seed: u64) -> Client {
        Client::new(Arc::clone(self) as Arc<dyn Model>, options).seeded(seed)
    }
}

impl Model for Slots {
    fn provider(&self) -> &str {
        "slots"
    }

    fn model(&self) -> &str {
        "slots-1"
    }

    fn ask<'a>(&'a self, _: &'a Request, _: u32) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let is_free = {
                let mut taken = self.taken.lock().unwrap();
                let is_free = *taken < self.slots;
                *taken += usize::from(is_free);
                is_free
            };
            if !is_free {
                sleep(SECOND / 100).await;
                return (self.refused)();
            }
            sleep(self.takes).await;
            *self.taken.lock().unwrap() -= 1;
            Ok(Answer::text("good"))
        })
    }
}

/// As a run does it: a row that waits for its next try makes room for another one.
async fn ask_all(client: &Client, rows: usize, places: usize) -> Vec<Result<Reply, Error>> {
    let requests: Vec<Request> = (0..rows).map(row).collect();
    futures::stream::iter(requests.iter().map(|request| client.ask(request)))
        .buffer_unordered(2 * places)
        .collect()
        .await
}

fn all_are_good(results: &[Result<Reply, Error>], what: &str) {
    let lost: Vec<&Error> = results.iter().filter_map(|r| r.as_ref().err()).collect();
    assert!(lost.is_empty(), "{what}: {} lost: {lost:?}", lost.len());
}

fn refused() -> Outcome {
    Err(TransportError::new(
        TransportKind::Connect,
        "Connection refused",
    ))
}

fn adaptive(most: usize) -> ClientOptions {
    ClientOptions {
        adaptive: true,
        ..at_once(most)
    }
}

const HOWS: [fn() -> Outcome; 5] = [
    || status(503, ""),
    || {
        status(
            503,
            "server busy, please try again. maximum pending requests exceeded",
        )
    },
    || status(503, r#"{"error":{"message":"no slot available"}}"#),
    || with_header(503, "retry-after", "1"),
    refused,
];

#[tokio::test(start_paused = true)]
async fn more_at_once_than_there_are_slots_cost_no_row() {
    for (n, how) in HOWS.into_iter().enumerate() {
        for (slots, takes, options) in [
            (40, SECOND * 6 / 10, adaptive(256)),
            (40, SECOND * 6 / 10, at_once(64)),
            (8, SECOND, at_once(20)),
            (2, 20 * SECOND, at_once(64)),
        ] {
            for seed in 0..number("FUZZ_TIMES").unwrap_or(1) {
                let what = format!("answer {n}, {slots} slots, {options:?}, seed {seed}");
                let rows = 40 * slots;
                let model = Slots::new(slots, takes, how);
                let client = model.client(options.clone(), seed);
                let start = Instant::now();
                all_are_good(&ask_all(&client, rows, 64).await, &what);
                let asked = model.asked.load(Ordering::Relaxed);
                // Those of the beginning, while it is not known how many slots there are, and few later. Where it
                // says that it is overloaded, one goes alone after each of them, and finds no slot either.
                let (beginning, pauses) = match n {
                    1 | 2 => (4 * 64, 300 * SECOND),
                    _ => (2 * 64, 60 * SECOND),
                };
                let most = 11 * rows / 10 + beginning;
                assert!(asked < most, "{what}: {asked} requests for {rows} rows");
                // The best that there is, and the pauses of the beginning.
                let most = 11 * 40 * takes / 10 + pauses;
                assert!(start.elapsed() < most, "{what}: {:?}", start.elapsed());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_halted_and_nobody_fails_while_the_first_answers_are_under_way() {
    for how in HOWS {
        for takes in [3 * SECOND, 60 * SECOND, 250 * SECOND] {
            for (places, options) in [(5, at_once(5)), (8, at_once(8)), (8, adaptive(64))] {
                for seed in 0..2 * number("FUZZ_TIMES").unwrap_or(1) {
                    let model = Slots::new(4, takes, how);
                    let client = model.client(options.clone(), seed);
                    let results = ask_all(&client, 24, places).await;
                    all_are_good(&results, &format!("{takes:?}, {options:?}, seed {seed}"));
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_goes_at_once_comes_down_to_the_slots_and_stays_near_them() {
    let model = Slots::new(40, SECOND, || status(503, ""));
    let client = Arc::new(model.client(adaptive(1024), 1));
    for n in 0..200 {
        let client = Arc::clone(&client);
        tokio::spawn(async move { while client.ask(&row(n)).await.is_ok() {} });
    }
    let mut levels = Vec::new();
    for _ in 0..120 {
        sleep(SECOND).await;
        levels.extend(client.level());
    }
    let settled = &levels[30..];
    assert!(settled.iter().all(|n| (28..=45).contains(n)), "{levels:?}");
}

/// Answers as a script says: after how long, and what.
struct Timed<F> {
    script: F,
    asked: AtomicUsize,
}

impl<F> Timed<F>
where
    F: Fn(usize, &Request) -> (Duration, Outcome) + Send + Sync + 'static,
{
    fn new(script: F) -> Arc<Timed<F>> {
        Arc::new(Timed {
            script,
            asked: AtomicUsize::new(0),
        })
    }
}

impl<F> Model for Timed<F>
where
    F: Fn(usize, &Request) -> (Duration, Outcome) + Send + Sync + 'static,
{
    fn provider(&self) -> &str {
        "timed"
    }

    fn model(&self) -> &str {
        "timed-1"
    }

    fn ask<'a>(&'a self, request: &'a Request, _: u32) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let nth = self.asked.fetch_add(1, Ordering::Relaxed);
            let (takes, outcome) = (self.script)(nth, request);
            sleep(takes).await;
            outcome
        })
    }
}

fn good() -> Outcome {
    Ok(Answer::text("good"))
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_turns_one_away_is_no_reason_to_stop_before_the_first_answer_is_here() {
    let model = Timed::new(|nth, request| match request.user == row(0).user {
        true => (60 * SECOND, good()),
        false if nth < 5 => (SECOND / 100, status(502, "")),
        false => (SECOND, good()),
    });
    let client = Client::new(model, at_once(2)).seeded(1);
    all_are_good(&ask_all(&client, 2, 2).await, "two rows");
}

#[tokio::test(start_paused = true)]
async fn the_one_that_goes_alone_after_a_pause_and_finds_no_slot_lets_nobody_else_go() {
    let start = Instant::now();
    let model = Timed::new(move |nth, _| match nth {
        0 | 1 => (20 * SECOND, good()),
        2 => (SECOND / 100, status(429, "")),
        _ if start.elapsed() < 20 * SECOND => (SECOND / 100, status(503, "")),
        _ => (SECOND, good()),
    });
    let rows = 40;
    let client = Client::new(Arc::clone(&model) as Arc<dyn Model>, at_once(rows)).seeded(1);
    all_are_good(&ask_all(&client, rows, rows).await, "beside a pause");
    let asked = model.asked.load(Ordering::Relaxed);
    assert!(asked < 2 * rows + 20, "{asked} requests");
}

/// Asks for the bad rows while others are asked for all the time: what became of both.
async fn ask_beside_others(
    client: &Client,
    bad: usize,
    others: usize,
) -> (Vec<Result<Reply, Error>>, Vec<Result<Reply, Error>>) {
    let over = AtomicUsize::new(0);
    let ask = async |n: usize| client.ask(&row(n)).await;
    let bad = futures::future::join_all((0..bad).map(ask));
    let others = (1000..1000 + others).map(async |n| {
        let mut results = Vec::new();
        while over.load(Ordering::Relaxed) == 0 {
            results.push(client.ask(&row(n)).await);
        }
        results
    });
    let (bad, others) = tokio::join!(
        async {
            let bad = bad.await;
            over.store(1, Ordering::Relaxed);
            bad
        },
        futures::future::join_all(others)
    );
    (bad, others.into_iter().flatten().collect())
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_always_turned_away_end_and_the_others_are_done() {
    for (takes, bad) in [(SECOND / 2, 1), (SECOND, 2), (SECOND, 3), (20 * SECOND, 1)] {
        for (places, options) in [(2, at_once(2)), (8, at_once(8))] {
            for seed in 0..1 {
                let what = format!("{bad} bad, {takes:?}, {options:?}, seed {seed}");
                let model = Timed::new(move |_, request| {
                    match (0..bad).any(|n| request.user == row(n).user) {
                        true => (SECOND / 100, status(503, "")),
                        false => (takes, good()),
                    }
                });
                let client = Client::new(model, options.clone()).seeded(seed);
                let (lost, others) = ask_beside_others(&client, bad, places).await;
                all_are_good(&others, &what);
                for result in lost {
                    let error = result.unwrap_err();
                    assert_eq!(error.class(), "unavailable", "{what}: {error}");
                    // Where answers are quick, one alone is told from a lack of slots at once.
                    let most = if bad == 1 && takes < SECOND { 6 } else { 40 };
                    let attempts = error.attempts();
                    assert!(
                        (6..=most).contains(&attempts),
                        "{what}: {attempts} requests"
                    );
                }
            }
        }
    }
}

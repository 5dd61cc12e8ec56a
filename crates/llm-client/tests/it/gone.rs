//! What an endpoint that goes away may cost those who are under way, and when their waits end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation_llm_client::{
    Answer, Client, Error, ErrorKind, Model, Reply, Request, TransportError, TransportKind,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout};

use crate::scripted::{Outcome, Scripted, Watched, at_once, client, row, status, with_header};

const SECOND: Duration = Duration::from_secs(1);

fn lost(kind: TransportKind) -> Outcome {
    Err(TransportError::new(kind, "lost"))
}

fn good() -> Outcome {
    Ok(Answer::text("good"))
}

async fn ask_all(client: &Client, rows: usize, places: usize) -> Vec<Result<Reply, Error>> {
    let requests: Vec<Request> = (0..rows).map(row).collect();
    futures::stream::iter(requests.iter().map(|request| client.ask(request)))
        .buffer_unordered(places)
        .collect()
        .await
}

fn errors(results: &[Result<Reply, Error>]) -> Vec<&Error> {
    results.iter().filter_map(|r| r.as_ref().err()).collect()
}

type Answering = dyn Fn(Duration, &str) -> (Duration, Outcome) + Send + Sync;

/// What comes, and after how long, follows from the time and the row.
struct Clock {
    start: Instant,
    answer: Box<Answering>,
    sent: Mutex<Vec<(Duration, String)>>,
}

impl Clock {
    fn new(
        answer: impl Fn(Duration, &str) -> (Duration, Outcome) + Send + Sync + 'static,
    ) -> Arc<Clock> {
        Arc::new(Clock {
            start: Instant::now(),
            answer: Box::new(answer),
            sent: Mutex::default(),
        })
    }

    fn sent_in(&self, from: Duration, to: Duration) -> usize {
        let sent = self.sent.lock().unwrap();
        let within = sent.iter().filter(|(at, _)| (from..to).contains(at));
        within.count()
    }
}

impl Model for Clock {
    fn provider(&self) -> &str {
        "clock"
    }

    fn model(&self) -> &str {
        "clock-1"
    }

    fn ask<'a>(&'a self, request: &'a Request, _: u32) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let at = self.start.elapsed();
            self.sent.lock().unwrap().push((at, request.user.clone()));
            let (latency, outcome) = (self.answer)(at, &request.user);
            sleep(latency).await;
            outcome
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_has_answered_before_its_answer_is_safe() {
    // The disk takes a minute; meanwhile others ask three times and more in vain.
    let model = Scripted::new(|nth, _| match nth {
        0 => good(),
        1..10 => status(503, ""),
        _ => good(),
    });
    let mut options = at_once(4);
    options.retry.base_delay_s = 0.001;
    let client = client(&model, options);
    let slow = Watched {
        paid_takes: 60 * SECOND,
        ..Watched::default()
    };
    let request = row(9);
    let (first, rest) = tokio::join!(client.ask_for(&request, &slow), ask_all(&client, 3, 3));
    assert!(
        first.is_ok() && errors(&rest).is_empty(),
        "{first:?} {rest:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn who_hangs_in_a_dead_connection_is_no_witness_that_others_wait_for() {
    // The machine is switched off: what is under way hears nothing more, and nobody gets a new connection.
    let model = Clock::new(|at, row| match (at.as_secs(), row) {
        (..5, "row 0" | "row 1" | "row 2") => (300 * SECOND, lost(TransportKind::IdleTimeout)),
        (..5, _) => (SECOND, good()),
        (5..200, _) => (10 * SECOND, lost(TransportKind::ConnectTimeout)),
        _ => (SECOND, good()),
    });
    let client = Client::new(Arc::clone(&model) as Arc<dyn Model>, at_once(4)).seeded(1);
    let results = ask_all(&client, 12, 4).await;
    assert!(errors(&results).is_empty(), "{:?}", errors(&results));
}

#[tokio::test(start_paused = true)]
async fn waits_from_before_an_outage_was_known_end_with_it() {
    // Waits of up to ten minutes, each of another length; the endpoint is away for five.
    for seed in 0..20 {
        let model = Clock::new(|at, _| match at.as_secs() {
            ..5 => (SECOND, good()),
            5..305 => (SECOND / 10, status(502, "")),
            _ => (SECOND / 10, good()),
        });
        let mut options = at_once(8);
        (options.retry.base_delay_s, options.retry.max_delay_s) = (600.0, 600.0);
        let client = Client::new(Arc::clone(&model) as Arc<dyn Model>, options).seeded(seed);
        let results = ask_all(&client, 60, 8).await;
        assert!(errors(&results).is_empty(), "{:?}", errors(&results));
        // Who comes first has to find it back; after that nobody waits.
        let back = {
            let sent = model.sent.lock().unwrap();
            let found = sent.iter().find(|(at, _)| *at >= 305 * SECOND);
            found.unwrap().0
        };
        let took = model.start.elapsed() - back;
        assert!(took < 10 * SECOND, "seed {seed}: {took:?}");
        assert!(model.sent_in(back + SECOND / 10, back + SECOND) >= 6);
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_outage_ends_no_wait_that_the_endpoint_asked_for() {
    let model = Clock::new(|at, row| match (at.as_secs(), row) {
        (..5, _) => (SECOND, good()),
        (5..40, "row 20") => (SECOND / 10, with_header(503, "retry-after", "300")),
        (5..40, _) => (SECOND / 10, status(502, "")),
        _ => (SECOND / 10, good()),
    });
    let client = Client::new(Arc::clone(&model) as Arc<dyn Model>, at_once(4)).seeded(1);
    let results = ask_all(&client, 40, 4).await;
    assert!(errors(&results).is_empty(), "{:?}", errors(&results));
    let sent = model.sent.lock().unwrap();
    let asked = sent.iter().filter(|(_, row)| row == "row 20");
    let asked: Vec<Duration> = asked.map(|(at, _)| *at).collect();
    assert!(asked.len() >= 2, "{asked:?}");
    let wait = asked[1] - asked[0];
    assert!(wait >= 300 * SECOND, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_kills_its_server_fails_and_costs_no_other_one() {
    for (how, seed) in (0..20)
        .flat_map(|seed| [TransportKind::Closed, TransportKind::Connect].map(|how| (how, seed)))
    {
        // Whoever is under way when it dies is cut off, and for 20 seconds nobody is there.
        let died = Mutex::new(None::<Duration>);
        let dies_in = |at: Duration, died: &Option<Duration>| {
            died.is_some_and(|died| at < died + 20 * SECOND)
        };
        let model = Clock::new(move |at, row| {
            let mut died = died.lock().unwrap();
            if dies_in(at, &died) {
                return (SECOND / 100, lost(how));
            }
            if row == "row 7" {
                *died = Some(at + SECOND / 2);
            }
            // A server that is about to die answers what it can until then.
            match *died {
                Some(died) if (at..at + SECOND).contains(&died) => {
                    (died - at, lost(TransportKind::Closed))
                }
                _ => (SECOND, good()),
            }
        });
        let client = Client::new(Arc::clone(&model) as Arc<dyn Model>, at_once(4)).seeded(seed);
        let results = timeout(3600 * SECOND, ask_all(&client, 200, 4)).await;
        let results = results.expect("such a row is given up at some time");
        let lost = errors(&results);
        let classes: Vec<_> = lost.iter().map(|error| error.class()).collect();
        assert_eq!(
            classes,
            ["connection_closed"],
            "{how:?}, seed {seed}: {lost:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_what_left_before_does_not_say_that_the_endpoint_is_back() {
    // Those that were under way are answered in the middle of it.
    let slow = ["row 0", "row 1", "row 2", "row 3"];
    let model = Clock::new(move |at, row| match at.as_secs() {
        ..5 if slow.contains(&row) => {
            let nth = slow.iter().position(|slow| *slow == row).unwrap() as u32;
            ((40 + 10 * nth) * SECOND, good())
        }
        ..5 => (SECOND, good()),
        5..185 => (SECOND / 100, status(502, "")),
        _ => (SECOND, good()),
    });
    let client = Client::new(Arc::clone(&model) as Arc<dyn Model>, at_once(8)).seeded(1);
    let results = ask_all(&client, 60, 8).await;
    assert!(errors(&results).is_empty(), "{:?}", errors(&results));
    // A probe now and then, as before.
    let probes = model.sent_in(35 * SECOND, 85 * SECOND);
    assert!((1..25).contains(&probes), "{probes} probes");
}

#[tokio::test(start_paused = true)]
async fn rows_grow_old_behind_an_endpoint_that_is_back_and_only_puts_them_off() {
    type How = fn() -> Outcome;
    let hows: [How; 2] = [|| status(429, ""), || lost(TransportKind::NotProcessed)];
    for how in hows {
        let model = Clock::new(move |at, _| match at.as_secs() {
            ..5 => (SECOND, good()),
            5..40 => (SECOND, lost(TransportKind::Connect)),
            _ => (SECOND, how()),
        });
        let mut options = at_once(4);
        options.retry.max_row_s = 100;
        let client = Client::new(Arc::clone(&model) as Arc<dyn Model>, options).seeded(1);
        let results = timeout(10_000 * SECOND, ask_all(&client, 24, 4)).await;
        let results = results.expect("no row lives for ever");
        let lost = errors(&results);
        assert!(!lost.is_empty());
        for error in lost {
            assert!(error.to_string().contains("older than"), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_long_ago_does_not_count_as_time_in_which_the_endpoint_was_waited_for() {
    // One fault of each row, then a quarter of an hour in which the endpoint asks for a pause, then one fault more.
    let met: Mutex<HashMap<String, u32>> = Mutex::default();
    let model = Clock::new(move |at, row| {
        let mut met = met.lock().unwrap();
        let outcome = match at.as_secs() {
            ..5 => good(),
            5..800 => match met.insert(row.to_owned(), 1) {
                None => status(502, ""),
                Some(_) => with_header(429, "retry-after", "800"),
            },
            800..1600 => with_header(429, "retry-after", "800"),
            1600..1640 => status(502, ""),
            _ => good(),
        };
        (SECOND, outcome)
    });
    let client = Client::new(Arc::clone(&model) as Arc<dyn Model>, at_once(4)).seeded(1);
    let results = ask_all(&client, 30, 4).await;
    assert!(errors(&results).is_empty(), "{:?}", errors(&results));
    assert!(model.sent_in(1600 * SECOND, 1640 * SECOND) > 0);
}

#[tokio::test(start_paused = true)]
async fn who_meets_a_refusal_beside_the_one_that_probes_goes_by_that_probe() {
    // All under way are refused once, and have no attempt left.
    let model = Scripted::new(|nth, _| match nth {
        4..8 => status(401, ""),
        _ => good(),
    });
    let mut options = at_once(4);
    options.retry.max_attempts = 1;
    let results = ask_all(&client(&model, options), 20, 4).await;
    let lost = errors(&results);
    let stopped = |error: &&&Error| !matches!(error.kind(), ErrorKind::Row { .. });
    assert!(
        lost.iter().find(stopped).is_none() && lost.is_empty(),
        "{lost:?}"
    );
    assert_eq!(model.hits(), 24);
}

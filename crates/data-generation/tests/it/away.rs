//! An endpoint that goes away in the middle of a run, however few rows are at work.

use std::sync::Arc;
use std::time::Duration;

use data_generation::Report;
use data_generation::llm::{Answer, Model, Request, TransportError, TransportKind};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::harness::Home;

type Outcome = Result<Answer, TransportError>;

type Answering = dyn Fn(Duration, &str) -> Outcome + Send + Sync;

/// What it answers follows from the time since it began, and the user prompt.
#[derive(Clone)]
struct Clock {
    start: Instant,
    latency: Duration,
    answer: Arc<Answering>,
}

impl Clock {
    fn new(
        latency: Duration,
        answer: impl Fn(Duration, &str) -> Outcome + Send + Sync + 'static,
    ) -> Clock {
        Clock {
            start: Instant::now(),
            latency,
            answer: Arc::new(answer),
        }
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
            sleep(self.latency).await;
            (self.answer)(self.start.elapsed(), &request.user)
        })
    }
}

async fn made(home: &Home, model: Clock, rows: usize, places: usize) -> Report {
    let builder = home.builder().own_model(model);
    let builder = builder.set("run.concurrency_limit", places);
    let pipeline = builder.build().unwrap();
    let rows: Vec<Value> = (0..rows).map(|n| json!({"word": n})).collect();
    pipeline.run(rows).await.unwrap()
}

fn turned() -> Outcome {
    Ok(Answer::from_body(502, "<html>"))
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_goes_away_costs_no_row_be_there_one_at_work_or_many() {
    let hows: [fn() -> Outcome; 4] = [
        turned,
        || Ok(Answer::from_body(503, "")),
        || Err(TransportError::new(TransportKind::Closed, "reset")),
        || Err(TransportError::new(TransportKind::Connect, "refused")),
    ];
    for how in hows {
        for (places, back) in [(1, 44), (1, 180), (2, 180), (3, 180), (8, 180)] {
            let home = Home::new();
            let model = Clock::new(Duration::from_millis(50), move |at, _| {
                match at.as_millis() {
                    300.. if at.as_secs() < back => how(),
                    _ => Ok(Answer::text("fine")),
                }
            });
            let report = made(&home, model, 40, places).await;
            let failures = home.lines("failures.jsonl");
            assert_eq!(report.counts.ok, 40, "{places} at work: {failures:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_turned_away_alone_fail_beside_others_that_are_not() {
    // So many that there is somebody else to ask as long as the odd ones are asked.
    for (places, odd) in [(1, 1), (1, 2), (2, 2), (4, 2)] {
        let home = Home::new();
        let model = Clock::new(Duration::from_secs(1), move |_, user| {
            let word: String = user.chars().filter(char::is_ascii_digit).collect();
            match (10..10 + odd).contains(&word.parse::<usize>().unwrap()) {
                true => turned(),
                false => Ok(Answer::text("fine")),
            }
        });
        let report = made(&home, model, 300, places).await;
        assert!(report.stopped.is_none(), "{odd} rows, {places} at work");
        assert_eq!(report.counts.ok, 300 - odd as u64);
        let requests = home.lines("failures.jsonl");
        let requests = requests.iter().map(|line| line["attempts"].clone());
        assert_eq!(requests.collect::<Vec<_>>(), vec![json!(6); odd]);
    }
}

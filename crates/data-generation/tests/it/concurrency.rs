//! How many requests at the same time, where nobody says.

use std::future::IntoFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation::llm::{Answer, Model, Request, TransportError, TransportKind};
use data_generation::settings::ConcurrencyLimit;
use data_generation::{Event, Steering, StopHandle};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::harness::Home;

/// Answers after a while, however many ask.
#[derive(Clone)]
struct Slow(Arc<Mutex<(usize, usize)>>, Duration);

const SECOND: Duration = Duration::from_secs(1);

impl Default for Slow {
    fn default() -> Slow {
        Slow::taking(SECOND)
    }
}

impl Slow {
    fn taking(latency: Duration) -> Slow {
        Slow(Arc::default(), latency)
    }

    fn at_once(&self) -> usize {
        self.0.lock().unwrap().0
    }
}

impl Model for Slow {
    fn provider(&self) -> &str {
        "slow"
    }

    fn model(&self) -> &str {
        "slow-1"
    }

    fn ask<'a>(&'a self, _: &'a Request, _: u32) -> BoxFuture<'a, Result<Answer, TransportError>> {
        Box::pin(async move {
            {
                let (now, most) = &mut *self.0.lock().unwrap();
                *now += 1;
                *most = (*most).max(*now);
            }
            sleep(self.1).await;
            self.0.lock().unwrap().0 -= 1;
            Ok(Answer::text("fine"))
        })
    }
}

fn rows(count: usize) -> Vec<Value> {
    (0..count).map(|n| json!({"word": n})).collect()
}

#[tokio::test(start_paused = true)]
async fn with_auto_as_many_are_asked_at_once_as_it_pays_and_no_more_rows_are_held() {
    let (home, slow) = (Home::new(), Slow::default());
    let builder = home.builder().own_model(slow.clone()).concurrency_auto();
    let pipeline = builder.concurrency_max(40).build().unwrap();
    let told: Arc<Mutex<Vec<usize>>> = Arc::default();
    let held: Arc<Mutex<(usize, usize)>> = Arc::default();
    let observer = {
        let (told, held) = (Arc::clone(&told), Arc::clone(&held));
        move |event: &Event<'_>| match event {
            Event::Places { places } => told.lock().unwrap().push(*places),
            Event::RowStarted { .. } => {
                let (now, beyond) = &mut *held.lock().unwrap();
                *now += 1;
                let places = told.lock().unwrap().last().copied().unwrap();
                *beyond = (*beyond).max(now.saturating_sub(places));
            }
            Event::Finished { .. } => held.lock().unwrap().0 -= 1,
            _ => {}
        }
    };
    let run = pipeline.run(rows(600)).observer(observer);
    assert!(run.await.unwrap().is_complete());
    assert_eq!(told.lock().unwrap()[..4], [8, 16, 32, 40]);
    assert_eq!(slow.0.lock().unwrap().1, 40);
    assert_eq!(held.lock().unwrap().1, 0, "rows above the places");
    let manifest = std::fs::read_to_string(home.dir.path().join("demo/run.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let settings = &manifest["settings"];
    assert_eq!(settings["run.concurrency_limit"]["value"], "auto");
    assert_eq!(settings["run.concurrency_max"]["value"], 40);
}

#[tokio::test(start_paused = true)]
async fn one_run_may_find_out_by_itself_where_the_settings_have_a_number() {
    let (home, slow) = (Home::new(), Slow::default());
    let builder = home.builder().own_model(slow.clone()).concurrency_limit(3);
    let pipeline = builder.build().unwrap();
    pipeline.run(rows(100)).concurrency_auto(20).await.unwrap();
    assert_eq!(slow.0.lock().unwrap().1, 20);
    let manifest = std::fs::read_to_string(home.dir.path().join("demo/run.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let of_this_run = |value: Value| json!({"value": value, "origin": "for this run, in code"});
    let settings = &manifest["settings"];
    assert_eq!(
        settings["run.concurrency_limit"],
        of_this_run(json!("auto"))
    );
    assert_eq!(settings["run.concurrency_max"], of_this_run(json!(20)));
}

#[tokio::test(start_paused = true)]
async fn what_is_said_while_it_works_holds_at_once_and_up_to_the_ceiling() {
    let (home, slow) = (Home::new(), Slow::taking(1000 * SECOND));
    let builder = home.builder().own_model(slow.clone()).concurrency_limit(2);
    let (pipeline, steering) = (builder.build().unwrap(), Steering::new());
    let run = pipeline
        .run(rows(40))
        .steering(&steering)
        .concurrency_ceiling(30);
    let says = async {
        sleep(10 * SECOND).await;
        assert_eq!(slow.at_once(), 2);
        steering.set_concurrency(ConcurrencyLimit::Fixed(12.try_into().unwrap()));
        // No row has ended by then.
        sleep(2 * SECOND).await;
        assert_eq!((slow.at_once(), steering.steered().places), (12, 12));
        steering.set_concurrency(ConcurrencyLimit::Fixed(500.try_into().unwrap()));
        sleep(2 * SECOND).await;
        let now = steering.steered().concurrency;
        assert_eq!(now, Some(ConcurrencyLimit::Fixed(30.try_into().unwrap())));
        steering.set_concurrency(ConcurrencyLimit::Auto);
        sleep(2 * SECOND).await;
        assert_eq!(slow.at_once(), 30);
        let now = steering.steered();
        assert_eq!(
            (now.concurrency, now.places),
            (Some(ConcurrencyLimit::Auto), 30)
        );
    };
    let (report, ()) = tokio::join!(run.into_future(), says);
    assert!(report.unwrap().is_complete());
}

/// Turns away who is above two dozen, is away for half a minute, and counts what it was paid for.
#[derive(Clone)]
struct Moody {
    start: Instant,
    slow: Slow,
    paid: Arc<Mutex<usize>>,
}

impl Model for Moody {
    fn provider(&self) -> &str {
        "moody"
    }

    fn model(&self) -> &str {
        "moody-1"
    }

    fn ask<'a>(
        &'a self,
        request: &'a Request,
        attempt: u32,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        Box::pin(async move {
            if (60..90).contains(&self.start.elapsed().as_secs()) {
                return Err(TransportError::new(TransportKind::Connect, "refused"));
            }
            if self.slow.at_once() >= 24 {
                return Ok(Answer::from_body(429, ""));
            }
            let answer = self.slow.ask(request, attempt).await;
            let mut paid = self.paid.lock().unwrap();
            *paid += 1;
            // Some of them come to nothing at first.
            match paid.is_multiple_of(17) {
                true => Ok(Answer::from_body(500, "")),
                false => answer,
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn auto_goes_together_with_refusals_an_outage_pauses_limits_and_an_interrupt() {
    let home = Home::new();
    let model = Moody {
        start: Instant::now(),
        slow: Slow::default(),
        paid: Arc::default(),
    };
    let pipeline = home
        .builder()
        .own_model(model.clone())
        .concurrency_auto()
        .build()
        .unwrap();
    let (steering, stop) = (Steering::new(), StopHandle::new());
    let run = pipeline
        .run(rows(20_000))
        .steering(&steering)
        .stop_handle(&stop);
    let made = async |seconds: u32| {
        let before = *model.paid.lock().unwrap();
        sleep(SECOND * seconds).await;
        *model.paid.lock().unwrap() - before
    };
    let says = async {
        made(50).await;
        let usual = made(10).await;
        assert!(
            usual >= 140,
            "{usual} answers in ten seconds before the outage"
        );
        made(60).await;
        let after = made(10).await;
        assert!(after >= 140, "{after} answers in ten seconds after it");
        steering.pause();
        made(1).await;
        assert_eq!(made(100).await, 0);
        steering.go_on();
        made(10).await;
        let after = made(10).await;
        assert!(after >= 140, "{after} answers in ten seconds after a pause");
        steering.set_rate_limit(60.try_into().ok());
        made(60).await;
        let slow = made(60).await;
        assert!((55..=60).contains(&slow), "{slow} answers in a minute");
        // Whoever waits for the limit shows nothing of the endpoint.
        assert!(steering.steered().places >= 8);
        steering.set_rate_limit(None);
        made(30).await;
        let after = made(10).await;
        assert!(after >= 140, "{after} answers in ten seconds after a limit");
        stop.interrupt();
    };
    let (report, ()) = tokio::join!(run.into_future(), says);
    let report = report.unwrap();
    let counts = report.counts;
    let failures = home.lines("failures.jsonl");
    assert_eq!(counts.failed, 0, "{failures:?}");
    assert_eq!(counts.ok + counts.pending, 20_000);
    assert!(report.stopped.is_some() && counts.pending > 0);
    let lost = *model.paid.lock().unwrap() as u64 - counts.ok;
    assert!(lost <= counts.ok / 16 + 1, "{lost} answers that are no row");
}

#[test]
fn a_word_that_is_not_auto_is_refused() {
    let home = Home::new();
    let file = home.file("config.yaml", "run: {concurrency_limit: automatic}\n");
    let error = home.builder().config_file(file).build().err().unwrap();
    let text = error.to_string();
    let (_, text) = text.rsplit_once(": `").unwrap();
    insta::assert_snapshot!(text, @"run.concurrency_limit`: found the string `automatic`, expected a whole number, 1 or more, or `auto`");
}

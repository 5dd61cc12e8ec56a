//! What was sent before, by whatever command and to whomever, counts once and where it belongs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation::llm::{Answer, Headers, Model, Request, TransportError};
use data_generation::{Builder, DataGenerationPipeline, Event, RunBuilder, Steering, extract};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::harness::{Home, Says, words};

const WORDS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

/// A model that remembers when it was asked, and answers with these headers.
fn timed(headers: &'static [(&str, &str)]) -> (Says, Arc<Mutex<Vec<Instant>>>) {
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let says = Says::new({
        let times = Arc::clone(&times);
        move |_, _| {
            times.lock().unwrap().push(Instant::now());
            let mut answer = Answer::text("<title>fine</title>");
            answer.headers = Headers::from_pairs(headers.iter().copied());
            answer
        }
    });
    (says, times)
}

/// When the requests of a run of so many rows left, in seconds from its start.
async fn left(
    builder: Builder,
    rows: usize,
    how: impl FnOnce(RunBuilder<'_>) -> RunBuilder<'_>,
) -> Vec<f64> {
    let (says, times) = timed(&[]);
    let pipeline = builder.own_model(says).build().unwrap();
    let start = Instant::now();
    let report = how(pipeline.run(words(&WORDS[..rows]))).await.unwrap();
    assert!(report.is_complete(), "{report}");
    let times = times.lock().unwrap();
    times.iter().map(|at| (*at - start).as_secs_f64()).collect()
}

/// How many of them left before anybody had to wait for what was sent before.
fn at_once(left: &[f64]) -> usize {
    left.iter().filter(|at| **at < 40.0).count()
}

/// Requests a minute, as fast as they may leave.
fn a_minute(home: &Home, requests: u32) -> Builder {
    let builder = home.builder().rate_limit(Some(requests));
    builder.set("limits.burst", requests)
}

#[tokio::test(start_paused = true)]
async fn a_fork_refills_no_limit_and_what_it_copied_counts_once() {
    let home = Home::new();
    let run = |builder: Builder, rows, name: &'static str| {
        left(builder, rows, move |run| match name {
            "" => run,
            name => run.fork(name),
        })
    };
    assert_eq!(at_once(&run(a_minute(&home, 9), 3, "").await), 3);
    // Another prompt: all is asked anew.
    let other = |system| a_minute(&home, 9).system_prompt(Some(system));
    assert_eq!(at_once(&run(other("Briefly."), 3, "brief").await), 3);
    // Nine may leave, and six have: by the source, and by another fork of it.
    assert_eq!(at_once(&run(other("In full."), 5, "full").await), 3);
    // Another extractor: what is kept was sent by the source.
    let home = Home::new();
    assert_eq!(at_once(&run(a_minute(&home, 9), 6, "").await), 6);
    let taken = left(a_minute(&home, 9), 10, |run| {
        run.fork("taken").extractor(extract::tag("title"))
    });
    let taken = taken.await;
    assert_eq!((taken.len(), at_once(&taken)), (4, 3));
    // A fork whose source is gone has only its own copies to tell.
    std::fs::remove_dir_all(home.dir.path().join("demo")).unwrap();
    let named = |builder: Builder| builder.experiment_name("taken");
    let more = left(named(a_minute(&home, 11)), 12, |run| {
        run.extractor(extract::tag("title"))
    });
    assert_eq!(at_once(&more.await), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_run_has_sent_to_another_endpoint_does_not_count_and_its_own_spelled_otherwise_does()
{
    let home = Home::new();
    let at = |url: &str| a_minute(&home, 4).set("model.base_url", url);
    let here = "http://127.0.0.1:80/v1";
    assert_eq!(at_once(&left(at(here), 4, |run| run).await), 4);
    assert_eq!(
        at_once(&left(at("http://127.0.0.1:2/v1"), 7, |run| run).await),
        3
    );
    assert_eq!(
        at_once(&left(at("HTTP://127.0.0.1/v1/"), 8, |run| run).await),
        0
    );
    assert_eq!(
        at_once(&left(at("http://127.0.0.1:2/v1/"), 10, |run| run).await),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn limits_that_an_answer_tells_first_count_what_earlier_commands_have_sent() {
    let home = Home::new();
    let mut waits = Vec::new();
    for rows in [4, 7] {
        let (says, times) = timed(&[("x-ratelimit-limit-requests", "6")]);
        let builder = home.builder().own_model(says).set("limits.burst", 6);
        let pipeline = builder.set("model.rate_limit", "auto").build().unwrap();
        let report = pipeline.run(words(&WORDS[..rows])).await.unwrap();
        assert!(report.is_complete(), "{report}");
        let times = times.lock().unwrap();
        waits.push((times[times.len() - 1] - times[0]).as_secs_f64());
    }
    assert!(waits[0] < 1.0 && waits[1] > 50.0, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_no_limits_keeps_none_of_the_endpoint_either() {
    for takes_away in [false, true] {
        let home = Home::new();
        let (says, times) = timed(&[("x-ratelimit-limit-requests", "2")]);
        let rate = takes_away.then_some(6_000);
        let pipeline = home.builder().own_model(says).rate_limit(rate);
        let pipeline = pipeline.concurrency_limit(1).build().unwrap();
        let steering = Steering::new();
        let taking = steering.clone();
        let times_too = Arc::clone(&times);
        let run = pipeline.run(words(&WORDS)).steering(&steering);
        let run = run.observer(move |event: &Event<'_>| {
            if matches!(event, Event::Started { .. }) && takes_away {
                taking.set_rate_limit(None);
            }
        });
        let start = Instant::now();
        run.await.unwrap();
        assert_eq!(times_too.lock().unwrap().len(), 12);
        assert!(start.elapsed() < Duration::from_secs(5), "{takes_away}");
        assert_eq!(steering.steered().limits, [""; 0]);
    }
}

/// A model that takes its time.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<Vec<Instant>>>);

impl Model for Slow {
    fn provider(&self) -> &str {
        "test"
    }

    fn model(&self) -> &str {
        "test-1"
    }

    fn ask<'a>(&'a self, _: &'a Request, _: u32) -> BoxFuture<'a, Result<Answer, TransportError>> {
        self.0.lock().unwrap().push(Instant::now());
        Box::pin(async {
            sleep(Duration::from_millis(100)).await;
            Ok(Answer::text("fine"))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_taken_away_and_set_again_counts_what_left_meanwhile() {
    for keeps_another in [false, true] {
        for by_auto in [false, true] {
            let home = Home::new();
            let slow = Slow::default();
            let builder = a_minute(&home, 6).own_model(slow.clone());
            let builder = match keeps_another {
                true => builder.token_limit(Some(100_000_000)),
                false => builder,
            };
            let pipeline = builder.concurrency_limit(4).build().unwrap();
            let steering = Steering::new();
            let rows: Vec<String> = (0..60).map(|n| format!("w{n}")).collect();
            let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
            let start = Instant::now();
            let steer = async {
                sleep(Duration::from_millis(500)).await;
                match by_auto {
                    true => steering.set_rate_limit_auto(),
                    false => steering.set_rate_limit(None),
                }
                sleep(Duration::from_millis(1_000)).await;
                steering.set_rate_limit(Some(50.try_into().unwrap()));
                steering.set_burst(50.try_into().unwrap());
            };
            let run = pipeline.run(words(&rows)).steering(&steering);
            let (report, ()) = tokio::join!(run.into_future(), steer);
            assert_eq!(report.unwrap().counts.ok, 60);
            let times = slow.0.lock().unwrap();
            let within = |at: Instant| {
                let later = times.iter().filter(|t| **t >= at);
                later.filter(|t| **t < at + Duration::from_secs(60)).count()
            };
            let most = times.iter().map(|at| within(*at)).max().unwrap();
            let case = format!("another {keeps_another}, auto {by_auto}");
            // Nearly forty left while there was none.
            let early = times
                .iter()
                .filter(|at| **at - start < Duration::from_secs(2));
            assert!(early.count() > 35, "{case}");
            assert!((48..=50).contains(&most), "{case}: {most}");
        }
    }
}

/// Makes the folder look as if its last command had been killed.
fn kill(home: &Home) {
    let manifest = home.dir.path().join("demo/run.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    value["ended"] = json!(null);
    for command in value["commands"].as_array_mut().unwrap() {
        command["ended"] = json!(null);
    }
    std::fs::write(&manifest, value.to_string()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_death_is_not_hidden_by_those_who_only_judge_again() {
    for extractions in [0, 1, 2, 3] {
        let home = Home::new();
        let six = |home: &Home| home.builder().rate_limit(Some(6));
        left(six(&home), 1, |run| run).await;
        kill(&home);
        for _ in 0..extractions {
            let dir = home.dir.path().join("demo");
            DataGenerationPipeline::extract_again(dir).await.unwrap();
        }
        // One is in the journal, five may have been under way: the six of this minute.
        let wait = left(six(&home), 2, |run| run).await[0];
        assert!((50.0..63.0).contains(&wait), "{extractions}: {wait} s");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_from_a_clock_that_was_ahead_are_told_of_and_count_until_there_are_later_ones() {
    let home = Home::new();
    left(a_minute(&home, 4), 4, |run| run).await;
    let path = home.dir.path().join("demo/journal.jsonl");
    let journal = std::fs::read_to_string(&path).unwrap();
    let ahead = journal.lines().map(|line| {
        let (before, rest) = line.split_once("\"at\":\"").unwrap();
        let (_, behind) = rest.split_once('"').unwrap();
        format!("{before}\"at\":\"2126-01-01T00:00:00.000Z\"{behind}\n")
    });
    std::fs::write(&path, ahead.collect::<String>()).unwrap();
    let warned: Arc<Mutex<Vec<String>>> = Arc::default();
    for (limit, rows, left_at_once, warnings) in [(4, 5, 0, 1), (6, 7, 1, 0)] {
        let heard = Arc::clone(&warned);
        let left = left(a_minute(&home, limit), rows, |run| {
            run.observer(move |event: &Event<'_>| {
                if let Event::Warning { message } = event {
                    heard.lock().unwrap().push((*message).to_owned());
                }
            })
        });
        assert_eq!(at_once(&left.await), left_at_once);
        let warned = std::mem::take(&mut *warned.lock().unwrap());
        assert_eq!(warned.len(), warnings, "{warned:?}");
        for message in warned {
            insta::assert_snapshot!(message, @"4 of the answers that were kept before have times that are still to come: the clock of this machine is behind, or was ahead when they came; they count as sent just now, so the limits may be waited for; that is over with the first answer of this command, if the clock is right now");
        }
    }
}

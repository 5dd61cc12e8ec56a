//! Limits over more than one command, on a clock that only tests can have.

use std::future::IntoFuture;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation::llm::{Answer, Model, Request, TransportError};
use data_generation::settings::LimitName;
use data_generation::{Steering, StopHandle};
use futures::future::BoxFuture;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::harness::{Home, Says, words};

/// A model that remembers when it was asked.
fn timed() -> (Says, Arc<Mutex<Vec<Instant>>>) {
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let says = Says::new({
        let times = Arc::clone(&times);
        move |_, _| {
            times.lock().unwrap().push(Instant::now());
            Answer::text("fine")
        }
    });
    (says, times)
}

async fn seconds_until_first(home: &Home, rows: &[&str], limit: (&str, u32)) -> f64 {
    let (says, times) = timed();
    let builder = home.builder().own_model(says).set(limit.0, limit.1);
    let pipeline = builder.build().unwrap();
    let start = Instant::now();
    let report = pipeline.run(words(rows)).await.unwrap();
    assert!(report.is_complete(), "{report}");
    let times = times.lock().unwrap();
    (times[0] - start).as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn a_new_start_refills_no_limit() {
    for limit in [("model.rate_limit", 4), ("model.token_limit", 40)] {
        let home = Home::new();
        let first = ["a", "b", "c", "d"];
        assert!(seconds_until_first(&home, &first, limit).await < 1.0);
        let more = ["a", "b", "c", "d", "e"];
        // The journal has real times: what was sent in the first command was sent just now.
        let wait = seconds_until_first(&home, &more, limit).await;
        assert!((50.0..63.0).contains(&wait), "{limit:?}: {wait} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_folder_refills_no_limit_either() {
    for limit in [("model.rate_limit", 4), ("model.token_limit", 40)] {
        for need_time_stamp in [false, true] {
            let home = Home::new();
            let mut waits = Vec::new();
            for _ in 0..2 {
                let (says, times) = timed();
                let builder = home.builder().own_model(says).set(limit.0, limit.1);
                let pipeline = builder.need_time_stamp(need_time_stamp).build().unwrap();
                let start = Instant::now();
                let run = pipeline.run(words(&["a", "b", "c", "d"])).begin_anew();
                assert_eq!(run.await.unwrap().counts.ok, 4);
                waits.push((times.lock().unwrap()[0] - start).as_secs_f64());
            }
            // The journal has real times: what was sent in the first command was sent just now.
            assert!(
                waits[0] < 1.0 && (50.0..63.0).contains(&waits[1]),
                "{limit:?}: {waits:?}"
            );
        }
    }
}

/// What a prompt of about 500 tokens is answered with, by somebody who does not say what that cost.
fn untold() -> (Says, Arc<Mutex<Vec<Instant>>>) {
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let says = Says::new({
        let times = Arc::clone(&times);
        move |_, _| {
            times.lock().unwrap().push(Instant::now());
            Answer::from_body(200, r#"{"choices":[{"message":{"content":"fine"}}]}"#)
        }
    });
    (says, times)
}

#[tokio::test(start_paused = true)]
async fn prompts_of_which_no_answer_says_what_they_cost_count_after_a_new_start_as_before_it() {
    for is_anew in [false, true] {
        let home = Home::new();
        let text = |name: &str| format!("{name} {}", "word ".repeat(400));
        let texts = ["a", "b", "c", "d", "e", "f", "g", "h"].map(text);
        let mut answers = Vec::new();
        for _ in 0..3 {
            let (says, times) = untold();
            let builder = home.builder().own_model(says);
            let builder = builder.set("limits.tokens_per_day", 5_000);
            let pipeline = builder.set("model.max_tokens", 100).build().unwrap();
            let rows: Vec<&str> = texts.iter().map(String::as_str).collect();
            let run = pipeline.run(words(&rows));
            let report = match is_anew {
                true => run.begin_anew().await.unwrap(),
                false => run.await.unwrap(),
            };
            let stopped = report.stopped.as_ref().unwrap();
            assert_eq!(stopped.kind, data_generation::StopKind::Later, "{report}");
            answers.push(times.lock().unwrap().len());
        }
        assert!(
            answers[0] >= 4 && answers[1..] == [0, 0],
            "{is_anew}: {answers:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_run_and_a_look_at_it_say_of_tokens_is_the_same() {
    let home = Home::new();
    let pipeline = home.builder().own_model(untold().0).build().unwrap();
    let report = pipeline.run(words(&["a", "b"])).await.unwrap();
    let status = data_generation::status(&report.run_dir).unwrap();
    assert_eq!(
        (
            status.prompt_tokens,
            status.completion_tokens,
            status.untold
        ),
        (
            report.prompt_tokens,
            report.completion_tokens,
            report.untold
        )
    );
    assert_eq!(report.untold, 2);
    let shown = report.to_string();
    let tokens = shown.lines().find(|line| line.contains("tokens")).unwrap();
    insta::assert_snapshot!(tokens.trim(), @"tokens    about 4 prompt + 2 completion (2 answers do not say)");
}

/// A model that never answers.
struct Silent;

impl Model for Silent {
    fn provider(&self) -> &str {
        "test"
    }

    fn model(&self) -> &str {
        "test-1"
    }

    fn ask<'a>(&'a self, _: &'a Request, _: u32) -> BoxFuture<'a, Result<Answer, TransportError>> {
        Box::pin(std::future::pending())
    }
}

/// Makes the folder look as if its last command had been killed.
fn kill(home: &Home) {
    let manifest = home.dir.path().join("demo/run.json");
    let ended = std::fs::read_to_string(&manifest).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&ended).unwrap();
    value["ended"] = json!(null);
    for command in value["commands"].as_array_mut().unwrap() {
        command["ended"] = json!(null);
    }
    std::fs::write(&manifest, value.to_string()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn requests_that_were_refused_count_as_sent_after_a_new_start() {
    let home = Home::new();
    let says = Says::new(|_, attempt| match attempt {
        1 => Answer::from_body(500, "{}"),
        _ => Answer::text("fine"),
    });
    let builder = home.builder().own_model(says).rate_limit(Some(6));
    let pipeline = builder.build().unwrap();
    let report = pipeline.run(words(&["a", "b", "c"])).await.unwrap();
    assert_eq!((report.counts.ok, report.requests), (3, 6));
    let more = ["a", "b", "c", "d"];
    // They cost no tokens.
    let wait = seconds_until_first(&home, &more, ("model.token_limit", 1_200)).await;
    assert!(wait < 10.0, "{wait} s");
    let home = Home::new();
    let says = Says::new(|_, _| Answer::from_body(400, "{}"));
    let builder = home.builder().own_model(says).rate_limit(Some(3));
    let pipeline = builder.build().unwrap();
    pipeline.run(words(&["a", "b", "c"])).await.unwrap();
    let wait = seconds_until_first(&home, &["d"], ("model.rate_limit", 3)).await;
    assert!((50.0..63.0).contains(&wait), "{wait} s");
}

#[tokio::test(start_paused = true)]
async fn requests_that_were_cut_off_count_as_sent_with_all_that_they_may_have_cost() {
    for limit in [("model.rate_limit", 3), ("model.token_limit", 1_200)] {
        let home = Home::new();
        let pipeline = home.builder().own_model(Silent).build().unwrap();
        let stop = StopHandle::new();
        let running = pipeline.run(words(&["a", "b", "c"])).stop_handle(&stop);
        let (report, ()) = tokio::join!(running.into_future(), async {
            sleep(Duration::from_secs(5)).await;
            stop.interrupt_within(Duration::from_secs(1));
        });
        assert_eq!(report.unwrap().cut, 3);
        let wait = seconds_until_first(&home, &["a"], limit).await;
        assert!((50.0..63.0).contains(&wait), "{limit:?}: {wait} s");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_under_way_at_death_counts_before_anything_is_known_and_after_the_next_death() {
    let home = Home::new();
    // Five at once, each of about 1,030 tokens as far as anybody knows.
    let limit = ("model.token_limit", 7_000);
    seconds_until_first(&home, &["a"], limit).await;
    for file in ["journal.jsonl", "result.jsonl"] {
        home.file(&format!("demo/{file}"), "");
    }
    kill(&home);
    let (says, _) = timed();
    let builder = home.builder().own_model(says);
    let pipeline = builder.set(limit.0, limit.1).build().unwrap();
    pipeline.run(words(&["b"])).await.unwrap();
    for file in ["journal.jsonl", "result.jsonl"] {
        home.file(&format!("demo/{file}"), "");
    }
    kill(&home);
    // Twice five of them are more than this.
    let wait = seconds_until_first(&home, &["c"], limit).await;
    assert!((50.0..63.0).contains(&wait), "{wait} s");
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_command_had_under_way_counts_as_sent() {
    let home = Home::new();
    seconds_until_first(&home, &["a"], ("model.rate_limit", 6)).await;
    kill(&home);
    // One is in the journal, five may have been under way: the six of this minute.
    let wait = seconds_until_first(&home, &["a", "b"], ("model.rate_limit", 6)).await;
    assert!((50.0..63.0).contains(&wait), "{wait} s");
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_command_had_under_way_by_itself_is_no_more_than_it_had_found_out() {
    for (limit, waits) in [(9, true), (20, false)] {
        let home = Home::new();
        seconds_until_first(&home, &["a"], ("model.rate_limit", limit)).await;
        kill(&home);
        let (says, times) = timed();
        let builder = home.builder().own_model(says).rate_limit(Some(limit));
        let pipeline = builder.concurrency_auto().build().unwrap();
        let start = Instant::now();
        pipeline.run(words(&["a", "b"])).await.unwrap();
        // One is in the journal, and the eight of the beginning may have been under way.
        let wait = (times.lock().unwrap()[0] - start).as_secs_f64();
        assert_eq!(wait > 50.0, waits, "{limit} a minute: {wait} s");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_under_way_at_once_before_may_have_been_so_at_death() {
    // Six were; where it is found out how many are best, it may have been twice as many by then.
    for (is_auto, under_way) in [(false, 6), (true, 12)] {
        for (limit, waits) in [(6 + under_way, true), (7 + under_way, false)] {
            let home = Home::new();
            let says = Says::new(|_, _| {
                let mut answer = Answer::text("fine");
                answer.latency = Duration::from_secs(10);
                answer
            });
            let pipeline = home.builder().own_model(says).build().unwrap();
            let rows = words(&["a", "b", "c", "d", "e", "f"]);
            pipeline.run(rows).await.unwrap();
            kill(&home);
            let (says, times) = timed();
            let builder = home.builder().own_model(says).rate_limit(Some(limit));
            let builder = match is_auto {
                true => builder.concurrency_auto(),
                false => builder.concurrency_limit(1),
            };
            let pipeline = builder.build().unwrap();
            let start = Instant::now();
            pipeline
                .run(words(&["a", "b", "c", "d", "e", "f", "g"]))
                .await
                .unwrap();
            let wait = (times.lock().unwrap()[0] - start).as_secs_f64();
            assert_eq!(wait > 30.0, waits, "{limit} a minute: {wait} s");
            // What was answered after ten seconds had left ten seconds before.
            assert!(wait < 55.0, "{limit} a minute: {wait} s");
        }
    }
}

#[test]
fn an_answer_that_may_use_up_a_whole_limit_is_warned_of_with_the_numbers() {
    let warnings = |most, limit: u32| {
        let builder = Home::new().builder().token_limit(Some(limit));
        let builder = builder.set("model.max_tokens", most);
        let builder = builder.set("model.base_url", "http://127.0.0.1:1/v1");
        let builder = builder.set("limits.tokens_per_day", 350);
        builder.build().unwrap().warnings().to_vec()
    };
    assert!(warnings(299, 300).is_empty());
    assert_eq!(warnings(300, 300).len(), 1);
    // The lowest of them is the one that is named.
    assert!(warnings(400, 500)[0].contains("`limits.tokens_per_day` 350 (in code)"));
    insta::assert_snapshot!(warnings(400, 300).join("\n"), @"`model.max_tokens` is 400 (in code) and `model.token_limit` 300 (in code): an answer may use up the whole limit, so until the first ones have told what they cost requests go one by one, each alone in its time; set `model.max_tokens` to what an answer needs, or raise `model.token_limit` if the endpoint allows more");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_never_fits_fails_at_once_with_the_numbers() {
    let home = Home::new();
    let (says, times) = timed();
    let builder = home.builder().own_model(says).token_limit(Some(2_000));
    let pipeline = builder.build().unwrap();
    let long = "x".repeat(20_000);
    let start = Instant::now();
    let refused = pipeline.run(words(&["a", &long, "b"])).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("rows:2: the prompt alone has about 5002 tokens"),
        "{refused}"
    );
    assert!(times.lock().unwrap().is_empty(), "nothing is sent before");
    // Where the limit is learnt, or set later, nobody can know before: such a row fails alone.
    let builder = home.builder().own_model(timed().0);
    let without = builder.build().unwrap();
    let steering = Steering::new();
    steering.set_token_limit(NonZeroU32::new(2_000));
    let run = without.run(words(&["a", &long, "b"])).steering(&steering);
    let report = run.await.unwrap();
    assert_eq!((report.counts.ok, report.counts.failed), (2, 1));
    let told = home.lines("failures.jsonl")[0]["error"].take();
    assert_eq!(told["class"], "above_token_limit");
    let home = Home::new();
    let (says, times) = timed();
    let builder = home.builder().own_model(says).token_limit(Some(2_000));
    let pipeline = builder.build().unwrap();
    let run = pipeline.run(words(&["a", &long, "b"])).skip_invalid();
    let report = run.await.unwrap();
    assert_eq!((report.counts.ok, report.counts.failed), (2, 1));
    assert_eq!(times.lock().unwrap().len(), 2);
    assert!(start.elapsed() < Duration::from_secs(61));
    let error = home.lines("failures.jsonl")[0]["error"].take();
    insta::assert_snapshot!(error["message"].as_str().unwrap(), @"the prompt alone has about 5002 tokens, and the limit is 2000 tokens a minute: it never fits; raise `model.token_limit` if the endpoint allows more, or shorten the row");
    assert_eq!(error["class"], "invalid_row");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_lower_now_takes_no_row_away_that_is_finished() {
    let home = Home::new();
    let long = "x".repeat(20_000);
    let before = home.builder().own_model(timed().0).build().unwrap();
    before.run(words(&["a", &long])).await.unwrap();
    let (says, times) = timed();
    let builder = home.builder().own_model(says).token_limit(Some(2_000));
    let pipeline = builder.build().unwrap();
    // Nobody looks whether a row is finished before all of them are checked.
    let rows = || words(&["a", &long, "b"]);
    let refused = pipeline.run(rows()).await.unwrap_err();
    assert!(refused.to_string().contains("rows:2: "), "{refused}");
    assert!(times.lock().unwrap().is_empty());
    let report = pipeline.run(rows()).skip_invalid().await.unwrap();
    assert_eq!((report.counts.ok, report.counts.failed), (1, 0));
    assert_eq!(times.lock().unwrap().len(), 1);
    assert_eq!(home.lines("result.jsonl").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_never_fits_names_the_limit_that_it_is_above() {
    for key in ["limits.tokens_per_second", "limits.tokens_per_day"] {
        let home = Home::new();
        let builder = home.builder().own_model(timed().0);
        let builder = builder.token_limit(Some(90_000)).set(key, 300);
        let pipeline = builder.build().unwrap();
        let long = "x".repeat(4_000);
        let run = pipeline.run(words(&[&long])).skip_invalid();
        assert_eq!(run.await.unwrap().counts.failed, 1);
        let error = home.lines("failures.jsonl")[0]["error"].take();
        let message = error["message"].as_str().unwrap();
        let cure = format!("raise `{key}` if the endpoint allows more");
        assert!(message.contains(&cure), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_that_is_used_up_ends_the_run_until_then() {
    let home = Home::new();
    let (says, _) = timed();
    let builder = home.builder().own_model(says);
    let pipeline = builder.set("limits.requests_per_day", 3).build().unwrap();
    let report = pipeline
        .run(words(&["a", "b", "c", "d", "e"]))
        .await
        .unwrap();
    assert_eq!((report.counts.ok, report.counts.pending), (3, 2));
    let stopped = report.stopped.unwrap();
    assert_eq!(stopped.kind, data_generation::StopKind::Later);
    let message = stopped.message.split(" after ").next().unwrap().to_owned();
    insta::assert_snapshot!(message, @"the limit of 3 requests a day is used up; come back");
}

#[tokio::test]
async fn nothing_leaves_by_a_limit_that_is_set_while_a_run_works_before_the_past_is_counted() {
    let home = Home::new();
    let before: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
    let after: Vec<String> = (2_000..4_000).map(|n| n.to_string()).collect();
    let rows = |all: &[String]| words(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let pipeline = home.builder().own_model(timed().0).build().unwrap();
    pipeline.run(rows(&before)).await.unwrap();
    let steering = Steering::new();
    let (steers, sent) = (steering.clone(), Arc::new(Mutex::new(0)));
    let says = Says::new(move |_, _| {
        let mut sent = sent.lock().unwrap();
        *sent += 1;
        if *sent == 5 {
            steers.set_limit(LimitName::RequestsPerDay, NonZeroU64::new(2_010));
        }
        Answer::text("fine")
    });
    let pipeline = home.builder().own_model(says).build().unwrap();
    let all: Vec<String> = before.iter().chain(&after).cloned().collect();
    let report = pipeline.run(rows(&all)).steering(&steering).await.unwrap();
    // Five were under way, and may be in the journal by then: for safety's sake they count twice.
    let (ok, pending) = (report.counts.ok, report.counts.pending);
    assert!((5..=10).contains(&ok) && ok + pending == 2_000, "{ok} left");
}

#[tokio::test(start_paused = true)]
async fn a_burst_may_be_set_while_a_run_works() {
    for (burst, expected) in [(1, 45.0..50.0), (4, 0.0..1.0)] {
        let home = Home::new();
        let (says, times) = timed();
        let pipeline = home.builder().own_model(says).rate_limit(Some(4)).build();
        let steering = Steering::new();
        steering.set_burst(burst.try_into().unwrap());
        let pipeline = pipeline.unwrap();
        let run = pipeline.run(words(&["a", "b", "c", "d"]));
        run.steering(&steering).await.unwrap();
        assert_eq!(steering.steered().burst.get(), burst);
        let times = times.lock().unwrap();
        let took = (times[3] - times[0]).as_secs_f64();
        assert!(expected.contains(&took), "burst {burst}: {took} s");
    }
}

#[test]
fn a_row_that_never_fits_is_found_by_the_check_with_its_line() {
    let home = Home::new();
    let pipeline = home.builder().own_model(timed().0);
    let pipeline = pipeline.token_limit(Some(2_000)).build().unwrap();
    let [fits, long] = [10_000, 20_000].map(|length| "x".repeat(length));
    // By the guess it does not fit, but a tokenizer may make fewer of it.
    let may_fit = "人".repeat(6_000);
    let checked = pipeline
        .check(words(&["a", &fits, &long, &may_fit]))
        .unwrap();
    assert_eq!(checked.problems.total, 1);
    insta::assert_snapshot!(checked.problems.first[0].to_string(), @"rows:3: the prompt alone has about 5002 tokens, and the limit is 2000 tokens a minute: it never fits; raise `model.token_limit` if the endpoint allows more, or shorten the row");
}

#[test]
fn the_check_counts_the_system_prompt_too() {
    let home = Home::new();
    let builder = home.builder().own_model(timed().0);
    let system = "x".repeat(12_000);
    let builder = builder.system_prompt(Some(&system));
    let pipeline = builder.token_limit(Some(2_000)).build().unwrap();
    let long = "x".repeat(8_000);
    let checked = pipeline.check(words(&["a", &long])).unwrap();
    assert_eq!(checked.problems.total, 1);
    let problem = checked.problems.first[0].to_string();
    assert!(problem.starts_with("rows:2: "), "{problem}");
}

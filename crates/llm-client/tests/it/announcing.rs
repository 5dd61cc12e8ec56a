//! Limits that the first answer tells.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation_llm_client::{
    Answer, ClientOptions, Event, Headers, LimitKind, LimitOptions, Request, WaitReason,
};
use futures::future::join_all;
use tokio::time::Instant;

use crate::scripted::{Outcome, Scripted, Watched, at_once, client, row, status};

const SECOND: Duration = Duration::from_secs(1);

fn auto() -> ClientOptions {
    let mut options = at_once(5);
    options.limits.auto = true;
    options
}

fn announcing(requests: &str) -> Outcome {
    let mut answer = Answer::text("good");
    answer.headers = Headers::from_pairs([("x-ratelimit-limit-requests", requests)]);
    Ok(answer)
}

/// What an endpoint says that has a limit of requests, so much of it left, and counts anew after so many seconds.
fn counting(amount: usize, remaining: usize, reset: u64) -> Outcome {
    let mut answer = Answer::text("good");
    answer.headers = Headers::from_pairs([
        ("x-ratelimit-limit-requests", amount.to_string()),
        ("x-ratelimit-remaining-requests", remaining.to_string()),
        ("x-ratelimit-reset-requests", format!("{reset}s")),
    ]);
    Ok(answer)
}

fn a_minute(requests: u32, at_the_same_time: usize) -> ClientOptions {
    ClientOptions {
        limits: LimitOptions::per_minute(requests.try_into().ok()),
        ..at_once(at_the_same_time)
    }
}

/// Asks so many rows at the same time.
async fn ask(model: &Arc<Scripted>, options: ClientOptions, rows: usize) -> Vec<Watched> {
    let client = client(model, options);
    let calls = (0..rows).map(|n| {
        let client = Arc::clone(&client);
        async move {
            let call = Watched::default();
            client.ask_for(&row(n), &call).await.unwrap();
            call
        }
    });
    join_all(calls).await
}

fn warnings(calls: &[Watched]) -> Vec<String> {
    let warned = |event: &Event| match event {
        Event::Warned { message, .. } => Some(message.clone()),
        _ => None,
    };
    let of = |call: &Watched| -> Vec<String> {
        call.events
            .lock()
            .unwrap()
            .iter()
            .filter_map(warned)
            .collect()
    };
    calls.iter().flat_map(of).collect()
}

#[tokio::test(start_paused = true)]
async fn a_first_request_that_comes_to_nothing_leaves_the_finding_out_to_the_next() {
    let model = Scripted::slow(SECOND, |nth, _| match nth {
        0 | 1 => status(500, ""),
        _ => announcing("600"),
    });
    let calls = ask(&model, auto(), 5).await;
    let times = model.times();
    for nth in 0..3 {
        let apart = times[nth + 1] - times[nth];
        assert!(apart >= SECOND, "beside request {nth}: {apart:?} after it");
    }
    assert!(times[4] - times[3] < SECOND / 5, "{times:?}");
    assert!(warnings(&calls).is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_hears_that_the_limits_are_not_known_and_then_what_they_are() {
    let model = Scripted::slow(SECOND, |_, _| announcing("6"));
    let calls = ask(&model, auto(), 4).await;
    // The second goes as soon as it is known.
    for call in &calls[2..] {
        let events = call.events.lock().unwrap();
        let heard: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Waiting {
                    on: WaitReason::RateLimit { limit, kind },
                    at_most,
                } => Some((limit.as_str(), *kind, at_most.is_some())),
                _ => None,
            })
            .collect();
        let unknown = "the endpoint's limits, which the first answer will tell";
        let first = (unknown, LimitKind::Unknown, false);
        let then = ("6 requests a minute", LimitKind::Requests, true);
        assert_eq!(heard, [first, then]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_announces_nothing_is_told_of_once() {
    let model = Scripted::slow(SECOND, |_, _| Ok(Answer::text("good")));
    let calls = ask(&model, auto(), 9).await;
    insta::assert_snapshot!(warnings(&calls).join("\n"), @"the endpoint announces no limits, none is kept; `model.rate_limit` sets one");
    assert_eq!(model.most_at_once(), 5);
    let model = Scripted::slow(SECOND, |_, _| Ok(Answer::text("good")));
    let mut options = auto();
    options.limits.tokens.a_day = 9_000.try_into().ok();
    let calls = ask(&model, options, 3).await;
    insta::assert_snapshot!(warnings(&calls).join("\n"), @"the endpoint announces no limits, only what is configured is kept: 9000 tokens a day");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_began_with_a_number_finds_out_when_it_is_told_to() {
    let model = Scripted::slow(SECOND, |_, _| announcing("600"));
    let client = client(&model, at_once(5));
    let auto = LimitOptions {
        auto: true,
        ..LimitOptions::default()
    };
    client.set_limits(&auto);
    let calls = (0..4).map(|n| {
        let client = Arc::clone(&client);
        async move { client.ask(&row(n)).await.unwrap() }
    });
    join_all(calls).await;
    let times = model.times();
    assert!(times[1] - times[0] >= SECOND && times[3] - times[2] < SECOND / 5);
    // It is known by now.
    client.set_limits(&auto);
    assert_eq!(client.limits(), ["600 requests a minute"]);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_announced_whoever_waits_hears_what_else_he_waits_for() {
    let model = Scripted::slow(SECOND, |_, _| Ok(Answer::text("good")));
    let mut options = auto();
    options.limits.requests.a_second = 1.try_into().ok();
    let calls = ask(&model, options, 4).await;
    let events = calls[3].events.lock().unwrap();
    let mut heard = events.iter().filter_map(|event| match event {
        Event::Waiting {
            on: WaitReason::RateLimit { limit, .. },
            at_most,
        } => Some((limit.as_str(), *at_most)),
        _ => None,
    });
    let unknown = "the endpoint's limits, which the first answer will tell";
    assert_eq!(heard.next(), Some((unknown, None)));
    let (limit, at_most) = heard.next().unwrap();
    assert_eq!(limit, "1 request a second");
    // Two are before it.
    assert!(at_most > Some(SECOND * 2), "{at_most:?}");
}

#[tokio::test(start_paused = true)]
async fn a_row_above_what_the_endpoint_announces_fails_and_no_setting_is_blamed() {
    let model = Scripted::new(|_, _| {
        let mut answer = Answer::text("good");
        answer.headers = Headers::from_pairs([("x-ratelimit-limit-tokens", "500")]);
        Ok(answer)
    });
    let mut options = at_once(1);
    options.limits.tokens.a_minute = 90_000.try_into().ok();
    let client = client(&model, options);
    client.ask(&row(1)).await.unwrap();
    let error = client.ask(&Request::user("x".repeat(4_000))).await;
    insta::assert_snapshot!(error.unwrap_err(), @"the prompt alone has about 1000 tokens, and the limit is 500 tokens a minute: it never fits; the endpoint says so itself: shorten the row");
    assert_eq!(model.hits(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_endpoint_says_lowers_a_limit_and_never_raises_it() {
    for (announced, interval) in [("6000", 1), ("6", 10)] {
        let model = Scripted::new(move |_, _| announcing(announced));
        ask(&model, a_minute(60, 1), 5).await;
        let times = model.times();
        let apart = (times[4] - times[3]).as_secs();
        assert_eq!(apart, interval, "{announced} a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn a_minute_that_begins_at_fixed_times_is_used_to_the_full() {
    for (options, amount) in [(auto(), 600), (a_minute(600, 5), 60)] {
        let start = Instant::now();
        // The first minute began before the run.
        let used = Mutex::new((0, 0));
        let model = Scripted::new(move |_, _| {
            let since = start.elapsed().as_secs() + 8;
            let mut used = used.lock().unwrap();
            if since / 60 != used.0 {
                *used = (since / 60, 0);
            }
            used.1 += 1;
            counting(amount, amount.saturating_sub(used.1), 60 - since % 60)
        });
        let client = client(&model, options);
        while start.elapsed() < SECOND * 90 {
            client.ask(&row(1)).await.unwrap();
        }
        let (sent, most) = (model.hits(), amount * 3 / 2);
        let expected = most * 97 / 100..=most + 1;
        assert!(expected.contains(&sent), "{amount}: {sent}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_has_nothing_left_is_waited_for() {
    let model = Scripted::new(|_, _| counting(60, 0, 25));
    ask(&model, a_minute(60, 1), 2).await;
    let times = model.times();
    assert!(times[1] - times[0] >= SECOND * 25);
}

#[tokio::test(start_paused = true)]
async fn what_others_use_of_the_same_key_is_left_to_them() {
    let model = Scripted::new(|nth, _| match nth {
        0 => counting(60, 10, 50),
        _ => Ok(Answer::text("good")),
    });
    ask(&model, a_minute(60, 5), 61).await;
    let times = model.times();
    let minute = times[1..]
        .iter()
        .filter(|time| **time - times[0] < SECOND * 58);
    assert_eq!(minute.count(), 10);
}

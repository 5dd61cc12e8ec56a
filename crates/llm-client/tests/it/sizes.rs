//! Limits of tokens where requests are of different size, as an endpoint counts them.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use data_generation_llm_client::{Answer, ClientOptions, ErrorKind, Event, Request, WaitReason};
use futures::StreamExt;
use futures::stream::iter;
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::scripted::{Scripted, Watched, at_once, client};

const MINUTE: Duration = Duration::from_secs(60);
/// What an answer costs.
const ANSWER: u64 = 8;

fn tokens_a_minute(amount: u64) -> ClientOptions {
    let mut options = at_once(100);
    options.limits.tokens.a_minute = NonZeroU64::new(amount);
    options
}

/// What the endpoint counts of a prompt.
fn counted(text: &str) -> u64 {
    text.len() as u64 / 4 + 8
}

/// Every so many rows one of so many tokens, else a few words.
fn text(n: usize, long_every: usize, long: usize) -> String {
    match n % long_every == long_every - 1 {
        true => format!("row {n} {}", "word".repeat(long)),
        false => format!("row {n}"),
    }
}

fn endpoint(latency: Duration, says_usage: bool) -> Arc<Scripted> {
    Scripted::slow(latency, move |_, request| {
        let mut answer = json!({"choices": [{"message": {"content": "x".repeat(32)}}]});
        if says_usage {
            answer["usage"] = json!({
                "prompt_tokens": counted(&request.user),
                "completion_tokens": ANSWER,
                "total_tokens": counted(&request.user) + ANSWER,
            });
        }
        Ok(Answer::from_body(200, answer.to_string()))
    })
}

/// What arrived when, in tokens.
fn seen(model: &Scripted) -> Vec<(Instant, u64)> {
    let sent = model.sent.lock().unwrap();
    sent.iter()
        .map(|(at, text)| (*at, counted(text) + ANSWER))
        .collect()
}

fn most_in_a_minute(seen: &[(Instant, u64)]) -> u64 {
    assert!(seen.is_sorted_by_key(|(at, _)| *at));
    let (mut first, mut within, mut most) = (0, 0, 0);
    for (at, tokens) in seen {
        within += tokens;
        while seen[first].0 + MINUTE <= *at {
            within -= seen[first].1;
            first += 1;
        }
        most = most.max(within);
    }
    most
}

/// What was used of a limit from the first minute on, and the most of it in any minute.
async fn used(amount: u64, says_usage: bool, long_every: usize, long: usize) -> (f64, f64) {
    let model = endpoint(Duration::from_secs(8), says_usage);
    let client = client(&model, tokens_a_minute(amount));
    let start = Instant::now();
    let rows = iter(0..20_000).map(|n| {
        let request = Request::user(text(n, long_every, long));
        let client = &client;
        async move { client.ask(&request).await.unwrap() }
    });
    let all = rows.buffer_unordered(100).for_each(|_| async {});
    timeout(8 * MINUTE, all).await.unwrap_err();
    let seen = seen(&model);
    let steady = seen.iter().filter(|(at, _)| *at >= start + 2 * MINUTE);
    let steady: u64 = steady.map(|(_, tokens)| tokens).sum();
    let share = |tokens: u64| tokens as f64 / amount as f64;
    (share(steady) / 6.0, share(most_in_a_minute(&seen)))
}

#[tokio::test(start_paused = true)]
async fn rows_of_different_size_use_a_limit_and_never_exceed_it() {
    for (amount, long_every, long) in [
        (30_000, 12, 3_000),
        (30_000, 3, 3_000),
        (60_000, 40, 5_000),
        (10_000, 1_000_000, 1),
        (12_000, 12, 300),
    ] {
        let (used, most) = used(amount, true, long_every, long).await;
        let shown = format!("{amount}, every {long_every} has {long}: {used} used, at most {most}");
        assert!(used >= 0.9, "{shown}");
        assert!(most <= 1.0, "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn rows_of_which_nobody_says_what_they_cost_use_most_of_a_limit_and_do_not_exceed_it() {
    for (amount, long_every, long) in [(30_000, 12, 3_000), (3_000, 1_000_000, 1)] {
        let (used, most) = used(amount, false, long_every, long).await;
        let shown = format!("{amount}, every {long_every} has {long}: {used} used, at most {most}");
        assert!(used >= 0.6, "{shown}");
        assert!(most <= 1.0, "{shown}");
    }
}

/// What an endpoint says that something of so many tokens cost.
type Says = fn(u64) -> serde_json::Value;

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_counts_wrongly_gets_no_more_than_the_limit() {
    let zeros: Says = |_| json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0});
    let below: Says =
        |n| json!({"prompt_tokens": n, "completion_tokens": ANSWER, "total_tokens": ANSWER});
    let sum_alone: Says = |n| json!({"total_tokens": n + ANSWER});
    let beyond: Says =
        |_| json!({"prompt_tokens": 1_000_000_000_000_000_u64, "completion_tokens": 5});
    for (name, says) in [
        ("zeros", zeros),
        ("below", below),
        ("sum alone", sum_alone),
        ("beyond", beyond),
    ] {
        let model = Scripted::slow(Duration::from_secs(2), move |_, request| {
            let answer = json!({
                "choices": [{"message": {"content": "x".repeat(32)}, "finish_reason": "stop"}],
                "usage": says(counted(&request.user)),
            });
            Ok(Answer::from_body(200, answer.to_string()))
        });
        let (client, call) = (client(&model, tokens_a_minute(3_000)), Watched::default());
        let rows = iter(0..20_000).map(|n| {
            let (client, call) = (&client, &call);
            async move {
                let request = Request::user(format!("row {n} {}", "word".repeat(50)));
                client.ask_for(&request, call).await.unwrap().usage
            }
        });
        let mut said = Vec::new();
        let all = rows.buffer_unordered(50).for_each(|usage| {
            said.push(usage);
            std::future::ready(())
        });
        timeout(5 * MINUTE, all).await.unwrap_err();
        let seen = seen(&model);
        let (all, most) = (seen.len(), most_in_a_minute(&seen));
        assert!(most <= 3_000, "{name}: {most} in a minute");
        assert!(all > 5 * 3_000 / 66 * 6 / 10, "{name}: {all} requests");
        let events = call.events.lock().unwrap();
        let warned = events.iter().filter(
            |event| matches!(event, Event::Warned { class, .. } if *class == "usage_not_believed"),
        );
        assert_eq!(warned.count(), usize::from(name == "beyond"), "{name}");
        let usages = events.iter().filter_map(|event| match event {
            Event::Answered { usage, .. } => *usage,
            _ => None,
        });
        let counts: Vec<u64> = usages.map(|usage| usage.counted()).collect();
        assert!(
            counts.iter().all(|tokens| (60..100).contains(tokens)),
            "{name}: {counts:?}"
        );
        // The record says what the provider says.
        let is_beyond = said.iter().all(|usage| usage.total_tokens > 1_000_000);
        assert_eq!(is_beyond, name == "beyond");
    }
}

#[tokio::test(start_paused = true)]
async fn long_rows_after_short_ones_are_sent_where_they_fit_and_never_where_they_cannot() {
    let model = endpoint(Duration::from_secs(1), true);
    let client = client(&model, tokens_a_minute(12_000));
    for n in 0..40 {
        client.ask(&Request::user(format!("{n}"))).await.unwrap();
    }
    for tokens in [4_000, 6_000, 11_900, 14_000] {
        let request = Request::user("word".repeat(tokens));
        let answer = timeout(3 * MINUTE, client.ask(&request)).await;
        answer
            .unwrap_or_else(|_| panic!("{tokens} wait for ever"))
            .unwrap();
    }
    let request = Request::user("word".repeat(40_000));
    let error = client.ask(&request).await.unwrap_err();
    let ErrorKind::Row { class, message, .. } = error.kind() else {
        panic!("{error}");
    };
    assert_eq!(*class, "above_token_limit");
    assert!(message.contains("about 40000 tokens"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn what_is_mostly_white_space_is_no_reason_to_refuse_a_row() {
    let model = endpoint(Duration::from_secs(1), true);
    let client = client(&model, tokens_a_minute(1_000));
    let table = format!("a{}b\n", " ".repeat(79)).repeat(100);
    client.ask(&Request::user(table)).await.unwrap();
}

/// What was waited for, in order, without repeats.
fn waits(watched: &Watched) -> Vec<String> {
    let events = watched.events.lock().unwrap();
    let waits = events.iter().filter_map(|event| match event {
        Event::Waiting {
            on: WaitReason::RateLimit { limit, .. },
            ..
        } => Some(limit.clone()),
        _ => None,
    });
    let mut waits: Vec<String> = waits.collect();
    waits.dedup();
    waits
}

#[tokio::test(start_paused = true)]
async fn while_requests_go_alone_because_nobody_knows_what_they_cost_the_wait_says_so() {
    let model = endpoint(Duration::from_secs(1), true);
    let client = client(&model, tokens_a_minute(1_500));
    let watched: Vec<Watched> = (0..40).map(|_| Watched::default()).collect();
    iter(0..40)
        .map(|n| {
            let (client, watched) = (&client, &watched[n]);
            async move {
                let request = Request::user(format!("{n}"));
                client.ask_for(&request, watched).await.unwrap()
            }
        })
        .buffer_unordered(2)
        .for_each(|_| async {})
        .await;
    let why = "1500 tokens a minute, until the first answers tell what one costs";
    let told = |watched: &Watched| waits(watched).iter().any(|limit| limit == why);
    assert!(watched[1..5].iter().any(told));
    assert!(!watched[12..].iter().any(told));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_behind_others_hears_of_the_limit_that_they_wait_for() {
    let model = endpoint(Duration::from_secs(1), true);
    let mut options = tokens_a_minute(3_000);
    options.limits.requests.a_day = NonZeroU64::new(200);
    let client = client(&model, options);
    let watched: Vec<Watched> = (0..100).map(|_| Watched::default()).collect();
    iter(0..100)
        .map(|n| {
            let (client, watched) = (&client, &watched[n]);
            async move {
                let request = Request::user(format!("{n}"));
                client.ask_for(&request, watched).await.unwrap()
            }
        })
        .buffer_unordered(50)
        .for_each(|_| async {})
        .await;
    let all: Vec<String> = watched.iter().flat_map(waits).collect();
    assert!(all.len() > 50, "{all:?}");
    assert!(!all.iter().any(|limit| limit.contains("a day")), "{all:?}");
}

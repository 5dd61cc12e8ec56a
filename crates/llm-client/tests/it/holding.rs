//! A pause that a person asked for: it begins at once for everybody, and costs nobody anything.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use data_generation_llm_client::{
    Answer, Client, ClientOptions, Error, ErrorKind, Event, Headers, LimitOptions, Reply,
    WaitReason,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::scripted::{Outcome, Scripted, Watched, at_once, client, row, status, with_header};

const SECOND: Duration = Duration::from_secs(1);

type Asked = JoinHandle<Result<Reply, Error>>;

/// So many rows at once, each with what it hears.
fn ask(client: &Arc<Client>, rows: usize) -> (Vec<Asked>, Vec<Arc<Watched>>) {
    let one = |n| {
        let (client, call) = (Arc::clone(client), Arc::new(Watched::default()));
        let asked = Arc::clone(&call);
        let task = tokio::spawn(async move { client.ask_for(&row(n), &*asked).await });
        (task, call)
    };
    (0..rows).map(one).unzip()
}

async fn all_are_good(asked: Vec<Asked>) {
    for row in asked {
        row.await.unwrap().unwrap();
    }
}

fn limited(places: usize, requests: u32) -> ClientOptions {
    let limits = LimitOptions::per_minute(requests.try_into().ok());
    ClientOptions {
        limits,
        ..at_once(places)
    }
}

/// What each of those who are not done waits for now.
fn waiting(calls: &[Arc<Watched>]) -> Vec<String> {
    let last = |call: &Arc<Watched>| match call.events.lock().unwrap().last() {
        Some(Event::Waiting { on, .. } | Event::StillWaiting { on, .. }) => Some(match on {
            WaitReason::RateLimit { limit, .. } => limit.clone(),
            on => format!("{on:?}"),
        }),
        _ => None,
    };
    calls.iter().filter_map(last).collect()
}

fn rows_sent(model: &Scripted) -> Vec<String> {
    let sent = model.sent.lock().unwrap();
    sent.iter().map(|(_, row)| row.clone()).collect()
}

fn good() -> Arc<Scripted> {
    Scripted::slow(SECOND, |_, _| Ok(Answer::text("good")))
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_limit_waits_for_the_end_of_the_pause_from_then_on() {
    let model = good();
    let client = client(&model, limited(5, 6));
    let (asked, calls) = ask(&client, 100);
    sleep(SECOND * 15).await;
    let before = waiting(&calls);
    let limit = "6 requests a minute";
    assert_eq!(before.iter().filter(|on| *on == limit).count(), 5);
    for _ in 0..3 {
        let sent = model.hits();
        client.hold();
        sleep(SECOND / 10).await;
        // Those who waited for a slot as well: there are some now, and none is used.
        assert_eq!(waiting(&calls), vec!["Hold"; 100 - sent]);
        sleep(SECOND * 4000).await;
        assert_eq!(model.hits(), sent);
        client.go_on();
        sleep(SECOND * 15).await;
        assert!(waiting(&calls).iter().any(|on| on == limit));
    }
    all_are_good(asked).await;
    let all: Vec<String> = (0..100).map(|n| row(n).user).collect();
    assert_eq!(rows_sent(&model), all);
    for call in calls {
        assert_eq!(call.attempts.load(Ordering::Relaxed), 1);
    }
    let times = model.times();
    assert!(
        times
            .windows(2)
            .all(|pair| pair[1] - pair[0] >= SECOND * 10)
    );
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_over_before_the_next_permit_changes_nothing() {
    let mut sent = Vec::new();
    for is_held in [false, true] {
        let model = good();
        let mut options = limited(5, 6);
        // What a row would cost is reserved, and what it did not is given back.
        options.limits.tokens.a_minute = NonZeroU64::new(60_000);
        let client = client(&model, options);
        let start = Instant::now();
        let (asked, _) = ask(&client, 12);
        for _ in 0..11 {
            sleep(SECOND * 5).await;
            if is_held {
                client.hold();
            }
            sleep(SECOND * 2).await;
            client.go_on();
            sleep(SECOND * 3).await;
        }
        all_are_good(asked).await;
        let times: Vec<u128> = model
            .times()
            .iter()
            .map(|time| (*time - start).as_millis())
            .collect();
        sent.push((rows_sent(&model), times));
    }
    assert_eq!(sent[0], sent[1]);
}

#[tokio::test(start_paused = true)]
async fn nothing_hangs_where_the_one_that_goes_alone_was_paused() {
    // The row that finds out whether the endpoint is well again waits for its permit when the pause comes.
    let model = Scripted::slow(SECOND, |nth, _| match nth {
        1 => with_header(429, "retry-after", "2"),
        _ => Ok(Answer::text("good")),
    });
    let asking = client(&model, limited(3, 6));
    let (asked, calls) = ask(&asking, 8);
    sleep(SECOND * 16).await;
    assert_eq!(model.hits(), 2);
    assert!(waiting(&calls).contains(&"6 requests a minute".to_owned()));
    asking.hold();
    sleep(SECOND * 100).await;
    assert_eq!(waiting(&calls), ["Hold"; 7]);
    asking.go_on();
    all_are_good(asked).await;
    assert_eq!(model.hits(), 9);
    // The same for one whose answer tells the limits, and for those who wait for it.
    let model = Scripted::slow(SECOND * 5, |_, _| {
        let mut answer = Answer::text("good");
        answer.headers = Headers::from_pairs([("x-ratelimit-limit-requests", "60")]);
        Ok(answer)
    });
    let mut options = at_once(3);
    options.limits.auto = true;
    let asking = client(&model, options);
    let (asked, calls) = ask(&asking, 8);
    sleep(SECOND * 2).await;
    asking.hold();
    sleep(SECOND).await;
    assert_eq!(waiting(&calls), ["Hold"; 7]);
    asking.go_on();
    all_are_good(asked).await;
    assert_eq!(model.hits(), 8);
}

#[tokio::test(start_paused = true)]
async fn whoever_came_from_a_limit_can_be_stopped_too() {
    let model = good();
    let client = client(&model, limited(5, 1));
    let (asked, calls) = ask(&client, 5);
    sleep(SECOND * 2).await;
    client.hold();
    sleep(SECOND * 2).await;
    for call in &calls {
        call.stopping.cancel();
    }
    let mut stopped = 0;
    for row in asked {
        if let Err(error) = row.await.unwrap() {
            assert!(matches!(error.kind(), ErrorKind::Stopped), "{error}");
            stopped += 1;
        }
    }
    assert_eq!((stopped, model.hits()), (4, 1));
}

/// Rows with so many faults, of three seconds each, that may be ten seconds old, and a pause after the first: how many
/// are lost.
async fn lost(faults: usize) -> usize {
    const ROWS: usize = 4;
    let outcome = move |nth| -> Outcome {
        match nth < faults * ROWS {
            true => status(500, ""),
            false => Ok(Answer::text("good")),
        }
    };
    let model = Scripted::slow(SECOND * 3, move |nth, _| outcome(nth));
    let mut options = at_once(ROWS);
    options.retry.base_delay_s = 0.1;
    options.retry.max_delay_s = 0.1;
    options.retry.max_attempts = 20;
    options.retry.max_row_s = 10;
    let client = client(&model, options);
    let (asked, _) = ask(&client, ROWS);
    sleep(SECOND * 3).await;
    client.hold();
    sleep(SECOND * 20_000).await;
    client.go_on();
    let mut lost = 0;
    for row in asked {
        if let Err(error) = row.await.unwrap() {
            assert!(error.to_string().contains("older than"), "{error}");
            lost += 1;
        }
    }
    lost
}

#[tokio::test(start_paused = true)]
async fn a_row_is_as_young_after_a_pause_as_it_was_before_and_no_younger() {
    assert_eq!((lost(2).await, lost(6).await), (0, 4));
}

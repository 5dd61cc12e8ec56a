//! Waits that last are told of, whatever is waited for.

use std::sync::Arc;
use std::time::Duration;

use data_generation_llm_client::{
    Answer, Client, ClientOptions, Event, Headers, LimitOptions, RetryOptions, TransportError,
    TransportKind, WaitReason,
};
use tokio::time::sleep;

use crate::scripted::{Outcome, Scripted, Watched, at_once, client, row, with_header};

const SECOND: Duration = Duration::from_secs(1);

async fn told(client: &Arc<Client>, seconds: u32) -> Vec<String> {
    told_by(3, client, seconds).await
}

/// What so many rows that ask from now on hear of long waits within so many seconds: for what, after how many
/// seconds, for how many more, and with how many others.
async fn told_by(rows: usize, client: &Arc<Client>, seconds: u32) -> Vec<String> {
    let calls: Vec<_> = (0..rows)
        .map(|n| {
            let (client, call) = (Arc::clone(client), Arc::new(Watched::default()));
            let asked = Arc::clone(&call);
            tokio::spawn(async move { client.ask_for(&row(n), &*asked).await.unwrap() });
            call
        })
        .collect();
    sleep(SECOND * seconds).await;
    let mut told = Vec::new();
    for call in calls {
        for event in call.events.lock().unwrap().iter() {
            if let Event::StillWaiting {
                on,
                waited,
                at_most,
                others,
            } = event
            {
                let on = match on {
                    WaitReason::RateLimit { limit, .. } => limit.clone(),
                    WaitReason::BackOff { class, .. } => format!("back-off after {class}"),
                    on => format!("{on:?}"),
                };
                let left = at_most.map(|left| left.as_secs());
                told.push(format!(
                    "{on}: {} s, {left:?} more, {others} others",
                    waited.as_secs()
                ));
            }
        }
    }
    told
}

fn answering(outcome: fn(usize) -> Outcome) -> Arc<Scripted> {
    Scripted::slow(SECOND * 100, move |nth, _| outcome(nth))
}

fn good(_: usize) -> Outcome {
    Ok(Answer::text("good"))
}

#[tokio::test(start_paused = true)]
async fn for_a_limit() {
    let limits = LimitOptions::per_minute(1.try_into().ok());
    let options = ClientOptions {
        limits,
        ..at_once(5)
    };
    let client = client(&answering(good), options);
    insta::assert_snapshot!(told(&client, 50).await.join("\n"), @"1 request a minute: 30 s, Some(30) more, 1 others");
}

#[tokio::test(start_paused = true)]
async fn for_a_slot() {
    let client = client(&answering(good), at_once(1));
    // After 100 seconds the first has its answer, and one goes on waiting alone.
    insta::assert_snapshot!(told(&client, 125).await.join("\n"), @r"
    Slot: 30 s, None more, 1 others
    Slot: 60 s, None more, 1 others
    Slot: 90 s, None more, 1 others
    Slot: 120 s, None more, 0 others
    ");
}

#[tokio::test(start_paused = true)]
async fn for_somebody_who_asked_to_send_nothing() {
    let client = client(&answering(good), at_once(5));
    client.hold();
    insta::assert_snapshot!(told(&client, 72).await.join("\n"), @r"
    Hold: 30 s, None more, 2 others
    Hold: 60 s, None more, 2 others
    ");
}

#[tokio::test(start_paused = true)]
async fn for_an_endpoint_that_asked_for_a_pause() {
    let model = Scripted::new(|nth, _| match nth {
        0 => with_header(429, "retry-after", "100"),
        _ => Ok(Answer::text("good")),
    });
    let client = client(&model, at_once(1));
    let told = told(&client, 50).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("Pause {") && told[0].ends_with("2 others"),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn for_another_try() {
    let model = Scripted::new(|_, _| with_header(500, "retry-after", "40"));
    let options = ClientOptions {
        retry: RetryOptions::default(),
        ..at_once(5)
    };
    let client = client(&model, options);
    let told = told(&client, 35).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("back-off after"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_soon_over_is_not_told_of() {
    let limits = LimitOptions::per_minute(6.try_into().ok());
    let options = ClientOptions {
        limits,
        ..at_once(2)
    };
    let model = Scripted::new(|_, _| Ok(Answer::text("good")));
    let client = client(&model, options);
    assert!(told(&client, 200).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn for_limits_that_nobody_knows_yet() {
    let mut options = at_once(5);
    options.limits.auto = true;
    let client = client(&answering(good), options);
    insta::assert_snapshot!(told(&client, 50).await.join("\n"), @"the endpoint's limits, which the first answer will tell: 30 s, None more, 1 others");
}

#[tokio::test(start_paused = true)]
async fn for_an_endpoint_that_is_away() {
    let model = Scripted::new(|nth, _| match nth {
        0 => Ok(Answer::text("good")),
        _ => Err(TransportError::new(TransportKind::Connect, "refused")),
    });
    let client = client(&model, at_once(5));
    client.ask(&row(9)).await.unwrap();
    let told = told_by(12, &client, 80).await;
    assert!(!told.is_empty(), "nothing is said");
    for told in told {
        assert!(
            told.starts_with("Away {") && told.contains("}: 30 s, "),
            "{told}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn for_a_limit_that_is_changed_meanwhile() {
    let a_minute = |requests: u32| LimitOptions::per_minute(requests.try_into().ok());
    let options = ClientOptions {
        limits: a_minute(1),
        ..at_once(5)
    };
    let client = client(&answering(good), options);
    let (told, ()) = tokio::join!(told(&client, 50), async {
        sleep(SECOND * 20).await;
        client.set_limits(&a_minute(2));
    });
    // It is one wait all the same.
    insta::assert_snapshot!(told.join("\n"), @"2 requests a minute: 30 s, Some(10) more, 1 others");
}

#[tokio::test(start_paused = true)]
async fn for_something_else_than_at_first() {
    let model = Scripted::slow(SECOND * 20, |_, _| {
        let mut answer = Answer::text("good");
        answer.headers = Headers::from_pairs([("x-ratelimit-limit-requests", "1")]);
        Ok(answer)
    });
    let mut options = at_once(5);
    options.limits.auto = true;
    let client = client(&model, options);
    // For what the limits are for twenty seconds, and then for this one.
    insta::assert_snapshot!(told(&client, 55).await.join("\n"), @"1 request a minute: 30 s, Some(90) more, 1 others");
}

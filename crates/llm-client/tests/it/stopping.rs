//! When nothing more is sent: errors of the whole run, and a caller who wants to stop.

use std::sync::Arc;
use std::time::Duration;

use data_generation_llm_client::{
    Answer, Client, Error, ErrorKind, LimitOptions, Reply, TransportError, TransportKind,
};
use futures::future::join_all;
use tokio::time::Instant;

use crate::scripted::{Outcome, Scripted, Watched, at_once, client, row, status, with_header};

fn lost(kind: TransportKind) -> Outcome {
    Err(TransportError::new(kind, "127.0.0.1:9: refused"))
}

async fn ask_rows(client: &Client, rows: usize) -> Vec<Result<Reply, Error>> {
    join_all((0..rows).map(|n| async move { client.ask(&row(n)).await })).await
}

fn count(results: &[Result<Reply, Error>], is: impl Fn(&ErrorKind) -> bool) -> usize {
    results
        .iter()
        .filter(|result| result.as_ref().is_err_and(|error| is(error.kind())))
        .count()
}

#[tokio::test(start_paused = true)]
async fn before_the_first_success_an_error_of_the_run_stops_at_once() {
    let model = Scripted::new(|_, _| status(401, r#"{"error":{"message":"Incorrect API key"}}"#));
    let client = client(&model, at_once(3));
    let results = ask_rows(&client, 20).await;
    assert_eq!(model.hits(), 3);
    let run = |kind: &ErrorKind| {
        matches!(
            kind,
            ErrorKind::Run {
                class: "unauthorized",
                ..
            }
        )
    };
    assert_eq!(
        (
            count(&results, run),
            count(&results, |kind| matches!(kind, ErrorKind::Stopped))
        ),
        (3, 17)
    );
    insta::assert_snapshot!(results[0].as_ref().unwrap_err(), @"status 401: Incorrect API key; check `model.api_key_env` (or `model.api_key`) and that the key belongs to `model.base_url`");
    assert!(matches!(
        client.ask(&row(99)).await.unwrap_err().kind(),
        ErrorKind::Stopped
    ));
    assert_eq!(model.hits(), 3);
}

#[tokio::test(start_paused = true)]
async fn in_the_middle_one_probe_goes_alone_before_the_run_is_stopped() {
    let model = Scripted::slow(Duration::from_secs(1), |n, _| match n {
        0..4 => Ok(Answer::text("good")),
        _ => status(401, ""),
    });
    let client = client(&model, at_once(4));
    let results = ask_rows(&client, 40).await;
    // Four good, four refused, one probe.
    assert_eq!(model.hits(), 9);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 4);
    assert_eq!(
        count(&results, |kind| matches!(kind, ErrorKind::Run { .. })),
        1
    );
    assert_eq!(
        count(&results, |kind| matches!(kind, ErrorKind::Stopped)),
        35
    );
}

#[tokio::test(start_paused = true)]
async fn a_hiccup_of_the_key_check_stops_nothing() {
    let model = Scripted::slow(Duration::from_secs(1), |n, _| match n {
        4..8 => status(401, ""),
        _ => Ok(Answer::text("good")),
    });
    let client = client(&model, at_once(4));
    assert!(ask_rows(&client, 40).await.iter().all(Result::is_ok));
    assert_eq!(model.hits(), 44);
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_hours_is_for_another_day() {
    let model = Scripted::new(|_, _| with_header(429, "retry-after", "7200"));
    let client = client(&model, at_once(2));
    let results = ask_rows(&client, 5).await;
    assert_eq!(model.hits(), 2);
    let later = |kind: &ErrorKind| matches!(kind, ErrorKind::Later { wait: Some(wait), .. } if wait.as_secs() == 7200);
    assert_eq!(count(&results, later), 2);
    assert_eq!(
        count(&results, |kind| matches!(kind, ErrorKind::Stopped)),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_run_ends_every_wait() {
    let model = Scripted::new(|_, request| match request.user.as_str() {
        "row 0" => with_header(500, "retry-after", "600"),
        _ => status(401, ""),
    });
    let client = client(&model, at_once(2));
    let start = Instant::now();
    let results = ask_rows(&client, 3).await;
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        count(&results, |kind| matches!(kind, ErrorKind::Stopped)),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_was_never_there_is_given_up_after_three_attempts_of_a_row() {
    let model = Scripted::new(|_, _| lost(TransportKind::Connect));
    let error = client(&model, at_once(1)).ask(&row(1)).await.unwrap_err();
    assert_eq!((error.class(), model.hits()), ("endpoint_down", 3));
    insta::assert_snapshot!(error, @"127.0.0.1:9: refused; check `model.base_url` and that the endpoint is up");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_went_away_costs_its_rows_attempts_only() {
    let model = Scripted::new(|n, _| match n {
        0 => Ok(Answer::text("good")),
        1..6 => lost(TransportKind::Connect),
        _ => Ok(Answer::text("good")),
    });
    let client = client(&model, at_once(1));
    assert!(client.ask(&row(1)).await.is_ok());
    assert!(client.ask(&row(2)).await.is_ok());
    assert_eq!(model.hits(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_login_page_and_nothing_else_stops_the_run() {
    let model = Scripted::new(|_, _| status(200, "<html>log in</html>"));
    let error = client(&model, at_once(1)).ask(&row(1)).await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Run {
                class: "html_answer",
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(model.hits(), 3);
}

/// Asks, cancels after a while, and says how long the question went on after that.
async fn stopped_after(
    model: Arc<Scripted>,
    rate_limit: u32,
    wait: Duration,
) -> (Result<Reply, Error>, Duration) {
    let mut options = at_once(1);
    options.limits = LimitOptions::per_minute(rate_limit.try_into().ok());
    let client = client(&model, options);
    if rate_limit > 0 {
        client.ask(&row(0)).await.unwrap();
    }
    let call = Arc::new(Watched::default());
    let asking = tokio::spawn({
        let (client, call) = (Arc::clone(&client), Arc::clone(&call));
        async move { client.ask_for(&row(1), &*call).await }
    });
    tokio::time::sleep(wait).await;
    call.stopping.cancel();
    let start = Instant::now();
    (asking.await.unwrap(), start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_stops_at_once() {
    let second = Duration::from_secs(1);
    let on_the_limit = stopped_after(Scripted::of([]), 1, second).await;
    let in_a_pause = stopped_after(
        Scripted::new(|_, _| with_header(429, "retry-after", "600")),
        0,
        second,
    )
    .await;
    let in_back_off = stopped_after(
        Scripted::new(|_, _| with_header(500, "retry-after", "600")),
        0,
        second,
    )
    .await;
    for (result, took) in [on_the_limit, in_a_pause, in_back_off] {
        assert!(matches!(result.unwrap_err().kind(), ErrorKind::Stopped));
        assert_eq!(took, Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_under_way_is_finished_and_not_repeated() {
    let second = Duration::from_secs(1);
    let slow =
        |outcome: fn() -> Outcome| Scripted::slow(Duration::from_secs(5), move |_, _| outcome());
    let (result, took) = stopped_after(slow(|| Ok(Answer::text("good"))), 0, second).await;
    assert_eq!(
        (result.unwrap().text.as_str(), took),
        ("good", Duration::from_secs(4))
    );
    let model = slow(|| status(500, ""));
    let (result, took) = stopped_after(Arc::clone(&model), 0, second).await;
    assert!(matches!(result.unwrap_err().kind(), ErrorKind::Stopped));
    assert_eq!((model.hits(), took), (1, Duration::from_secs(4)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_for_a_caller_who_has_stopped_but_what_was_paid_for_is_judged() {
    let model = Scripted::of([]);
    let client = client(&model, at_once(1));
    let call = Watched::default();
    call.stopping.cancel();
    assert!(matches!(
        client.ask_for(&row(1), &call).await.unwrap_err().kind(),
        ErrorKind::Stopped
    ));
    call.replays
        .lock()
        .unwrap()
        .push_back((Answer::text("from before"), 1));
    assert_eq!(
        client.ask_for(&row(1), &call).await.unwrap().text,
        "from before"
    );
    assert_eq!(model.hits(), 0);
}

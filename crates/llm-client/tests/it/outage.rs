//! An endpoint that goes away in the middle of a run, and comes back or does not.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation_llm_client::{
    Answer, Client, ClientOptions, Error, ErrorKind, Event, Reply, Request, TransportError,
    TransportKind, WaitReason,
};
use futures::StreamExt;
use tokio::time::Instant;

use crate::scripted::{Outcome, Scripted, Watched, at_once, client, row, status};

const SECOND: Duration = Duration::from_secs(1);

fn refused() -> Outcome {
    Err(TransportError::new(
        TransportKind::Connect,
        "tcp connect error: Connection refused",
    ))
}

/// Good answers, but for a stretch of time.
fn away(
    from: Duration,
    to: Duration,
    what: impl Fn() -> Outcome + Send + Sync + 'static,
) -> Arc<Scripted> {
    let start = Instant::now();
    Scripted::slow(SECOND, move |_, _| {
        match (from..to).contains(&start.elapsed()) {
            true => what(),
            false => Ok(Answer::text("good")),
        }
    })
}

/// As many at work as there are places, as a run does it.
async fn ask_all(client: &Client, rows: usize, places: usize) -> Vec<Result<Reply, Error>> {
    let requests: Vec<Request> = (0..rows).map(row).collect();
    futures::stream::iter(requests.iter().map(|request| client.ask(request)))
        .buffer_unordered(places)
        .collect()
        .await
}

fn all_are_good(results: &[Result<Reply, Error>]) {
    let lost: Vec<&Error> = results.iter().filter_map(|r| r.as_ref().err()).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_restarted_for_three_minutes_costs_no_row() {
    let connection_closed = || {
        Err(TransportError::new(
            TransportKind::Closed,
            "connection reset by peer",
        ))
    };
    type How = fn() -> Outcome;
    let hows: [(How, usize); 5] = [
        (refused, 1),
        (refused, 8),
        (|| status(502, "<html>"), 8),
        (|| status(503, ""), 3),
        (connection_closed, 8),
    ];
    for (how, places) in hows {
        let model = away(5 * SECOND, 185 * SECOND, how);
        let results = ask_all(&client(&model, at_once(places)), 40, places).await;
        all_are_good(&results);
        assert_eq!(results.len(), 40);
        // It is noticed soon that the endpoint is back, and few asked meanwhile.
        let times = model.times();
        let since_start = times.iter().map(|time| *time - times[0]);
        let back = since_start.filter(|time| *time >= 184 * SECOND).min();
        assert!(back.unwrap() < 195 * SECOND, "{back:?}");
        let asked = model.hits() - 40;
        assert!(asked < 100, "{asked} requests came to nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_given_up_before_it_is_known_whether_the_endpoint_is_away() {
    let model = away(5 * SECOND, 60 * SECOND, refused);
    let mut options = at_once(4);
    options.retry.max_attempts = 2;
    options.retry.base_delay_s = 0.01;
    all_are_good(&ask_all(&client(&model, options), 40, 4).await);
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_before_it_was_known_that_the_endpoint_is_away_is_given_back() {
    let start = Instant::now();
    let faults: Mutex<HashMap<String, u32>> = Mutex::default();
    // Each row meets three more faults when the endpoint is back.
    let model = Scripted::slow(SECOND, move |_, request| {
        let at = start.elapsed().as_secs();
        let mut faults = faults.lock().unwrap();
        let met = faults.entry(request.user.clone()).or_default();
        match (at, *met) {
            (..5, _) => Ok(Answer::text("good")),
            (5..60, _) => refused(),
            (_, ..3) => {
                *met += 1;
                status(500, "")
            }
            _ => Ok(Answer::text("good")),
        }
    });
    let client = client(&model, at_once(10));
    all_are_good(&ask_all(&client, 200, 20).await);
    assert!(start.elapsed() > 60 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn one_alone_probes_while_the_endpoint_is_away_and_everybody_hears_why() {
    let model = away(5 * SECOND, 125 * SECOND, refused);
    let client = client(&model, at_once(6));
    let calls: Vec<Watched> = (0..60).map(|_| Watched::default()).collect();
    let requests: Vec<Request> = (0..60).map(row).collect();
    let asked = requests
        .iter()
        .zip(&calls)
        .map(|(request, call)| client.ask_for(request, call));
    let results: Vec<_> = futures::stream::iter(asked)
        .buffer_unordered(6)
        .collect()
        .await;
    all_are_good(&results);
    let times = model.times();
    let during: Vec<Instant> = times
        .iter()
        .copied()
        .filter(|time| (30 * SECOND..124 * SECOND).contains(&(*time - times[0])))
        .collect();
    assert!(during.len() > 8, "{} probes", during.len());
    for pair in during.windows(2) {
        assert!(
            pair[1] - pair[0] >= SECOND,
            "two probes within a second, though each takes one"
        );
    }
    let events: Vec<Event> = calls
        .iter()
        .flat_map(|call| call.events.lock().unwrap().clone())
        .collect();
    let told = events.iter().find_map(|event| match event {
        Event::Paused { message, .. } => Some(message.as_str()),
        _ => None,
    });
    let waits = |events: &[Event], is_meant: fn(&WaitReason) -> bool| {
        let is_meant = |event: &&Event| matches!(event, Event::Waiting { on, .. } if is_meant(on));
        events.iter().filter(is_meant).count()
    };
    assert!(waits(&events, |on| matches!(on, WaitReason::Away { .. })) > 0);
    assert_eq!(
        waits(&events, |on| matches!(on, WaitReason::Pause { .. })),
        0
    );
    insta::assert_snapshot!(told.unwrap(), @"the endpoint is away, it is waited for up to 15 min: tcp connect error: Connection refused");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_does_not_come_back_ends_the_run_until_later() {
    let model = away(5 * SECOND, 90_000 * SECOND, refused);
    let start = Instant::now();
    let client = client(&model, at_once(4));
    let results = ask_all(&client, 40, 4).await;
    let minutes = start.elapsed().as_secs() / 60;
    assert_eq!(minutes, 15);
    let later: Vec<&Error> = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .filter(|error| matches!(error.kind(), ErrorKind::Later { .. }))
        .collect();
    insta::assert_snapshot!(later[0], @"the endpoint has been away for 15 min: tcp connect error: Connection refused");
    let lost = results.iter().filter_map(|result| result.as_ref().err());
    for error in lost {
        let pending = matches!(error.kind(), ErrorKind::Later { .. } | ErrorKind::Stopped);
        assert!(pending, "a row was lost: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn how_long_it_is_waited_for_is_a_setting() {
    let model = away(5 * SECOND, 90_000 * SECOND, refused);
    let start = Instant::now();
    let options = ClientOptions {
        max_outage: 60 * SECOND,
        ..at_once(4)
    };
    let results = ask_all(&client(&model, options), 40, 4).await;
    assert!(results.iter().any(
        |result| matches!(result, Err(error) if matches!(error.kind(), ErrorKind::Later { .. }))
    ));
    assert!((60..90).contains(&start.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn the_time_in_which_the_endpoint_is_away_makes_no_row_older() {
    type How = fn() -> Outcome;
    let hows: [How; 2] = [refused, || status(502, "<html>")];
    for how in hows {
        // Longer than a row may live by itself, which is an hour.
        let model = away(5 * SECOND, 7000 * SECOND, how);
        let options = ClientOptions {
            max_outage: 7200 * SECOND,
            ..at_once(4)
        };
        all_are_good(&ask_all(&client(&model, options), 40, 4).await);
        // So short a life that a row may be too old before it is known that the endpoint is away.
        let model = away(5 * SECOND, 44 * SECOND, how);
        let mut options = ClientOptions {
            max_outage: 60 * SECOND,
            ..at_once(4)
        };
        options.retry.max_row_s = 5;
        all_are_good(&ask_all(&client(&model, options), 40, 4).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_is_as_young_after_an_outage_as_it_was_before_and_no_younger() {
    // A pause that somebody asks for meanwhile is the same time once more: it counts once.
    for (odd, is_lost, is_held) in [
        (3, false, false),
        (9, true, false),
        (3, false, true),
        (9, true, true),
    ] {
        let start = Instant::now();
        let faults: Mutex<HashMap<String, u32>> = Mutex::default();
        let is_back = AtomicBool::new(false);
        // Some of those who waited for the endpoint meet so many faults more once the first of them has found it back,
        // each after three seconds.
        let model = Scripted::slow(3 * SECOND, move |_, request| {
            let mut faults = faults.lock().unwrap();
            match (start.elapsed().as_secs(), faults.get(&request.user)) {
                (..10, _) => Ok(Answer::text("good")),
                (10..600, _) => {
                    faults.insert(request.user.clone(), 0);
                    refused()
                }
                _ if !is_back.swap(true, Ordering::Relaxed) => Ok(Answer::text("good")),
                (_, Some(met))
                    if *met < odd && request.user.ends_with(['1', '3', '5', '7', '9']) =>
                {
                    *faults.entry(request.user.clone()).or_default() += 1;
                    status(500, "")
                }
                _ => Ok(Answer::text("good")),
            }
        });
        let mut options = at_once(4);
        // Else it is the next wait that is too long.
        options.retry.base_delay_s = 0.1;
        options.retry.max_delay_s = 0.1;
        options.retry.max_attempts = 20;
        options.retry.max_row_s = 20;
        let client = client(&model, options);
        let (results, ()) = tokio::join!(ask_all(&client, 20, 4), async {
            tokio::time::sleep(100 * SECOND).await;
            if is_held {
                client.hold();
            }
            tokio::time::sleep(400 * SECOND).await;
            client.go_on();
        });
        let lost: Vec<String> = results
            .iter()
            .filter_map(|result| Some(result.as_ref().err()?.to_string()))
            .collect();
        assert_eq!(!lost.is_empty(), is_lost, "{lost:?}");
        assert!(
            lost.iter().all(|why| why.contains("older than")),
            "{lost:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_not_waited_for_while_somebody_wants_nothing_sent() {
    let model = away(5 * SECOND, 7000 * SECOND, refused);
    let options = ClientOptions {
        max_outage: 60 * SECOND,
        ..at_once(4)
    };
    let client = client(&model, options);
    let (results, ()) = tokio::join!(ask_all(&client, 40, 4), async {
        tokio::time::sleep(30 * SECOND).await;
        client.hold();
        tokio::time::sleep(6965 * SECOND).await;
        client.go_on();
    });
    all_are_good(&results);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_turns_one_row_away_is_no_outage() {
    for places in [1, 4] {
        let model = Scripted::new(|_, request| match request.user.as_str() {
            "row 7" => status(502, ""),
            _ => Ok(Answer::text("good")),
        });
        let results = ask_all(&client(&model, at_once(places)), 20, places).await;
        let lost: Vec<&Error> = results.iter().filter_map(|r| r.as_ref().err()).collect();
        assert_eq!(lost.len(), 1);
        assert_eq!((lost[0].class(), lost[0].attempts()), ("bad_gateway", 6));
        assert_eq!(model.hits(), 25);
    }
}

#[tokio::test(start_paused = true)]
async fn gateways_that_waited_for_long_say_nothing_about_the_endpoint() {
    // Answers that take longer than the gateway allows: three of them must not stop a run of short ones.
    let model = Scripted::slow(10 * SECOND, |_, request| match request.user.as_str() {
        "row 7" | "row 8" | "row 9" | "row 10" => {
            let mut answer = Answer::from_body(504, "upstream request timeout");
            answer.latency = 60 * SECOND;
            Ok(answer)
        }
        _ => Ok(Answer::text("good")),
    });
    let results = ask_all(&client(&model, at_once(4)), 11, 4).await;
    let lost: Vec<&Error> = results.iter().filter_map(|r| r.as_ref().err()).collect();
    assert_eq!(lost.len(), 4);
    assert!(lost.iter().all(|error| error.class() == "gateway_timeout"));
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_while_the_endpoint_is_away_ends_the_wait_at_once() {
    let model = away(5 * SECOND, 90_000 * SECOND, refused);
    let client = client(&model, at_once(2));
    assert!(client.ask(&row(0)).await.is_ok());
    tokio::time::sleep(6 * SECOND).await;
    let call = Watched::default();
    let request = row(1);
    let (result, ()) = tokio::join!(client.ask_for(&request, &call), async {
        tokio::time::sleep(100 * SECOND).await;
        call.stopping.cancel();
    });
    assert!(matches!(result.unwrap_err().kind(), ErrorKind::Stopped));
}

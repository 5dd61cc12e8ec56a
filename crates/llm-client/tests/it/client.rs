//! Waiting and repeating, on a clock that only tests can have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use data_generation_llm_client::{
    Answer, Client, Error, ErrorKind, Event, LimitKind, LimitOptions, Reply, Request,
    TransportError, TransportKind, WaitReason,
};
use futures::future::join_all;
use tokio::time::{Instant, advance, timeout};

use crate::scripted::{Outcome, Scripted, Watched, at_once, client, row, status, with_header};

async fn ask(outcomes: impl IntoIterator<Item = Outcome>) -> (Result<Reply, Error>, usize) {
    let model = Scripted::of(outcomes);
    let result = client(&model, at_once(5)).ask(&row(1)).await;
    (result, model.hits())
}

fn again(n: usize, outcome: impl Fn() -> Outcome) -> Vec<Outcome> {
    (0..n).map(|_| outcome()).collect()
}

fn class(result: Result<Reply, Error>) -> &'static str {
    result.unwrap_err().class()
}

async fn ask_all(client: &Client, rows: usize) -> Vec<Result<Reply, Error>> {
    let requests: Vec<Request> = (0..rows).map(row).collect();
    join_all(requests.iter().map(|request| client.ask(request))).await
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_server_costs_an_attempt_and_six_are_all() {
    let (result, hits) = ask(again(5, || status(500, ""))).await;
    assert_eq!((result.unwrap().text.as_str(), hits), ("good", 6));
    let (result, hits) = ask(again(6, || status(500, ""))).await;
    let error = result.unwrap_err();
    assert_eq!(
        (error.class(), error.attempts(), hits),
        ("server_error", 6, 6)
    );
    insta::assert_snapshot!(error, @"status 500 (given up at request 6)");
}

#[tokio::test(start_paused = true)]
async fn a_paid_answer_is_asked_again_only_within_its_own_budget() {
    let (result, hits) = ask(again(3, || status(200, ""))).await;
    assert_eq!((class(result), hits), ("empty_body", 3));
    let empty = || Ok(Answer::text(""));
    let (result, hits) = ask(again(2, empty)).await;
    assert_eq!((class(result), hits), ("empty_answer", 2));
    let (result, hits) = ask(again(1, empty)).await;
    assert_eq!((result.is_ok(), hits), (true, 2));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_one_row_is_not_repeated_and_stops_nobody() {
    let model = Scripted::of([status(400, r#"{"error":{"message":"bad content"}}"#)]);
    let client = client(&model, at_once(1));
    assert_eq!(class(client.ask(&row(1)).await), "bad_request");
    assert_eq!(client.ask(&row(2)).await.unwrap().text, "good");
    assert_eq!(model.hits(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pause_costs_no_attempt() {
    let (result, hits) = ask(again(40, || status(429, ""))).await;
    assert_eq!((result.is_ok(), hits), (true, 41));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_only_put_off_is_given_up_after_an_hour() {
    let model = Scripted::new(|_, _| with_header(429, "retry-after", "60"));
    let start = Instant::now();
    let result = client(&model, at_once(5)).ask(&row(1)).await;
    assert_eq!(class(result), "rate_limited");
    let minutes = start.elapsed().as_secs() / 60;
    assert!((57..=60).contains(&minutes), "{minutes} minutes");
    assert!(
        (55..=60).contains(&model.hits()),
        "{} requests",
        model.hits()
    );
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_never_undercut_by_anybody() {
    let model = Scripted::new(|n, _| match n {
        0 => with_header(429, "retry-after", "7"),
        _ => Ok(Answer::text("good")),
    });
    let client = client(&model, at_once(1));
    let results = ask_all(&client, 3).await;
    assert!(results.iter().all(Result::is_ok));
    let times = model.times();
    let wait = times[1] - times[0];
    assert!((7.01..7.73).contains(&wait.as_secs_f64()), "{wait:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_one_request_goes_alone_and_fewer_follow() {
    // Ten are put off at once, then two probes; the thirteenth request is the probe that comes back well.
    let model = Scripted::slow(Duration::from_secs(1), |n, _| match n {
        0..12 => with_header(429, "retry-after", "10"),
        _ => Ok(Answer::text("good")),
    });
    let client = client(&model, at_once(10));
    assert!(ask_all(&client, 30).await.iter().all(Result::is_ok));
    let times = model.times();
    let at = |time: Instant| times.iter().filter(|other| **other == time).count();
    assert_eq!([10, 11, 12].map(|probe| at(times[probe])), [1, 1, 1]);
    assert!(times[12] - times[11] >= Duration::from_secs(11));
    // 0.7 of ten: cut once, however many were put off, because no full round came back in between.
    assert_eq!(
        (times[13] - times[12], at(times[13])),
        (Duration::from_secs(1), 7)
    );
}

#[tokio::test(start_paused = true)]
async fn a_pause_takes_those_along_who_wait_for_the_rate_limit() {
    let model = Scripted::new(|n, _| match n {
        0 => with_header(429, "retry-after", "70"),
        _ => Ok(Answer::text("good")),
    });
    let mut options = at_once(3);
    options.limits = LimitOptions::per_minute(1.try_into().ok());
    assert!(
        ask_all(&client(&model, options), 3)
            .await
            .iter()
            .all(Result::is_ok)
    );
    let times = model.times();
    // The permit of the first minute is not spent on anybody who may not send.
    assert!(
        times[1] - times[0] < Duration::from_secs(72),
        "{:?}",
        times[1] - times[0]
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_put_off_keeps_the_gate_closed() {
    let model = Scripted::slow(Duration::from_secs(1), |n, _| match n {
        0..5 => with_header(429, "retry-after", "10"),
        5..8 => with_header(429, "retry-after", "20"),
        _ => Ok(Answer::text("good")),
    });
    let client = client(&model, at_once(5));
    assert!(ask_all(&client, 8).await.iter().all(Result::is_ok));
    let times = model.times();
    for probe in 5..8 {
        let wait = times[probe + 1] - times[probe];
        assert!(wait >= Duration::from_secs(21), "request {probe}: {wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_concurrency_grows_back_to_what_was_asked_for_and_not_beyond() {
    let model = Scripted::slow(Duration::from_secs(1), |n, _| match n {
        0 => status(429, ""),
        _ => Ok(Answer::text("good")),
    });
    let client = client(&model, at_once(4));
    assert!(ask_all(&client, 80).await.iter().all(Result::is_ok));
    assert_eq!(model.most_at_once(), 4);
    let times = model.times();
    let last_second = times
        .iter()
        .filter(|time| **time == times[times.len() - 5])
        .count();
    assert_eq!(last_second, 4);
}

#[tokio::test(start_paused = true)]
async fn concurrency_holds_and_can_be_changed() {
    let model = Scripted::slow(Duration::from_secs(1), |_, _| Ok(Answer::text("good")));
    let client = client(&model, at_once(3));
    let asking = tokio::spawn({
        let client = Arc::clone(&client);
        async move { ask_all(&client, 40).await }
    });
    tokio::time::sleep(Duration::from_millis(4500)).await;
    assert_eq!((model.most_at_once(), client.in_flight()), (3, 3));
    client.set_concurrency(6.try_into().unwrap());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((model.most_at_once(), client.in_flight()), (6, 6));
    client.set_concurrency(1.try_into().unwrap());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(client.in_flight(), 1);
    assert!(asking.await.unwrap().iter().all(Result::is_ok));
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn every_attempt_takes_a_permit_of_the_rate_limit() {
    let model = Scripted::new(|n, _| {
        if n % 2 == 0 {
            status(500, "")
        } else {
            Ok(Answer::text("good"))
        }
    });
    let mut options = at_once(50);
    options.limits = LimitOptions::per_minute(60.try_into().ok());
    let client = client(&model, options);
    ask_all(&client, 60).await;
    let times = model.times();
    assert!(times.len() > 100);
    for (first, next) in times.iter().zip(&times[1..]) {
        assert!(
            *next - *first >= Duration::from_secs(1),
            "{:?}",
            *next - *first
        );
    }
    // Towards the end all that is left may be in back-off; until then no permit is wasted.
    let took = times[80] - times[0];
    assert!(took < Duration::from_millis(1010) * 80, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_row_in_back_off_leaves_its_slot_to_others() {
    let model = Scripted::new(|n, request| match request.user.as_str() {
        "row 0" if n < 2 => with_header(503, "retry-after", "100"),
        _ => Ok(Answer::text("good")),
    });
    let client = client(&model, at_once(1));
    let start = Instant::now();
    let done = AtomicUsize::new(0);
    let requests: Vec<Request> = (0..10).map(row).collect();
    let others = join_all(requests.iter().map(|request| async {
        assert!(client.ask(request).await.is_ok());
        if start.elapsed() < Duration::from_secs(5) {
            done.fetch_add(1, Ordering::Relaxed);
        }
    }));
    others.await;
    assert_eq!(done.load(Ordering::Relaxed), 9);
}

#[tokio::test(start_paused = true)]
async fn every_paid_answer_is_handed_over_before_it_is_judged_and_holds_its_slot() {
    let model = Scripted::of([
        status(500, ""),
        status(200, "no json"),
        Ok(Answer::text("good")),
    ]);
    let client = client(&model, at_once(1));
    let call = Watched {
        paid_takes: Duration::from_secs(5),
        ..Watched::default()
    };
    let start = Instant::now();
    let reply = client.ask_for(&row(1), &call).await.unwrap();
    assert_eq!(reply.attempt, 3);
    assert_eq!(*call.paid.lock().unwrap(), [(200, 2), (200, 3)]);
    assert!(start.elapsed() >= Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_kept_ends_the_question() {
    let client = client(&Scripted::of([]), at_once(1));
    let call = Watched {
        paid_fails: true,
        ..Watched::default()
    };
    let error = client.ask_for(&row(1), &call).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Call(cause) if cause.to_string() == "disk full"));
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "disk full"
    );
    assert_eq!(error.to_string(), "a paid answer could not be kept");
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_before_is_used_and_nothing_is_sent() {
    let model = Scripted::of([]);
    let client = client(&model, at_once(1));
    let call = Watched::default();
    call.replays
        .lock()
        .unwrap()
        .push_back((Answer::text("from before"), 4));
    let reply = client.ask_for(&row(1), &call).await.unwrap();
    assert_eq!(
        (reply.text.as_str(), reply.attempt, model.hits()),
        ("from before", 4, 0)
    );
    assert!(call.paid.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_bad_answer_from_before_counts_against_its_budget() {
    let model = Scripted::of([Ok(Answer::text(""))]);
    let client = client(&model, at_once(1));
    let call = Watched::default();
    call.replays
        .lock()
        .unwrap()
        .push_back((Answer::text(""), 1));
    assert_eq!(class(client.ask_for(&row(1), &call).await), "empty_answer");
    assert_eq!(model.hits(), 1);
}

/// What a watcher was told, a word for each event.
fn story(call: &Watched) -> String {
    let events = call.events.lock().unwrap();
    let words = events.iter().map(|event| match event {
        Event::Sending { .. } => "send",
        Event::Answered {
            status: Some(200), ..
        } => "good",
        Event::Answered { .. } => "bad",
        Event::Retrying { class, .. } => class,
        Event::Paused { .. } => "paused",
        Event::Waiting { on, at_most } => match on {
            WaitReason::RateLimit {
                kind: LimitKind::Requests,
                ..
            } => "limit",
            WaitReason::BackOff { .. } => "back-off",
            WaitReason::Pause { .. } if at_most.is_some() => "pause",
            WaitReason::Slot => "slot",
            _ => "?",
        },
        Event::Resumed => "go",
        Event::StillWaiting { .. } => "still",
        _ => "?",
    });
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test(start_paused = true)]
async fn a_watcher_is_told_what_a_row_waits_for() {
    let model = Scripted::of([status(500, ""), with_header(429, "retry-after", "9")]);
    let mut options = at_once(1);
    options.limits = LimitOptions::per_minute(20.try_into().ok());
    let client = client(&model, options);
    let call = Watched::default();
    client.ask_for(&row(1), &call).await.unwrap();
    assert_eq!(
        story(&call),
        "send bad server_error back-off go limit go send bad rate_limited paused pause go send good",
    );
}

#[tokio::test(start_paused = true)]
async fn a_row_that_waits_hears_when_it_waits_for_something_else() {
    let model = Scripted::of([with_header(429, "retry-after", "9")]);
    let client = client(&model, at_once(1));
    let calls = [(); 4].map(|()| Watched::default());
    let rows = [1, 2, 3, 4].map(row);
    let asked = calls.iter().zip(&rows);
    let mut asked = join_all(asked.map(|(call, row)| client.ask_for(row, call)));
    let mut told = false;
    // Each takes ten; its answer is safe a moment after it is told.
    while !told {
        told = story(&calls[1]).ends_with("good");
        let a_moment = Duration::from_millis(3);
        assert!(timeout(a_moment, &mut asked).await.is_err());
    }
    // The first was the probe, for it was the turn of those that ask again; its answer has opened the gate.
    assert_eq!(
        calls.each_ref().map(story),
        [
            "send bad rate_limited paused pause go send good",
            "slot pause go send good",
            "slot pause slot go send",
            "slot pause slot",
        ]
    );
    assert!(asked.await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn whoever_is_put_off_while_all_pause_waits_for_the_same_pause() {
    for hints in [Some(["20", "9", "9"]), None] {
        let model = Scripted::new(move |n, _| match (n, hints) {
            (0..3, Some(hints)) => with_header(429, "retry-after", hints[n]),
            (0..3, None) => status(429, ""),
            _ => Ok(Answer::text("good")),
        });
        let client = client(&model, at_once(3));
        let calls = [(); 3].map(|()| Watched::default());
        let rows = [1, 2, 3].map(row);
        let asked = calls.iter().zip(&rows);
        let asked = join_all(asked.map(|(call, row)| client.ask_for(row, call)));
        assert!(asked.await.iter().all(Result::is_ok));
        assert_eq!(
            calls.each_ref().map(story),
            [
                "send bad rate_limited paused pause go send good",
                "send bad rate_limited pause go send good",
                "send bad rate_limited pause go send good",
            ]
        );
        assert_eq!(model.hits(), 6);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_question_gives_back_whatever_it_held() {
    let model = Scripted::slow(Duration::from_secs(10), |n, _| match n {
        0 => with_header(429, "retry-after", "5"),
        _ => Ok(Answer::text("good")),
    });
    let client = client(&model, at_once(1));
    let start = |n| {
        let client = Arc::clone(&client);
        tokio::spawn(async move { client.ask(&row(n)).await })
    };
    let (first, second, third) = (start(0), start(1), start(2));
    tokio::time::sleep(Duration::from_secs(16)).await;
    // One of the two that never asked is the probe and under way; take it away.
    assert_eq!(model.hits(), 2);
    second.abort();
    assert!(third.await.unwrap().is_ok());
    assert!(first.await.unwrap().is_ok());
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_rows_with_faults_all_come_back() {
    let model = Scripted::new(|n, _| match n % 7 {
        0 => status(500, ""),
        3 => status(429, ""),
        5 => Err(TransportError::new(
            TransportKind::Closed,
            "connection reset",
        )),
        _ => Ok(Answer::text("good")),
    });
    let client = client(&model, at_once(32));
    let good = ask_all(&client, 1000)
        .await
        .iter()
        .filter(|result| result.is_ok())
        .count();
    assert!(good >= 990, "{good}");
    assert!(model.most_at_once() <= 32);
    advance(Duration::from_secs(1)).await;
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wake_up_is_lost_between_threads() {
    let model = Scripted::slow(Duration::ZERO, |n, _| match n % 11 {
        0 => status(429, ""),
        4 => status(500, ""),
        _ => Ok(Answer::text("good")),
    });
    let mut options = at_once(8);
    options.limits = LimitOptions::per_minute(60_000_000.try_into().ok());
    options.retry.base_delay_s = 0.0;
    let client = client(&model, options);
    let rows: Vec<_> = (0..1000)
        .map(|n| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.ask(&row(n)).await })
        })
        .collect();
    for row in rows {
        assert!(row.await.unwrap().is_ok());
    }
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_limit_over_a_longer_time_does_not_take_what_it_never_heard_of_for_counted() {
    use data_generation_llm_client::{ClientOptions, Rates};
    use std::num::{NonZeroU32, NonZeroU64};
    use std::path::Path;

    let a_minute = LimitOptions::per_minute(NonZeroU32::new(600));
    let options = ClientOptions {
        limits: a_minute.clone(),
        ..ClientOptions::default()
    };
    let client = Client::new(Scripted::of([]), options);
    let source = Path::new("/a/run");
    let hour = Duration::from_secs(3_600);
    // As far as the limit of a minute looks back.
    client.sent_before(source, []);
    assert!(client.knows_of(source));
    client.set_limits(&LimitOptions {
        requests: Rates {
            a_day: NonZeroU64::new(2),
            ..a_minute.requests
        },
        ..a_minute
    });
    assert_eq!(client.longest_window(), Some(24 * hour));
    assert!(!client.knows_of(source));
    client.sent_before(source, [(hour, 5), (2 * hour, 5)]);
    assert!(client.knows_of(source));
    let error = client.ask(&row(1)).await.unwrap_err().to_string();
    assert!(
        error.contains("the limit of 2 requests a day is used up"),
        "{error}"
    );
}

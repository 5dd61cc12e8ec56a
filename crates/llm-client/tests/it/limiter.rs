//! Limits over time, used alone.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use data_generation_llm_client::{
    Answer, Event, LimitFile, LimitKind, LimitOptions, Limiter, Rates, Request, WaitReason,
};
use futures::future::join_all;
use serde_json::json;
use tokio::time::{Instant, advance};

use crate::scripted::{Scripted, Watched, at_once, client, row, status};

fn limiter(requests: u32) -> Arc<Limiter> {
    Arc::new(Limiter::per_minute(NonZeroU32::new(requests).unwrap()))
}

async fn times(limiter: &Limiter, permits: usize) -> Vec<Instant> {
    join_all((0..permits).map(|_| async {
        limiter.acquire().await;
        Instant::now()
    }))
    .await
}

#[tokio::test(start_paused = true)]
async fn no_sliding_minute_exceeds_the_limit_and_hardly_any_falls_short() {
    for requests in [1, 20, 60, 1_777] {
        let times = times(&limiter(requests), 2 * requests as usize + 1).await;
        for (first, last) in times.iter().zip(&times[requests as usize..]) {
            let minute = *last - *first;
            assert!(
                minute > Duration::from_secs(60),
                "{requests} a minute in {minute:?}"
            );
            assert!(
                minute < Duration::from_secs(61),
                "{requests} a minute in {minute:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn idle_time_is_not_saved_up() {
    let limiter = limiter(20);
    limiter.acquire().await;
    advance(Duration::from_secs(600)).await;
    let times = times(&limiter, 3).await;
    assert!(times[1] - times[0] >= Duration::from_secs(3));
    assert!(times[2] - times[1] >= Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn who_comes_first_is_served_first() {
    let limiter = limiter(60);
    let times = times(&limiter, 10).await;
    assert!(times.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_waiting_stalls_nobody_and_wastes_no_permit() {
    let limiter = limiter(60);
    limiter.acquire().await;
    let start = Instant::now();
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let limiter = Arc::clone(&limiter);
            tokio::spawn(async move { drop(limiter.acquire().await) })
        })
        .collect();
    advance(Duration::from_millis(500)).await;
    // The first one watches the clock, the second one is in the middle.
    waiters[0].abort();
    waiters[1].abort();
    for waiter in waiters.into_iter().skip(2) {
        waiter.await.unwrap();
    }
    assert!(
        start.elapsed() < Duration::from_millis(2100),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn the_hint_counts_those_ahead() {
    let limiter = limiter(60);
    assert_eq!(limiter.wait_hint(), Duration::ZERO);
    limiter.acquire().await;
    assert_eq!(limiter.wait_hint(), Duration::from_millis(1005));
    let waiting = tokio::spawn({
        let limiter = Arc::clone(&limiter);
        async move { drop(limiter.acquire().await) }
    });
    tokio::task::yield_now().await;
    assert_eq!(limiter.wait_hint(), Duration::from_millis(2010));
    waiting.abort();
}

fn of_tokens(a_minute: u64) -> Limiter {
    let tokens = Rates {
        a_minute: NonZeroU64::new(a_minute),
        ..Rates::default()
    };
    Limiter::new(&LimitOptions {
        tokens,
        ..LimitOptions::default()
    })
}

#[tokio::test(start_paused = true)]
async fn tokens_that_were_not_used_are_given_to_the_next() {
    let limiter = of_tokens(1_000);
    let start = Instant::now();
    let acquire = || limiter.acquire_for(|| 900, Duration::MAX, |_, _, _| {});
    let first = acquire().await.unwrap();
    let (second, ()) = tokio::join!(acquire(), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        first.settle(0);
    });
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    second.unwrap().settle(900);
    acquire().await.unwrap();
    assert!(start.elapsed() > Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_hears_for_which_limit_and_how_long() {
    let limiter = of_tokens(1_000);
    limiter
        .acquire_for(|| 500, Duration::MAX, |_, _, _| {})
        .await
        .unwrap();
    let mut heard = None;
    let told = |limit: &str, kind, wait: Duration| {
        heard = Some((limit.to_owned(), kind, wait.as_secs()));
    };
    limiter
        .acquire_for(|| 500, Duration::MAX, told)
        .await
        .unwrap();
    let limit = "1000 tokens a minute".to_owned();
    assert_eq!(heard, Some((limit, LimitKind::Tokens, 30)));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_too_long_is_refused_with_its_length() {
    let requests = Rates {
        a_day: NonZeroU64::new(1),
        ..Rates::default()
    };
    let limiter = Limiter::new(&LimitOptions {
        requests,
        ..LimitOptions::default()
    });
    let longest = Duration::from_secs(900);
    limiter
        .acquire_for(|| 0, longest, |_, _, _| {})
        .await
        .unwrap();
    let refused = limiter
        .acquire_for(|| 0, longest, |_, _, _| {})
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the limit of 1 request a day is used up"
    );
    assert!(refused.wait > Duration::from_secs(86_000));
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_is_no_longer_there_to_be_used() {
    let limiter = limiter(10);
    for n in 0..10 {
        limiter.sent_before(Duration::from_secs(50 - n), 0);
    }
    let start = Instant::now();
    limiter.acquire().await;
    assert!(
        (9..=11).contains(&start.elapsed().as_secs()),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn limits_can_be_changed_while_somebody_waits() {
    let limiter = limiter(1);
    limiter.acquire().await;
    let start = Instant::now();
    let (_, ()) = tokio::join!(limiter.acquire(), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        limiter.set(&LimitOptions::per_minute(NonZeroU32::new(600)));
    });
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "{:?}",
        start.elapsed()
    );
    let start = Instant::now();
    limiter.acquire().await;
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn tokens_that_one_gives_back_another_one_uses() {
    let dir = tempfile::tempdir().unwrap();
    let of = || {
        let share = Some(LimitFile::open(dir.path().join("x.json")).unwrap());
        let tokens = Rates {
            a_minute: NonZeroU64::new(1_000),
            ..Rates::default()
        };
        Limiter::new(&LimitOptions {
            tokens,
            share,
            ..LimitOptions::default()
        })
    };
    let (one, other) = (of(), of());
    let start = Instant::now();
    let first = one
        .acquire_for(|| 900, Duration::MAX, |_, _, _| {})
        .await
        .unwrap();
    let (_, ()) = tokio::join!(
        other.acquire_for(|| 900, Duration::MAX, |_, _, _| {}),
        async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            first.settle(0);
        }
    );
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn while_nobody_knows_what_an_answer_costs_one_goes_alone_and_the_others_hear_of_it() {
    const LIMIT: u64 = 10_000;
    const MINUTE: Duration = Duration::from_secs(60);
    let answer = json!({
        "choices": [{"message": {"content": "good"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 4_000, "total_tokens": 4_020},
    });
    let model = Scripted::slow(Duration::from_secs(20), move |nth, _| match nth {
        // A failure says nothing of it.
        0 => status(500, ""),
        _ => Ok(Answer::from_body(200, answer.to_string())),
    });
    let mut options = at_once(10);
    options.limits.tokens.a_minute = NonZeroU64::new(LIMIT);
    let client = client(&model, options);
    let call = Watched::default();
    join_all((0..12).map(|n| {
        let (client, call) = (&client, &call);
        async move { client.ask_for(&row(n), call).await.unwrap() }
    }))
    .await;
    let times = model.times();
    assert!(times[1] - times[0] >= Duration::from_secs(20));
    assert!(times[2] - times[1] >= Duration::from_secs(20));
    for first in &times {
        let minute = times[1..]
            .iter()
            .filter(|at| *at >= first && **at < *first + MINUTE);
        let tokens = minute.count() as u64 * 4_020;
        assert!(tokens <= LIMIT, "{tokens} in a minute");
    }
    let events = call.events.lock().unwrap();
    let told = events.iter().filter(|event| match event {
        Event::Waiting {
            on: WaitReason::RateLimit { limit, .. },
            ..
        } => limit == "tokens, until the first answer tells what one costs",
        _ => false,
    });
    // All that had a slot but the one that was asking, and whoever got the slot of the one that failed.
    assert_eq!(told.count(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_prompt_as_long_as_the_limit_leaves_no_room_for_an_answer() {
    let model = Scripted::new(|_, _| Ok(Answer::text("good")));
    let mut options = at_once(1);
    options.limits.tokens.a_minute = NonZeroU64::new(1_000);
    let client = client(&model, options);
    let letters = |letters| Request::user("x".repeat(letters));
    let error = client.ask(&letters(8_000)).await.unwrap_err();
    assert!(error.to_string().contains("it never fits"), "{error}");
    client.ask(&letters(3_900)).await.unwrap();
    assert_eq!(model.hits(), 1);
}

/// Until when somebody who waits for so many tokens is told that he does, each time that he is, and when he goes.
async fn told_until(limiter: &Limiter, tokens: u64) -> (Vec<(Instant, Instant)>, Instant) {
    let mut told = Vec::new();
    let on_wait = |_: &str, _, wait| told.push((Instant::now(), Instant::now() + wait));
    let permit = limiter.acquire_for(|| tokens, Duration::MAX, on_wait).await;
    permit.unwrap();
    (told, Instant::now())
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_longer_than_he_was_told_is_told_so_in_time() {
    const SECOND: Duration = Duration::from_secs(1);
    let limiter = Limiter::new(&LimitOptions {
        tokens: Rates {
            a_minute: NonZeroU64::new(400),
            ..Rates::default()
        },
        ..LimitOptions::default()
    });
    let start = Instant::now();
    let permit = limiter
        .acquire_for(|| 100, Duration::MAX, |_, _, _| {})
        .await;
    let dearer = async {
        tokio::time::sleep(SECOND).await;
        permit.unwrap().settle(400);
    };
    let waiting = join_all([(); 3].map(|()| told_until(&limiter, 100)));
    let (told, ()) = tokio::join!(waiting, dearer);
    for ((told, went), least) in told.iter().zip([55, 70, 85]) {
        assert!(*went - start > SECOND * least, "{:?}", *went - start);
        assert!((2..12).contains(&told.len()), "{told:?}");
        let next = told[1..].iter().map(|(at, _)| at).chain([went]);
        for ((_, until), next) in told.iter().zip(next) {
            assert!(
                *next <= *until + SECOND,
                "he heard nothing for {:?}",
                *next - *until
            );
        }
        let (_, last) = told.last().unwrap();
        assert!(
            *last - *went <= SECOND && *went - *last <= SECOND,
            "{told:?}"
        );
    }
}

use std::sync::Arc;

use futures::future::join_all;

use super::*;
use crate::ledger::Unit;

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

fn said(amount: u64, remaining: u64, reset: u64) -> Announced {
    Announced {
        unit: Unit::Requests,
        amount,
        remaining: Some(remaining),
        reset: Some(Duration::from_secs(reset)),
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_endpoint_says_lowers_a_limit_and_never_raises_it() {
    for (announced, interval) in [(6_000, 1), (6, 10)] {
        let limiter = limiter(60);
        limiter.learn(&[said(announced, announced - 1, 1)]);
        let times = times(&limiter, 4).await;
        let apart = (times[3] - times[2]).as_secs();
        assert_eq!(apart, interval, "{announced} a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn a_minute_that_begins_at_fixed_times_is_used_to_the_full() {
    let auto = LimitOptions {
        auto: true,
        ..LimitOptions::default()
    };
    let configured = LimitOptions::per_minute(NonZeroU32::new(600));
    for (options, amount) in [(auto, 600), (configured, 60)] {
        let limiter = Limiter::new(&options);
        let start = Instant::now();
        let (mut used, mut minute, mut sent) = (0, 0, 0);
        while start.elapsed() < Duration::from_secs(90) {
            let permit = limiter.acquire().await;
            let since = start.elapsed().as_secs() + 8;
            if since / 60 != minute {
                (minute, used) = (since / 60, 0);
            }
            (used, sent) = (used + 1, sent + 1);
            limiter.learn(&[said(amount, amount.saturating_sub(used), 60 - since % 60)]);
            permit.settle(0);
        }
        let most = amount * 3 / 2;
        assert!(
            (most * 97 / 100..=most + 1).contains(&sent),
            "{amount}: {sent}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_has_nothing_left_is_waited_for() {
    let limiter = limiter(60);
    limiter.learn(&[said(60, 0, 25)]);
    let start = Instant::now();
    limiter.acquire().await;
    assert!(start.elapsed() >= Duration::from_secs(25));
}

#[tokio::test(start_paused = true)]
async fn what_others_use_of_the_same_key_is_left_to_them() {
    let limiter = limiter(60);
    limiter.acquire().await;
    limiter.learn(&[said(60, 10, 50)]);
    let start = Instant::now();
    let times = times(&limiter, 60).await;
    let at_once = times
        .iter()
        .filter(|time| **time - start < Duration::from_secs(58));
    assert_eq!(at_once.count(), 10);
}

#[tokio::test(start_paused = true)]
async fn with_auto_one_request_alone_finds_out_what_the_limits_are() {
    let limiter = Arc::new(Limiter::new(&LimitOptions {
        auto: true,
        ..LimitOptions::default()
    }));
    let first = limiter.acquire().await;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let limiter = Arc::clone(&limiter);
            tokio::spawn(async move {
                drop(limiter.acquire().await);
                Instant::now()
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    limiter.learn(&[said(60, 59, 1)]);
    first.settle(0);
    let mut times = Vec::new();
    for waiting in waiting {
        times.push(waiting.await.unwrap());
    }
    assert!((1..=2).contains(&(times[2] - times[1]).as_secs()));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_pushes_back_again_and_again_does_not_bring_a_slow_rate_to_a_stop() {
    for (requests, apart) in [(1, 60), (6, 60), (600, 10)] {
        let limiter = limiter(requests);
        for _ in 0..100 {
            let slowed = limiter.pushed_back(Duration::ZERO);
            assert!(
                slowed.is_none() || requests > 1,
                "it is slow enough: {slowed:?}"
            );
        }
        let times = times(&limiter, 3).await;
        let waited = (times[2] - times[1]).as_secs();
        assert!(
            (apart * 9 / 10..=apart).contains(&waited),
            "{requests} a minute: {waited} s"
        );
    }
}

use std::num::NonZeroU64;

use super::*;
use crate::Rates;
use crate::pace::Push;

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_pushes_back_again_and_again_does_not_bring_a_slow_rate_to_a_stop() {
    for (requests, apart) in [(1, 60), (6, 60), (600, 10)] {
        let limiter = Limiter::per_minute(NonZeroU32::new(requests).unwrap());
        for _ in 0..100 {
            for push in [Push::First, Push::Again, Push::Again, Push::Again] {
                let slowed = limiter.pushed_back(push, Duration::ZERO);
                assert!(
                    slowed.is_none() || requests > 1,
                    "it is slow enough: {slowed:?}"
                );
            }
        }
        let mut times = Vec::new();
        for _ in 0..3 {
            limiter.acquire().await;
            times.push(Instant::now());
        }
        let waited = (times[2] - times[1]).as_secs();
        assert!(
            (apart * 9 / 10..=apart).contains(&waited),
            "{requests} a minute: {waited} s"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_hears_at_once_of_what_is_counted_while_he_waits() {
    let limiter = Limiter::new(&LimitOptions {
        requests: a_minute(60),
        tokens: a_minute(100),
        ..LimitOptions::default()
    });
    limiter.acquire().await.settle(0);
    let heard = Mutex::new(Vec::new());
    let wait = || {
        limiter.acquire_for(
            || 10,
            Duration::MAX,
            |limit, _, _| {
                heard.lock().unwrap().push(limit.to_owned());
            },
        )
    };
    let count = async {
        tokio::task::yield_now().await;
        let ago = Duration::from_secs(1);
        limiter.look_back(1, [(ago, 100)].into_iter());
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    tokio::select! {
        biased;
        _ = wait() => panic!("there is no room"),
        _ = wait() => panic!("there is no room"),
        () = count => {}
    }
    let requests = "60 requests a minute";
    let tokens = "100 tokens a minute";
    assert_eq!(*heard.lock().unwrap(), [requests, requests, tokens, tokens]);
}

#[tokio::test(start_paused = true)]
async fn nothing_leaves_by_a_new_limit_before_it_is_counted_what_was_sent_before() {
    let limiter = Limiter::new(&LimitOptions::default());
    limiter.looks_back();
    limiter.set(&LimitOptions::per_minute(NonZeroU32::new(60)));
    let heard = Mutex::new(Vec::new());
    let told = |limit: &str, kind, _| heard.lock().unwrap().push((limit.to_owned(), kind));
    let start = Instant::now();
    let permit = async {
        let permit = limiter.acquire_for(|| 0, Duration::MAX, told).await;
        permit.unwrap().settle(0);
        start.elapsed().as_secs()
    };
    let look_back = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let sent = (0..60).map(|_| (Duration::from_secs(15), 0));
        limiter.look_back(1, sent);
        limiter.has_looked_back();
    };
    let (left, ()) = tokio::join!(permit, look_back);
    assert!((50..52).contains(&left), "{left} s: a minute after those");
    let what = "the count of what was sent before".to_owned();
    assert_eq!(heard.lock().unwrap()[0], (what, LimitKind::Unknown));
}

fn a_minute(amount: u64) -> Rates {
    Rates {
        a_minute: NonZeroU64::new(amount),
        ..Rates::default()
    }
}

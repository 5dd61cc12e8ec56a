use super::*;
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

use std::mem::ManuallyDrop;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use super::*;
use crate::{LimitOptions, Limiter, Rates};

mod file;

fn a_minute(requests: u64) -> Rates {
    Rates {
        a_minute: NonZeroU64::new(requests),
        ..Rates::default()
    }
}

/// A limiter by the clock that tests stop: the machine's own goes on, and two would never agree.
fn limiter(options: &LimitOptions) -> Limiter {
    static BOOTED: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    // A test may have stopped its clock before this was read.
    let now = Instant::now().into_std() + Duration::from_secs(3_600);
    let since_boot = now.duration_since(*BOOTED).as_micros();
    Limiter::begin(options, u64::try_from(since_boot).unwrap())
}

fn sharing(file: &Path, requests: u64) -> Limiter {
    limiter(&LimitOptions {
        requests: a_minute(requests),
        share: Some(LimitFile::open(file).unwrap()),
        ..LimitOptions::default()
    })
}

/// When each of so many permits was there.
async fn times(limiter: &Limiter, permits: usize) -> Vec<Instant> {
    let mut times = Vec::new();
    for _ in 0..permits {
        limiter.acquire().await.settle(0);
        times.push(Instant::now());
    }
    times
}

fn is_kept(times: &[Instant], requests: usize) -> bool {
    let mut times = times.to_vec();
    times.sort_unstable();
    let mut windows = times.windows(requests + 1);
    windows.all(|window| window[requests] - window[0] > Duration::from_secs(60))
}

/// Takes permits for so long.
async fn take_for(limiter: &Limiter, time: Duration) -> Vec<Instant> {
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        limiter.acquire().await.settle(0);
        times.push(Instant::now());
    }
    times
}

/// Limits of a day are not spaced: so many are there at once, and then no more.
fn a_day(file: &Path, requests: u64) -> Limiter {
    limiter(&LimitOptions {
        requests: Rates {
            a_day: NonZeroU64::new(requests),
            ..Rates::default()
        },
        share: Some(LimitFile::open(file).unwrap()),
        ..LimitOptions::default()
    })
}

/// How many permits are left of those of a day.
async fn left(limiter: &Limiter) -> usize {
    let mut left = 0;
    let none = |_: &str, _, _| {};
    while limiter.acquire_for(|| 0, SECONDS, none).await.is_ok() {
        left += 1;
    }
    left
}

const SECONDS: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn those_who_share_a_limit_keep_it_together_and_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let (limiters, later) = ([(); 3].map(|()| sharing(&file, 60)), sharing(&file, 60));
    let minutes = Duration::from_secs(120);
    let all = join_all(limiters.iter().map(|limiter| take_for(limiter, minutes))).await;
    let counts: Vec<usize> = all.iter().map(Vec::len).collect();
    assert!(
        counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 2,
        "{counts:?}"
    );
    let times = all.concat();
    assert!(is_kept(&times, 60));
    assert!((119..=124).contains(&times.len()), "{counts:?}");
    let start = Instant::now();
    later.acquire().await;
    assert!(
        start.elapsed() >= Duration::from_millis(900),
        "it knows what the others have sent"
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_may_send_several_at_once_leaves_as_much_to_one_who_may_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let with_burst = |burst| {
        limiter(&LimitOptions {
            requests: a_minute(60),
            burst: NonZeroU32::new(burst).unwrap(),
            share: Some(LimitFile::open(&file).unwrap()),
            ..LimitOptions::default()
        })
    };
    let (many, one) = (with_burst(6), with_burst(1));
    let time = Duration::from_secs(60);
    let (of_many, of_one) = tokio::join!(take_for(&many, time), take_for(&one, time));
    // But for those with which it begins, they take turns.
    assert!(
        of_one.len() + 7 >= of_many.len(),
        "{} and {}",
        of_one.len(),
        of_many.len()
    );
    assert!(of_one.len() + of_many.len() >= 60);
}

#[tokio::test(start_paused = true)]
async fn turns_leave_nothing_unused_where_permits_follow_each_other_fast() {
    // A millisecond from one to the next, as clocks ring, and a tenth of that.
    for (requests, millis) in [(60_000, 2_000), (600_000, 200)] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        let limiters = [(); 2].map(|()| sharing(&file, requests));
        let time = Duration::from_millis(millis);
        let all = join_all(limiters.iter().map(|limiter| take_for(limiter, time))).await;
        let counts: Vec<usize> = all.iter().map(Vec::len).collect();
        let sum: usize = counts.iter().sum();
        assert!((1_980..=2_020).contains(&sum), "{counts:?}");
        assert!(
            counts.iter().all(|count| *count > sum * 2 / 5),
            "{counts:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_lower_of_two_limits_is_kept_by_both_until_its_process_ends() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let (fast, slow) = (sharing(&file, 600), sharing(&file, 60));
    // The fast one has sent more than the slow one may before anybody else is there.
    let before = times(&fast, 200).await;
    let minutes = Duration::from_secs(180);
    let (of_fast, of_slow) = tokio::join!(take_for(&fast, minutes), take_for(&slow, minutes));
    let first = of_slow[0] - *before.last().unwrap();
    assert!(
        first <= Duration::from_secs(62),
        "it waits until the window has room: {first:?}"
    );
    let since = of_slow[0];
    let later: Vec<Instant> = of_fast.iter().copied().filter(|at| *at >= since).collect();
    assert!(
        later.len().abs_diff(of_slow.len()) <= 1,
        "{} {}",
        later.len(),
        of_slow.len()
    );
    assert!(is_kept(&[later, of_slow].concat(), 60));
    let news = fast.news().unwrap();
    assert_eq!(news.class, "limits_of_another");
    assert_eq!(
        news.message,
        "another process with the same key keeps 60 requests a minute: as long as it runs, this one keeps that too"
    );
    assert_eq!(fast.news(), None, "it is said once");
    assert_eq!(slow.news(), None, "what it keeps is lower");
    drop(slow);
    let start = Instant::now();
    times(&fast, 100).await;
    assert!(
        start.elapsed() < Duration::from_secs(12),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(fast.kept(), ["600 requests a minute"]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_tokens_that_only_another_process_keeps_is_kept_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let requests = sharing(&file, 600);
    let tokens = limiter(&LimitOptions {
        tokens: a_minute(6_000),
        share: Some(LimitFile::open(&file).unwrap()),
        ..LimitOptions::default()
    });
    let mine = || 100;
    let acquire = async |limiter: &Limiter| {
        let permit = limiter.acquire_for(mine, Duration::MAX, |_, _, _| {}).await;
        permit.unwrap().settle(100);
        Instant::now()
    };
    acquire(&tokens).await;
    let mut times = Vec::new();
    for _ in 0..70 {
        times.push(acquire(&requests).await);
        times.push(acquire(&tokens).await);
    }
    assert!(
        is_kept(&times, 60),
        "sixty have as many tokens as go in a minute"
    );
    let Some(limit) = requests.most_tokens() else {
        panic!("it knows of no limit of tokens");
    };
    assert_eq!(requests.origin(limit), crate::kept::Origin::Other);
}

#[tokio::test(start_paused = true)]
async fn whoever_died_while_he_waited_is_waited_for_no_longer_than_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    // A process that is killed takes no leave.
    let (alive, dead) = (sharing(&file, 600), ManuallyDrop::new(sharing(&file, 60)));
    times(&dead, 1).await;
    let mut waiting = Box::pin(dead.acquire());
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    std::mem::forget(waiting);
    sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    let first = times(&alive, 3).await;
    assert!(
        first[0] - start <= Duration::from_millis(2_100),
        "{:?}",
        first[0] - start
    );
    let lowered = ["60 requests a minute, which another process with the same key keeps"];
    assert_eq!(alive.kept(), lowered);
    // It is not to be seen, but it is there: all that it may send is under way, for example.
    sleep(Duration::from_secs(300)).await;
    times(&alive, 1).await;
    assert_eq!(alive.kept(), lowered);
    // The system takes the lock of a process that ends, and a file without one is as good as none.
    let standing = |path: &std::path::PathBuf| path.extension().is_some();
    let files = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    for path in files.filter(standing) {
        std::fs::remove_file(path).unwrap();
    }
    sleep(Duration::from_secs(61)).await;
    times(&alive, 1).await;
    assert_eq!(alive.kept(), ["600 requests a minute"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_process_kept_is_not_kept_for_it_any_longer() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let dead = ManuallyDrop::new(sharing(&file, 6));
    let files = std::fs::read_dir(dir.path()).unwrap();
    let mut files = files.map(|entry| entry.unwrap().path());
    let standing = files.find(|path| path.extension().is_some()).unwrap();
    times(&dead, 1).await;
    let alive = sharing(&file, 600);
    times(&alive, 1).await;
    sleep(Duration::from_secs(30)).await;
    times(&alive, 1).await;
    let lowered = ["6 requests a minute, which another process with the same key keeps"];
    assert_eq!(alive.kept(), lowered);
    // The system takes the lock of a process that is killed, and leaves its file.
    std::fs::remove_file(&standing).unwrap();
    std::fs::write(&standing, "").unwrap();
    let start = Instant::now();
    times(&alive, 3).await;
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(alive.kept(), ["600 requests a minute"]);
    assert!(!standing.exists());
}

#[tokio::test(start_paused = true)]
async fn a_process_is_seen_as_long_as_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = LimitFile::open(dir.path().join("x")).unwrap();
    let other = LimitFile::open(dir.path().join("x")).unwrap();
    let standing = file.stand(7).unwrap();
    assert_eq!(
        [&other, &file].map(|file| file.is_standing(7)),
        [Some(true); 2]
    );
    assert_eq!(other.is_standing(8), None);
    drop(standing);
    assert_eq!(other.is_standing(7), None);
    // What a killed one leaves has no lock, and is cleared away.
    let left = dir.path().join(format!("x.{:016x}", 9));
    std::fs::write(&left, "").unwrap();
    assert_eq!(other.is_standing(9), Some(false));
    assert!(!left.exists());
}

#[tokio::test(start_paused = true)]
async fn one_with_a_higher_limit_that_joins_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let (slow, fast) = (sharing(&file, 60), sharing(&file, 60_000));
    let before = times(&slow, 5).await;
    let half = Duration::from_secs(30);
    let (of_slow, of_fast) = tokio::join!(take_for(&slow, half), take_for(&fast, half));
    let mut all = [before, of_slow, of_fast].concat();
    all.sort_unstable();
    let longest = all.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    assert!(is_kept(&all, 60));
}

#[tokio::test(start_paused = true)]
async fn whoever_sets_no_limit_of_his_own_keeps_those_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let (one, other) = (sharing(&file, 60), sharing(&file, 60));
    let none = limiter(&LimitOptions {
        share: Some(LimitFile::open(&file).unwrap()),
        ..LimitOptions::default()
    });
    assert!(none.is_in_use());
    times(&one, 1).await;
    other.set(&LimitOptions::default());
    assert!(other.is_in_use());
    let time = Duration::from_secs(100);
    let (a, b, c) = tokio::join!(
        take_for(&one, time),
        take_for(&other, time),
        take_for(&none, time)
    );
    assert!(is_kept(&[a, b, c].concat(), 60));
    drop(one);
    // With nobody left who keeps a limit there is none.
    let start = Instant::now();
    times(&other, 1_000).await;
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_day_that_began_before_the_file_counts_once_for_each_run() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let sent = |n: usize| (0..n).map(|_| (Duration::from_secs(3_600), 0));
    let (one, other) = (a_day(&file, 100), a_day(&file, 100));
    assert!(!one.knows(1));
    one.look_back(1, sent(40));
    assert!(one.knows(1) && other.knows(1) && !other.knows(2));
    // A second start of the same run, and another run.
    other.look_back(1, sent(40));
    other.look_back(2, sent(30));
    assert_eq!(left(&other).await, 30);
    // What left since the file is there is in it already.
    let file = dir.path().join("y");
    let one = a_day(&file, 100);
    one.look_back(3, std::iter::repeat_n((Duration::ZERO, 0), 50));
    assert_eq!(left(&one).await, 100);
    assert!(one.knows(3));
}

#[tokio::test(start_paused = true)]
async fn what_a_run_sent_while_it_shared_nothing_counts_once_for_all_who_share() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let (one, other) = (a_day(&file, 100), a_day(&file, 100));
    one.acquire().await.settle(0);
    sleep(Duration::from_secs(25 * 3_600)).await;
    let ago = |n: usize, seconds| (0..n).map(move |_| (Duration::from_secs(seconds), 0));
    // Of all who share nothing is missing in the file.
    assert!(one.knows(1) && other.knows(1));
    one.look_back_apart(1, ago(40, 3_600));
    one.look_back(1, ago(40, 3_600));
    one.acquire().await.give_back();
    other.look_back_apart(1, ago(40, 3_600));
    sleep(Duration::from_secs(600)).await;
    // Since then it has worked once more, and again without sharing.
    other.look_back_apart(1, ago(40, 4_200).chain(ago(10, 5)));
    other.look_back_apart(2, ago(20, 5));
    other.acquire().await.give_back();
    one.look_back_apart(1, ago(40, 4_200).chain(ago(10, 5)));
    assert_eq!(left(&one).await, 30);
}

#[tokio::test(start_paused = true)]
async fn a_longer_limit_counts_what_a_run_sent_apart_before_the_shorter_one_looked_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = LimitOptions {
        requests: a_minute(6_000),
        share: Some(LimitFile::open(dir.path().join("x")).unwrap()),
        ..LimitOptions::default()
    };
    let limiter = Limiter::new(&options);
    let ago = |n: usize, seconds| (0..n).map(move |_| (Duration::from_secs(seconds), 0));
    let all = || ago(40, 3_600).chain(ago(10, 5));
    limiter.look_back_apart(1, all());
    limiter.acquire().await.give_back();
    options.requests.a_day = NonZeroU64::new(60);
    limiter.set(&options);
    limiter.look_back_apart(1, all());
    assert_eq!(left(&limiter).await, 10);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_nobody_kept_before_counts_what_others_of_its_kind_know() {
    for share in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let file = LimitFile::open(dir.path().join("x")).unwrap();
        let mut options = LimitOptions {
            requests: a_minute(6_000),
            share: share.then_some(file),
            ..LimitOptions::default()
        };
        let limiter = limiter(&options);
        times(&limiter, 50).await;
        options.requests.a_day = NonZeroU64::new(60);
        limiter.set(&options);
        assert_eq!(left(&limiter).await, 10, "{share}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_left_before_a_process_began_counts_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let (one, other) = (sharing(&file, 60), sharing(&file, 60));
    let sent = |ago| (0..60_u64).map(move |n| (Duration::from_millis(ago + n), 0));
    one.look_back(1, sent(30_000));
    let start = Instant::now();
    times(&one, 1).await;
    assert!(start.elapsed() >= Duration::from_secs(30));
    let start = Instant::now();
    times(&other, 58).await;
    assert!(start.elapsed() < Duration::from_secs(60));
}

//! What becomes of what was sent when something happens to the file, or while it cannot be used.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_used_takes_no_limit_away() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let (limiter, other) = (sharing(&file, 60), sharing(&file, 60));
    times(&limiter, 2).await;
    assert_eq!(limiter.news(), None);
    let aside = dir.path().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir(&file).unwrap();
    let start = Instant::now();
    let sent = times(&limiter, 100).await;
    assert!(is_kept(&sent, 60));
    assert!(start.elapsed() < Duration::from_secs(110));
    let news = limiter.news().unwrap();
    assert_eq!(news.class, "limits_not_shared");
    assert!(
        news.message.contains("x could not be used (Is a directory"),
        "{news:?}"
    );
    assert_eq!(limiter.news(), None, "it is said once");
    // Once it can be used, everybody hears of all that was sent.
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    limiter.acquire().await;
    let start = Instant::now();
    other.acquire().await;
    assert!(start.elapsed() >= Duration::from_millis(900));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_taken_away_takes_nothing_of_what_was_sent_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let (one, other) = (sharing(&file, 60), sharing(&file, 60));
    let mut sent = times(&one, 30).await;
    std::fs::remove_file(&file).unwrap();
    let (of_one, of_other) = tokio::join!(times(&one, 30), times(&other, 30));
    sent.extend(of_one);
    sent.extend(of_other);
    assert!(is_kept(&sent, 60));
    assert_eq!(one.news(), None);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_while_it_had_the_lock_stops_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let (limiter, later) = (sharing(&file, 600), sharing(&file, 600));
    times(&limiter, 1).await;
    let stopped = LimitFile::open(&file).unwrap();
    let locked = stopped.lock(true).unwrap();
    let first = times(&limiter, 1).await;
    assert_eq!(limiter.news(), None, "it may be a busy machine");
    let sent = times(&limiter, 20).await;
    assert!(sent[19] - first[0] < Duration::from_secs(3));
    let news = limiter.news().unwrap();
    assert!(
        news.message.contains("another process holds its lock"),
        "{news:?}"
    );
    drop(locked);
    times(&limiter, 1).await;
    let start = Instant::now();
    later.acquire().await;
    assert!(start.elapsed() >= Duration::from_millis(90));
}

#[tokio::test(start_paused = true)]
async fn what_one_gives_back_others_may_send() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let (one, other) = (a_day(&file, 10), a_day(&file, 10));
    let permit = one.acquire().await;
    assert_eq!(left(&other).await, 9);
    permit.give_back();
    assert_eq!(left(&other).await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_while_the_file_could_not_be_used_is_in_it_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let (file, aside) = (dir.path().join("x"), dir.path().join("aside"));
    let (one, other) = (a_day(&file, 20), a_day(&file, 20));
    times(&one, 2).await;
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir(&file).unwrap();
    times(&one, 6).await;
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    // Somebody else writes down less than has left, and then one more leaves here.
    times(&other, 1).await;
    times(&one, 1).await;
    assert_eq!(left(&a_day(&file, 20)).await, 11);
}

#[tokio::test(start_paused = true)]
async fn what_stood_in_a_file_that_was_taken_away_is_in_the_next_one_whoever_makes_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let one = a_day(&file, 40);
    times(&one, 30).await;
    std::fs::remove_file(&file).unwrap();
    let other = a_day(&file, 40);
    times(&other, 5).await;
    times(&one, 1).await;
    let left = left(&other).await;
    assert!(left <= 9, "{left} are left");
}

#[tokio::test(start_paused = true)]
async fn an_older_state_that_is_put_back_takes_nothing_of_what_was_sent_since_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let (one, other) = (a_day(&file, 40), a_day(&file, 40));
    times(&one, 2).await;
    let older = std::fs::read(&file).unwrap();
    times(&other, 3).await;
    times(&one, 20).await;
    std::fs::write(&file, &older).unwrap();
    times(&one, 1).await;
    assert_eq!(left(&other).await, 14);
    // The same where somebody who knows no better goes on in it.
    std::fs::write(&file, &older).unwrap();
    let new = a_day(&file, 40);
    times(&new, 1).await;
    other.knows(0);
    assert_eq!(left(&new).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_emptied_holds_again_what_was_sent_whoever_is_the_first_to_write() {
    for is_seen_empty in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        let one = a_day(&file, 40);
        times(&one, 30).await;
        std::fs::write(&file, "").unwrap();
        if is_seen_empty {
            one.knows(0);
        }
        let other = a_day(&file, 40);
        times(&other, 5).await;
        times(&one, 1).await;
        let left = left(&other).await;
        assert!(left <= 9, "{left} are left, {is_seen_empty}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_state_with_the_same_number_is_not_the_one_that_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let one = a_day(&file, 40);
    times(&one, 1).await;
    let mut older = std::fs::read(&file).unwrap();
    times(&one, 20).await;
    let latest = std::fs::read(&file).unwrap();
    let number = |text: &[u8]| {
        let places = [9, (1 << 20) + 9].map(|at| at..at + 16);
        let there = places.into_iter().filter(|place| place.end <= text.len());
        there
            .max_by_key(|place| text[place.clone()].to_vec())
            .unwrap()
    };
    let place = number(&older);
    older[place].copy_from_slice(&latest[number(&latest)]);
    std::fs::write(&file, &older).unwrap();
    times(&one, 1).await;
    assert_eq!(left(&a_day(&file, 40)).await, 18);
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_takes_nothing_with_him_of_what_others_have_sent() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let (one, other) = (a_day(&file, 10), a_day(&file, 10));
    times(&one, 2).await;
    times(&other, 6).await;
    drop(one);
    assert_eq!(left(&other).await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_never_takes_the_place_of_what_was_written_last() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let limiters = [a_day(&file, 1_000), a_day(&file, 1_000)];
    let copies = || {
        let text = std::fs::read(&file).unwrap();
        [0, 1 << 20].map(|at| text.get(at..at + 50).map(<[u8]>::to_vec))
    };
    let mut last = None;
    for n in [0, 1, 1, 0, 1, 0, 0, 0, 1, 1, 0, 1] {
        let before = if file.exists() {
            copies()
        } else {
            [None, None]
        };
        times(&limiters[n], 1).await;
        let after = copies();
        let written: Vec<usize> = (0..2).filter(|at| before[*at] != after[*at]).collect();
        assert_eq!(written.len(), 1, "one copy is written");
        assert_ne!(last, Some(written[0]), "over the last one");
        last = Some(written[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_of_another_version_is_written_anew_and_nobody_hears_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let file = LimitFile::open(&path).unwrap();
    let text = br#"{"ledger": "of another kind"}"#;
    file.lock(true)
        .unwrap()
        .write(Stamp::default(), text)
        .unwrap();
    let (one, other) = (a_day(&path, 10), a_day(&path, 10));
    times(&one, 4).await;
    assert_eq!(one.news(), None);
    assert_eq!(left(&other).await, 6);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_busy_now_and_then_is_no_news() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let (limiter, busy) = (a_day(&file, 100), LimitFile::open(&file).unwrap());
    for _ in 0..3 {
        let locked = busy.lock(true).unwrap();
        times(&limiter, 1).await;
        drop(locked);
        times(&limiter, 1).await;
        sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(limiter.news(), None);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_nobody_can_read_is_begun_anew_and_that_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    for (text, told) in [(&b""[..], 0), (b"not what we write", 1)] {
        std::fs::write(dir.path().join("x"), text).unwrap();
        let limiter = sharing(&dir.path().join("x"), 60);
        for _ in 0..3 {
            limiter.acquire().await;
        }
        let news: Vec<News> = std::iter::from_fn(|| limiter.news()).collect();
        assert_eq!(news.len(), told, "{news:?}");
        assert!(news.iter().all(|news| news.class == "limits_begun_anew"));
    }
}

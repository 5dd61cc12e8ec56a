//! How long an endpoint asks to wait, in whatever way it says so.

use std::time::{Duration, SystemTime};

use data_generation_llm_client::{Answer, ClassifyOptions, Headers, Verdict, classify};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use crate::cases::cases;

const MONTH: Duration = Duration::from_secs(31 * 24 * 3600);

/// The wait that a 429 with these headers and words asks for.
fn wait(headers: &[(&str, &str)], words: &str) -> Option<Duration> {
    let mut answer = Answer::from_body(429, json!({"error": {"message": words}}).to_string());
    answer.headers = Headers::from_pairs(headers.iter().copied());
    let options = ClassifyOptions {
        max_pause: Duration::MAX,
        ..ClassifyOptions::default()
    };
    match classify(&Ok(answer), &options) {
        Verdict::Pause { hint, .. } => hint,
        Verdict::Later { wait, .. } => wait,
        other => panic!("{words:?}: {other:?}"),
    }
}

/// A wait and one of the ways to say it.
fn said() -> impl Strategy<Value = (Duration, String)> {
    let whole = |seconds: u64| Duration::from_secs(seconds);
    prop_oneof![
        (1..10_000_000u64).prop_map(|ms| (Duration::from_millis(ms), format!("{ms}ms"))),
        (1..100_000u64).prop_map(|ms| (
            Duration::from_millis(ms),
            format!("{}.{:03}s", ms / 1000, ms % 1000)
        )),
        (1..100_000u64).prop_map(move |s| (whole(s), format!("{s}s"))),
        (
            1..100_000u64,
            select(vec!["second", "seconds", "secs", "sec"])
        )
            .prop_map(move |(s, unit)| (whole(s), format!("{s} {unit}"))),
        (0..600u64, 1..60u64).prop_map(move |(m, s)| (whole(m * 60 + s), format!("{m}m{s}s"))),
        (0..600u64, 1..60u64)
            .prop_map(move |(m, s)| (whole(m * 60 + s), format!("{m} minutes and {s} seconds"))),
        (0..48u64, 0..60u64, 1..60u64)
            .prop_map(move |(h, m, s)| (whole(h * 3600 + m * 60 + s), format!("{h}h{m}m{s}s"))),
        (1..48u64, 0..60u64)
            .prop_map(move |(h, m)| (whole(h * 3600 + m * 60), format!("{h} hours, {m} minutes"))),
        (1..30u64).prop_map(move |d| (whole(d * 86_400), format!("{d} days"))),
    ]
}

fn near(expected: Duration, got: Option<Duration>) -> bool {
    got.is_some_and(|got| got.abs_diff(expected) <= Duration::from_micros(1))
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn a_wait_in_the_words_is_read_as_it_was_meant(
        (expected, text) in said(),
        phrase in select(vec!["try again in", "Please retry in", "retry after", "Try Again After", "wait for", "wait"]),
        before in "[A-Za-z ,.]{0,30}",
        after in select(vec!["", ".", ". Visit https://x.example/limits to learn more.", " (limit 3 / min)", "!", "\n"]),
    ) {
        // What stands before it must not itself ask for a wait.
        prop_assume!(!["wait", "retry", "again"].iter().any(|word| before.to_lowercase().contains(word)));
        let words = format!("{before} {phrase} {text}{after}");
        let got = wait(&[], &words);
        prop_assert!(near(expected, got), "{:?}: {:?} and not {:?}", words, got, expected);
    }

    #[test]
    fn a_wait_in_a_header_is_read_as_it_was_meant(ms in 1..MONTH.as_millis() as u64, name in select(vec!["retry-after-ms", "x-ms-retry-after-ms"]), blank in " {0,2}") {
        let expected = Duration::from_millis(ms);
        let got = wait(&[(name, &format!("{blank}{ms}{blank}"))], "");
        prop_assert!(near(expected, got), "{:?}", got);
        let seconds = format!("{}.{:03}", ms / 1000, ms % 1000);
        let got = wait(&[("retry-after", &seconds)], "try again in 77s");
        prop_assert!(near(expected, got), "{}: {:?}", seconds, got);
    }

    #[test]
    fn a_date_is_read_against_the_clock_that_wrote_it(at in 0..4_000_000_000u64, seconds in 1..MONTH.as_secs()) {
        let date = |at: u64| httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(at));
        let headers = [("date", date(at)), ("retry-after", date(at + seconds))];
        let headers = [(headers[0].0, headers[0].1.as_str()), (headers[1].0, headers[1].1.as_str())];
        prop_assert_eq!(wait(&headers, ""), Some(Duration::from_secs(seconds)));
        // A date that has passed asks for nothing.
        let past = [(headers[0].0, headers[1].1), (headers[1].0, headers[0].1)];
        prop_assert_eq!(wait(&past, ""), None);
    }

    #[test]
    fn no_header_and_no_text_asks_for_an_absurd_wait(
        value in "\\PC{0,24}|-?[0-9]{1,30}(\\.[0-9]{0,30})?(e[0-9]{1,3})?",
        date in "\\PC{0,30}|[A-Z][a-z]{2}, [0-9]{2} (Jan|Feb|Dec) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
        words in "\\PC{0,40}|(try again in|wait) [0-9.,smhd ]{0,40}",
    ) {
        for headers in [[("retry-after", value.as_str()), ("date", date.as_str())], [("retry-after", &date), ("retry-after-ms", &value)]] {
            let got = wait(&headers, &words);
            prop_assert!(got.is_none_or(|wait| !wait.is_zero() && wait <= MONTH), "{:?}", got);
        }
    }
}

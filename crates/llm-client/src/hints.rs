use std::time::{Duration, SystemTime};

use crate::Answer;

/// A wait beyond this is a mistake of whoever wrote it and counts as none.
pub(crate) const ABSURD: Duration = Duration::from_secs(31 * 24 * 3600);

/// How long the endpoint wants us to wait: from its headers, else from its words (in lower case).
///
/// What is no number, negative, zero or absurd counts as no hint.
pub(crate) fn wait_hint(answer: &Answer, words: &str) -> Option<Duration> {
    let header = |name| answer.headers.get(name).map(str::trim);
    ["retry-after-ms", "x-ms-retry-after-ms"]
        .iter()
        .find_map(|name| sensible(header(name)?.parse::<f64>().ok()? / 1000.0))
        .or_else(|| {
            let value = header("retry-after")?;
            match value.parse::<f64>() {
                Ok(seconds) => sensible(seconds),
                Err(_) => until(value, header("date"), answer.at),
            }
        })
        .or_else(|| in_words(words))
}

/// A date is read against the clock that wrote it: ours may differ by minutes.
fn until(value: &str, date: Option<&str>, arrived: SystemTime) -> Option<Duration> {
    let now = date.and_then(moment).unwrap_or(arrived);
    sensible(moment(value)?.duration_since(now).ok()?.as_secs_f64())
}

/// A point in time as HTTP writes it, or as RFC 3339 does.
pub(crate) fn moment(text: &str) -> Option<SystemTime> {
    let as_http = httpdate::parse_http_date(text).ok();
    as_http.or_else(|| Some(text.parse::<jiff::Timestamp>().ok()?.into()))
}

fn sensible(seconds: f64) -> Option<Duration> {
    let wait = Duration::try_from_secs_f64(seconds).ok()?;
    (!wait.is_zero() && wait <= ABSURD).then_some(wait)
}

/// "try again in 120ms", "please retry in 1.4s", "retry after 7m12s", "wait for 2 minutes and 3 seconds".
fn in_words(words: &str) -> Option<Duration> {
    let phrases = [
        "try again in ",
        "retry in ",
        "retry after ",
        "try again after ",
        "wait for ",
        "wait ",
    ];
    let said = |phrase: &&str| {
        words
            .match_indices(*phrase)
            .find_map(|(at, _)| spoken(&words[at + phrase.len()..]))
    };
    phrases.iter().find_map(said)
}

/// Numbers with units, one after another; the first thing that is neither ends them.
pub(crate) fn spoken(text: &str) -> Option<Duration> {
    let mut rest = text.trim_start().trim_start_matches(['~', '"']);
    let mut seconds = None;
    loop {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let Ok(number) = rest[..digits].parse::<f64>() else {
            break;
        };
        let after = rest[digits..].trim_start();
        let letters = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let Some(unit) = unit(&after[..letters]) else {
            break;
        };
        *seconds.get_or_insert(0.0) += number * unit;
        rest = after[letters..].trim_start_matches([' ', ',']);
        rest = rest.strip_prefix("and ").unwrap_or(rest);
    }
    sensible(seconds?)
}

fn unit(name: &str) -> Option<f64> {
    match name {
        "ms" | "msec" | "millisecond" | "milliseconds" => Some(0.001),
        "s" | "sec" | "secs" | "second" | "seconds" => Some(1.0),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(60.0),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some(3600.0),
        "d" | "day" | "days" => Some(86_400.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Headers;

    fn hint(headers: &[(&str, &str)], words: &str) -> Option<f64> {
        let mut answer = Answer::from_body(429, "");
        answer.headers = Headers::from_pairs(headers.iter().copied());
        wait_hint(&answer, words).map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn a_wait_in_the_headers_is_read_in_every_spelling() {
        assert_eq!(hint(&[("retry-after", "7")], ""), Some(7.0));
        assert_eq!(hint(&[("retry-after", " 1.5 ")], ""), Some(1.5));
        assert_eq!(hint(&[("retry-after-ms", "120")], ""), Some(0.12));
        assert_eq!(
            hint(&[("x-ms-retry-after-ms", "2500"), ("retry-after", "3")], ""),
            Some(2.5)
        );
    }

    #[test]
    fn a_date_is_read_against_the_date_of_the_answer() {
        let headers = [
            ("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT"),
            ("date", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ];
        assert_eq!(hint(&headers, ""), Some(30.0));
        let otherwise_written = [
            ("retry-after", "2015-10-21T09:28:30.5+02:00"),
            ("date", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ];
        assert_eq!(hint(&otherwise_written, ""), Some(30.5));
        let past = [
            ("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"),
            ("date", "Wed, 21 Oct 2015 07:28:30 GMT"),
        ];
        assert_eq!(hint(&past, ""), None);
    }

    #[test]
    fn nonsense_counts_as_no_hint_and_lets_the_words_speak() {
        for value in ["soon", "-5", "0", "1e300", "NaN", "inf", "", "999999999999"] {
            assert_eq!(hint(&[("retry-after", value)], ""), None, "{value}");
            assert_eq!(
                hint(&[("retry-after", value), ("retry-after-ms", "-1")], ""),
                None,
                "{value}"
            );
        }
        assert_eq!(
            hint(&[("retry-after", "soon")], "please try again in 2s"),
            Some(2.0)
        );
    }

    #[test]
    fn a_wait_in_the_words_is_read() {
        for (words, seconds) in [
            (
                "rate limit reached. please try again in 120ms. visit ...",
                0.12,
            ),
            ("retry in 1.4s", 1.4),
            ("please try again in 7m12s.", 432.0),
            ("retry in 1h2m", 3720.0),
            ("please retry after 20 seconds.", 20.0),
            ("wait for 2 minutes and 3 seconds", 123.0),
            ("try again in 24h0m0s", 86_400.0),
            ("do not retry in haste; retry in 3s", 3.0),
        ] {
            assert_eq!(hint(&[], words), Some(seconds), "{words}");
        }
        for words in [
            "try again in 5",
            "retry in a while",
            "retry in 1.2.3s",
            "try again later",
            "retry in 5 lightyears",
        ] {
            assert_eq!(hint(&[], words), None, "{words}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_wait_that_is_absurd(words in ".{0,80}", value in "[ -~]{0,40}") {
            for text in [format!("retry in {words}"), words] {
                if let Some(seconds) = hint(&[("retry-after", &value), ("retry-after-ms", &value)], &text) {
                    prop_assert!(seconds > 0.0 && seconds <= ABSURD.as_secs_f64());
                }
            }
        }

        #[test]
        fn numbers_and_units_never_overflow(number in "[0-9.]{1,400}", unit in "(ms|s|m|h|d|)") {
            let seconds = hint(&[], &format!("try again in {number}{unit}"));
            prop_assert!(seconds.is_none_or(|seconds| seconds <= ABSURD.as_secs_f64()));
        }
    }
}

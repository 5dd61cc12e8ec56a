use std::time::{Duration, SystemTime};

use crate::Headers;
use crate::hints::{self, ABSURD};
use crate::ledger::Unit;

/// So much is no limit.
const MOST: u64 = 1 << 40;

/// What an endpoint says in its headers about one of its limits. For which stretch of time that is, none says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) unit: Unit,
    pub(crate) amount: u64,
    pub(crate) remaining: Option<u64>,
    /// Until it is as if nothing had been used.
    pub(crate) reset: Option<Duration>,
}

impl Announced {
    /// How much of it is used up.
    pub(crate) fn used(&self) -> u64 {
        let remaining = self.remaining.unwrap_or(self.amount);
        self.amount.saturating_sub(remaining)
    }
}

/// Everything that the headers announce; nothing where they are not understood. `at` is when they arrived: a moment
/// is read against the clock that wrote it where the headers show that one.
pub(crate) fn announced(headers: &Headers, at: SystemTime) -> Vec<Announced> {
    let date = headers.get("date");
    let at = date.and_then(hints::moment).unwrap_or(at);
    let of = |unit, limit: &str, remaining: &str, reset: &str| {
        let number = |name| headers.get(name)?.trim().parse::<u64>().ok();
        let amount = number(limit).filter(|amount| (1..MOST).contains(amount))?;
        let mut remaining = number(remaining);
        let mut reset = headers.get(reset).and_then(|text| time_left(text, at));
        // Whoever says such a thing does not mean what we would take it for.
        if reset.is_some_and(|reset| reset > ABSURD) {
            (remaining, reset) = (None, None);
        }
        Some(Announced {
            unit,
            amount,
            remaining,
            reset,
        })
    };
    let both = [(Unit::Requests, "requests"), (Unit::Tokens, "tokens")];
    let mut found: Vec<Announced> = both
        .into_iter()
        .filter_map(|(unit, name)| {
            of(
                unit,
                &format!("x-ratelimit-limit-{name}"),
                &format!("x-ratelimit-remaining-{name}"),
                &format!("x-ratelimit-reset-{name}"),
            )
            .or_else(|| {
                of(
                    unit,
                    &format!("anthropic-ratelimit-{name}-limit"),
                    &format!("anthropic-ratelimit-{name}-remaining"),
                    &format!("anthropic-ratelimit-{name}-reset"),
                )
            })
        })
        .collect();
    if found.is_empty() {
        let plain = ["x-ratelimit", "ratelimit"].iter().find_map(|prefix| {
            of(
                Unit::Requests,
                &format!("{prefix}-limit"),
                &format!("{prefix}-remaining"),
                &format!("{prefix}-reset"),
            )
        });
        found.extend(plain);
    }
    found
}

/// "1s", "6m0s", "120ms", a number of seconds, a moment in seconds or milliseconds since 1970, a date as HTTP or RFC
/// 3339 writes it.
fn time_left(text: &str, at: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let since_1970 = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    match text.parse::<f64>() {
        Ok(number) if number > 1e11 => Duration::try_from_secs_f64(number / 1e3)
            .ok()?
            .checked_sub(since_1970),
        Ok(number) if number > 1e8 => Duration::try_from_secs_f64(number)
            .ok()?
            .checked_sub(since_1970),
        Ok(number) => Duration::try_from_secs_f64(number).ok(),
        Err(_) => match hints::moment(text) {
            Some(moment) => moment.duration_since(at).ok(),
            None => hints::spoken(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pairs: &[(&str, &str)]) -> Vec<String> {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        announced(&Headers::from_pairs(pairs.iter().copied()), at)
            .iter()
            .map(|said| {
                format!(
                    "{} {:?}, {:?} left, reset {:?}",
                    said.amount, said.unit, said.remaining, said.reset
                )
            })
            .collect()
    }

    #[test]
    fn what_endpoints_say_is_understood() {
        let openai = said(&[
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "499"),
            ("x-ratelimit-reset-requests", "120ms"),
            ("x-ratelimit-limit-tokens", "30000"),
            ("x-ratelimit-remaining-tokens", "29841"),
            ("x-ratelimit-reset-tokens", "318ms"),
        ]);
        insta::assert_snapshot!(openai.join("\n"), @"
        500 Requests, Some(499) left, reset Some(120ms)
        30000 Tokens, Some(29841) left, reset Some(318ms)
        ");
        let groq = said(&[
            ("x-ratelimit-limit-requests", "14400"),
            ("x-ratelimit-remaining-requests", "14370"),
            ("x-ratelimit-reset-requests", "2m59.56s"),
        ]);
        insta::assert_snapshot!(groq.join("\n"), @"14400 Requests, Some(14370) left, reset Some(179.56s)");
        let plain = said(&[
            ("x-ratelimit-limit", "60"),
            ("x-ratelimit-remaining", "59"),
            ("x-ratelimit-reset", "1764000045000"),
        ]);
        insta::assert_snapshot!(plain.join("\n"), @"60 Requests, Some(59) left, reset Some(45s)");
    }

    #[test]
    fn a_moment_that_is_written_as_a_date_is_understood() {
        // The clock of this machine says 16:00:00.
        let anthropic = [
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2025-11-24T16:00:02Z"),
            ("anthropic-ratelimit-tokens-limit", "40000"),
            ("anthropic-ratelimit-tokens-remaining", "0"),
            ("anthropic-ratelimit-tokens-reset", "2025-11-24T16:00:59Z"),
        ];
        insta::assert_snapshot!(said(&anthropic).join("\n"), @"
        50 Requests, Some(49) left, reset Some(2s)
        40000 Tokens, Some(0) left, reset Some(59s)
        ");
        let behind = [("date", "Mon, 24 Nov 2025 15:59:50 GMT")];
        let with_date: Vec<_> = behind.into_iter().chain(anthropic).collect();
        insta::assert_snapshot!(said(&with_date).join("\n"), @"
        50 Requests, Some(49) left, reset Some(12s)
        40000 Tokens, Some(0) left, reset Some(69s)
        ");
        let of = |reset| {
            said(&[
                ("x-ratelimit-limit-requests", "60"),
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", reset),
            ])
        };
        for same in [
            "2025-11-24T16:00:30Z",
            "2025-11-24T16:00:30.000+00:00",
            "2025-11-24t10:00:30-06:00",
            "Mon, 24 Nov 2025 16:00:30 GMT",
        ] {
            assert_eq!(of(same), ["60 Requests, Some(0) left, reset Some(30s)"]);
        }
        for none in [
            "2025-11-24T15:59:59Z",
            "2025-11-24T16:00:30",
            "2025-11-24",
            "2025-13-24T16:00:30Z",
            "soon",
        ] {
            assert_eq!(
                of(none),
                ["60 Requests, Some(0) left, reset None"],
                "{none}"
            );
        }
        // A year from now is no time for a limit.
        let absurd = of("2026-11-24T16:00:30Z");
        assert_eq!(absurd, ["60 Requests, None left, reset None"]);
    }

    #[test]
    fn a_moment_is_read_against_the_clock_of_the_endpoint() {
        let slow = said(&[
            ("date", "Mon, 24 Nov 2025 15:59:00 GMT"),
            ("x-ratelimit-limit", "60"),
            ("x-ratelimit-remaining", "59"),
            ("x-ratelimit-reset", "1763999945"),
        ]);
        insta::assert_snapshot!(slow.join("\n"), @"60 Requests, Some(59) left, reset Some(5s)");
    }

    #[test]
    fn an_absurd_reset_is_none_and_what_stands_beside_it_is_not_believed() {
        let absurd = said(&[
            ("x-ratelimit-limit-requests", "600"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "31536000"),
        ]);
        insta::assert_snapshot!(absurd.join("\n"), @"600 Requests, None left, reset None");
    }

    #[test]
    fn what_is_no_number_or_zero_or_absurd_is_nothing() {
        for limit in ["", "many", "-1", "0", "1.5", "18446744073709551615"] {
            assert!(
                said(&[("x-ratelimit-limit-requests", limit)]).is_empty(),
                "{limit}"
            );
        }
        assert!(said(&[("x-ratelimit-remaining-requests", "3")]).is_empty());
    }
}

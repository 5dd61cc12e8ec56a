use std::time::{Duration, SystemTime};

use crate::Headers;
use crate::hints;
use crate::ledger::{Limit, Unit};

const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// So much is no limit.
const MOST: u64 = 1 << 40;

/// What an endpoint says in its headers about one of its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) limit: Limit,
    pub(crate) remaining: Option<u64>,
    pub(crate) reset: Option<Duration>,
}

/// Everything that the headers announce; nothing where they are not understood.
pub(crate) fn announced(headers: &Headers, at: SystemTime) -> Vec<Announced> {
    let of = |unit, limit: &str, remaining: &str, reset: &str| {
        let number = |name| headers.get(name)?.trim().parse::<u64>().ok();
        let amount = number(limit).filter(|amount| (1..MOST).contains(amount))?;
        let remaining = number(remaining);
        let reset = headers.get(reset).and_then(|text| time_left(text, at));
        let window = window(amount, remaining, reset);
        let limit = Limit {
            unit,
            amount,
            window,
        };
        Some(Announced {
            limit,
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

/// "1s", "6m0s", "120ms", a number of seconds, a moment in seconds or milliseconds since 1970, a date.
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
        Err(_) => hints::spoken(text),
    }
}

/// Which stretch of time a limit is for, which no endpoint says. Most fill up steadily, and then what is
/// used and how long it takes to be free again tell it: 30 of 14,400 in three minutes are those of a day.
fn window(amount: u64, remaining: Option<u64>, reset: Option<Duration>) -> u64 {
    let windows = [SECOND, MINUTE, HOUR, DAY];
    let used = remaining.map_or(0, |remaining| amount.saturating_sub(remaining));
    let Some(reset) = reset.map(|reset| reset.as_micros() as f64) else {
        return MINUTE;
    };
    if used > 0 {
        let whole = reset * amount as f64 / used as f64;
        let near = |window: &&u64| (0.8..1.25).contains(&(whole / **window as f64));
        if let Some(window) = windows.iter().find(near) {
            return *window;
        }
    }
    let holds = |window: &&u64| reset <= **window as f64;
    *windows[1..].iter().find(holds).unwrap_or(&DAY)
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
                    "{}, {:?} left, reset {:?}",
                    said.limit, said.remaining, said.reset
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
        500 requests a minute, Some(499) left, reset Some(120ms)
        30000 tokens a minute, Some(29841) left, reset Some(318ms)
        ");
        let groq = said(&[
            ("x-ratelimit-limit-requests", "14400"),
            ("x-ratelimit-remaining-requests", "14370"),
            ("x-ratelimit-reset-requests", "2m59.56s"),
        ]);
        insta::assert_snapshot!(groq.join("\n"), @"14400 requests a day, Some(14370) left, reset Some(179.56s)");
        let plain = said(&[
            ("x-ratelimit-limit", "60"),
            ("x-ratelimit-remaining", "59"),
            ("x-ratelimit-reset", "1764000045000"),
        ]);
        insta::assert_snapshot!(plain.join("\n"), @"60 requests a minute, Some(59) left, reset Some(45s)");
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

//! Limits as the configuration names them.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use data_generation_config::Origins;
use data_generation_llm_client::{Client, LimitFile, LimitOptions, Rates};
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;
use crate::settings::{ModelSettings, Provider, Settings};

/// `model.rate_limit`: requests a minute, or `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimit {
    /// So many requests a minute.
    PerMinute(NonZeroU32),
    /// What the endpoint says in its headers.
    Auto,
}

impl Serialize for RateLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            RateLimit::PerMinute(requests) => requests.serialize(serializer),
            RateLimit::Auto => serializer.serialize_str("auto"),
        }
    }
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RateLimit, D::Error> {
        deserializer.deserialize_any(OrAuto {
            expected: "a number of requests a minute above 0, `auto` or null",
            number: |requests| {
                let fits = u32::try_from(requests).ok().and_then(NonZeroU32::new);
                fits.map(RateLimit::PerMinute)
            },
            auto: RateLimit::Auto,
        })
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RateLimit::PerMinute(requests) => requests.fmt(f),
            RateLimit::Auto => f.write_str("auto"),
        }
    }
}

/// Reads a number that fits, or `auto`.
struct OrAuto<T> {
    expected: &'static str,
    number: fn(u64) -> Option<T>,
    auto: T,
}

impl<T> Visitor<'_> for OrAuto<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.number)(number).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        match text {
            "auto" => Ok(self.auto),
            other => Err(E::invalid_value(Unexpected::Str(other), &self)),
        }
    }
}

/// `run.concurrency_limit`: requests at the same time, or `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConcurrencyLimit {
    /// So many.
    Fixed(NonZeroUsize),
    /// As many as give the most throughput: found out while the run works, up to `run.concurrency_max`.
    Auto,
}

impl Serialize for ConcurrencyLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ConcurrencyLimit::Fixed(requests) => requests.serialize(serializer),
            ConcurrencyLimit::Auto => serializer.serialize_str("auto"),
        }
    }
}

impl<'de> Deserialize<'de> for ConcurrencyLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ConcurrencyLimit, D::Error> {
        deserializer.deserialize_any(OrAuto {
            expected: "a whole number, 1 or more, or `auto`",
            number: |requests| {
                let fits = usize::try_from(requests).ok().and_then(NonZeroUsize::new);
                fits.map(ConcurrencyLimit::Fixed)
            },
            auto: ConcurrencyLimit::Auto,
        })
    }
}

impl fmt::Display for ConcurrencyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConcurrencyLimit::Fixed(requests) => requests.fmt(f),
            ConcurrencyLimit::Auto => f.write_str("auto"),
        }
    }
}

impl FromStr for ConcurrencyLimit {
    type Err = ();

    fn from_str(text: &str) -> Result<ConcurrencyLimit, ()> {
        match text {
            "auto" => Ok(ConcurrencyLimit::Auto),
            number => number.parse().map(ConcurrencyLimit::Fixed).map_err(drop),
        }
    }
}

/// How many requests at the same time, as client and run take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Concurrency {
    pub(crate) limit: ConcurrencyLimit,
    /// The most that are tried where it is found out.
    pub(crate) auto_most: NonZeroUsize,
    /// The most that there may ever be, whatever else is said.
    pub(crate) ceiling: NonZeroUsize,
}

impl Concurrency {
    /// As many as there may be, as things are now.
    pub(crate) fn most(&self) -> NonZeroUsize {
        let most = match self.limit {
            ConcurrencyLimit::Fixed(requests) => requests,
            ConcurrencyLimit::Auto => self.auto_most,
        };
        most.min(self.ceiling)
    }

    pub(crate) fn is_auto(&self) -> bool {
        self.limit == ConcurrencyLimit::Auto
    }
}

/// `limits`: what may be sent, beside `model.rate_limit` and `model.token_limit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Requests in any second; null for no limit.
    pub requests_per_second: Option<NonZeroU64>,
    /// Requests in any 24 hours, not evenly spaced; null for no limit.
    pub requests_per_day: Option<NonZeroU64>,
    /// Tokens in any second; null for no limit.
    pub tokens_per_second: Option<NonZeroU64>,
    /// Tokens in any 24 hours, not evenly spaced; null for no limit.
    pub tokens_per_day: Option<NonZeroU64>,
    /// Requests that may leave at once after a quiet while; 1: they are evenly spaced.
    pub burst: NonZeroU32,
    /// Whether all processes of this user on this machine that ask the same endpoint with the same key, and set
    /// this too, keep the limits together, in turns; where they differ all keep the lowest.
    pub share: bool,
}

impl Default for LimitSettings {
    fn default() -> Self {
        LimitSettings {
            requests_per_second: None,
            requests_per_day: None,
            tokens_per_second: None,
            tokens_per_day: None,
            burst: NonZeroU32::MIN,
            share: false,
        }
    }
}

/// A limit of `limits` that can be changed while a run works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LimitName {
    /// Requests in any second.
    RequestsPerSecond,
    /// Requests in any 24 hours.
    RequestsPerDay,
    /// Tokens in any second.
    TokensPerSecond,
    /// Tokens in any 24 hours.
    TokensPerDay,
}

impl LimitName {
    /// All of them.
    pub const ALL: [LimitName; 4] = [
        LimitName::RequestsPerSecond,
        LimitName::RequestsPerDay,
        LimitName::TokensPerSecond,
        LimitName::TokensPerDay,
    ];

    /// As the configuration calls it, below `limits`.
    pub fn key(self) -> &'static str {
        match self {
            LimitName::RequestsPerSecond => "requests_per_second",
            LimitName::RequestsPerDay => "requests_per_day",
            LimitName::TokensPerSecond => "tokens_per_second",
            LimitName::TokensPerDay => "tokens_per_day",
        }
    }

    pub(crate) fn of(self, options: &mut LimitOptions) -> &mut Option<NonZeroU64> {
        match self {
            LimitName::RequestsPerSecond => &mut options.requests.a_second,
            LimitName::RequestsPerDay => &mut options.requests.a_day,
            LimitName::TokensPerSecond => &mut options.tokens.a_second,
            LimitName::TokensPerDay => &mut options.tokens.a_day,
        }
    }
}

/// Longer than any limit looks back.
const OLD: Duration = Duration::from_secs(2 * 86_400);

/// The file of shared limits for an endpoint and an account: in the user's folder for state, for others not to
/// read.
pub(crate) fn file(
    endpoint: &str,
    account: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<LimitFile, Error> {
    let named = |name: &str| variable(name).filter(|value| value.starts_with('/'));
    let state = named("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(named("HOME")?).join(".local/state")))
        .ok_or_else(|| {
            Error::Usage(
                "`limits.share` needs a folder to share in: set XDG_STATE_HOME or HOME to one"
                    .into(),
            )
        })?;
    let name = format!("{}.limits", LimitFile::name(endpoint, account));
    let path = state.join("data-generation/limits").join(name);
    let file = LimitFile::open(&path).map_err(|error| {
        Error::Usage(format!(
            "`limits.share`: could not open {}: {error}; XDG_STATE_HOME names another folder for it",
            path.display()
        ))
    })?;
    if let Some(folder) = path.parent() {
        clear(folder, SystemTime::now());
    }
    Ok(file)
}

/// Each start of a machine has files of its own. What nobody has written to for two days holds nothing that counts;
/// where it cannot be taken away it harms nobody.
fn clear(folder: &Path, now: SystemTime) {
    let is_old = |path: &Path| {
        let written = std::fs::metadata(path).and_then(|about| about.modified());
        let age = written.ok().and_then(|at| now.duration_since(at).ok());
        age.is_some_and(|age| age > OLD)
    };
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let paths = entries.flatten().map(|entry| entry.path());
    for path in paths.filter(|path| path.extension().is_some_and(|name| name == "limits")) {
        if is_old(&path) {
            drop(std::fs::remove_file(&path));
        }
    }
}

/// The lowest limit of tokens, and its setting.
pub(crate) fn lowest_of_tokens(settings: &Settings) -> Option<(&'static str, u64)> {
    let Settings { model, limits, .. } = settings;
    let a_minute = model.token_limit.map(NonZeroU64::from);
    let all = [
        ("limits.tokens_per_second", limits.tokens_per_second),
        ("model.token_limit", a_minute),
        ("limits.tokens_per_day", limits.tokens_per_day),
    ];
    let named = all
        .into_iter()
        .filter_map(|(key, limit)| Some((key, limit?.get())));
    named.min_by_key(|(_, limit)| *limit)
}

/// What is odd about the limits of tokens: an answer may be as long as all that may be sent.
pub(crate) fn warning(settings: &Settings, origins: &Origins) -> Option<String> {
    let model = &settings.model;
    let most = model.max_tokens.map(u64::from)?;
    let (key, limit) = lowest_of_tokens(settings)?;
    if model.provider == Provider::Offline || most < limit {
        return None;
    }
    Some(format!(
        "`model.max_tokens` is {most} ({}) and `{key}` {limit} ({}): an answer may use up the whole limit, so until \
         the first ones have told what they cost requests go one by one, each alone in its time; set \
         `model.max_tokens` to what an answer needs, or raise `{key}` if the endpoint allows more",
        origins.of("model.max_tokens"),
        origins.of(key),
    ))
}

/// Requests a minute, and whether the endpoint says how many.
pub(crate) fn a_minute(rate: Option<RateLimit>) -> (Option<NonZeroU64>, bool) {
    match rate {
        Some(RateLimit::PerMinute(requests)) => (Some(NonZeroU64::from(requests)), false),
        Some(RateLimit::Auto) => (None, true),
        None => (None, false),
    }
}

/// What is kept, as people read it.
pub(crate) fn in_words(client: &Client) -> String {
    let kept = client.limits();
    match kept.is_empty() {
        true => "no limits are kept".to_owned(),
        false => format!("kept: {}", kept.join(", ")),
    }
}

/// All limits together, as the client takes them.
pub(crate) fn options(model: &ModelSettings, limits: &LimitSettings) -> LimitOptions {
    let (a_minute, auto) = a_minute(model.rate_limit);
    LimitOptions {
        requests: Rates {
            a_second: limits.requests_per_second,
            a_minute,
            a_day: limits.requests_per_day,
        },
        tokens: Rates {
            a_second: limits.tokens_per_second,
            a_minute: model.token_limit.map(NonZeroU64::from),
            a_day: limits.tokens_per_day,
        },
        burst: limits.burst,
        auto,
        share: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_limits_that_nobody_has_written_for_days_are_cleared_away() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let at = |name: &str, age: Duration| {
            let path = dir.path().join(name);
            let file = std::fs::File::create(&path).unwrap();
            file.set_modified(now - age).unwrap();
            path
        };
        let old = at("old.limits", OLD + Duration::from_secs(60));
        let kept = [
            at("new.limits", OLD - Duration::from_secs(60)),
            at("old.0123456789abcdef", 2 * OLD),
            at("another", 2 * OLD),
        ];
        clear(dir.path(), now);
        assert!(!old.exists());
        assert!(kept.iter().all(|path| path.exists()));
        clear(&dir.path().join("nowhere"), now);
    }
}

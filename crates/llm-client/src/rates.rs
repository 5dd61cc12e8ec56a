use std::num::{NonZeroU32, NonZeroU64};

use crate::LimitFile;
use crate::kept::Origin;
use crate::ledger::{Limit, SECOND, Unit};
use crate::reserve::never_fits;

/// So much may be sent to an endpoint in any stretch of time. All of them hold at the same time.
#[derive(Debug, Clone)]
pub struct LimitOptions {
    /// Requests.
    pub requests: Rates,
    /// Tokens, those of the answers included.
    pub tokens: Rates,
    /// Requests that may leave at once after a quiet while (1: they are evenly spaced).
    pub burst: NonZeroU32,
    /// Take the limits from what the endpoint says in its headers; until an answer has come, one request goes at a
    /// time. Only a [`Client`](crate::Client) reads answers: a limiter that is used alone never learns them.
    pub auto: bool,
    /// Where several processes keep the limits together.
    pub share: Option<LimitFile>,
}

/// Amounts, each for a stretch of time; `None`: no such limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// In any second.
    pub a_second: Option<NonZeroU64>,
    /// In any minute.
    pub a_minute: Option<NonZeroU64>,
    /// In any 24 hours; not evenly spaced.
    pub a_day: Option<NonZeroU64>,
}

impl Default for LimitOptions {
    /// No limits.
    fn default() -> LimitOptions {
        LimitOptions {
            requests: Rates::default(),
            tokens: Rates::default(),
            burst: NonZeroU32::MIN,
            auto: false,
            share: None,
        }
    }
}

impl LimitOptions {
    /// Requests a minute and nothing else.
    pub fn per_minute(requests: Option<NonZeroU32>) -> LimitOptions {
        let requests = Rates {
            a_minute: requests.map(NonZeroU64::from),
            ..Rates::default()
        };
        LimitOptions {
            requests,
            ..LimitOptions::default()
        }
    }

    /// Whether there is anything to keep.
    pub fn is_none(&self) -> bool {
        !self.auto && self.limits().next().is_none()
    }

    /// The smallest limit of tokens: a request with more never fits.
    pub fn most_tokens(&self) -> Option<u64> {
        self.lowest_of_tokens().map(|limit| limit.amount)
    }

    /// Why a prompt that has at least so many tokens, and about so many, can never be sent: what a client says of it, too.
    /// `None` where it may fit.
    pub fn never_fits(&self, least: u64, about: u64) -> Option<String> {
        let limit = self
            .lowest_of_tokens()
            .filter(|limit| least >= limit.amount)?;
        Some(never_fits(about, limit, Origin::Setting(limit.setting())))
    }

    fn lowest_of_tokens(&self) -> Option<Limit> {
        let limits = self.limits().filter(|limit| limit.unit == Unit::Tokens);
        limits.min_by_key(|limit| limit.amount)
    }

    pub(crate) fn limits(&self) -> impl Iterator<Item = Limit> + use<> {
        let of = |unit, rates: Rates| {
            let windows = [
                (rates.a_second, 1),
                (rates.a_minute, 60),
                (rates.a_day, 86_400),
            ];
            windows.into_iter().filter_map(move |(amount, seconds)| {
                let amount = amount?.get();
                let window = seconds * SECOND;
                Some(Limit {
                    unit,
                    amount,
                    window,
                })
            })
        };
        of(Unit::Requests, self.requests).chain(of(Unit::Tokens, self.tokens))
    }
}

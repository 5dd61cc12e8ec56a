//! Which limits are kept, and where each comes from.

use crate::LimitOptions;
use crate::announced::Announced;
use crate::ledger::{Limit, Micros};
use crate::window::Windows;

/// What was asked for, and what lowers it.
#[derive(Debug)]
pub(crate) struct Kept {
    configured: Vec<Limit>,
    /// What the endpoint says its limits are, the latest of each unit.
    learnt: Vec<Limit>,
    /// What others keep who share these limits, the lowest of each.
    of_others: Vec<Limit>,
    windows: Windows,
    pub(crate) burst: u64,
    is_shared: bool,
    /// Whoever asks for no limits at all keeps none of the endpoint's either.
    heeds_endpoint: bool,
}

/// Where a limit comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This setting.
    Setting(&'static str),
    Endpoint,
    /// Another process with the same key.
    Other,
}

impl Kept {
    pub(crate) fn new(options: &LimitOptions) -> Kept {
        Kept {
            configured: options.limits().collect(),
            learnt: Vec::new(),
            of_others: Vec::new(),
            windows: Windows::default(),
            burst: u64::from(options.burst.get()),
            is_shared: options.share.is_some(),
            heeds_endpoint: !options.is_none() || options.share.is_some(),
        }
    }

    /// Other wishes from now on.
    pub(crate) fn set(&mut self, options: &LimitOptions) {
        self.configured = options.limits().collect();
        self.burst = u64::from(options.burst.get());
        self.heeds_endpoint = !options.is_none() || self.is_shared;
    }

    /// Whether it matters what the endpoint says.
    pub(crate) fn heeds_endpoint(&self) -> bool {
        self.heeds_endpoint
    }

    /// What the endpoint says of a limit; what was thought of it before no longer counts.
    pub(crate) fn hear(&mut self, said: &Announced, now: Micros) {
        let limit = Limit {
            unit: said.unit,
            amount: said.amount,
            window: self.windows.hear(said, now),
        };
        let before = self
            .learnt
            .iter_mut()
            .find(|before| before.unit == limit.unit);
        match before {
            Some(before) if *before == limit => return,
            Some(before) => *before = limit,
            None => self.learnt.push(limit),
        }
        tracing::info!(%limit, "the endpoint says what its limit is");
    }

    /// What the endpoint says of a limit like the one in the answer.
    pub(crate) fn learnt(&self, said: &Announced) -> Option<Limit> {
        let mut learnt = self.learnt.iter().copied();
        learnt.find(|limit| limit.unit == said.unit)
    }

    pub(crate) fn has_learnt(&self) -> bool {
        !self.learnt.is_empty()
    }

    /// What others keep from now on. Says which of it lowers what this process would keep by itself, where that is
    /// not what it was before.
    pub(crate) fn set_others(&mut self, of_others: Vec<Limit>) -> Option<Vec<Limit>> {
        if self.of_others == of_others {
            return None;
        }
        let before = self.lowered();
        self.of_others = of_others;
        let lowered = self.lowered();
        (lowered != before).then_some(lowered)
    }

    /// Those limits that only others make so low.
    fn lowered(&self) -> Vec<Limit> {
        let own = self.own();
        let lower =
            |limit: &&Limit| like(&own, **limit).is_none_or(|own| limit.amount < own.amount);
        self.of_others.iter().filter(lower).copied().collect()
    }

    /// What this process keeps by itself: what is configured, lowered to what the endpoint says, and what it says
    /// besides.
    pub(crate) fn own(&self) -> Vec<Limit> {
        match self.heeds_endpoint {
            true => together(&self.configured, &self.learnt),
            false => Vec::new(),
        }
    }

    /// What holds for all who share these limits: the lowest of each.
    pub(crate) fn all(&self) -> Vec<Limit> {
        together(&self.own(), &self.of_others)
    }

    pub(crate) fn origin(&self, limit: Limit) -> Origin {
        if self.configured.contains(&limit) {
            Origin::Setting(limit.setting())
        } else if self.learnt.contains(&limit) {
            Origin::Endpoint
        } else {
            Origin::Other
        }
    }
}

fn like(limits: &[Limit], one: Limit) -> Option<Limit> {
    limits.iter().copied().find(|limit| limit.is_like(one))
}

/// These, lowered to the others, and the others besides.
fn together(these: &[Limit], others: &[Limit]) -> Vec<Limit> {
    let lowered = these.iter().map(|this| Limit {
        amount: like(others, *this).map_or(this.amount, |other| this.amount.min(other.amount)),
        ..*this
    });
    let besides = others.iter().filter(|other| like(these, **other).is_none());
    lowered.chain(besides.copied()).collect()
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};

    use super::*;
    use crate::Rates;
    use crate::ledger::Unit;

    const MINUTE: Micros = 60_000_000;

    fn requests(amount: u64) -> Limit {
        Limit {
            unit: Unit::Requests,
            amount,
            window: MINUTE,
        }
    }

    fn tokens(amount: u64) -> Limit {
        Limit {
            unit: Unit::Tokens,
            ..requests(amount)
        }
    }

    fn keeping(amount: u32) -> Kept {
        Kept::new(&LimitOptions::per_minute(NonZeroU32::new(amount)))
    }

    fn said(amount: u64) -> Announced {
        Announced {
            unit: Unit::Requests,
            amount,
            remaining: None,
            reset: None,
        }
    }

    #[test]
    fn of_what_the_endpoint_says_the_latest_counts() {
        let mut kept = keeping(60);
        for (announced, expected) in [(90, 60), (30, 30), (50, 50), (70, 60)] {
            kept.hear(&said(announced), 0);
            assert_eq!(kept.all(), [requests(expected)], "{announced}");
        }
    }

    #[test]
    fn a_limit_comes_from_the_setting_where_the_endpoint_or_another_says_the_same() {
        let mut kept = keeping(60);
        kept.hear(&said(60), 0);
        assert_eq!(kept.set_others(vec![requests(60)]), None);
        assert_eq!(
            kept.origin(requests(60)),
            Origin::Setting("model.rate_limit")
        );
        kept.hear(&said(50), 0);
        assert_eq!(kept.set_others(vec![requests(50)]), None);
        assert_eq!(kept.origin(requests(50)), Origin::Endpoint);
        assert_eq!(
            kept.set_others(vec![requests(40)]),
            Some(vec![requests(40)])
        );
        assert_eq!(kept.origin(requests(40)), Origin::Other);
    }

    #[test]
    fn what_others_keep_is_news_only_where_something_gets_lower_by_it() {
        let mut kept = keeping(60);
        assert_eq!(kept.set_others(vec![requests(90)]), None);
        assert_eq!(kept.all(), [requests(60)]);
        let lower = vec![requests(90), tokens(500)];
        assert_eq!(kept.set_others(lower), Some(vec![tokens(500)]));
        assert_eq!(kept.all(), [requests(60), tokens(500)]);
        assert_eq!(kept.set_others(vec![requests(70), tokens(500)]), None);
        assert_eq!(kept.set_others(Vec::new()), Some(Vec::new()));
        assert_eq!(kept.all(), [requests(60)]);
    }

    #[test]
    fn other_wishes_take_the_place_of_all_and_leave_what_the_endpoint_said() {
        let mut kept = keeping(60);
        kept.hear(&said(50), 0);
        kept.set(&LimitOptions {
            tokens: Rates {
                a_minute: NonZeroU64::new(500),
                ..Rates::default()
            },
            burst: NonZeroU32::new(7).unwrap(),
            ..LimitOptions::default()
        });
        assert_eq!(kept.all(), [tokens(500), requests(50)]);
        assert_eq!(kept.burst, 7);
    }
}

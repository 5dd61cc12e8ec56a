//! What somebody who waits has been told.

use std::time::Duration;

use tokio::time::Instant;

use crate::LimitKind;

/// An end that moves by no more than this is the same.
const SAME: Duration = Duration::from_secs(1);
/// How often it is looked at whether what was said still holds: when half of the time has passed, ...
const SOONEST: Duration = Duration::from_secs(1);
/// ... and no later than this.
const LATEST: Duration = Duration::from_secs(30);

/// What he heard last: what he waits for, and until when, where that is known.
#[derive(Debug, Default)]
pub(super) struct Heard(Option<(String, Option<Instant>)>);

impl Heard {
    /// Whether this is something else than he has heard.
    pub(super) fn is_news(&mut self, limit: &str, kind: LimitKind, wait: Duration) -> bool {
        let now = Instant::now();
        let is_known = kind != LimitKind::Unknown;
        let until = now.checked_add(wait).filter(|_| is_known);
        let is_same = self.0.as_ref().is_some_and(|(before, end)| {
            before == limit
                && match (end, until) {
                    (Some(end), Some(until)) => {
                        let moved = (*end - until).max(until - *end);
                        moved <= SAME
                    }
                    (end, until) => end.is_some() == until.is_some(),
                }
        });
        if !is_same {
            self.0 = Some((limit.to_owned(), until));
        }
        !is_same
    }

    /// When he looks whether that is still so.
    pub(super) fn doubts_at(&self) -> Option<Instant> {
        let (_, until) = self.0.as_ref()?;
        let now = Instant::now();
        let left = until.as_ref()?.saturating_duration_since(now);
        now.checked_add((left / 2).clamp(SOONEST, LATEST))
    }
}

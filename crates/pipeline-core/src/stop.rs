//! Stopping a run: by the user, by the endpoint, by the disk.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Why a run stopped before the end of its input. The order is that of precedence, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StopKind {
    /// Try again later: the endpoint asks for a long wait, or is down.
    Later,
    /// The provider refused in a way that no retry cures.
    Refused,
    /// The input changed or could not be read to its end.
    Input,
    /// The operating system refused a read or a write.
    Io,
    /// Somebody asked for it.
    Interrupted,
}

/// Why, in a word and in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopReason {
    /// The kind; exit codes follow from it.
    pub kind: StopKind,
    /// What happened and what to do.
    pub message: String,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Stops a run from outside or inside; every clone stops the same run. It is for one run and cannot be taken
/// back.
///
/// ```
/// use data_generation_pipeline_core::{StopHandle, StopKind};
///
/// let stop = StopHandle::new();
/// let inside = stop.clone();
/// inside.stop(StopKind::Later, "the endpoint rests until noon");
/// stop.interrupt();
/// // The strongest reason counts, whatever came first.
/// assert_eq!(inside.reason().unwrap().kind, StopKind::Interrupted);
/// ```
#[derive(Debug, Clone)]
pub struct StopHandle {
    token: CancellationToken,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    reason: Mutex<Option<StopReason>>,
    /// When answers under way are cut off; `None` waits for them.
    cut_at: watch::Sender<Option<Instant>>,
}

impl Default for StopHandle {
    fn default() -> Self {
        StopHandle {
            token: CancellationToken::new(),
            shared: Arc::new(Shared {
                reason: Mutex::new(None),
                cut_at: watch::Sender::new(None),
            }),
        }
    }
}

impl StopHandle {
    /// A handle for one run.
    pub fn new() -> StopHandle {
        StopHandle::default()
    }

    /// Starts nothing new, waits for the answers under way; the strongest of several reasons counts, the first
    /// of several as strong. `message` says what happened and what to do.
    pub fn stop(&self, kind: StopKind, message: impl Into<String>) {
        let mut reason = self
            .shared
            .reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if reason.as_ref().is_none_or(|held| kind > held.kind) {
            *reason = Some(StopReason {
                kind,
                message: message.into(),
            });
        }
        drop(reason);
        self.token.cancel();
    }

    /// Starts nothing new, waits for the answers under way.
    pub fn interrupt(&self) {
        self.stop(StopKind::Interrupted, "interrupted");
    }

    /// As [`interrupt`](Self::interrupt), but answers that are not there within `limit` are cut off and
    /// counted ([`Report::cut`](crate::Report::cut)). Of several limits the earliest counts.
    pub fn interrupt_within(&self, limit: Duration) {
        let at = Instant::now() + limit;
        self.shared
            .cut_at
            .send_modify(|held| *held = Some(held.map_or(at, |held| held.min(at))));
        self.interrupt();
    }

    /// Whether the run was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Cancelled as soon as nothing new may start.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Why, once it was told to.
    pub fn reason(&self) -> Option<StopReason> {
        self.shared
            .reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Resolves when answers under way are to be cut off.
    pub(crate) async fn cut(&self) {
        let mut cut_at = self.shared.cut_at.subscribe();
        loop {
            let at = *cut_at.borrow_and_update();
            match at {
                None => {
                    if cut_at.changed().await.is_err() {
                        return std::future::pending().await;
                    }
                }
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => return,
                        changed = cut_at.changed() => if changed.is_err() { return },
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_reason_counts_whatever_came_first() {
        let stop = StopHandle::new();
        stop.stop(StopKind::Refused, "the key is wrong");
        stop.stop(StopKind::Later, "come back tomorrow");
        assert_eq!(stop.reason().unwrap().kind, StopKind::Refused);
        stop.interrupt();
        assert_eq!(stop.reason().unwrap().kind, StopKind::Interrupted);
        stop.stop(StopKind::Io, "disk full");
        assert_eq!(stop.reason().unwrap().kind, StopKind::Interrupted);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_limits_cuts() {
        let stop = StopHandle::new();
        let start = Instant::now();
        let waiting = stop.clone();
        let cut = tokio::spawn(async move { waiting.cut().await });
        stop.interrupt_within(Duration::from_secs(30));
        tokio::task::yield_now().await;
        stop.interrupt_within(Duration::from_secs(5));
        stop.interrupt_within(Duration::from_secs(60));
        cut.await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}

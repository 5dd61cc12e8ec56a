use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::{Answer, BoxError, Usage};

/// What the caller of one question takes part in: keeping what was paid for, watching, stopping.
pub trait Call: Send + Sync {
    /// An answer to this very request that was paid for earlier and never judged, with the number of its
    /// request. It is used before anything is sent and not given to [`paid`](Call::paid) again. Asked until
    /// it returns `None` or an answer settles the question.
    fn replay(&self) -> Option<(Answer, u32)> {
        None
    }

    /// Whether a request may leave when no earlier answer settles the question. Where not, the question ends
    /// with an [`ErrorKind::Row`](crate::ErrorKind::Row): what was wrong with the last earlier answer, or class
    /// `no_answer` where there was none.
    fn may_send(&self) -> bool {
        true
    }

    /// The number of the request that is about to leave, from 1. A row that was asked before counts on.
    fn next_attempt(&self) -> u32;

    /// An answer that was paid for, also an unusable one, and what it cost: a guess of ours where it does not say
    /// so itself. Resolves when it is safe; the slot of this request is held until then.
    ///
    /// # Errors
    /// When it cannot be kept. It ends the question with [`ErrorKind::Call`](crate::ErrorKind::Call).
    fn paid<'a>(
        &'a self,
        answer: &'a Answer,
        usage: Usage,
        attempt: u32,
    ) -> BoxFuture<'a, Result<(), BoxError>>;

    /// Something happened. Called in the task that asks; must not block.
    fn event(&self, _event: &Event) {}

    /// Cancelled: start nothing new. Whoever waits ends at once with
    /// [`ErrorKind::Stopped`](crate::ErrorKind::Stopped); a request under way is finished, judged and not
    /// repeated.
    fn stopping(&self) -> &CancellationToken;
}

/// What happens to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It waits.
    Waiting {
        /// For what.
        on: WaitReason,
        /// Not longer than this, where that is known.
        at_most: Option<Duration>,
    },
    /// It has waited for a long time by now. Of all who wait for the same one is told so, every 30 seconds.
    StillWaiting {
        /// For what.
        on: WaitReason,
        /// Since that began.
        waited: Duration,
        /// Not longer than this from now on, where that is known.
        at_most: Option<Duration>,
        /// How many others wait for the same.
        others: usize,
    },
    /// The last wait is over.
    Resumed,
    /// A request leaves.
    Sending {
        /// Its number, from 1.
        attempt: u32,
    },
    /// A request has ended.
    Answered {
        /// Its number, from 1.
        attempt: u32,
        /// The HTTP status; `None` when no whole answer came.
        status: Option<u16>,
        /// From sending to the last byte.
        latency: Duration,
        /// What it cost, where it was paid for.
        usage: Option<Usage>,
        /// Whether it reached the endpoint, as far as anybody can tell.
        arrived: bool,
    },
    /// The request came to nothing and will be sent again.
    Retrying {
        /// Stable name of the fault.
        class: &'static str,
        /// The cause, in one line.
        message: String,
        /// How long until then, at the earliest.
        after: Duration,
    },
    /// The endpoint put everybody off.
    Paused {
        /// Stable name of the cause.
        class: &'static str,
        /// The cause, in one line.
        message: String,
        /// For how long.
        wait: Duration,
    },
    /// The endpoint has told of a limit that nobody kept until now. It counts what leaves from now on; whoever knows what
    /// left before may tell, best before anything else happens ([`Client::knows_of`](crate::Client::knows_of)).
    LimitsLearnt {
        /// Just before that.
        at: SystemTime,
    },
    /// Something that somebody should look at, and that changes nothing.
    Warned {
        /// Stable name.
        class: &'static str,
        /// The cause, in one line.
        message: String,
    },
}

/// What a question waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitReason {
    /// A limit of requests or tokens.
    RateLimit {
        /// Which, in words: "20 requests a minute".
        limit: String,
        /// What kind of limit that is.
        kind: LimitKind,
    },
    /// One of the requests under way to end.
    Slot,
    /// Whoever has asked to send nothing ([`Client::hold`](crate::Client::hold)).
    Hold,
    /// The endpoint, which asked for a pause.
    Pause {
        /// What it said.
        reason: String,
    },
    /// The endpoint, which nobody reaches.
    Away {
        /// What was met.
        reason: String,
    },
    /// The time before it is sent again.
    BackOff {
        /// Stable name of the fault.
        class: &'static str,
        /// The cause, in one line.
        message: String,
    },
}

/// What kind of limit somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitKind {
    /// Of requests.
    Requests,
    /// Of tokens.
    Tokens,
    /// Of a day, whatever it counts: it is used up for long.
    Day,
    /// Not known yet: the first answer tells, or it is being counted what was sent before.
    Unknown,
}

/// A call of somebody who wants the reply and nothing else.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    attempts: AtomicU32,
    stopping: CancellationToken,
}

impl Call for Plain {
    fn next_attempt(&self) -> u32 {
        self.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn paid<'a>(&'a self, _: &'a Answer, _: Usage, _: u32) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }
}

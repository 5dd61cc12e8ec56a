//! What the server saw, by its own clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

/// What the server saw since it was last asked to forget.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stats {
    pub(crate) requests: u64,
    pub(crate) answers: u64,
    /// Connections on which at least one question came.
    pub(crate) connections: u64,
    pub(crate) most_in_flight: u64,
    /// When the first request was there as a whole, in nanoseconds since the epoch.
    pub(crate) first_request_ns: u64,
    /// When the last answer had left.
    pub(crate) last_answer_ns: u64,
    /// How much later than they should answers left, all together.
    pub(crate) late_us: u64,
    pub(crate) cpu_us: u64,
}

impl Stats {
    /// How much later than it should an answer left, on average.
    pub(crate) fn lateness(&self) -> Duration {
        Duration::from_micros(self.late_us / self.answers.max(1))
    }
}

pub(crate) fn now_ns() -> u64 {
    ns(SystemTime::now())
}

pub(crate) fn ns(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

/// CPU time of this process so far, user and system.
pub(crate) fn own_cpu() -> Duration {
    getrusage(UsageWho::RUSAGE_SELF).map_or(Duration::ZERO, |usage| cpu(&usage))
}

pub(crate) fn cpu(usage: &Usage) -> Duration {
    let both = usage.user_time() + usage.system_time();
    Duration::from_micros(both.num_microseconds().try_into().unwrap_or(0))
}

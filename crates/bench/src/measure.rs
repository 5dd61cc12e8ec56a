//! What a program took, by the account of the operating system.

use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

use crate::args::Measure;
use crate::stats::{cpu, now_ns};

/// What a program took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Just before it was started, in nanoseconds since the epoch.
    pub(crate) started_ns: u64,
    /// When it was gone.
    pub(crate) ended_ns: u64,
    /// User and system together.
    cpu_us: u64,
    /// What it held in memory at most, shared libraries and its own code included.
    pub(crate) peak_kib: u64,
    /// `None` where a signal ended it.
    pub(crate) code: Option<i32>,
}

impl Account {
    pub(crate) fn wall(&self) -> Duration {
        Duration::from_nanos(self.ended_ns.saturating_sub(self.started_ns))
    }

    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_micros(self.cpu_us)
    }
}

/// Starts the program, waits, and writes its account to a file.
///
/// A process of its own, because a child's peak is never below what its parent held when it was started, and
/// because only so the account of "all children" is that of one.
pub(crate) fn run(measure: &Measure) -> Result<(), String> {
    let (program, arguments) = measure.command.split_first().ok_or("no program is named")?;
    let started_ns = now_ns();
    let status = Command::new(program)
        .args(arguments)
        .status()
        .map_err(|error| format!("could not start {program}: {error}"))?;
    let ended_ns = now_ns();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| error.to_string())?;
    let peak = u64::try_from(usage.max_rss()).unwrap_or(0);
    let account = Account {
        started_ns,
        ended_ns,
        cpu_us: cpu(&usage).as_micros() as u64,
        peak_kib: if cfg!(target_vendor = "apple") {
            peak / 1024
        } else {
            peak
        },
        code: status.code(),
    };
    let text = serde_json::to_string(&account).map_err(|error| error.to_string())?;
    std::fs::write(&measure.account, text)
        .map_err(|error| format!("could not write {}: {error}", measure.account.display()))
}

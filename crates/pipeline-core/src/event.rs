//! What a run tells while it works. The library never prints and never draws.

use std::path::Path;
use std::time::Duration;

use crate::record::{Failure, Record};
use crate::report::Report;
use crate::row::RowId;
use crate::stop::StopReason;
use crate::times::WaitReason;

/// One thing that happened.
///
/// Any number of `Checking`, then `Started`, then what happens to rows, then `Ended`, once. A run that does
/// not start ends without `Ended`. A row that is taken up ends with `Finished` or `Failed`, or stays pending and
/// has no further event.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The check has read so many rows; told every few hundred.
    Checking {
        /// Rows so far.
        rows: u64,
    },
    /// All is checked, the folder is open: from here on rows are asked.
    Started {
        /// The run's folder.
        run_dir: &'a Path,
        /// Rows of the input; `None` where they come one by one.
        rows: Option<u64>,
        /// Rows that were finished before.
        finished: u64,
        /// Finished rows that the input does not have; `None` where nobody knows yet.
        not_in_input: Option<u64>,
        /// Answers that are paid for and not judged yet: where their row comes, they are judged first,
        /// without a request.
        unjudged: u64,
        /// Whether an old run is continued.
        resumed: bool,
    },
    /// Something that the user should know, but that stops nothing.
    Warning {
        /// What and what to do.
        message: &'a str,
    },
    /// So many rows may be at work from now on; told where a step has a say in it
    /// ([`Step::places`](crate::Step::places)), when it begins and when it changes.
    Places {
        /// How many.
        places: usize,
    },
    /// A row was taken up. One that cannot be asked at all is not: it fails at once.
    RowStarted {
        /// Which.
        id: RowId,
        /// Its position in the input.
        index: u64,
    },
    /// A request leaves.
    Sending {
        /// For which row.
        id: RowId,
        /// Its number among those of the row, from 1.
        attempt: u32,
    },
    /// A request came to its end.
    Answered {
        /// For which row.
        id: RowId,
        /// HTTP status; `None` where there was no answer.
        status: Option<u16>,
        /// Sending to last byte.
        latency: Duration,
    },
    /// Tokens were paid for.
    Spent {
        /// Tokens of the prompt.
        prompt_tokens: u64,
        /// Tokens of the answer.
        completion_tokens: u64,
    },
    /// A row waits, and for what.
    Waiting {
        /// Which row.
        id: RowId,
        /// For what.
        reason: WaitReason,
        /// The same in words for people: "the rate limit", "a free slot", "the endpoint asked for it".
        on: &'a str,
        /// How long at most, where that is known.
        at_most: Option<Duration>,
    },
    /// A row waits no longer.
    WaitEnded {
        /// Which row.
        id: RowId,
    },
    /// The endpoint puts everybody off.
    Paused {
        /// What it said.
        message: &'a str,
        /// For how long.
        wait: Duration,
    },
    /// A request will be sent again.
    Retrying {
        /// For which row.
        id: RowId,
        /// Why, in a word.
        class: &'a str,
        /// Why, in a sentence.
        message: &'a str,
        /// After how long.
        after: Duration,
    },
    /// A row is judged good; its line will be durable with the next commit.
    Finished {
        /// The row's line.
        record: &'a Record,
    },
    /// A row failed; its line will be durable with the next commit.
    Failed {
        /// The row's line.
        failure: &'a Failure,
    },
    /// These lines are written and durable: they survive a power loss.
    Committed(&'a Batch),
    /// Nothing new is started any more.
    Stopping {
        /// Why.
        reason: &'a StopReason,
        /// Rows at work.
        open: usize,
    },
    /// The end.
    Ended {
        /// What it came to.
        report: &'a Report,
    },
}

/// Rows whose lines became durable together.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) records: Vec<Record>,
    pub(crate) failures: Vec<Failure>,
    /// Room in the queue that they took.
    pub(crate) units: u32,
}

impl Batch {
    /// How many rows were finished.
    pub fn finished(&self) -> u64 {
        self.records.len() as u64
    }

    /// How many rows failed.
    pub fn failed(&self) -> u64 {
        self.failures.len() as u64
    }

    /// The finished rows.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    /// The failed rows.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.failures.iter()
    }
}

/// Takes part in a run by hearing of it.
///
/// Called from the run's own task, only `Checking` from another thread: be quick, never block. A closure is an
/// observer:
///
/// ```
/// use data_generation_pipeline_core::{Event, Observer};
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// let durable = AtomicU64::new(0);
/// let observer = move |event: &Event<'_>| {
///     if let Event::Committed(batch) = event {
///         durable.fetch_add(batch.finished(), Ordering::Relaxed);
///     }
/// };
/// # fn takes(_: impl Observer) {}
/// # takes(observer);
/// ```
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event<'_>);
}

impl<F: Fn(&Event<'_>) + Send + Sync> Observer for F {
    fn event(&self, event: &Event<'_>) {
        self(event);
    }
}

//! What all rows of a run have in common.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::breaker::Breaker;
use crate::clock::Clock;
use crate::event::{Batch, Event, Observer};
use crate::record::{FailureReason, Usage};
use crate::step::Aside;
use crate::stop::{StopHandle, StopKind};
use crate::unjournaled::Tally;
use crate::writer::WriterHandle;

/// What all rows of a run have in common.
pub(crate) struct Shared {
    pub(crate) writer: WriterHandle,
    pub(crate) counters: Counters,
    pub(crate) unjournaled: Tally,
    pub(crate) clock: Clock,
    pub(crate) stop: StopHandle,
    observers: Vec<Arc<dyn Observer>>,
    /// Rows that wait and have left their place to others.
    aside: Arc<AtomicU32>,
    breaker: Option<Mutex<Breaker>>,
    /// Told when one more stepped aside.
    pub(crate) place_free: Notify,
}

impl Shared {
    pub(crate) fn new(
        writer: WriterHandle,
        observers: Vec<Arc<dyn Observer>>,
        stop: StopHandle,
        breaker: Option<Breaker>,
        began: Instant,
    ) -> Shared {
        Shared {
            writer,
            counters: Counters::default(),
            unjournaled: Tally::default(),
            clock: Clock::new(began),
            stop,
            observers,
            aside: Arc::new(AtomicU32::new(0)),
            breaker: breaker.map(Mutex::new),
            place_free: Notify::new(),
        }
    }

    /// Counts what is durable, and tells of it: what is only judged may still be lost.
    pub(crate) fn committed(&self, batch: &Batch) {
        self.counters
            .ok
            .fetch_add(batch.finished(), Ordering::Relaxed);
        for failure in batch.failures() {
            self.counters.count_failure(&failure.error.class);
        }
        self.event(&Event::Committed(batch));
    }

    pub(crate) fn event(&self, event: &Event<'_>) {
        for observer in &self.observers {
            observer.event(event);
        }
    }

    pub(crate) fn step_aside(&self) -> Aside {
        self.aside.fetch_add(1, Ordering::Relaxed);
        self.place_free.notify_one();
        Aside {
            aside: Arc::clone(&self.aside),
        }
    }

    pub(crate) fn rows_aside(&self) -> usize {
        self.aside.load(Ordering::Relaxed) as usize
    }

    /// A row was judged good, or failed of this.
    pub(crate) fn judged(&self, failed: Option<&FailureReason>) {
        let Some(breaker) = &self.breaker else {
            return;
        };
        let mut breaker = breaker.lock().unwrap_or_else(PoisonError::into_inner);
        match failed {
            None => breaker.finished(),
            Some(reason) => {
                if let Some(why) = breaker.failed(reason) {
                    self.stop.stop(StopKind::Refused, why);
                }
            }
        }
    }

    /// A disk that refuses is no matter of one row.
    pub(crate) fn stop_for_disk(&self, what: &str, error: &dyn fmt::Display) {
        stop_for_disk(&self.stop, what, error);
    }
}

/// As [`Shared::stop_for_disk`], from any thread.
pub(crate) fn stop_for_disk(stop: &StopHandle, what: &str, error: &dyn fmt::Display) {
    tracing::error!(%error, "{what}");
    stop.stop(
        StopKind::Io,
        format!("{what}: {error}; everything up to the last whole line is kept, and the run can be gone on with"),
    );
}

/// Counted while the run works, added up in the report.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) ok: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    /// Answers that could not be put into the journal.
    pub(crate) lost: AtomicU64,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) completion_tokens: AtomicU64,
    /// Answers that did not say what they cost.
    pub(crate) untold: AtomicU64,
    failures: Mutex<HashMap<String, u64>>,
}

impl Counters {
    pub(crate) fn count_request(&self, attempt: u32) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        if attempt > 1 {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn count_answer(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn count_tokens(&self, usage: Usage) {
        self.prompt_tokens
            .fetch_add(usage.prompt_tokens, Ordering::Relaxed);
        self.completion_tokens
            .fetch_add(usage.completion_tokens, Ordering::Relaxed);
        self.untold
            .fetch_add(u64::from(usage.estimated), Ordering::Relaxed);
    }

    pub(crate) fn count_failure(&self, class: &str) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.get_mut(class) {
            Some(count) => *count += 1,
            None => drop(failures.insert(class.to_owned(), 1)),
        }
    }

    pub(crate) fn failures_by_class(&self) -> Vec<(String, u64)> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failures: Vec<_> = failures
            .iter()
            .map(|(class, count)| (class.clone(), *count))
            .collect();
        failures.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        failures
    }
}

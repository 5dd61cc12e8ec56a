//! A run in the log.

use data_generation_pipeline_core::{Event, Observer};

/// Writes what happens to the log: what concerns the whole run at `info`, rows that fail at `warn`, every
/// row at `debug`.
pub(crate) struct Trace;

impl Observer for Trace {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Started {
                run_dir,
                rows,
                finished,
                unjudged,
                ..
            } => {
                tracing::info!(run_dir = %run_dir.display(), rows, finished, unjudged, "started");
            }
            Event::Warning { message } => tracing::warn!("{}", one_line(message)),
            Event::Waiting {
                id, on, at_most, ..
            } => {
                tracing::debug!(row = %id, on = one_line(on), ?at_most, "waiting")
            }
            Event::Retrying {
                id,
                class,
                message,
                after,
            } => {
                tracing::info!(row = %id, class, after = ?after, "trying again: {}", one_line(message));
            }
            Event::Paused { message, wait } => {
                tracing::info!(?wait, "paused: {}", one_line(message))
            }
            Event::Sending { id, attempt } => tracing::debug!(row = %id, attempt, "sending"),
            Event::Answered {
                id,
                status,
                latency,
            } => tracing::debug!(row = %id, status, ?latency, "answered"),
            Event::Finished { record } => tracing::debug!(row = %record.id, "finished"),
            Event::Failed { failure } => {
                let error = &failure.error;
                tracing::warn!(row = %failure.id, index = failure.index, class = error.class, "failed: {}", one_line(&error.message));
            }
            Event::Stopping { reason, open } => {
                tracing::info!(open, "stopping: {}", one_line(&reason.message))
            }
            Event::Ended { report } => {
                let counts = report.counts;
                tracing::info!(
                    rows = counts.rows,
                    ok = counts.ok,
                    failed = counts.failed,
                    skipped = counts.skipped,
                    pending = counts.pending,
                    requests = report.requests,
                    retries = report.retries,
                    "ended"
                );
            }
            _ => {}
        }
    }
}

/// Words of others stay on one line and steer no terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

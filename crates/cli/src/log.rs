//! The log: one file a day, off the run's way.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use data_generation::settings::LoggingSettings;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::failure::Failure;

/// Log files that are kept.
const DAYS: usize = 14;
/// Lines that wait for the disk. Room for all of them is taken and touched at the start: those that are usual,
/// 128,000, cost 4 MiB and 3 ms.
const LINES: usize = 8192;

/// Keeps the log going; what waits is written when it is dropped.
pub(crate) struct Log {
    _guard: Option<WorkerGuard>,
    dropped: Option<ErrorCounter>,
    lost: Arc<AtomicUsize>,
}

/// A file that counts the lines it could not take: the thread that writes them tells nobody.
struct Counted {
    file: RollingFileAppender,
    lost: Arc<AtomicUsize>,
}

impl Write for Counted {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.file.write_all(line).inspect_err(|_| {
            self.lost.fetch_add(1, Ordering::Relaxed);
        })?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Log {
    /// Starts the log that the settings want.
    pub(crate) fn start(settings: &LoggingSettings) -> Result<Log, Failure> {
        let level = &settings.level;
        let Some(dir) = &settings.dir else {
            return Ok(Log {
                _guard: None,
                dropped: None,
                lost: Arc::default(),
            });
        };
        let refused = |error: &dyn std::fmt::Display| {
            let error = std::io::Error::other(error.to_string());
            Failure::io(
                format!("could not write to the log folder {}", dir.display()),
                &error,
            )
            .hint("set logging.dir to another folder, or to null for no log")
        };
        std::fs::create_dir_all(dir).map_err(|error| refused(&error))?;
        let file = RollingFileAppender::builder()
            .rotation(Rotation::DAILY)
            .filename_prefix("datagen")
            .filename_suffix("log")
            .max_log_files(DAYS)
            .build(dir)
            .map_err(|error| refused(&error))?;
        let lost = Arc::new(AtomicUsize::new(0));
        // A log that cannot keep up loses lines and counts them: it must never hold up a run.
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES)
            .thread_name("log")
            .finish(Counted {
                file,
                lost: Arc::clone(&lost),
            });
        let dropped = writer.error_counter();
        // What the libraries below say may hold bodies and headers, so they are only heard when they warn,
        // and async-openai, which logs whole bodies, never.
        let filter = format!(
            "warn,async_openai=off,handlebars=off,data_generation={level},data_generation_llm_client={level},\
             data_generation_pipeline_core={level},datagen={level}"
        );
        let filter = if level == "off" {
            EnvFilter::new("off")
        } else {
            EnvFilter::new(filter)
        };
        tracing_subscriber::registry()
            .with(filter)
            .with(
                tracing_subscriber::fmt::layer()
                    .with_ansi(false)
                    .with_writer(writer),
            )
            .init();
        Ok(Log {
            _guard: Some(guard),
            dropped: Some(dropped),
            lost,
        })
    }

    /// Lines that were lost because the disk could not keep up or refused them; those of the last moment, which
    /// are still on their way, are not among them.
    pub(crate) fn dropped_lines(&self) -> usize {
        let dropped = self.dropped.as_ref().map_or(0, ErrorCounter::dropped_lines);
        dropped + self.lost.load(Ordering::Relaxed)
    }
}

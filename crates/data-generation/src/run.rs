//! One run of a pipeline, and its records as a stream.

use std::collections::VecDeque;
use std::future::IntoFuture;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use data_generation_extractors::Extract;
use data_generation_pipeline_core::{
    Event, Observer, Record, Report, Resume, Run, Source, Start, StopHandle,
};
use futures::future::BoxFuture;
use futures::stream::Stream;
use serde_json::{Value, json};

use crate::trace::Trace;
use crate::{DataGenerationPipeline, Error};

/// A run before it begins: `.await` it for the [`Report`], or take its [`records`](RunBuilder::records).
#[must_use = "a run does nothing until it is awaited"]
pub struct RunBuilder<'a> {
    pipeline: &'a DataGenerationPipeline,
    source: Source,
    start: Start,
    concurrency: NonZeroUsize,
    extractor: Option<Arc<dyn Extract>>,
    limit: Option<u64>,
    skip_invalid: bool,
    add: bool,
    command: Value,
    observers: Vec<Arc<dyn Observer>>,
    stop: StopHandle,
}

impl<'a> RunBuilder<'a> {
    pub(crate) fn new(pipeline: &'a DataGenerationPipeline, source: Source) -> RunBuilder<'a> {
        let settings = pipeline.settings();
        RunBuilder {
            pipeline,
            source,
            start: Start::default(),
            concurrency: settings.run.concurrency_limit,
            extractor: pipeline.extractor(),
            limit: None,
            skip_invalid: settings.run.skip_invalid,
            add: false,
            command: json!("in code"),
            observers: vec![Arc::new(Trace)],
            stop: StopHandle::new(),
        }
    }

    /// Requests at the same time; 0 counts as 1.
    pub fn concurrency_limit(mut self, limit: usize) -> Self {
        self.concurrency = NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// What takes the value out of an answer, in this run.
    pub fn extractor(mut self, extractor: impl Extract + 'static) -> Self {
        self.extractor = Some(Arc::new(extractor));
        self
    }

    /// Only the first so many rows, done or not.
    pub fn limit(mut self, rows: u64) -> Self {
        self.limit = Some(rows);
        self
    }

    /// Goes on with an old run, where each command makes a folder of its own.
    pub fn resume(mut self, which: Resume) -> Self {
        self.start.resume = Some(which);
        self
    }

    /// Begins afresh; an old folder in the way is moved aside.
    pub fn begin_anew(mut self) -> Self {
        self.start.new = true;
        self
    }

    /// Works on a copy under this name, which keeps every answer whose call is unchanged.
    pub fn fork(mut self, name: &str) -> Self {
        self.start.fork = Some(name.to_owned());
        self
    }

    /// The input may have none of the rows that are finished.
    pub fn add(mut self) -> Self {
        self.add = true;
        self
    }

    /// Rows that do not fit the prompts fail alone.
    pub fn skip_invalid(mut self) -> Self {
        self.skip_invalid = true;
        self
    }

    /// Refuses to begin a folder of its own where an unfinished run with the same settings holds answers
    /// that were paid for.
    pub fn offer_unfinished(mut self) -> Self {
        self.start.offer_unfinished = true;
        self
    }

    /// What was asked for, as the manifest will tell it.
    pub fn command(mut self, command: Value) -> Self {
        self.command = command;
        self
    }

    /// Hears of everything that happens.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Stops the run from outside.
    pub fn stop_handle(mut self, stop: &StopHandle) -> Self {
        self.stop = stop.clone();
        self
    }

    /// The finished records, each once it is durable in the dataset. The run goes on only while the stream
    /// is polled; [`Records::report`] tells what it came to.
    pub fn records(mut self) -> Records<'a> {
        let queue = Arc::new(Queue::default());
        self.observers.push(Arc::clone(&queue) as Arc<dyn Observer>);
        Records {
            queue,
            run: Some(self.into_future()),
            report: None,
        }
    }

    async fn execute(self) -> Result<Report, Error> {
        let pipeline = self.pipeline;
        if let Some(extractor) = &self.extractor {
            extractor.check()?;
        }
        let mut options = pipeline.run_options(self.concurrency);
        options.limit = self.limit;
        options.skip_invalid = self.skip_invalid;
        options.add = self.add;
        let run = Run {
            place: pipeline.place(),
            start: self.start,
            source: self.source,
            check: Box::new(pipeline.check_of_rows()),
            dataset: pipeline.dataset(self.extractor.as_deref()),
            workflow: pipeline.workflow(self.extractor, self.concurrency)?,
            hashes: pipeline.hashes(),
            settings: pipeline.settings_with_origins(),
            command: self.command,
            offline: pipeline.is_offline(),
            options,
            observers: self.observers,
            stop: self.stop,
        };
        Ok(run.execute().await?)
    }
}

impl<'a> IntoFuture for RunBuilder<'a> {
    type Output = Result<Report, Error>;
    type IntoFuture = BoxFuture<'a, Result<Report, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.execute())
    }
}

/// Records that are durable and not taken yet. At most one commit's worth comes at a time, and the run
/// is not polled while any of it waits: whoever takes slowly slows the run down.
#[derive(Default)]
struct Queue(Mutex<VecDeque<Record>>);

impl Observer for Queue {
    fn event(&self, event: &Event<'_>) {
        if let Event::Committed(batch) = event {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(batch.records());
        }
    }
}

/// The finished records of a run, as a stream; see [`RunBuilder::records`].
pub struct Records<'a> {
    queue: Arc<Queue>,
    run: Option<BoxFuture<'a, Result<Report, Error>>>,
    report: Option<Report>,
}

impl Records<'_> {
    /// What the run came to; there once the stream has ended.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }
}

impl Stream for Records<'_> {
    type Item = Result<Record, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let next = self
                .queue
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            if let Some(record) = next {
                return Poll::Ready(Some(Ok(record)));
            }
            let Some(run) = &mut self.run else {
                return Poll::Ready(None);
            };
            match run.as_mut().poll(cx) {
                Poll::Ready(Ok(report)) => {
                    self.run = None;
                    self.report = Some(report);
                }
                Poll::Ready(Err(error)) => {
                    self.run = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Pending
                    if self
                        .queue
                        .0
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .is_empty() =>
                {
                    return Poll::Pending;
                }
                // The run has just made some durable.
                Poll::Pending => {}
            }
        }
    }
}

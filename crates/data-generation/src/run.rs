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

use crate::limits::{Concurrency, ConcurrencyLimit};
use crate::steering::Steering;
use crate::trace::Trace;
use crate::{DataGenerationPipeline, Error};

/// A run before it begins: `.await` it for the [`Report`], or take its [`records`](RunBuilder::records).
///
/// Needs a tokio runtime with time and, for an endpoint, I/O enabled. An `Err` says why the run could not
/// start, and nothing was sent then; what stopped it later is in [`Report::stopped`].
#[must_use = "a run does nothing until it is awaited"]
pub struct RunBuilder<'a> {
    pipeline: &'a DataGenerationPipeline,
    source: Source,
    start: Start,
    concurrency: Concurrency,
    extractor: Option<Arc<dyn Extract>>,
    limit: Option<u64>,
    skip_invalid: bool,
    add: bool,
    repair: bool,
    command: Value,
    observers: Vec<Arc<dyn Observer>>,
    stop: StopHandle,
    steering: Steering,
}

impl<'a> RunBuilder<'a> {
    pub(crate) fn new(pipeline: &'a DataGenerationPipeline, source: Source) -> RunBuilder<'a> {
        let settings = pipeline.settings();
        RunBuilder {
            pipeline,
            source,
            start: Start::default(),
            concurrency: settings.run.concurrency(),
            extractor: pipeline.extractor(),
            limit: None,
            skip_invalid: settings.run.skip_invalid,
            add: false,
            repair: false,
            command: json!("in code"),
            observers: vec![Arc::new(Trace)],
            stop: StopHandle::new(),
            steering: Steering::new(),
        }
    }

    /// Requests at the same time, instead of `run.concurrency_limit`; 0 counts as 1.
    pub fn concurrency_limit(mut self, limit: usize) -> Self {
        self.concurrency.limit = ConcurrencyLimit::Fixed(at_least_one(limit));
        self
    }

    /// As many requests at the same time as give the most throughput, up to so many (0 counts as 1), instead of
    /// `run.concurrency_limit` and `run.concurrency_max`.
    pub fn concurrency_auto(mut self, most: usize) -> Self {
        self.concurrency.limit = ConcurrencyLimit::Auto;
        self.concurrency.auto_most = at_least_one(most);
        self
    }

    /// Never more requests at the same time than so many (0 counts as 1), whatever is configured or said while the
    /// run works: there may be no room for more connections.
    pub fn concurrency_ceiling(mut self, most: usize) -> Self {
        self.concurrency.ceiling = at_least_one(most);
        self
    }

    /// What takes the value out of an answer, in this run. Its name is part of what makes the dataset one: a
    /// run folder with answers refuses another extractor.
    pub fn extractor(mut self, extractor: impl Extract + 'static) -> Self {
        self.extractor = Some(Arc::new(extractor));
        self
    }

    /// Only the first so many rows, done or not.
    pub fn limit(mut self, rows: u64) -> Self {
        self.limit = Some(rows);
        self
    }

    /// Goes on with an old run, where each run makes a folder of its own (`need_time_stamp`).
    pub fn resume(mut self, which: Resume) -> Self {
        self.start.resume = Some(which);
        self
    }

    /// Begins afresh; an old folder in the way is moved aside, to `<experiment_name>-<its start>`, and never
    /// deleted. Goes neither with [`resume`](RunBuilder::resume) nor with [`fork`](RunBuilder::fork).
    pub fn begin_anew(mut self) -> Self {
        self.start.new = true;
        self
    }

    /// Works on a copy of the run that this one would have continued (or of the one that
    /// [`resume`](RunBuilder::resume) names), `<output_dir>/<name>`. It keeps every answer whose request is
    /// unchanged but for its maximum of tokens, and all of them where only the extractor changed: those are
    /// judged anew without a request. The old run stays as it is; a copy that is there already is continued.
    ///
    /// ```
    /// use data_generation::{DataGenerationPipeline, extract};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let dir = tempfile::tempdir().unwrap();
    /// let pipeline = DataGenerationPipeline::builder()
    ///     .offline()
    ///     .set("offline.reply", "<title>A</title><text>B</text>")
    ///     .system_prompt(None)
    ///     .user_prompt("Write about {{topic}}.")
    /// #   .output_dir(dir.path().to_str().unwrap())
    ///     .experiment_name("titles")
    ///     .need_time_stamp(false)
    ///     .build()?;
    /// let rows = [serde_json::json!({"topic": "tides"})];
    /// pipeline.run(rows.clone()).extractor(extract::tag("title")).await?;
    /// let report = pipeline.run(rows).fork("texts").extractor(extract::tag("text")).await?;
    /// assert_eq!((report.counts.ok, report.requests), (1, 0)); // nothing was asked again
    /// # Ok::<(), data_generation::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn fork(mut self, name: &str) -> Self {
        self.start.fork = Some(name.to_owned());
        self
    }

    /// The input may have none of the rows that the folder has finished: they stay, and these come on top.
    pub fn add(mut self) -> Self {
        self.add = true;
        self
    }

    /// Bad lines in the middle of the folder's files are moved aside, to `.damaged-<time>.jsonl` in it, where else the
    /// run would be refused. Rows whose lines were bad are made again, without a request where the journal still has
    /// their answer.
    pub fn repair(mut self) -> Self {
        self.repair = true;
        self
    }

    /// Rows that do not fit the prompts fail alone, class `invalid_row`, where else nothing would be sent.
    pub fn skip_invalid(mut self) -> Self {
        self.skip_invalid = true;
        self
    }

    /// Refuses to begin a folder of its own where an unfinished run with the same settings holds answers
    /// that were paid for: an error that names it ([`Unfinished`](crate::pipeline::ErrorKind::Unfinished)).
    pub fn offer_unfinished(mut self) -> Self {
        self.start.offer_unfinished = true;
        self
    }

    /// What was asked for, as the manifest will tell it; without secrets.
    pub fn command(mut self, command: Value) -> Self {
        self.command = command;
        self
    }

    /// Hears of everything that happens, in the run's own task: it must be quick. A closure will do, as
    /// `|event: &Event<'_>| ..`; [`Event`] says what there is to hear.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Stops the run from outside: answers under way are waited for and kept.
    ///
    /// ```
    /// # use data_generation::DataGenerationPipeline;
    /// use data_generation::{StopHandle, StopKind};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let pipeline = DataGenerationPipeline::builder().offline().system_prompt(None).user_prompt("{{n}}").output_dir(dir.path().to_str().unwrap()).build()?;
    /// let stop = StopHandle::new();
    /// stop.interrupt(); // from another task, while the run works
    /// let report = pipeline.run([serde_json::json!({"n": 1})]).stop_handle(&stop).await?;
    /// assert_eq!(report.stopped.unwrap().kind, StopKind::Interrupted);
    /// assert_eq!(report.counts.pending, 1);
    /// # Ok::<(), data_generation::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn stop_handle(mut self, stop: &StopHandle) -> Self {
        self.stop = stop.clone();
        self
    }

    /// Changes the run from outside while it works: limits, concurrency, a pause.
    pub fn steering(mut self, steering: &Steering) -> Self {
        self.steering = steering.clone();
        self
    }

    /// The records that this run finishes, each once it is durable in the dataset; [`Records::report`] tells
    /// what the run came to. Rows that fail, and rows that were finished before, are not among them.
    ///
    /// The run goes on only while the stream is polled, and requests that are under way run against their
    /// time limits meanwhile: hand records that take long to another task. To end a run before its time use
    /// a [`stop_handle`](RunBuilder::stop_handle) and take the rest; a stream that is dropped loses the answers
    /// that are under way.
    ///
    /// ```
    /// # use data_generation::DataGenerationPipeline;
    /// use futures::StreamExt;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let pipeline = DataGenerationPipeline::builder().offline().system_prompt(None).user_prompt("{{n}}").output_dir(dir.path().to_str().unwrap()).build()?;
    /// let rows = [serde_json::json!({"n": 1}), serde_json::json!({"n": 2})];
    /// let mut records = pipeline.run(rows).records();
    /// while let Some(record) = records.next().await {
    ///     println!("{}", record?.response);
    /// }
    /// assert_eq!(records.report().unwrap().counts.ok, 2);
    /// # Ok::<(), data_generation::Error>(())
    /// # }).unwrap();
    /// ```
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
        // How many rows are worth being at work is for the client to say, up to here.
        let mut options = pipeline.run_options(self.concurrency.ceiling);
        options.limit = self.limit;
        options.skip_invalid = self.skip_invalid;
        options.add = self.add;
        options.repair = self.repair;
        let extract = self
            .extractor
            .as_ref()
            .map_or("none", |extractor| extractor.name());
        let most = self.concurrency.most();
        let mut of_this_run = vec![
            ("run.extract", json!(extract)),
            ("run.skip_invalid", json!(self.skip_invalid)),
        ];
        match self.concurrency.is_auto() {
            true => of_this_run.extend([
                ("run.concurrency_limit", json!("auto")),
                ("run.concurrency_max", json!(most)),
            ]),
            false => of_this_run.push(("run.concurrency_limit", json!(most))),
        }
        let run = Run {
            settings: pipeline.settings_with_origins(of_this_run),
            place: pipeline.place(),
            start: self.start,
            source: self.source,
            check: Box::new(pipeline.check_of_rows()),
            dataset: pipeline.dataset(self.extractor.as_deref()),
            workflow: pipeline.workflow(self.extractor, self.concurrency, &self.steering)?,
            hashes: pipeline.hashes(),
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

fn at_least_one(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN)
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
                .extend(batch.records().cloned());
        }
    }
}

/// The records of a run, as a stream; see [`RunBuilder::records`]. An `Err` is the last item: the run could not
/// start.
pub struct Records<'a> {
    queue: Arc<Queue>,
    run: Option<BoxFuture<'a, Result<Report, Error>>>,
    report: Option<Report>,
}

impl Records<'_> {
    /// What the run came to; there once the stream has ended without an error.
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

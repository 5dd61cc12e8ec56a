//! A run folder of its own for each test, and a step that stands for a model.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use data_generation_pipeline_core::{
    Draft, Error, PaidAnswer, Place, Report, Row, Run, Source, Step, StepContext, StepError, Usage,
    Workflow, call_key,
};
use futures::future::{BoxFuture, FutureExt};
use serde_json::{Value, json};

/// What the stand-in for a model does with a row.
pub(crate) type Behaviour = Arc<dyn Fn(&Value, u32) -> Result<String, StepError> + Send + Sync>;

/// A step that "asks": every answer is journaled, as a real one is, and replayed where it was paid for.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) behaviour: Behaviour,
    pub(crate) asked: Arc<AtomicU32>,
    pub(crate) latency: Duration,
    /// Part of the request: changing it changes the key.
    pub(crate) prompt: String,
    pub(crate) journal_seen: Arc<Mutex<Vec<bool>>>,
    pub(crate) journal: PathBuf,
}

impl Step for Ask {
    fn name(&self) -> &str {
        "ask"
    }

    fn run<'a>(
        &'a self,
        row: &'a Row,
        draft: &'a mut Draft,
        cx: &'a StepContext<'a>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            let key = self.call_key(row).unwrap();
            let (body, attempt) = if let Some(old) = cx.replay(&key) {
                (old.body, old.attempt)
            } else {
                let attempt = cx.next_attempt();
                self.asked.fetch_add(1, Ordering::Relaxed);
                if !self.latency.is_zero() {
                    tokio::time::sleep(self.latency).await;
                }
                let row: Value = serde_json::from_str(row.json()).unwrap();
                let text = (self.behaviour)(&row, attempt);
                cx.answered(Some(200), self.latency);
                let body = serde_json::to_vec(&json!({ "text": text? })).unwrap();
                let paid = PaidAnswer {
                    key: &key,
                    attempt,
                    status: 200,
                    at: SystemTime::now(),
                    latency: self.latency,
                    prompt_guess: None,
                    body: &body,
                };
                let seq = cx.journal(paid).await?;
                let written = std::fs::read_to_string(&self.journal).unwrap_or_default();
                self.journal_seen
                    .lock()
                    .unwrap()
                    .push(written.contains(&format!("\"seq\":{seq},")));
                cx.spent(Usage {
                    prompt_tokens: 2,
                    completion_tokens: 3,
                    total_tokens: 5,
                    estimated: false,
                });
                (body, attempt)
            };
            let body: Value = serde_json::from_slice(&body).unwrap();
            draft.response = body["text"].as_str().unwrap().to_owned();
            draft.attempts = attempt;
            draft.model = "stand-in".to_owned();
            Ok(())
        }
        .boxed()
    }

    fn call_key(&self, row: &Row) -> Option<String> {
        Some(call_key(row.id(), "ask", "test", self.prompt.as_bytes()))
    }
}

/// Takes the answer if it begins with the word, and sends it back to be asked again otherwise.
pub(crate) struct Extract(pub(crate) &'static str);

impl Step for Extract {
    fn name(&self) -> &str {
        "extract"
    }

    fn run<'a>(
        &'a self,
        _row: &'a Row,
        draft: &'a mut Draft,
        _cx: &'a StepContext<'a>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            match draft.response.strip_prefix(self.0) {
                Some(rest) => {
                    draft.extracted = Some(Value::from(rest));
                    Ok(())
                }
                None => Err(StepError::Again {
                    class: "extraction_miss".into(),
                    message: format!("no `{}`", self.0),
                    response: Some(draft.response.clone()),
                }),
            }
        }
        .boxed()
    }
}

pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) ask: Ask,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("demo/journal.jsonl");
        let ask = Ask {
            behaviour: Arc::new(|row, _| Ok(format!("answer to {row}"))),
            asked: Arc::default(),
            latency: Duration::ZERO,
            prompt: "prompt".into(),
            journal_seen: Arc::default(),
            journal,
        };
        Bench { dir, ask }
    }

    pub(crate) fn behaving(
        behaviour: impl Fn(&Value, u32) -> Result<String, StepError> + Send + Sync + 'static,
    ) -> Bench {
        let mut bench = Bench::new();
        bench.ask.behaviour = Arc::new(behaviour);
        bench
    }

    pub(crate) fn asked(&self) -> u32 {
        self.ask.asked.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn run(&self, source: Source) -> Run {
        let place = Place {
            output_dir: self.dir.path().into(),
            experiment_name: "demo".into(),
            need_time_stamp: false,
        };
        let mut run = Run::new(place, source, Workflow::new().then(self.ask.clone()));
        run.dataset
            .insert("prompt".into(), Value::from(self.ask.prompt.as_str()));
        run.options.concurrency = NonZeroUsize::new(4).unwrap();
        run
    }

    pub(crate) async fn make(&self, rows: &[Value]) -> Result<Report, Error> {
        self.run(Source::rows(rows)).execute().await
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("demo")
    }

    pub(crate) fn lines(&self, file: &str) -> Vec<Value> {
        read_lines(&self.path().join(file))
    }

    /// How often each `n` of the rows stands in a file.
    pub(crate) fn tally(&self, file: &str) -> BTreeMap<i64, u32> {
        let mut tally = BTreeMap::new();
        for line in self.lines(file) {
            *tally
                .entry(line["input"]["n"].as_i64().unwrap())
                .or_insert(0) += 1;
        }
        tally
    }
}

/// For tests whose harness is not of tokio.
pub(crate) fn block_on<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(work)
}

pub(crate) fn read_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "{} ends in a torn line",
        path.display()
    );
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub(crate) fn rows(range: std::ops::Range<i64>) -> Vec<Value> {
    range.map(|n| json!({ "n": n })).collect()
}

pub(crate) fn once_each(range: std::ops::Range<i64>) -> BTreeMap<i64, u32> {
    range.map(|n| (n, 1)).collect()
}

pub(crate) fn fails(class: &str) -> StepError {
    StepError::Fail {
        class: class.into(),
        message: "it does not work".into(),
        response: Some("raw".into()),
    }
}

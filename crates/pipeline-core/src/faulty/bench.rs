//! Twenty rows, a step that pays for answers, and what must be true of the folder in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures::future::{BoxFuture, FutureExt};
use serde_json::{Value, json};

use super::recorder::{Made, Recorder};
use crate::{
    Draft, Durability, Error, Event, PaidAnswer, Place, Report, Row, Run, Source, Start, Step,
    StepContext, StepError, Workflow, call_key,
};

pub(crate) const ROWS: i64 = 20;

/// Rows that no answer is good enough for.
pub(crate) fn fails(n: i64) -> bool {
    n % 7 == 3
}

/// The first answer to these is no good, and they are asked again.
fn needs_two(n: i64) -> bool {
    n % 6 == 5
}

/// A row and the number of its answer.
pub(crate) type Answer = (i64, u32);

/// Asks, journals and judges as a real step does.
struct Ask {
    recorder: Arc<Recorder>,
    asked: Arc<Mutex<Vec<Answer>>>,
    /// This row fails too, until a later command.
    fails_too: Option<i64>,
    /// Every answer is good, and says so.
    otherwise: bool,
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
            let input: Value = serde_json::from_str(row.json()).unwrap();
            let n = input["n"].as_i64().unwrap();
            loop {
                let body = match cx.replay(&key) {
                    Some(old) => old.body,
                    None if !cx.may_send() => return Err(no_good("no_answer", None)),
                    None => self.ask(n, &key, cx).await?,
                };
                let body: Value = serde_json::from_slice(&body).unwrap();
                let text = body["text"].as_str().unwrap();
                if text == "no" {
                    continue;
                }
                if self.otherwise {
                    draft.response = format!("otherwise: {text}");
                    draft.at = Some(SystemTime::UNIX_EPOCH);
                    return Ok(());
                }
                if fails(n) || self.fails_too == Some(n) {
                    return Err(no_good("bad", Some(text.to_owned())));
                }
                draft.response = text.to_owned();
                return Ok(());
            }
        }
        .boxed()
    }

    fn call_key(&self, row: &Row) -> Option<String> {
        Some(call_key(row.id(), "ask", "test", b"prompt"))
    }
}

impl Ask {
    async fn ask(&self, n: i64, key: &str, cx: &StepContext<'_>) -> Result<Vec<u8>, StepError> {
        if cx.stopping().is_cancelled() {
            return Err(StepError::Stopped);
        }
        let attempt = cx.next_attempt();
        self.recorder.count_request();
        self.asked.lock().unwrap().push((n, attempt));
        let latency = Duration::from_millis(10 + n.unsigned_abs() * 37 % 130);
        tokio::time::sleep(latency).await;
        cx.answered(Some(200), latency);
        let text = if needs_two(n) && attempt == 1 {
            "no".to_owned()
        } else {
            answer_to(n)
        };
        let body = serde_json::to_vec(&json!({ "text": text })).unwrap();
        let at = SystemTime::now();
        let paid = PaidAnswer {
            key,
            attempt,
            status: 200,
            at,
            latency,
            prompt_guess: None,
            body: &body,
        };
        cx.journal(paid).await?;
        self.recorder.say(Made::Acknowledged(n, attempt));
        Ok(body)
    }
}

fn no_good(class: &str, response: Option<String>) -> StepError {
    StepError::Fail {
        class: class.into(),
        message: "it is no good".into(),
        response,
    }
}

/// Steps to which every answer is good, and that ask for none.
pub(crate) fn judging_otherwise(recorder: &Arc<Recorder>) -> Workflow {
    Workflow::new().then(Ask {
        recorder: Arc::clone(recorder),
        asked: Arc::default(),
        fails_too: None,
        otherwise: true,
    })
}

fn answer_to(n: i64) -> String {
    format!("answer to {n}")
}

/// How a command is given.
#[derive(Clone, Default)]
pub(crate) struct Command {
    pub(crate) start: Start,
    pub(crate) need_time_stamp: bool,
    pub(crate) durability: Durability,
    pub(crate) limit: Option<u64>,
    pub(crate) fails_too: Option<i64>,
    pub(crate) repair: bool,
    /// The first so many rows come from standard input.
    pub(crate) piped: Option<i64>,
}

/// What came of a command, and what it asked.
pub(crate) struct Ran {
    pub(crate) outcome: Result<Report, Error>,
    pub(crate) asked: Vec<Answer>,
}

impl Ran {
    pub(crate) fn is_clean(&self) -> bool {
        matches!(&self.outcome, Ok(report) if report.stopped.is_none())
    }
}

pub(crate) fn output_dir(root: &Path) -> PathBuf {
    root.join("data/output")
}

pub(crate) fn run_dir(root: &Path) -> PathBuf {
    output_dir(root).join("demo")
}

/// The first so many rows as they come from standard input.
pub(crate) fn piped(count: i64) -> String {
    (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

/// One command over the rows, on a disk that is watched.
pub(crate) async fn run(root: &Path, command: &Command, recorder: &Arc<Recorder>) -> Ran {
    let place = Place {
        output_dir: output_dir(root),
        experiment_name: "demo".into(),
        need_time_stamp: command.need_time_stamp,
    };
    let asked = Arc::default();
    let ask = Ask {
        recorder: Arc::clone(recorder),
        asked: Arc::clone(&asked),
        fails_too: command.fails_too,
        otherwise: false,
    };
    let rows = match command.piped {
        Some(count) => Source::piped(piped(count)),
        None => Source::rows((0..ROWS).map(|n| json!({ "n": n }))),
    };
    let mut run = Run::new(place, rows, Workflow::new().then(ask));
    run.start = command.start.clone();
    run.dataset.insert("model".into(), Value::from("stand-in"));
    run.options.concurrency = NonZeroUsize::new(4).unwrap();
    run.options.durability = command.durability;
    run.options.limit = command.limit;
    run.options.repair = command.repair;
    let heard = Arc::clone(recorder);
    run.observers.push(Arc::new(move |event: &Event<'_>| {
        if let Event::Committed(batch) = event {
            let rows = batch.records().map(|record| n_of(record.input.get()));
            rows.for_each(|n| heard.say(Made::Committed(n)));
        }
    }));
    let outcome = run.execute_on(recorder.disk()).await;
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    Ran { outcome, asked }
}

/// The same command where nothing goes wrong; it must come to its end.
pub(crate) async fn run_well(root: &Path, command: &Command, told: &str) -> Ran {
    let ran = run(root, command, &Recorder::over(root, None)).await;
    match &ran.outcome {
        Ok(report) => assert!(report.stopped.is_none(), "{told}: {report}"),
        Err(error) => panic!("{told}: {error}"),
    }
    ran
}

/// A run that was killed when half of the rows were done, with torn ends, a row that has failed but will not
/// again, and an answer that nobody judged.
pub(crate) async fn half_done(root: &Path) {
    let command = Command {
        limit: Some(ROWS as u64 / 2),
        fails_too: Some(4),
        ..Command::default()
    };
    run_well(root, &command, "the first half").await;
    let result = run_dir(root).join("result.jsonl");
    let text = std::fs::read(&result).unwrap();
    std::fs::write(&result, &text[..text.len() - 40]).unwrap();
    let journal = run_dir(root).join("journal.jsonl");
    let mut text = std::fs::read(&journal).unwrap();
    text.extend_from_slice(b"{\"v\":1,\"seq\":99,\"row\":\"e1d7f3");
    std::fs::write(&journal, text).unwrap();
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &copy);
        } else {
            std::fs::copy(&path, &copy).unwrap();
        }
    }
}

fn n_of(input: &str) -> i64 {
    serde_json::from_str::<Value>(input).unwrap()["n"]
        .as_i64()
        .unwrap()
}

/// The whole lines of a file that are JSON: what a later command will go by.
pub(crate) fn lines(dir: &Path, name: &str) -> Vec<Value> {
    let bytes = std::fs::read(dir.join(name)).unwrap_or_default();
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

pub(crate) fn rows_in(dir: &Path, name: &str) -> BTreeMap<i64, u32> {
    let mut rows = BTreeMap::new();
    for line in lines(dir, name) {
        *rows
            .entry(line["input"]["n"].as_i64().unwrap())
            .or_default() += 1;
    }
    rows
}

/// The answers in the journal, by the row that they are of.
pub(crate) fn answers_in(dir: &Path) -> BTreeSet<Answer> {
    let row_of: BTreeMap<String, i64> = (0..ROWS)
        .map(|n| {
            let content = crate::row::Content::of(&json!({ "n": n }).to_string(), &mut Vec::new());
            (content.unwrap().id(0).to_string(), n)
        })
        .collect();
    lines(dir, "journal.jsonl")
        .iter()
        .map(|line| {
            let attempt = line["attempt"].as_u64().unwrap();
            let row = line["row"].as_str().unwrap();
            (row_of[row], u32::try_from(attempt).unwrap())
        })
        .collect()
}

/// Every row is there once and right, nothing is torn, and no answer was paid for twice.
pub(crate) fn assert_whole(dir: &Path, told: &str) {
    for name in ["journal.jsonl", "result.jsonl", "failures.jsonl"] {
        let text = std::fs::read_to_string(dir.join(name)).unwrap();
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "{told}: {name} is torn"
        );
        assert_eq!(
            text.lines().count(),
            lines(dir, name).len(),
            "{told}: {name} has a broken line"
        );
    }
    let expected = |failed| {
        (0..ROWS)
            .filter(move |n| fails(*n) == failed)
            .map(|n| (n, 1))
    };
    assert_eq!(
        rows_in(dir, "result.jsonl"),
        expected(false).collect(),
        "{told}"
    );
    assert_eq!(
        rows_in(dir, "failures.jsonl"),
        expected(true).collect(),
        "{told}"
    );
    for line in lines(dir, "result.jsonl") {
        let n = line["input"]["n"].as_i64().unwrap();
        assert_eq!(line["response"], answer_to(n), "{told}");
    }
    let journal = lines(dir, "journal.jsonl");
    let numbers: Vec<u64> = journal
        .iter()
        .map(|line| line["seq"].as_u64().unwrap())
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{told}: {numbers:?}");
    let mut paid: BTreeMap<&str, u32> = BTreeMap::new();
    for line in &journal {
        *paid.entry(line["row"].as_str().unwrap()).or_default() += 1;
    }
    for line in lines(dir, "result.jsonl") {
        let n = line["input"]["n"].as_i64().unwrap();
        // The row that failed in an earlier command was asked once more.
        let most = 1 + u32::from(needs_two(n)) + u32::from(n == 4);
        let paid = paid[line["id"].as_str().unwrap()];
        assert!(
            paid <= most && paid >= 1,
            "{told}: row {n} was paid for {paid} times"
        );
    }
}

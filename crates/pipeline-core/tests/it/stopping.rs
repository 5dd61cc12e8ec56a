//! Stopping, and being stopped.

use std::num::NonZeroUsize;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation_pipeline_core::{
    Draft, Past, Row, Source, Step, StepContext, StepError, StopHandle, StopKind, Workflow,
};
use futures::future::BoxFuture;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::harness::{Bench, once_each, rows};

fn slow() -> Bench {
    let mut bench = Bench::new();
    bench.ask.latency = Duration::from_secs(10);
    bench
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_waits_for_the_answers_under_way_and_starts_nothing_new() {
    let bench = slow();
    let mut run = bench.run(Source::rows(rows(0..20)));
    let stop = StopHandle::new();
    run.stop = stop.clone();
    let start = Instant::now();
    let (report, ()) = futures::join!(run.execute(), async {
        tokio::time::sleep(Duration::from_secs(13)).await;
        stop.interrupt();
    });
    let report = report.unwrap();
    assert_eq!(start.elapsed().as_secs(), 20);
    assert_eq!(
        (report.counts.ok, report.counts.pending, bench.asked()),
        (8, 12, 8)
    );
    assert_eq!(report.stopped.unwrap().kind, StopKind::Interrupted);
    assert_eq!(bench.lines("result.jsonl").len(), 8);

    let report = bench.make(&rows(0..20)).await.unwrap();
    assert_eq!((report.counts.ok, report.counts.skipped), (12, 8));
    assert_eq!(bench.tally("result.jsonl"), once_each(0..20));
}

/// Looks back for as long as nobody says that it is enough.
struct LooksBack {
    begun: Arc<Notify>,
    enough: Mutex<Receiver<()>>,
}

impl Step for LooksBack {
    fn name(&self) -> &str {
        "looks_back"
    }

    fn run<'a>(
        &'a self,
        _: &'a Row,
        _: &'a mut Draft,
        _: &'a StepContext<'a>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { panic!("it was interrupted before the first row") })
    }

    fn resume(&self, _: &Past<'_>) {
        self.begun.notify_one();
        let enough = self.enough.lock().unwrap();
        let said = enough.recv_timeout(Duration::from_secs(20));
        said.expect("nobody could say it meanwhile");
    }
}

#[tokio::test]
async fn an_interrupt_is_heard_while_a_step_looks_back() {
    let (say, enough) = std::sync::mpsc::channel();
    let bench = Bench::new();
    let mut run = bench.run(Source::rows(rows(0..20)));
    let begun = Arc::new(Notify::new());
    run.workflow = Workflow::new().then(LooksBack {
        begun: Arc::clone(&begun),
        enough: Mutex::new(enough),
    });
    let stop = StopHandle::new();
    run.stop = stop.clone();
    let (report, ()) = futures::join!(run.execute(), async {
        begun.notified().await;
        stop.interrupt();
        say.send(()).unwrap();
    });
    let report = report.unwrap();
    assert_eq!(report.counts.pending, 20);
    assert_eq!(report.stopped.unwrap().kind, StopKind::Interrupted);
}

#[tokio::test(start_paused = true)]
async fn a_limit_cuts_what_is_under_way_and_counts_it() {
    let bench = slow();
    let mut run = bench.run(Source::rows(rows(0..20)));
    let stop = StopHandle::new();
    run.stop = stop.clone();
    let start = Instant::now();
    let (report, ()) = futures::join!(run.execute(), async {
        tokio::time::sleep(Duration::from_secs(13)).await;
        stop.interrupt_within(Duration::from_secs(2));
    });
    let report = report.unwrap();
    assert_eq!(start.elapsed().as_secs(), 15);
    assert_eq!(
        (report.counts.ok, report.counts.pending, report.cut),
        (4, 16, 4)
    );
    assert_eq!(
        bench.lines("result.jsonl").len(),
        4,
        "what was there before is kept"
    );
}

/// What a kill leaves: the future is dropped wherever it is, and nothing of it runs any more.
#[tokio::test]
async fn a_run_that_is_dropped_anywhere_goes_on_without_loss_or_double() {
    let mut bench = Bench::new();
    bench.ask.latency = Duration::from_millis(1);
    let mut seed = 7_u64;
    let mut answers = 0;
    for _ in 0..40 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let polls = seed >> 57;
        let mut run = Box::pin(bench.run(Source::rows(rows(0..200))).execute());
        for _ in 0..polls {
            if futures::poll!(&mut run).is_ready() {
                break;
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        drop(run);
        // A commit may still be on its way in a thread; it is whole or not there.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let journal = bench.lines("journal.jsonl").len();
        assert!(journal >= answers, "no answer is lost");
        answers = journal;
    }
    bench.make(&rows(0..200)).await.unwrap();
    assert_eq!(bench.tally("result.jsonl"), once_each(0..200));
    assert_eq!(
        bench.lines("journal.jsonl").len(),
        200,
        "no answer was paid for twice"
    );
}

#[tokio::test]
async fn two_runs_in_one_folder_are_one_too_many() {
    let bench = slow();
    let first = tokio::spawn(bench.run(Source::rows(rows(0..3))).execute());
    tokio::task::yield_now().await;
    while !bench.path().join("run.json").exists() {
        tokio::task::yield_now().await;
    }
    let error = bench.make(&rows(0..3)).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("(process {}", std::process::id())),
        "{error}"
    );
    first.abort();
}

#[tokio::test]
async fn a_folder_where_nothing_can_be_written_is_found_before_the_first_request() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path().join("journal.jsonl")).unwrap();
    let error = bench.make(&rows(0..3)).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("journal.jsonl is not a regular file"),
        "{error}"
    );
    assert_eq!(bench.asked(), 0);
}

#[tokio::test]
async fn a_file_of_the_run_that_is_no_file_is_refused_and_does_not_hang() {
    for name in ["run.json", "run.lock", "failures.jsonl", ".input.jsonl"] {
        let bench = Bench::new();
        std::fs::create_dir_all(bench.path()).unwrap();
        std::os::unix::net::UnixListener::bind(bench.path().join(name)).unwrap();
        let error = bench.make(&rows(0..3)).await.unwrap_err();
        assert!(
            error.to_string().contains("is not a regular file"),
            "{name}: {error}"
        );
        assert_eq!(bench.asked(), 0);
    }
}

/// Rows with a negative number come through, others fail.
fn failing() -> Bench {
    Bench::behaving(|row, _| match row["n"].as_i64() {
        Some(..0) => Ok("fine".into()),
        n => Err(StepError::Fail {
            class: "bad_request".into(),
            message: format!("status 400, request {}", n.unwrap_or_default()),
            response: None,
        }),
    })
}

#[tokio::test]
async fn a_run_whose_rows_all_fail_alike_stops_early() {
    let bench = failing();
    let mut run = bench.run(Source::rows(rows(0..500)));
    run.options.concurrency = NonZeroUsize::MIN;
    let report = run.execute().await.unwrap();
    let stopped = report.stopped.unwrap();
    assert_eq!(stopped.kind, StopKind::Refused);
    assert!(
        stopped.message.starts_with("all of the first 20 rows"),
        "{stopped}"
    );
    assert_eq!((report.counts.failed, report.counts.pending), (20, 480));
    assert_eq!(bench.asked(), 20);
}

#[tokio::test]
async fn a_run_that_goes_bad_on_the_way_stops_when_half_of_the_last_rows_failed_alike() {
    let bench = failing();
    let mut run = bench.run(Source::rows(rows(-200..500)));
    run.options.concurrency = NonZeroUsize::MIN;
    let report = run.execute().await.unwrap();
    assert_eq!(report.stopped.unwrap().kind, StopKind::Refused);
    assert_eq!((report.counts.ok, report.counts.failed), (200, 50));
}

#[tokio::test]
async fn rows_that_failed_before_are_no_news() {
    let bench = failing();
    let mut run = bench.run(Source::rows(rows(0..60)));
    run.options.stop_on_failures = None;
    let report = run.execute().await.unwrap();
    assert_eq!((report.stopped, report.counts.failed), (None, 60));
    let report = bench.make(&rows(0..60)).await.unwrap();
    assert_eq!((report.stopped, report.counts.failed), (None, 60));
    assert_eq!(bench.asked(), 120);
}

#[tokio::test]
async fn rows_that_cannot_be_asked_break_nothing() {
    let bench = failing();
    let long = (0..60).map(|n| json!({"n": 1, "long": format!("{n:0200}")}));
    let lines: String = long
        .chain(rows(-5..0))
        .map(|row| format!("{row}\n"))
        .collect();
    let path = bench.dir.path().join("rows.jsonl");
    std::fs::write(&path, lines).unwrap();
    let mut run = bench.run(Source::jsonl(path));
    run.options.max_row_bytes = 100;
    let report = run.execute().await.unwrap();
    assert_eq!(report.stopped, None);
    assert_eq!((report.counts.ok, report.counts.failed), (5, 60));
}

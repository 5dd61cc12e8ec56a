//! Where the time of a run went.

use std::time::Duration;

use data_generation_pipeline_core::{
    Draft, Event, Manifest, Place, Row, Run, Source, Span, Step, StepContext, StepError,
    StopHandle, Times, WaitReason, Workflow,
};
use futures::future::{BoxFuture, FutureExt};
use tokio::time::sleep;

use crate::harness::rows;

/// A step that waits `wait` for a pause, is refused, waits as long for its next try, and is answered after five
/// seconds.
struct Waits {
    wait: Duration,
}

impl Step for Waits {
    fn name(&self) -> &str {
        "waits"
    }

    fn run<'a>(
        &'a self,
        _row: &'a Row,
        _draft: &'a mut Draft,
        cx: &'a StepContext<'a>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            let id = cx.row();
            for reason in [WaitReason::Pause, WaitReason::BackOff] {
                cx.event(&Event::Waiting {
                    id,
                    reason,
                    on: "something",
                    at_most: None,
                });
                tokio::select! {
                    () = sleep(self.wait) => {}
                    // As the client does: nobody says that the row waits no longer.
                    () = cx.stopping().cancelled() => return Err(StepError::Stopped),
                }
                cx.event(&Event::WaitEnded { id });
                cx.next_attempt();
                sleep(Duration::from_secs(5)).await;
                cx.answered(Some(200), Duration::from_secs(5));
                cx.event(&Event::Retrying {
                    id,
                    class: "server_error",
                    message: "it is broken",
                    after: self.wait,
                });
            }
            Ok(())
        }
        .boxed()
    }
}

fn run(dir: &tempfile::TempDir, wait: u64, count: i64) -> Run {
    let place = Place {
        output_dir: dir.path().into(),
        experiment_name: "demo".into(),
        need_time_stamp: false,
    };
    let wait = Duration::from_secs(wait);
    let workflow = Workflow::new().then(Waits { wait });
    let mut run = Run::new(place, Source::rows(rows(0..count)), workflow);
    run.options.sync_every = Duration::ZERO;
    run
}

fn kept(dir: &tempfile::TempDir) -> Option<Times> {
    let manifest = Manifest::read(&dir.path().join("demo")).unwrap().unwrap();
    manifest.commands[0].times.clone()
}

fn seconds(wall: u64, sum: u64) -> Span {
    Span {
        wall_ms: wall * 1000,
        sum_ms: sum * 1000,
    }
}

#[tokio::test(start_paused = true)]
async fn waits_are_summed_by_reason_and_rows_that_wait_together_count_once() {
    let dir = tempfile::tempdir().unwrap();
    let report = run(&dir, 10, 2).execute().await.unwrap();
    let said = report.to_string();
    assert!(
        said.contains(
            "\n  waited    10 s (33 % of the time) for the next try after a fault, 2.0 rows at once on average\n"
        ),
        "{said}"
    );
    let times = report.times;
    assert_eq!(times.waiting[&WaitReason::Pause], seconds(10, 20));
    assert_eq!(times.waiting[&WaitReason::BackOff], seconds(10, 20));
    assert_eq!(times.waiting.len(), 2);
    assert_eq!(times.asking, seconds(10, 20));
    // The last time that a row was told that it is asked again it was not.
    assert_eq!(times.asked_again["server_error"], 2);
    assert_eq!(kept(&dir), Some(times));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_a_stop_ends_waits_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = run(&dir, 100, 3);
    let stop = StopHandle::new();
    run.stop = stop.clone();
    let (report, ()) = futures::join!(run.execute(), async {
        sleep(Duration::from_secs(13)).await;
        stop.interrupt();
    });
    let times = report.unwrap().times;
    assert_eq!(times.waiting[&WaitReason::Pause], seconds(13, 39));
    assert_eq!(
        (times.asking, times.asked_again.len()),
        (Span::default(), 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_killed_leaves_what_it_knew_at_its_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut working = Box::pin(run(&dir, 100, 3).execute());
        tokio::select! {
            _ = &mut working => unreachable!("it waits for minutes"),
            () = sleep(Duration::from_secs(40)) => {}
        }
    }
    let times = kept(&dir).unwrap();
    assert_eq!(times.waiting[&WaitReason::Pause], seconds(30, 90));
}

//! Making a dataset: which line goes where, and what a bad row costs.

use data_generation_pipeline_core::{
    Check, Counts, Draft, ErrorKind, Event, Row, Source, Step, StepContext, StepError, Workflow,
};
use futures::future::BoxFuture;
use serde_json::json;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::{Bench, Extract, fails, once_each, rows};

#[tokio::test]
async fn every_row_becomes_one_line_that_carries_the_row() {
    let bench = Bench::new();
    let report = bench
        .make(&[
            json!({"topic": "人工智能", "extra": [1.5, null]}),
            json!({}),
        ])
        .await
        .unwrap();
    assert!(report.is_complete());
    assert_eq!(
        report.counts,
        Counts {
            rows: 2,
            ok: 2,
            ..Counts::default()
        }
    );
    assert_eq!(
        (
            report.requests,
            report.retries,
            report.prompt_tokens,
            report.completion_tokens
        ),
        (2, 0, 4, 6)
    );
    let lines = bench.lines("result.jsonl");
    let line = lines.iter().find(|line| line["index"] == 0).unwrap();
    assert_eq!(
        line["input"],
        json!({"topic": "人工智能", "extra": [1.5, null]})
    );
    assert_eq!(
        line["response"],
        r#"answer to {"topic":"人工智能","extra":[1.5,null]}"#
    );
    assert!(line.get("extracted").is_none());
    assert_eq!(line["attempts"], 1);
    assert_eq!(bench.lines("journal.jsonl").len(), 2);
    assert!(bench.lines("failures.jsonl").is_empty());
}

#[tokio::test]
async fn an_answer_is_in_the_journal_before_anything_is_made_of_it() {
    let bench = Bench::new();
    bench.make(&rows(0..50)).await.unwrap();
    let seen = bench.ask.journal_seen.lock().unwrap();
    assert_eq!(seen.len(), 50);
    assert!(seen.iter().all(|seen| *seen));
}

#[tokio::test]
async fn a_bad_row_touches_exactly_one_row() {
    let bench = Bench::behaving(|row, _| {
        if row["n"] == 3 {
            Err(fails("odd"))
        } else {
            Ok("fine".into())
        }
    });
    let report = bench.make(&rows(0..10)).await.unwrap();
    assert_eq!(
        report.counts,
        Counts {
            rows: 10,
            ok: 9,
            failed: 1,
            ..Counts::default()
        }
    );
    assert_eq!(report.failures, [("odd".to_owned(), 1)]);
    let failures = bench.lines("failures.jsonl");
    assert_eq!(failures.len(), 1);
    assert_eq!(
        failures[0]["error"],
        json!({"class": "odd", "message": "it does not work"})
    );
    assert_eq!(failures[0]["response"], "raw");
    assert_eq!(failures[0]["input"], json!({"n": 3}));
}

#[tokio::test]
async fn a_step_that_panics_fails_its_row_alone() {
    let bench = Bench::behaving(|row, _| {
        if row["n"] == 1 {
            panic!("at the disco")
        } else {
            Ok("fine".into())
        }
    });
    let report = bench.make(&rows(0..3)).await.unwrap();
    assert_eq!((report.counts.ok, report.counts.failed), (2, 1));
    let failures = bench.lines("failures.jsonl");
    assert_eq!(
        failures[0]["error"]["message"],
        "the step `ask` panicked: at the disco"
    );
}

#[tokio::test]
async fn an_answer_that_the_next_step_refuses_is_asked_for_once_more_and_then_kept_with_its_failure()
 {
    let bench = Bench::behaving(|row, attempt| {
        Ok(if row["n"] == 0 || attempt > 1 && row["n"] == 1 {
            "good".into()
        } else {
            "bad".into()
        })
    });
    let mut run = bench.run(Source::rows(rows(0..3)));
    run.workflow = run.workflow.then(Extract("go"));
    let report = run.execute().await.unwrap();
    assert_eq!(
        (
            report.counts.ok,
            report.counts.failed,
            report.requests,
            report.retries
        ),
        (2, 1, 5, 2)
    );
    let lines = bench.lines("result.jsonl");
    assert_eq!(
        lines
            .iter()
            .map(|line| line["attempts"].as_u64().unwrap())
            .max(),
        Some(2)
    );
    assert!(lines.iter().all(|line| line["extracted"] == "od"));
    let failure = &bench.lines("failures.jsonl")[0];
    assert_eq!(
        (&failure["response"], &failure["attempts"]),
        (&json!("bad"), &json!(2))
    );
    assert_eq!(failure["answers"].as_array().unwrap().len(), 2);

    let mut run = bench.run(Source::rows([json!({"n": 5})]));
    run.workflow = Workflow::new()
        .then(bench.ask.clone())
        .then(Extract("go"))
        .again_at_most(0);
    run.options.add = true;
    bench.asked();
    run.execute().await.unwrap();
    assert_eq!(bench.asked(), 1);
}

#[tokio::test]
async fn nothing_is_asked_while_a_row_does_not_fit_and_it_fails_alone_where_that_is_wanted() {
    struct WantsN;
    impl Check for WantsN {
        fn check(&mut self, row: &str) -> Vec<String> {
            if row.contains("\"n\"") {
                Vec::new()
            } else {
                vec!["`{{n}}` is missing".into()]
            }
        }
    }
    let bench = Bench::new();
    let input = [json!({"n": 0}), json!({"m": 1}), json!({"n": 2})];
    let mut run = bench.run(Source::rows(&input));
    run.check = Box::new(WantsN);
    let error = run.execute().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Input(problems) if problems.total == 1));
    assert_eq!(
        error.to_string(),
        "1 problem in 1 row of the input; no request was sent\n  rows:2: `{{n}}` is missing"
    );
    assert_eq!(bench.asked(), 0);
    assert!(
        !bench.path().exists(),
        "nothing came of it, so nothing is left"
    );

    let mut run = bench.run(Source::rows(&input));
    run.check = Box::new(WantsN);
    run.options.skip_invalid = true;
    let report = run.execute().await.unwrap();
    assert_eq!((report.counts.ok, report.counts.failed), (2, 1));
    assert_eq!(
        bench.lines("failures.jsonl")[0]["error"]["class"],
        "invalid_row"
    );

    let bench = Bench::new();
    let mut run = bench.run(Source::iter(input.clone()));
    run.check = Box::new(WantsN);
    let report = run.execute().await.unwrap();
    assert_eq!(
        (report.counts.ok, report.counts.failed, bench.asked()),
        (2, 1, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_rows_are_at_work_than_there_are_places() {
    let mut bench = Bench::new();
    bench.ask.latency = Duration::from_millis(100);
    let open = Arc::new(Mutex::new((0_i32, 0_i32)));
    let seen = Arc::clone(&open);
    let mut run = bench.run(Source::rows(rows(0..40)));
    run.observers.push(Arc::new(move |event: &Event<'_>| {
        let mut open = seen.lock().unwrap();
        match event {
            Event::RowStarted { .. } => open.0 += 1,
            Event::Finished { .. } => open.0 -= 1,
            _ => {}
        }
        open.1 = open.1.max(open.0);
    }));
    let report = run.execute().await.unwrap();
    assert_eq!(open.lock().unwrap().1, 4);
    assert_eq!(report.counts.ok, 40);
}

#[tokio::test]
async fn large_rows_leave_room_for_one_another() {
    let bench = Bench::new();
    let input: Vec<_> = (0..8)
        .map(|n| json!({"n": n, "text": "x".repeat(1000)}))
        .collect();
    let open = Arc::new(Mutex::new((0_i32, 0_i32)));
    let seen = Arc::clone(&open);
    let mut run = bench.run(Source::rows(input));
    run.options.bytes_in_flight = 1500;
    run.observers.push(Arc::new(move |event: &Event<'_>| {
        let mut open = seen.lock().unwrap();
        match event {
            Event::RowStarted { .. } => open.0 += 1,
            Event::Finished { .. } => open.0 -= 1,
            _ => {}
        }
        open.1 = open.1.max(open.0);
    }));
    assert_eq!(run.execute().await.unwrap().counts.ok, 8);
    assert!(open.lock().unwrap().1 <= 2, "{open:?}");
}

#[tokio::test]
async fn batches_tell_what_became_durable_and_add_up() {
    let bench = Bench::behaving(|row, _| {
        if row["n"] == 3 {
            Err(fails("odd"))
        } else {
            Ok("fine".into())
        }
    });
    let told = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let hear = Arc::clone(&told);
    let mut run = bench.run(Source::rows(rows(0..10)));
    run.observers.push(Arc::new(move |event: &Event<'_>| {
        if let Event::Committed(batch) = event {
            let mut told = hear.lock().unwrap();
            told.0.extend(batch.records().map(|record| record.index));
            told.1.extend(batch.failures().map(|failure| failure.index));
        }
    }));
    run.execute().await.unwrap();
    let mut told = told.lock().unwrap();
    told.0.sort_unstable();
    assert_eq!(told.0, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    assert_eq!(told.1, [3]);
}

#[tokio::test]
async fn an_empty_input_makes_an_empty_dataset_and_says_so() {
    let bench = Bench::new();
    let warned = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&warned);
    let mut run = bench.run(Source::rows(rows(0..0)));
    run.observers.push(Arc::new(move |event: &Event<'_>| {
        if let Event::Warning { message } = event {
            hear.lock().unwrap().push(message.to_string());
        }
    }));
    assert_eq!(run.execute().await.unwrap().counts, Counts::default());
    assert_eq!(*warned.lock().unwrap(), ["rows has no rows"]);
}

#[tokio::test]
async fn a_limit_takes_the_first_rows_done_or_not() {
    let bench = Bench::new();
    let limited = |n| {
        let mut run = bench.run(Source::rows(rows(0..20)));
        run.options.limit = Some(n);
        run
    };
    let report = limited(5).execute().await.unwrap();
    assert_eq!(
        report.counts,
        Counts {
            rows: 5,
            ok: 5,
            ..Counts::default()
        }
    );
    let report = limited(8).execute().await.unwrap();
    assert_eq!(
        report.counts,
        Counts {
            rows: 8,
            ok: 3,
            skipped: 5,
            ..Counts::default()
        }
    );
    let report = limited(2).execute().await.unwrap();
    assert_eq!(
        (report.counts, report.not_in_input),
        (
            Counts {
                rows: 2,
                skipped: 2,
                ..Counts::default()
            },
            0
        )
    );
    assert_eq!(bench.tally("result.jsonl"), once_each(0..8));
}

#[tokio::test]
async fn a_stop_that_a_step_asks_for_leaves_the_rest_pending() {
    let bench = Bench::behaving(|row, _| {
        if row["n"] == 2 {
            Err(StepError::Stop {
                kind: data_generation_pipeline_core::StopKind::Refused,
                message: "the key is wrong".into(),
            })
        } else {
            Ok("fine".into())
        }
    });
    let report = bench.make(&rows(0..100)).await.unwrap();
    let counts = report.counts;
    assert_eq!(
        counts.rows,
        counts.ok + counts.failed + counts.skipped + counts.pending
    );
    assert_eq!(report.stopped.unwrap().message, "the key is wrong");
    assert!(counts.pending >= 90 && counts.failed == 0, "{counts:?}");
}

/// Wants two rows at work, after ten rows six, after twenty three.
#[derive(Clone, Default)]
struct Wants {
    begun: Arc<AtomicUsize>,
    /// Rows at work now, and how many there were when each began.
    at_work: Arc<Mutex<(usize, Vec<usize>)>>,
}

impl Step for Wants {
    fn name(&self) -> &str {
        "wants"
    }

    fn places(&self) -> Option<usize> {
        Some(match self.begun.load(Ordering::Relaxed) {
            ..10 => 2,
            10..20 => 6,
            _ => 3,
        })
    }

    fn run<'a>(
        &'a self,
        _: &'a Row,
        _: &'a mut Draft,
        _: &'a StepContext<'a>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            {
                let (now, each) = &mut *self.at_work.lock().unwrap();
                *now += 1;
                each.push(*now);
            }
            self.begun.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.at_work.lock().unwrap().0 -= 1;
            Ok(())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_says_how_many_rows_are_worth_being_at_work() {
    for (most, expected) in [(100, [2, 6, 3]), (4, [2, 4, 3])] {
        let (bench, wants) = (Bench::new(), Wants::default());
        let mut run = bench.run(Source::rows(rows(0..40)));
        run.workflow = Workflow::new().then(wants.clone());
        run.options.concurrency = NonZeroUsize::new(most).unwrap();
        let told: Arc<Mutex<Vec<usize>>> = Arc::default();
        run.observers.push(Arc::new({
            let told = Arc::clone(&told);
            move |event: &Event<'_>| {
                if let Event::Places { places } = event {
                    told.lock().unwrap().push(*places);
                }
            }
        }));
        assert!(run.execute().await.unwrap().is_complete());
        assert_eq!(*told.lock().unwrap(), expected);
        let seen = wants.at_work.lock().unwrap();
        // Those who are at work when less is wanted go on.
        for (rows, places) in [0..10, 10..20, 26..40].into_iter().zip(expected) {
            let most = seen.1[rows].iter().max();
            assert_eq!(most, Some(&places), "{:?}", seen.1);
        }
    }
}

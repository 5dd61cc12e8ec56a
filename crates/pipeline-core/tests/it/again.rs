//! Running again: what is kept, what is asked, what is refused.

use data_generation_pipeline_core::{Counts, ErrorKind, Source, Start};
use serde_json::{Value, json};
use std::path::Path;

use crate::harness::{Bench, fails, once_each, rows};

#[tokio::test]
async fn the_same_command_asks_nothing_and_changes_no_byte() {
    let bench = Bench::new();
    bench.make(&rows(0..20)).await.unwrap();
    let before = std::fs::read(bench.path().join("result.jsonl")).unwrap();
    bench.asked();
    let report = bench.make(&rows(0..20)).await.unwrap();
    assert_eq!(
        report.counts,
        Counts {
            rows: 20,
            skipped: 20,
            ..Counts::default()
        }
    );
    assert_eq!(bench.asked(), 0);
    assert_eq!(
        std::fs::read(bench.path().join("result.jsonl")).unwrap(),
        before
    );
}

#[tokio::test]
async fn asks_only_the_rows_that_were_added_whatever_the_order() {
    let bench = Bench::new();
    bench.make(&rows(0..20)).await.unwrap();
    bench.asked();
    let mut more = rows(-10..20);
    more.reverse();
    let report = bench.make(&more).await.unwrap();
    assert_eq!(
        (bench.asked(), report.counts.ok, report.counts.skipped),
        (10, 10, 20)
    );
    assert_eq!(bench.tally("result.jsonl"), once_each(-10..20));
}

#[tokio::test]
async fn of_equal_rows_as_many_are_asked_as_are_missing() {
    let bench = Bench::behaving(|row, _| {
        if row["n"] == 7 {
            Err(fails("odd"))
        } else {
            Ok("fine".into())
        }
    });
    let equal = |n: usize| vec![json!({"n": 1}); n];
    bench.make(&equal(3)).await.unwrap();
    assert_eq!(bench.asked(), 3);
    let ids: std::collections::HashSet<String> = bench
        .lines("result.jsonl")
        .iter()
        .map(|line| line["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 3);
    let report = bench.make(&equal(5)).await.unwrap();
    assert_eq!((bench.asked(), report.counts.skipped), (2, 3));
    let report = bench.make(&equal(2)).await.unwrap();
    assert_eq!(
        (bench.asked(), report.counts.skipped, report.not_in_input),
        (0, 2, 3)
    );
}

#[tokio::test]
async fn an_equal_row_may_stand_for_one_with_a_higher_number() {
    let bench = Bench::new();
    bench.make(&vec![json!({"n": 1}); 3]).await.unwrap();
    // Only the third of the equal rows is left.
    let path = bench.path().join("result.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let third = text
        .lines()
        .find(|line| line.contains("\"index\":2,"))
        .unwrap();
    std::fs::write(&path, format!("{third}\n")).unwrap();
    std::fs::remove_file(bench.path().join("journal.jsonl")).unwrap();
    bench.asked();
    let report = bench.make(&[json!({"n": 1})]).await.unwrap();
    assert_eq!(
        (bench.asked(), report.counts.skipped, report.not_in_input),
        (0, 1, 0)
    );
    let report = bench.make(&vec![json!({"n": 1}); 3]).await.unwrap();
    assert_eq!(
        (bench.asked(), report.counts.ok, report.counts.skipped),
        (2, 2, 1)
    );
}

#[tokio::test]
async fn failed_rows_are_asked_anew_and_leave_the_failures_when_they_come_through() {
    let bench = Bench::behaving(|row, _| {
        if row["n"].as_i64().unwrap() < 3 {
            Err(fails("odd"))
        } else {
            Ok("fine".into())
        }
    });
    bench.make(&rows(0..10)).await.unwrap();
    assert_eq!(bench.tally("failures.jsonl"), once_each(0..3));
    let better = Bench {
        dir: bench.dir,
        ..Bench::behaving(|row, _| {
            if row["n"] == 0 {
                Err(fails("odd"))
            } else {
                Ok("fine".into())
            }
        })
    };
    let report = better.make(&rows(0..10)).await.unwrap();
    assert_eq!(
        (
            better.asked(),
            report.counts.ok,
            report.counts.failed,
            report.counts.skipped
        ),
        (3, 2, 1, 7)
    );
    assert_eq!(better.tally("failures.jsonl"), once_each(0..1));
    assert_eq!(better.tally("result.jsonl"), once_each(1..10));
}

#[tokio::test]
async fn answers_that_were_judged_are_not_judged_again() {
    use crate::harness::Extract;
    let bench = Bench::behaving(|_, _| Ok("bad".into()));
    for commands in 1..=3 {
        let mut run = bench.run(Source::rows(rows(0..1)));
        run.workflow = run.workflow.then(Extract("good"));
        let report = run.execute().await.unwrap();
        assert_eq!((bench.asked(), report.counts.failed), (2, 1));
        let failures = bench.lines("failures.jsonl");
        assert_eq!(failures.len(), 1);
        assert_eq!(
            failures[0]["answers"].as_array().unwrap().len(),
            2 * commands,
            "all that were ever judged"
        );
    }
}

#[tokio::test]
async fn an_answer_that_was_paid_for_but_not_judged_is_judged_first_without_a_request() {
    let bench = Bench::new();
    bench.make(&rows(0..10)).await.unwrap();
    std::fs::remove_file(bench.path().join("result.jsonl")).unwrap();
    bench.asked();
    let report = bench.make(&rows(0..10)).await.unwrap();
    assert_eq!(
        (bench.asked(), report.counts.ok, report.requests),
        (0, 10, 0)
    );
    assert_eq!(bench.tally("result.jsonl"), once_each(0..10));
    assert_eq!(
        bench.lines("journal.jsonl").len(),
        10,
        "nothing was paid for twice"
    );
}

#[tokio::test]
async fn requests_are_counted_on_from_the_answers_that_were_replayed() {
    use crate::harness::Extract;
    let bench = Bench::behaving(|_, attempt| {
        Ok(if attempt > 1 {
            "good".into()
        } else {
            "bad".into()
        })
    });
    bench.make(&rows(0..1)).await.unwrap();
    std::fs::remove_file(bench.path().join("result.jsonl")).unwrap();
    let mut run = bench.run(Source::rows(rows(0..1)));
    run.workflow = run.workflow.then(Extract("go"));
    let report = run.execute().await.unwrap();
    assert_eq!(
        (report.counts.ok, report.requests, report.retries),
        (1, 1, 1)
    );
    assert_eq!(bench.lines("result.jsonl")[0]["attempts"], 2);
    let attempts: Vec<_> = bench
        .lines("journal.jsonl")
        .iter()
        .map(|line| line["attempt"].clone())
        .collect();
    assert_eq!(attempts, [1, 2]);
}

#[tokio::test]
async fn equal_rows_are_known_to_be_there_before_the_first_request() {
    let bench = Bench::behaving(|_, _| {
        Err(data_generation_pipeline_core::StepError::Stop {
            kind: data_generation_pipeline_core::StopKind::Refused,
            message: "no".into(),
        })
    });
    bench.make(&vec![json!({"n": 1}); 2]).await.unwrap();
    let text = std::fs::read_to_string(bench.path().join("run.json")).unwrap();
    assert!(text.contains("\"equal_rows\": true"));
}

#[tokio::test]
async fn answers_of_which_nobody_knows_what_they_are_of_are_left_alone() {
    let bench = Bench::new();
    bench.make(&rows(0..3)).await.unwrap();
    std::fs::remove_file(bench.path().join("run.json")).unwrap();
    bench.asked();
    let error = bench.make(&rows(0..4)).await.unwrap_err();
    assert!(
        error.to_string().contains("holds answers but no run.json"),
        "{error}"
    );
    assert_eq!(bench.asked(), 0);
    let mut run = bench.run(Source::rows(rows(0..4)));
    run.start.new = true;
    run.execute().await.unwrap();
    assert_eq!(bench.asked(), 4);
    assert_eq!(
        std::fs::read_dir(bench.dir.path()).unwrap().count(),
        2,
        "what was there is kept beside"
    );
}

/// Files cut all over their last three lines, and at each byte about the ends of lines: whatever a kill
/// leaves, the next run is whole.
#[tokio::test]
async fn a_folder_cut_at_any_byte_is_made_whole_again() {
    let bench = Bench::new();
    bench.make(&rows(0..6)).await.unwrap();
    let files = ["result.jsonl", "journal.jsonl"];
    let whole: Vec<Vec<u8>> = files
        .iter()
        .map(|file| std::fs::read(bench.path().join(file)).unwrap())
        .collect();
    for (cut_file, text) in files.iter().zip(&whole) {
        let third_last = text
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .map(|(at, _)| at + 1)
            .rev()
            .nth(3)
            .unwrap();
        let near_an_end =
            |at: usize| text[at.saturating_sub(2)..(at + 2).min(text.len())].contains(&b'\n');
        for cut in (third_last..text.len()).filter(|at| at % 29 == 0 || near_an_end(*at)) {
            for (file, text) in files.iter().zip(&whole) {
                std::fs::write(bench.path().join(file), text).unwrap();
            }
            std::fs::write(bench.path().join(cut_file), &text[..cut]).unwrap();
            bench.asked();
            let report = bench.make(&rows(0..6)).await.unwrap();
            assert_eq!(
                bench.asked(),
                0,
                "every row is finished or its answer is there"
            );
            assert_eq!(report.counts.ok + report.counts.skipped, 6);
            assert_eq!(
                bench.tally("result.jsonl"),
                once_each(0..6),
                "{cut_file} cut at {cut}"
            );
            bench.lines("journal.jsonl");
        }
    }
}

#[tokio::test]
async fn another_dataset_is_refused_with_what_changed_unless_nothing_was_paid_for() {
    let mut bench = Bench::new();
    bench.make(&rows(0..3)).await.unwrap();
    bench.ask.prompt = "another".into();
    bench.asked();
    let error = bench.make(&rows(0..3)).await.unwrap_err();
    let ErrorKind::Changed { changes, .. } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(changes[0].to_string(), "prompt: \"prompt\" -> \"another\"");
    assert_eq!(error.run_dir(), Some(bench.path().as_path()));
    assert_eq!(bench.asked(), 0);

    let mut bench = Bench::behaving(|_, _| Err(fails("odd")));
    bench.make(&rows(0..3)).await.unwrap();
    bench.ask.prompt = "another".into();
    bench.make(&rows(0..3)).await.unwrap();
}

#[tokio::test]
async fn an_input_that_has_nothing_of_the_run_is_refused_unless_it_is_to_be_added() {
    let bench = Bench::new();
    bench.make(&rows(0..3)).await.unwrap();
    bench.asked();
    let error = bench.make(&rows(10..13)).await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::OtherInput {
                finished: 3,
                rows: 3,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(bench.asked(), 0);
    let mut run = bench.run(Source::rows(rows(10..13)));
    run.options.add = true;
    let report = run.execute().await.unwrap();
    assert_eq!((report.counts.ok, report.not_in_input), (3, 3));
    let report = bench.make(&rows(2..4)).await.unwrap();
    assert_eq!(
        (report.counts.ok, report.counts.skipped, report.not_in_input),
        (1, 1, 5)
    );
}

#[tokio::test]
async fn an_input_without_a_row_does_not_end_a_run_that_has_some() {
    // Of the one run rows are finished, of the other none is.
    for behaves in [true, false] {
        let bench = Bench::behaving(move |_, _| match behaves {
            true => Ok("fine".into()),
            false => Err(fails("odd")),
        });
        bench.make(&rows(0..3)).await.unwrap();
        bench.asked();
        let manifest = std::fs::read(bench.path().join("run.json")).unwrap();
        let error = bench.make(&rows(0..0)).await.unwrap_err();
        let is_finished = if behaves { 3 } else { 0 };
        assert!(
            matches!(error.kind(), ErrorKind::OtherInput { finished, rows: 0, .. } if *finished == is_finished),
            "{error}"
        );
        assert_eq!(bench.asked(), 0);
        assert_eq!(
            std::fs::read(bench.path().join("run.json")).unwrap(),
            manifest
        );
        let mut run = bench.run(Source::rows(rows(0..0)));
        run.options.add = true;
        assert_eq!(run.execute().await.unwrap().not_in_input, is_finished);
    }
    // Where there never was a row there is none to lose.
    let bench = Bench::new();
    for _ in 0..2 {
        bench.make(&rows(0..0)).await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_goes_on_as_a_file_does() {
    let bench = Bench::new();
    bench.run(Source::iter(rows(0..5))).execute().await.unwrap();
    bench.asked();
    let report = bench.run(Source::iter(rows(2..8))).execute().await.unwrap();
    assert_eq!(
        (
            bench.asked(),
            report.counts.rows,
            report.counts.skipped,
            report.not_in_input
        ),
        (3, 6, 3, 2)
    );
    assert_eq!(bench.tally("result.jsonl"), once_each(0..8));
}

#[tokio::test]
async fn beginning_afresh_keeps_the_old_folder_beside() {
    let bench = Bench::new();
    bench.make(&rows(0..3)).await.unwrap();
    bench.asked();
    let mut run = bench.run(Source::rows(rows(0..3)));
    run.start = Start {
        new: true,
        ..Start::default()
    };
    run.execute().await.unwrap();
    assert_eq!(bench.asked(), 3);
    assert_eq!(std::fs::read_dir(bench.dir.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn the_manifest_tells_every_command_and_holds_the_latest_counts() {
    let bench = Bench::new();
    bench.make(&rows(0..3)).await.unwrap();
    bench.make(&rows(0..5)).await.unwrap();
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(bench.path().join("run.json")).unwrap()).unwrap();
    assert_eq!(manifest["commands"].as_array().unwrap().len(), 2);
    assert_eq!(manifest["commands"][0]["counts"]["ok"], 3);
    assert_eq!(
        manifest["counts"],
        json!({"rows": 5, "ok": 2, "failed": 0, "skipped": 3, "pending": 0})
    );
    assert_eq!(manifest["input"]["rows"], 5);
    assert!(manifest["ended"].is_string());
    assert_eq!(
        names(&bench.path()),
        [
            "failures.jsonl",
            "journal.jsonl",
            "result.jsonl",
            "run.json",
            "run.lock"
        ]
    );
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

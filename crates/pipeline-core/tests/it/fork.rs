//! Forking: a new run that keeps the answers whose call is unchanged.

use data_generation_pipeline_core::{Source, Start};
use serde_json::Value;

use crate::harness::{Bench, Extract, read_lines, rows};

fn forked(bench: &Bench, extract: Option<&'static str>) -> data_generation_pipeline_core::Run {
    let mut run = bench.run(Source::rows(rows(0..6)));
    run.start = Start {
        fork: Some("copy".into()),
        ..Start::default()
    };
    if let Some(word) = extract {
        run.dataset.insert("extract".into(), Value::from(word));
        run.workflow = run.workflow.then(Extract(word));
    }
    run
}

#[tokio::test]
async fn another_extractor_needs_no_request_and_leaves_the_source_untouched() {
    let bench = Bench::new();
    bench.make(&rows(0..8)).await.unwrap();
    let before = std::fs::read(bench.path().join("journal.jsonl")).unwrap();
    bench.asked();
    let report = forked(&bench, Some("answer")).execute().await.unwrap();
    assert_eq!((bench.asked(), report.counts.ok), (0, 6));
    assert_eq!(report.run_dir, bench.dir.path().join("copy"));
    assert_eq!(
        read_lines(&report.run_dir.join("journal.jsonl")).len(),
        8,
        "all answers are kept"
    );
    assert_eq!(
        std::fs::read(bench.path().join("journal.jsonl")).unwrap(),
        before
    );
    // The same command goes on with the copy.
    let report = forked(&bench, Some("answer")).execute().await.unwrap();
    assert_eq!((bench.asked(), report.counts.skipped), (0, 6));
}

#[tokio::test]
async fn another_prompt_keeps_nothing() {
    let mut bench = Bench::new();
    bench.make(&rows(0..6)).await.unwrap();
    bench.ask.prompt = "another".into();
    bench.asked();
    let report = forked(&bench, None).execute().await.unwrap();
    assert_eq!((bench.asked(), report.counts.ok), (6, 6));
    assert_eq!(read_lines(&report.run_dir.join("journal.jsonl")).len(), 6);
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(report.run_dir.join("run.json")).unwrap()).unwrap();
    assert_eq!(manifest["forked_from"], bench.path().to_str().unwrap());
}

#[tokio::test]
async fn a_setting_outside_the_request_keeps_what_the_input_still_asks() {
    let bench = Bench::new();
    bench.make(&rows(0..8)).await.unwrap();
    bench.asked();
    let mut run = forked(&bench, None);
    run.dataset.insert("note".into(), Value::from("changed"));
    let report = run.execute().await.unwrap();
    assert_eq!((bench.asked(), report.counts.ok), (0, 6));
    assert_eq!(read_lines(&report.run_dir.join("journal.jsonl")).len(), 6);
}

#[tokio::test]
async fn a_source_with_a_torn_last_line_is_copied_up_to_it() {
    let bench = Bench::new();
    bench.make(&rows(0..6)).await.unwrap();
    let path = bench.path().join("journal.jsonl");
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 20]).unwrap();
    bench.asked();
    forked(&bench, Some("answer")).execute().await.unwrap();
    assert_eq!(bench.asked(), 1);
}

#[tokio::test]
async fn a_fork_that_was_killed_before_it_had_its_manifest_is_made_again() {
    let bench = Bench::new();
    bench.make(&rows(0..6)).await.unwrap();
    let report = forked(&bench, Some("answer")).execute().await.unwrap();
    for name in ["run.json", "result.jsonl"] {
        std::fs::remove_file(report.run_dir.join(name)).unwrap();
    }
    bench.asked();
    let report = forked(&bench, Some("answer")).execute().await.unwrap();
    assert_eq!((bench.asked(), report.counts.ok), (0, 6));

    // An answer that the source does not have was paid for here.
    std::fs::remove_file(report.run_dir.join("run.json")).unwrap();
    std::fs::remove_file(report.run_dir.join("result.jsonl")).unwrap();
    let journal = report.run_dir.join("journal.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    let other = text.replacen("answer to", "another to", 1);
    std::fs::write(&journal, &other).unwrap();
    let refused = forked(&bench, Some("answer")).execute().await.unwrap_err();
    assert!(refused.to_string().contains("but no run.json"), "{refused}");
    assert_eq!(std::fs::read_to_string(&journal).unwrap(), other);
}

#[tokio::test]
async fn forking_from_nothing_is_refused() {
    let bench = Bench::new();
    let error = forked(&bench, None).execute().await.unwrap_err();
    assert!(
        error.to_string().contains("there is no run to go on with"),
        "{error}"
    );
    assert!(!bench.dir.path().join("copy").exists());
}

#[tokio::test]
async fn all_answers_that_were_paid_for_are_tried_before_the_re_ask_is_spent() {
    let bench = Bench::behaving(|_, attempt| {
        Ok(format!(
            "{} {attempt}",
            if attempt == 3 { "good" } else { "bad" }
        ))
    });
    let command = |word| {
        let mut run = bench.run(Source::rows(rows(0..1)));
        run.workflow = run.workflow.again_at_most(2).then(Extract(word));
        run
    };
    assert_eq!(command("good").execute().await.unwrap().requests, 3);
    bench.asked();
    let mut run = bench.run(Source::rows(rows(0..1)));
    run.start.fork = Some("copy".into());
    run.dataset.insert("extract".into(), Value::from("another"));
    run.workflow = run.workflow.again_at_most(0).then(Extract("go"));
    let report = run.execute().await.unwrap();
    assert_eq!((bench.asked(), report.counts.ok), (0, 1));
}

#[tokio::test]
async fn a_fork_under_the_run_s_own_name_is_refused() {
    let bench = Bench::new();
    bench.make(&rows(0..6)).await.unwrap();
    let mut run = forked(&bench, None);
    run.start.fork = Some("demo".into());
    let error = run.execute().await.unwrap_err();
    assert!(
        error.to_string().contains("cannot have the same name"),
        "{error}"
    );
}

//! Running: own parts, rows of any kind, records as a stream.

use data_generation::extract::{Extract, from_fn, json, regex, tag};
use data_generation::{DataGenerationPipeline, Error, Resume, Row, Source, StopHandle, pipeline};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::harness::{Home, Says, words};

#[tokio::test]
async fn a_row_of_kwargs_reaches_both_prompts() {
    let home = Home::new();
    let says =
        Says::new(|user, _| data_generation::llm::Answer::text(&format!("<draft>{user}</draft>")));
    let pipeline = home
        .builder()
        .system_prompt(Some("Be {{tone}}."))
        .own_model(says)
        .build()
        .unwrap();
    let rows = [Row::new().user("word", "yes").system("tone", "brief")];
    let report = pipeline
        .run(rows)
        .extractor(DataGenerationPipeline::make_default_extractor("draft"))
        .await
        .unwrap();
    assert!(report.is_complete() && !report.offline);
    let line = &home.lines("result.jsonl")[0];
    assert_eq!(line["extracted"], json!(["Say yes."]));
    assert_eq!(line["model"], "test-1");
    assert!(line.get("offline").is_none());
}

#[tokio::test]
async fn what_the_offline_model_says_fits_every_extractor_and_says_that_it_is_offline() {
    let extractors: Vec<Box<dyn Extract>> = vec![
        Box::new(tag("draft")),
        Box::new(tag("answer").first()),
        Box::new(json()),
        Box::new(regex(r"Answer: (?<n>\d+)").unwrap()),
    ];
    for extractor in extractors {
        let home = Home::new();
        let pipeline = home.builder().offline().build().unwrap();
        let report = pipeline
            .run(words(&["a", "b"]))
            .extractor(extractor)
            .await
            .unwrap();
        assert!(report.is_complete() && report.offline, "{report}");
        for line in home.lines("result.jsonl") {
            assert_eq!(
                (&line["model"], &line["offline"]),
                (&json!("offline"), &json!(true))
            );
        }
    }
    let home = Home::new();
    let pipeline = home
        .builder()
        .offline()
        .set("offline.reply", "{{model}}: {{user}}{{system}}")
        .build()
        .unwrap();
    pipeline.run(words(&["a"])).await.unwrap();
    assert_eq!(
        home.lines("result.jsonl")[0]["response"],
        "gpt-4o-2024-11-20: Say a."
    );
}

#[tokio::test]
async fn a_function_of_one_s_own_takes_the_value_and_its_name_stands_for_it() {
    let home = Home::new();
    let says = Says::new(|_, attempt| {
        data_generation::llm::Answer::text(if attempt == 1 { "no number" } else { "42" })
    });
    let pipeline = home.builder().own_model(says.clone()).build().unwrap();
    let number = || from_fn("number", |text: &str| text.parse::<u64>().map(Value::from));
    let report = pipeline
        .run(words(&["a"]))
        .extractor(number())
        .await
        .unwrap();
    assert_eq!(
        (report.counts.ok, report.requests, says.asked()),
        (1, 2, 2),
        "asked once more after the miss"
    );
    assert_eq!(home.lines("result.jsonl")[0]["extracted"], 42);
    let error = pipeline
        .run(words(&["a"]))
        .extractor(from_fn("other", |text: &str| {
            text.parse::<u64>().map(Value::from)
        }))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("extract: \"number\" -> \"other\""),
        "{error}"
    );
}

#[tokio::test]
async fn records_come_as_a_stream_once_they_are_durable() {
    let home = Home::new();
    let pipeline = home
        .builder()
        .own_model(Says::text("fine"))
        .build()
        .unwrap();
    let rows = futures::stream::iter((0..20).map(|n| json!({"word": n})));
    let mut records = pipeline.run(Source::stream(rows)).records();
    let mut seen = 0;
    while let Some(record) = records.next().await {
        let record = record.unwrap();
        let text = std::fs::read_to_string(home.dir.path().join("demo/result.jsonl")).unwrap();
        assert!(text.contains(&record.id.to_string()));
        seen += 1;
    }
    assert_eq!(seen, 20);
    assert_eq!(records.report().unwrap().counts.ok, 20);
}

#[tokio::test]
async fn rows_that_do_not_fit_send_nothing() {
    let home = Home::new();
    let says = Says::text("fine");
    let pipeline = home.builder().own_model(says.clone()).build().unwrap();
    let rows = [json!({"word": "a"}), json!({"wrod": "b"})];
    let Err(Error::Run(error)) = pipeline.run(rows.clone()).await else {
        panic!("refused")
    };
    let pipeline::ErrorKind::Input(problems) = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(
        problems.first[0].to_string(),
        "rows:2: `{{word}}` (user prompt:1) is missing in the row; it has `wrod`"
    );
    assert_eq!(says.asked(), 0);
    let report = pipeline.run(rows).skip_invalid().await.unwrap();
    assert_eq!(
        (report.counts.ok, report.counts.failed, says.asked()),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn a_warning_tells_of_a_kwarg_that_no_prompt_uses_and_single_braces_are_refused() {
    use std::sync::{Arc, Mutex};
    let home = Home::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&heard);
    let pipeline = home
        .builder()
        .own_model(Says::text("fine"))
        .build()
        .unwrap();
    let rows = [Row::new().user("word", "a").user("spare", 1)];
    pipeline
        .run(rows.clone())
        .observer(move |event: &data_generation::Event<'_>| {
            if let data_generation::Event::Warning { message } = event {
                hear.lock().unwrap().push((*message).to_owned());
            }
        })
        .await
        .unwrap();
    assert_eq!(
        *heard.lock().unwrap(),
        ["`spare` in `user_prompt_kwargs` of 1 row is not used by the user prompt"]
    );

    let home = Home::new();
    let pipeline = home
        .builder()
        .user_prompt("Say {{word}} and {spare}")
        .own_model(Says::text("fine"))
        .build()
        .unwrap();
    let error = pipeline.run(rows).await.unwrap_err().to_string();
    assert!(
        error.contains("`{spare}`") && error.contains("format"),
        "{error}"
    );
}

#[tokio::test]
async fn a_run_with_a_folder_of_its_own_each_time_goes_on_when_it_is_told_to() {
    let home = Home::new();
    let says = Says::text("fine");
    let pipeline = home
        .builder()
        .need_time_stamp(true)
        .own_model(says.clone())
        .build()
        .unwrap();
    let stop = StopHandle::new();
    let by_observer = stop.clone();
    let first = pipeline
        .run(words(&["a", "b", "c", "d"]))
        .concurrency_limit(1)
        .stop_handle(&stop)
        .observer(move |event: &data_generation::Event<'_>| {
            if let data_generation::Event::Finished { .. } = event {
                by_observer.interrupt();
            }
        })
        .await
        .unwrap();
    assert_eq!((first.counts.ok, first.counts.pending), (1, 3));
    let Err(Error::Run(error)) = pipeline
        .run(words(&["a", "b", "c", "d"]))
        .offer_unfinished()
        .await
    else {
        panic!("offered")
    };
    assert!(
        matches!(error.kind(), pipeline::ErrorKind::Unfinished { dir, .. } if *dir == first.run_dir),
        "{error}"
    );
    let second = pipeline
        .run(words(&["a", "b", "c", "d"]))
        .resume(Resume::Latest)
        .await
        .unwrap();
    assert_eq!(
        (second.counts.ok, second.counts.skipped, &second.run_dir),
        (3, 1, &first.run_dir)
    );
    assert_eq!(says.asked(), 4);
    let third = pipeline
        .run(words(&["a"]))
        .offer_unfinished()
        .await
        .unwrap();
    assert_ne!(third.run_dir, first.run_dir);
}

#[tokio::test]
async fn a_value_as_deep_as_json_is_read_comes_through_the_stream() {
    let home = Home::new();
    let deep = format!("{}1{}", "[".repeat(127), "]".repeat(127));
    let says = Says::new(move |_, _| data_generation::llm::Answer::text(&deep));
    let pipeline = home.builder().own_model(says).build().unwrap();
    let mut records = pipeline.run(words(&["a"])).extractor(json()).records();
    assert!(records.next().await.unwrap().unwrap().extracted.is_some());
}

#[tokio::test]
async fn what_a_run_sets_for_itself_is_in_its_manifest() {
    let home = Home::new();
    let pipeline = home.builder().offline().build().unwrap();
    pipeline
        .run(words(&["a"]))
        .concurrency_limit(3)
        .extractor(tag("draft"))
        .await
        .unwrap();
    let manifest: Value = serde_json::from_str(
        &std::fs::read_to_string(home.dir.path().join("demo/run.json")).unwrap(),
    )
    .unwrap();
    assert_eq!(
        manifest["settings"]["run.concurrency_limit"],
        json!({"value": 3, "origin": "for this run, in code"})
    );
    assert_eq!(manifest["settings"]["run.extract"]["value"], "tag:draft");
    assert_eq!(
        manifest["hashes"]["prompts.user"],
        pipeline::hash("Say {{word}}.")
    );
}

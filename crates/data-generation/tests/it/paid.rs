//! What was paid for: in the journal whatever it is, judged once, never asked for twice.

use data_generation::extract::tag;
use data_generation::llm::Answer;
use serde_json::json;

use crate::harness::{Home, Says, words};

fn body(body: serde_json::Value) -> Answer {
    Answer::from_body(200, body.to_string())
}

#[tokio::test(start_paused = true)]
async fn an_unusable_answer_is_kept_asked_for_again_and_fails_its_row_alone() {
    let home = Home::new();
    let says = Says::new(|user, _| {
        if user.contains("bad") {
            body(json!({"choices": []}))
        } else {
            Answer::text("fine")
        }
    });
    let pipeline = home.builder().own_model(says.clone()).build().unwrap();
    let report = pipeline.run(words(&["good", "bad"])).await.unwrap();
    assert_eq!(
        (report.counts.ok, report.counts.failed, says.asked()),
        (1, 1, 4)
    );
    assert_eq!(
        home.lines("journal.jsonl").len(),
        4,
        "each of the three unusable ones was paid for"
    );
    let failure = &home.lines("failures.jsonl")[0];
    assert_eq!(failure["answers"].as_array().unwrap().len(), 3);
    assert_eq!(failure["attempts"], 3);
}

#[tokio::test]
async fn an_answer_cut_at_the_token_maximum_fails_with_its_text_kept() {
    let home = Home::new();
    let says = Says::new(|_, _| {
        body(
            json!({"choices": [{"message": {"content": "half a"}, "finish_reason": "length"}], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}}),
        )
    });
    let pipeline = home.builder().own_model(says).build().unwrap();
    let report = pipeline.run(words(&["a"])).await.unwrap();
    assert_eq!(
        (
            report.counts.failed,
            report.prompt_tokens,
            report.completion_tokens
        ),
        (1, 5, 7),
        "it was paid for"
    );
    let failure = &home.lines("failures.jsonl")[0];
    assert_eq!(failure["response"], "half a");
    assert!(
        failure["error"]["message"]
            .as_str()
            .unwrap()
            .contains("max_tokens"),
        "{failure}"
    );
}

#[tokio::test]
async fn an_answer_without_the_tag_is_asked_for_once_more_and_then_kept_with_the_failure() {
    let home = Home::new();
    let says = Says::text("no tags here");
    let pipeline = home.builder().own_model(says.clone()).build().unwrap();
    let report = pipeline
        .run(words(&["a"]))
        .extractor(tag("draft"))
        .await
        .unwrap();
    assert_eq!(
        (report.counts.failed, says.asked(), report.retries),
        (1, 2, 1)
    );
    let failure = &home.lines("failures.jsonl")[0];
    assert_eq!(
        (&failure["error"]["class"], &failure["response"]),
        (&json!("extraction_miss"), &json!("no tags here"))
    );
}

#[tokio::test]
async fn a_lost_result_is_made_again_from_the_journal_byte_for_byte_but_for_nothing() {
    let home = Home::new();
    let says = Says::new(|user, _| {
        body(
            json!({"model": "real-7b", "choices": [{"message": {"content": format!("<draft>{user}</draft>"), "reasoning_content": "hm"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}}),
        )
    });
    let pipeline = home.builder().own_model(says.clone()).build().unwrap();
    pipeline
        .run(words(&["a", "b", "c"]))
        .extractor(tag("draft"))
        .await
        .unwrap();
    let path = home.dir.path().join("demo/result.jsonl");
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = sorted(std::fs::read_to_string(&path).unwrap());
    assert!(
        before[0].contains("\"reasoning\":\"hm\"") && before[0].contains("\"model\":\"real-7b\"")
    );
    std::fs::remove_file(&path).unwrap();
    says.asked();
    let report = pipeline
        .run(words(&["a", "b", "c"]))
        .extractor(tag("draft"))
        .await
        .unwrap();
    assert_eq!((says.asked(), report.requests, report.counts.ok), (0, 0, 3));
    assert_eq!(sorted(std::fs::read_to_string(&path).unwrap()), before);
}

#[tokio::test]
async fn another_token_maximum_still_serves_what_was_paid_for_and_another_model_does_not() {
    let home = Home::new();
    let offline = || {
        home.builder()
            .offline()
            .set("offline.reply", "<draft>{{user}}</draft>")
    };
    let pipeline = offline().build().unwrap();
    pipeline.run(words(&["a", "b"])).await.unwrap();

    let pipeline = offline().max_tokens(77).build().unwrap();
    let same = pipeline
        .run(words(&["a", "b"]))
        .extractor(tag("draft"))
        .fork("same")
        .await
        .unwrap();
    assert_eq!((same.counts.ok, same.requests), (2, 0));

    let says = Says::text("<draft>fine</draft>");
    let other = home.builder().own_model(says.clone()).build().unwrap();
    let report = other
        .run(words(&["a", "b"]))
        .extractor(tag("draft"))
        .fork("other")
        .await
        .unwrap();
    assert_eq!(
        (says.asked(), report.counts.ok),
        (2, 2),
        "an answer of the offline model serves nobody else"
    );
}

#[tokio::test]
async fn of_several_answers_that_were_paid_for_a_good_one_counts_whatever_came_before_it() {
    let home = Home::new();
    let cut = Says::new(|_, _| {
        body(json!({"choices": [{"message": {"content": "half"}, "finish_reason": "length"}]}))
    });
    home.builder()
        .own_model(cut)
        .build()
        .unwrap()
        .run(words(&["a"]))
        .await
        .unwrap();
    let whole = home
        .builder()
        .own_model(Says::text("<draft>whole</draft>"))
        .build()
        .unwrap();
    assert_eq!(whole.run(words(&["a"])).await.unwrap().counts.ok, 1);
    let asked_again = Says::text("<draft>new</draft>");
    let pipeline = home
        .builder()
        .own_model(asked_again.clone())
        .build()
        .unwrap();
    let report = pipeline
        .run(words(&["a"]))
        .extractor(tag("draft"))
        .fork("other")
        .await
        .unwrap();
    assert_eq!((report.counts.ok, asked_again.asked()), (1, 0));
}

//! A whole run against an endpoint: what it is sent, what is made of its answers, when a run stops.

use std::net::TcpListener;
use std::time::Duration;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::harness::{Folder, rows};
use crate::server::{Answer, Server, completion};

const RESULT: &str = "output/demo/result.jsonl";
const FAILURES: &str = "output/demo/failures.jsonl";

#[test]
fn a_record_holds_everything_that_is_known_of_a_row() {
    let server = Server::echoing();
    let row =
        r#"{"topic": "tides", "n": 1.50, "extra": {"b": 1, "a": 123456789012345678901234567890}}"#;
    let folder = Folder::asking(&server).file("rows.jsonl", row);
    folder.datagen(["run"]).exits(0);

    let line = folder.read(RESULT);
    assert!(
        line.contains(&format!("\"input\":{row}")),
        "as it was given: {line}"
    );
    let mut record: Value = serde_json::from_str(&line).unwrap();
    let id = record["id"].take();
    assert_eq!(id.as_str().unwrap().len(), 32);
    assert!(record["latency_ms"].take().is_u64());
    assert!(record["timestamp"].take().as_str().unwrap().ends_with('Z'));
    record["input"] = Value::Null;
    let expected = json!({
        "id": null, "index": 0, "input": null, "response": "You said: Write about tides.",
        "model": "tiny-2026", "finish_reason": "stop",
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
        "attempts": 1, "latency_ms": null, "timestamp": null,
    });
    assert_eq!(record, expected);

    let journal = folder.lines("output/demo/journal.jsonl");
    assert_eq!(journal.len(), 1);
    assert_eq!(
        (&journal[0]["row"], &journal[0]["body"]["id"]),
        (&id, &json!("chatcmpl-1"))
    );
}

#[test]
fn settings_prompts_extra_and_headers_reach_the_wire() {
    let server = Server::echoing();
    let folder = Folder::asking(&server)
        .edit("config.yaml", "system_prompt_path: null", "system_prompt_path: system.txt")
        .edit("config.yaml", "  model: tiny", "  model: tiny\n  headers: {x-team: blue}\n  extra: {top_p: 0.5, seed: 7, stop: [a, b], nested: {deep: null}}")
        .file("system.txt", "Be {{tone}} & \"kind\".\n")
        .file("rows.jsonl", r#"{"topic": "<tides>", "tone": "plain"}"#);
    folder
        .datagen([
            "run",
            "--set",
            "model.max_tokens=99",
            "--set",
            "model.api_key_env=MY_KEY",
        ])
        .env("MY_KEY", "sk-Rk5vQz81bW")
        .exits(0);
    let asked = &server.asked()[0];
    assert!(
        asked.head.starts_with("POST /v1/chat/completions HTTP/1.1"),
        "{}",
        asked.head
    );
    assert_eq!(asked.header("authorization"), Some("Bearer sk-Rk5vQz81bW"));
    assert_eq!(asked.header("x-team"), Some("blue"));
    let expected = json!({
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "Be plain & \"kind\"."},
            {"role": "user", "content": "Write about <tides>."},
        ],
        "temperature": 0.7, "max_tokens": 99,
        "top_p": 0.5, "seed": 7, "stop": ["a", "b"], "nested": {"deep": null},
    });
    assert_eq!(asked.body, expected);
}

#[test]
fn null_keeps_a_field_off_the_wire_and_the_default_key_at_home() {
    let server = Server::echoing();
    let folder = Folder::asking(&server).edit("config.yaml", "  api_key_env: null\n", "");
    folder
        .datagen([
            "run",
            "--set",
            "model.max_tokens=null",
            "--set",
            "model.temperature=null",
        ])
        .env("OPENAI_API_KEY", "sk-for-openai-alone")
        .exits(0);
    let asked = &server.asked()[0];
    assert_eq!(asked.header("authorization"), None);
    assert_eq!(
        asked.body.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["model", "messages"]
    );
}

#[test]
fn so_many_requests_at_a_time_and_no_more() {
    let server = Server::start(|_| Answer::good("fine").after(Duration::from_millis(20)));
    let folder = Folder::asking(&server).file("rows.jsonl", rows(24));
    folder.datagen(["run", "--concurrency", "4"]).exits(0);
    assert_eq!(server.most_at_work(), 4);
}

#[test]
fn the_rate_limit_is_kept_whatever_the_concurrency() {
    let server = Server::echoing();
    let folder = Folder::asking(&server).file("rows.jsonl", rows(7));
    let ended = folder
        .datagen(["run", "--concurrency", "7", "--set", "model.rate_limit=600"])
        .exits(0);
    assert!(ended.took >= Duration::from_millis(600), "{:?}", ended.took);
    assert_eq!(server.hits(), 7);
}

#[test]
fn a_pause_that_the_endpoint_asks_for_is_kept_and_costs_no_attempt() {
    let server = Server::start(|asked| match asked.nth {
        0 => Answer::error(429, "rate_limit_exceeded", "slow down").header("retry-after", "1"),
        _ => Answer::good("fine"),
    });
    let folder = Folder::asking(&server).file("rows.jsonl", rows(1));
    let ended = folder.datagen(["run", "--json"]).exits(0);
    assert!(ended.took >= Duration::from_secs(1), "{:?}", ended.took);
    let summary = ended.summary();
    assert_eq!(
        (summary["requests"].as_u64(), summary["retries"].as_u64()),
        (Some(2), Some(1))
    );
    assert_eq!(folder.lines(RESULT).len(), 1);
    assert_eq!(
        folder.lines("output/demo/journal.jsonl").len(),
        1,
        "a 429 was not paid for"
    );
}

#[test]
fn a_fault_of_the_server_is_tried_again() {
    let server = Server::start(|asked| match asked.nth {
        0 => Answer::json(500, &json!({"error": "oops"})),
        1 => Answer::json(502, &json!("<html>")),
        _ => Answer::good("fine"),
    });
    let folder = Folder::asking(&server).file("rows.jsonl", rows(1));
    folder.datagen(["run"]).exits(0);
    assert_eq!(folder.lines(RESULT)[0]["attempts"], 3);
}

#[test]
fn a_row_is_given_up_after_its_attempts() {
    let server = Server::start(|asked| match asked.user() {
        "Write about topic 1." => Answer::json(500, &json!({"error": {"message": "oops"}})),
        _ => Answer::good("fine"),
    });
    let folder = Folder::asking(&server);
    let ended = folder
        .datagen(["run", "--set", "run.retry.max_attempts=3"])
        .exits(3);
    assert_snapshot!(ended.shown(), @"
    exit 3
    --- stderr
    making output/demo: 3 of 3 rows to do
    row 2 failed: server_error: status 500: oops (given up at request 3)
    finished, with failed rows: 3 rows = 2 ok + 1 failed + 0 done before + 0 pending
      requests  5 (2 retries)
      tokens    14 prompt + 10 completion
      time      [TIME], [SPEED]
      result    output/demo/result.jsonl
      failures  output/demo/failures.jsonl
                1 x server_error
    ");
    let failure = &folder.lines(FAILURES)[0];
    assert_eq!(failure["error"]["class"], "server_error");
    assert_eq!(
        (&failure["attempts"], &failure["response"]),
        (&json!(3), &Value::Null)
    );
    assert_eq!(server.hits(), 5);
}

#[test]
fn a_wrong_key_stops_the_run_at_once_and_says_what_to_change() {
    let refusing = || {
        Server::start(|_| {
            Answer::error(401, "invalid_api_key", "Incorrect API key provided.")
                .after(Duration::from_millis(5))
        })
    };
    let server = refusing();
    let folder = Folder::asking(&server).file("rows.jsonl", rows(100));
    folder.datagen(["run", "--concurrency", "8"]).exits(4);
    assert!(server.hits() <= 9, "{} requests", server.hits());
    assert_eq!(folder.read(FAILURES), "", "no row is to blame");

    let server = refusing();
    let folder = Folder::asking(&server).file("rows.jsonl", rows(100));
    let ended = folder.datagen(["run", "--concurrency", "1"]).exits(4);
    assert_snapshot!(ended.shown(), @"
    exit 4
    --- stderr
    making output/demo: 100 of 100 rows to do
    stopped: 100 rows = 0 ok + 0 failed + 0 done before + 100 pending
      requests  1 (0 retries)
      tokens    0 prompt + 0 completion
      time      [TIME]
      result    output/demo/result.jsonl
      stopped:  status 401: Incorrect API key provided; check `model.api_key_env` (or `model.api_key`) and that the key belongs to `model.base_url`
      to go on: the same command
    ");
    assert_eq!(server.hits(), 1);
}

#[test]
fn an_unknown_model_or_parameter_or_an_empty_account_stops_the_run() {
    for (status, code, message, cure) in [
        (
            404,
            "model_not_found",
            "The model `tiny` does not exist",
            "model.model",
        ),
        (
            400,
            "unsupported_parameter",
            "Unsupported parameter: 'max_tokens'",
            "model.extra.max_completion_tokens",
        ),
        (
            429,
            "insufficient_quota",
            "You exceeded your current quota",
            "top up",
        ),
        (403, "forbidden", "not for you", "model.base_url"),
    ] {
        let server = Server::start(move |_| Answer::error(status, code, message));
        let folder = Folder::asking(&server);
        let ended = folder.datagen(["run", "--concurrency", "1"]).exits(4);
        assert!(ended.stderr.contains(cure), "{status}: {}", ended.stderr);
        assert_eq!(server.hits(), 1, "{status}");
    }
}

#[test]
fn a_content_filter_fails_one_row_without_a_retry() {
    let server = Server::start(|asked| match asked.user() {
        "Write about topic 1." => Answer::error(400, "content_filter", "The prompt was filtered."),
        _ => Answer::good("fine"),
    });
    let folder = Folder::asking(&server);
    let summary = folder.datagen(["run", "--json"]).exits(3).summary();
    assert_eq!(
        (summary["ok"].as_u64(), summary["failed"].as_u64()),
        (Some(2), Some(1))
    );
    assert_eq!(server.hits(), 3);
    let failures = folder.lines(FAILURES);
    let mut keys: Vec<&String> = failures[0].as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "answers",
            "attempts",
            "error",
            "id",
            "index",
            "input",
            "response",
            "timestamp"
        ]
    );
    assert_eq!(failures[0]["error"]["class"], "content_filter");
    assert_eq!(failures[0]["input"], json!({"topic": "topic 1"}));
}

#[test]
fn an_answer_that_was_cut_fails_with_its_text_and_is_no_row_of_the_dataset() {
    let server = Server::start(|_| {
        let mut body = completion("Once upon a");
        body["choices"][0]["finish_reason"] = json!("length");
        Answer::json(200, &body)
    });
    let folder = Folder::asking(&server).file("rows.jsonl", rows(1));
    let ended = folder.datagen(["run"]).exits(3);
    assert!(
        ended.stderr.contains("raise `model.max_tokens`"),
        "{}",
        ended.stderr
    );
    let failure = &folder.lines(FAILURES)[0];
    assert_eq!(
        (&failure["response"], &failure["answers"]),
        (&json!("Once upon a"), &json!([1]))
    );
    assert_eq!(folder.read(RESULT), "");
    assert_eq!(server.hits(), 1);
}

#[test]
fn an_error_of_null_beside_a_good_answer_is_no_error() {
    let server = Server::start(|_| {
        let mut body = completion("fine");
        body["error"] = Value::Null;
        body["usage"] = Value::Null;
        body["id"] = json!(7);
        Answer::json(200, &body)
    });
    let folder = Folder::asking(&server);
    folder.datagen(["run"]).exits(0);
    let record = &folder.lines(RESULT)[0];
    assert_eq!(
        (&record["response"], &record["usage"]["estimated"]),
        (&json!("fine"), &json!(true))
    );
    assert_eq!(server.hits(), 3);
}

#[test]
fn thoughts_are_kept_apart_from_the_answer_and_from_the_extractor() {
    let server = Server::start(|asked| match asked.user() {
        "Write about topic 0." => {
            let mut body = completion("<draft>right</draft>");
            body["choices"][0]["message"]["reasoning_content"] = json!("<draft>wrong</draft>");
            Answer::json(200, &body)
        }
        _ => Answer::good("<think><draft>wrong</draft></think>\n<draft>right</draft>"),
    });
    let folder = Folder::asking(&server).file("rows.jsonl", rows(2));
    folder.datagen(["run", "--extract", "tag:draft"]).exits(0);
    for record in folder.lines(RESULT) {
        assert_eq!(record["extracted"], json!(["right"]));
        assert_eq!(record["response"], "<draft>right</draft>");
        assert_eq!(record["reasoning"], "<draft>wrong</draft>");
    }
}

#[test]
fn an_answer_without_the_tag_is_asked_once_more_and_then_fails_with_its_text() {
    let server = Server::start(|asked| match asked.nth {
        0 => Answer::good("<draft>not closed"),
        _ if asked.user() == "Write about topic 1." => Answer::good("no tag"),
        _ => Answer::good("<DRAFT lang=\"en\">\n good \n</draft>"),
    });
    let folder = Folder::asking(&server).file("rows.jsonl", rows(2));
    let run = [
        "run",
        "--extract",
        "tag:draft",
        "--concurrency",
        "1",
        "--json",
    ];
    let summary = folder.datagen(run).exits(3).summary();
    assert_eq!(
        (summary["requests"].as_u64(), summary["retries"].as_u64()),
        (Some(4), Some(2))
    );
    assert_eq!(folder.lines(RESULT)[0]["extracted"], json!(["good"]));
    let failure = &folder.lines(FAILURES)[0];
    assert_eq!(
        (&failure["response"], &failure["answers"]),
        (&json!("no tag"), &json!([3, 4]))
    );
    assert_eq!(
        folder.lines("output/demo/journal.jsonl").len(),
        4,
        "every paid answer is kept"
    );
}

#[test]
fn an_endpoint_that_is_not_there_stops_the_run_and_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let server = Server::echoing();
    let folder = Folder::asking(&server).file("rows.jsonl", rows(1));
    let base_url = format!("model.base_url=http://{address}/v1");
    let ended = folder
        .datagen(["run", "--concurrency", "1", "--set", &base_url])
        .exits(4);
    assert!(
        ended.stderr.contains(&address.to_string()),
        "{}",
        ended.stderr
    );
    assert_snapshot!(ended.shown(), @"
    exit 4
    --- stderr
    making output/demo: 1 of 1 row to do
    stopped: 1 row = 0 ok + 0 failed + 0 done before + 1 pending
      requests  3 (2 retries)
      tokens    0 prompt + 0 completion
      time      [TIME]
      result    output/demo/result.jsonl
      stopped:  127.0.0.1:[PORT]: tcp connect error: Connection refused (os error [N]); check `model.base_url` and that the endpoint is up
      to go on: the same command
    ");
}

#[test]
fn a_daily_limit_is_a_reason_to_come_back_later() {
    let server = Server::start(|_| {
        Answer::error(429, "rate_limit_exceeded", "slow down").header("retry-after", "7200")
    });
    let folder = Folder::asking(&server);
    let ended = folder.datagen(["run", "--concurrency", "1"]).exits(75);
    assert_eq!(server.hits(), 1);
    assert_snapshot!(ended.shown(), @"
        exit 75
        --- stderr
        making output/demo: 3 of 3 rows to do
        stopped: 3 rows = 0 ok + 0 failed + 0 done before + 3 pending
          requests  1 (0 retries)
          tokens    0 prompt + 0 completion
          time      [TIME]
          result    output/demo/result.jsonl
          stopped:  status 429: slow down; come back after [TIME]
          to go on: the same command
        ");
}

#[test]
fn a_redirect_is_never_followed() {
    let other = Server::echoing();
    let target = format!("{}/chat/completions", other.base_url());
    let server = Server::start(move |_| Answer::json(307, &json!({})).header("location", &target));
    let folder = Folder::asking(&server);
    let ended = folder
        .datagen([
            "run",
            "--set",
            "model.api_key=sk-Rk5vQz81bW",
            "--concurrency",
            "1",
        ])
        .exits(4);
    assert!(
        ended
            .stderr
            .contains("write the final address into `model.base_url`"),
        "{}",
        ended.stderr
    );
    assert_eq!((server.hits(), other.hits()), (1, 0));
}

#[test]
fn a_run_whose_rows_all_fail_alike_stops_and_says_how_to_go_on_all_the_same() {
    let server = Server::start(|_| Answer::error(400, "invalid", "roles must alternate"));
    let folder = Folder::asking(&server).file("rows.jsonl", rows(100));
    let out = folder.datagen(["run", "--concurrency", "1"]).exits(4);
    assert_eq!(server.hits(), 20);
    let stopped = out
        .stderr
        .lines()
        .find(|line| line.starts_with("  stopped:"));
    assert_snapshot!(stopped.unwrap(), @"  stopped:  all of the first 20 rows failed alike: bad_request: status 400: roles must alternate; mend that and run again, which asks them anew, or set `run.stop_on_failures` to null to let such rows fail");
    let on = ["run", "--set", "run.stop_on_failures=null"];
    folder.datagen(on).exits(3);
    assert_eq!(folder.lines(FAILURES).len(), 100);
}

//! What goes to standard output, what to standard error, and what an exit code means.

use insta::assert_snapshot;
use serde_json::Value;

use crate::harness::{Folder, rows};
use crate::server::{Answer, Server};

#[test]
fn json_is_one_line_on_standard_output_with_the_keys_of_the_summary() {
    let folder = Folder::offline();
    let ended = folder.datagen(["run", "--json"]).exits(0);
    let summary = ended.summary();
    let keys: Vec<&String> = summary.as_object().unwrap().keys().collect();
    // `cut`: answers under way that an interrupt cut off must be counted somewhere.
    let expected = [
        "run_dir",
        "rows",
        "ok",
        "failed",
        "skipped",
        "pending",
        "not_in_input",
        "requests",
        "retries",
        "prompt_tokens",
        "completion_tokens",
        "untold",
        "wall_s",
        "waited_s",
        "offline",
        "cut",
        "lost",
        "stopped",
    ];
    assert_eq!(keys, expected);
    assert_snapshot!(ended.shown(), @r#"
        exit 0
        --- stdout
        {"run_dir":"output/demo","rows":3,"ok":3,"failed":0,"skipped":0,"pending":0,"not_in_input":0,"requests":3,"retries":0,"prompt_tokens":15,"completion_tokens":39,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":true,"cut":0,"lost":0,"stopped":null}
        --- stderr
        making output/demo (offline: no model is asked): 3 of 3 rows to do
        finished (offline: no model was asked): 3 rows = 3 ok + 0 failed + 0 done before + 0 pending
          requests  3 (0 retries)
          tokens    15 prompt + 39 completion
          time      [TIME], [SPEED]
          result    output/demo/result.jsonl
        "#);
}

#[test]
fn json_is_printed_at_every_exit_once_the_folder_is_open() {
    let folder = Folder::offline();
    folder.datagen(["run"]).exits(0);
    folder.write("user.txt", "Write of {{topic}}.");
    let summary = folder.datagen(["run", "--json"]).exits(2).summary();
    assert_eq!(summary["run_dir"], "output/demo");
    assert!(
        summary["stopped"]
            .as_str()
            .unwrap()
            .contains("other settings"),
        "{summary}"
    );

    let server = Server::start(|_| Answer::error(401, "invalid_api_key", "no"));
    let folder = Folder::asking(&server);
    let summary = folder.datagen(["run", "--json"]).exits(4).summary();
    assert_eq!(summary["pending"], 3);
    assert!(
        summary["stopped"]
            .as_str()
            .unwrap()
            .contains("model.api_key_env"),
        "{summary}"
    );

    let no_rows = ["run", "--json", "--data", "nope.jsonl"];
    let summary = folder.datagen(no_rows).exits(2).summary();
    assert!(
        summary["stopped"].as_str().unwrap().contains("nope.jsonl"),
        "{summary}"
    );
    let ended = Folder::offline().datagen(no_rows).exits(2);
    assert_eq!(ended.stdout, "", "no folder was made");
}

#[test]
fn quiet_prints_nothing() {
    let folder = Folder::offline();
    let ended = folder.datagen(["run", "--quiet"]).exits(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    let ended = folder.datagen(["run", "-q", "--json"]).exits(0);
    assert_eq!(
        (ended.summary()["skipped"].as_u64(), ended.stderr.as_str()),
        (Some(3), "")
    );
}

#[test]
fn quiet_says_errors_all_the_same() {
    let ended = Folder::offline()
        .datagen(["run", "--quiet", "--data", "nope.jsonl"])
        .exits(2);
    assert!(ended.stderr.contains("nope.jsonl"), "{}", ended.stderr);
    let server = Server::start(|_| Answer::error(401, "invalid_api_key", "no"));
    let ended = Folder::asking(&server).datagen(["run", "--quiet"]).exits(4);
    assert_snapshot!(ended.shown(), @"
    exit 4
    --- stderr
    stopped: status 401: no; check `model.api_key_env` (or `model.api_key`) and that the key belongs to `model.base_url`
    ");
}

#[test]
fn without_a_terminal_there_are_plain_lines() {
    let folder = Folder::offline();
    let ended = folder.datagen(["run"]).exits(0);
    assert!(!ended.stderr.contains(['\x1b', '\r']), "{:?}", ended.stderr);
    assert_snapshot!(ended.shown(), @"
    exit 0
    --- stderr
    making output/demo (offline: no model is asked): 3 of 3 rows to do
    finished (offline: no model was asked): 3 rows = 3 ok + 0 failed + 0 done before + 0 pending
      requests  3 (0 retries)
      tokens    15 prompt + 39 completion
      time      [TIME], [SPEED]
      result    output/demo/result.jsonl
    ");
}

#[test]
fn words_of_a_model_do_not_steer_the_terminal() {
    let server =
        Server::start(|_| Answer::error(400, "bad", "\u{1b}[31mred\u{7}\r\u{9b}2J \u{202e}txt"));
    let folder = Folder::asking(&server)
        .edit("config.yaml", "  model: tiny", "  model: \"tiny\\e[31m\"")
        .file("rows.jsonl", "{\"topic\": \"a\\u001b[2Jb\"}\n");
    for arguments in [&["run"][..], &["check"], &["preview"]] {
        let mut run = folder.datagen([]);
        for argument in arguments {
            run = run.args([*argument]);
        }
        let ended = run.end();
        let odd = |c: char| c.is_control() && c != '\n';
        assert!(
            !ended.stdout.contains(odd) && !ended.stderr.contains(odd),
            "{ended:?}"
        );
    }
}

#[test]
fn a_reader_that_leaves_does_not_end_the_run() {
    let folder = Folder::offline();
    folder.shell("\"$DATAGEN\" run --json | true; wait").end();
    assert_eq!(folder.lines("output/demo/result.jsonl").len(), 3);
    let folder = Folder::offline();
    folder
        .shell("exec \"$DATAGEN\" run --json >&- 2>&-")
        .exits(0);
    assert_eq!(folder.lines("output/demo/result.jsonl").len(), 3);
    let full = std::path::Path::new("/dev/full");
    if full.exists() {
        let folder = Folder::offline();
        folder
            .shell("exec \"$DATAGEN\" run --json >/dev/full 2>&1")
            .exits(0);
        assert_eq!(folder.lines("output/demo/result.jsonl").len(), 3);
    }
}

#[test]
fn rows_come_from_standard_input_and_the_run_goes_on_with_more_of_them() {
    let folder = Folder::offline();
    let summary = folder
        .datagen(["run", "--data", "-", "--json"])
        .input(rows(4))
        .exits(0)
        .summary();
    assert_eq!(
        (summary["ok"].as_u64(), summary["requests"].as_u64()),
        (Some(4), Some(4))
    );
    let summary = folder
        .datagen(["run", "--data", "-", "--json"])
        .input(rows(6))
        .exits(0)
        .summary();
    assert_eq!(
        (summary["ok"].as_u64(), summary["skipped"].as_u64()),
        (Some(2), Some(4))
    );
    let summary = folder
        .datagen(["run", "--data", "-", "--json"])
        .input(rows(6))
        .exits(0)
        .summary();
    assert_eq!(
        (summary["skipped"].as_u64(), summary["requests"].as_u64()),
        (Some(6), Some(0))
    );
}

#[test]
fn bad_rows_on_standard_input_are_told_before_anything_is_sent() {
    let server = Server::echoing();
    let folder = Folder::asking(&server);
    let ended = folder
        .datagen(["run", "--data", "-"])
        .input("{\"topic\": \"a\"}\n{\"topic\": }\n")
        .end();
    assert_snapshot!(ended.shown(), @"
    exit 2
    --- stderr
    error: 1 problem in 1 row of the input; no request was sent
      standard input:2: is no JSON: expected value (column 11)
      hint: mend the rows or the prompts; `--skip-invalid` lets these rows fail alone
    ");
    assert_eq!(server.hits(), 0);
    assert!(!folder.exists("output/demo"));
}

#[test]
fn preview_shows_the_exact_messages_on_standard_output() {
    let folder = Folder::offline()
        .edit(
            "config.yaml",
            "system_prompt_path: null",
            "system_prompt_path: system.txt",
        )
        .file("system.txt", "Be <kind> & \"plain\".\r\n");
    assert_snapshot!(folder.datagen(["preview", "-n", "2"]).end().shown(), @r#"
    exit 0
    --- stdout
    === row 1
    --- system
    Be <kind> & "plain".
    --- user
    Write about topic 0.
    === row 2
    --- system
    Be <kind> & "plain".
    --- user
    Write about topic 1.
    "#);
    assert_eq!(
        folder
            .datagen(["preview"])
            .exits(0)
            .stdout
            .matches("=== row")
            .count(),
        3
    );
    let ended = folder
        .datagen(["preview", "--data", "-", "-n", "1"])
        .input("{\"topic\": \"piped\"}\n")
        .exits(0);
    assert!(
        ended.stdout.contains("Write about piped."),
        "{}",
        ended.stdout
    );
    assert!(!folder.exists("output"));
}

#[test]
fn check_shows_settings_with_origins_prompts_rows_and_model() {
    let server = Server::echoing();
    let folder = Folder::asking(&server);
    let ended = folder
        .datagen(["check", "--set", "run.concurrency_limit=9"])
        .env("DATAGEN_MODEL__TEMPERATURE", "0.2")
        .exits(0);
    let shown = ended.shown();
    let told: Vec<&str> = shown
        .lines()
        .filter(|line| !line.ends_with("  default"))
        .collect();
    assert_snapshot!(told.join("\n"), @r#"
    exit 0
    --- stdout
    configuration
      model.api_key_env            null                         config.yaml:3
      model.base_url               "http://127.0.0.1:[PORT]/v1"  config.yaml:2
      model.model                  "tiny"                       config.yaml:4
      model.temperature            0.2                          environment variable DATAGEN_MODEL__TEMPERATURE
      prompts.system_prompt_path   null                         config.yaml:5
      prompts.user_prompt_path     "user.txt"                   config.yaml:5
      input_data.path              "rows.jsonl"                 config.yaml:6
      output_data.experiment_name  "demo"                       config.yaml:7
      output_data.need_time_stamp  false                        config.yaml:7
      run.concurrency_limit        9                            --set run.concurrency_limit
      run.retry.base_delay_s       0.01                         config.yaml:8
      logging.dir                  null                         config.yaml:9

    prompts
      system  none
      user    user.txt: topic

    rows
      3 rows

    model
      tiny at http://127.0.0.1:[PORT]/v1

    all is well; no request was sent
    "#);
    assert_eq!(server.hits(), 0);
    assert!(!folder.exists("output"));
}

#[test]
fn check_tells_what_is_wrong_with_rows_and_model_together() {
    let folder = Folder::offline()
        .file("config.yaml", "model: {api_key_env: MY_KEY}\nprompts: {system_prompt_path: null, user_prompt_path: user.txt}\n")
        .file("rows.jsonl", "{\"topic\": \"a\"}\n{\"topic\": \"a\"}\n{\"topik\": \"b\"}\n");
    let shown = folder
        .datagen(["check", "--data", "rows.jsonl"])
        .exits(2)
        .shown();
    let (_, told) = shown.split_once("\nrows\n").unwrap();
    assert_snapshot!(told, @"
      3 rows
      1 of them comes more than once; each is asked for as often as it comes
      rows.jsonl:3: `{{topic}}` (user.txt:1) is missing in the row; it has `topik`

    model
      the environment variable MY_KEY (model.api_key_env, config.yaml:1) is not set or empty; set it to the key of https://api.openai.com/v1, or set model.api_key_env to null for an endpoint that wants no key, or try things out with `--set model.provider=offline`

    not all is well; no request was sent
    ");
}

#[test]
fn failed_rows_are_counted_by_class_and_the_first_are_told() {
    let folder = Folder::offline().file("rows.jsonl", rows(8));
    let nothing = [
        "run",
        "--extract",
        "tag:draft",
        "--set",
        "offline.reply=no tag",
        "--concurrency",
        "1",
    ];
    assert_snapshot!(folder.datagen(nothing).exits(3).shown(), @"
    exit 3
    --- stderr
    making output/demo (offline: no model is asked): 8 of 8 rows to do
    row 1 failed: extraction_miss: extractor `tag:draft`: no `<draft>` in 6 bytes
    row 2 failed: extraction_miss: extractor `tag:draft`: no `<draft>` in 6 bytes
    row 3 failed: extraction_miss: extractor `tag:draft`: no `<draft>` in 6 bytes
    finished, with failed rows (offline: no model was asked): 8 rows = 0 ok + 8 failed + 0 done before + 0 pending
      requests  16 (8 retries)
      tokens    80 prompt + 32 completion
      time      [TIME]
      result    output/demo/result.jsonl
      failures  output/demo/failures.jsonl
                8 x extraction_miss
    ");
    assert_eq!(folder.lines("output/demo/failures.jsonl").len(), 8);
}

#[test]
fn the_offline_model_answers_through_a_template_of_its_own() {
    let folder = Folder::offline().file("rows.jsonl", rows(1));
    let reply = "offline.reply={\"said\": \"{{user}}\", \"by\": \"{{model}}\"}";
    folder
        .datagen(["run", "--extract", "json", "--set", reply])
        .exits(0);
    let record = &folder.lines("output/demo/result.jsonl")[0];
    assert_eq!(record["extracted"]["said"], "Write about topic 0.");
    assert_eq!(
        (&record["model"], &record["offline"]),
        (&Value::from("offline"), &Value::Bool(true))
    );
}

#[test]
fn a_run_and_its_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::offline();
    folder.datagen(["run"]).exits(0);
    let mode = |name: &str| {
        std::fs::metadata(folder.path(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("output/demo"), 0o700);
}

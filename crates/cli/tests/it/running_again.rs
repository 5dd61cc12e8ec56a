//! The same command again, with other rows, with other settings, beside another process.

use insta::assert_snapshot;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Folder, rows};
use crate::server::{Answer, Server};

const RESULT: &str = "output/demo/result.jsonl";

/// The fields of a summary that count rows and requests.
fn counts(summary: &Value) -> [u64; 5] {
    ["ok", "failed", "skipped", "pending", "requests"].map(|key| summary[key].as_u64().unwrap())
}

#[test]
fn the_same_command_asks_nothing_and_leaves_every_byte() {
    let server = Server::echoing();
    let folder = Folder::asking(&server);
    folder.datagen(["run"]).exits(0);
    let files = ["result.jsonl", "failures.jsonl", "journal.jsonl"]
        .map(|name| folder.read(&format!("output/demo/{name}")));
    let summary = folder.datagen(["run", "--json"]).exits(0).summary();
    assert_eq!(counts(&summary), [0, 0, 3, 0, 0]);
    assert_eq!(server.hits(), 3);
    let after = ["result.jsonl", "failures.jsonl", "journal.jsonl"]
        .map(|name| folder.read(&format!("output/demo/{name}")));
    assert_eq!(after, files);
}

#[test]
fn asks_only_the_rows_that_were_added_wherever_they_stand() {
    let server = Server::echoing();
    let folder = Folder::asking(&server).file("rows.jsonl", rows(20));
    folder.datagen(["run"]).exits(0);

    let all = rows(30);
    let mut shuffled: Vec<&str> = all.lines().collect();
    shuffled.sort_by_key(|line| scattered(line));
    let spaced = shuffled.join("\n").replace("{\"topic\": ", "{ \"topic\" :");
    folder.write("rows.jsonl", spaced);
    let summary = folder.datagen(["run", "--json"]).exits(0).summary();
    assert_eq!(counts(&summary), [10, 0, 20, 0, 10]);
    let mut asked: Vec<String> = server.asked()[20..]
        .iter()
        .map(|asked| asked.user().to_owned())
        .collect();
    asked.sort();
    let expected: Vec<String> = (20..30)
        .map(|n| format!("Write about topic {n}."))
        .collect();
    assert_eq!(asked, expected);
}

/// An order that has nothing to do with that of the lines.
fn scattered(line: &str) -> u64 {
    line.bytes().fold(7, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

#[test]
fn equal_rows_are_asked_as_often_as_they_come() {
    let server = Server::echoing();
    let row = "{\"topic\": \"tides\"}\n";
    let folder = Folder::asking(&server).file("rows.jsonl", row.repeat(2));
    folder.datagen(["run"]).exits(0);
    folder.write("rows.jsonl", row.repeat(5));
    let summary = folder.datagen(["run", "--json"]).exits(0).summary();
    assert_eq!(counts(&summary), [3, 0, 2, 0, 3]);
    let mut ids: Vec<String> = folder
        .lines(RESULT)
        .iter()
        .map(|record| record["id"].to_string())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

#[test]
fn a_changed_prompt_is_shown_as_a_diff_and_refused() {
    let server = Server::echoing();
    let folder = Folder::asking(&server);
    folder.datagen(["run"]).exits(0);
    folder.write("user.txt", "Write about {{topic}}.\nBriefly.\n");
    let changed = [
        "run",
        "--set",
        "model.temperature=0.1",
        "--set",
        "model.extra.seed=7",
    ];
    assert_snapshot!(folder.datagen(changed).end().shown(), @"
    exit 2
    --- stderr
    error: the run in output/demo was made with other settings:
      model.extra.seed: null -> 7
      model.temperature: 0.7 -> 0.1
      prompts.user, from line 2:
        + Briefly.
      hint: `--fork NAME` makes a new dataset that keeps every answer whose request is unchanged, `--new` begins afresh; or take the changes back
    ");
    assert_eq!(server.hits(), 3);
}

#[test]
fn limits_key_and_address_may_change_at_any_time() {
    let server = Server::echoing();
    let folder = Folder::asking(&server).file("rows.jsonl", rows(1));
    folder.datagen(["run"]).exits(0);
    folder.write("rows.jsonl", rows(2));
    let another = Server::echoing();
    let address = format!("model.base_url={}", another.base_url());
    folder
        .datagen([
            "run",
            "--set",
            &address,
            "--set",
            "model.max_tokens=9",
            "--concurrency",
            "1",
        ])
        .args([
            "--set",
            "model.api_key=sk-Rk5vQz81bW",
            "--set",
            "model.rate_limit=600",
        ])
        .exits(0);
    assert_eq!((server.hits(), another.hits()), (1, 1));
}

#[test]
fn a_fork_with_another_extractor_asks_nothing_and_leaves_its_source() {
    let server = Server::start(|asked| Answer::good(&format!("<draft>{}</draft>", asked.user())));
    let folder = Folder::asking(&server);
    folder.datagen(["run"]).exits(0);
    let source = folder.read(RESULT);
    let fork = [
        "run",
        "--fork",
        "drafts",
        "--extract",
        "tag:draft:first",
        "--json",
    ];
    let summary = folder.datagen(fork).exits(0).summary();
    assert_eq!(counts(&summary), [3, 0, 0, 0, 0]);
    assert_eq!(summary["run_dir"], "output/drafts");
    assert_eq!(folder.read(RESULT), source);
    for record in folder.lines("output/drafts/result.jsonl") {
        let user = format!(
            "Write about {}.",
            record["input"]["topic"].as_str().unwrap()
        );
        assert_eq!(record["extracted"], user);
        assert_eq!(record["model"], "tiny-2026");
    }

    folder.write("rows.jsonl", rows(4));
    let summary = folder.datagen(fork).exits(0).summary();
    assert_eq!(
        counts(&summary),
        [1, 0, 3, 0, 1],
        "the same command goes on with the fork"
    );
    assert_eq!(folder.read(RESULT), source);
}

#[test]
fn a_fork_with_another_prompt_keeps_the_answers_whose_request_is_the_same() {
    let server = Server::echoing();
    let rows =
        "{\"topic\": \"tides\", \"tone\": \"\"}\n{\"topic\": \"bread\", \"tone\": \"Be merry.\"}\n";
    let folder = Folder::asking(&server).file("rows.jsonl", rows);
    folder.datagen(["run"]).exits(0);
    folder.write("user.txt", "Write about {{topic}}.{{tone}}\n");
    let summary = folder
        .datagen(["run", "--fork", "toned", "--json"])
        .exits(0)
        .summary();
    assert_eq!(counts(&summary), [2, 0, 0, 0, 1]);
}

#[test]
fn new_moves_the_old_folder_aside() {
    let server = Server::echoing();
    let folder = Folder::asking(&server);
    folder.datagen(["run"]).exits(0);
    let old = folder.read(RESULT);
    let summary = folder
        .datagen(["run", "--new", "--json"])
        .exits(0)
        .summary();
    assert_eq!(counts(&summary), [3, 0, 0, 0, 3]);
    let names = folder.names("output");
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[1].starts_with("demo-2"), "{names:?}");
    assert_eq!(
        folder.read(&format!("output/{}/result.jsonl", names[1])),
        old
    );
}

#[test]
fn the_command_that_goes_on_with_a_new_run_asks_nothing_of_it_again() {
    for stamped in [false, true] {
        let server = Server::start(|asked| match asked.nth {
            // What stops a run is tried once more.
            5 | 6 => Answer::error(429, "insufficient_quota", "no money"),
            _ => Answer::good("fine"),
        });
        let folder = Folder::asking(&server).edit(
            "config.yaml",
            "need_time_stamp: false",
            &format!("need_time_stamp: {stamped}"),
        );
        folder.datagen(["run"]).exits(0);
        folder.write("rows.jsonl", rows(6));
        let new = ["run", "--new", "--concurrency", "1", "--json"];
        let ended = folder.datagen(new).exits(4);
        let dir = ended.summary()["run_dir"].as_str().unwrap().to_owned();
        let said = ended
            .stderr
            .lines()
            .find_map(|line| line.trim().strip_prefix("to go on: "));
        let status = ["status", "--json", "--run", &dir];
        let status = folder.datagen(status).exits(0).stdout;
        let told: Value = serde_json::from_str(&status).unwrap();
        assert_eq!(
            said,
            told["go_on"][0]["command"].as_str(),
            "they say the same"
        );

        let script = said.unwrap().replace("datagen", "\"$DATAGEN\"");
        let summary = folder.shell(&script).exits(0).summary();
        assert_eq!(summary["run_dir"], dir.as_str());
        assert_eq!(counts(&summary), [4, 0, 2, 0, 4]);
        assert_eq!(server.hits(), 3 + 4 + 4);
    }
}

#[test]
fn a_limit_takes_the_first_rows_done_or_not() {
    let server = Server::echoing();
    let folder = Folder::asking(&server).file("rows.jsonl", rows(5));
    let summary = folder
        .datagen(["run", "--limit", "2", "--json"])
        .exits(0)
        .summary();
    assert_eq!(
        (summary["rows"].as_u64(), counts(&summary)),
        (Some(2), [2, 0, 0, 0, 2])
    );
    let summary = folder
        .datagen(["run", "--limit", "3", "--json"])
        .exits(0)
        .summary();
    assert_eq!(
        (summary["rows"].as_u64(), counts(&summary)),
        (Some(3), [1, 0, 2, 0, 1])
    );
    let summary = folder.datagen(["run", "--json"]).exits(0).summary();
    assert_eq!(
        (summary["rows"].as_u64(), counts(&summary)),
        (Some(5), [2, 0, 3, 0, 2])
    );
    assert_eq!(server.hits(), 5);
}

#[test]
fn an_input_with_none_of_the_finished_rows_needs_add() {
    let server = Server::echoing();
    let folder = Folder::asking(&server);
    folder.datagen(["run"]).exits(0);
    folder.write("rows.jsonl", "{\"topic\": \"another\"}\n");
    assert_snapshot!(folder.datagen(["run"]).end().shown(), @"
    exit 2
    --- stderr
    error: the input has none of the 3 rows that are finished in output/demo
      hint: `--add` adds these rows to it; another output_data.experiment_name keeps them apart
    ");
    assert_eq!(server.hits(), 3);
    let ended = folder.datagen(["run", "--add", "--json"]).exits(0);
    assert_snapshot!(ended.stderr.lines().next().unwrap(), @"going on with output/demo: 1 of 1 row to do; 3 finished rows are not in this input and stay");
    let summary = ended.summary();
    assert_eq!(counts(&summary), [1, 0, 0, 0, 1]);
    assert_eq!(summary["not_in_input"], 3);
    assert_eq!(folder.lines(RESULT).len(), 4);
}

#[test]
fn failed_rows_are_asked_anew_and_leave_the_failures_when_they_are_finished() {
    let server = Server::start(|asked| match asked.nth {
        1 => Answer::error(400, "content_filter", "flagged by the content filter"),
        _ => Answer::good("fine"),
    });
    let folder = Folder::asking(&server);
    let summary = folder.datagen(["run", "--json"]).exits(3).summary();
    assert_eq!(counts(&summary), [2, 1, 0, 0, 3]);
    let summary = folder.datagen(["run", "--json"]).exits(0).summary();
    assert_eq!(counts(&summary), [1, 0, 2, 0, 1]);
    assert_eq!(folder.read("output/demo/failures.jsonl"), "");
}

#[test]
fn a_torn_last_line_is_repaired_before_anything_is_appended() {
    let server = Server::echoing();
    let folder = Folder::asking(&server);
    folder.datagen(["run"]).exits(0);
    let dataset = folder.read(RESULT);
    let last = dataset.lines().last().unwrap();
    folder.write(RESULT, &dataset[..dataset.len() - last.len() / 2]);
    let ended = folder.datagen(["run", "--json"]).exits(0);
    assert!(
        ended.stderr.contains("result.jsonl"),
        "it is said: {}",
        ended.stderr
    );
    assert_eq!(
        counts(&ended.summary()),
        [1, 0, 2, 0, 0],
        "the answer was still in the journal"
    );
    let mut ids: Vec<String> = folder
        .lines(RESULT)
        .iter()
        .map(|record| record["id"].to_string())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    assert_eq!(server.hits(), 3);
}

#[test]
fn a_second_process_is_refused_and_told_who_the_first_is() {
    let folder = Folder::offline();
    let slow = [
        "run",
        "--set",
        "offline.latency_ms=60000",
        "--set",
        "run.drain_s=0",
    ];
    let mut first = folder.datagen(slow).start();
    first.until_said("making output/demo");
    assert_snapshot!(folder.datagen(["run"]).end().shown(), @"
    exit 2
    --- stderr
    error: another process works on output/demo (process [PID], since [TIME])
      hint: wait for it, or stop it; what it has made is kept
    ");
    assert_snapshot!(folder.datagen(["run", "--new"]).end().shown(), @"
    exit 2
    --- stderr
    error: another process works on output/demo (process [PID], since [TIME])
      hint: wait for it, or stop it; what it has made is kept
    ");
    first.signal(Signal::TERM);
    first.exits(130);
    let summary = folder.datagen(["run", "--json"]).exits(0).summary();
    assert_eq!(counts(&summary), [3, 0, 0, 0, 3]);
}

#[test]
fn the_manifest_tells_of_every_command_and_what_it_changed() {
    let folder = Folder::offline();
    folder.datagen(["run", "--limit", "1"]).exits(0);
    folder.datagen(["run", "--concurrency", "2"]).exits(0);
    let manifest: Value = serde_json::from_str(&folder.read("output/demo/run.json")).unwrap();
    let commands = manifest["commands"].as_array().unwrap();
    assert_eq!(commands.len(), 2);
    assert_eq!(commands[0]["what"][1], "run");
    assert_eq!(commands[1]["changed"][0], "run.concurrency_limit: 5 -> 2");
    assert_eq!(commands[1]["counts"]["skipped"], 1);
    let setting = &manifest["settings"]["run.concurrency_limit"];
    assert_eq!(
        (&setting["value"], &setting["origin"]),
        (&Value::from(2), &Value::from("--concurrency"))
    );
}

#[test]
fn a_number_of_requests_that_is_found_on_the_way_is_auto_in_the_manifest() {
    let folder = Folder::offline();
    folder.datagen(["run", "--concurrency", "auto"]).exits(0);
    let manifest: Value = serde_json::from_str(&folder.read("output/demo/run.json")).unwrap();
    let setting = &manifest["settings"]["run.concurrency_limit"];
    assert_eq!(
        (&setting["value"], &setting["origin"]),
        (&Value::from("auto"), &Value::from("--concurrency"))
    );
    folder.datagen(["run", "--concurrency", "many"]).exits(2);
}

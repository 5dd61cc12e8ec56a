//! A folder for each command, and which of them a command goes on with.

use insta::assert_snapshot;

use crate::filters::filtered;
use crate::harness::{Folder, rows};
use crate::server::{Answer, Server};

/// Answers two rows, and refuses all others until somebody mends it.
fn breaking() -> Server {
    Server::start(
        |asked| match asked.user().contains("topic 2") && asked.nth < 4 {
            true => Answer::error(401, "invalid_api_key", "the key is wrong"),
            false => Answer::good("fine"),
        },
    )
}

fn stamped(server: &Server) -> Folder {
    Folder::asking(server)
        .edit(
            "config.yaml",
            "need_time_stamp: false",
            "need_time_stamp: true",
        )
        .edit("config.yaml", "run: {", "run: {concurrency_limit: 1, ")
}

#[test]
fn each_command_makes_a_folder_of_its_own() {
    let server = Server::echoing();
    let folder = stamped(&server);
    for _ in 0..3 {
        folder.datagen(["run"]).exits(0);
    }
    let names = folder.names("output/demo");
    assert_eq!(names.len(), 3);
    assert!(
        names.iter().all(|name| filtered(name) == "[STAMP]"),
        "{names:?}"
    );
    assert_eq!(server.hits(), 9);
}

#[test]
fn an_unfinished_run_is_offered_and_resumed() {
    let server = breaking();
    let folder = stamped(&server);
    assert_snapshot!(folder.datagen(["run"]).end().shown(), @"
    exit 4
    --- stderr
    making output/demo/[STAMP]: 3 of 3 rows to do
    stopped: 3 rows = 2 ok + 0 failed + 0 done before + 1 pending
      requests  4 (1 retry)
      tokens    14 prompt + 10 completion
      time      [TIME], [SPEED]
      result    output/demo/[STAMP]/result.jsonl
      stopped:  status 401: the key is wrong; check `model.api_key_env` (or `model.api_key`) and that the key belongs to `model.base_url`
      to go on: datagen run --resume output/demo/[STAMP]
    ");
    let hits = server.hits();
    assert_snapshot!(folder.datagen(["run"]).end().shown(), @"
    exit 2
    --- stderr
    error: the run in output/demo/[STAMP] has the same settings and is not finished (2 of 3 rows at its last checkpoint)
      hint: `--resume` goes on with it, `--resume output/demo/[STAMP]` always with this one
      hint: `--new` begins a new one and leaves it as it is
    ");
    assert_eq!(server.hits(), hits, "nothing may be sent");
    assert_eq!(folder.names("output/demo").len(), 1);

    let ended = folder.datagen(["run", "--resume", "--json"]).exits(0);
    assert_snapshot!(filtered(ended.stderr.lines().next().unwrap()), @"going on with output/demo/[STAMP]: 1 of 3 rows to do");
    let summary = ended.summary();
    assert_eq!(
        (summary["ok"].as_u64(), summary["skipped"].as_u64()),
        (Some(1), Some(2))
    );
    assert_eq!(folder.names("output/demo").len(), 1);
}

#[test]
fn a_run_is_resumed_by_its_folder_and_latest_is_the_newest_start() {
    let server = Server::echoing();
    let folder = stamped(&server);
    let run_dir =
        |ended: crate::harness::Ended| ended.summary()["run_dir"].as_str().unwrap().to_owned();
    let first = run_dir(folder.datagen(["run", "--limit", "1", "--json"]).exits(0));
    let second = run_dir(folder.datagen(["run", "--limit", "1", "--json"]).exits(0));
    assert_ne!(first, second);

    let summary = folder
        .datagen(["run", "--resume", &first, "--json"])
        .exits(0)
        .summary();
    assert_eq!(summary["run_dir"], first.as_str());
    assert_eq!(
        (summary["ok"].as_u64(), summary["skipped"].as_u64()),
        (Some(2), Some(1))
    );
    for latest in [&["--resume"][..], &["--resume", "latest"]] {
        let mut run = folder.datagen(["run", "--json"]);
        for argument in latest {
            run = run.args([*argument]);
        }
        assert_eq!(run_dir(run.exits(0)), second);
    }
}

#[test]
fn new_begins_anew_and_leaves_the_unfinished_run_as_it_is() {
    let server = breaking();
    let folder = stamped(&server);
    let old = folder.datagen(["run", "--json"]).exits(4).summary();
    let old = old["run_dir"].as_str().unwrap().to_owned();
    let journal = folder.read(&format!("{old}/journal.jsonl"));
    let summary = folder
        .datagen(["run", "--new", "--json"])
        .exits(0)
        .summary();
    assert_eq!(summary["ok"], 3);
    assert_ne!(summary["run_dir"], old.as_str());
    assert_eq!(folder.names("output/demo").len(), 2);
    assert_eq!(folder.read(&format!("{old}/journal.jsonl")), journal);
}

#[test]
fn an_unfinished_run_with_other_settings_or_without_answers_is_not_offered() {
    let server = breaking();
    let folder = stamped(&server);
    folder.datagen(["run"]).exits(4);
    folder
        .datagen(["run", "--set", "model.temperature=0.1"])
        .exits(0);

    let refusing = Server::start(|_| Answer::error(401, "invalid_api_key", "the key is wrong"));
    let folder = stamped(&refusing);
    folder.datagen(["run"]).exits(4);
    folder.datagen(["run"]).exits(4);
}

#[test]
fn a_fork_has_no_time_stamp_and_takes_the_newest_run() {
    let server = Server::echoing();
    let folder = stamped(&server).file("rows.jsonl", rows(2));
    folder.datagen(["run"]).exits(0);
    let fork = [
        "run",
        "--fork",
        "other",
        "--extract",
        "regex:topic \\d",
        "--json",
    ];
    let summary = folder.datagen(fork).exits(0).summary();
    assert_eq!(
        (summary["run_dir"].as_str(), summary["requests"].as_u64()),
        (Some("output/other"), Some(0))
    );
    assert_eq!(folder.lines("output/other/result.jsonl").len(), 2);
}

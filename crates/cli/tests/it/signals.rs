//! Ctrl-C, SIGTERM and SIGKILL: what is paid for stays, and the same command finishes.

use std::collections::HashSet;
use std::time::Duration;

use insta::assert_snapshot;
use rustix::process::Signal;

use crate::harness::{Folder, rows};
use crate::server::{Answer, Server};

const RESULT: &str = "output/demo/result.jsonl";

/// Each row once, whatever happened.
#[track_caller]
fn each_once(folder: &Folder, count: usize) {
    let records = folder.lines(RESULT);
    let topics: HashSet<String> = records
        .iter()
        .map(|record| record["input"]["topic"].to_string())
        .collect();
    assert_eq!((records.len(), topics.len()), (count, count));
}

#[test]
fn ctrl_c_keeps_what_is_under_way_and_the_same_command_finishes() {
    let folder = Folder::offline().file("rows.jsonl", rows(60));
    let slow = [
        "run",
        "--json",
        "--concurrency",
        "4",
        "--set",
        "offline.latency_ms=40",
    ];
    let mut run = folder.datagen(slow).start();
    run.until_lines(RESULT, 8);
    run.signal(Signal::INT);
    let ended = run.exits(130);
    assert!(
        ended.stderr.contains("Ctrl-C again leaves at once"),
        "{}",
        ended.stderr
    );
    let summary = ended.summary();
    assert!(summary["pending"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!(
        (&summary["ok"], summary["cut"].as_u64()),
        (&summary["requests"], Some(0))
    );

    let again = folder.datagen(slow).exits(0).summary();
    assert_eq!(
        (&again["skipped"], &again["ok"]),
        (&summary["ok"], &summary["pending"])
    );
    each_once(&folder, 60);
}

#[test]
fn a_second_ctrl_c_leaves_at_once() {
    let server = Server::start(|_| Answer::good("late").after(Duration::from_secs(60)));
    let folder = Folder::asking(&server);
    let mut run = folder.datagen(["run", "--concurrency", "2"]).start();
    run.until("two are under way", |_| server.hits() == 2);
    run.signal(Signal::INT);
    run.until_said("Ctrl-C again leaves at once");
    run.signal(Signal::INT);
    let ended = run.exits(130);
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
    assert_snapshot!(ended.shown(), @"
    exit 130
    --- stderr
    making output/demo: 3 of 3 rows to do
    interrupted: waiting for 2 answers under way; Ctrl-C again leaves at once
    stopped: 3 rows = 0 ok + 0 failed + 0 done before + 3 pending
      requests  2 (0 retries)
      tokens    0 prompt + 0 completion
      time      [TIME]
      result    output/demo/result.jsonl
      2 answers under way were cut off
      stopped:  interrupted
      to go on: the same command
    ");
    let quicker = Server::echoing();
    let address = format!("model.base_url={}", quicker.base_url());
    folder.datagen(["run", "--set", &address]).exits(0);
    each_once(&folder, 3);
}

#[test]
fn a_first_ctrl_c_waits_even_where_the_run_has_stopped_already() {
    let server = Server::start(|asked| match asked.nth {
        0 => Answer::good("paid for").after(Duration::from_millis(700)),
        _ => Answer::error(401, "invalid_api_key", "the key is wrong"),
    });
    let folder = Folder::asking(&server);
    let mut run = folder
        .datagen(["run", "--json", "--concurrency", "2"])
        .start();
    run.until_said("stopping: status 401");
    run.signal(Signal::INT);
    let summary = run.exits(130).summary();
    assert_eq!(
        (summary["ok"].as_u64(), summary["cut"].as_u64()),
        (Some(1), Some(0))
    );
}

#[test]
fn sigterm_waits_for_answers_that_come_in_time() {
    let server = Server::start(|asked| match asked.nth {
        0 | 1 => Answer::good("fine"),
        _ => Answer::good("fine").after(Duration::from_millis(300)),
    });
    let folder = Folder::asking(&server).file("rows.jsonl", rows(200));
    let mut run = folder
        .datagen(["run", "--json", "--concurrency", "2"])
        .start();
    run.until("two more are under way", |_| server.hits() >= 4);
    run.signal(Signal::TERM);
    let summary = run.exits(130).summary();
    // Whatever was asked by then is there.
    let asked = server.hits() as u64;
    assert_eq!(
        ["ok", "pending", "cut"].map(|key| summary[key].as_u64()),
        [asked, 200 - asked, 0].map(Some)
    );
}

#[test]
fn sigterm_waits_no_longer_than_it_may() {
    let server = Server::start(|_| Answer::good("late").after(Duration::from_secs(20)));
    let folder = Folder::asking(&server);
    let mut run = folder
        .datagen(["run", "--json", "--set", "run.drain_s=1"])
        .start();
    run.until("three are under way", |_| server.hits() == 3);
    run.signal(Signal::TERM);
    let ended = run.exits(130);
    assert!((1..8).contains(&ended.took.as_secs()), "{:?}", ended.took);
    let summary = ended.summary();
    assert_eq!(
        (summary["pending"].as_u64(), summary["cut"].as_u64()),
        (Some(3), Some(3))
    );
}

#[test]
fn ctrl_c_in_a_pause_ends_at_once() {
    let server = Server::start(|_| {
        Answer::error(429, "rate_limit_exceeded", "slow down").header("retry-after", "600")
    });
    let folder = Folder::asking(&server).edit("config.yaml", "logging: {dir: null}", "");
    let mut run = folder.datagen(["run", "--json"]).start();
    run.until("the log tells of a pause", |_| {
        folder.exists("logs")
            && folder.names("logs").iter().any(|name| {
                folder
                    .read(&format!("logs/{name}"))
                    .contains("paused: status 429: slow down")
            })
    });
    run.signal(Signal::INT);
    let ended = run.exits(130);
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
    assert_eq!(ended.summary()["pending"], 3);
}

#[test]
fn ctrl_c_while_rows_wait_for_the_rate_limit_ends_at_once() {
    let server = Server::echoing();
    let folder = Folder::asking(&server);
    let mut run = folder
        .datagen(["run", "--json", "--set", "model.rate_limit=1"])
        .start();
    run.until_lines(RESULT, 1);
    run.signal(Signal::INT);
    let ended = run.exits(130);
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
    let summary = ended.summary();
    assert_eq!(
        (summary["ok"].as_u64(), summary["pending"].as_u64()),
        (Some(1), Some(2))
    );
    assert_eq!(server.hits(), 1);
}

#[test]
fn ctrl_c_while_rows_are_typed_ends_and_leaves_nothing() {
    let folder = Folder::offline();
    let script = "mkfifo rows; exec 3<>rows; exec \"$DATAGEN\" run --data - <rows";
    let mut run = folder.shell(script).start();
    run.until("it has opened its folder", |_| {
        folder.exists("output/demo/.input.jsonl.new")
    });
    run.signal(Signal::INT);
    run.exits(130);
    assert!(!folder.exists("output/demo"));
}

#[test]
fn after_sigkill_the_same_command_makes_each_row_once_and_asks_only_what_was_under_way_again() {
    let server = Server::start(|asked| Answer::good(asked.user()).after(Duration::from_millis(3)));
    let folder = Folder::asking(&server).file("rows.jsonl", rows(300));
    for lines in [1, 60, 61, 170] {
        let mut run = folder.datagen(["run", "--concurrency", "8"]).start();
        run.until_lines(RESULT, lines);
        run.signal(Signal::KILL);
        assert_eq!(run.end().status.code(), None);
    }
    folder.datagen(["run", "--concurrency", "8"]).exits(0);
    each_once(&folder, 300);
    assert!(server.hits() <= 300 + 4 * 8, "{} requests", server.hits());
    for record in folder.lines(RESULT) {
        let topic = record["input"]["topic"].as_str().unwrap();
        assert_eq!(record["response"], format!("Write about {topic}."));
    }
}

#[test]
fn a_full_disk_is_told_with_its_own_code_and_the_run_can_go_on() {
    let folder = Folder::offline().file("rows.jsonl", rows(400));
    // 512-byte blocks on some systems, kilobytes on others: too small for 400 records on all of them.
    let ended = folder
        .shell("ulimit -f 64; trap '' XFSZ; exec \"$DATAGEN\" run --json")
        .end();
    assert_eq!(ended.status.code(), Some(74), "{}", ended.shown());
    let summary = ended.summary();
    assert!(summary["pending"].as_u64().unwrap() > 0, "{summary}");
    folder.datagen(["run"]).exits(0);
    each_once(&folder, 400);
}

#[test]
fn a_new_run_that_met_a_full_disk_is_gone_on_with_and_not_begun_anew() {
    let folder = Folder::offline().file("rows.jsonl", rows(400));
    folder.datagen(["run", "-q", "--limit", "1"]).exits(0);
    let ended = folder
        .shell("ulimit -f 64; trap '' XFSZ; exec \"$DATAGEN\" run --new")
        .exits(74);
    let said = &ended.stderr;
    assert!(!said.contains("the same command"), "{said}");
    assert!(said.ends_with("to go on: datagen run\n"), "{said}");
    let names = folder.names("output");
    folder.datagen(["run"]).exits(0);
    assert_eq!(folder.names("output"), names, "nothing is moved aside");
    each_once(&folder, 400);
}

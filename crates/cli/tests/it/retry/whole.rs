//! What a retry says of the run that it belongs to, and what it leaves to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use insta::assert_snapshot;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Moody, RETRY, counts, manifest};
use crate::harness::{Folder, rows};
use crate::server::{Answer, Server};

#[test]
fn a_retry_says_nothing_of_the_run_as_a_whole() {
    let moody = Moody::start();
    let folder = moody.made();
    let before = manifest(&folder);
    moody.get_well();
    folder
        .datagen(RETRY)
        .args(["-q", "--class", "server_error"])
        .exits(3);
    let after = manifest(&folder);
    assert_eq!(after["input"], before["input"]);
    assert_eq!(
        before["counts"],
        json!({"rows": 20, "ok": 12, "failed": 8, "skipped": 0, "pending": 0})
    );
    assert_eq!(
        after["counts"],
        json!({"rows": 20, "ok": 16, "failed": 4, "skipped": 0, "pending": 0})
    );
    assert_eq!(after["commands"][1]["counts"]["rows"], 4);

    // A run that was stopped is no more finished after a retry than before it, and offered to be gone on with.
    let slow = Server::start(|asked| match asked.nth {
        0 => Answer::error(422, "bad", "no"),
        _ => Answer::good("x").after(Duration::from_millis(20)),
    });
    let folder = Folder::asking(&slow)
        .edit(
            "config.yaml",
            "need_time_stamp: false",
            "need_time_stamp: true",
        )
        .file("rows.jsonl", rows(500));
    let mut running = folder.datagen(["run", "-q"]).start();
    running.until("something is made", |_| slow.hits() > 20);
    running.signal(Signal::INT);
    running.exits(130);
    let dir = format!("output/demo/{}", folder.names("output/demo").remove(0));
    folder.datagen(["retry", "-q", "--run", &dir]).exits(3);
    let ended = folder.datagen(["run"]).exits(2);
    assert!(ended.stderr.contains("is not finished"), "{}", ended.stderr);
}

#[test]
fn a_killed_retry_loses_nothing_and_is_gone_on_with() {
    let well = Arc::new(AtomicBool::new(false));
    let mood = Arc::clone(&well);
    let server = Server::start(move |asked| {
        if mood.load(Ordering::Relaxed) {
            Answer::good(asked.user()).after(Duration::from_millis(20))
        } else {
            Answer::error(422, "bad", "no")
        }
    });
    let folder = Folder::asking(&server).file("rows.jsonl", rows(300)).edit(
        "config.yaml",
        "run: {",
        "run: {stop_on_failures: null, ",
    );
    folder
        .datagen(["run", "-q", "--concurrency", "50"])
        .exits(3);
    well.store(true, Ordering::Relaxed);
    let mut running = folder.datagen(RETRY).args(["-q"]).start();
    running.until_lines("output/demo/result.jsonl", 5);
    running.signal(Signal::KILL);
    running.end();
    let ok = folder
        .read("output/demo/result.jsonl")
        .matches('\n')
        .count() as u64;
    let ended = folder
        .datagen(["status", "--json", "--run", "output/demo"])
        .exits(0);
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (&told["state"], &told["pending"]),
        (&json!("killed"), &json!(0))
    );
    assert_eq!(
        told["ok"].as_u64().unwrap() + told["failed"].as_u64().unwrap(),
        300
    );
    let summary = folder
        .datagen(RETRY)
        .args(["--json", "--concurrency", "50"])
        .exits(0)
        .summary();
    assert_eq!(summary["rows"].as_u64().unwrap() + ok, 300);
    assert!(summary["requests"].as_u64() <= summary["rows"].as_u64());
    assert_eq!(folder.lines("output/demo/result.jsonl").len(), 300);
}

#[test]
fn pending_rows_of_the_run_are_told_with_the_command_that_makes_them() {
    let slow = Arc::new(AtomicBool::new(true));
    let mood = Arc::clone(&slow);
    let server = Server::start(move |asked| {
        let wait = if mood.load(Ordering::Relaxed) { 20 } else { 0 };
        match asked.nth {
            0 => Answer::error(422, "bad", "no"),
            _ => Answer::good("x").after(Duration::from_millis(wait)),
        }
    });
    let folder = Folder::asking(&server).file("rows.jsonl", rows(300));
    let mut running = folder.datagen(["run", "-q"]).start();
    running.until("something is made", |_| server.hits() > 20);
    running.signal(Signal::INT);
    running.exits(130);
    let made = folder.lines("output/demo/result.jsonl").len() as u64;
    slow.store(false, Ordering::Relaxed);
    // With a row to ask, and with none.
    for (asked, said) in [
        (1, format!("{} rows of the run are pending", 299 - made)),
        (
            0,
            format!(
                "no row of output/demo is failed, so there is nothing to ask again; {} rows are pending",
                299 - made
            ),
        ),
    ] {
        let ended = folder.datagen(RETRY).args(["--json"]).exits(3);
        let pending = 299 - made;
        assert_eq!(
            counts(&ended.summary()),
            [asked + pending, asked, 0, pending, asked]
        );
        let go_on = "  to go on: make the rest: datagen run -q\n";
        assert!(
            ended.stderr.contains(&said) && ended.stderr.contains(go_on),
            "{}",
            ended.stderr
        );
    }
    folder.datagen(["run", "-q"]).exits(0);
    folder.datagen(RETRY).exits(0);
}

#[test]
fn where_nobody_knows_what_is_pending_a_retry_does_not_say_that_all_is_well() {
    let folder = Folder::offline();
    folder.datagen(["run", "-q"]).exits(0);
    // As a program leaves it whose rows came one by one and that was killed.
    let mut run = manifest(&folder);
    run["commands"][0]["ended"] = Value::Null;
    run["input"]["rows"] = Value::Null;
    folder.write("output/demo/run.json", run.to_string());
    assert_snapshot!(folder.datagen(RETRY).exits(3).shown(), @"
    exit 3
    --- stderr
    no row of output/demo is failed, so there is nothing to ask again; nobody knows how many rows are pending
    ");
}

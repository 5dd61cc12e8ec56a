//! `datagen retry`: once more for the rows that failed, and for no others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use insta::assert_snapshot;
use serde_json::Value;

use crate::harness::{Folder, rows};
use crate::server::{Answer, Server};

mod settings;
mod whole;

/// Refuses some rows in different ways until it is well.
struct Moody {
    server: Server,
    well: Arc<AtomicBool>,
}

impl Moody {
    fn start() -> Moody {
        let well = Arc::new(AtomicBool::new(false));
        let mood = Arc::clone(&well);
        let server = Server::start(move |asked| {
            let number: usize = asked
                .user()
                .matches(char::is_numeric)
                .collect::<String>()
                .parse()
                .unwrap();
            match number % 5 {
                _ if mood.load(Ordering::Relaxed) => Answer::good(&format!("<t>{number}</t>")),
                1 => Answer::error(500, "server_error", "it is broken"),
                2 => Answer::good(&format!("no tag {number}")),
                _ => Answer::good(&format!("<t>{number}</t>")),
            }
        });
        Moody { server, well }
    }

    /// A run of 20 rows, of which 4 are refused and 4 have no tag.
    fn made(&self) -> Folder {
        let folder = Folder::asking(&self.server).file("rows.jsonl", rows(20));
        let run = [
            "run",
            "-q",
            "--extract",
            "tag:t",
            "--set",
            "run.retry.max_attempts=2",
        ];
        folder.datagen(run).exits(3);
        folder
    }

    fn get_well(&self) {
        self.well.store(true, Ordering::Relaxed);
    }
}

const RETRY: [&str; 3] = ["retry", "--run", "output/demo"];

fn counts(summary: &Value) -> [u64; 5] {
    ["rows", "ok", "failed", "pending", "requests"].map(|key| summary[key].as_u64().unwrap())
}

fn manifest(folder: &Folder) -> Value {
    serde_json::from_str(&folder.read("output/demo/run.json")).unwrap()
}

#[test]
fn only_failed_rows_of_the_class_are_asked_and_the_others_stay_as_they_are() {
    let moody = Moody::start();
    let folder = moody.made();
    let before = folder.read("output/demo/result.jsonl");
    let failed = folder.lines("output/demo/failures.jsonl");
    let missed: Vec<&Value> = failed
        .iter()
        .filter(|line| line["error"]["class"] == "extraction_miss")
        .collect();
    let hits = moody.server.hits();
    moody.get_well();
    let ended = folder
        .datagen(RETRY)
        .args(["--class", "server_error", "--json"])
        .exits(3);
    // Those of the other class are failed still, and all is not well.
    assert_eq!(counts(&ended.summary()), [8, 4, 4, 0, 4]);
    assert!(
        ended
            .stderr
            .contains("\n  4 failed rows were not asked again\n")
            && ended.stderr.contains(" 4 x extraction_miss\n"),
        "{}",
        ended.stderr
    );
    let asked = moody.server.asked();
    let mut users: Vec<&str> = asked[hits..].iter().map(|asked| asked.user()).collect();
    users.sort_unstable();
    let expected = [1, 11, 16, 6].map(|n| format!("Write about topic {n}."));
    assert_eq!(users, expected);

    let after = folder.read("output/demo/result.jsonl");
    assert!(after.starts_with(&before), "finished rows are left alone");
    let result = folder.lines("output/demo/result.jsonl");
    assert_eq!(result.len(), 16);
    let still: Vec<Value> = folder.lines("output/demo/failures.jsonl");
    assert_eq!(still.iter().collect::<Vec<_>>(), missed);
    for line in &failed {
        if line["error"]["class"] == "server_error" {
            let now = result
                .iter()
                .find(|record| record["id"] == line["id"])
                .unwrap();
            assert_eq!(
                (&now["index"], &now["input"]),
                (&line["index"], &line["input"])
            );
        }
    }
}

#[test]
fn without_a_class_all_failed_rows_are_asked_and_their_judged_answers_stay_named() {
    let moody = Moody::start();
    let folder = moody.made();
    let ended = folder
        .datagen(RETRY)
        .args(["--json", "--set", "run.extract_retries=0"])
        .exits(3);
    assert_eq!(counts(&ended.summary())[..4], [8, 0, 8, 0]);
    let missed = folder.lines("output/demo/failures.jsonl");
    let answers = missed
        .iter()
        .find(|line| line["error"]["class"] == "extraction_miss")
        .unwrap();
    assert_eq!(
        answers["answers"].as_array().unwrap().len(),
        3,
        "two before, one now"
    );
    moody.get_well();
    assert_eq!(
        counts(&folder.datagen(RETRY).args(["--json"]).exits(0).summary()),
        [8, 8, 0, 0, 8]
    );
    assert_eq!(folder.read("output/demo/failures.jsonl"), "");
    assert_eq!(
        counts(&folder.datagen(RETRY).args(["--json"]).exits(0).summary()),
        [0, 0, 0, 0, 0]
    );
}

#[test]
fn the_second_of_two_equal_rows_keeps_its_id() {
    let well = Arc::new(AtomicBool::new(false));
    let mood = Arc::clone(&well);
    let server = Server::start(move |asked| {
        if mood.load(Ordering::Relaxed) || asked.nth == 0 {
            Answer::good("fine")
        } else {
            Answer::error(422, "bad", "no")
        }
    });
    let folder = Folder::asking(&server).file("rows.jsonl", "{\"topic\": \"tides\"}\n".repeat(3));
    folder.datagen(["run", "-q", "--concurrency", "1"]).exits(3);
    let failed = folder.lines("output/demo/failures.jsonl");
    well.store(true, Ordering::Relaxed);
    folder.datagen(RETRY).args(["-q"]).exits(0);
    let result = folder.lines("output/demo/result.jsonl");
    let mut ids: Vec<&Value> = result.iter().map(|line| &line["id"]).collect();
    assert_eq!(ids.len(), 3);
    assert!(failed.iter().all(|line| ids.contains(&&line["id"])));
    ids.sort_by_key(|id| id.to_string());
    ids.dedup();
    assert_eq!(ids.len(), 3);
    let summary = folder.datagen(["run", "--json"]).exits(0).summary();
    assert_eq!(summary["skipped"], 3);
}

#[test]
fn mistakes_are_refused_with_what_to_do() {
    let moody = Moody::start();
    let folder = moody.made();
    let mistake = |arguments: [&str; 2]| folder.datagen(["retry"]).args(arguments).exits(2).shown();
    assert_snapshot!(mistake(["--run", "output/nope"]), @"
    exit 2
    --- stderr
    error: output/nope is not there
      hint: a run's folder is the one that holds run.json; every run names it when it begins
    ");
    assert_snapshot!(mistake(["--run", "output"]), @"
    exit 2
    --- stderr
    error: output is no run folder: it has no run.json
      hint: there are runs in it, newest first: output/demo
    ");
    let large = Folder::offline().file(
        "rows.jsonl",
        format!("{{\"topic\": \"{}\"}}\n", "x".repeat(300)),
    );
    large
        .datagen(["run", "-q", "--set", "input_data.max_row_bytes=200"])
        .exits(3);
    assert_snapshot!(large.datagen(RETRY).exits(2).shown(), @"
    exit 2
    --- stderr
    error: 1 failed row cannot be asked again: it was too large to be held or no JSON object; mend the input and run it again
    ");
}

#[test]
fn where_no_row_is_failed_there_is_nothing_to_ask_and_nothing_is_noted() {
    let folder = Folder::offline();
    folder.datagen(["run", "-q"]).exits(0);
    let before = folder.read("output/demo/run.json");
    assert_snapshot!(folder.datagen(RETRY).exits(0).shown(), @"
    exit 0
    --- stderr
    no row of output/demo is failed, so there is nothing to ask again
    ");
    let json = folder.datagen(RETRY).args(["--json", "-q"]).exits(0);
    assert_eq!(counts(&json.summary()), [0, 0, 0, 0, 0]);
    let class = folder.datagen(RETRY).args(["--class", "server_error"]);
    assert_snapshot!(class.exits(0).shown(), @"
    exit 0
    --- stderr
    no row of output/demo is failed, so there is nothing to ask again
    ");
    assert_eq!(folder.read("output/demo/run.json"), before);
}

#[test]
fn a_class_that_no_failed_row_has_is_refused_with_those_that_there_are() {
    let moody = Moody::start();
    let folder = moody.made();
    let (before, hits) = (folder.read("output/demo/run.json"), moody.server.hits());
    let mistyped = ["--class", "server_eror"];
    assert_snapshot!(folder.datagen(RETRY).args(mistyped).exits(2).shown(), @"
    exit 2
    --- stderr
    error: no failed row in output/demo is of class `server_eror`; there are 4 x extraction_miss, 4 x server_error
    ");
    assert_eq!(folder.read("output/demo/run.json"), before);
    assert_eq!(moody.server.hits(), hits);
    // Another one is asked for all the same.
    moody.get_well();
    let ended = folder
        .datagen(RETRY)
        .args(mistyped)
        .args(["--class", "extraction_miss", "--json"])
        .exits(3);
    assert_eq!(counts(&ended.summary()), [8, 4, 4, 0, 4]);
    assert!(
        ended.stderr.contains("of class `server_eror`"),
        "{}",
        ended.stderr
    );
}

#[test]
fn rows_that_nobody_can_ask_are_counted_as_failed() {
    let folder = Folder::offline().file(
        "rows.jsonl",
        "{\"topic\": \"tides\"}\n{\"topc\": \"tides\"}\nno row\n",
    );
    folder.datagen(["run", "-q", "--skip-invalid"]).exits(3);
    let of_class = ["--class", "invalid_row", "--json"];
    let ended = folder.datagen(RETRY).args(of_class).exits(3);
    assert_eq!(counts(&ended.summary()), [2, 0, 2, 0, 0]);
    assert!(
        ended
            .stderr
            .contains("warning: 1 failed row cannot be asked again: it was too large"),
        "{}",
        ended.stderr
    );
    let ended = folder.datagen(["status", "--run", "output/demo"]).exits(0);
    let go_on: Vec<&str> = ended
        .stdout
        .lines()
        .filter(|line| line.contains("go on"))
        .collect();
    assert_eq!(
        go_on,
        ["  go on     mend 2 rows in the input and run again: datagen run -q --skip-invalid"],
        "a retry cannot help"
    );
}

//! `datagen retry`: once more for the rows that failed, and for no others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use insta::assert_snapshot;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Folder, rows};
use crate::server::{Answer, Server};

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
fn neither_configuration_nor_prompts_nor_rows_are_needed() {
    let moody = Moody::start();
    let folder = moody.made();
    for file in ["config.yaml", "user.txt", "rows.jsonl"] {
        std::fs::remove_file(folder.path(file)).unwrap();
    }
    moody.get_well();
    let arguments = [
        "--json",
        "--concurrency",
        "2",
        "--set",
        "model.max_tokens=9",
    ];
    assert_eq!(
        counts(&folder.datagen(RETRY).args(arguments).exits(0).summary()),
        [8, 8, 0, 0, 8]
    );
    let asked = moody.server.asked();
    assert_eq!(asked.last().unwrap().body["max_tokens"], 9);
    assert_eq!(asked.last().unwrap().body["model"], "tiny");
}

#[test]
fn changed_settings_of_the_dataset_are_refused_as_in_a_run() {
    let moody = Moody::start();
    let folder = moody.made();
    let hits = moody.server.hits();
    let set = ["--set", "model.temperature=0.1"];
    assert_snapshot!(folder.datagen(RETRY).args(set).exits(2).shown(), @"
    exit 2
    --- stderr
    error: the run in output/demo was made with other settings:
      model.temperature: 0.7 -> 0.1
      hint: a retry asks with the settings of the dataset, so leave these as they were; `datagen run --fork NAME` makes a new dataset with others
    ");
    assert_eq!(moody.server.hits(), hits);
}

#[test]
fn of_a_configuration_counts_how_to_ask_and_not_what_the_dataset_is() {
    let moody = Moody::start();
    let folder = moody.made().edit(
        "config.yaml",
        "  model: tiny",
        "  model: large\n  temperature: 0.1\n  headers: {x-team: t-3}",
    );
    folder.write("user.txt", "Write at length about {{topic}}.\n");
    folder.write("rows.jsonl", "");
    let hits = moody.server.hits();
    moody.get_well();
    let config = ["-q", "--config", "config.yaml"];
    folder.datagen(RETRY).args(config).exits(0);
    let asked = &moody.server.asked()[hits..];
    assert_eq!(asked.len(), 8);
    for asked in asked {
        assert!(asked.user().starts_with("Write about"), "{}", asked.user());
        assert_eq!(
            (&asked.body["model"], &asked.body["temperature"]),
            (&json!("tiny"), &json!(0.7))
        );
        assert_eq!(asked.header("x-team"), Some("t-3"));
    }
}

#[test]
fn a_key_comes_from_its_variable_again_and_a_literal_one_must_be_given_again() {
    let moody = Moody::start();
    let key = |name: &str| ["--set".to_owned(), format!("model.api_key_env={name}")];
    let folder = Folder::asking(&moody.server).file("rows.jsonl", rows(5));
    let [set, env] = key("MY_KEY");
    let run = ["run", "-q", "--extract", "tag:t", &set, &env];
    folder.datagen(run).env("MY_KEY", "sk-mine-1").exits(3);
    let ended = folder.datagen(RETRY).exits(2);
    assert!(
        ended
            .stderr
            .contains("MY_KEY (model.api_key_env, run.json) is not set"),
        "{}",
        ended.stderr
    );
    moody.get_well();
    folder
        .datagen(RETRY)
        .args(["-q"])
        .env("MY_KEY", "sk-mine-1")
        .exits(0);
    let asked = moody.server.asked();
    assert_eq!(
        asked.last().unwrap().header("authorization"),
        Some("Bearer sk-mine-1")
    );

    let moody = Moody::start();
    let folder = Folder::asking(&moody.server)
        .file("rows.jsonl", rows(5))
        .edit(
            "config.yaml",
            "api_key_env: null",
            "api_key: sk-literal-2\n  headers: {x-team: t-3}",
        );
    folder.datagen(["run", "-q", "--extract", "tag:t"]).exits(3);
    assert_snapshot!(folder.datagen(RETRY).exits(2).shown(), @"
    exit 2
    --- stderr
    error: the run in output/demo had a literal `model.api_key` (config.yaml:3), and run.json holds no secrets; give it again with `--config FILE` or `--set model.api_key=...`, or name a variable that holds it with `--set model.api_key_env=NAME`
    ");
    moody.get_well();
    let literal = ["--set", "model.api_key=sk-literal-2"];
    assert_snapshot!(folder.datagen(RETRY).args(literal).exits(2).shown(), @"
    exit 2
    --- stderr
    error: the run in output/demo had a literal `model.headers.x-team` (config.yaml:4), and run.json holds no secrets; give it again with `--config FILE` or `--set model.headers.x-team=...`
    ");
    let config = [
        "-q",
        "--config",
        "config.yaml",
        "--set",
        "run.extract=tag:t",
    ];
    folder.datagen(RETRY).args(config).exits(0);
    let asked = moody.server.asked();
    assert_eq!(
        asked.last().unwrap().header("authorization"),
        Some("Bearer sk-literal-2")
    );
    assert_eq!(asked.last().unwrap().header("x-team"), Some("t-3"));
    assert!(!folder.read("output/demo/run.json").contains("sk-literal-2"));
}

#[test]
fn the_default_variable_of_the_key_goes_nowhere_else_in_a_retry_either() {
    let moody = Moody::start();
    let folder = Folder::asking(&moody.server)
        .file("rows.jsonl", rows(5))
        .edit("config.yaml", "  api_key_env: null\n", "");
    folder
        .datagen(["run", "-q", "--extract", "tag:t"])
        .env("OPENAI_API_KEY", "sk-openai")
        .exits(3);
    moody.get_well();
    folder
        .datagen(RETRY)
        .args(["-q"])
        .env("OPENAI_API_KEY", "sk-openai")
        .exits(0);
    assert!(
        moody
            .server
            .asked()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
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

#[test]
fn further_fields_of_a_configuration_are_those_of_the_run_or_refused_and_never_joined() {
    let moody = Moody::start();
    let config = |extra: &str| format!("model:\n  api_key_env: null\n  extra: {extra}\n");
    let folder = Folder::asking(&moody.server)
        .file("rows.jsonl", rows(5))
        .edit(
            "config.yaml",
            "  model: tiny",
            "  model: tiny\n  extra: {seed: 1, stop: [a, b]}",
        )
        .file("same.yaml", config("{stop: [a, b], seed: 1}"))
        .file("removed.yaml", config("{seed: 1}"))
        .file("changed.yaml", config("{seed: 2, stop: [a, b]}"))
        .file("added.yaml", config("{seed: 1, stop: [a, b], top_p: 0.5}"))
        .file("emptied.yaml", config("{}"))
        .file("silent.yaml", "model: {rate_limit: null}\n");
    folder.datagen(["run", "-q", "--extract", "tag:t"]).exits(3);
    let (before, hits) = (folder.read("output/demo/run.json"), moody.server.hits());
    let refused = ["removed", "changed", "added", "emptied"].map(|name| {
        let ended = folder
            .datagen(RETRY)
            .args(["--config", &format!("{name}.yaml")])
            .exits(2);
        let changes = ended.stderr.lines().filter(|line| line.contains("->"));
        format!("{name}:{}", changes.collect::<String>())
    });
    assert_snapshot!(refused.join("\n"), @r#"
    removed:  model.extra.stop: ["a","b"] -> null
    changed:  model.extra.seed: 1 -> 2
    added:  model.extra.top_p: null -> 0.5
    emptied:  model.extra.seed: 1 -> null  model.extra.stop: ["a","b"] -> null
    "#);
    assert_eq!(folder.read("output/demo/run.json"), before);
    assert_eq!(moody.server.hits(), hits);

    folder
        .datagen(RETRY)
        .args(["-q", "--config", "silent.yaml"])
        .exits(3);
    moody.get_well();
    folder
        .datagen(RETRY)
        .args(["-q", "--config", "same.yaml"])
        .exits(0);
    for asked in &moody.server.asked()[hits..] {
        assert_eq!(
            (&asked.body["seed"], &asked.body["stop"]),
            (&json!(1), &json!(["a", "b"]))
        );
    }
}

#[test]
fn rows_and_folder_are_those_of_the_run() {
    let folder = Folder::offline();
    folder.datagen(["run", "-q"]).exits(0);
    let other = ["--set", "output_data.output_dir=elsewhere"];
    assert_snapshot!(folder.datagen(RETRY).args(other).exits(2).shown(), @"
    exit 2
    --- stderr
    error: `--set output_data.output_dir` says nothing to a retry: rows and folder are those of the run
      hint: leave it out; `datagen run` takes rows from elsewhere or writes to another folder
    ");
}

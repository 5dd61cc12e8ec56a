//! `datagen status`: what became of a run, for who only looks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use insta::assert_snapshot;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Ended, Folder, rows};
use crate::server::{Answer, Server, completion};

/// What differs from machine to machine in the text of a status.
fn shown(ended: &Ended) -> String {
    let patterns = [
        (
            r"median \d+ ms, 95 of 100 within \d+ ms, 99 within \d+ ms",
            "[LATENCIES]",
        ),
        (r"\(\d+ s\)", "([S])"),
        (r"(?m)^  time (.*\n {12})*.*$", "  time      [TIMES]"),
        (r"'?http://127\.0\.0\.1:\S+", "[ADDRESS]"),
    ];
    patterns
        .iter()
        .fold(ended.shown(), |text, (pattern, stand_in)| {
            let pattern = fancy_regex::Regex::new(pattern).unwrap();
            pattern.replace_all(&text, *stand_in).into_owned()
        })
}

fn status(folder: &Folder) -> Ended {
    folder.datagen(["status", "--run", "output/demo"]).exits(0)
}

fn status_json(folder: &Folder) -> Value {
    let ended = folder
        .datagen(["status", "--run", "output/demo", "--json"])
        .exits(0);
    assert_eq!(ended.stdout.matches('\n').count(), 1);
    serde_json::from_str(&ended.stdout).unwrap()
}

/// The names and contents of a run folder.
fn everything(folder: &Folder) -> Vec<(String, String)> {
    let names = folder.names("output/demo").into_iter();
    names
        .map(|name| (name.clone(), folder.read(&format!("output/demo/{name}"))))
        .collect()
}

fn number_of(user: &str) -> usize {
    user.matches(char::is_numeric)
        .collect::<String>()
        .parse()
        .unwrap()
}

#[test]
fn a_finished_run_with_failed_rows_is_told_by_class_and_message() {
    let server = Server::start(|asked| match number_of(asked.user()) {
        n @ (1 | 4) => Answer::error(422, "bad", &format!("no words for {n}")),
        7 => Answer::good("no tag"),
        n => Answer::good(&format!("<t>{n}</t>")),
    });
    let folder = Folder::asking(&server).file("rows.jsonl", rows(10));
    folder.datagen(["run", "-q", "--extract", "tag:t"]).exits(3);
    let before = everything(&folder);
    assert_snapshot!(shown(&status(&folder)), @r#"
    exit 0
    --- stdout
    output/demo: finished
      rows      7 ok + 3 failed, 0 pending; the last input has 10
      classes   2 x unprocessable
                1 x extraction_miss
      messages  2 x "status N: no words for N"
                1 x "extractor `tag:t`: no `<t>` in N bytes"
      answers   9 in the journal, all of them judged
      tokens    63 prompt + 45 completion
      latency   [LATENCIES]; of the answers, 11.1 % came at a later try
      time      [TIMES]
      again     1 request was sent once more: 1 after extraction_miss
      command   [TIME] ([S]) datagen run -q --extract tag:t: 7 ok, 3 failed of 10 rows
      go on     try another extractor on the answers, without a request: datagen extract --run output/demo --extract SPEC
      go on     ask again for what failed: datagen retry --run output/demo
      go on     or for the commonest of it: datagen retry --run output/demo --class unprocessable
    "#);
    assert_eq!(everything(&folder), before, "it only reads");

    let told = status_json(&folder);
    assert_eq!(
        (&told["state"], &told["ok"], &told["failed"]),
        (&json!("finished"), &json!(7), &json!(3))
    );
    assert_eq!(
        (&told["answers"], &told["re_asks"], &told["unjudged"]),
        (&json!(9), &json!(1), &json!(0))
    );
    assert_eq!(
        (&told["prompt_tokens"], &told["completion_tokens"]),
        (&json!(63), &json!(45))
    );
    assert_eq!(told["messages"][0]["rows"], 2);
    assert_eq!(told["commands"][0]["counts"]["failed"], 3);
}

#[test]
fn where_the_time_went_is_told() {
    let server = Server::start(|asked| match asked.nth {
        0 => Answer::error(429, "rate_limit_exceeded", "slow down").header("retry-after", "1"),
        _ => Answer::good("x").after(Duration::from_millis(200)),
    });
    let folder = Folder::asking(&server);
    let run = ["run", "--json", "--concurrency", "1"];
    let summary = folder.datagen(run).exits(0).summary();
    assert!(summary["waited_s"]["pause"].is_number(), "{summary}");
    let said = status(&folder).stdout;
    let figures = [
        (r"\b\d+\.\d at once", "[N] at once"),
        (r" +[\d.]+ s +\d+ %", " [S] [N] %"),
        (r"(?m)^  (?!time|again| {8}).*\n", ""),
    ];
    let said = figures.iter().fold(said, |text, (pattern, stand_in)| {
        let pattern = fancy_regex::Regex::new(pattern).unwrap();
        pattern.replace_all(&text, *stand_in).into_owned()
    });
    assert_snapshot!(said, @"
    output/demo: finished
      time [S] [N] %  in all
     [S] [N] %  requests were under way, [N] at once on average
     [S] [N] %  rows waited for the end of pauses that the endpoint asked for, [N] at once on average
      again     1 request was sent once more: 1 after rate_limited
    ");
    let told = status_json(&folder);
    assert_eq!(told["times"], told["commands"][0]["times"]);
    assert_eq!(told["times"]["asked_again"], json!({"rate_limited": 1}));

    // Of a folder that an older version made nobody knows.
    let mut manifest: Value = serde_json::from_str(&folder.read("output/demo/run.json")).unwrap();
    let command = manifest["commands"][0].as_object_mut().unwrap();
    assert!(command.remove("times").is_some());
    folder.write("output/demo/run.json", manifest.to_string());
    assert!(!status(&folder).stdout.contains("time "));
    assert_eq!(status_json(&folder)["times"], Value::Null);
}

#[test]
fn a_running_run_a_stopped_one_and_a_killed_one_are_told_apart() {
    let quick = std::sync::Arc::new(AtomicBool::new(false));
    let mood = std::sync::Arc::clone(&quick);
    let server = Server::start(move |_| {
        let wait = if mood.load(Ordering::Relaxed) { 0 } else { 100 };
        Answer::good("x").after(Duration::from_millis(wait))
    });
    let folder = Folder::asking(&server).file("rows.jsonl", rows(300));
    let mut running = folder.datagen(["run", "-q"]).start();
    running.until_lines("output/demo/result.jsonl", 3);
    let told = status_json(&folder);
    assert_eq!(told["state"], "running");
    assert!(
        told["why"].as_str().unwrap().starts_with("process "),
        "{told}"
    );
    assert_eq!(
        told["pending"].as_u64().unwrap() + told["ok"].as_u64().unwrap(),
        300
    );
    assert_eq!(told["go_on"], json!([]));

    running.signal(Signal::INT);
    running.exits(130);
    let told = status_json(&folder);
    assert_eq!(
        (&told["state"], &told["why"]),
        (&json!("stopped"), &json!("interrupted"))
    );
    assert_eq!(told["go_on"][0]["command"], "datagen run -q");
    let ok = told["ok"].as_u64().unwrap();

    let mut running = folder.datagen(["run", "-q"]).start();
    running.until_lines("output/demo/result.jsonl", usize::try_from(ok).unwrap() + 3);
    running.signal(Signal::KILL);
    running.end();
    let told = status_json(&folder);
    assert_eq!(told["state"], "killed");
    assert_eq!(
        told["go_on"][0],
        json!({"what": "make the rest", "command": "datagen run -q"})
    );

    quick.store(true, Ordering::Relaxed);
    folder.datagen(["run", "-q"]).exits(0);
    let told = status_json(&folder);
    assert_eq!(
        (&told["state"], &told["pending"], &told["go_on"]),
        (&json!("finished"), &json!(0), &json!([]))
    );
}

#[test]
fn the_command_that_goes_on_names_the_folder_where_each_run_has_its_own() {
    let folder = Folder::offline().edit(
        "config.yaml",
        "need_time_stamp: false",
        "need_time_stamp: true",
    );
    folder
        .datagen(["run", "-q", "--new", "--limit", "2"])
        .exits(0);
    let stamp = folder.names("output/demo").remove(0);
    let dir = format!("output/demo/{stamp}");
    // As a kill leaves it.
    let manifest = folder.read(&format!("{dir}/run.json"));
    let mut manifest: Value = serde_json::from_str(&manifest).unwrap();
    manifest["commands"][0]["ended"] = Value::Null;
    folder.write(&format!("{dir}/run.json"), manifest.to_string());
    let ended = folder.datagen(["status", "--json", "--run", &dir]).exits(0);
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    let command = told["go_on"][0]["command"].as_str().unwrap();
    assert_eq!(command, format!("datagen run -q --limit 2 --resume {dir}"));
    let script = command.replace("datagen", "\"$DATAGEN\"");
    folder.shell(&script).exits(0);
}

#[test]
fn damage_is_named_with_its_line_and_ends_nothing() {
    let folder = Folder::offline().file("rows.jsonl", rows(6));
    folder.datagen(["run", "-q"]).exits(0);
    let result = folder.read("output/demo/result.jsonl");
    let lines: Vec<&str> = result.lines().collect();
    let damaged = [
        lines[0],
        "{\"id\":",
        lines[2],
        lines[2],
        lines[4],
        &lines[5][..50],
    ]
    .join("\n");
    folder.write("output/demo/result.jsonl", damaged);
    let journal = folder.read("output/demo/journal.jsonl");
    folder.write(
        "output/demo/journal.jsonl",
        format!("{journal}\u{0}\u{0}\n{journal}"),
    );
    assert_snapshot!(shown(&status(&folder)), @"
    exit 0
    --- stdout
    output/demo: finished
      rows      3 ok + 0 failed, 3 pending; the last input has 6
      answers   11 in the journal, 6 of them not judged yet
      tokens    55 prompt + 143 completion
      latency   [LATENCIES]; of the answers, 0.0 % came at a later try
      time      [TIMES]
      command   [TIME] ([S]) datagen run -q: 6 ok, 0 failed of 6 rows
      note      the last line of output/demo/result.jsonl is torn; the next command mends it
      damage    output/demo/result.jsonl:2: is no line of a dataset (EOF while parsing a value, column 6); a run with `--repair` moves the line aside and makes its row again from the journal
      damage    output/demo/result.jsonl: 1 line stands here for a row that another line has; a run with `--repair` moves it aside
      damage    output/demo/journal.jsonl:7: is no line of a journal (expected value, column 1); a run with `--repair` moves the line aside and goes on without that answer
      damage    output/demo/journal.jsonl:8: has the number 1 behind the number 6, so an answer stands here twice or a number is damaged; a run with `--repair` moves such lines aside and goes on without them
      go on     mend it and make the rest: datagen run -q --repair
    ");
}

#[test]
fn files_that_wait_for_their_places_are_the_ones_that_count() {
    let folder = Folder::offline();
    folder.datagen(["run", "-q"]).exits(0);
    let result = folder.read("output/demo/result.jsonl");
    let first = result.lines().next().unwrap().to_owned() + "\n";
    let mut manifest: Value = serde_json::from_str(&folder.read("output/demo/run.json")).unwrap();
    manifest["put_in_place"] = json!({"result.jsonl": first.len(), "failures.jsonl": 0});
    folder.write("output/demo/run.json", manifest.to_string());
    folder.write("output/demo/.result.jsonl.extracted", &first);
    folder.write("output/demo/.failures.jsonl.extracted", "");
    let told = status_json(&folder);
    assert_eq!(
        (&told["ok"], &told["put_in_place"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(
        folder.read("output/demo/result.jsonl"),
        result,
        "it only reads"
    );
}

#[test]
fn mistakes_are_refused_with_what_to_do() {
    let folder = Folder::offline().file("output/demo/notes.txt", "");
    let mistake = |dir: &str| folder.datagen(["status", "--run", dir]).exits(2).shown();
    assert_snapshot!(mistake("output/nope"), @"
    exit 2
    --- stderr
    error: output/nope is not there
      hint: a run's folder is the one that holds run.json; every run names it when it begins
    ");
    assert_snapshot!(mistake("output/demo"), @"
    exit 2
    --- stderr
    error: output/demo is no run folder: it has no run.json
      hint: a run's folder is the one that holds run.json; every run names it when it begins
    ");
    for command in ["status", "retry"] {
        let file = [command, "--run", "output/demo/notes.txt"];
        assert_eq!(
            folder.datagen(file).exits(2).stderr,
            "error: output/demo/notes.txt is a file; give the folder that holds it and run.json\n"
        );
    }
    folder.write("output/demo/run.json", "");
    assert_snapshot!(mistake("output/demo"), @"
    exit 2
    --- stderr
    error: output/demo/run.json:1: is empty, so nobody can tell what this dataset was made with; put a copy of it back, or move the folder aside and make the dataset anew
    ");
    folder.write("output/demo/run.json", "{\n\"format\": ");
    assert_snapshot!(mistake("output/demo"), @"
    exit 2
    --- stderr
    error: output/demo/run.json:2: is torn or no manifest of a run (EOF while parsing a value at line 2 column 10), so nobody can tell what this dataset was made with; put a copy of it back, or move the folder aside and make the dataset anew
    ");
}

#[test]
fn after_an_extraction_the_command_that_goes_on_names_the_extractor() {
    let folder = Folder::offline().file("rows.jsonl", rows(6));
    let run = ["run", "-q", "--limit", "4", "--extract", "json"];
    folder
        .datagen(run)
        .args(["--set", "offline.reply=[1]"])
        .exits(0);
    // As a kill leaves it.
    let mut manifest: Value = serde_json::from_str(&folder.read("output/demo/run.json")).unwrap();
    manifest["commands"][0]["ended"] = Value::Null;
    folder.write("output/demo/run.json", manifest.to_string());
    let extract = ["extract", "--run", "output/demo", "--extract", "regex:."];
    folder.datagen(extract).exits(0);
    let told = status_json(&folder);
    let command = told["go_on"][0]["command"].as_str().unwrap();
    assert_snapshot!(command, @"datagen run -q --limit 4 --set 'offline.reply=[1]' --extract regex:.");
    let script = command.replace("datagen", "\"$DATAGEN\"");
    folder.shell(&script).exits(0);
}

#[test]
fn a_part_of_the_input_and_a_retry_that_was_stopped_are_told() {
    let folder = Folder::offline().file("rows.jsonl", rows(20));
    let run = [
        "run",
        "-q",
        "--limit",
        "6",
        "--set",
        "run.stop_on_failures=null",
    ];
    let failing = [
        "--set",
        "offline.error_rate=1",
        "--set",
        "run.retry.max_attempts=1",
    ];
    folder.datagen(run).args(failing).exits(3);
    let slow = [
        "--set",
        "offline.error_rate=0",
        "--set",
        "offline.latency_ms=3000",
    ];
    let retry = ["retry", "--run", "output/demo", "--concurrency", "1"];
    let mut retry = folder.datagen(retry).args(slow).start();
    retry.until_said("6 of 6 rows to do");
    retry.signal(Signal::TERM);
    retry.exits(130);
    let said = shown(&status(&folder));
    assert!(
        said.contains("demo: finished; its last command (retry) was stopped: interrupted\n")
            && said.contains(
                " 0 pending; the last input has 20, of which the last run took the first 6\n"
            ),
        "{said}"
    );
}

#[test]
fn after_a_part_of_the_input_the_command_that_takes_all_of_it_is_named() {
    let folder = Folder::offline().file("rows.jsonl", rows(20));
    let way = || status_json(&folder)["go_on"][0].clone();
    folder.datagen(["run", "-q", "--limit", "6"]).exits(0);
    assert_snapshot!(way(), @r#"{"what":"make the whole input","command":"datagen run -q"}"#);
    folder.datagen(["run", "--limit=8", "-q"]).exits(0);
    assert_eq!(way()["command"], "datagen run -q");
    let script = way()["command"]
        .as_str()
        .unwrap()
        .replace("datagen", "\"$DATAGEN\"");
    folder.shell(&script).exits(0);
    assert_eq!(folder.lines("output/demo/result.jsonl").len(), 20);
    assert_eq!(status_json(&folder)["go_on"], json!([]));
    // A limit that was not reached leaves nothing out.
    folder.datagen(["run", "-q", "--limit", "20"]).exits(0);
    assert_eq!(status_json(&folder)["go_on"], json!([]));
}

#[test]
fn a_secret_is_no_part_of_the_command_that_goes_on() {
    let folder = Folder::offline();
    let secret = ["--set", "model.api_key=sk-planted-1", "--limit", "2"];
    folder.datagen(["run", "-q"]).args(secret).exits(0);
    let mut manifest: Value = serde_json::from_str(&folder.read("output/demo/run.json")).unwrap();
    manifest["commands"][0]["ended"] = Value::Null;
    folder.write("output/demo/run.json", manifest.to_string());
    assert_snapshot!(status_json(&folder)["go_on"][0], @r#"{"what":"make the rest, and give the secret again that is left out here","command":"datagen run -q --limit 2"}"#);
}

#[test]
fn rows_of_standard_input_are_gone_on_with_from_their_copy() {
    let named = ["run", "-q", "--data", "-"];
    let named_with_sign = ["run", "-q", "--data=-"];
    let in_the_configuration = ["run", "-q"];
    for (stamped, run) in [false, true].into_iter().flat_map(|stamped| {
        [&named[..], &named_with_sign, &in_the_configuration].map(|run| (stamped, run))
    }) {
        let folder = Folder::offline()
            .edit("config.yaml", "path: rows.jsonl", "path: '-'")
            .edit(
                "config.yaml",
                "need_time_stamp: false",
                &format!("need_time_stamp: {stamped}"),
            );
        std::fs::remove_file(folder.path("rows.jsonl")).unwrap();
        folder
            .shell(&format!("exec \"$DATAGEN\" {}", run.join(" ")))
            .input(rows(5))
            .exits(0);
        let dir = match stamped {
            true => format!("output/demo/{}", folder.names("output/demo").remove(0)),
            false => "output/demo".to_owned(),
        };
        // The second time the command is the one that was pasted.
        for nth in 0..2 {
            // As a kill leaves it.
            let manifest = folder.read(&format!("{dir}/run.json"));
            let mut manifest: Value = serde_json::from_str(&manifest).unwrap();
            manifest["commands"][nth]["ended"] = Value::Null;
            folder.write(&format!("{dir}/run.json"), manifest.to_string());
            let ended = folder.datagen(["status", "--json", "--run", &dir]).exits(0);
            let told: Value = serde_json::from_str(&ended.stdout).unwrap();
            let command = told["go_on"][0]["command"].as_str().unwrap();
            let resume = match stamped {
                true => format!(" --resume {dir}"),
                false => String::new(),
            };
            assert_eq!(
                command,
                format!("datagen run -q --data {dir}/.input.jsonl{resume}")
            );
            let script = command.replace("datagen", "\"$DATAGEN\"");
            folder.shell(&script).exits(0);
            let manifest = folder.read(&format!("{dir}/run.json"));
            let manifest: Value = serde_json::from_str(&manifest).unwrap();
            let counts = &manifest["commands"][nth + 1]["counts"];
            assert_eq!(
                (&counts["rows"], &counts["skipped"]),
                (&json!(5), &json!(5))
            );
        }
    }
}

#[test]
fn a_run_that_was_stopped_says_where_its_rows_of_standard_input_are() {
    let server = Server::start(|asked| match asked.nth {
        0 => Answer::good("x"),
        _ => Answer::error(429, "insufficient_quota", "no money"),
    });
    let folder = Folder::asking(&server);
    let ended = folder
        .datagen(["run", "--data", "-", "--concurrency", "1"])
        .input(rows(3))
        .exits(4);
    let go_on = ended.stderr.lines().find(|line| line.contains("to go on"));
    assert_snapshot!(go_on.unwrap().trim(), @"to go on: datagen run --concurrency 1 --data output/demo/.input.jsonl");
}

#[test]
fn tokens_that_an_answer_does_not_tell_are_a_guess_in_summary_and_status() {
    let server = Server::start(|asked| {
        let mut body = completion("fine");
        if asked.nth == 1 {
            body.as_object_mut().unwrap().remove("usage");
        }
        Answer::json(200, &body)
    });
    let folder = Folder::asking(&server).file("rows.jsonl", rows(3));
    let tokens = |told: &str| {
        let mut lines = told.lines().map(str::trim);
        lines
            .find(|line| line.starts_with("tokens"))
            .unwrap()
            .to_owned()
    };
    let summary = tokens(&folder.datagen(["run"]).exits(0).stderr);
    assert!(
        summary.starts_with("tokens    about ") && summary.ends_with("(1 answer does not say)"),
        "{summary}"
    );
    assert_eq!(tokens(&status(&folder).stdout), summary);
}

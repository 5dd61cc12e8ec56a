//! `datagen extract`: the answers that were paid for, taken apart in another way.

use std::sync::atomic::{AtomicBool, Ordering};

use insta::assert_snapshot;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Folder, rows};
use crate::server::{Answer, Server, completion};

const FILES: [&str; 3] = ["result.jsonl", "failures.jsonl", "journal.jsonl"];

/// Every third answer has a title, the one of topic 4 is empty at first, that of topic 7 always refused.
fn odd_server() -> Server {
    let met = AtomicBool::new(false);
    let said = AtomicBool::new(false);
    Server::start(move |asked| {
        let topic: usize = asked
            .user()
            .matches(char::is_numeric)
            .collect::<String>()
            .parse()
            .unwrap();
        let text = format!("<think>hm</think><text>{topic}</text>");
        match topic {
            // Who misses something in its one answer is told no more.
            8 if said.swap(true, Ordering::Relaxed) => {
                Answer::error(500, "server_error", "it is broken")
            }
            7 => Answer::error(500, "server_error", "it is broken"),
            4 if !met.swap(true, Ordering::Relaxed) => Answer::good(""),
            n if n % 3 == 0 => Answer::good(&format!("{text}<title>T{n}</title>")),
            // Nobody counted these tokens, so they are guessed.
            5 => {
                let mut body = completion(&text);
                body.as_object_mut().unwrap().remove("usage");
                body.as_object_mut().unwrap().remove("model");
                Answer::json(200, &body)
            }
            _ => Answer::good(&text),
        }
    })
}

fn made(server: &Server, extract: &str) -> Folder {
    let folder = Folder::asking(server).file("rows.jsonl", rows(12));
    let set = format!("run.extract={extract}");
    let run = [
        "run",
        "-q",
        "--set",
        &set,
        "--set",
        "run.retry.max_attempts=2",
    ];
    let ended = folder.datagen(run).end();
    assert!(
        [0, 3].contains(&ended.status.code().unwrap()),
        "{}",
        ended.shown()
    );
    folder
}

fn files(folder: &Folder) -> [String; 3] {
    FILES.map(|name| folder.read(&format!("output/demo/{name}")))
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn extract(spec: &str) -> [&str; 5] {
    ["extract", "--run", "output/demo", "--extract", spec]
}

#[test]
fn the_same_extractor_gives_every_byte_again_and_asks_nothing() {
    let server = odd_server();
    for spec in ["none", "tag:text", "tag:title"] {
        let folder = made(&server, spec);
        let before = files(&folder);
        let hits = server.hits();
        folder.datagen(extract(spec)).exits(3);
        assert_eq!(files(&folder), before, "{spec}");
        assert_eq!(server.hits(), hits);
    }
}

#[test]
fn another_extractor_moves_rows_between_dataset_and_failures_and_back() {
    let server = odd_server();
    let folder = made(&server, "tag:text");
    let [result, failures, journal] = files(&folder);
    let hits = server.hits();
    let ended = folder.datagen(extract("tag:title")).exits(3);
    assert_snapshot!(ended.shown(), @"
    exit 3
    --- stderr
    extracted again with tag:title: 12 rows = 4 ok + 8 failed; no request was sent
      0 of them had failed and are in the dataset now, 7 were in it and are failed now
      1 failed row stays as before: no answer there has a text to extract from
      result    output/demo/result.jsonl
      failures  output/demo/failures.jsonl
      from now on give `--extract tag:title` to `datagen run`, or set `run.extract`
    ");
    assert_eq!(folder.lines("output/demo/result.jsonl").len(), 4);
    let made = folder.lines("output/demo/result.jsonl");
    let first = made.iter().find(|line| line["index"] == 0).unwrap();
    assert_eq!(first["extracted"], json!(["T0"]));
    assert_eq!(first["reasoning"], "hm");
    let failed = folder.lines("output/demo/failures.jsonl");
    assert_eq!(failed.len(), 8);
    let of = |n: usize| {
        failed
            .iter()
            .find(|line| line["index"] == n)
            .unwrap_or_else(|| panic!("row {n} failed"))
    };
    assert_eq!(of(1)["error"]["class"], "extraction_miss");
    assert_eq!(
        of(7)["error"]["class"],
        "server_error",
        "its line is as it was"
    );
    let manifest: Value = serde_json::from_str(&folder.read("output/demo/run.json")).unwrap();
    assert_eq!(manifest["dataset"]["extract"], "tag:title");
    assert_eq!(manifest["commands"][1]["counts"]["failed"], 8);
    assert_eq!(manifest["counts"]["ok"], 4, "{}", manifest["counts"]);
    assert_eq!(manifest["counts"]["rows"], 12);
    assert!(manifest.get("put_in_place").is_none());

    let there_and_back = folder
        .datagen(extract("tag:text"))
        .args(["--json"])
        .exits(3);
    let summary: Value = serde_json::from_str(&there_and_back.stdout).unwrap();
    assert_eq!(
        (&summary["recovered"], &summary["lost"], &summary["kept"]),
        (&json!(7), &json!(0), &json!(1))
    );
    let [again, failed_again, same_journal] = files(&folder);
    assert_eq!(sorted(&again), sorted(&result));
    assert_eq!(sorted(&failed_again), sorted(&failures));
    assert_eq!((same_journal, server.hits()), (journal, hits));
    assert_eq!(
        folder.names("output/demo"),
        [
            "failures.jsonl",
            "journal.jsonl",
            "result.jsonl",
            "run.json",
            "run.lock"
        ]
    );
}

#[test]
fn a_run_with_the_new_extractor_goes_on_there_and_one_with_the_old_is_refused() {
    let server = Server::start(|asked| Answer::good(&format!("<text>{}</text>", asked.user())));
    let folder = made(&server, "none");
    folder.write("rows.jsonl", rows(14));
    folder.datagen(extract("tag:text:first")).exits(0);
    let run = ["run", "--json", "--extract", "tag:text:first"];
    let summary = folder.datagen(run).exits(0).summary();
    assert_eq!(
        (&summary["skipped"], &summary["ok"]),
        (&json!(12), &json!(2))
    );
    let ended = folder.datagen(["run", "--extract", "none"]).exits(2);
    assert_snapshot!(ended.shown(), @r#"
    exit 2
    --- stderr
    error: the run in output/demo was made with other settings:
      extract: "tag:text:first" -> "none"
      hint: `--extract tag:text:first` goes on with the extractor that the dataset has
      hint: `datagen extract --run output/demo --extract none` makes it again with the other one, without a request
    "#);
}

#[test]
fn answers_of_rows_without_a_line_are_left_to_the_next_run() {
    let server = Server::start(|asked| Answer::good(&format!("<text>{}</text>", asked.user())));
    let folder = made(&server, "none");
    let result = folder.read("output/demo/result.jsonl");
    let kept: String = result
        .lines()
        .take(9)
        .map(|line| format!("{line}\n"))
        .collect();
    // A kill between the journal and the lines, and a torn end on top of it.
    folder.write("output/demo/result.jsonl", format!("{kept}{{\"id\":"));
    let ended = folder.datagen(extract("tag:text")).exits(0);
    assert!(
        ended
            .stderr
            .contains("3 answers are of rows that have no line yet"),
        "{}",
        ended.stderr
    );
    let hits = server.hits();
    let summary = folder
        .datagen(["run", "--json", "--extract", "tag:text"])
        .exits(0)
        .summary();
    assert_eq!(
        (&summary["skipped"], &summary["ok"]),
        (&json!(9), &json!(3))
    );
    assert_eq!(server.hits(), hits, "they were paid for");
}

#[test]
fn needs_neither_key_nor_configuration_nor_the_files_of_the_prompts() {
    let server = odd_server();
    let folder = made(&server, "none");
    for file in ["config.yaml", "user.txt", "rows.jsonl"] {
        std::fs::remove_file(folder.path(file)).unwrap();
    }
    folder
        .datagen(extract("tag:text"))
        .args(["--quiet"])
        .exits(3);
}

/// What a kill at each moment of the decision leaves behind.
#[test]
fn a_kill_at_any_moment_leaves_the_old_dataset_or_the_new_one() {
    let server = odd_server();
    let folder = made(&server, "tag:text");
    let old = files(&folder);
    let old_manifest = folder.read("output/demo/run.json");
    folder.datagen(extract("tag:title")).exits(3);
    let new = files(&folder);
    let mut manifest: Value = serde_json::from_str(&folder.read("output/demo/run.json")).unwrap();
    manifest["put_in_place"] =
        json!({"result.jsonl": new[0].len(), "failures.jsonl": new[1].len()});
    let decided = manifest.to_string();

    // (moment, run.json, result.jsonl, failures.jsonl, hidden result, hidden failures, what counts)
    let half = &new[0][..new[0].len() / 2];
    let moments = [
        (
            "writing",
            &old_manifest,
            &old[0],
            &old[1],
            Some(half),
            None,
            false,
        ),
        (
            "written",
            &old_manifest,
            &old[0],
            &old[1],
            Some(new[0].as_str()),
            Some(new[1].as_str()),
            false,
        ),
        (
            "decided",
            &decided,
            &old[0],
            &old[1],
            Some(new[0].as_str()),
            Some(new[1].as_str()),
            true,
        ),
        (
            "one in place",
            &decided,
            &old[0],
            &new[1],
            Some(new[0].as_str()),
            None,
            true,
        ),
        (
            "the other in place",
            &decided,
            &new[0],
            &old[1],
            None,
            Some(new[1].as_str()),
            true,
        ),
        (
            "both in place",
            &decided,
            &new[0],
            &new[1],
            None,
            None,
            true,
        ),
    ];
    for (moment, manifest, result, failures, hidden_result, hidden_failures, is_new) in moments {
        let put = |name: &str, text: Option<&str>| {
            let path = folder.path(&format!("output/demo/{name}"));
            match text {
                Some(text) => std::fs::write(path, text).unwrap(),
                None => drop(std::fs::remove_file(path)),
            }
        };
        let place = || {
            put("run.json", Some(manifest));
            put("result.jsonl", Some(result));
            put("failures.jsonl", Some(failures));
            put(".result.jsonl.extracted", hidden_result);
            put(".failures.jsonl.extracted", hidden_failures);
        };
        // Whoever opens the folder next: a run with the extractor that counts finds nothing changed.
        place();
        let (spec, counts) = if is_new {
            ("tag:title", &new)
        } else {
            ("tag:text", &old)
        };
        let run = ["run", "--json", "--limit", "0", "--extract", spec];
        let ended = folder.datagen(run).end();
        assert_eq!(ended.status.code(), Some(0), "{moment}: {}", ended.shown());
        assert_eq!(&files(&folder)[..2], &counts[..2], "{moment}");
        // And the same extraction once more, over what is left.
        place();
        folder.datagen(extract("tag:title")).exits(3);
        assert_eq!(sorted(&files(&folder)[0]), sorted(&new[0]), "{moment}");
        assert_eq!(
            folder.names("output/demo"),
            [
                "failures.jsonl",
                "journal.jsonl",
                "result.jsonl",
                "run.json",
                "run.lock"
            ],
            "{moment}"
        );
    }

    std::fs::write(folder.path("output/demo/run.json"), &decided).unwrap();
    folder.write("output/demo/result.jsonl", "");
    let ended = folder.datagen(extract("tag:title")).exits(2);
    let told = "is to be put in its place, and there is none; put it back as output/demo/.result.jsonl.extracted";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
}

#[test]
fn mistakes_are_refused_with_what_to_do() {
    let server = Server::echoing();
    let folder = made(&server, "none");
    let mistake = |dir: &str, spec: &str| {
        folder
            .datagen(["extract", "--run", dir, "--extract", spec])
            .exits(2)
            .shown()
    };
    assert_snapshot!(mistake("output/nope", "json"), @"
    exit 2
    --- stderr
    error: output/nope is not there
      hint: a run's folder is the one that holds run.json; every run names it when it begins
    ");
    assert_snapshot!(mistake("output", "json"), @"
    exit 2
    --- stderr
    error: output is no run folder: it has no run.json
      hint: there are runs in it, newest first: output/demo
    ");
    assert_snapshot!(mistake("output/demo", "tag:"), @"
    exit 2
    --- stderr
    error: extractor `tag:`: a tag needs a name, as in `tag:draft`
    ");
    assert_snapshot!(mistake("output/demo", "titles"), @"
    exit 2
    --- stderr
    error: extractor `titles`: there is no such extractor; there are none, tag:NAME[:all|first|last], regex:PATTERN, json
    ");

    let result = folder.read("output/demo/result.jsonl");
    let second = result.lines().nth(1).unwrap();
    folder.write(
        "output/demo/result.jsonl",
        result.replace(second, &second[..40]),
    );
    assert_snapshot!(mistake("output/demo", "json"), @"
    exit 2
    --- stderr
    error: output/demo/result.jsonl:2: is no line of a dataset (EOF while parsing an object, column 40); a run with `--repair` moves the line aside and makes its row again from the journal
    ");
    assert!(
        !folder.exists("output/demo/.result.jsonl.extracted"),
        "nothing is left behind"
    );
}

/// Tears the lines of these answers in the middle.
fn tear(folder: &Folder, torn: impl Fn(&Value) -> bool) {
    let journal = folder.read("output/demo/journal.jsonl");
    let lines = journal.lines().map(|line| {
        let is_torn = torn(&serde_json::from_str(line).unwrap());
        format!(
            "{}\n",
            if is_torn {
                &line[..line.len() / 2]
            } else {
                line
            }
        )
    });
    folder.write("output/demo/journal.jsonl", lines.collect::<String>());
}

#[test]
fn rows_whose_answers_a_repair_took_out_are_judged_by_their_lines_there_and_back() {
    let server = Server::start(|asked| {
        let topic: u64 = asked
            .user()
            .matches(char::is_numeric)
            .collect::<String>()
            .parse()
            .unwrap();
        let title = if topic.is_multiple_of(2) {
            "<title>T</title>"
        } else {
            ""
        };
        Answer::good(&format!("<think>hm</think><text>{topic}</text>{title}"))
    });
    let folder = made(&server, "tag:text");
    let result = folder.read("output/demo/result.jsonl");
    let hits = server.hits();
    let lines = folder.lines("output/demo/result.jsonl");
    let lost: Vec<&Value> = lines
        .iter()
        .filter(|line| [4, 5].map(Value::from).contains(&line["index"]))
        .map(|line| &line["id"])
        .collect();
    tear(&folder, |answer| lost.contains(&&answer["row"]));
    let repair = ["run", "-q", "--extract", "tag:text", "--repair"];
    folder.datagen(repair).exits(0);
    let ended = folder.datagen(extract("tag:title")).exits(3);
    assert_snapshot!(ended.shown(), @"
    exit 3
    --- stderr
    extracted again with tag:title: 12 rows = 6 ok + 6 failed; no request was sent
      0 of them had failed and are in the dataset now, 6 were in it and are failed now
    warning: 2 rows were judged by the text in their lines, because their answers are not in the journal; lines that `--repair` moved aside are in output/demo/.damaged-[STAMP].jsonl
      result    output/demo/result.jsonl
      failures  output/demo/failures.jsonl
      from now on give `--extract tag:title` to `datagen run`, or set `run.extract`
    ");
    let made = folder.lines("output/demo/result.jsonl");
    let fourth = made.iter().find(|line| line["index"] == 4).unwrap();
    assert_eq!(
        (&fourth["extracted"], &fourth["reasoning"]),
        (&json!(["T"]), &json!("hm"))
    );
    let failed = folder.lines("output/demo/failures.jsonl");
    let fifth = failed.iter().find(|line| line["index"] == 5).unwrap();
    assert_eq!(
        (
            &fifth["error"]["class"],
            &fifth["response"],
            &fifth["answers"]
        ),
        (
            &json!("extraction_miss"),
            &json!("<text>5</text>"),
            &json!([])
        )
    );

    let back = folder
        .datagen(extract("tag:text"))
        .args(["--json"])
        .exits(0);
    let summary: Value = serde_json::from_str(&back.stdout).unwrap();
    assert_eq!(
        (&summary["recovered"], &summary["from_lines"]),
        (&json!(6), &json!(2))
    );
    assert_eq!(
        sorted(&folder.read("output/demo/result.jsonl")),
        sorted(&result)
    );
    assert_eq!(server.hits(), hits);
}

#[test]
fn a_lost_answer_is_not_taken_for_an_earlier_one_that_the_journal_still_has() {
    for torn in ["the second", "all"] {
        let server = Server::start(|asked| match asked.nth {
            0 => Answer::good("nothing"),
            _ => Answer::good("<text>fine</text>"),
        });
        let folder = made(&server, "tag:text");
        let result = folder.read("output/demo/result.jsonl");
        let lines = folder.lines("output/demo/result.jsonl");
        let second = lines.iter().find(|line| line["attempts"] == 2).unwrap();
        if torn == "all" {
            folder.write("output/demo/journal.jsonl", "");
        } else {
            tear(&folder, |answer| {
                answer["row"] == second["id"] && answer["attempt"] == 2
            });
            let repair = ["run", "-q", "--extract", "tag:text", "--repair"];
            folder.datagen(repair).exits(0);
        }
        folder.datagen(extract("tag:text")).exits(0);
        assert_eq!(folder.read("output/demo/result.jsonl"), result, "{torn}");
        // The text of the answer that is lost is what is kept of it.
        folder.datagen(extract("tag:other")).exits(3);
        let failed = folder.lines("output/demo/failures.jsonl");
        let failed = failed
            .iter()
            .find(|line| line["id"] == second["id"])
            .unwrap();
        assert_eq!(failed["response"], "<text>fine</text>");
    }
}

#[test]
fn a_run_that_goes_on_is_left_alone() {
    let slow = Server::start(|_| Answer::good("x").after(std::time::Duration::from_millis(200)));
    let folder = Folder::asking(&slow).file("rows.jsonl", rows(500));
    let mut running = folder.datagen(["run"]).start();
    running.until_lines("output/demo/journal.jsonl", 1);
    assert_snapshot!(folder.datagen(extract("json")).exits(2).shown(), @"
    exit 2
    --- stderr
    error: another process works on output/demo (process [PID], since [TIME])
      hint: wait for it, or stop it; what it has made is kept
    ");
    running.signal(Signal::INT);
    running.exits(130);
}

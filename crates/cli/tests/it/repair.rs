//! `datagen run --repair`: damage in the middle of an old run is moved aside and made again.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::harness::{Folder, rows};
use crate::server::{Answer, Server};

const RESULT: &str = "output/demo/result.jsonl";
const JOURNAL: &str = "output/demo/journal.jsonl";

fn made(server: &Server) -> Folder {
    let folder = Folder::asking(server).file("rows.jsonl", rows(8));
    // One after the other, so that the lines are in the order of the rows.
    let run = ["run", "-q", "--extract", "tag:t", "--concurrency", "1"];
    folder.datagen(run).end();
    folder
}

fn tagging() -> Server {
    Server::start(|asked| Answer::good(&format!("<t>{}</t>", asked.user())))
}

/// Cuts a line in its middle, so that it is no JSON and yet a line.
fn damage(folder: &Folder, name: &str, line: usize) {
    let text = folder.read(name);
    let mut lines: Vec<&str> = text.lines().collect();
    lines[line - 1] = &lines[line - 1][..50];
    folder.write(name, lines.join("\n") + "\n");
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// What was moved aside: file and line of each.
fn aside(folder: &Folder) -> Vec<(String, u64)> {
    let mut moved = Vec::new();
    for name in folder.names("output/demo") {
        if name.starts_with(".damaged-") {
            let lines = folder.lines(&format!("output/demo/{name}"));
            let place = |line: &Value| {
                (
                    line["file"].as_str().unwrap().to_owned(),
                    line["line"].as_u64().unwrap(),
                )
            };
            moved.extend(lines.iter().map(place));
        }
    }
    moved
}

#[test]
fn a_fork_of_a_damaged_run_names_the_command_that_repairs_its_source() {
    let server = tagging();
    let folder = made(&server);
    damage(&folder, JOURNAL, 3);
    let damaged = folder.read(JOURNAL);
    let fork = [
        "run",
        "--fork",
        "drafts",
        "--extract",
        "tag:t:first",
        "--repair",
    ];
    let ended = folder.datagen(fork).exits(2);
    assert_snapshot!(ended.shown(), @"
    exit 2
    --- stderr
    error: output/demo cannot be forked: output/demo/journal.jsonl:3: is no line of a journal (EOF while parsing a string, column 50)
      hint: repair the source first, for a fork leaves it as it is: `datagen run -q --extract tag:t --concurrency 1 --repair`
    ");
    assert_eq!(folder.read(JOURNAL), damaged);
    assert!(!folder.exists("output/drafts"));
    let (_, command) = ended.stderr.split_once(": `datagen").unwrap();
    let command = command.trim_end().trim_end_matches('`');
    folder.shell(&format!("\"$DATAGEN\"{command}")).exits(0);
    folder.datagen(fork).exits(0);
    assert_eq!(folder.lines("output/drafts/result.jsonl").len(), 8);
    assert_eq!(server.hits(), 9, "only what was damaged is asked again");
}

#[test]
fn damage_that_is_found_after_a_repair_is_repaired_by_the_command_that_status_names() {
    let server = tagging();
    let folder = made(&server);
    for line in [2, 5] {
        damage(&folder, RESULT, line);
        let status = ["status", "--json", "--run", "output/demo"];
        let told: Value = serde_json::from_str(&folder.datagen(status).exits(0).stdout).unwrap();
        let command = told["go_on"][0]["command"].as_str().unwrap();
        assert_eq!(
            command,
            "datagen run -q --extract tag:t --concurrency 1 --repair"
        );
        let script = command.replace("datagen", "\"$DATAGEN\"");
        folder.shell(&script).exits(0);
    }
    assert_eq!(folder.lines(RESULT).len(), 8);
    assert_eq!(server.hits(), 8);
}

const REPAIR: [&str; 5] = ["run", "--extract", "tag:t", "--repair", "--json"];

#[test]
fn rows_whose_lines_were_damaged_are_made_again_from_the_journal_without_a_request() {
    let server = tagging();
    let folder = made(&server);
    let whole = folder.read(RESULT);
    damage(&folder, RESULT, 2);
    damage(&folder, RESULT, 5);
    // And one that stands twice, and a torn end.
    let lines = folder.read(RESULT);
    let first = lines.lines().next().unwrap();
    folder.write(RESULT, format!("{lines}{first}\n{{\"id"));
    let damaged = folder.read(RESULT);
    assert_snapshot!(folder.datagen(["run", "--extract", "tag:t"]).exits(2).shown(), @"
    exit 2
    --- stderr
    error: output/demo/result.jsonl:2: is no line of a dataset (EOF while parsing an object, column 50); a run with `--repair` moves the line aside and makes its row again from the journal
    ");
    assert!(
        damaged.starts_with(&folder.read(RESULT)),
        "refused and left, but for the torn end"
    );

    let ended = folder.datagen(REPAIR).exits(0);
    assert_snapshot!(ended.shown(), @r#"
    exit 0
    --- stdout
    {"run_dir":"output/demo","rows":8,"ok":2,"failed":0,"skipped":6,"pending":0,"not_in_input":0,"requests":0,"retries":0,"prompt_tokens":0,"completion_tokens":0,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":null}
    --- stderr
    warning: result.jsonl: 3 damaged lines, the first of them line 2, are in .damaged-[STAMP].jsonl now
    going on with output/demo: 2 of 8 rows to do, 2 answers that are paid for are judged first
    finished: 8 rows = 2 ok + 0 failed + 6 done before + 0 pending
      requests  0 (0 retries)
      tokens    0 prompt + 0 completion
      time      [TIME], [SPEED]
      result    output/demo/result.jsonl
    "#);
    assert_eq!(
        sorted(&folder.read(RESULT)),
        sorted(&whole),
        "the same lines, byte for byte"
    );
    assert_eq!(server.hits(), 8, "nothing was asked again");
    let expected = [2, 5, 9].map(|line| ("result.jsonl".to_owned(), line));
    assert_eq!(aside(&folder), expected);
    let summary = folder.datagen(REPAIR).exits(0).summary();
    assert_eq!(
        (&summary["skipped"], &summary["requests"]),
        (&json!(8), &json!(0))
    );
    assert_eq!(aside(&folder).len(), 3, "there was nothing to do");
}

#[test]
fn an_answer_that_is_damaged_too_is_asked_for_again_and_that_alone() {
    let server = tagging();
    let folder = made(&server);
    let journal = folder.lines(JOURNAL);
    damage(&folder, JOURNAL, 3);
    damage(&folder, JOURNAL, 4);
    let lost = journal[2]["row"].clone();
    let result = folder.read(RESULT);
    let line = 1 + result
        .lines()
        .position(|line| line.contains(lost.as_str().unwrap()))
        .unwrap();
    damage(&folder, RESULT, line);
    assert_snapshot!(folder.datagen(["run", "--extract", "tag:t"]).exits(2).shown(), @"
    exit 2
    --- stderr
    error: output/demo/result.jsonl:3: is no line of a dataset (EOF while parsing an object, column 50); a run with `--repair` moves the line aside and makes its row again from the journal
    ");
    let summary = folder.datagen(REPAIR).exits(0).summary();
    assert_eq!(
        (&summary["ok"], &summary["requests"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(server.hits(), 9);
    assert_eq!(folder.lines(RESULT).len(), 8);
    assert_eq!(folder.lines(JOURNAL).len(), 7);
    assert_eq!(aside(&folder).len(), 3);
}

#[test]
fn a_damaged_failure_is_judged_again() {
    let server = Server::start(|_| Answer::good("no tag"));
    let folder = made(&server);
    let failures = "output/demo/failures.jsonl";
    assert_eq!(folder.lines(failures).len(), 8);
    damage(&folder, failures, 3);
    let hits = server.hits();
    let ended = folder.datagen(["run", "--extract", "tag:t"]).exits(2);
    assert!(
        ended.stderr.contains("failures.jsonl:3: ") && ended.stderr.contains("`--repair`"),
        "{}",
        ended.stderr
    );
    assert_eq!(server.hits(), hits);
    let summary = folder
        .datagen(REPAIR)
        .args(["--set", "run.extract_retries=0"])
        .exits(3)
        .summary();
    assert_eq!(summary["failed"], 8);
    assert_eq!(folder.lines(failures).len(), 8);
    // Seven are asked anew, and of the eighth the two answers are there.
    assert_eq!(summary["requests"], 7);
}

/// Changes one line of the journal, which keeps its head.
fn harm(folder: &Folder, line: usize, from: &str, to: &str) {
    let text = folder.read(JOURNAL);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let harmed = lines[line - 1].replacen(from, to, 1);
    assert_ne!(harmed, lines[line - 1]);
    lines[line - 1] = harmed;
    folder.write(JOURNAL, lines.join("\n") + "\n");
}

#[test]
fn an_answer_whose_head_is_good_and_whose_rest_is_not_is_damage_and_never_stops_a_run_in_its_middle()
 {
    let whole_time = "\"at\":\"2";
    for (from, to) in [
        ("<t>", "<\u{0}>"),
        ("\"message\":", "\"message\";"),
        ("\"status\":200", "\"status\":\"20\""),
        ("\"step\":", "\"stop\":"),
        (whole_time, "\"at\":\"x"),
        ("\"body\":{", "\"body\":[{"),
        ("\"body\":", "\"bod\\u0079s\":"),
    ] {
        let server = tagging();
        let folder = made(&server);
        folder.write(RESULT, "");
        harm(&folder, 4, from, to);
        let journal = folder.read(JOURNAL);
        let refused = folder.datagen(["run", "--extract", "tag:t"]).exits(2);
        assert!(
            refused.stderr.contains("journal.jsonl:4: ") && refused.stderr.contains("`--repair`"),
            "{from}: {}",
            refused.stderr
        );
        assert_eq!(folder.read(JOURNAL), journal, "{from}: refused and left");
        let summary = folder.datagen(REPAIR).exits(0).summary();
        assert_eq!(
            (&summary["ok"], &summary["requests"]),
            (&json!(8), &json!(1)),
            "{from}"
        );
        assert_eq!(server.hits(), 9, "{from}");
        assert_eq!(aside(&folder), [("journal.jsonl".to_owned(), 4)], "{from}");
    }
}

#[test]
fn an_answer_that_stands_twice_is_damage() {
    let server = tagging();
    let folder = made(&server);
    folder.write(RESULT, "");
    let journal = folder.read(JOURNAL);
    let third = journal.lines().nth(2).unwrap();
    folder.write(JOURNAL, format!("{journal}{third}\n"));
    assert_snapshot!(folder.datagen(["run", "--extract", "tag:t"]).exits(2).shown(), @"
    exit 2
    --- stderr
    error: output/demo/journal.jsonl:9: has the number 3 behind the number 8, so an answer stands here twice or a number is damaged; a run with `--repair` moves such lines aside and goes on without them
    ");
    let summary = folder.datagen(REPAIR).exits(0).summary();
    assert_eq!(
        (&summary["ok"], &summary["requests"]),
        (&json!(8), &json!(0))
    );
    assert_eq!(folder.read(JOURNAL), journal);
    assert_eq!(aside(&folder), [("journal.jsonl".to_owned(), 9)]);
}

/// As an editor may leave the ends of the lines: all of another kind, or the last ones gone.
fn without_newlines(journal: &str, lost: usize) -> String {
    let lines: Vec<&str> = journal.lines().collect();
    let (kept, last) = lines.split_at(lines.len() - lost);
    let kept: String = kept.iter().map(|line| format!("{line}\n")).collect();
    kept + &last.concat()
}

#[test]
fn answers_that_have_lost_their_newlines_are_refused_and_never_cut_off_and_repaired_without_a_request()
 {
    let server = tagging();
    let folder = made(&server);
    let journal = folder.read(JOURNAL);
    for (harmed, line) in [
        (journal.replace('\n', "\r"), 1),
        (without_newlines(&journal, 3), 6),
        (without_newlines(&journal, 8), 1),
        (without_newlines(&journal, 3) + "\n", 6),
    ] {
        folder.write(JOURNAL, &harmed);
        folder.write(RESULT, "");
        let place = format!("error: output/demo/journal.jsonl:{line}: holds more than one line");
        let refused = folder.datagen(["run", "--extract", "tag:t"]).exits(2);
        assert!(refused.stderr.starts_with(&place), "{}", refused.stderr);
        let extract = ["extract", "--run", "output/demo", "--extract", "tag:t"];
        let refused = folder.datagen(extract).exits(2);
        assert!(refused.stderr.contains(&place[7..]), "{}", refused.stderr);
        let fork = ["run", "--fork", "drafts", "--extract", "tag:t"];
        let refused = folder.datagen(fork).exits(2);
        let source = format!("cannot be forked: output/demo/journal.jsonl:{line}: ");
        assert!(refused.stderr.contains(&source), "{}", refused.stderr);
        let status = folder.datagen(["status", "--run", "output/demo"]).exits(0);
        assert!(status.stdout.contains(&place[7..]), "{}", status.shown());
        assert!(status.stdout.contains("--repair"), "{}", status.shown());
        assert_eq!(folder.read(JOURNAL), harmed, "refused and left");
        assert!(!folder.exists("output/drafts"));

        let summary = folder.datagen(REPAIR).exits(0).summary();
        assert_eq!(
            (&summary["ok"], &summary["requests"]),
            (&json!(8), &json!(0))
        );
        assert_eq!(folder.read(JOURNAL), journal, "byte for byte");
    }
    assert_eq!(aside(&folder), []);
    assert_eq!(server.hits(), 8);
    let harmed = without_newlines(&journal, 3);
    folder.write(JOURNAL, &harmed);
    let refused = folder.datagen(["run", "--extract", "tag:t"]).exits(2);
    // How long a line is depends on how long its answer took.
    let bytes = harmed.lines().last().unwrap().len().to_string();
    let told = refused.stderr.replace(&bytes, "[BYTES]");
    assert_snapshot!(told, @"error: output/demo/journal.jsonl:6: holds more than one line of a journal in [BYTES] bytes, so newlines are missing, as when an editor has changed the line ends; a run with `--repair` gives each answer its own line again and moves aside what is none");
    let ended = folder.datagen(REPAIR).exits(0);
    let told = ended.stderr.lines().next().unwrap();
    assert_snapshot!(told, @"warning: journal.jsonl: line 6 had lost its newlines and is 3 lines now");
}

#[test]
fn of_answers_without_newlines_the_whole_ones_are_kept_and_half_ones_go_aside() {
    let server = tagging();
    let folder = made(&server);
    let lines = folder.read(JOURNAL);
    let mut lines: Vec<&str> = lines.lines().collect();
    lines[2] = &lines[2][..60];
    lines[7] = &lines[7][..100];
    folder.write(JOURNAL, lines.join("\r"));
    folder.write(RESULT, "");
    folder.datagen(["run", "--extract", "tag:t"]).exits(2);
    let summary = folder.datagen(REPAIR).exits(0).summary();
    assert_eq!(
        (&summary["ok"], &summary["requests"]),
        (&json!(8), &json!(2))
    );
    let expected = [3, 8].map(|line| ("journal.jsonl".to_owned(), line));
    assert_eq!(aside(&folder), expected);
    let kept = folder.read(JOURNAL);
    for line in [0, 1, 3, 4, 5, 6] {
        assert_eq!(kept.matches(lines[line]).count(), 1, "{}", lines[line]);
    }
    let names = folder.names("output/demo");
    let moved = names.iter().find(|name| name.starts_with(".damaged-"));
    let moved = folder.lines(&format!("output/demo/{}", moved.unwrap()));
    assert_eq!(
        (&moved[0]["text"], &moved[1]["text"]),
        (&json!(lines[2]), &json!(lines[7]))
    );
}

#[test]
fn a_torn_end_of_one_line_is_cut_off_and_told() {
    let server = tagging();
    let folder = made(&server);
    let journal = folder.read(JOURNAL);
    for torn in [&journal[..100], "{", "\0\0\0\0", "{\"v\":1,\0\0"] {
        folder.write(JOURNAL, format!("{journal}{torn}"));
        let ended = folder.datagen(["run", "--extract", "tag:t"]).exits(0);
        let told = format!(
            "journal.jsonl: {} bytes of a torn last line were cut off",
            torn.len()
        );
        assert!(ended.stderr.contains(&told), "{}", ended.stderr);
        assert_eq!(folder.read(JOURNAL), journal);
    }
    assert_eq!(server.hits(), 8);
}

//! Rows from standard input: the copy of them in the run folder is the only one that there is.

use insta::assert_snapshot;
use rustix::process::Signal;
use serde_json::Value;

use crate::filters::filtered;
use crate::harness::{Folder, rows};
use crate::server::{Answer, Server};

const COPY: &str = "output/demo/.input.jsonl";
const RUN: [&str; 5] = ["run", "--data", "-", "--concurrency", "1"];

/// Answers two rows, and then has no money until it is mended.
fn breaking() -> Server {
    Server::start(|asked| match asked.nth {
        // What stops a run is tried once more.
        2 | 3 => Answer::error(429, "insufficient_quota", "no money"),
        _ => Answer::good("fine"),
    })
}

/// Of six rows that came from standard input two are finished.
fn broken(server: &Server) -> Folder {
    let folder = Folder::asking(server);
    folder.datagen(RUN).input(rows(6)).exits(4);
    folder
}

/// What a command may not touch that is refused.
fn left(folder: &Folder) -> (Vec<String>, String, String) {
    (
        folder.names("output/demo"),
        folder.read(COPY),
        folder.read("output/demo/run.json"),
    )
}

/// The command that `datagen status` names first.
fn pasted(folder: &Folder) -> String {
    let status = ["status", "--json", "--run", "output/demo"];
    let told: Value = serde_json::from_str(&folder.datagen(status).exits(0).stdout).unwrap();
    let command = told["go_on"][0]["command"].as_str().unwrap();
    command.replace("datagen", "\"$DATAGEN\"")
}

#[test]
fn a_command_that_is_refused_leaves_the_only_copy_of_the_rows_as_it_was() {
    let server = breaking();
    let folder = broken(&server);
    let before = left(&folder);
    assert_eq!(before.1, rows(6));
    let bad = format!("{}{{\"topic\": \n", rows(6));
    for (input, what) in [
        ("{\"topic\": \"another\"}\n", "has none of the 2 rows"),
        (bad.as_str(), "no request was sent"),
        ("{\"tropic\": \"a name\"}\n", "no request was sent"),
        ("", "the input has no rows"),
    ] {
        let ended = folder.datagen(RUN).input(input).exits(2);
        assert!(ended.stderr.contains(what), "{}", ended.shown());
        assert_eq!(left(&folder), before, "after {input:?}");
    }
    let journal = folder.read("output/demo/journal.jsonl");
    folder.write("output/demo/journal.jsonl", format!("[]\n{journal}"));
    folder.datagen(RUN).input(rows(3)).exits(2);
    assert_eq!(left(&folder), before, "after damage");
    folder.write("output/demo/journal.jsonl", journal);

    folder.shell(&pasted(&folder)).exits(0);
    assert_eq!(folder.lines("output/demo/result.jsonl").len(), 6);
    assert_eq!(server.hits(), 8);
}

#[test]
fn ctrl_c_while_other_rows_are_typed_leaves_the_copy_as_it_was() {
    let server = breaking();
    let folder = broken(&server);
    let before = left(&folder);
    let script = "mkfifo rows; exec 3<>rows; exec \"$DATAGEN\" run --data - <rows";
    let mut run = folder.shell(script).start();
    run.until("it copies", |_| {
        folder.exists("output/demo/.input.jsonl.new")
    });
    run.signal(Signal::INT);
    run.exits(130);
    assert_eq!(left(&folder), before);
}

#[test]
fn rows_that_do_not_come_again_are_kept_and_told() {
    let server = breaking();
    let folder = broken(&server);
    let names = folder.names("output/demo");
    let ended = folder.datagen(RUN).input(rows(3)).exits(0);
    let warning = ended.stderr.lines().next().unwrap();
    assert_snapshot!(filtered(warning), @"warning: standard input does not begin with the rows that came from there before; those are in output/demo/.input-[STAMP].jsonl now");
    assert_eq!(folder.read(COPY), rows(3));
    let after = folder.names("output/demo");
    let kept: Vec<&String> = after.iter().filter(|name| !names.contains(name)).collect();
    assert_eq!(kept.len(), 1, "{after:?}");
    assert!(warning.contains(kept[0]), "{warning}");
    let kept = format!("output/demo/{}", kept[0]);
    assert_eq!(folder.read(&kept), rows(6));

    // What only grows needs no second copy, and the copy itself may come as well.
    folder.datagen(RUN).input(rows(6)).exits(0);
    let script = format!("\"$DATAGEN\" run --data - <{COPY}");
    let said = folder.shell(&script).exits(0).stderr;
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(folder.names("output/demo"), after);
    assert_eq!(folder.read(COPY), rows(6));
    assert_eq!(folder.lines("output/demo/result.jsonl").len(), 6);
}

#[test]
fn an_input_without_a_row_does_not_finish_a_run() {
    let server = breaking();
    let folder = broken(&server).file("empty.jsonl", "");
    let before = left(&folder);
    assert_snapshot!(folder.datagen(RUN).exits(2).shown(), @"
    exit 2
    --- stderr
    error: the input has no rows, and the run in output/demo was begun with some (2 of them are finished)
      hint: look at where the rows come from: a file that was emptied, a command that gave nothing; `--add` says that it is meant
    ");
    folder.datagen(["run", "--data", "empty.jsonl"]).exits(2);
    assert_eq!(left(&folder), before);
    folder.datagen(RUN).args(["--add"]).exits(0);
    assert_eq!(server.hits(), 4);

    // In a folder that is new there is nothing to lose.
    let ended = Folder::offline().datagen(["run", "--data", "-"]).exits(0);
    assert!(ended.stderr.contains("standard input has no rows"));
}

#[test]
fn a_new_run_has_a_copy_of_its_own_and_the_old_one_keeps_its() {
    let server = breaking();
    let folder = broken(&server);
    let new = ["run", "--new", "--data", "-", "--limit", "1"];
    let mistaken = folder.datagen(new).input("{\"topic\":").exits(2);
    assert!(!mistaken.stderr.contains("warning"), "{}", mistaken.shown());
    assert_eq!(folder.names("output"), ["demo"]);
    assert_eq!(folder.read(COPY), rows(6));

    let said = folder.datagen(new).input(rows(2)).exits(0).stderr;
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(folder.read(COPY), rows(2));
    let names = folder.names("output");
    let old = format!("output/{}/.input.jsonl", names[1]);
    assert_eq!((names.len(), folder.read(&old)), (2, rows(6)));
    folder.shell(&pasted(&folder)).exits(0);
    assert_eq!(folder.lines("output/demo/result.jsonl").len(), 2);
}

//! What the system allows: open files, sizes of files, places to write to.

use std::time::Duration;

use data_generation_fault_server::{FaultServer, Latency, Plan};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{Folder, rows};

const RESULT: &str = "output/demo/result.jsonl";
const ROWS: usize = 900;

/// A server that takes its time, so that as many requests are under way as there may be, and room for its
/// own side of the connections.
fn slow() -> FaultServer {
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.map_or(4096, |most| most.min(4096));
    if limit.current.is_some_and(|now| now < enough) {
        let current = Some(enough);
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
    }
    let plan = Plan::good().latency(Latency::Fixed(Duration::from_millis(600)));
    FaultServer::start_blocking(plan).unwrap()
}

/// Runs with this limit and so many at once; no row may fail for it, nor be asked twice.
#[track_caller]
fn run_within(limit: &str, at_once: usize, server: &FaultServer) -> String {
    let folder = Folder::asking_at(server.url()).file("rows.jsonl", rows(ROWS));
    let script = format!("{limit}; exec \"$DATAGEN\" run --json --concurrency {at_once}");
    let ended = folder.shell(&script).exits(0);
    let summary = ended.summary();
    assert_eq!(
        (&summary["ok"], &summary["retries"]),
        (&ROWS.into(), &0.into())
    );
    assert_eq!(folder.lines(RESULT).len(), ROWS);
    assert_eq!(server.seen().total(), ROWS);
    ended.stderr
}

#[test]
fn with_few_open_files_fewer_requests_are_under_way_and_it_is_told() {
    let server = slow();
    let said = run_within("ulimit -n 256", 2000, &server);
    let line = "this system allows 256 open files, so 192 requests at a time instead of 2000; `ulimit -n` raises it";
    assert!(said.contains(line), "{said}");
    let seen = server.seen();
    assert_eq!(seen.at_once, 192);
    // Each connection carries many requests.
    assert!(seen.connections < 256, "{} connections", seen.connections);
}

#[test]
fn a_soft_limit_of_open_files_is_raised() {
    let server = slow();
    let said = run_within("ulimit -S -n 256; ulimit -H -n 4096", 400, &server);
    assert!(!said.contains("open files"), "{said}");
    let seen = server.seen();
    assert!((257..=400).contains(&seen.at_once), "{}", seen.at_once);
    assert!(seen.connections < ROWS, "{} connections", seen.connections);
}

#[test]
fn a_limit_of_file_size_is_a_disk_that_refuses_and_no_sudden_end() {
    let folder = Folder::offline().file("rows.jsonl", rows(400));
    // 512-byte blocks on some systems, kilobytes on others: too small for 400 records on all of them.
    let ended = folder
        .shell("ulimit -f 64; exec \"$DATAGEN\" run --json")
        .exits(74);
    let summary = ended.summary();
    assert!(summary["pending"].as_u64().unwrap() > 0, "{summary}");
    let answers = folder.lines("output/demo/journal.jsonl").len();
    let done = folder.lines(RESULT).len();
    assert!(answers > 0 && done <= answers, "{done} of {answers}");
    let again = folder.datagen(["run", "--json"]).exits(0).summary();
    assert_eq!(again["requests"], 400 - answers, "{again}");
    assert_eq!(folder.lines(RESULT).len(), 400);
}

#[test]
fn an_extraction_for_which_there_is_no_room_changes_nothing() {
    let folder = Folder::offline().file("rows.jsonl", rows(400));
    folder.datagen(["run", "-q"]).exits(0);
    let (names, result) = (folder.names("output/demo"), folder.read(RESULT));
    let ended = folder
        .shell("ulimit -f 8; exec \"$DATAGEN\" extract --run output/demo --extract regex:.")
        .exits(74);
    assert!(
        ended.stderr.contains("could not write"),
        "{}",
        ended.shown()
    );
    assert_eq!(
        (folder.names("output/demo"), folder.read(RESULT)),
        (names, result)
    );
}

#[test]
fn where_no_byte_may_be_written_nothing_is_asked() {
    let folder = Folder::offline();
    let ended = folder.shell("ulimit -f 0; exec \"$DATAGEN\" run").exits(74);
    assert!(
        ended.stderr.contains("could not write"),
        "{}",
        ended.shown()
    );
    assert!(!folder.exists(RESULT));
    folder.datagen(["run"]).exits(0);
    assert_eq!(folder.lines(RESULT).len(), 3);
}

#[test]
fn a_place_that_takes_no_folder_is_told_before_anything_is_asked() {
    // Nobody makes a folder there, not even root.
    let server = slow();
    let folder = Folder::asking_at(server.url());
    let place = "output_data.output_dir=/sys/output";
    let said = folder.datagen(["run", "--set", place]).exits(74).stderr;
    assert!(said.contains("could not make /sys/output/demo"), "{said}");
    assert_eq!(server.seen().total(), 0);
}

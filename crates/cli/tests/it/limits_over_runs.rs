//! Limits that a new run of the same experiment does not fill up again.

use std::ops::Range;
use std::sync::{Mutex, mpsc};

use rustix::process::Signal;

use crate::harness::{Ended, Folder, rows};
use crate::server::{Answer, Server};

/// Six rows for one folder, and ten requests a day.
fn ten_a_day(base_url: &str) -> Folder {
    Folder::asking_at(base_url)
        .file("rows.jsonl", rows(6))
        .edit(
            "config.yaml",
            "logging:",
            "limits: {requests_per_day: 10}\nlogging:",
        )
}

fn stamped(folder: Folder) -> Folder {
    let (old, new) = ("need_time_stamp: false", "need_time_stamp: true");
    folder.edit("config.yaml", old, new)
}

/// Answers but for these requests, which wait until the other value is dropped.
fn holding(held: Range<usize>) -> (Server, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let server = Server::start(move |asked| {
        if held.contains(&asked.nth) {
            released.lock().unwrap().recv().unwrap_err();
        }
        Answer::good("fine")
    });
    (server, release)
}

#[track_caller]
fn made(ended: &Ended, rows: u64) {
    assert_eq!(ended.summary()["ok"], rows, "{}", ended.shown());
    if rows < 6 {
        let why = "the limit of 10 requests a day is used up; come back after";
        let stopped = ended.summary()["stopped"].to_string();
        assert!(stopped.contains(why), "{stopped}");
    }
}

#[test]
fn what_was_set_aside_counts() {
    let server = Server::echoing();
    let folder = ten_a_day(&server.base_url());
    made(&folder.datagen(["run", "--json"]).exits(0), 6);
    made(&folder.datagen(["run", "--new", "--json"]).exits(75), 4);
    assert_eq!(folder.names("output").len(), 2);
    // Of two folders too, and whether the run is new or goes on.
    made(&folder.datagen(["run", "--new", "--json"]).exits(75), 0);
    made(&folder.datagen(["run", "--json"]).exits(75), 0);
    assert_eq!(server.hits(), 10);
}

#[test]
fn what_was_sent_under_another_time_stamp_counts() {
    let server = Server::echoing();
    let folder = stamped(ten_a_day(&server.base_url()));
    let first = folder.datagen(["run", "--json"]).exits(0);
    made(&first, 6);
    made(&folder.datagen(["run", "--json"]).exits(75), 4);
    made(&folder.datagen(["run", "--new", "--json"]).exits(75), 0);
    assert_eq!(folder.names("output/demo").len(), 3);
    // An older run that goes on hears of the newer ones.
    folder.write("rows.jsonl", rows(7));
    let run_dir = first.summary()["run_dir"].as_str().unwrap().to_owned();
    let older = folder.datagen(["run", "--resume", &run_dir]).exits(75);
    assert!(older.stderr.contains("is used up"), "{}", older.stderr);
    assert_eq!(server.hits(), 10);
}

#[test]
fn what_another_endpoint_answered_does_not_count() {
    let (server, other) = (Server::echoing(), Server::echoing());
    let folder = ten_a_day(&server.base_url());
    made(&folder.datagen(["run", "--json"]).exits(0), 6);
    let elsewhere = format!("model.base_url={}", other.base_url());
    let elsewhere = folder.datagen(["run", "--new", "--json", "--set", &elsewhere]);
    made(&elsewhere.exits(0), 6);
    // The same one may be written in another way.
    let same = server.base_url().replace("http://", "HTTP://");
    let same = format!("model.base_url={same}/");
    let same = folder.datagen(["run", "--new", "--json", "--set", &same]);
    made(&same.exits(75), 4);
    assert_eq!((server.hits(), other.hits()), (10, 6));
}

#[test]
fn what_another_experiment_or_the_offline_model_made_does_not_count() {
    let server = Server::echoing();
    let folder = ten_a_day(&server.base_url());
    let offline = ["run", "--json", "--set", "model.provider=offline"];
    made(&folder.datagen(offline).exits(0), 6);
    let other = [
        "run",
        "--json",
        "--set",
        "output_data.experiment_name=demo-2",
    ];
    made(&folder.datagen(other).exits(0), 6);
    made(&folder.datagen(["run", "--new", "--json"]).exits(0), 6);
    assert_eq!(server.hits(), 12);
}

#[test]
fn what_was_refused_or_under_way_at_a_kill_counts() {
    let (server, release) = holding(3..6);
    let folder = ten_a_day(&server.base_url());
    let mut run = folder.datagen(["run", "--concurrency", "3"]).start();
    run.until("three more are under way", |_| server.hits() == 6);
    run.signal(Signal::KILL);
    drop(run.end());
    drop(release);
    let answered = folder.lines("output/demo/journal.jsonl").len();
    assert_eq!(answered, 3);
    let next = ["run", "--new", "--json", "--concurrency", "3"];
    made(&folder.datagen(next).exits(75), 4);

    let refusing = Server::start(|asked| match asked.nth {
        0..8 => Answer::error(500, "server_error", "not now"),
        _ => Answer::good("fine"),
    });
    let folder = ten_a_day(&refusing.base_url());
    let once = "run.retry.max_attempts=1";
    folder.datagen(["run", "--set", once]).exits(3);
    let ended = folder.datagen(["run", "--new", "--json", "--set", once]);
    assert_eq!(ended.exits(75).summary()["requests"], 4);
    assert_eq!(refusing.hits(), 10);
}

#[test]
fn a_run_at_work_counts_as_it_stands_and_is_left_alone() {
    let (server, release) = holding(5..6);
    let folder = stamped(ten_a_day(&server.base_url()));
    let mut run = folder.datagen(["run", "--concurrency", "1"]).start();
    run.until("the last row is under way", |_| server.hits() == 6);
    let dir = format!("output/demo/{}", folder.names("output/demo")[0]);
    let files = ["run.json", "run.lock", "journal.jsonl"];
    let state = || files.map(|name| folder.read(&format!("{dir}/{name}")));
    let before = state();
    made(&folder.datagen(["run", "--json"]).exits(75), 5);
    assert_eq!(state(), before);
    drop(release);
    run.exits(0);
    assert_eq!(server.hits(), 11);
}

#[test]
fn a_run_that_cannot_be_read_is_told_of_in_the_log_and_stops_nothing() {
    let server = Server::echoing();
    let folder = ten_a_day(&server.base_url()).edit("config.yaml", "logging: {dir: null}\n", "");
    made(&folder.datagen(["run", "--json"]).exits(0), 6);
    made(&folder.datagen(["run", "--new", "--json"]).exits(75), 4);
    let aside = folder
        .names("output")
        .into_iter()
        .find(|name| name != "demo");
    folder.write(&format!("output/{}/run.json", aside.unwrap()), "{");
    made(&folder.datagen(["run", "--new", "--json"]).exits(0), 6);
    let log = folder.read(&format!("logs/{}", folder.names("logs")[0]));
    let told = log.matches("what this run sent is not counted").count();
    assert_eq!(told, 1, "{log}");
    let counted = "what was sent before counts against the limits";
    assert!(log.contains(counted), "{log}");
}

//! Stopped while rows wait, while answers are under way, while rows are checked: nothing that is paid for is
//! lost, and the same command finishes.

use std::collections::HashSet;
use std::time::Duration;

use data_generation_fault_server::{FaultServer, Latency, Plan};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Folder, Running, rows};
use crate::server::{Answer, Asked, Server};

const RESULT: &str = "output/demo/result.jsonl";
const JOURNAL: &str = "output/demo/journal.jsonl";

/// Each row once, and each asked for one good answer.
#[track_caller]
fn finished(folder: &Folder, count: usize) {
    let records = folder.lines(RESULT);
    let topics: HashSet<String> = records
        .iter()
        .map(|record| record["input"]["topic"].to_string())
        .collect();
    let answers = folder.lines(JOURNAL).len();
    assert_eq!(
        (records.len(), topics.len(), answers),
        (count, count, count)
    );
}

fn counts(summary: &Value) -> [u64; 3] {
    ["ok", "pending", "cut"].map(|key| summary[key].as_u64().unwrap())
}

/// Some good answers, then what makes all others wait for longer than a test does.
#[track_caller]
fn interrupted_while_waiting(
    setting: &str,
    good: usize,
    waits_from: usize,
    script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) {
    let server = Server::start(move |asked| match asked.nth < good {
        true => Answer::good("paid for"),
        false => script(asked),
    });
    let folder = Folder::asking(&server).file("rows.jsonl", rows(10));
    let command = ["run", "--json", "--concurrency", "2", "--set", setting];
    let mut run = folder.datagen(command).start();
    run.until("the others wait", |_| server.hits() >= waits_from);
    run.until_lines(RESULT, good);
    run.signal(Signal::INT);
    let summary = run.exits(130).summary();
    let made = good as u64;
    assert_eq!(counts(&summary), [made, 10 - made, 0], "{summary}");

    let willing = Server::echoing();
    let address = format!("model.base_url={}", willing.base_url());
    folder.datagen(["run", "--set", &address]).exits(0);
    finished(&folder, 10);
    assert_eq!(willing.hits(), 10 - good);
}

#[test]
fn ctrl_c_while_rows_wait_for_the_rate_limit_leaves_them_pending() {
    interrupted_while_waiting("model.rate_limit=1", 1, 1, |_| Answer::good("too early"));
}

#[test]
fn ctrl_c_in_a_pause_leaves_them_pending() {
    interrupted_while_waiting("run.drain_s=30", 2, 3, |_| {
        Answer::error(429, "rate_limit_exceeded", "slow down").header("retry-after", "60")
    });
}

#[test]
fn ctrl_c_in_a_back_off_leaves_them_pending() {
    interrupted_while_waiting("run.drain_s=30", 2, 4, |_| {
        Answer::error(500, "server_error", "an accident").header("retry-after", "60")
    });
}

#[test]
fn ctrl_c_while_the_endpoint_is_down_leaves_them_pending() {
    interrupted_while_waiting("run.retry.base_delay_s=2", 2, 6, |_| {
        Answer::error(502, "bad_gateway", "nobody is there")
    });
}

#[test]
fn ctrl_c_keeps_every_answer_that_the_endpoint_has_been_asked_for() {
    let plan = Plan::good().latency(Latency::Uniform(
        Duration::from_millis(100),
        Duration::from_millis(400),
    ));
    let server = FaultServer::start_blocking(plan).unwrap();
    let folder = Folder::asking_at(server.url()).file("rows.jsonl", rows(600));
    let command = ["run", "--json", "--concurrency", "60"];
    let mut run = folder.datagen(command).start();
    run.until_lines(RESULT, 30);
    run.signal(Signal::INT);
    let ended = run.exits(130);
    let [ok, pending, cut] = counts(&ended.summary());
    let asked = server.seen().total();
    let answers = folder.lines(JOURNAL).len();
    assert_eq!((answers, ok as usize, cut), (asked, asked, 0));
    assert!(pending > 0, "{}", ended.shown());

    folder.datagen(command).exits(0);
    finished(&folder, 600);
    assert_eq!(server.seen().total(), 600);
}

/// Three requests that are answered when the test is long over.
fn waiting_for_three(server: &Server, folder: &Folder) -> Running {
    let mut run = folder.datagen(["run", "--json"]).start();
    run.until("three are under way", |_| server.hits() == 3);
    run
}

#[test]
fn ctrl_c_after_sigterm_leaves_at_once() {
    let server = Server::start(|_| Answer::good("late").after(Duration::from_secs(90)));
    let folder = Folder::asking(&server);
    let mut run = waiting_for_three(&server, &folder);
    run.signal(Signal::TERM);
    run.until_said("told to end: waiting at most 30 s for 3 answers under way");
    run.signal(Signal::INT);
    assert_eq!(counts(&run.exits(130).summary()), [0, 3, 3]);
}

#[test]
fn sigterm_after_ctrl_c_waits_no_longer_than_it_may() {
    let server = Server::start(|_| Answer::good("late").after(Duration::from_secs(90)));
    let folder = Folder::asking(&server).edit("config.yaml", "run: {", "run: {drain_s: 1, ");
    let mut run = waiting_for_three(&server, &folder);
    run.signal(Signal::INT);
    run.until_said("Ctrl-C again leaves at once");
    run.signal(Signal::TERM);
    assert_eq!(counts(&run.exits(130).summary()), [0, 3, 3]);
}

#[test]
fn what_sigterm_cuts_off_is_told_and_asked_again() {
    let server = Server::start(|asked| match asked.nth {
        0 => Answer::good("in time"),
        1 | 2 => Answer::good("late").after(Duration::from_secs(90)),
        _ => Answer::good("the second time"),
    });
    let folder = Folder::asking(&server).edit("config.yaml", "run: {", "run: {drain_s: 1, ");
    let mut run = folder.datagen(["run"]).start();
    run.until_lines(RESULT, 1);
    run.until("two are under way", |_| server.hits() == 3);
    run.signal(Signal::TERM);
    let said = run.exits(130).stderr;
    assert!(said.contains("2 answers under way were cut off"), "{said}");
    folder.datagen(["run"]).exits(0);
    finished(&folder, 3);
    assert_eq!(server.hits(), 5);
}

#[test]
fn ctrl_c_while_a_big_input_is_checked_asks_nothing_and_leaves_nothing() {
    let server = Server::echoing();
    let folder = Folder::asking(&server).file("rows.jsonl", rows(400_000));
    let mut run = folder.datagen(["run"]).start();
    run.until("it checks the rows", |_| {
        folder.exists("output/demo/result.jsonl")
    });
    run.signal(Signal::INT);
    let said = run.exits(130).stderr;
    assert!(!said.contains("rows to do"), "it was over before: {said}");
    assert_eq!(server.hits(), 0);
    assert!(!folder.exists("output/demo"));
}

#[cfg(target_os = "linux")] // elsewhere a program cannot ask whether it is ignored
#[test]
fn a_terminal_that_is_closed_costs_no_answer() {
    let server = Server::start(|asked| match asked.nth {
        0 | 1 => Answer::good("fine"),
        _ => Answer::good("fine").after(Duration::from_millis(400)),
    });
    let folder = Folder::asking(&server).file("rows.jsonl", rows(200));
    // The tests themselves may be run under nohup.
    let script = "exec env --default-signal=HUP \"$DATAGEN\" run --json --concurrency 2";
    let mut run = folder.shell(script).start();
    run.until("two more are under way", |_| server.hits() >= 4);
    run.signal(Signal::HUP);
    let ended = run.exits(130);
    // Whatever was asked by then is there.
    let asked = server.hits() as u64;
    assert_eq!(counts(&ended.summary()), [asked, 200 - asked, 0]);
    assert!(ended.stderr.contains("the terminal was closed"));
    assert_eq!(folder.lines(JOURNAL).len() as u64, asked);
}

#[test]
fn under_nohup_a_terminal_that_is_closed_is_nothing() {
    let server = Server::start(|_| Answer::good("fine").after(Duration::from_millis(20)));
    let folder = Folder::asking(&server).file("rows.jsonl", rows(40));
    let script = "trap '' HUP; exec \"$DATAGEN\" run --concurrency 2";
    let mut run = folder.shell(script).start();
    run.until("it is at work", |_| server.hits() >= 2);
    run.signal(Signal::HUP);
    run.exits(0);
    finished(&folder, 40);
}

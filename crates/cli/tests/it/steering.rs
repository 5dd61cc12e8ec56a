//! Changing a run while it works, from another terminal.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use data_generation_fault_server::{FaultServer, Latency, Plan};
use insta::assert_snapshot;
use rustix::process::Signal;

use crate::harness::{Folder, Running, rows};
use crate::server::{Answer, Server};

mod limits;

const RESULT: &str = "output/demo/result.jsonl";

fn slow() -> (Folder, Running) {
    let folder = Folder::offline().file("rows.jsonl", rows(40)).edit(
        "config.yaml",
        "logging:",
        "offline: {latency_ms: 50}\nlogging:",
    );
    let run = folder.datagen(["run", "--concurrency", "2"]).start();
    (folder, run)
}

fn ctl<const N: usize>(folder: &Folder, order: [&str; N]) -> crate::harness::Run {
    folder.datagen(["ctl", "--run", "output/demo"]).args(order)
}

#[test]
fn a_run_is_paused_changed_and_goes_on() {
    let (folder, mut run) = slow();
    run.until_lines(RESULT, 2);
    assert_snapshot!(ctl(&folder, ["pause"]).exits(0).stderr.split(',').next().unwrap(), @"paused");
    run.until_said("paused; `datagen ctl resume` goes on");
    // Nothing is sent any more, what was under way is kept.
    let journal = || folder.lines("output/demo/journal.jsonl").len();
    run.until("the answers under way", |_| {
        ctl(&folder, ["show"])
            .exits(0)
            .stderr
            .contains("paused, 0 in flight")
    });
    let before = journal();
    assert!(before < 40);
    let changed = ctl(
        &folder,
        [
            "set",
            "rate_limit=60000",
            "concurrency_limit=1",
            "token_limit=null",
        ],
    );
    assert_snapshot!(changed.exits(0).stderr.trim(), @"
    paused, 0 in flight; rate_limit 60000, token_limit null, concurrency_limit 1
    until this command ends; whoever goes on later keeps it with `--set model.rate_limit=60000 --set model.token_limit=null --set run.concurrency_limit=1`
    ");
    assert_eq!(journal(), before);
    let resumed = ctl(&folder, ["resume"]).exits(0).stderr;
    assert!(
        resumed.starts_with("working, 0 in flight; rate_limit 60000, "),
        "{resumed}"
    );
    let ended = run.exits(0);
    assert!(
        ended.stderr.contains("rate_limit is 60000"),
        "{}",
        ended.stderr
    );
    assert_eq!(folder.lines(RESULT).len(), 40);
    assert!(
        !folder.exists("output/demo/.ctl.sock"),
        "the socket is gone with the run"
    );
}

/// Everything about the run but how many are in flight at the moment, what they wait for, and how long a change holds.
fn settled(told: &str) -> String {
    let told = told.split_once("; ").map_or(told, |(_, rest)| rest);
    let changes = |line: &&str| line.contains(" wait for ") || line.contains(" waits for ");
    let lines = told.trim().lines();
    let lines = lines.filter(|line| !changes(line) && !line.starts_with("until this command ends"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn more_are_asked_at_the_same_time_than_the_run_began_with() {
    let plan = Plan::good().latency(Latency::Fixed(Duration::from_millis(100)));
    let server = FaultServer::start_blocking(plan).unwrap();
    let folder = Folder::asking_at(server.url()).file("rows.jsonl", rows(400));
    let mut run = folder.datagen(["run", "--concurrency", "1"]).start();
    run.until_lines(RESULT, 1);
    let set = |value: &str| {
        let told = ctl(&folder, ["set", value]).exits(0).stderr;
        settled(&told)
    };
    assert_snapshot!(set("concurrency=20"), @"rate_limit null, token_limit null, concurrency_limit 20");
    run.until("twenty in flight", |_| server.seen().at_once == 20);
    assert_snapshot!(set("concurrency=auto"), @"rate_limit null, token_limit null, concurrency_limit auto (now 20)");
    run.until_said("`datagen ctl`: run.concurrency_limit is auto");
    assert_snapshot!(set("concurrency=4"), @"rate_limit null, token_limit null, concurrency_limit 4");
    // Nobody waits for four at a time.
    set("concurrency=200");
    run.exits(0);
    assert_eq!(server.seen().total(), 400);
}

#[test]
fn more_at_the_same_time_than_there_is_room_for_is_said_on_both_sides() {
    let plan = Plan::good().latency(Latency::Fixed(Duration::from_millis(400)));
    let server = FaultServer::start_blocking(plan).unwrap();
    let folder = Folder::asking_at(server.url()).file("rows.jsonl", rows(300));
    let limited = "ulimit -n 192; exec \"$DATAGEN\" run --concurrency 1";
    let mut run = folder.shell(limited).start();
    run.until_lines(RESULT, 1);
    let told = ctl(&folder, ["set", "concurrency=5000"]).exits(0).stderr;
    assert_snapshot!(settled(&told), @"
    rate_limit null, token_limit null, concurrency_limit 128
    this system allows 192 open files, so 128 requests at a time instead of 5000; `ulimit -n` raises it
    ");
    let ended = run.exits(0);
    assert_eq!(server.seen().at_once, 128);
    let said = "this system allows 192 open files, so 128 requests at a time instead of 5000";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}

#[test]
fn a_run_that_is_drained_keeps_what_is_under_way_and_can_go_on() {
    let (folder, mut run) = slow();
    run.until_lines(RESULT, 2);
    ctl(&folder, ["drain"]).exits(0);
    let ended = run.exits(130);
    assert!(
        ended
            .stderr
            .contains("stopped:  `datagen ctl drain` ended it"),
        "{}",
        ended.stderr
    );
    let answers = folder.lines("output/demo/journal.jsonl").len();
    assert_eq!(folder.lines(RESULT).len(), answers);
    let again = folder.datagen(["run", "--json"]).exits(0).summary();
    assert_eq!(again["requests"], 40 - answers);
}

#[test]
fn told_to_end_with_nothing_under_way_it_waits_for_nothing() {
    let (folder, mut run) = slow();
    run.until_lines(RESULT, 2);
    ctl(&folder, ["pause"]).exits(0);
    run.until("the answers under way", |_| {
        let shown = ctl(&folder, ["show"]).exits(0);
        shown.stderr.contains("paused, 0 in flight")
    });
    run.signal(Signal::TERM);
    let said = run.exits(130).stderr;
    assert!(said.contains("\ntold to end\n"), "{said}");
}

#[test]
fn the_socket_is_private_and_nonsense_harms_nobody() {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    let (folder, mut run) = slow();
    run.until_lines(RESULT, 1);
    let path = folder.path("output/demo/.ctl.sock");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
    for nonsense in [
        &b"hello\n"[..],
        b"{\"set\":{\"temperature\":1}}\n",
        b"\n",
        &[b'x'; 9000],
    ] {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        // It may have heard enough before all is sent.
        drop(stream.write_all(nonsense));
        let mut reply = String::new();
        let read = stream.read_to_string(&mut reply);
        assert!(read.is_err() || reply.contains("refused"), "{reply}");
    }
    run.exits(0);
}

#[test]
fn what_cannot_be_reached_or_changed_is_said() {
    let folder = Folder::offline();
    folder.datagen(["run"]).exits(0);
    assert_snapshot!(ctl(&folder, ["pause"]).exits(2).shown(), @"
    exit 2
    --- stderr
    error: no run is at work in output/demo
      hint: `datagen status --run output/demo` tells how it stands and how to go on
    ");
    let above = folder.datagen(["ctl", "--run", "output", "show"]);
    assert_snapshot!(above.exits(2).shown(), @"
    exit 2
    --- stderr
    error: output is no run folder: it has no run.json
      hint: there are runs in it, newest first: output/demo
    ");
    let nowhere = folder.datagen(["ctl", "--run", "output/nowhere", "pause"]);
    assert_snapshot!(nowhere.exits(2).shown(), @"
    exit 2
    --- stderr
    error: output/nowhere is not there
      hint: a run's folder is the one that holds run.json; every run names it when it begins
    ");
    assert_snapshot!(ctl(&folder, ["set", "temperature=1"]).exits(2).shown(), @"
        exit 2
        --- stderr
        error: `temperature` cannot be changed while a run works; rate_limit, token_limit, limits.requests_per_second, limits.requests_per_day, limits.tokens_per_second, limits.tokens_per_day, limits.burst and concurrency can
        ");
    assert_snapshot!(ctl(&folder, ["set", "concurrency=null"]).exits(2).shown(), @"
        exit 2
        --- stderr
        error: concurrency: `null` is neither a number above 0 nor `auto`
        ");
    assert_snapshot!(ctl(&folder, ["set", "rate_limit=fast"]).exits(2).shown(), @"
        exit 2
        --- stderr
        error: rate_limit: `fast` is neither a whole number above 0, nor `auto`, nor null
        ");
}

#[test]
fn whoever_says_nothing_keeps_nobody_waiting() {
    let (folder, mut run) = slow();
    run.until_lines(RESULT, 1);
    let path = folder.path("output/demo/.ctl.sock");
    let silent = [(); 3].map(|()| std::os::unix::net::UnixStream::connect(&path).unwrap());
    ctl(&folder, ["show"]).exits(0);
    ctl(&folder, ["drain"]).exits(0);
    drop(silent);
    run.exits(130);
}

#[test]
fn a_pause_and_its_end_stand_in_the_log() {
    let (folder, mut run) = slow_with_a_log();
    run.until_lines(RESULT, 1);
    for order in ["pause", "pause", "resume", "resume", "drain"] {
        ctl(&folder, [order]).exits(0);
    }
    run.exits(130);
    let log = folder.read(&format!("logs/{}", folder.names("logs")[0]));
    for line in [
        "paused: somebody asked to send nothing new",
        "going on: the pause that somebody asked for is over",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{log}");
    }
}

fn slow_with_a_log() -> (Folder, Running) {
    let folder = Folder::offline().file("rows.jsonl", rows(400)).edit(
        "config.yaml",
        "logging: {dir: null}",
        "offline: {latency_ms: 50}",
    );
    let run = folder.datagen(["run", "--concurrency", "2"]).start();
    (folder, run)
}

#[test]
fn a_folder_with_a_long_path_is_steered_as_well() {
    let name = "x".repeat(150);
    let folder = Folder::offline().file("rows.jsonl", rows(60)).edit(
        "config.yaml",
        "logging:",
        "offline: {latency_ms: 50}\nlogging:",
    );
    let set = format!("output_data.experiment_name={name}");
    let mut run = folder
        .datagen(["run", "--concurrency", "1", "--set", &set])
        .start();
    let place = format!("output/{name}");
    run.until_lines(&format!("{place}/result.jsonl"), 1);
    folder.datagen(["ctl", "--run", &place, "show"]).exits(0);
    folder.datagen(["ctl", "--run", &place, "drain"]).exits(0);
    run.exits(130);
}

#[test]
fn a_run_that_ctrl_z_stopped_is_said_not_to_answer_and_goes_on_afterwards() {
    let (folder, mut run) = slow_with_a_log();
    run.until_lines(RESULT, 2);
    run.signal(Signal::STOP);
    assert_snapshot!(ctl(&folder, ["show"]).exits(75).shown(), @"
    exit 75
    --- stderr
    error: the run in output/demo did not answer within 10 s; it may still do what it was told
      hint: if it was stopped with Ctrl-Z, `fg` in its terminal lets it go on
    ");
    run.signal(Signal::CONT);
    let faster = ctl(&folder, ["set", "concurrency=50"]).exits(0);
    assert_snapshot!(settled(&faster.stderr), @"rate_limit null, token_limit null, concurrency_limit 50");
    run.exits(0);
    assert_eq!(folder.lines(RESULT).len(), 400);
}

#[test]
fn however_many_say_nothing_the_next_one_is_heard() {
    let (folder, mut run) = slow();
    run.until_lines(RESULT, 1);
    ctl(&folder, ["pause"]).exits(0);
    // More than may talk at the same time: each of them is given up after a while.
    let path = folder.path("output/demo/.ctl.sock");
    let silent = [(); 40].map(|()| std::os::unix::net::UnixStream::connect(&path).unwrap());
    ctl(&folder, ["show"]).exits(0);
    ctl(&folder, ["drain"]).exits(0);
    drop(silent);
    run.exits(130);
}

/// So many are answered at once, the others when the other value is dropped.
fn answers_at_once(count: usize) -> (Server, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let server = Server::start(move |asked| {
        if asked.nth >= count {
            released.lock().unwrap().recv().unwrap_err();
        }
        Answer::good("fine")
    });
    (server, release)
}

#[test]
fn a_run_that_is_ending_is_neither_paused_nor_said_to_go_on() {
    let (server, release) = answers_at_once(2);
    let folder = Folder::asking(&server).file("rows.jsonl", rows(40));
    let mut run = folder.datagen(["run", "--concurrency", "2"]).start();
    run.until("two are held", |_| server.hits() == 4);
    ctl(&folder, ["drain"]).exits(0);
    let refused = ctl(&folder, ["resume"]).exits(2).shown();
    assert_snapshot!(refused, @"
    exit 2
    --- stderr
    error: the run is ending: nothing new is sent any more, so it can neither be paused nor go on; when it has ended it says which command goes on
    ");
    assert_eq!(ctl(&folder, ["pause"]).exits(2).shown(), refused);
    drop(release);
    let said = run.exits(130).stderr;
    assert!(
        !said.contains("going on") && !said.contains("paused"),
        "{said}"
    );
    assert_eq!(server.hits(), 4);
}

#[test]
fn what_a_run_waits_for_is_shown_with_how_long() {
    let server = Server::start(|asked| match asked.nth {
        0 => Answer::good("fine"),
        _ => Answer::error(429, "rate_limit_exceeded", "slow down").header("retry-after", "60"),
    });
    let folder = Folder::asking(&server).file("rows.jsonl", rows(10));
    let mut run = folder.datagen(["run", "--concurrency", "1"]).start();
    run.until("it is put off", |_| server.hits() >= 2);
    run.until("that is shown", |_| {
        let shown = ctl(&folder, ["show"]).exits(0).stderr;
        let line = shown.lines().last().unwrap();
        line.starts_with("paused ") && line.contains(" s: ") && line.contains("429")
    });
    run.signal(Signal::INT);
    run.exits(130);
}

#[test]
fn while_it_works_a_run_of_the_first_rows_counts_those_as_its_rows() {
    let (server, release) = answers_at_once(2);
    let folder = Folder::asking(&server).file("rows.jsonl", rows(40));
    let mut run = folder
        .datagen(["run", "--concurrency", "2", "--limit", "6"])
        .start();
    run.until_lines(RESULT, 2);
    let status = || {
        let ended = folder.datagen(["status", "--run", "output/demo"]).exits(0);
        let rows = ended.stdout.lines().find(|line| line.starts_with("  rows"));
        rows.unwrap().trim().to_owned()
    };
    let told = "rows      2 ok + 0 failed, 4 pending; the last input has 40, of which the last run took the first 6";
    assert_eq!(status(), told);
    run.signal(Signal::KILL);
    run.end();
    assert_eq!(status(), told);
    drop(release);
}

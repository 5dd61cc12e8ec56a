//! Two runs, one key: limits that processes keep together.

use std::time::Duration;

use data_generation_fault_server::{FaultServer, Latency, Plan, Seen};
use rustix::process::Signal;

use crate::harness::{Folder, Running, rows};
use crate::server::Server;

#[test]
fn two_runs_with_one_key_share_what_they_may_send() {
    let server = Server::echoing();
    let folder = Folder::asking(&server).file("rows.jsonl", rows(6)).edit(
        "config.yaml",
        "logging:",
        "limits: {requests_per_day: 10, share: true}\nlogging:",
    );
    let run = |name: &str, share: &str| {
        let name = format!("output_data.experiment_name={name}");
        let share = format!("limits.share={share}");
        let home = folder.path("home").display().to_string();
        folder
            .datagen(["run", "--set", &name, "--set", &share])
            .env("HOME", &home)
    };
    run("first", "true").exits(0);
    let ended = run("second", "true").exits(75);
    assert_eq!(folder.lines("output/second/result.jsonl").len(), 4);
    assert!(
        ended
            .stderr
            .contains("the limit of 10 requests a day is used up; come back after"),
        "{}",
        ended.stderr
    );
    // Nothing is left for another one, but whoever does not share has a limit of his own.
    run("third", "true").exits(75);
    assert_eq!(server.hits(), 10);
    run("fourth", "false").exits(0);
    let names = folder.names("home/.local/state/data-generation/limits");
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn what_a_run_sent_before_it_shared_counts_once_for_all_who_share() {
    let server = Server::echoing();
    let folder = Folder::asking(&server).file("rows.jsonl", rows(12)).edit(
        "config.yaml",
        "logging:",
        "limits: {share: true}\nlogging:",
    );
    let home = folder.path("home").display().to_string();
    let run = |name: &str, more: [&str; 2]| {
        let name = format!("output_data.experiment_name={name}");
        let run = folder.datagen(["run", "--set", &name, "--set", more[0], "--set", more[1]]);
        run.env("HOME", &home)
    };
    let (ten, eleven) = ("limits.requests_per_day=10", "limits.requests_per_day=11");
    let (alone, anew) = ("limits.share=false", "run.sync_ms=1");
    folder.write("rows.jsonl", rows(6));
    run("first", [ten, alone]).exits(0);
    folder.write("rows.jsonl", rows(12));
    run("first", [ten, anew]).exits(75);
    assert_eq!(server.hits(), 10);
    // Nobody counts the first six of them again.
    for name in ["second", "first"] {
        run(name, [ten, anew]).exits(75);
    }
    run("first", [eleven, anew]).exits(75);
    assert_eq!(server.hits(), 11);
    // Alone again, it counts all that it has sent itself.
    run("first", ["limits.requests_per_day=12", alone]).exits(0);
    assert_eq!(server.hits(), 12);
}

#[test]
fn limits_hold_and_the_user_hears_of_it_where_the_shared_file_cannot_be_written() {
    let server = Server::echoing();
    let folder = Folder::asking(&server).file("rows.jsonl", rows(6)).edit(
        "config.yaml",
        "logging:",
        "limits: {requests_per_day: 10, share: true}\nlogging:",
    );
    let home = folder.path("home").display().to_string();
    let first = "output_data.experiment_name=first";
    let run = folder.datagen(["run", "--set", first]);
    run.env("HOME", &home).exits(0);
    // The second of the two copies in that file lies beyond what the system lets this process write.
    let second = "ulimit -f 1000; trap '' XFSZ; exec \"$DATAGEN\" run --set output_data.experiment_name=second";
    let ended = folder.shell(second).env("HOME", &home).exits(75);
    assert_eq!(folder.lines("output/second/result.jsonl").len(), 4);
    assert_eq!(server.hits(), 10);
    let told = ended.stderr.matches("the limits are not shared for now");
    assert_eq!(told.count(), 1, "{}", ended.stderr);
}

/// An endpoint that answers quickly.
fn endpoint() -> FaultServer {
    let latency = Latency::Fixed(Duration::from_millis(5));
    FaultServer::start_blocking(Plan::good().latency(latency)).unwrap()
}

/// A run of so many rows at this many requests a second, at work; all share one file.
fn start(folder: &Folder, name: &str, rows: usize, a_second: u32) -> Running {
    let settings = [
        format!("output_data.experiment_name={name}"),
        format!("model.model={name}"),
        format!("limits.requests_per_second={a_second}"),
    ];
    let [name, model, rate] = settings.each_ref().map(String::as_str);
    let limit = rows.to_string();
    let arguments = [
        "run", "--set", name, "--set", model, "--set", rate, "--limit", &limit, "--json",
    ];
    let home = folder.path("home").display().to_string();
    folder.datagen(arguments).env("HOME", &home).start()
}

fn sharing(server: &FaultServer) -> Folder {
    Folder::asking_at(server.url())
        .file("rows.jsonl", rows(200))
        .edit("config.yaml", "logging:", "limits: {share: true}\nlogging:")
}

/// Who asked, in the order of arrival.
fn askers(seen: &Seen) -> Vec<String> {
    let models = seen.requests.iter().map(|asked| &asked.body["model"]);
    models
        .map(|model| model.as_str().unwrap().to_owned())
        .collect()
}

/// What arrived between the first and the last request of this one.
fn while_there_was(name: &str, seen: Seen) -> Seen {
    let askers = askers(&seen);
    let first = askers.iter().position(|asker| asker == name).unwrap();
    let last = askers.iter().rposition(|asker| asker == name).unwrap();
    let mut seen = seen;
    seen.requests = seen.requests[first..=last].to_vec();
    seen
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn runs_at_the_same_time_take_turns_and_keep_the_limit_together() {
    let server = endpoint();
    let folder = sharing(&server);
    let runs = ["one", "two"].map(|name| start(&folder, name, 25, 10));
    for run in runs {
        let ended = run.exits(0);
        assert_eq!(ended.summary()["ok"], 25);
    }
    let seen = server.stop();
    assert_eq!(seen.total(), 50);
    // Each alone would send ten in a second; how late they arrive is for the machine to say.
    assert!(seen.most_within(SECOND) <= 15);
    let askers = askers(&while_there_was("one", while_there_was("two", seen)));
    let of_one = askers.iter().filter(|asker| *asker == "one").count();
    assert!(of_one.abs_diff(askers.len() - of_one) <= 6, "{askers:?}");
}

#[test]
fn the_lower_limit_of_two_runs_is_kept_by_both_and_neither_starves() {
    let server = endpoint();
    let folder = sharing(&server);
    let mut fast = start(&folder, "fast", 100, 40);
    fast.until_lines("output/fast/result.jsonl", 5);
    let slow = start(&folder, "slow", 10, 5).exits(0);
    assert_eq!(slow.summary()["ok"], 10);
    let told = "another process with the same key keeps 5 requests a second: as long as it runs, this one keeps that too";
    assert!(!slow.stderr.contains("another process"), "{}", slow.stderr);
    let fast = fast.exits(0);
    assert_eq!(fast.summary()["ok"], 100);
    assert_eq!(fast.stderr.matches(told).count(), 1, "{}", fast.stderr);
    let seen = while_there_was("slow", server.stop());
    assert!(seen.most_within(SECOND) <= 8);
    let askers = askers(&seen);
    let of_slow = askers.iter().filter(|asker| *asker == "slow").count();
    assert!(of_slow.abs_diff(askers.len() - of_slow) <= 6, "{askers:?}");
}

#[test]
fn a_run_that_is_killed_leaves_its_turns_to_the_others() {
    let server = endpoint();
    let folder = sharing(&server);
    let mut dead = start(&folder, "dead", 200, 10);
    dead.until_lines("output/dead/result.jsonl", 3);
    let mut alive = start(&folder, "alive", 30, 10);
    alive.until_lines("output/alive/result.jsonl", 3);
    dead.signal(Signal::KILL);
    dead.end();
    let ended = alive.exits(0);
    assert_eq!(ended.summary()["ok"], 30);
    let seen = server.stop();
    assert!(seen.most_within(SECOND) <= 15);
    let askers = askers(&seen);
    let last = askers.iter().rposition(|asker| asker == "dead").unwrap();
    assert!(askers.len() - last > 10, "{askers:?}");
}

//! Two runs, one key: limits that processes keep together.

use crate::harness::{Folder, rows};
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
    let shared = folder.path("home/.local/state/data-generation/limits");
    let names: Vec<String> = std::fs::read_dir(shared)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn limits_hold_and_the_user_hears_of_it_where_the_shared_file_cannot_be_written() {
    let server = Server::echoing();
    let folder = Folder::asking(&server).file("rows.jsonl", rows(6)).edit(
        "config.yaml",
        "logging:",
        "limits: {requests_per_day: 10, share: true}\nlogging:",
    );
    let run = |name: &str| {
        let name = format!("output_data.experiment_name={name}");
        let home = folder.path("home").display().to_string();
        folder.datagen(["run", "--set", &name]).env("HOME", &home)
    };
    run("first").exits(0);
    let shared = folder.path("home/.local/state/data-generation/limits");
    let files = std::fs::read_dir(shared).unwrap();
    let file = files
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|kind| kind == "json"));
    // What is written beside the file, to take its place, cannot be.
    std::fs::create_dir(file.unwrap().with_extension("new")).unwrap();
    let ended = run("second").exits(75);
    assert_eq!(folder.lines("output/second/result.jsonl").len(), 4);
    assert_eq!(server.hits(), 10);
    let told = ended.stderr.matches("the limits are not shared for now");
    assert_eq!(told.count(), 1, "{}", ended.stderr);
}

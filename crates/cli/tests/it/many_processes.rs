//! Several processes at once: one for a folder.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Folder, Running, rows};
use crate::server::{Answer, Server};

/// A server that answers nobody before it is told to.
struct Holding {
    server: Server,
    go: Arc<AtomicBool>,
}

impl Holding {
    fn new() -> Holding {
        let go = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&go);
        let server = Server::start(move |_| {
            while !told.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(2));
            }
            Answer::good("fine")
        });
        Holding { server, go }
    }

    fn answer(&self) {
        self.go.store(true, Ordering::Relaxed);
    }
}

/// Waits until all have ended but one, which has no answer yet: they do not wait for it.
#[track_caller]
fn all_but_one_end(mut running: Vec<Running>) -> (Running, Vec<Running>) {
    let mut ended = Vec::new();
    while running.len() > 1 {
        ended.extend(running.extract_if(.., |one| one.has_ended()));
        assert!(!running.is_empty(), "nobody works on the folder");
        std::thread::sleep(Duration::from_millis(2));
    }
    (running.remove(0), ended)
}

#[track_caller]
fn one_of_fifty(folder: &Folder, holding: &Holding) {
    let all = (0..50).map(|_| folder.datagen(["run"]).start()).collect();
    let (first, others) = all_but_one_end(all);
    assert_eq!(others.len(), 49);
    let holder = format!("(process {}, since ", first.id());
    for other in others {
        let said = other.exits(2).stderr;
        assert!(said.contains(&holder), "not {holder}: {said}");
    }
    holding.answer();
    first.exits(0);
}

#[track_caller]
fn whole(folder: &Folder, dir: &str, count: usize) {
    let mut topics = HashSet::new();
    for record in folder.lines(&format!("{dir}/result.jsonl")) {
        topics.insert(record["input"]["topic"].to_string());
    }
    let lines = folder.lines(&format!("{dir}/result.jsonl")).len();
    let answers = folder.lines(&format!("{dir}/journal.jsonl")).len();
    assert_eq!(
        (topics.len(), lines, answers),
        (count, count, count),
        "{dir}"
    );
}

#[test]
fn of_fifty_processes_on_a_new_folder_one_runs_and_the_others_name_it() {
    let holding = Holding::new();
    let folder = Folder::asking(&holding.server);
    one_of_fifty(&folder, &holding);
    whole(&folder, "output/demo", 3);
    assert_eq!(holding.server.hits(), 3);
}

#[test]
fn of_fifty_processes_on_an_old_folder_one_goes_on_and_the_others_name_it() {
    let holding = Holding::new();
    let folder = Folder::asking(&holding.server).file("rows.jsonl", rows(20));
    let quick = Server::start(|asked| match asked.nth {
        0..8 => Answer::good("fine"),
        _ => Answer::error(500, "server_error", "an accident").header("retry-after", "60"),
    });
    let address = format!("model.base_url={}", quick.base_url());
    let mut before = folder.datagen(["run", "--set", &address]).start();
    before.until_lines("output/demo/result.jsonl", 8);
    before.signal(Signal::INT);
    before.exits(130);

    one_of_fifty(&folder, &holding);
    whole(&folder, "output/demo", 20);
    assert_eq!(holding.server.hits(), 12);
}

#[test]
fn of_five_that_begin_anew_one_does_and_the_old_run_is_moved_aside_once() {
    let holding = Holding::new();
    let folder = Folder::asking(&holding.server);
    let quick = Server::echoing();
    let address = format!("model.base_url={}", quick.base_url());
    folder.datagen(["run", "--set", &address]).exits(0);

    let all = (0..5)
        .map(|_| folder.datagen(["run", "--new"]).start())
        .collect();
    let (first, others) = all_but_one_end(all);
    for other in others {
        let said = other.exits(2).stderr;
        assert!(said.contains("another process works on"), "{said}");
    }
    holding.answer();
    first.exits(0);
    let names = folder.names("output");
    assert_eq!(names.len(), 2, "{names:?}");
    for name in names {
        whole(&folder, &format!("output/{name}"), 3);
    }
}

#[test]
fn ten_with_a_time_stamp_in_the_same_second_make_ten_folders() {
    let folder = Folder::offline().edit(
        "config.yaml",
        "need_time_stamp: false",
        "need_time_stamp: true",
    );
    let all: Vec<Running> = (0..10).map(|_| folder.datagen(["run"]).start()).collect();
    for one in all {
        one.exits(0);
    }
    let names = folder.names("output/demo");
    assert_eq!(names.len(), 10, "{names:?}");
    for name in names {
        whole(&folder, &format!("output/demo/{name}"), 3);
    }
}

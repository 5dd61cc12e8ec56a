//! The log files: where, when, and what is not in them.

use crate::harness::Folder;
use crate::server::{Answer, Server};

/// A folder with a log; the configuration's last line says otherwise.
fn logging(server: &Server, logging: &str) -> Folder {
    Folder::asking(server).edit("config.yaml", "logging: {dir: null}", logging)
}

/// All that was logged.
fn logged(folder: &Folder, dir: &str) -> String {
    let names = folder.names(dir);
    assert_eq!(names.len(), 1, "{names:?}");
    folder.read(&format!("{dir}/{}", names[0]))
}

#[test]
fn there_is_one_file_a_day_in_logs() {
    let server = Server::echoing();
    let folder = logging(&server, "");
    folder.datagen(["run"]).exits(0);
    folder.datagen(["run"]).exits(0);
    let names = folder.names("logs");
    let day = names[0]
        .strip_prefix("datagen.")
        .unwrap()
        .strip_suffix(".log")
        .unwrap();
    assert_eq!(day.len(), 10, "{day}");
    assert_eq!(day.bytes().filter(|byte| *byte == b'-').count(), 2, "{day}");
    let log = logged(&folder, "logs");
    assert_eq!(log.matches(" started ").count(), 2, "{log}");
    assert!(log.contains("ok=3 failed=0"), "{log}");
    assert!(!log.contains('\x1b'), "no colours in a file");
}

#[test]
fn the_folder_and_the_level_come_from_the_configuration() {
    let server = Server::start(|_| Answer::error(400, "bad", "odd row"));
    let folder = logging(&server, "logging: {dir: deep/log, level: warn}");
    folder.datagen(["run"]).exits(3);
    assert!(!folder.exists("logs"));
    let log = logged(&folder, "deep/log");
    assert_eq!(log.lines().count(), 3, "{log}");
    assert!(
        log.lines()
            .all(|line| line.contains(" WARN ") && line.contains("odd row")),
        "{log}"
    );
    folder
        .datagen(["run", "--set", "logging.level=off"])
        .exits(3);
    assert_eq!(logged(&folder, "deep/log"), log);
}

#[test]
fn prompts_and_answers_are_in_it_at_debug_only() {
    for (level, shown) in [("info", false), ("debug", true), ("trace", true)] {
        let server = Server::echoing();
        let folder = logging(&server, &format!("logging: {{level: {level}}}"));
        folder.datagen(["run"]).exits(0);
        let log = logged(&folder, "logs");
        assert!(log.contains("ended"), "{level}: {log}");
        assert_eq!(
            log.contains("Write about topic 1."),
            shown,
            "{level}: {log}"
        );
        assert_eq!(log.contains("You said"), shown, "{level}: {log}");
    }
}

#[test]
fn null_means_no_log_and_check_and_preview_write_none() {
    let server = Server::echoing();
    let folder = logging(&server, "");
    folder.datagen(["check"]).exits(0);
    folder.datagen(["preview"]).exits(0);
    folder
        .datagen(["run", "--set", "logging.dir=null"])
        .exits(0);
    assert!(!folder.exists("logs"));
}

#[test]
fn words_of_others_stay_on_one_line() {
    let server =
        Server::start(|_| Answer::error(400, "bad", "one\ntwo\r\n\u{1b}[31mthree\u{2028}four"));
    let folder = logging(&server, "logging: {level: trace}");
    folder.datagen(["run"]).exits(3);
    let log = logged(&folder, "logs");
    assert!(log.lines().all(|line| line.starts_with("20")), "{log}");
    assert!(
        !log.contains(|c: char| c.is_control() && c != '\n'),
        "{log}"
    );
}

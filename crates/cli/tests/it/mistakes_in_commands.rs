//! Flags that do not go together, and places that cannot be written to.

use insta::assert_snapshot;

use crate::harness::{Ended, Folder};
use crate::server::Server;

/// What a command comes to that must not send anything.
#[track_caller]
fn ended<const N: usize>(mistake: impl FnOnce(Folder) -> Folder, arguments: [&str; N]) -> Ended {
    let server = Server::echoing();
    let folder = mistake(Folder::asking(&server));
    let ended = folder.datagen(arguments).end();
    assert_eq!(server.hits(), 0, "nothing may be sent: {}", ended.shown());
    ended
}

#[test]
fn new_and_resume_do_not_go_together_nor_new_and_fork() {
    assert_snapshot!(ended(|folder| folder, ["run", "--new", "--resume"]).shown(), @"
    exit 2
    --- stderr
    error: the argument '--new' cannot be used with '--resume [<DIR|latest>]'

    Usage: datagen run --new

    For more information, try '--help'.
    ");
    assert_snapshot!(ended(|folder| folder, ["run", "--new", "--fork", "other"]).shown(), @"
    exit 2
    --- stderr
    error: the argument '--new' cannot be used with '--fork <NAME>'

    Usage: datagen run --new

    For more information, try '--help'.
    ");
}

#[test]
fn there_is_nothing_to_go_on_with() {
    assert_snapshot!(ended(|folder| folder, ["run", "--resume"]).shown(), @"
    exit 2
    --- stderr
    error: there is no run to go on with in output/demo
    ");
    assert_snapshot!(ended(|folder| folder, ["run", "--resume", "output/nope"]).shown(), @"
    exit 2
    --- stderr
    error: output/nope is no run folder: it has no run.json
    ");
    assert_snapshot!(ended(|folder| folder, ["run", "--fork", "other"]).shown(), @"
    exit 2
    --- stderr
    error: there is no run to go on with in output/demo
    ");
}

#[test]
fn a_fork_with_a_name_that_leaves_the_output_folder() {
    assert_snapshot!(ended(|folder| folder, ["run", "--fork", "../x"]).shown(), @"
    exit 2
    --- stderr
    error: the name `../x` begins with a dot; use letters, digits, `.`, `_` and `-`, not a dot first
    ");
}

#[test]
fn an_output_folder_below_a_file_is_found_before_the_first_request() {
    let mistake = |folder: Folder| folder.file("file", "");
    let arguments = ["run", "--set", "output_data.output_dir=file/output"];
    assert_snapshot!(ended(mistake, arguments).shown(), @"
    exit 74
    --- stderr
    error: could not make file/output/demo
      caused by: Not a directory (os error [N])
      hint: output_data.output_dir and output_data.experiment_name say where a run goes
    ");
}

#[test]
fn a_file_in_the_place_of_the_run_folder() {
    let mistake = |folder: Folder| folder.file("output/demo", "");
    assert_snapshot!(ended(mistake, ["run"]).shown(), @"
    exit 74
    --- stderr
    error: could not make output/demo
      caused by: File exists (os error [N])
      hint: output_data.output_dir and output_data.experiment_name say where a run goes
    ");
}

#[test]
fn a_folder_in_the_place_of_one_of_the_files_of_a_run() {
    let mistake = |folder: Folder| folder.file("output/demo/result.jsonl/x", "");
    assert_snapshot!(ended(mistake, ["run"]).shown(), @"
    exit 2
    --- stderr
    error: output/demo/result.jsonl is not a regular file; move it away
    ");
}

#[test]
fn a_log_folder_below_a_file() {
    let mistake = |folder: Folder| folder.file("file", "");
    let arguments = ["run", "--set", "logging.dir=file/logs"];
    assert_snapshot!(ended(mistake, arguments).shown(), @"
    exit 74
    --- stderr
    error: could not write to the log folder file/logs
      caused by: Not a directory (os error [N])
      hint: set logging.dir to another folder, or to null for no log
    ");
}

#[test]
fn damage_in_the_middle_of_a_dataset_is_named_by_its_line_and_left_alone() {
    let folder = Folder::offline();
    folder.datagen(["run"]).exits(0);
    let dataset = folder.read("output/demo/result.jsonl");
    let second = dataset.lines().nth(1).unwrap();
    let damaged = dataset.replace(second, &second[..40]);
    folder.write("output/demo/result.jsonl", &damaged);
    assert_snapshot!(folder.datagen(["run"]).end().shown(), @"
        exit 2
        --- stderr
        error: output/demo/result.jsonl:2: is no line of a dataset (EOF while parsing an object, column 40); a run with `--repair` moves the line aside and makes its row again from the journal
        ");
    assert_eq!(folder.read("output/demo/result.jsonl"), damaged);
}

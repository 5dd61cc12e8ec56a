//! What is wrong with rows and prompts: told before anything is sent, with file, line and cure.

use insta::assert_snapshot;

use crate::harness::Folder;
use crate::server::Server;

/// What a run says to a mistake, which `check` must find as well; it must have sent nothing.
#[track_caller]
fn said(mistake: impl FnOnce(Folder) -> Folder) -> String {
    let server = Server::echoing();
    let folder = mistake(Folder::asking(&server));
    let ended = folder.datagen(["run"]).exits(2);
    folder.datagen(["check"]).exits(2);
    assert_eq!(server.hits(), 0, "nothing may be sent: {}", ended.shown());
    assert!(
        !folder.exists("output/demo"),
        "nothing was begun: {}",
        ended.shown()
    );
    ended.shown()
}

#[test]
fn a_file_of_rows_that_is_not_there() {
    let mistake = |folder: Folder| folder.edit("config.yaml", "rows.jsonl", "rwos.jsonl");
    assert_snapshot!(said(mistake), @"
    exit 2
    --- stderr
    error: there is no file rwos.jsonl; rows are one JSON object a line
    ");
}

#[test]
fn a_folder_in_the_place_of_rows() {
    let mistake = |folder: Folder| {
        folder
            .edit("config.yaml", "rows.jsonl", "data")
            .file("data/rows.jsonl", "{}")
    };
    assert_snapshot!(said(mistake), @"
    exit 2
    --- stderr
    error: data is a folder; the rows are one file of JSON Lines
    ");
}

#[test]
fn a_pipe_in_the_place_of_a_file() {
    let server = Server::echoing();
    let folder = Folder::asking(&server);
    let script = "mkfifo pipe; cat rows.jsonl >pipe & \"$DATAGEN\" run --data pipe";
    assert_snapshot!(folder.shell(script).end().shown(), @"
    exit 2
    --- stderr
    error: pipe is a pipe or a device, and the rows are read twice; give them on standard input (`-`)
    ");
    assert_eq!(server.hits(), 0);
    assert!(!folder.exists("output/demo"));
}

#[test]
fn no_rows_are_named() {
    let server = Server::echoing();
    let folder = Folder::asking(&server).edit("config.yaml", "input_data: {path: rows.jsonl}", "");
    assert_snapshot!(folder.datagen(["run"]).end().shown(), @"
    exit 2
    --- stderr
    error: no rows are named: give `--data FILE` (JSON Lines, `-` for standard input) or set input_data.path
    ");
    assert_eq!(server.hits(), 0);
}

#[test]
fn a_file_without_rows_is_said_to_be_empty_and_is_no_failure() {
    let server = Server::echoing();
    let folder = Folder::asking(&server).file("rows.jsonl", "\n\n");
    assert_snapshot!(folder.datagen(["run"]).end().shown(), @"
    exit 0
    --- stderr
    warning: rows.jsonl has no rows
    making output/demo: 0 of 0 rows to do
    finished: 0 rows = 0 ok + 0 failed + 0 done before + 0 pending
      requests  0 (0 retries)
      tokens    0 prompt + 0 completion
      time      [TIME]
      result    output/demo/result.jsonl
    ");
    assert_eq!(server.hits(), 0);
}

#[test]
fn a_prompt_that_is_not_there() {
    let mistake = |folder: Folder| folder.edit("config.yaml", "user.txt", "usr.txt");
    assert_snapshot!(said(mistake), @"
    exit 2
    --- stderr
    error: `usr.txt`: there is no such prompt file
      caused by: No such file or directory (os error [N])
      hint: prompts.system_prompt_path (null for none) and prompts.user_prompt_path name the prompts; a relative path starts at the working directory
    ");
}

#[test]
fn a_variable_that_the_rows_do_not_have_is_told_with_line_variable_and_prompt() {
    let mistake = |folder: Folder| folder.file("user.txt", "Write\nabout {{topc}}.\n");
    assert_snapshot!(said(mistake), @"
    exit 2
    --- stderr
    error: 3 problems in 3 rows of the input; no request was sent
      rows.jsonl:1: `{{topc}}` (user.txt:2) is missing in the row; it has `topic`
      rows.jsonl:2: `{{topc}}` (user.txt:2) is missing in the row; it has `topic`
      rows.jsonl:3: `{{topc}}` (user.txt:2) is missing in the row; it has `topic`
      hint: mend the rows or the prompts; `--skip-invalid` lets these rows fail alone
    ");
}

#[test]
fn a_variable_that_one_row_lacks_has_null_or_has_as_an_object() {
    let rows = "{\"topic\": \"a\"}\n{\"topik\": \"b\"}\n{\"topic\": null}\n{\"topic\": {\"name\": \"d\"}}\n";
    assert_snapshot!(said(|folder| folder.file("rows.jsonl", rows)), @"
    exit 2
    --- stderr
    error: 3 problems in 3 rows of the input; no request was sent
      rows.jsonl:2: `{{topic}}` (user.txt:1) is missing in the row; it has `topik`
      rows.jsonl:3: `{{topic}}` (user.txt:1) is null in the row; `{{#if topic}}` around it leaves it out, `{{json topic}}` prints it as JSON
      rows.jsonl:4: `{{topic}}` (user.txt:1) is an object in the row; print a field of it, or all of it with `{{json topic}}`
      hint: mend the rows or the prompts; `--skip-invalid` lets these rows fail alone
    ");
}

#[test]
fn twenty_problems_are_shown_and_the_others_counted() {
    let rows: String = (0..50).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    let shown = said(|folder| folder.file("rows.jsonl", rows));
    assert_eq!(shown.matches("\n  rows.jsonl:").count(), 20, "{shown}");
    assert!(
        shown.contains("50 problems in 50 rows of the input; no request was sent"),
        "{shown}"
    );
    assert!(shown.contains("\n  and 30 more\n"), "{shown}");
}

#[test]
fn braces_of_python_in_a_handlebars_prompt() {
    let mistake = |folder: Folder| {
        folder.file("user.txt", "Write about {topic}.").file(
            "rows.jsonl",
            "{\"user_prompt_kwargs\": {\"topic\": \"tides\"}}\n",
        )
    };
    assert_snapshot!(said(mistake), @"
    exit 2
    --- stderr
    error: 1 problem in the prompts for these rows; no request was sent
      rows.jsonl:1: `{topic}` (`user.txt` line 1, column 13) is plain text in Handlebars, and the rows have `topic`; write `{{topic}}`, or use the syntax `format` for this prompt (`prompts.syntax: format`)
    ");
}

#[test]
fn braces_of_python_are_fine_where_the_syntax_is_format() {
    let server = Server::echoing();
    let folder = Folder::asking(&server)
        .file("user.txt", "Write about {topic}, {{literally}}.")
        .file(
            "rows.jsonl",
            "{\"user_prompt_kwargs\": {\"topic\": \"tides\"}}\n",
        );
    folder
        .datagen(["run", "--set", "prompts.syntax=format"])
        .exits(0);
    assert_eq!(server.asked()[0].user(), "Write about tides, {literally}.");
}

#[test]
fn a_kwarg_that_no_prompt_uses_is_a_warning() {
    let server = Server::echoing();
    let row = r#"{"user_prompt_kwargs": {"topic": "tides", "colour": "blue"}}"#;
    let folder = Folder::asking(&server).file("rows.jsonl", row);
    let ended = folder.datagen(["run"]).exits(0);
    assert_snapshot!(ended.stderr.lines().next().unwrap(), @"warning: `colour` in `user_prompt_kwargs` of 1 row is not used by the user prompt");
}

#[test]
fn a_prompt_with_a_broken_tag_is_told_with_its_place() {
    assert_snapshot!(said(|folder| folder.file("user.txt", "Write\nabout {{topic}.")), @r#"
    exit 2
    --- stderr
    error: `user.txt` line 2, column 7: `{{` is never closed; write `}}` behind the name, or `\{{` for two braces that are text
    "#);
}

#[test]
fn a_line_that_is_no_json_is_told_with_line_and_column() {
    let rows = "{\"topic\": \"a\"}\n{\"topic\": \"b\",}\n\n['c']\n[1]\n";
    assert_snapshot!(said(|folder| folder.file("rows.jsonl", rows)), @"
    exit 2
    --- stderr
    error: 3 problems in 3 rows of the input; no request was sent
      rows.jsonl:2: is no JSON: key must be a string (column 15)
      rows.jsonl:4: is no JSON: expected value (column 2)
      rows.jsonl:5: is no JSON object but a list
      hint: mend the rows or the prompts; `--skip-invalid` lets these rows fail alone
    ");
}

#[test]
fn a_key_that_stands_twice_in_a_row() {
    let rows = "{\"topic\": \"a\", \"topic\": \"b\"}\n";
    assert_snapshot!(said(|folder| folder.file("rows.jsonl", rows)), @r#"
    exit 2
    --- stderr
    error: 1 problem in 1 row of the input; no request was sent
      rows.jsonl:1: has the key "topic" twice (column 29)
      hint: mend the rows or the prompts; `--skip-invalid` lets these rows fail alone
    "#);
}

#[test]
fn a_file_in_utf_16_is_named_as_such() {
    let rows: Vec<u8> = std::iter::once(0xfeff)
        .chain("{\"topic\": \"a\"}\n".encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_snapshot!(said(|folder| folder.file("rows.jsonl", rows)), @"
    exit 2
    --- stderr
    error: rows.jsonl is UTF-16; rows are UTF-8 (`iconv -f UTF-16 -t UTF-8` makes it so)
    ");
}

#[test]
fn a_byte_that_is_no_utf_8_is_told_with_its_place() {
    let rows = b"{\"topic\": \"a\"}\n{\"topic\": \"b\xffc\"}\n";
    assert_snapshot!(said(|folder| folder.file("rows.jsonl", rows)), @"
    exit 2
    --- stderr
    error: 1 problem in 1 row of the input; no request was sent
      rows.jsonl:2: is no UTF-8 text (column 13)
      hint: mend the rows or the prompts; `--skip-invalid` lets these rows fail alone
    ");
}

#[test]
fn a_whole_file_in_brackets_is_no_json_lines() {
    let rows = "[\n  {\"topic\": \"a\"},\n  {\"topic\": \"b\"}\n]\n";
    let shown = said(|folder| folder.file("rows.jsonl", rows));
    assert!(shown.contains("rows.jsonl:1:"), "{shown}");
}

#[test]
fn crlf_a_mark_at_the_start_blank_lines_and_no_last_newline_are_no_mistakes() {
    let server = Server::echoing();
    let rows = "\u{feff}{\"topic\": \"a\"}\r\n\r\n{\"topic\": \"b\"}";
    let folder = Folder::asking(&server)
        .file("rows.jsonl", rows)
        .file("user.txt", "\u{feff}Write\r\nabout {{topic}}.\r\n");
    folder.datagen(["run", "--concurrency", "1"]).exits(0);
    let asked: Vec<String> = server
        .asked()
        .iter()
        .map(|asked| asked.user().to_owned())
        .collect();
    assert_eq!(asked, ["Write\nabout a.", "Write\nabout b."]);
}

#[test]
fn bad_rows_fail_alone_where_that_is_wanted() {
    let server = Server::echoing();
    let rows = "{\"topic\": \"a\"}\n{\"topik\": \"b\"}\nnonsense\n{\"topic\": \"d\"}\n";
    let folder = Folder::asking(&server).file("rows.jsonl", rows);
    let summary = folder
        .datagen(["run", "--skip-invalid", "--json"])
        .exits(3)
        .summary();
    assert_eq!(
        (summary["ok"].as_u64(), summary["failed"].as_u64()),
        (Some(2), Some(2))
    );
    assert_eq!(server.hits(), 2);
    let failures = folder.lines("output/demo/failures.jsonl");
    assert!(
        failures
            .iter()
            .all(|failure| failure["error"]["class"] == "invalid_row"),
        "{failures:?}"
    );
}

#[test]
fn a_row_that_is_too_large_fails_alone() {
    let server = Server::echoing();
    let rows = format!(
        "{{\"topic\": \"a\"}}\n{{\"topic\": \"{}\"}}\n",
        "x".repeat(2000)
    );
    let folder = Folder::asking(&server).file("rows.jsonl", rows);
    let small = ["run", "--json", "--set", "input_data.max_row_bytes=1000"];
    let summary = folder.datagen(small).exits(3).summary();
    assert_eq!(
        (summary["ok"].as_u64(), summary["failed"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!(
        folder.lines("output/demo/failures.jsonl")[0]["error"]["class"],
        "row_too_large"
    );
}

//! A key is nowhere but where the user wrote it and in the requests it is for.

use serde_json::json;

use crate::harness::{Ended, Folder};
use crate::server::{Answer, Server, completion};

const KEY: &str = "sk-proj-Zq7/Wm2xKd9vTb4RhYc6LnPj3";
/// `printf %s "$KEY" | base64`.
const KEY_IN_BASE64: &str = "c2stcHJvai1acTcvV20yeEtkOXZUYjRSaFljNkxuUGoz";
/// A part of a key that is this long is no accident.
const PIECE: usize = 12;

/// Says the key back in every way that was ever seen.
fn gossiping() -> Server {
    Server::start(|asked| {
        let masked = format!("{}****{}", &KEY[..14], &KEY[KEY.len() - 14..]);
        match asked.user() {
            "Write about topic 0." => {
                let mut body =
                    completion(&format!("Your key is {KEY}, in base64 {KEY_IN_BASE64}."));
                body["choices"][0]["message"]["reasoning_content"] =
                    json!(format!("the key: {KEY}"));
                body["system_fingerprint"] = json!(KEY);
                Answer::json(200, &body).header("x-request-key", KEY)
            }
            "Write about topic 1." if asked.nth < 4 => {
                Answer::error(500, KEY, &format!("with {KEY} and {masked}")).header("x-key", KEY)
            }
            "Write about topic 1." => Answer::error(
                400,
                "bad",
                &format!("Bearer {KEY} or {KEY_IN_BASE64}; {}", &KEY[8..24]),
            ),
            _ => Answer::error(
                401,
                "invalid_api_key",
                &format!("Incorrect API key provided: {masked} ({KEY})"),
            ),
        }
    })
}

/// Looks for the key in all that a command said and left, except the files that hold it by the user's will.
#[track_caller]
fn nowhere(folder: &Folder, ended: &Ended, known: &[&str]) {
    let mut texts = vec![
        (
            "standard output".to_owned(),
            ended.stdout.clone().into_bytes(),
        ),
        (
            "standard error".to_owned(),
            ended.stderr.clone().into_bytes(),
        ),
    ];
    for path in folder.all_files() {
        if !known.iter().any(|name| path == folder.path(name)) {
            texts.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    let logs = texts.iter().filter(|(name, _)| name.ends_with(".log"));
    assert!(logs.count() > 0, "the log is looked through too");
    for secret in [KEY, KEY_IN_BASE64] {
        for piece in secret.as_bytes().windows(PIECE) {
            for (place, text) in &texts {
                let found = text.windows(PIECE).position(|part| part == piece);
                assert!(
                    found.is_none(),
                    "{} is in {place}: {}",
                    String::from_utf8_lossy(piece),
                    String::from_utf8_lossy(text)
                );
            }
        }
    }
}

/// A run that meets every kind of answer and ends with a refusal, with the key given in some way.
#[track_caller]
fn told_nobody(
    given: impl FnOnce(Folder) -> Folder,
    arguments: [&str; 2],
    variable: [&str; 2],
    known: &[&str],
) {
    let server = gossiping();
    let folder = given(Folder::asking(&server)).edit(
        "config.yaml",
        "logging: {dir: null}",
        "logging: {level: trace}",
    );
    let run = || {
        folder
            .datagen(["run", "--json", "--concurrency", "1"])
            .args(arguments)
            .env(variable[0], variable[1])
    };
    let ended = run().exits(4);
    let first = &server.asked()[0];
    assert!(
        first.head.contains(KEY),
        "the endpoint gets it: {}",
        first.head
    );
    assert!(server.hits() > 3, "all answers were heard");
    nowhere(&folder, &ended, known);
    assert!(
        folder
            .read("output/demo/result.jsonl")
            .contains("Your key is [redacted]")
    );

    let check = folder
        .datagen(["check"])
        .args(arguments)
        .env(variable[0], variable[1])
        .exits(0);
    nowhere(&folder, &check, known);
    // A refusal after the folder is open, which shows what has changed.
    let changed = run().args(["--set", "model.temperature=0.1"]).exits(2);
    nowhere(&folder, &changed, known);
}

const NO_ARGUMENTS: [&str; 2] = ["--set", "run.extract_retries=0"];
const NO_VARIABLE: [&str; 2] = ["UNUSED", ""];

#[test]
fn a_key_in_the_configuration() {
    let given = |folder: Folder| {
        folder.edit(
            "config.yaml",
            "api_key_env: null",
            &format!("api_key: {KEY}"),
        )
    };
    told_nobody(given, NO_ARGUMENTS, NO_VARIABLE, &["config.yaml"]);
}

#[test]
fn a_key_in_the_environment() {
    told_nobody(
        |folder| folder,
        NO_ARGUMENTS,
        ["DATAGEN_MODEL__API_KEY", KEY],
        &[],
    );
}

#[test]
fn a_key_on_the_command_line() {
    told_nobody(
        |folder| folder,
        ["--set", &format!("model.api_key={KEY}")],
        NO_VARIABLE,
        &[],
    );
    told_nobody(
        |folder| folder,
        ["--set", &format!("model={{api_key: \"{KEY}\"}}")],
        NO_VARIABLE,
        &[],
    );
}

#[test]
fn a_key_in_a_variable_that_the_user_names() {
    let given =
        |folder: Folder| folder.edit("config.yaml", "api_key_env: null", "api_key_env: MY_KEY");
    told_nobody(given, NO_ARGUMENTS, ["MY_KEY", KEY], &[]);
}

#[test]
fn a_key_in_a_header() {
    let given = |folder: Folder| {
        folder.edit(
            "config.yaml",
            "  model: tiny",
            &format!("  model: tiny\n  headers: {{api-key: {KEY}}}"),
        )
    };
    told_nobody(given, NO_ARGUMENTS, NO_VARIABLE, &["config.yaml"]);
    told_nobody(
        |folder| folder,
        NO_ARGUMENTS,
        ["DATAGEN_MODEL__HEADERS__API_KEY", KEY],
        &[],
    );
}

#[test]
fn a_key_that_is_written_in_the_wrong_place_is_not_repeated() {
    let server = Server::echoing();
    for (arguments, variable) in [
        (["--set", "model.api_kye=SECRET"], NO_VARIABLE),
        (["--set", "api_key=SECRET"], NO_VARIABLE),
        (["--set", "SECRET"], NO_VARIABLE),
        (["--set", "model.headers=SECRET"], NO_VARIABLE),
        (
            ["--set", "model.base_url=https://SECRET@llm.example/v1"],
            NO_VARIABLE,
        ),
        (
            ["--set", "model.base_url=https://me:SECRET@llm.example/v1"],
            NO_VARIABLE,
        ),
        (
            ["--set", "model.base_url=https://llm.example/v1?key=SECRET"],
            NO_VARIABLE,
        ),
        (["--set", "model.base_url=SECRET"], NO_VARIABLE),
        (NO_ARGUMENTS, ["DATAGEN_MODEL__API_KYE", "SECRET"]),
        (NO_ARGUMENTS, ["DATAGEN_API_KEY", "SECRET"]),
        (NO_ARGUMENTS, ["DATAGEN_MODEL__HEADERS", "SECRET"]),
        (
            NO_ARGUMENTS,
            ["DATAGEN_MODEL__BASE_URL", "https://SECRET@llm.example/v1"],
        ),
    ] {
        let folder = Folder::asking(&server).edit(
            "config.yaml",
            "logging: {dir: null}",
            "logging: {level: trace}",
        );
        // So that there is a log to look through in every case.
        folder.datagen(["run", "--limit", "1"]).exits(0);
        let arguments = arguments.map(|argument| argument.replace("SECRET", KEY));
        let asked = ["--set", "model.api_key_env=NOT_SET"];
        let offline = ["--set", "model.provider=offline"];
        for command in [&["run"][..], &["check"], &["preview"]] {
            for further in [&[][..], &asked, &offline] {
                let mut run = folder.datagen([]);
                for argument in command.iter().chain(further) {
                    run = run.args([*argument]);
                }
                let ended = run
                    .args([arguments[0].as_str(), arguments[1].as_str()])
                    .env(variable[0], &variable[1].replace("SECRET", KEY))
                    .end();
                nowhere(&folder, &ended, &[]);
            }
        }
    }
}

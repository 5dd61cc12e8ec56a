//! A key is nowhere but where the user wrote it and in the requests it is for.

use serde_json::json;

use crate::detector::{self, KEY, base64, hex, percent};
use crate::harness::{Ended, Folder, rows};
use crate::server::{Answer, Server, completion};

/// The key in the ways in which endpoints, proxies and logs write it.
fn spellings() -> Vec<String> {
    let mut ways = vec![
        KEY.to_owned(),
        hex(KEY),
        hex(KEY).to_uppercase(),
        percent(KEY, false),
        percent(KEY, true),
    ];
    for before in ["", "u:", "key=", "Bearer "] {
        let digits = base64(format!("{before}{KEY}").as_bytes());
        ways.push(digits.replace('+', "-").replace('/', "_"));
        ways.push(digits);
    }
    ways
}

/// Parts of the key that are long enough to be one.
fn pieces() -> Vec<String> {
    let masked = format!("{}****{}", &KEY[..14], &KEY[KEY.len() - 14..]);
    let digits = base64(format!("user:{KEY}").as_bytes());
    vec![
        masked,
        KEY[8..24].to_owned(),
        KEY[20..28].to_owned(),
        hex(&KEY[3..15]),
        digits[12..32].to_owned(),
    ]
}

/// Says the key back in every way that was ever seen; the answer to the last row ends the run.
fn gossiping(end: fn() -> Answer) -> Server {
    Server::start(move |asked| {
        let all = spellings().join(" and ");
        let parts = pieces().join(", ");
        match asked.user() {
            "Write about topic 0." => {
                let mut body = completion(&format!("Your key is {KEY}, or {all}."));
                body["choices"][0]["message"]["reasoning_content"] =
                    json!(format!("the key: {all}"));
                body["system_fingerprint"] = json!(KEY);
                Answer::json(200, &body).header("x-request-key", KEY)
            }
            "Write about topic 1." if asked.nth < 4 => {
                Answer::error(500, KEY, &format!("with {all} and {parts}")).header("x-key", KEY)
            }
            "Write about topic 1." => {
                Answer::error(400, "bad", &format!("Bearer {KEY} or {all}; {parts}"))
            }
            // Paid for, and an error all the same.
            "Write about topic 2." => {
                Answer::error(200, &spellings()[6], &format!("no: {all} {parts}"))
            }
            "Write about topic 3." => Answer::page(502, &format!("<html>{all} {parts}</html>")),
            "Write about topic 4." => Answer::page(418, &format!("{parts}\n{all}")),
            // The others are heard out first: rows that wait for their next try make room.
            _ if asked.nth < 10 => Answer::error(500, KEY, &parts),
            _ => end(),
        }
    })
}

fn refused() -> Answer {
    let said = pieces().join(" or ");
    Answer::error(
        401,
        "invalid_api_key",
        &format!("Incorrect API key provided: {said} ({KEY})"),
    )
}

/// To an address that has the key in it.
fn redirected() -> Answer {
    let address = format!(
        "http://127.0.0.1:1/{}/{}?key={}#{}",
        percent(KEY, false),
        KEY,
        percent(KEY, true),
        hex(KEY)
    );
    Answer::page(302, &format!("<a href='{address}'>here</a>")).header("location", &address)
}

/// A limit of the day, in the words of somebody who shows what he was given.
fn later() -> Answer {
    let said = format!(
        "daily limit of {} ({})",
        pieces().join(" "),
        spellings().join(" ")
    );
    Answer::error(429, "rate_limit_exceeded", &said).header("retry-after", KEY)
}

/// Looks for the key in all that a command said and left, except the files that hold it by the user's will.
#[track_caller]
fn nowhere(folder: &Folder, ended: &Ended, known: &[&str]) {
    let (found, logs) = found(folder, ended, known);
    assert!(logs > 0, "the log is looked through too");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What of the key stands where, and how many log files were looked through.
fn found(folder: &Folder, ended: &Ended, known: &[&str]) -> (Vec<String>, usize) {
    let said = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    let mut texts = vec![
        said("standard output", &ended.stdout),
        said("standard error", &ended.stderr),
    ];
    for path in folder.all_files() {
        // The name of a file is as public as what is in it.
        let name = path.display().to_string();
        texts.push((format!("the name {name}"), name.clone().into_bytes()));
        if !known.iter().any(|known| path == folder.path(known)) {
            texts.push((name, std::fs::read(&path).unwrap()));
        }
    }
    let logs = texts.iter().filter(|(name, _)| name.ends_with(".log"));
    let logs = logs.filter(|(_, text)| !text.is_empty()).count();
    let found = texts
        .iter()
        .filter_map(|(place, text)| Some(format!("{place}: {}", detector::found(text)?)));
    (found.collect(), logs / 2)
}

/// A run that meets every kind of answer and ends with the last of them, with the key given in some way.
#[track_caller]
fn told_nobody(
    given: impl FnOnce(Folder) -> Folder,
    arguments: [&str; 2],
    variable: [&str; 2],
    known: &[&str],
    (end, exit): (fn() -> Answer, i32),
) {
    let server = gossiping(end);
    let folder = given(Folder::asking(&server).file("rows.jsonl", rows(6))).edit(
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
    let ended = run().exits(exit);
    let first = &server.asked()[0];
    assert!(
        first.head.contains(KEY),
        "the endpoint gets it: {}",
        first.head
    );
    assert!(server.hits() > 8, "all answers were heard");
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
    // What was kept is judged again.
    std::fs::remove_file(folder.path("output/demo/result.jsonl")).unwrap();
    let again = run().args(["--limit", "1"]).exits(0);
    nowhere(&folder, &again, known);
}

const REFUSED: (fn() -> Answer, i32) = (refused, 4);
const REDIRECTED: (fn() -> Answer, i32) = (redirected, 4);
const LATER: (fn() -> Answer, i32) = (later, 75);

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
    told_nobody(given, NO_ARGUMENTS, NO_VARIABLE, &["config.yaml"], REFUSED);
}

#[test]
fn a_key_in_the_environment() {
    told_nobody(
        |folder| folder,
        NO_ARGUMENTS,
        ["DATAGEN_MODEL__API_KEY", KEY],
        &[],
        REFUSED,
    );
}

#[test]
fn a_key_on_the_command_line() {
    told_nobody(
        |folder| folder,
        ["--set", &format!("model.api_key={KEY}")],
        NO_VARIABLE,
        &[],
        REDIRECTED,
    );
    told_nobody(
        |folder| folder,
        ["--set", &format!("model={{api_key: \"{KEY}\"}}")],
        NO_VARIABLE,
        &[],
        LATER,
    );
}

#[test]
fn a_key_in_a_variable_that_the_user_names() {
    let given =
        |folder: Folder| folder.edit("config.yaml", "api_key_env: null", "api_key_env: MY_KEY");
    told_nobody(given, NO_ARGUMENTS, ["MY_KEY", KEY], &[], LATER);
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
    told_nobody(given, NO_ARGUMENTS, NO_VARIABLE, &["config.yaml"], REFUSED);
    told_nobody(
        |folder| folder,
        NO_ARGUMENTS,
        ["DATAGEN_MODEL__HEADERS__API_KEY", KEY],
        &[],
        REFUSED,
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

/// Whoever writes the key into the data finds it in the dataset: it is looked for in the right places.
#[test]
fn a_planted_key_is_found_in_every_file_that_holds_it() {
    let server = Server::echoing();
    for planted in [
        KEY.to_owned(),
        hex(KEY),
        base64(format!("u:{KEY}").as_bytes()),
        KEY[4..14].to_owned(),
    ] {
        let row = json!({"topic": format!("what {planted} means")});
        let folder = Folder::asking(&server)
            .with_a_planted_key()
            .edit(
                "config.yaml",
                "logging: {dir: null}",
                "logging: {level: trace}",
            )
            .file("rows.jsonl", format!("{row}\n"));
        let ended = folder.datagen(["run"]).exits(0);
        let (found, logs) = found(&folder, &ended, &["rows.jsonl"]);
        assert_eq!(logs, 1);
        for file in ["result.jsonl", "journal.jsonl", ".log"] {
            let is_there = found.iter().any(|found| {
                found
                    .split(": ")
                    .next()
                    .is_some_and(|place| place.ends_with(file))
            });
            assert!(is_there, "{planted} is not found in {file}: {found:?}");
        }
        let preview = folder.datagen(["preview"]).exits(0);
        let (found, _) = crate::secrets::found(&folder, &preview, &["rows.jsonl"]);
        assert!(
            found
                .iter()
                .any(|found| found.starts_with("standard output: ")),
            "{found:?}"
        );
    }
}

/// An error that was paid for: what it says of the key is in no file and no message, while an answer beside such an
/// error stays as it came.
#[test]
fn what_an_error_of_status_200_says_of_the_key_is_kept_nowhere() {
    let masked = format!("{}...{}", &KEY[..3], &KEY[KEY.len() - 4..]);
    let escaped: String = KEY.bytes().map(|b| format!("\\u{b:04x}")).collect();
    let said = [
        KEY.to_owned(),
        masked.clone(),
        pieces().join(", "),
        format!("{} and then {}", &KEY[..16], &KEY[16..]),
        escaped,
    ];
    let (rows_of_them, wanted) = (said.len() + 3, format!("part: {}", &KEY[..12]));
    let good = wanted.clone();
    let server = Server::start(move |asked| {
        let topic: String = asked.user().chars().filter(char::is_ascii_digit).collect();
        match said.get(topic.parse::<usize>().unwrap()) {
            Some(said) => {
                let error = r#"{"error": {"message": "Odd key SAID", "code": 400}}"#;
                Answer::page(200, &error.replace("SAID", said))
            }
            // The last of them ends the run.
            None if topic.ends_with('7') => {
                let masked = format!("Incorrect API key provided: {masked}. See docs.");
                Answer::error(200, "odd", &masked)
            }
            None => {
                let mut body = completion(&good);
                body["error"] = json!({"message": format!("but {}: {masked}", said.join(" "))});
                Answer::json(200, &body)
            }
        }
    });
    let folder = Folder::asking(&server)
        .with_a_planted_key()
        .file("rows.jsonl", rows(rows_of_them))
        .edit(
            "config.yaml",
            "logging: {dir: null}",
            "logging: {level: trace}",
        );
    let ended = folder
        .datagen(["run", "--json", "--concurrency", "1"])
        .args(["--set", "run.stop_on_failures=null"])
        .env("DATAGEN_MODEL__API_KEY", KEY)
        .exits(4);
    assert_eq!(ended.summary()["ok"], 2, "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .contains("Incorrect API key provided: [redacted] See docs;"),
        "{}",
        ended.stderr
    );
    let result = folder.read("output/demo/result.jsonl");
    assert_eq!(result.matches(&wanted).count(), 2, "{result}");
    for path in folder.all_files() {
        // The answers themselves are left out; whatever else there is must be clean.
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).replace(&wanted, "");
        let found = detector::found(text.as_bytes());
        assert_eq!(found, None, "{}", path.display());
        assert!(!text.contains("nPj3"), "{}: {text}", path.display());
        assert!(!text.contains("\\u0073\\u006b"), "{}", path.display());
    }
    let shown = ended.stderr.clone() + &ended.stdout;
    assert_eq!(detector::found(shown.as_bytes()), None);
    assert!(!shown.contains("nPj3"), "{shown}");
    let failures = folder.read("output/demo/failures.jsonl");
    assert_eq!(
        failures.matches("Odd key [redacted]").count(),
        5,
        "{failures}"
    );
}

/// What the model writes is the user's; only the whole key is taken out of it, before it is kept.
#[test]
fn a_part_of_the_key_in_the_text_of_an_answer_is_left_as_it_is() {
    let said = format!("Yours begins with {}.", &KEY[..12]);
    let whole = format!("{said} Or {KEY}.");
    let server = Server::start(move |_| Answer::good(&whole));
    let folder = Folder::asking(&server).with_a_planted_key();
    let limited = ["run", "--limit", "1", "--set"];
    let key = format!("model.api_key={KEY}");
    folder.datagen(limited).args([key.as_str()]).exits(0);
    for file in ["result.jsonl", "journal.jsonl"] {
        let text = folder.read(&format!("output/demo/{file}"));
        assert!(text.contains(&format!("{said} Or [redacted].")), "{text}");
    }
}

/// An answer in the events of a stream, and one in the parts of a list, that join to the whole key; and one that has to
/// be mended, beside an error that shows the ends of the key.
fn in_pieces(topic: char) -> String {
    let pieces = [&KEY[..5], &KEY[5..14], &KEY[14..]];
    let event = |text: &str, reason: &str| {
        let choice = json!({"delta": {"content": text}, "finish_reason": reason});
        format!("data: {}\n\n", json!({"choices": [choice]}))
    };
    match topic {
        '0' => {
            let deltas: String = pieces.iter().map(|piece| event(piece, "")).collect();
            event("it is ", "") + &deltas + &event(", so", "stop") + "data: [DONE]\n\n"
        }
        '1' => {
            let mut body = completion("");
            let part = |text: &str| json!({"type": "text", "text": text});
            let texts = ["it is "].into_iter().chain(pieces).chain([", so"]);
            body["choices"][0]["message"]["content"] = texts.map(part).collect();
            body.to_string()
        }
        _ => {
            let mut body = completion("it LINE is");
            let masked = format!("{}********{}", &KEY[..6], &KEY[KEY.len() - 4..]);
            body["error"] = json!(format!("bad key {masked}"));
            body.to_string().replace("LINE", "\n")
        }
    }
}

#[test]
fn a_key_that_comes_in_pieces_is_joined_in_no_file() {
    let server = Server::start(|asked| {
        let topic = asked.user().chars().find(char::is_ascii_digit);
        Answer::page(200, &in_pieces(topic.unwrap()))
    });
    let folder = Folder::asking(&server)
        .with_a_planted_key()
        .file("rows.jsonl", rows(3))
        .edit(
            "config.yaml",
            "logging: {dir: null}",
            "logging: {level: trace}",
        );
    let key = |key: &str| format!("model.api_key={key}");
    let run = |given: &str| folder.datagen(["run", "--set", given]).exits(0);
    let ended = run(&key(KEY));
    nowhere(&folder, &ended, &[]);
    for path in folder.all_files() {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains("nPj3"), "{}: {text}", path.display());
    }
    let said = || -> Vec<(String, String)> {
        let lines = folder.lines("output/demo/result.jsonl").into_iter();
        let said = |line: serde_json::Value| {
            let warnings = line["warnings"].to_string();
            (line["response"].as_str().unwrap().to_owned(), warnings)
        };
        let mut said: Vec<_> = lines.map(said).collect();
        said.sort();
        said
    };
    let clean = said();
    let redacted = "it is [redacted], so".to_owned();
    assert_eq!(clean[0].0, "it \n is");
    assert_eq!(clean[1], (redacted, "[\"key_redacted\"]".to_owned()));
    assert_eq!(clean[2], clean[1]);
    // What an earlier version kept as it came, here because it knew another key, is looked at when it is read.
    std::fs::remove_dir_all(folder.path("output/demo")).unwrap();
    run(&key("sk-another-key-0123456789"));
    assert!(said().iter().any(|(response, _)| response.contains(KEY)));
    std::fs::remove_file(folder.path("output/demo/result.jsonl")).unwrap();
    run(&key(KEY));
    assert_eq!((said(), server.hits()), (clean, 6));
}

#[test]
fn a_word_in_the_place_of_a_key_stays_in_the_answers() {
    for word in ["lm-studio", "not-needed", "sk-no-key-required"] {
        let text = format!("Install {word}, then start it.");
        let said = text.clone();
        let server = Server::start(move |asked| match asked.nth {
            0 => Answer::error(500, "odd", &format!("no such key: {word}")),
            _ => Answer::good(&said),
        });
        let folder = Folder::asking(&server);
        let given = format!("model.api_key={word}");
        let ended = folder
            .datagen(["run", "--limit", "1", "--json", "--set"])
            .args([given.as_str()])
            .exits(0);
        assert_eq!(server.hits(), 2);
        assert!(!ended.stderr.contains(word), "{}", ended.stderr);
        let line = &folder.lines("output/demo/result.jsonl")[0];
        assert_eq!(line["response"], text);
        assert_eq!(line.get("warnings"), None);
        assert!(folder.read("output/demo/journal.jsonl").contains(&text));
    }
}

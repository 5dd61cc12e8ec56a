//! Whatever stands in a file, a variable or an assignment: it is read or refused, with its place, and a
//! secret is in no message.

use data_generation_config::{Error, Loaded, Origin};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::cases::cases;
use crate::settings::{Settings, layers};

const SECRET: &str = "sk-fuzz-9f8e7d6c5b4aZYXW";
/// A part of a secret that is this long is no accident.
const PIECE: usize = 8;

/// What YAML is made of, and what breaks it.
const PIECES: [&str; 52] = [
    "model:",
    "run:",
    "output:",
    "  name: x",
    "  temperature: hot",
    "  temperature: 0.5",
    "  max_tokens: 1e3",
    "  stop: [a, 1]",
    "  extra: {a: [1, {b: 2}]}",
    "  headers: {X-A: b}",
    "  provider: offlin",
    "  share: 2",
    "  concurency: 1",
    "\n",
    "\r\n",
    " ",
    "\t",
    "- ",
    ": ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "#",
    "&a ",
    "*a",
    "<<: *a",
    "!!str ",
    "!x ",
    "%YAML 1.2",
    "---",
    "...",
    "\"",
    "'",
    "\\",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "\u{1b}[31m",
    "\0",
    "人",
    "null",
    "~",
    ".nan",
    "0x1F",
    "1e999",
    "18446744073709551616",
    "a: {a: {a: {a: {a: ",
    "x-anchors: &b [1]",
    "model: {api_key: ",
];

fn pieces() -> impl Strategy<Value = String> {
    vec(select(PIECES.to_vec()), 0..14).prop_map(|pieces| pieces.concat())
}

fn lines() -> impl Strategy<Value = String> {
    vec(select(PIECES.to_vec()), 0..10).prop_map(|pieces| pieces.join("\n"))
}

/// What holds for every refusal.
fn is_told(error: &Error) -> Result<(), TestCaseError> {
    prop_assert!(!error.faults().is_empty());
    for fault in error.faults() {
        let place = match fault.origin() {
            Origin::File { line, .. } | Origin::Text { line, .. } => {
                // Of a text that is no map at all, all of it is wrong.
                let whole = ["expected keys with values", "more than one document"]
                    .iter()
                    .any(|said| fault.message().contains(said));
                line.is_some() || fault.key().is_some() || whole
            }
            Origin::Default => fault.key().is_some(),
            _ => true,
        };
        prop_assert!(place, "neither key nor line: {:?}", fault);
        let said = fault.to_string();
        prop_assert!(said.chars().count() < 700, "{}", said);
        prop_assert!(!said.contains(char::is_control), "{:?}", said);
    }
    Ok(())
}

/// No part of the secret is in what a person may see.
fn is_kept(outcome: &Result<Loaded<Settings>, Error>) -> Result<(), TestCaseError> {
    let shown = match outcome {
        Ok(loaded) => {
            let origins: Vec<_> = loaded.origins.iter().map(|(key, ..)| key).collect();
            format!(
                "{:?} {origins:?} {:?} {:?}",
                loaded.value, loaded.secrets, loaded.warnings
            )
        }
        Err(error) => format!("{error} {error:?}"),
    };
    for piece in SECRET.as_bytes().windows(PIECE) {
        let piece = std::str::from_utf8(piece).unwrap();
        prop_assert!(!shown.contains(piece), "{} is in {}", piece, shown);
    }
    Ok(())
}

fn value() -> impl Strategy<Value = Value> {
    let text = "\\PC{0,12}|[a-z:#{}\\[\\], &*!|>'\"%@`~.0-9-]{0,12}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("[a-z]{1,6}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn any_text_is_a_configuration_or_is_refused_with_its_place(text in prop_oneof![pieces(), lines(), any::<String>()]) {
        if let Err(error) = layers().text("c.yaml", text).load::<Settings>() {
            is_told(&error)?;
        }
    }

    #[test]
    fn any_bytes_of_a_file_are_a_configuration_or_are_refused(bytes in prop_oneof![vec(any::<u8>(), 0..80), pieces().prop_map(String::into_bytes)]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        std::fs::write(&path, bytes).unwrap();
        if let Err(error) = layers().file(&path).load::<Settings>() {
            prop_assert!(error.faults().iter().all(|fault| !fault.to_string().contains(char::is_control)), "{}", error);
        }
    }

    #[test]
    fn a_secret_is_in_no_message_whatever_stands_around_it(
        before in lines(), after in lines(),
        line in select(vec!["  api_key: SECRET", "  api_key: SECRET\n  temperature: SECRET", "  headers: {X-Key: SECRET}", "  headers:\n    X-Key: \"SECRET\"", "  api_key: 'SECRET'", "  api_key: [SECRET]", "  api_key: {SECRET: 1}"]),
    ) {
        // Quotes that are open swallow what follows: then it is no key any more.
        let before = before.replace(['"', '\'', '\\'], "");
        let text = format!("{before}\nmodel:\n{}\n{after}", line.replace("SECRET", SECRET));
        let outcome = layers().text("c.yaml", text).load::<Settings>();
        is_kept(&outcome)?;
    }

    #[test]
    fn a_secret_in_a_variable_or_an_assignment_is_in_no_message(
        around in ("\\PC{0,6}|[\\[{\"' =:]{0,3}", "\\PC{0,6}|[\\]}\"' =:,]{0,3}"), other in pieces(), name in select(vec!["API_KEY", "api_key", "HEADERS__X_KEY", "HEADERS__x"]),
        key in select(vec!["model.api_key", "model.headers.X-Key"]),
    ) {
        let value = format!("{}{SECRET}{}", around.0, around.1);
        let variables = [(format!("X_MODEL__{name}"), value.clone())];
        is_kept(&layers().text("c.yaml", other.clone()).env("X_", variables).load())?;
        is_kept(&layers().text("c.yaml", other).set(&format!("{key}={value}")).load())?;
    }

    #[test]
    fn any_variable_and_any_assignment_is_taken_or_refused(
        name in "[A-Za-z_]{0,12}|(MODEL|RUN|OUTPUT|MODEL__EXTRA)__[A-Z_a-z0-9人.]{0,12}", value in prop_oneof![any::<String>(), pieces()],
        assignment in prop_oneof![any::<String>(), "(model|run|output|model\\.extra)\\.[a-z_.\\[]{0,12}=.{0,12}"],
    ) {
        let variables = [(format!("X_{name}"), value)];
        for outcome in [layers().env("X_", variables).load::<Settings>(), layers().set(&assignment).load::<Settings>()] {
            match outcome {
                Ok(loaded) => {
                    for warning in &loaded.warnings {
                        prop_assert!(!warning.contains(char::is_control), "{:?}", warning);
                    }
                }
                Err(error) => is_told(&error)?,
            }
        }
    }

    #[test]
    fn a_string_is_taken_as_it_stands(text in "\\PC{0,20}|[a-z:#{}\\[\\], &*!|>%@`~.0-9=-]{0,12}") {
        prop_assume!(!text.trim_start().starts_with(['"', '\'']));
        let variables = [("X_RUN__EXTRACT".to_owned(), text.clone())];
        let loaded = layers().env("X_", variables).load::<Settings>();
        prop_assert_eq!(loaded.map(|loaded| loaded.value.run.extract), Ok(text.clone()));
        // On a command line the words that YAML has for nothing unset a key.
        prop_assume!(!matches!(text.trim(), "~" | "null" | "Null" | "NULL"));
        let loaded = layers().set(&format!("run.extract={text}")).load::<Settings>();
        prop_assert_eq!(loaded.map(|loaded| loaded.value.run.extract), Ok(text.trim().to_owned()));
    }

    #[test]
    fn a_string_in_quotes_is_what_stands_between_them(text in any::<String>()) {
        let variables = [("X_RUN__EXTRACT".to_owned(), json!(text).to_string())];
        // YAML, which helps out here, has no raw control characters beyond the first 32.
        prop_assume!(!text.contains(['\u{7f}', '\u{fffe}', '\u{ffff}', '\u{feff}']) && !text.contains(|c| c != '\u{85}' && ('\u{80}'..'\u{a0}').contains(&c)));
        let loaded = layers().env("X_", variables).load::<Settings>();
        prop_assert_eq!(loaded.map(|loaded| loaded.value.run.extract), Ok(text));
    }

    #[test]
    fn a_secret_is_taken_as_it_stands(key in "[!-~]{6,40}", header in "[!-~]{6,40}") {
        let yaml = json!({"model": {"api_key": key, "headers": {"X": header}}}).to_string();
        let loaded = layers().text("c.yaml", yaml).load::<Settings>().unwrap();
        prop_assert_eq!(loaded.secrets.get("model.api_key").map(|key| key.expose_secret().to_owned()), Some(key));
        prop_assert_eq!(loaded.secrets.get("model.headers.X").map(|key| key.expose_secret().to_owned()), Some(header));
        prop_assert_eq!(loaded.value.model.api_key, None);
    }

    #[test]
    fn what_was_written_is_what_is_read(name in "\\PC{0,20}", stop in vec("\\PC{0,8}", 0..4), extra in btree_map("[a-z]{1,6}", value(), 0..5), share in 0.0..=1.0, tokens in any::<Option<u64>>()) {
        let written = json!({
            "model": {"name": name, "stop": stop, "extra": extra, "max_tokens": tokens},
            "run": {"share": share},
        });
        for text in [written.to_string(), serde_json::to_string_pretty(&written).unwrap()] {
            let loaded = match layers().text("c.yaml", &text).load::<Settings>() {
                Ok(loaded) => loaded,
                Err(error) => return Err(TestCaseError::fail(format!("{text}\n{error}"))),
            };
            let model = loaded.value.model;
            prop_assert_eq!((&model.name, &model.stop, model.max_tokens), (&name, &stop, tokens));
            prop_assert_eq!(Value::Object(model.extra), written["model"]["extra"].clone());
            prop_assert_eq!(loaded.value.run.share.0, share);
        }
    }

    #[test]
    fn a_fault_is_told_with_its_line(lines in vec(select(vec!["model: {name: x}", "run: {share: 0.5}", "# nothing", "", "x-more: {a: 1}"]), 0..6), at in any::<Index>(), wrong in select(vec!["modl: 1", "output: 1", "output: {dri: x}", "output: {need_time_stamp: maybe}"])) {
        // Each of them once, for a doubled key is another fault.
        let mut lines: Vec<&str> = lines.into_iter().fold(Vec::new(), |mut all, line| {
            if line.is_empty() || line.starts_with('#') || !all.contains(&line) { all.push(line) }
            all
        });
        let at = at.index(lines.len() + 1);
        lines.insert(at, wrong);
        let error = layers().text("c.yaml", lines.join("\n")).load::<Settings>().unwrap_err();
        prop_assert_eq!((error.faults().len(), error.faults()[0].line()), (1, Some(at + 1)), "{}", error);
    }
}

/// Deeper than a stack is, and longer than anybody waits who looks twice at everything.
#[test]
fn hostile_texts_of_any_length_come_to_their_end() {
    let count = 30_000;
    for part in [
        "[",
        "{",
        "{a: ",
        "- ",
        "{a=",
        "[{\"a\"=",
        "\"",
        "\\",
        "&a ",
        "*a ",
        "a: &a [*a]\n",
        "? ",
        "!",
        "人\\",
        "a__",
        "\n ",
    ] {
        let text = part.repeat(count);
        for outcome in [
            layers().text("c.yaml", &text).load::<Settings>(),
            layers()
                .env("X_", [("X_MODEL__EXTRA__A".to_owned(), text.clone())])
                .load(),
            layers()
                .env(
                    "X_",
                    [(
                        format!("X_MODEL__{}", &text[..part.len() * 10]),
                        "1".to_owned(),
                    )],
                )
                .load(),
            layers().set(&format!("model.extra.a={text}")).load(),
            // The nearest name is looked for with more patience than a name deserves.
            layers().set(&text[..part.len() * 100]).load(),
        ] {
            if let Err(error) = outcome {
                for line in error.to_string().lines() {
                    assert!(line.chars().count() < 700, "{part:?}: {line:.200}");
                }
            }
        }
    }
}

//! Secrets are taken out, and never come out.

use data_generation_config::{FaultKind, Layers};
use insta::assert_snapshot;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::settings::{Settings, fault, layers, vars, yaml};

const MARKER: &str = "sk-MARKER-5eb1";

/// The marker planted by each way in.
fn planted() -> Vec<(&'static str, Layers)> {
    let yaml = format!(
        "model:\n  api_key: {MARKER}\n  headers: {{Authorization: {MARKER}, X: [{MARKER}]}}\n"
    );
    vec![
        ("text", layers().text("c.yaml", yaml)),
        (
            "env",
            layers().env(
                "X_",
                vars([
                    ("X_MODEL__API_KEY", MARKER),
                    ("X_MODEL__HEADERS__A", MARKER),
                ]),
            ),
        ),
        ("set", layers().set(&format!("model.api_key={MARKER}"))),
        (
            "set map",
            layers().set(&format!("model={{api_key: {MARKER}}}")),
        ),
        (
            "set list",
            layers().set(&format!("model.api_key=[{MARKER}]")),
        ),
        ("no equals", layers().set(MARKER)),
        ("option", layers().option("model.api_key", "--key", MARKER)),
        ("code", layers().code("model.headers", json!({"A": MARKER}))),
        (
            "group",
            layers().code_group("model", json!({"api_key": MARKER})),
        ),
        ("map", layers().code("model.api_key", json!({"a": MARKER}))),
        ("list", layers().code("model.api_key", [MARKER])),
        (
            "section",
            layers().text("c.yaml", format!("model: api_key:{MARKER}")),
        ),
        (
            "headers",
            layers().text("c.yaml", format!("model: {{headers: \"A: {MARKER}\"}}")),
        ),
        (
            "syntax",
            layers().text("c.yaml", format!("model:\n  api_key: {MARKER}: [\n")),
        ),
        (
            "tag",
            layers().text("c.yaml", format!("model: {{api_key: !!int {MARKER}}}")),
        ),
        (
            "unknown",
            layers().text("c.yaml", format!("model: {{apikey: {MARKER}}}")),
        ),
        (
            "alias",
            layers().text(
                "c.yaml",
                format!("model: {{api_key: &k {MARKER}, max_tokens: *k}}"),
            ),
        ),
        (
            "doubled",
            layers().text(
                "c.yaml",
                format!("model: {{api_key: {MARKER}, api_key: {MARKER}}}"),
            ),
        ),
        ("warning", layers().env("X_", vars([("X_API_KEY", MARKER)]))),
    ]
}

#[test]
fn no_text_of_any_kind_holds_a_secret() {
    for (way, layers) in planted() {
        assert!(!format!("{layers:?}").contains(MARKER), "{way}");
        if let Ok(loaded) = layers.load::<Settings>() {
            assert!(!format!("{loaded:?}").contains(MARKER), "{way}");
            for (key, value, origin) in loaded.origins.iter() {
                assert!(!format!("{key} {value} {origin}").contains(MARKER), "{way}");
            }
        }
    }
    // With faults beside it, so that every text of an error is made.
    for (way, layers) in planted() {
        let beside = "model: {temperature: hot, nmae: x}\nrun: {share: 2}";
        let error = layers
            .text("d.yaml", beside)
            .load::<Settings>()
            .unwrap_err();
        assert!(error.faults().len() >= 3, "{way}: {error}");
        assert!(
            !format!("{error:?} {error} {error:#?}").contains(MARKER),
            "{way}: {error}"
        );
    }
}

#[test]
fn the_highest_layer_that_names_a_secret_gives_it() {
    let loaded = layers()
        .text("c.yaml", "model: {api_key: low, headers: {X-A: a, X-B: b}}")
        .env(
            "X_",
            vars([
                ("X_MODEL__API_KEY", " high "),
                ("X_MODEL__HEADERS__X-A", "c"),
            ]),
        )
        .set("model.headers.new=1.50")
        .load::<Settings>()
        .unwrap();
    let secrets = &loaded.secrets;
    assert_eq!(
        secrets.get("model.api_key").unwrap().expose_secret(),
        " high "
    );
    let origin = secrets.origin("model.api_key").unwrap().to_string();
    assert_eq!(origin, "environment variable X_MODEL__API_KEY");
    let headers: Vec<(String, String)> = secrets
        .under("model.headers")
        .into_iter()
        .map(|(name, value)| (name, value.expose_secret().to_owned()))
        .collect();
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    assert_eq!(headers, [("X-A", "c"), ("X-B", "b"), ("new", "1.50")]);
    assert_eq!(loaded.value.model.api_key, None);
    assert!(loaded.value.model.headers.is_empty());
}

#[test]
fn null_takes_a_secret_away() {
    let loaded = layers()
        .text("a.yaml", "model: {api_key: low, headers: {X: a}}")
        .text("b.yaml", "model: {api_key: null, headers: {X: ~}}")
        .load::<Settings>()
        .unwrap();
    assert!(loaded.secrets.get("model.api_key").is_none());
    assert!(loaded.secrets.under("model.headers").is_empty());
    let origin = loaded.secrets.origin("model.api_key").unwrap();
    assert_eq!(origin.to_string(), "b.yaml:1");
    assert_eq!(loaded.origins.of("model.api_key").to_string(), "b.yaml:1");
    assert!(
        yaml("model: {name: x}")
            .secrets
            .origin("model.api_key")
            .is_none()
    );
}

#[test]
fn a_number_is_a_secret_as_it_is_written_or_none() {
    for (text, secret) in [
        ("123456", "123456"),
        ("true", "true"),
        ("0123", "0123"),
        ("''", ""),
    ] {
        let loaded = yaml(&format!("model:\n  api_key: {text}\n"));
        let key = loaded.secrets.get("model.api_key").unwrap();
        assert_eq!(key.expose_secret(), secret);
    }
    // These are read as other digits than are written.
    for text in ["0x1F", "1e10", "1_0.50e1", "+5"] {
        let result = layers()
            .text("c.yaml", format!("model:\n  api_key: {text}\n"))
            .load::<Settings>();
        match result {
            Ok(loaded) => {
                let key = loaded.secrets.get("model.api_key").unwrap();
                assert!(text.ends_with(key.expose_secret()), "{text}");
            }
            Err(error) => assert!(error.has(FaultKind::BadValue), "{error}"),
        }
    }
}

#[test]
fn a_fault_on_a_secret_says_what_it_is_and_not_what_it_holds() {
    let text = "model:\n  api_key: {a: 1}\n  headers:\n    X: [1]\n    Y: 0x10\n";
    assert_snapshot!(fault(text), @r"
    c.yaml:2: `model.api_key`: found a map, expected a string
    c.yaml:4: `model.headers.X`: found a list, expected a string
    c.yaml:5: `model.headers.Y`: a number as a secret must stand in quotes
    ");
}

#[test]
fn a_secret_that_the_type_does_not_have_is_no_unknown_key() {
    let loaded = Layers::defaults(&json!({"a": 1}))
        .unwrap()
        .secret("token")
        .secret("more.*")
        .text("c.yaml", "token: abc\nmore: {x: y}\n")
        .load::<serde_json::Value>()
        .unwrap();
    assert_eq!(loaded.value["a"], 1);
    assert_eq!(loaded.secrets.under("more").len(), 1);
    assert!(loaded.secrets.get("token").is_some());
    let keys: Vec<&str> = loaded.origins.iter().map(|(key, ..)| key).collect();
    assert_eq!(keys, ["a", "token", "more.x"]);
}

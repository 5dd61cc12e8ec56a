use super::*;
use serde_json::json;

fn map(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else {
        panic!("an object")
    };
    map
}

#[test]
fn changes_are_named_by_their_key() {
    let manifest = Manifest::new(
        map(
            json!({"model": {"temperature": 0.7, "extra": {"top_p": 1}}, "prompts": {"user": "a\nb\nc"}}),
        ),
        BTreeMap::new(),
    );
    let now = map(
        json!({"model": {"temperature": 0.9, "extra": {"seed": 1}}, "prompts": {"user": "a\nB\nc"}}),
    );
    let shown: Vec<String> = manifest
        .changes(&now)
        .iter()
        .map(ToString::to_string)
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @"
    model.extra.seed: null -> 1
    model.extra.top_p: 1 -> null
    model.temperature: 0.7 -> 0.9
    prompts.user, from line 2:
        - b
        + B
    ");
    assert!(manifest.changes(&manifest.dataset.clone()).is_empty());
}

#[test]
fn a_command_on_rows_of_the_folder_says_nothing_of_the_run_as_a_whole() {
    let counts = |ok, failed| Counts {
        rows: ok + failed,
        ok,
        failed,
        ..Counts::default()
    };
    let took = |wall_ms| Times {
        wall_ms,
        ..Times::default()
    };
    let mut manifest = Manifest::new(Map::new(), BTreeMap::new());
    assert!(!manifest.is_finished());
    assert_eq!(manifest.times(), None);
    manifest.begin(InputFacts::default(), BTreeMap::new(), Value::Null);
    manifest.note(counts(3, 1), took(5));
    assert_eq!(manifest.counts, counts(3, 1));
    assert_eq!(manifest.commands[0].counts, counts(3, 1));
    // The first command was killed; what comes after it on rows of the folder changes nothing about that.
    manifest.begin_with_rows(BTreeMap::new(), Value::Null);
    manifest.note(counts(1, 0), took(2));
    assert_eq!(manifest.counts, counts(3, 1));
    manifest.end_with(counts(1, 0), None);
    assert!(!manifest.is_finished());
    manifest.begin(InputFacts::default(), BTreeMap::new(), Value::Null);
    manifest.end_with(counts(4, 0), None);
    assert!(manifest.is_finished());
    manifest.begin_with_rows(BTreeMap::new(), Value::Null);
    assert!(
        manifest.is_finished(),
        "its rows are all finished or failed"
    );
    assert_eq!(manifest.commands[3].wall(), None);
    let text = serde_json::to_string(&manifest).unwrap();
    assert_eq!(text.matches("of_rows").count(), 2);
    // The last two measured nothing.
    assert_eq!(manifest.times(), Some(took(7)));
    assert_eq!(text.matches("times").count(), 2);
    let read: Manifest = serde_json::from_str(&text).unwrap();
    assert_eq!(read.times(), manifest.times());
}

#[test]
fn a_setting_is_known_as_each_command_had_it() {
    let settings = |url: &str, share: bool| {
        let of = |value| Setting {
            value,
            origin: "default".to_owned(),
        };
        BTreeMap::from([
            ("limits.share".to_owned(), of(json!(share))),
            ("model.base_url".to_owned(), of(json!(url))),
            ("model.base_url_2".to_owned(), of(json!("other"))),
        ])
    };
    let mut manifest = Manifest::new(Map::new(), BTreeMap::new());
    let asked = [("http://a -> b", false), ("http://b", true), ("c", true)];
    for (url, share) in asked {
        manifest.begin(InputFacts::default(), settings(url, share), Value::Null);
    }
    manifest.begin_with_rows(settings("http://a -> b", false), Value::Null);
    let urls = manifest.setting_of_commands("model.base_url");
    assert_eq!(urls, ["http://a -> b", "http://b", "c", "http://a -> b"]);
    let shares = manifest.setting_of_commands("limits.share");
    assert_eq!(shares, [false, true, true, false]);
    let none = manifest.setting_of_commands("model");
    assert_eq!(none, [Value::Null, Value::Null, Value::Null, Value::Null]);
}

#[test]
fn a_manifest_of_a_later_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Manifest::read(dir.path()).unwrap().is_none());
    std::fs::write(
        dir.path().join("run.json"),
        r#"{"format": 2, "what": "else"}"#,
    )
    .unwrap();
    assert!(
        Manifest::read(dir.path())
            .unwrap_err()
            .to_string()
            .contains("has format 2")
    );
    std::fs::write(dir.path().join("run.json"), "{").unwrap();
    assert!(
        Manifest::read(dir.path())
            .unwrap_err()
            .to_string()
            .contains("run.json:1:")
    );
}

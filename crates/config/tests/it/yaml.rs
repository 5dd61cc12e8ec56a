//! YAML as people write it, and as nobody should.

use data_generation_config::FaultKind;
use insta::assert_snapshot;
use serde_json::json;

use crate::settings::{Settings, fault, layers, yaml};

#[test]
fn a_file_without_keys_sets_nothing() {
    for text in [
        "",
        "\n",
        "# only a comment\n",
        "---\n",
        "null",
        "{}",
        "\u{FEFF}",
        "--- # x\n...",
    ] {
        assert_eq!(yaml(text).value, Settings::default(), "{text:?}");
    }
}

#[test]
fn marks_and_line_ends_of_other_systems_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    std::fs::write(&path, "\u{FEFF}model:\r\n  name: x\r\n  stop: [a]\r\n").unwrap();
    let loaded = layers().file(&path).load::<Settings>().unwrap();
    assert_eq!(loaded.value.model.name, "x");
    assert_eq!(loaded.origins.of("model.stop").line(), Some(3));
}

#[test]
fn only_line_feeds_and_carriage_returns_end_a_line() {
    // YAML 1.1 ended lines at these three as well; then the blanks beside them would be lost.
    for odd in ['\u{85}', '\u{2028}', '\u{2029}'] {
        let text = format!("a {odd} \u{E000}\" b");
        let written = json!({ "model": { "name": text } }).to_string();
        assert_eq!(yaml(&written).value.model.name, text);

        let loaded = yaml(&format!(
            "model:\n  name: a {odd} b # {odd}\n  extra: {{a{odd}b: c}}\nrun:\n  extract: |\n    a\n    b {odd} c\n  share: 0.5\n"
        ));
        assert_eq!(loaded.value.model.name, format!("a {odd} b"));
        assert_eq!(loaded.value.run.extract, format!("a\nb {odd} c\n"));
        assert_eq!(loaded.value.model.extra[&format!("a{odd}b")], "c");
        assert_eq!(loaded.origins.of("run.share").line(), Some(8));

        let error = layers()
            .text("c.yaml", format!("model: {{name: {odd}}}\nrun: ]\n"))
            .load::<Settings>()
            .unwrap_err();
        assert_eq!(
            (error.faults()[0].line(), error.faults()[0].column()),
            (Some(2), Some(6))
        );
    }
}

#[test]
fn other_encodings_are_named_and_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    let load = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = layers().file(&path).load::<Settings>().unwrap_err();
        assert_eq!(error.faults()[0].kind(), FaultKind::Syntax);
        error.to_string().replace(path.to_str().unwrap(), "c.yaml")
    };
    assert_snapshot!(load(b"\xFF\xFEm\0o\0"), @"c.yaml: the text is UTF-16; save the file as UTF-8");
    assert_snapshot!(load(b"m\0o\0"), @"c.yaml: the text is UTF-16; save the file as UTF-8");
    assert_snapshot!(load(b"model:\n  name: caf\xE9\n"), @"c.yaml:2:12: the byte 0xe9 is not UTF-8; save the file as UTF-8");
}

#[test]
fn faults_of_syntax_have_line_and_column() {
    let error = fault("model:\n  name: x\n stop: [\n");
    assert_eq!(error.faults()[0].kind(), FaultKind::Syntax);
    assert_snapshot!(error, @"c.yaml:3:2: not valid YAML: did not find expected key");
    assert_snapshot!(fault("model:\n\tname: x\n"), @"c.yaml:2:1: not valid YAML: found character that cannot start any token (a tab? indent with spaces)");
    assert_snapshot!(fault("model: {name: *a}\n"), @"c.yaml:1:15: not valid YAML: an alias (`*name`) without its anchor (`&name`)");
    assert_snapshot!(fault("model: {name: a}\n---\nrun: {}\n"), @"c.yaml: not valid YAML: more than one document (`---`) in it");
    assert_snapshot!(fault("- a\n"), @"c.yaml: found a list, expected keys with values (`key: value`)");
    assert_snapshot!(fault("just words\n"), @"c.yaml: found a single value, expected keys with values (`key: value`)");
    assert_snapshot!(fault("model: {name: !env KEY}\n"), @"c.yaml:1:15: tags (`!name`) have no meaning here");
    assert_snapshot!(fault("model: {max_tokens: !!int sk-secret}\n"), @"c.yaml:1:21: a value that does not fit its tag");
    assert_snapshot!(fault("? [a]\n: b\n"), @"c.yaml:1:1: a key must be a string, not a list or a map");
    assert_snapshot!(fault("model: {<<: 3}\n"), @"c.yaml:1: `<<` merges a map or a list of maps, nothing else");
}

#[test]
fn every_doubled_key_is_told_with_both_lines() {
    let error = fault("model:\n  name: a\n  name: b\nrun: {}\nmodel:\n  stop: []\n");
    assert!(error.has(FaultKind::DuplicateKey));
    assert_snapshot!(error, @r"
    c.yaml:3: key `model.name` is there twice, first on line 2
    c.yaml:5: key `model` is there twice, first on line 1
    ");
}

#[test]
fn merge_keys_are_applied() {
    let loaded = yaml(
        "x-base: &base
  name: base
  max_tokens: 1
x-more: &more
  <<: *base
  max_tokens: 2
  temperature: 0.1
model:
  <<: [{temperature: 0.3}, *more]
  name: own
  extra: {<<: {a: 1}, b: 2}
",
    );
    let model = loaded.value.model;
    assert_eq!(model.name, "own");
    assert_eq!(model.max_tokens, Some(2));
    assert_eq!(model.temperature, Some(0.3));
    assert_eq!(
        serde_json::to_string(&model.extra).unwrap(),
        r#"{"b":2,"a":1}"#
    );
    // What was merged stands where it was written.
    for (key, line) in [
        ("name", 10),
        ("max_tokens", 6),
        ("temperature", 9),
        ("extra.b", 11),
    ] {
        let origin = loaded.origins.of(&format!("model.{key}"));
        assert_eq!(origin.line(), Some(line), "{key}");
    }
}

#[test]
fn a_merged_value_is_faulted_where_it_is_written() {
    let error = fault("x-base: &base\n  max_tokens: x\nmodel:\n  <<: *base\n  name: x\n");
    assert_snapshot!(error, @"c.yaml:2: `model.max_tokens`: found the string `x`, expected a whole number, 0 or more");
}

#[test]
fn lines_are_found_whatever_the_style() {
    let loaded = yaml(
        "# a comment

'model': {name: a,
  \"max_tokens\": 1,
  stop:
    [
      a,
      b],
  extra: {long: |
  }
}
"
        .replace("long: |\n  }", "long: x\n  }")
        .as_str(),
    );
    for (key, line) in [
        ("model", 3),
        ("model.name", 3),
        ("model.max_tokens", 4),
        ("model.stop", 5),
        ("model.extra.long", 9),
    ] {
        assert_eq!(loaded.origins.of(key).line(), Some(line), "{key}");
    }

    let loaded = yaml(
        "model:\n  name: |\n    two\n    lines\n\n  # c\n  max_tokens:\n    7\nrun:\n  extract: >-\n    x\n",
    );
    for (key, line) in [
        ("model.name", 2),
        ("model.max_tokens", 7),
        ("run.extract", 10),
    ] {
        assert_eq!(loaded.origins.of(key).line(), Some(line), "{key}");
    }
}

#[test]
fn bombs_are_refused_fast() {
    let mut laughs = "x-a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (one, next) in "abcdefghi".chars().zip("bcdefghij".chars()) {
        let nine = format!(",*{one}").repeat(9);
        laughs += &format!("x-{next}: &{next} [{}]\n", &nine[1..]);
    }
    let quadratic = format!(
        "x-a: &a [{}]\nx-b: [{}]\n",
        "x,".repeat(9_000),
        "*a,".repeat(9_000)
    );
    let bombs = [
        laughs,
        quadratic,
        "x-a: &a [*a, *a]\n".to_owned(),
        "x-a: &a {b: *a}\n".to_owned(),
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        format!("x-a: {}1{}\n", "[".repeat(900), "]".repeat(900)),
        "- ".repeat(100_000),
        "? ".repeat(100_000),
        "a: &a ".repeat(100_000),
        "x".repeat(2_000_000),
        "x-a: [x,".to_owned() + &"x,".repeat(100_000) + "]",
        "!".repeat(100_000),
        "\"".repeat(100_000),
        "'\n".repeat(100_000),
    ];
    for bomb in bombs {
        let error = layers().text("c.yaml", bomb.as_str()).load::<Settings>();
        let error = error.expect_err(&bomb[..15]);
        assert_eq!(error.faults()[0].kind(), FaultKind::Syntax, "{error}");
    }
}

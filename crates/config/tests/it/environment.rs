//! Environment variables and `--set`.

use insta::assert_snapshot;
use serde_json::json;

use crate::settings::{Provider, Settings, layers, vars};

#[track_caller]
fn env<const N: usize>(variables: [(&str, &str); N]) -> Settings {
    let variables = vars(variables).into_iter();
    let variables = variables.map(|(name, value)| (format!("DATAGEN_{name}"), value));
    match layers().env("DATAGEN_", variables).load() {
        Ok(loaded) => loaded.value,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_variable_is_taken_as_the_type_wants_it() {
    let model = env([
        ("MODEL__NAME", "123"),
        ("MODEL__TEMPERATURE", "1"),
        ("MODEL__MAX_TOKENS", "null"),
        ("MODEL__STOP", "[a, b]"),
        ("MODEL__PROVIDER", "offline"),
    ])
    .model;
    assert_eq!(model.name, "123");
    assert_eq!(model.temperature, Some(1.0));
    assert_eq!(model.max_tokens, None);
    assert_eq!(model.stop, ["a", "b"]);
    assert_eq!(model.provider, Provider::Offline);
}

#[test]
fn where_a_string_is_wanted_the_text_stands_as_it_is() {
    for text in [
        "true", "1.50", "null", "", " a ", "[x]", "{a=1}", "a: b", "0x10", "~", "#no",
    ] {
        assert_eq!(env([("RUN__EXTRACT", text)]).run.extract, text);
    }
    assert_eq!(env([("RUN__EXTRACT", "\"1\"")]).run.extract, "1");
}

#[test]
fn keys_are_matched_whatever_the_case() {
    let extra = "model: {extra: {topK: 1}}";
    let variables = vars([
        ("X_Model__temperature", "0.2"),
        ("X_MODEL__EXTRA__TOPK", "2"),
        ("X_MODEL__EXTRA__SEED", "3"),
        ("X_MODEL__EXTRA__minP", "4"),
    ]);
    let loaded = layers()
        .env("X_", variables)
        .text("c.yaml", extra)
        .load::<Settings>()
        .unwrap();
    assert_eq!(loaded.value.model.temperature, Some(0.2));
    let extra = serde_json::Value::from(loaded.value.model.extra);
    assert_eq!(extra, json!({"topK": 2, "seed": 3, "minP": 4}));
}

#[test]
fn a_free_form_map_may_be_given_whole() {
    let expected = json!({"top_k": 40, "nested": {"a": [1, "x"]}});
    for text in [
        "{top_k=40,nested={a=[1,x]}}",
        r#"{"top_k": 40, "nested": {"a": [1, "x"]}}"#,
    ] {
        let extra = env([("MODEL__EXTRA", text)]).model.extra;
        assert_eq!(serde_json::Value::from(extra), expected, "{text}");
    }
}

#[test]
fn other_variables_warn_once_each_and_set_nothing() {
    let variables = vars([
        ("DATAGEN_MODEL_TEMPERATURE", "secret"),
        ("DATAGEN_EXTRACT", "x"),
        ("DATAGEN_HOME", "/home"),
        ("DATAGENX", "x"),
        ("HOME", "/home"),
    ]);
    let loaded = layers()
        .env("DATAGEN_", variables)
        .load::<Settings>()
        .unwrap();
    assert_eq!(loaded.value, Settings::default());
    assert_snapshot!(loaded.warnings.join("\n"), @r"
    environment variable DATAGEN_EXTRACT: not configuration, as it has no double underscore; the nearest key is `DATAGEN_RUN__EXTRACT`
    environment variable DATAGEN_HOME: not configuration, as it has no double underscore; the nearest key is `DATAGEN_MODEL__NAME`
    environment variable DATAGEN_MODEL_TEMPERATURE: not configuration, as it has no double underscore; the nearest key is `DATAGEN_MODEL__TEMPERATURE`
    ");
}

#[test]
fn a_fault_names_the_variable_as_it_is_written() {
    let variables = vars([
        ("DATAGEN_MODEL__TEMPRATURE", "0.2"),
        ("DATAGEN_MODL__NAME", "x"),
        ("DATAGEN_MODEL__TEMPERATURE__X", "1"),
        ("DATAGEN_Run__Concurrency_Limit", "lots"),
        ("DATAGEN_RUN__SHARE", "2"),
        ("DATAGEN_MODEL__NAME", "a"),
        ("DATAGEN_model__name", "b"),
        ("DATAGEN_ZZZ__QQQ", "b"),
        ("DATAGEN_MODEL__MAX_TOKENS", ""),
    ]);
    let error = layers().env("DATAGEN_", variables).load::<Settings>();
    assert_snapshot!(error.unwrap_err(), @r"
    environment variable DATAGEN_MODEL__MAX_TOKENS: `model.max_tokens`: found an empty string, expected a whole number, 0 or more
    environment variable DATAGEN_MODEL__TEMPERATURE__X: unknown key `model.temperature.x`; did you mean `DATAGEN_MODEL__TEMPERATURE`?
    environment variable DATAGEN_MODEL__TEMPRATURE: unknown key `model.temprature`; did you mean `DATAGEN_MODEL__TEMPERATURE`?
    environment variable DATAGEN_MODL__NAME: unknown key `modl.name`; did you mean `DATAGEN_MODEL__NAME`?
    environment variable DATAGEN_RUN__SHARE: `run.share`: must be from 0 to 1
    environment variable DATAGEN_Run__Concurrency_Limit: `run.concurrency_limit`: found the string `lots`, expected a whole number, 1 or more
    environment variable DATAGEN_ZZZ__QQQ: unknown key `zzz.qqq`; the sections are `model`, `run`, `output`
    environment variable DATAGEN_model__name: `DATAGEN_MODEL__NAME` sets the key `model.name` too; unset one of them
    ");
}

#[test]
fn set_takes_a_yaml_scalar_or_flow() {
    let loaded = layers()
        .set("model.temperature=0.2")
        .set("model.name = 123")
        .set("model.max_tokens=null")
        .set("model.extra={top_k: 40, s: 'x'}")
        .set("model.extra.eq=a=b")
        .set("run.extract=regex:(?<a>[a-z]+): #1")
        .load::<Settings>()
        .unwrap();
    let model = loaded.value.model;
    assert_eq!(model.temperature, Some(0.2));
    assert_eq!(model.name, "123");
    assert_eq!(model.max_tokens, None);
    let extra = serde_json::Value::from(model.extra);
    assert_eq!(extra, json!({"top_k": 40, "s": "x", "eq": "a=b"}));
    assert_eq!(loaded.value.run.extract, "regex:(?<a>[a-z]+): #1");
}

#[test]
fn a_bad_assignment_is_a_fault_like_any_other() {
    let error = layers()
        .set("model.temperature")
        .set("=x")
        .set("")
        .set("model.temprature=1")
        .set("temperature=1")
        .set("run.concurrency_limit=1.5")
        .option("run.concurency", "--concurrency", 1)
        .option("model.rate_limit", "--rate", -1)
        .load::<Settings>();
    assert_snapshot!(error.unwrap_err(), @r"
    --set: no `=` in it; write `model.temperature=VALUE`
    --set: no key before the `=`; write `KEY=VALUE`
    --set: no `=` in it; write `KEY=VALUE`
    --set model.temprature: unknown key `model.temprature`; did you mean `model.temperature`?
    --set temperature: unknown key `temperature`; did you mean `model.temperature`?
    --set run.concurrency_limit: `run.concurrency_limit`: found the number `1.5`, expected a whole number, 1 or more
    --concurrency: unknown key `run.concurency`; did you mean `run.concurrency_limit`?
    --rate: `model.rate_limit`: found the number `-1`, expected a whole number from 0 to 4294967295
    ");
}

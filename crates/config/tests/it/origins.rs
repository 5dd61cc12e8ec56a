//! Where values came from.

use data_generation_config::Origin;
use insta::assert_snapshot;

use crate::settings::{Settings, layers, vars};

#[test]
fn every_value_is_listed_with_its_origin_in_the_order_of_the_defaults() {
    let loaded = layers()
        .text(
            "config.yaml",
            "run:\n  extract: json\nmodel:\n  api_key: sk-123456\n  headers: {X-B: b, X-A: a}\n  extra: {z: 1, a: {b: 2}}\n  stop:\n    - x\n",
        )
        .env("X_", vars([("X_MODEL__NAME", "1.50"), ("X_MODEL__EXTRA__SEED", "7")]))
        .set("model.temperature=0.2")
        .option("run.concurrency_limit", "--concurrency", 9)
        .code("output.need_time_stamp", false)
        .load::<Settings>()
        .unwrap();
    let listed: Vec<String> = loaded
        .origins
        .iter()
        .map(|(key, value, origin)| format!("{key} = {value} <- {origin}"))
        .collect();
    assert_snapshot!(listed.join("\n"), @r#"
    model.provider = "openai" <- default
    model.api_key = "[secret]" <- config.yaml:4
    model.name = "1.50" <- environment variable X_MODEL__NAME
    model.rate_limit = null <- default
    model.max_tokens = 5012 <- default
    model.temperature = 0.2 <- --set model.temperature
    model.stop = ["x"] <- config.yaml:7
    model.extra.z = 1 <- config.yaml:6
    model.extra.a.b = 2 <- config.yaml:6
    model.extra.seed = 7 <- environment variable X_MODEL__EXTRA__SEED
    model.headers.X-B = "[secret]" <- config.yaml:5
    model.headers.X-A = "[secret]" <- config.yaml:5
    run.concurrency_limit = 9 <- --concurrency
    run.extract = "json" <- config.yaml:2
    run.share = 0.5 <- default
    output.dir = "output" <- default
    output.need_time_stamp = false <- in code
    "#);
}

#[test]
fn a_key_without_an_origin_of_its_own_has_its_parents() {
    let loaded = layers()
        .text("c.yaml", "model:\n  stop: [a]\n")
        .load::<Settings>()
        .unwrap();
    let origins = loaded.origins;
    for (key, text) in [
        ("model.stop", "c.yaml:2"),
        ("model.stop.0", "c.yaml:2"),
        ("model", "c.yaml:1"),
        ("model.nothing", "c.yaml:1"),
        ("model.name", "default"),
        ("run", "default"),
        ("nothing", "default"),
    ] {
        assert_eq!(origins.of(key).to_string(), text, "{key}");
    }
    assert!(origins.is_default("run") && origins.is_default("model.name"));
    assert!(!origins.is_default("model"));
    let name = "c.yaml".to_owned();
    let line = Some(2);
    assert_eq!(origins.of("model.stop"), Origin::Text { name, line });
}

#[test]
fn the_line_is_that_of_the_layer_that_won() {
    let loaded = layers()
        .text("a.yaml", "\n\nmodel: {name: a, max_tokens: 1}")
        .text("b.yaml", "model: {name: b}")
        .load::<Settings>()
        .unwrap();
    assert_eq!(loaded.origins.of("model.name").to_string(), "b.yaml:1");
    assert_eq!(
        loaded.origins.of("model.max_tokens").to_string(),
        "a.yaml:3"
    );
}

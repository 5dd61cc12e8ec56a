//! What wins over what.

use data_generation_config::Origin;
use serde_json::json;

use crate::settings::{Settings, layers, vars, yaml};

#[test]
fn without_layers_the_defaults_hold() {
    let loaded = layers().load::<Settings>().unwrap();
    assert_eq!(loaded.value, Settings::default());
    assert!(loaded.warnings.is_empty());
}

/// Every edge of the order, named from the highest down: the order of the calls must not matter.
#[test]
fn each_layer_wins_over_the_one_below() {
    let all = [
        ("yaml", "c.yaml:1"),
        ("env", "environment variable X_MODEL__NAME"),
        ("set", "--set model.name"),
        ("group", "in code"),
        ("code", "in code"),
    ];
    for highest in 0..all.len() {
        let mut named = layers();
        for (name, _) in all[..=highest].iter().rev() {
            named = match *name {
                "yaml" => named.text("c.yaml", "model: {name: yaml}"),
                "env" => named.env("X_", vars([("X_MODEL__NAME", "env")])),
                "set" => named.set("model.name=set"),
                "group" => named.code_group("model", json!({"name": "group"})),
                _ => named.code("model.name", "code"),
            };
        }
        let loaded = named.load::<Settings>().unwrap();
        let (name, origin) = all[highest];
        assert_eq!(loaded.value.model.name, name);
        assert_eq!(loaded.origins.of("model.name").to_string(), origin);
    }
}

#[test]
fn within_a_layer_the_later_wins() {
    let loaded = layers()
        .text("a.yaml", "model: {name: a, max_tokens: 1}")
        .text("b.yaml", "model: {name: b}")
        .set("run.concurrency_limit=2")
        .option("run.concurrency_limit", "--concurrency", 3)
        .code("run.extract", "json")
        .code("run.extract", "tag:x")
        .load::<Settings>()
        .unwrap();
    assert_eq!(loaded.value.model.name, "b");
    assert_eq!(loaded.value.model.max_tokens, Some(1));
    assert_eq!(loaded.value.run.concurrency_limit.get(), 3);
    assert_eq!(loaded.value.run.extract, "tag:x");
    let flag = "--concurrency".to_owned();
    assert_eq!(
        loaded.origins.of("run.concurrency_limit"),
        Origin::Flag { flag }
    );
}

#[test]
fn a_value_in_code_wins_over_its_group_in_either_order() {
    let group = json!({"dir": "elsewhere", "need_time_stamp": true});
    let orders = [
        layers()
            .code("output.need_time_stamp", false)
            .code_group("output", &group),
        layers()
            .code_group("output", &group)
            .code("output.need_time_stamp", false),
    ];
    for order in orders {
        let output = order.load::<Settings>().unwrap().value.output;
        assert!(!output.need_time_stamp);
        assert_eq!(output.dir.to_str(), Some("elsewhere"));
    }
}

#[test]
fn maps_merge_and_lists_replace() {
    let loaded = layers()
        .text("a.yaml", "model: {stop: [a, b], extra: {x: {p: 1, q: 1}}}")
        .text("b.yaml", "model: {stop: [c], extra: {x: {q: 2}, y: 3}}")
        .set("model.extra.x.r=[1]")
        .load::<Settings>()
        .unwrap();
    assert_eq!(loaded.value.model.stop, ["c"]);
    let extra = serde_json::Value::from(loaded.value.model.extra);
    assert_eq!(extra, json!({"x": {"p": 1, "q": 2, "r": [1]}, "y": 3}));
}

#[test]
fn a_free_form_map_keeps_its_order() {
    let loaded = yaml("model: {extra: {zeta: 1, alpha: {y: 1, b: 2}, 50256: -100}}");
    let text = serde_json::to_string(&loaded.value.model.extra).unwrap();
    assert_eq!(text, r#"{"zeta":1,"alpha":{"y":1,"b":2},"50256":-100}"#);
}

#[test]
fn null_unsets_an_optional_key_but_no_section() {
    let loaded = yaml("model:\n  temperature: null\n  extra:\nrun:\noutput: ~\n");
    assert_eq!(loaded.value.model.temperature, None);
    assert_eq!(loaded.value.run, Settings::default().run);
    assert!(loaded.origins.is_default("run"));
}

#[test]
fn numbers_keep_their_value() {
    let loaded = yaml(
        "model: {max_tokens: 18446744073709551615, temperature: 1, extra: {a: -9223372036854775808, b: 1e-3, c: 1.0}}",
    );
    assert_eq!(loaded.value.model.max_tokens, Some(u64::MAX));
    assert_eq!(loaded.value.model.temperature, Some(1.0));
    let extra = serde_json::Value::from(loaded.value.model.extra);
    assert_eq!(extra, json!({"a": i64::MIN, "b": 0.001, "c": 1.0}));
}

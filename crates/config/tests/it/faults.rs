//! What is wrong, all of it, in words that help.

use data_generation_config::{FaultKind, Layers, Origin};
use insta::assert_snapshot;
use serde::Deserialize;
use serde_json::json;

use crate::settings::{Settings, fault, layers, vars};

#[test]
fn all_faults_of_all_layers_are_told_at_once() {
    let error = layers()
        .text(
            "config.yaml",
            "model:
  temperature: hot
  max_tokens: -1
  rate_limit: 1.5
  stop: [a, 1, 2]
  nmae: x
run:
  concurency: 5
  concurrency_limit: 0
  share: 2
output: here
",
        )
        .env("X_", vars([("X_MODEL__PROVIDER", "opnai")]))
        .set("output.need_time_stamp=maybe")
        .code("run.extract", [1])
        .load::<Settings>()
        .unwrap_err();
    assert_snapshot!(error, @r"
    config.yaml:2: `model.temperature`: found the string `hot`, expected a number
    config.yaml:3: `model.max_tokens`: found the number `-1`, expected a whole number, 0 or more
    config.yaml:4: `model.rate_limit`: found the number `1.5`, expected a whole number from 0 to 4294967295
    config.yaml:5: `model.stop.1`: found the number `1`, expected a string
    config.yaml:5: `model.stop.2`: found the number `2`, expected a string
    config.yaml:6: unknown key `model.nmae`; did you mean `name`?
    config.yaml:8: unknown key `run.concurency`; did you mean `concurrency_limit`?
    config.yaml:9: `run.concurrency_limit`: found the number `0`, expected a whole number, 1 or more
    config.yaml:10: `run.share`: must be from 0 to 1
    config.yaml:11: `output`: found a single value, expected a map
    environment variable X_MODEL__PROVIDER: `model.provider`: found `opnai`, expected `openai` or `offline`; did you mean `openai`?
    --set output.need_time_stamp: `output.need_time_stamp`: found the string `maybe`, expected `true` or `false`
    in code: `run.extract`: found a list, expected a string
    ");
    assert!(error.has(FaultKind::UnknownKey));
    assert!(!error.has(FaultKind::Io));

    let fault = error
        .faults()
        .iter()
        .find(|f| f.key() == Some("model.temperature"));
    let fault = fault.unwrap();
    assert_eq!(fault.kind(), FaultKind::WrongType);
    assert_eq!(fault.line(), Some(2));
}

#[test]
fn an_unknown_key_is_told_with_the_nearest_name() {
    assert_snapshot!(fault("\n\n\n\n\nrun:\n  concurency: 1"), @"c.yaml:7: unknown key `run.concurency`; did you mean `concurrency_limit`?");
    assert_snapshot!(fault("modl: {name: x}"), @"c.yaml:1: unknown key `modl`; did you mean `model`?");
    assert_snapshot!(fault("temperature: 1"), @"c.yaml:1: unknown key `temperature`; did you mean `model.temperature`?");
    assert_snapshot!(fault("run: {zzz: 1}"), @"c.yaml:1: unknown key `run.zzz`; `run` has `concurrency_limit`, `extract`, `share`");
    assert_snapshot!(fault("zzz: 1"), @"c.yaml:1: unknown key `zzz`; the sections are `model`, `run`, `output`");
}

#[test]
fn a_value_in_the_place_of_a_section_is_not_shown() {
    let text = "model: api_key:sk-very-secret\nrun: [1]\noutput: 3";
    assert_snapshot!(fault(text), @r"
    c.yaml:1: `model`: found a single value, expected a map
    c.yaml:2: `run`: found a list, expected a map
    c.yaml:3: `output`: found a single value, expected a map
    ");
}

#[test]
fn a_number_does_not_pick_a_variant() {
    assert_snapshot!(fault("model: {provider: 0}"), @"c.yaml:1: `model.provider`: found the number `0`, expected a string");
    assert_snapshot!(fault("model: {provider: [offline]}"), @"c.yaml:1: `model.provider`: found a list, expected a string");
}

#[test]
fn a_float_is_no_whole_number_and_a_big_one_no_number() {
    let text = "model:\n  max_tokens: 5.0\n  rate_limit: 5000000000\n  temperature: .inf\n  extra: {a: 18446744073709551616}";
    assert_snapshot!(fault(text), @r"
    c.yaml:2: `model.max_tokens`: found the number `5.0`, expected a whole number, 0 or more
    c.yaml:3: `model.rate_limit`: found the number `5000000000`, expected a whole number from 0 to 4294967295
    c.yaml:4: `model.temperature`: the number inf is not finite or does not fit 64 bits
    c.yaml:5: `model.extra.a`: the number 18446744073709551616 is not finite or does not fit 64 bits
    ");
}

#[test]
fn hostile_words_reach_no_terminal() {
    let text = "\"\\e[31mx\": 1\nmodel: {temperature: \"\\e]0;x\\a\"}";
    let error = fault(text).to_string();
    assert!(
        !error.contains('\u{1b}') && !error.contains('\u{7}'),
        "{error:?}"
    );
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stages {
    stages: Vec<Stage>,
    pair: Option<[f64; 2]>,
    spare: Option<Stage>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    name: String,
    tries: u8,
}

#[test]
fn faults_in_lists_and_optional_maps_are_told_too() {
    let defaults = json!({"stages": [], "pair": null, "spare": null});
    let text = "stages:
  - {name: a, tries: 1}
  - {name: b, tries: x}
  - {name: c, tris: 1}
  - {name: [], tries: 300}
pair: [1, x]
spare:
  name: d
";
    let error = Layers::defaults(&defaults)
        .unwrap()
        .text("c.yaml", text)
        .load::<Stages>()
        .unwrap_err();
    assert_snapshot!(error, @r"
    c.yaml:3: `stages.1.tries`: found the string `x`, expected a whole number from 0 to 255
    c.yaml:4: unknown key `stages.2.tris`; did you mean `tries`?
    c.yaml:5: `stages.3.name`: found a list, expected a string
    c.yaml:5: `stages.3.tries`: found the number `300`, expected a whole number from 0 to 255
    c.yaml:6: `pair.1`: found the string `x`, expected a number
    c.yaml:7: missing key `spare.tries`
    ");

    let text = "stages: [{name: a, tries: 1}]\npair: [1, 2]\nspare: {name: b, tries: 2}";
    let stages = Layers::defaults(&defaults)
        .unwrap()
        .text("c.yaml", text)
        .load::<Stages>()
        .unwrap()
        .value;
    assert_eq!(
        (stages.stages[0].name.as_str(), stages.stages[0].tries),
        ("a", 1)
    );
    assert_eq!(stages.pair, Some([1.0, 2.0]));
    assert_eq!(stages.spare.unwrap().name, "b");
}

#[test]
fn a_default_that_its_own_type_refuses_is_a_fault_and_no_loop() {
    let layers = Layers::defaults(&json!({"stages": 1, "pair": "x"})).unwrap();
    let error = layers.load::<Stages>().unwrap_err();
    assert_snapshot!(error, @r"
    default: `stages`: found the number `1`, expected a list
    default: `pair`: found the string `x`, expected a list of length 2
    ");
    let error = Layers::defaults(&json!({})).unwrap().load::<Stages>();
    assert_snapshot!(error.unwrap_err(), @"missing key `stages`");
}

#[test]
fn defaults_must_be_a_map() {
    assert_snapshot!(Layers::defaults(&1).unwrap_err(), @"default: the defaults must be a map");
}

#[test]
fn files_that_cannot_be_read_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let load = |name: &str| {
        let error = layers().file(dir.path().join(name)).load::<Settings>();
        let error = error.unwrap_err();
        let text = error
            .to_string()
            .replace(dir.path().to_str().unwrap(), "DIR");
        (error.faults()[0].kind(), text)
    };
    let (kind, text) = load("absent.yaml");
    assert_eq!(kind, FaultKind::NoFile);
    assert_snapshot!(text, @"DIR/absent.yaml: no such file");
    let (kind, text) = load("");
    assert_eq!(kind, FaultKind::Io);
    assert_snapshot!(text, @"DIR/: a directory; a file is wanted here");
    std::fs::write(dir.path().join("file"), "").unwrap();
    let (kind, text) = load("file/c.yaml");
    assert_eq!(kind, FaultKind::Io);
    assert_snapshot!(text, @"DIR/file/c.yaml: could not be read: Not a directory (os error 20)");
}

#[test]
fn a_file_above_the_working_directory_is_not_searched_for() {
    let error = layers().file("Cargo.lock").load::<Settings>().unwrap_err();
    assert_eq!(error.faults()[0].kind(), FaultKind::NoFile);
    let path = "Cargo.lock".into();
    assert_eq!(
        error.faults()[0].origin(),
        &Origin::File { path, line: None }
    );
}

//! With which settings and keys failed rows are asked again.

use insta::assert_snapshot;
use serde_json::json;

use super::{Moody, RETRY, counts};
use crate::harness::{Folder, rows};

#[test]
fn neither_configuration_nor_prompts_nor_rows_are_needed() {
    let moody = Moody::start();
    let folder = moody.made();
    for file in ["config.yaml", "user.txt", "rows.jsonl"] {
        std::fs::remove_file(folder.path(file)).unwrap();
    }
    moody.get_well();
    let arguments = [
        "--json",
        "--concurrency",
        "2",
        "--set",
        "model.max_tokens=9",
    ];
    assert_eq!(
        counts(&folder.datagen(RETRY).args(arguments).exits(0).summary()),
        [8, 8, 0, 0, 8]
    );
    let asked = moody.server.asked();
    assert_eq!(asked.last().unwrap().body["max_tokens"], 9);
    assert_eq!(asked.last().unwrap().body["model"], "tiny");
}

#[test]
fn changed_settings_of_the_dataset_are_refused_as_in_a_run() {
    let moody = Moody::start();
    let folder = moody.made();
    let hits = moody.server.hits();
    let set = ["--set", "model.temperature=0.1"];
    assert_snapshot!(folder.datagen(RETRY).args(set).exits(2).shown(), @"
    exit 2
    --- stderr
    error: the run in output/demo was made with other settings:
      model.temperature: 0.7 -> 0.1
      hint: a retry asks with the settings of the dataset, so leave these as they were; `datagen run --fork NAME` makes a new dataset with others
    ");
    assert_eq!(moody.server.hits(), hits);
}

#[test]
fn of_a_configuration_counts_how_to_ask_and_not_what_the_dataset_is() {
    let moody = Moody::start();
    let folder = moody.made().edit(
        "config.yaml",
        "  model: tiny",
        "  model: large\n  temperature: 0.1\n  headers: {x-team: t-3}",
    );
    folder.write("user.txt", "Write at length about {{topic}}.\n");
    folder.write("rows.jsonl", "");
    let hits = moody.server.hits();
    moody.get_well();
    let config = ["-q", "--config", "config.yaml"];
    folder.datagen(RETRY).args(config).exits(0);
    let asked = &moody.server.asked()[hits..];
    assert_eq!(asked.len(), 8);
    for asked in asked {
        assert!(asked.user().starts_with("Write about"), "{}", asked.user());
        assert_eq!(
            (&asked.body["model"], &asked.body["temperature"]),
            (&json!("tiny"), &json!(0.7))
        );
        assert_eq!(asked.header("x-team"), Some("t-3"));
    }
}

#[test]
fn a_key_comes_from_its_variable_again_and_a_literal_one_must_be_given_again() {
    let moody = Moody::start();
    let key = |name: &str| ["--set".to_owned(), format!("model.api_key_env={name}")];
    let folder = Folder::asking(&moody.server).file("rows.jsonl", rows(5));
    let [set, env] = key("MY_KEY");
    let run = ["run", "-q", "--extract", "tag:t", &set, &env];
    folder.datagen(run).env("MY_KEY", "sk-mine-1").exits(3);
    let ended = folder.datagen(RETRY).exits(2);
    assert!(
        ended
            .stderr
            .contains("MY_KEY (model.api_key_env, run.json) is not set"),
        "{}",
        ended.stderr
    );
    moody.get_well();
    folder
        .datagen(RETRY)
        .args(["-q"])
        .env("MY_KEY", "sk-mine-1")
        .exits(0);
    let asked = moody.server.asked();
    assert_eq!(
        asked.last().unwrap().header("authorization"),
        Some("Bearer sk-mine-1")
    );

    let moody = Moody::start();
    let folder = Folder::asking(&moody.server)
        .file("rows.jsonl", rows(5))
        .edit(
            "config.yaml",
            "api_key_env: null",
            "api_key: sk-literal-2\n  headers: {x-team: t-3}",
        );
    folder.datagen(["run", "-q", "--extract", "tag:t"]).exits(3);
    assert_snapshot!(folder.datagen(RETRY).exits(2).shown(), @"
    exit 2
    --- stderr
    error: the run in output/demo had a literal `model.api_key` (config.yaml:3), and run.json holds no secrets; give it again with `--config FILE` or `--set model.api_key=...`, or name a variable that holds it with `--set model.api_key_env=NAME`
    ");
    moody.get_well();
    let literal = ["--set", "model.api_key=sk-literal-2"];
    assert_snapshot!(folder.datagen(RETRY).args(literal).exits(2).shown(), @"
    exit 2
    --- stderr
    error: the run in output/demo had a literal `model.headers.x-team` (config.yaml:4), and run.json holds no secrets; give it again with `--config FILE` or `--set model.headers.x-team=...`
    ");
    let config = [
        "-q",
        "--config",
        "config.yaml",
        "--set",
        "run.extract=tag:t",
    ];
    folder.datagen(RETRY).args(config).exits(0);
    let asked = moody.server.asked();
    assert_eq!(
        asked.last().unwrap().header("authorization"),
        Some("Bearer sk-literal-2")
    );
    assert_eq!(asked.last().unwrap().header("x-team"), Some("t-3"));
    assert!(!folder.read("output/demo/run.json").contains("sk-literal-2"));
}

#[test]
fn the_default_variable_of_the_key_goes_nowhere_else_in_a_retry_either() {
    let moody = Moody::start();
    let folder = Folder::asking(&moody.server)
        .file("rows.jsonl", rows(5))
        .edit("config.yaml", "  api_key_env: null\n", "");
    folder
        .datagen(["run", "-q", "--extract", "tag:t"])
        .env("OPENAI_API_KEY", "sk-openai")
        .exits(3);
    moody.get_well();
    folder
        .datagen(RETRY)
        .args(["-q"])
        .env("OPENAI_API_KEY", "sk-openai")
        .exits(0);
    assert!(
        moody
            .server
            .asked()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
}

#[test]
fn further_fields_of_a_configuration_are_those_of_the_run_or_refused_and_never_joined() {
    let moody = Moody::start();
    let config = |extra: &str| format!("model:\n  api_key_env: null\n  extra: {extra}\n");
    let folder = Folder::asking(&moody.server)
        .file("rows.jsonl", rows(5))
        .edit(
            "config.yaml",
            "  model: tiny",
            "  model: tiny\n  extra: {seed: 1, stop: [a, b]}",
        )
        .file("same.yaml", config("{stop: [a, b], seed: 1}"))
        .file("removed.yaml", config("{seed: 1}"))
        .file("changed.yaml", config("{seed: 2, stop: [a, b]}"))
        .file("added.yaml", config("{seed: 1, stop: [a, b], top_p: 0.5}"))
        .file("emptied.yaml", config("{}"))
        .file("silent.yaml", "model: {rate_limit: null}\n");
    folder.datagen(["run", "-q", "--extract", "tag:t"]).exits(3);
    let (before, hits) = (folder.read("output/demo/run.json"), moody.server.hits());
    let refused = ["removed", "changed", "added", "emptied"].map(|name| {
        let ended = folder
            .datagen(RETRY)
            .args(["--config", &format!("{name}.yaml")])
            .exits(2);
        let changes = ended.stderr.lines().filter(|line| line.contains("->"));
        format!("{name}:{}", changes.collect::<String>())
    });
    assert_snapshot!(refused.join("\n"), @r#"
    removed:  model.extra.stop: ["a","b"] -> null
    changed:  model.extra.seed: 1 -> 2
    added:  model.extra.top_p: null -> 0.5
    emptied:  model.extra.seed: 1 -> null  model.extra.stop: ["a","b"] -> null
    "#);
    assert_eq!(folder.read("output/demo/run.json"), before);
    assert_eq!(moody.server.hits(), hits);

    folder
        .datagen(RETRY)
        .args(["-q", "--config", "silent.yaml"])
        .exits(3);
    moody.get_well();
    folder
        .datagen(RETRY)
        .args(["-q", "--config", "same.yaml"])
        .exits(0);
    for asked in &moody.server.asked()[hits..] {
        assert_eq!(
            (&asked.body["seed"], &asked.body["stop"]),
            (&json!(1), &json!(["a", "b"]))
        );
    }
}

#[test]
fn rows_and_folder_are_those_of_the_run() {
    let folder = Folder::offline();
    folder.datagen(["run", "-q"]).exits(0);
    let other = ["--set", "output_data.output_dir=elsewhere"];
    assert_snapshot!(folder.datagen(RETRY).args(other).exits(2).shown(), @"
    exit 2
    --- stderr
    error: `--set output_data.output_dir` says nothing to a retry: rows and folder are those of the run
      hint: leave it out; `datagen run` takes rows from elsewhere or writes to another folder
    ");
}

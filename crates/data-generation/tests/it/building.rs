//! Building: which value wins, and what is refused.

use data_generation::settings::{OutputSettings, Provider};
use data_generation::{DataGenerationPipeline, Error};
use serde_json::json;

use crate::harness::Home;

fn template(home: &Home) -> std::path::PathBuf {
    home.file(
        "config.yaml",
        r#"
model:
  provider: openai
  api_key: sk-from-the-file
  base_url: https://api.openai.com/v1
  model: "gpt-4o-2024-11-20"
  rate_limit: 20
  max_tokens: 5012
  temperature: 0.7

prompts:
  system_prompt_path: "prompts/system_prompts/default.txt"
  user_prompt_path: "prompts/user_prompts/default.txt"

output_data:
  output_dir: "output"
  experiment_name: "initial_test"
  need_time_stamp: true
"#,
    )
}

#[test]
fn the_template_s_own_file_loads_unchanged_and_its_key_is_held_back() {
    let home = Home::new();
    let pipeline = DataGenerationPipeline::builder()
        .environment(std::iter::empty())
        .config_file(template(&home))
        .system_prompt(None)
        .user_prompt("hi")
        .build()
        .unwrap();
    let settings = pipeline.settings();
    assert_eq!(json!(settings.model.rate_limit), 20);
    assert_eq!(settings.model.api_key, None);
    pipeline.check_model().unwrap();
    let shown: String = pipeline
        .origins()
        .iter()
        .map(|(key, value, origin)| format!("{key} {value} {origin}\n"))
        .collect();
    assert!(
        !shown.contains("sk-from-the-file")
            && !format!("{settings:?}").contains("sk-from-the-file")
    );
}

#[test]
fn a_call_for_one_value_wins_over_one_for_its_group_in_whatever_order() {
    let home = Home::new();
    let group = || OutputSettings {
        output_dir: "there".into(),
        experiment_name: "demo_test".into(),
        need_time_stamp: true,
    };
    let builder = || {
        DataGenerationPipeline::builder()
            .environment(std::iter::empty())
            .system_prompt(None)
            .user_prompt("hi")
    };
    let before = builder()
        .config_file(template(&home))
        .need_time_stamp(false)
        .output_data(group())
        .build()
        .unwrap();
    let after = builder()
        .config_file(template(&home))
        .output_data(group())
        .need_time_stamp(false)
        .build()
        .unwrap();
    for pipeline in [before, after] {
        let output = &pipeline.settings().output_data;
        assert_eq!(
            *output,
            OutputSettings {
                need_time_stamp: false,
                ..group()
            }
        );
        assert_eq!(
            pipeline
                .origins()
                .of("output_data.need_time_stamp")
                .to_string(),
            "in code"
        );
    }
}

#[test]
fn every_layer_wins_over_the_one_below_it() {
    let home = Home::new();
    let file = home.file(
        "config.yaml",
        "model: {temperature: 0.1, model: from-file, max_tokens: 1, rate_limit: 1}",
    );
    let variables = [
        ("DATAGEN_MODEL__MODEL", "from-env"),
        ("DATAGEN_MODEL__MAX_TOKENS", "2"),
        ("DATAGEN_MODEL__RATE_LIMIT", "2"),
    ];
    let pipeline = home
        .builder()
        .config_file(file)
        .environment(variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .rate_limit(Some(4))
        .assignment("model.max_tokens=3")
        .assignment("model.rate_limit=3")
        .build()
        .unwrap();
    let model = &pipeline.settings().model;
    assert_eq!(model.provider, Provider::OpenAi);
    assert_eq!(
        (model.temperature, model.model.as_str(), model.max_tokens),
        (Some(0.1), "from-env", Some(3))
    );
    assert_eq!(json!(model.rate_limit), 4);
    let origin = |key: &str| pipeline.origins().of(key).to_string();
    assert!(origin("model.temperature").ends_with("config.yaml:1"));
    assert_eq!(
        origin("model.model"),
        "environment variable DATAGEN_MODEL__MODEL"
    );
    assert_eq!(origin("model.max_tokens"), "--set model.max_tokens");
    assert_eq!(origin("model.base_url"), "default");
}

#[test]
fn fields_added_one_by_one_come_together() {
    let home = Home::new();
    let pipeline = home
        .builder()
        .extra("top_p", 0.9)
        .extra("seed", 7)
        .build()
        .unwrap();
    assert_eq!(
        serde_json::to_string(&pipeline.settings().model.extra).unwrap(),
        r#"{"top_p":0.9,"seed":7}"#
    );
}

#[test]
fn all_faults_of_a_file_are_told_at_once() {
    let home = Home::new();
    let file = home.file(
        "config.yaml",
        "model:\n  temprature: 1\n  rate_limit: -3\nrun:\n  concurrency_limit: 0\n",
    );
    let Err(Error::Config(error)) = home.builder().config_file(file).build() else {
        panic!("refused")
    };
    let text = error.to_string();
    assert_eq!(error.faults().len(), 3, "{text}");
    assert!(
        text.contains("config.yaml:2: unknown key `model.temprature`; did you mean `temperature`?"),
        "{text}"
    );
    assert!(
        text.contains("config.yaml:3") && text.contains("config.yaml:5"),
        "{text}"
    );
}

#[test]
fn values_out_of_their_range_are_refused() {
    let home = Home::new();
    for (key, value) in [
        ("offline.error_rate", json!(1.5)),
        ("run.sync_ms", json!(501)),
        ("model.timeouts.total_s", json!(0.0)),
        ("run.retry.max_attempts", json!(0)),
        ("run.retry.base_delay_s", json!(-1.0)),
    ] {
        let error = home.builder().set(key, value).build().err().unwrap();
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[test]
fn an_extractor_that_cannot_work_is_refused_before_anything_is_asked() {
    let home = Home::new();
    for spec in ["regex:(", "tag:", "tag:a b", "jsn"] {
        assert!(
            matches!(
                home.builder().set("run.extract", spec).build(),
                Err(Error::Extract(_))
            ),
            "{spec}"
        );
    }
}

#[test]
fn faults_of_settings_prompts_and_extractor_are_told_together_also_offline() {
    let home = Home::new();
    let error = home
        .builder()
        .offline()
        .temperature(0.5)
        .set("model.extra", json!({"temperature": 1, "stream": true}))
        .user_prompt("{{#if}}")
        .set("run.extract", "regex:(")
        .experiment_name("../x")
        .build()
        .err()
        .unwrap()
        .to_string();
    for part in [
        "`temperature`, which is also set",
        "`stream`",
        "user prompt",
        "regex:(",
        "../x",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

//! What is written wrong in a configuration, in the environment, on the command line: told before anything
//! is sent, with its place and its cure.

use insta::assert_snapshot;

use crate::harness::Folder;
use crate::server::Server;

/// What a run says to a mistake; it must have sent nothing and made no folder.
#[track_caller]
fn said<const N: usize>(
    mistake: impl FnOnce(Folder) -> Folder,
    arguments: [&str; N],
    environment: &[(&str, &str)],
) -> String {
    let server = Server::echoing();
    let folder = mistake(Folder::asking(&server));
    let mut run = folder.datagen(["run"]).args(arguments);
    for (name, value) in environment {
        run = run.env(name, value);
    }
    let shown = run.end().shown();
    assert_eq!(server.hits(), 0, "nothing may be sent: {shown}");
    assert!(!folder.exists("output/demo"), "nothing was begun: {shown}");
    shown
}

fn nothing(folder: Folder) -> Folder {
    folder
}

#[test]
fn a_configuration_that_is_not_there() {
    assert_snapshot!(said(nothing, ["--config", "cofnig.yaml"], &[]), @"
    exit 2
    --- stderr
    error: cofnig.yaml: no such file (a relative path starts at the working directory)
    ");
}

#[test]
fn a_wrong_key_is_named_with_its_line_and_the_nearest_right_one() {
    let mistake = |folder: Folder| folder.edit("config.yaml", "  model: tiny", "  modle: tiny");
    assert_snapshot!(said(mistake, [], &[]), @"
    exit 2
    --- stderr
    error: config.yaml:4: unknown key `model.modle`; did you mean `model`?
    ");
}

#[test]
fn all_faults_are_told_at_once() {
    let mistake = |folder: Folder| {
        folder
            .edit(
                "config.yaml",
                "  model: tiny",
                "  model: tiny\n  temperture: 0.7\n  max_tokens: many",
            )
            .edit(
                "config.yaml",
                "need_time_stamp: false",
                "need_time_stamp: maybe",
            )
    };
    let environment = [("DATAGEN_RUN__CONCURRENCY_LIMIT", "0")];
    assert_snapshot!(said(mistake, ["--set", "run.retry.max_attempt=3"], &environment), @"
    exit 2
    --- stderr
    error: config.yaml:5: unknown key `model.temperture`; did you mean `temperature`?
      config.yaml:6: `model.max_tokens`: found the string `many`, expected a whole number from 0 to 4294967295
      config.yaml:9: `output_data.need_time_stamp`: found the string `maybe`, expected `true` or `false`
      environment variable DATAGEN_RUN__CONCURRENCY_LIMIT: `run.concurrency_limit`: found the number `0`, expected a whole number, 1 or more, or `auto`
      --set run.retry.max_attempt: unknown key `run.retry.max_attempt`; did you mean `run.retry.max_attempts`?
    ");
}

#[test]
fn a_word_that_a_setting_does_not_know() {
    assert_snapshot!(said(nothing, ["--set", "run.durability=eech"], &[]), @"
    exit 2
    --- stderr
    error: --set run.durability: `run.durability`: found `eech`, expected `group` or `each`; did you mean `each`?
    ");
}

#[test]
fn yaml_that_is_none() {
    let mistake =
        |folder: Folder| folder.edit("config.yaml", "  model: tiny", "  model: tiny\n\tkey: 1");
    assert_snapshot!(said(mistake, [], &[]), @"
    exit 2
    --- stderr
    error: config.yaml:5:1: not valid YAML: found a tab character that violates indentation
    ");
}

#[test]
fn a_key_that_stands_twice() {
    let mistake = |folder: Folder| {
        folder.edit(
            "config.yaml",
            "  model: tiny",
            "  model: tiny\n  model: large",
        )
    };
    assert_snapshot!(said(mistake, [], &[]), @"
    exit 2
    --- stderr
    error: config.yaml:5: key `model.model` is there twice, first on line 4
    ");
}

#[test]
fn a_name_both_in_extra_and_beside_it() {
    let mistake = |folder: Folder| {
        folder.edit(
            "config.yaml",
            "  model: tiny",
            "  model: tiny\n  extra: {temperature: 0}",
        )
    };
    assert_snapshot!(said(mistake, [], &[]), @"
    exit 2
    --- stderr
    error: `model.extra` (config.yaml:5) holds `temperature`, which is also set beside it; take one of them out
    ");
}

#[test]
fn a_key_variable_that_is_not_set_or_empty() {
    let mistake =
        |folder: Folder| folder.edit("config.yaml", "api_key_env: null", "api_key_env: MY_KEY");
    let missing = said(mistake, [], &[]);
    assert_snapshot!(missing, @"
    exit 2
    --- stderr
    error: the environment variable MY_KEY (model.api_key_env, config.yaml:3) is not set or empty; set it to the key of http://127.0.0.1:[PORT]/v1, or set model.api_key_env to null for an endpoint that wants no key, or try things out with `--set model.provider=offline`
    ");
    assert_eq!(said(mistake, [], &[("MY_KEY", "")]), missing);
    assert_eq!(
        said(mistake, [], &[("OPENAI_API_KEY", "sk-another")]),
        missing
    );
}

#[test]
fn the_default_variable_is_missed_where_openai_is_asked() {
    let mistake = |folder: Folder| {
        let config = folder.read("config.yaml");
        let ours = config
            .lines()
            .filter(|line| !line.contains("base_url") && !line.contains("api_key"));
        let config = ours.collect::<Vec<_>>().join("\n");
        folder.file("config.yaml", config)
    };
    assert_snapshot!(said(mistake, [], &[]), @"
    exit 2
    --- stderr
    error: the environment variable OPENAI_API_KEY (model.api_key_env, default) is not set or empty; set it to the key of https://api.openai.com/v1, or set model.api_key_env to null for an endpoint that wants no key, or try things out with `--set model.provider=offline`
    ");
}

#[test]
fn a_key_that_is_still_the_placeholder() {
    let mistake =
        |folder: Folder| folder.edit("config.yaml", "api_key_env: null", "api_key: your_api_key");
    assert_snapshot!(said(mistake, [], &[]), @"
    exit 2
    --- stderr
    error: model.api_key (config.yaml:3) is still the placeholder; put your key there, or name an environment variable in model.api_key_env
    ");
}

#[test]
fn a_key_in_the_address() {
    let queried = |folder: Folder| folder.edit("config.yaml", "/v1", "/v1?api_key=sk-Rk5vQz81bW");
    let shown = said(queried, [], &[]);
    assert!(!shown.contains("12345678"), "{shown}");
    assert_snapshot!(shown, @"
    exit 2
    --- stderr
    error: `model.base_url` (config.yaml:2) holds a secret in its query (`api_key=`); use `api_key_env` or `headers`
    ");

    let named = |folder: Folder| folder.edit("config.yaml", "http://", "http://me:sk-Rk5vQz81bW@");
    let shown = said(named, [], &[]);
    assert!(!shown.contains("12345678"), "{shown}");
    assert_snapshot!(shown, @"
    exit 2
    --- stderr
    error: `model.base_url` (config.yaml:2) holds a user name or password before `127.0.0.1`; use `api_key_env` or `headers`
    ");
}

#[test]
fn a_key_over_plain_http_to_another_machine() {
    let far = [
        "--set",
        "model.base_url=http://llm.example/v1",
        "--set",
        "model.api_key=sk-Rk5vQz81bW",
    ];
    let shown = said(nothing, far, &[]);
    assert!(!shown.contains("12345678"), "{shown}");
    assert_snapshot!(shown, @"
    exit 2
    --- stderr
    error: `model.base_url` (--set model.base_url) would send a secret unencrypted; use https, or set `allow_http: true`
    ");
}

#[test]
fn an_address_that_is_none_or_has_too_much() {
    assert_snapshot!(said(nothing, ["--set", "model.base_url=localhost"], &[]), @"
    exit 2
    --- stderr
    error: `model.base_url` (--set model.base_url) is no URL (relative URL without a base); write it like `https://api.openai.com/v1`
    ");
    assert_snapshot!(said(nothing, ["--set", "model.base_url=http://127.0.0.1:1/v1/chat/completions"], &[]), @"
    exit 2
    --- stderr
    error: `model.base_url` (--set model.base_url) ends in `/chat/completions`, which is added to it; take that off
    ");
}

#[test]
fn a_setting_on_the_command_line_that_is_none() {
    assert_snapshot!(said(nothing, ["--set", "model.temprature=1"], &[]), @"
    exit 2
    --- stderr
    error: --set model.temprature: unknown key `model.temprature`; did you mean `model.temperature`?
    ");
    assert_snapshot!(said(nothing, ["--set", "temperature=1"], &[]), @"
    exit 2
    --- stderr
    error: --set temperature: unknown key `temperature`; did you mean `model.temperature`?
    ");
    assert_snapshot!(said(nothing, ["--set", "model.temperature"], &[]), @"
    exit 2
    --- stderr
    error: --set: no `=` in it; write `model.temperature=VALUE`
    ");
    assert_snapshot!(said(nothing, ["--set", "model.temperature=hot"], &[]), @"
    exit 2
    --- stderr
    error: --set model.temperature: `model.temperature`: found the string `hot`, expected a number
    ");
    assert_snapshot!(said(nothing, ["--concurrency", "0"], &[]), @"
    exit 2
    --- stderr
    error: --concurrency: `run.concurrency_limit`: found the number `0`, expected a whole number, 1 or more, or `auto`
    ");
}

#[test]
fn a_name_that_leaves_the_output_folder() {
    assert_snapshot!(said(nothing, ["--set", "output_data.experiment_name=../x"], &[]), @"
    exit 2
    --- stderr
    error: `output_data.experiment_name` (--set output_data.experiment_name) cannot be used: the name `../x` begins with a dot; use letters, digits, `.`, `_` and `-`, not a dot first
    ");
    let long = format!("output_data.experiment_name={}", "x".repeat(300));
    assert_snapshot!(said(nothing, ["--set", &long], &[]), @"
    exit 2
    --- stderr
    error: `output_data.experiment_name` (--set output_data.experiment_name) cannot be used: the name `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx` has 300 characters; 200 is the most; use letters, digits, `.`, `_` and `-`, not a dot first
    ");
    for name in ["", "/tmp/x", "a/b", ".hidden", "a b"] {
        let shown = said(
            nothing,
            ["--set", &format!("output_data.experiment_name={name}")],
            &[],
        );
        assert!(shown.starts_with("exit 2\n"), "{name:?}: {shown}");
    }
}

#[test]
fn an_extractor_that_is_none() {
    assert_snapshot!(said(nothing, ["--extract", "tag"], &[]), @"
    exit 2
    --- stderr
    error: extractor `tag`: there is no such extractor; there are none, tag:NAME[:all|first|last], regex:PATTERN, json
    ");
    assert_snapshot!(said(nothing, ["--extract", "jsn"], &[]), @"
    exit 2
    --- stderr
    error: extractor `jsn`: there is no such extractor; there are none, tag:NAME[:all|first|last], regex:PATTERN, json
    ");
    assert_snapshot!(said(nothing, ["--extract", "regex:(a"], &[]), @"
    exit 2
    --- stderr
    error: extractor `regex:(a`: the pattern does not compile (at character 3)
      caused by: opening parenthesis without closing parenthesis
    ");
}

#[test]
fn a_log_level_that_is_none() {
    assert_snapshot!(said(nothing, ["--set", "logging.level=loud"], &[]), @"
    exit 2
    --- stderr
    error: `logging.level` (--set logging.level) is `loud`; it is one of off, error, warn, info, debug, trace
    ");
}

#[test]
fn a_limit_that_is_none() {
    assert_snapshot!(said(nothing, ["--set", "model.rate_limit=fast"], &[]), @"
        exit 2
        --- stderr
        error: --set model.rate_limit: `model.rate_limit`: found the string `fast`, expected a number of requests a minute above 0, `auto` or null
        ");
    assert_snapshot!(said(nothing, ["--set", "model.rate_limit=0"], &[]), @"
        exit 2
        --- stderr
        error: --set model.rate_limit: `model.rate_limit`: found the number `0`, expected a number of requests a minute above 0, `auto` or null
        ");
    assert_snapshot!(said(nothing, ["--set", "limits.requests_per_hour=5"], &[]), @"
        exit 2
        --- stderr
        error: --set limits.requests_per_hour: unknown key `limits.requests_per_hour`; did you mean `limits.requests_per_day`?
        ");
}

#[test]
fn a_wrong_variable_of_the_environment_is_named() {
    let environment = [("DATAGEN_MODEL__TEMPRATURE", "1")];
    assert_snapshot!(said(nothing, [], &environment), @"
    exit 2
    --- stderr
    error: environment variable DATAGEN_MODEL__TEMPRATURE: unknown key `model.temprature`; did you mean `DATAGEN_MODEL__TEMPERATURE`?
    ");
}

#[test]
fn a_variable_without_a_double_underscore_is_one_warning() {
    let folder = Folder::offline();
    let ended = folder
        .datagen(["run"])
        .env("DATAGEN_TEMPERATURE", "0.2")
        .exits(0);
    assert_snapshot!(ended.shown(), @"
    exit 0
    --- stderr
    warning: environment variable DATAGEN_TEMPERATURE: not configuration, as it has no double underscore; the nearest key is `DATAGEN_MODEL__TEMPERATURE`
    making output/demo (offline: no model is asked): 3 of 3 rows to do
    finished (offline: no model was asked): 3 rows = 3 ok + 0 failed + 0 done before + 0 pending
      requests  3 (0 retries)
      tokens    15 prompt + 39 completion
      time      [TIME], [SPEED]
      result    output/demo/result.jsonl
    ");
}

#[test]
fn the_environment_wins_over_the_file_and_the_command_line_over_both() {
    let temperature = |arguments: &[&str], environment: &[(&str, &str)]| {
        let folder = Folder::offline().edit(
            "config.yaml",
            "{provider: offline}",
            "{provider: offline, temperature: 0.1}",
        );
        let mut run = folder.datagen(["check"]);
        for argument in arguments {
            run = run.args([*argument]);
        }
        for (name, value) in environment {
            run = run.env(name, value);
        }
        let ended = run.exits(0);
        let line = ended
            .stdout
            .lines()
            .find(|line| line.contains("model.temperature"));
        line.unwrap()
            .split_whitespace()
            .skip(1)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let variable = [("DATAGEN_MODEL__TEMPERATURE", "0.2")];
    assert_eq!(temperature(&[], &[]), "0.1 config.yaml:1");
    assert_eq!(
        temperature(&[], &variable),
        "0.2 environment variable DATAGEN_MODEL__TEMPERATURE"
    );
    assert_eq!(
        temperature(&["--set", "model.temperature=0.3"], &variable),
        "0.3 --set model.temperature"
    );
}

//! What somebody does in the first five minutes.

use insta::assert_snapshot;

use crate::harness::Folder;

#[test]
fn two_commands_make_a_dataset_and_a_third_makes_nothing_twice() {
    let folder = Folder::new();
    assert_snapshot!(folder.datagen(["init", "demo"]).end().shown(), @"
    exit 0
    --- stderr
    wrote demo/config.yaml
    wrote demo/prompts/system.txt
    wrote demo/prompts/user.txt
    wrote demo/rows.jsonl

    `cd demo && datagen run` makes a dataset from rows.jsonl, offline and without a key.
    config.yaml says how to ask a real model instead.
    ");
    assert_snapshot!(folder.datagen(["run"]).within("demo").end().shown(), @"
    exit 0
    --- stderr
    making output/first_try (offline: no model is asked): 5 of 5 rows to do
    finished (offline: no model was asked): 5 rows = 5 ok + 0 failed + 0 done before + 0 pending
      requests  5 (0 retries)
      tokens    183 prompt + 132 completion
      time      [TIME], [SPEED]
      result    output/first_try/result.jsonl
    ");
    let dataset = folder.read("demo/output/first_try/result.jsonl");
    let records = folder.lines("demo/output/first_try/result.jsonl");
    assert_eq!(records.len(), 5);
    for record in records {
        assert!(record["offline"].as_bool().unwrap(), "{record}");
        assert!(!record["extracted"][0].as_str().unwrap().is_empty());
    }
    assert_eq!(folder.read("demo/output/first_try/failures.jsonl"), "");

    assert_snapshot!(folder.datagen(["run"]).within("demo").end().shown(), @"
    exit 0
    --- stderr
    going on with output/first_try (offline: no model is asked): 0 of 5 rows to do
    finished (offline: no model was asked): 5 rows = 0 ok + 0 failed + 5 done before + 0 pending
      requests  0 (0 retries)
      tokens    0 prompt + 0 completion
      time      [TIME]
      result    output/first_try/result.jsonl
    ");
    assert_eq!(folder.read("demo/output/first_try/result.jsonl"), dataset);
}

#[test]
fn init_overwrites_nothing_and_then_writes_nothing() {
    let folder = Folder::new()
        .file("demo/rows.jsonl", "mine\n")
        .file("demo/prompts/user.txt", "mine too\n");
    assert_snapshot!(folder.datagen(["init", "demo"]).end().shown(), @"
    exit 2
    --- stderr
    error: there already: demo/prompts/user.txt, demo/rows.jsonl; nothing was written
      hint: name another folder: `datagen init FOLDER`
    ");
    assert_eq!(folder.all_files().len(), 2);
    assert_eq!(folder.read("demo/rows.jsonl"), "mine\n");
}

#[test]
fn init_without_a_name_writes_here_and_what_it_writes_is_in_order() {
    let folder = Folder::new();
    let ended = folder.datagen(["init"]).exits(0);
    assert!(
        ended.stderr.contains("`datagen run` makes a dataset"),
        "{}",
        ended.stderr
    );
    let checked = folder.datagen(["check"]).exits(0);
    assert_eq!(checked.stderr, "", "no warning");
    assert!(checked.stdout.contains("all is well; no request was sent"));
}

#[test]
fn init_where_no_folder_can_be_made_says_so() {
    let folder = Folder::new().file("file", "");
    assert_snapshot!(folder.datagen(["init", "file/demo"]).end().shown(), @"
    exit 74
    --- stderr
    error: could not write file/demo/config.yaml
      caused by: Not a directory (os error [N])
    ");
}

#[test]
fn help_names_the_commands_the_way_to_begin_and_the_exit_codes() {
    assert_snapshot!(Folder::new().datagen(["--help"]).end().shown(), @"
        exit 0
        --- stdout
        datagen: datasets from prompts and rows with large language models, from the command line.

        Usage: datagen <COMMAND>

        Commands:
          init     Writes a working configuration (offline), prompts and rows to start from
          check    Shows the configuration with where each value comes from, the prompts, and checks every
                   row. Sends nothing
          preview  Shows the exact messages of the first rows. Sends nothing
          run      Makes the dataset; the same command again goes on where it stopped
          ctl      Changes a run while it works, from another terminal
          extract  Makes the dataset of a run again from the answers that it holds, with another extractor.
                   Sends nothing
          retry    Asks again for the failed rows of a run, all of them or those of some classes
          status   Tells how a run stands, what failed and why, what it cost, where the time went and how to
                   go on. Only reads
          help     Print this message or the help of the given subcommand(s)

        Options:
          -h, --help     Print help
          -V, --version  Print version

        To begin: `datagen init demo && cd demo && datagen run` makes a dataset offline, without a key.

        Exit codes:
          0    all rows are in the dataset
          1    unexpected: a defect of this program
          2    something to change in command, configuration, prompts or rows; nothing was sent
          3    finished, some rows failed (after a retry: or are pending)
          4    the provider refused in a way that no retry cures
          74   the operating system refused a read or a write
          75   try again later
          130  interrupted
        ");
}

#[test]
fn help_of_run_explains_every_flag() {
    assert_snapshot!(Folder::new().datagen(["run", "--help"]).end().shown(), @"
        exit 0
        --- stdout
        Makes the dataset; the same command again goes on where it stopped

        Usage: datagen run [OPTIONS]

        Options:
              --config <FILE>          The configuration; without it config/config.yaml or config.yaml,
                                       where one exists
              --data <FILE>            The rows, one JSON object a line; `-` for standard input. Overrides
                                       input_data.path
              --set <KEY=VALUE>        One value of the configuration, such as model.temperature=0.2; may be
                                       repeated
              --extract <SPEC>         What to take out of each answer: none, tag:NAME[:all|first|last],
                                       regex:PATTERN or json
              --concurrency <N|auto>   Requests at the same time, or `auto` for as many as give the most
                                       throughput. Overrides run.concurrency_limit
              --limit <N>              Only the first N rows of the input, done or not
              --resume [<DIR|latest>]  Goes on with an old run: its folder, or `latest` for the one that was
                                       started last
              --new                    Begins afresh. Nothing is deleted: an old folder in the way is moved
                                       aside
              --fork <NAME>            Works on a copy called NAME that keeps every answer whose request is
                                       unchanged
              --add                    Adds these rows to a run that has none of them
              --repair                 Moves damaged lines of the run's files aside (to .damaged-TIME.jsonl)
                                       and makes their rows again, from the journal where it still has their
                                       answers
              --skip-invalid           Rows that do not fit the prompts fail alone, instead of stopping
                                       everything before the first request
              --json                   Prints the summary as one line of JSON on standard output
          -q, --quiet                  Prints nothing but errors
          -h, --help                   Print help
        ");
}

#[test]
fn help_of_the_other_commands_is_short() {
    assert_snapshot!(Folder::new().datagen(["check", "-h"]).end().shown(), @"
    exit 0
    --- stdout
    Shows the configuration with where each value comes from, the prompts, and checks every row. Sends
    nothing

    Usage: datagen check [OPTIONS]

    Options:
          --config <FILE>    The configuration; without it config/config.yaml or config.yaml, where one
                             exists
          --data <FILE>      The rows, one JSON object a line; `-` for standard input. Overrides
                             input_data.path
          --set <KEY=VALUE>  One value of the configuration, such as model.temperature=0.2; may be
                             repeated
          --extract <SPEC>   What to take out of each answer: none, tag:NAME[:all|first|last],
                             regex:PATTERN or json
      -h, --help             Print help
    ");
    assert_snapshot!(Folder::new().datagen(["preview", "-h"]).end().shown(), @"
    exit 0
    --- stdout
    Shows the exact messages of the first rows. Sends nothing

    Usage: datagen preview [OPTIONS]

    Options:
          --config <FILE>    The configuration; without it config/config.yaml or config.yaml, where one
                             exists
          --data <FILE>      The rows, one JSON object a line; `-` for standard input. Overrides
                             input_data.path
          --set <KEY=VALUE>  One value of the configuration, such as model.temperature=0.2; may be
                             repeated
      -n <ROWS>              How many rows [default: 3]
      -h, --help             Print help
    ");
    assert_snapshot!(Folder::new().datagen(["init", "-h"]).end().shown(), @"
    exit 0
    --- stdout
    Writes a working configuration (offline), prompts and rows to start from

    Usage: datagen init [DIR]

    Arguments:
      [DIR]  The folder to write to; it may exist, files in it are never overwritten [default: .]

    Options:
      -h, --help  Print help
    ");
}

#[test]
fn the_version_is_one_line_on_standard_output() {
    let ended = Folder::new().datagen(["--version"]).exits(0);
    let version = format!("datagen {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        (version.as_str(), "")
    );
}

#[test]
fn without_a_command_the_help_is_shown_as_an_error() {
    let ended = Folder::new().datagen([]).exits(2);
    assert_eq!(ended.stdout, "");
    assert!(
        ended.stderr.contains("Usage: datagen <COMMAND>"),
        "{}",
        ended.stderr
    );
}

#[test]
fn an_unknown_command_or_flag_is_refused_with_the_nearest_one() {
    assert_snapshot!(Folder::new().datagen(["rum"]).end().shown(), @"
    exit 2
    --- stderr
    error: unrecognized subcommand 'rum'

      tip: a similar subcommand exists: 'run'

    Usage: datagen <COMMAND>

    For more information, try '--help'.
    ");
    assert_snapshot!(Folder::offline().datagen(["run", "--concurency", "3"]).end().shown(), @"
    exit 2
    --- stderr
    error: unexpected argument '--concurency' found

      tip: a similar argument exists: '--concurrency'

    Usage: datagen run --concurrency <N|auto>

    For more information, try '--help'.
    ");
}

#[test]
fn without_a_configuration_every_command_says_how_to_get_one() {
    let folder = Folder::new();
    assert_snapshot!(folder.datagen(["run"]).end().shown(), @"
    exit 2
    --- stderr
    error: there is no config/config.yaml and no config.yaml here
      hint: name one with `--config FILE`, or make one with `datagen init`
    ");
    for command in ["check", "preview"] {
        let ended = folder.datagen([command]).exits(2);
        assert!(ended.stderr.contains("`datagen init`"), "{}", ended.stderr);
    }
    assert!(folder.all_files().is_empty());
}

#[test]
fn the_configuration_in_the_folder_config_is_found_before_the_one_beside_it() {
    let folder = Folder::offline().file("config.yaml", "nonsense: true");
    folder.datagen(["run"]).exits(2);
    let config = "model: {provider: offline}\n\
                  prompts: {system_prompt_path: null, user_prompt_path: user.txt}\n\
                  logging: {dir: null}\n";
    folder.write("config/config.yaml", config);
    folder.datagen(["run", "--data", "rows.jsonl"]).exits(0);
}

#[test]
fn the_file_of_the_python_template_loads_unchanged() {
    let config = "\
model:
  provider: openai
  api_key: a-key-that-is-secret
  base_url: https://api.openai.com/v1
  model: \"gpt-4o-2024-11-20\"
  rate_limit: 20
  max_tokens: 5012
  temperature: 0.7

prompts:
  system_prompt_path: \"prompts/system_prompts/default.txt\"
  user_prompt_path: \"prompts/user_prompts/default.txt\"

output_data:
  output_dir: \"output\"
  experiment_name: \"initial_test\"
  need_time_stamp: true
";
    let row = r#"{"user_prompt_kwargs": {"topic": "人工智能"}, "system_prompt_kwargs": {"tone": "专业"}}"#;
    let folder = Folder::new()
        .file("config.yaml", config)
        .file("prompts/system_prompts/default.txt", "{{tone}}")
        .file("prompts/user_prompts/default.txt", "{{topic}}")
        .file("rows.jsonl", row);
    let checked = folder.datagen(["check", "--data", "rows.jsonl"]).exits(0);
    assert_eq!(checked.stderr, "");
    assert!(!checked.stdout.contains("a-key-that-is-secret"));

    let offline = [
        "run",
        "--data",
        "rows.jsonl",
        "--set",
        "model.provider=offline",
    ];
    folder.datagen(offline).exits(0);
    let stamps = folder.names("output/initial_test");
    assert_eq!(stamps.len(), 1);
    let records = folder.lines(&format!("output/initial_test/{}/result.jsonl", stamps[0]));
    assert_eq!(records[0]["input"]["system_prompt_kwargs"]["tone"], "专业");
}

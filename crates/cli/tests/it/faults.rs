//! What people see of the faults of an endpoint: one of each kind, with the exit code and both summaries.

use data_generation_fault_server::{Fault, FaultServer, Plan, Times, Who};
use insta::assert_snapshot;

use crate::harness::{Folder, rows};

/// Who of so many rows, 0, 1, 2, .., meets what, always; everything that is printed, one row at work.
#[track_caller]
fn shown(fault: &str, who: Who, count: usize, settings: &[&str], exit: i32) -> String {
    let times = Times::Always;
    let fault = Fault::named(fault).unwrap();
    let server = FaultServer::start_blocking(Plan::good().fault(fault, who, times)).unwrap();
    let folder = Folder::asking_at(server.url()).file("rows.jsonl", rows(count));
    let run = folder.datagen(["run", "--json", "--concurrency", "1"]);
    let run = settings
        .iter()
        .fold(run, |run, setting| run.args(["--set", *setting]));
    run.exits(exit).shown()
}

#[test]
fn a_mark_of_an_odd_answer_is_no_fault() {
    let shown = shown("finish-unknown", Who::Row(1), 4, &[], 0);
    assert_snapshot!(shown, @r#"
        exit 0
        --- stdout
        {"run_dir":"output/demo","rows":4,"ok":4,"failed":0,"skipped":0,"pending":0,"not_in_input":0,"requests":4,"retries":0,"prompt_tokens":20,"completion_tokens":32,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":null}
        --- stderr
        making output/demo: 4 of 4 rows to do
        finished: 4 rows = 4 ok + 0 failed + 0 done before + 0 pending
          requests  4 (0 retries)
          tokens    20 prompt + 32 completion
          time      [TIME], [SPEED]
          result    output/demo/result.jsonl
        "#);
}

#[test]
fn a_fault_that_does_not_pass_costs_its_row() {
    let shown = shown("server-error", Who::Row(1), 4, &[], 3);
    assert_snapshot!(shown, @r#"
        exit 3
        --- stdout
        {"run_dir":"output/demo","rows":4,"ok":3,"failed":1,"skipped":0,"pending":0,"not_in_input":0,"requests":9,"retries":5,"prompt_tokens":15,"completion_tokens":24,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":null}
        --- stderr
        making output/demo: 4 of 4 rows to do
        row 2 failed: server_error: status 500: The server had an error while processing your request (given up at request 6)
        finished, with failed rows: 4 rows = 3 ok + 1 failed + 0 done before + 0 pending
          requests  9 (5 retries)
          tokens    15 prompt + 24 completion
          time      [TIME], [SPEED]
          result    output/demo/result.jsonl
          failures  output/demo/failures.jsonl
                    1 x server_error
        "#);
}

#[test]
fn a_row_that_is_put_off_for_ever_is_given_up() {
    let shown = shown(
        "retry-after-seconds",
        Who::Row(1),
        4,
        &["run.retry.max_row_s=2"],
        3,
    );
    assert_snapshot!(shown, @r#"
    exit 3
    --- stdout
    {"run_dir":"output/demo","rows":4,"ok":3,"failed":1,"skipped":0,"pending":0,"not_in_input":0,"requests":5,"retries":1,"prompt_tokens":15,"completion_tokens":24,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":null}
    --- stderr
    making output/demo: 4 of 4 rows to do
    row 2 failed: rate_limited: status 429: Rate limit reached for requests (given up at request 2: after another wait it would be older than `run.retry.max_row_s`, 2 s)
    finished, with failed rows: 4 rows = 3 ok + 1 failed + 0 done before + 0 pending
      requests  5 (1 retry)
      tokens    15 prompt + 24 completion
      time      [TIME], [SPEED]
      result    output/demo/result.jsonl
      failures  output/demo/failures.jsonl
                1 x rate_limited
    "#);
}

#[test]
fn a_filter_of_content_costs_its_row() {
    let shown = shown("content-filter", Who::Row(1), 4, &[], 3);
    assert_snapshot!(shown, @r#"
        exit 3
        --- stdout
        {"run_dir":"output/demo","rows":4,"ok":3,"failed":1,"skipped":0,"pending":0,"not_in_input":0,"requests":4,"retries":0,"prompt_tokens":15,"completion_tokens":24,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":null}
        --- stderr
        making output/demo: 4 of 4 rows to do
        row 2 failed: content_filter: status 400: The response was filtered due to the prompt triggering the content management policy.
        finished, with failed rows: 4 rows = 3 ok + 1 failed + 0 done before + 0 pending
          requests  4 (0 retries)
          tokens    15 prompt + 24 completion
          time      [TIME], [SPEED]
          result    output/demo/result.jsonl
          failures  output/demo/failures.jsonl
                    1 x content_filter
        "#);
}

#[test]
fn an_answer_cut_short_by_the_maximum_names_it() {
    let shown = shown("cut-at-max-tokens", Who::Row(1), 4, &[], 3);
    assert_snapshot!(shown, @r#"
        exit 3
        --- stdout
        {"run_dir":"output/demo","rows":4,"ok":3,"failed":1,"skipped":0,"pending":0,"not_in_input":0,"requests":4,"retries":0,"prompt_tokens":20,"completion_tokens":32,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":null}
        --- stderr
        making output/demo: 4 of 4 rows to do
        row 2 failed: cut_at_max_tokens: the answer was cut after 8 tokens; raise `model.max_tokens`
        finished, with failed rows: 4 rows = 3 ok + 1 failed + 0 done before + 0 pending
          requests  4 (0 retries)
          tokens    20 prompt + 32 completion
          time      [TIME], [SPEED]
          result    output/demo/result.jsonl
          failures  output/demo/failures.jsonl
                    1 x cut_at_max_tokens
        "#);
}

#[test]
fn an_answer_that_cannot_be_read_is_asked_for_three_times() {
    let shown = shown("json-cut", Who::Row(1), 4, &[], 3);
    assert_snapshot!(shown, @r#"
        exit 3
        --- stdout
        {"run_dir":"output/demo","rows":4,"ok":3,"failed":1,"skipped":0,"pending":0,"not_in_input":0,"requests":6,"retries":2,"prompt_tokens":30,"completion_tokens":24,"untold":3,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":null}
        --- stderr
        making output/demo: 4 of 4 rows to do
        row 2 failed: answer_cut_short: the answer ends in the middle (69 bytes) (given up at request 3)
        finished, with failed rows: 4 rows = 3 ok + 1 failed + 0 done before + 0 pending
          requests  6 (2 retries)
          tokens    about 30 prompt + 24 completion (3 answers do not say)
          time      [TIME], [SPEED]
          result    output/demo/result.jsonl
          failures  output/demo/failures.jsonl
                    1 x answer_cut_short
        "#);
}

#[test]
fn a_bomb_costs_its_row() {
    let shown = shown("gzip-bomb", Who::Row(1), 4, &[], 3);
    assert_snapshot!(shown, @r#"
        exit 3
        --- stdout
        {"run_dir":"output/demo","rows":4,"ok":3,"failed":1,"skipped":0,"pending":0,"not_in_input":0,"requests":4,"retries":0,"prompt_tokens":15,"completion_tokens":24,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":null}
        --- stderr
        making output/demo: 4 of 4 rows to do
        row 2 failed: answer_too_large: the answer of 127.0.0.1:[PORT] is larger than 32 MiB
        finished, with failed rows: 4 rows = 3 ok + 1 failed + 0 done before + 0 pending
          requests  4 (0 retries)
          tokens    15 prompt + 24 completion
          time      [TIME], [SPEED]
          result    output/demo/result.jsonl
          failures  output/demo/failures.jsonl
                    1 x answer_too_large
        "#);
}

#[test]
fn an_empty_account_stops_the_run_after_a_probe() {
    let shown = shown("insufficient-quota", Who::Row(1), 4, &[], 4);
    assert_snapshot!(shown, @r#"
    exit 4
    --- stdout
    {"run_dir":"output/demo","rows":4,"ok":1,"failed":0,"skipped":0,"pending":3,"not_in_input":0,"requests":3,"retries":1,"prompt_tokens":5,"completion_tokens":8,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":"status 429: You exceeded your current quota, please check your plan and billing details; top up the account that `model.api_key_env` belongs to, or use another key"}
    --- stderr
    making output/demo: 4 of 4 rows to do
    stopped: 4 rows = 1 ok + 0 failed + 0 done before + 3 pending
      requests  3 (1 retry)
      tokens    5 prompt + 8 completion
      time      [TIME], [SPEED]
      result    output/demo/result.jsonl
      stopped:  status 429: You exceeded your current quota, please check your plan and billing details; top up the account that `model.api_key_env` belongs to, or use another key
      to go on: the same command
    "#);
}

#[test]
fn an_error_inside_an_answer_stops_the_run_as_its_status_would() {
    let shown = shown("error-inside-401", Who::Every, 30, &[], 4);
    assert_snapshot!(shown, @r#"
        exit 4
        --- stdout
        {"run_dir":"output/demo","rows":30,"ok":0,"failed":0,"skipped":0,"pending":30,"not_in_input":0,"requests":1,"retries":0,"prompt_tokens":5,"completion_tokens":0,"untold":1,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":"status 200 with an error: No auth credentials found; check `model.api_key_env` (or `model.api_key`) and that the key belongs to `model.base_url`"}
        --- stderr
        making output/demo: 30 of 30 rows to do
        stopped: 30 rows = 0 ok + 0 failed + 0 done before + 30 pending
          requests  1 (0 retries)
          tokens    about 5 prompt + 0 completion (1 answer does not say)
          time      [TIME]
          result    output/demo/result.jsonl
          stopped:  status 200 with an error: No auth credentials found; check `model.api_key_env` (or `model.api_key`) and that the key belongs to `model.base_url`
          to go on: the same command
        "#);
}

#[test]
fn a_parameter_that_the_model_does_not_know_is_named_with_its_setting() {
    let shown = shown("max-tokens-unsupported", Who::Every, 30, &[], 4);
    assert_snapshot!(shown, @r#"
        exit 4
        --- stdout
        {"run_dir":"output/demo","rows":30,"ok":0,"failed":0,"skipped":0,"pending":30,"not_in_input":0,"requests":1,"retries":0,"prompt_tokens":0,"completion_tokens":0,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":"status 400: Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead; set `model.max_tokens: null` and `model.extra.max_completion_tokens` instead"}
        --- stderr
        making output/demo: 30 of 30 rows to do
        stopped: 30 rows = 0 ok + 0 failed + 0 done before + 30 pending
          requests  1 (0 retries)
          tokens    0 prompt + 0 completion
          time      [TIME]
          result    output/demo/result.jsonl
          stopped:  status 400: Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead; set `model.max_tokens: null` and `model.extra.max_completion_tokens` instead
          to go on: the same command
        "#);
}

#[test]
fn a_model_that_does_not_exist_is_named() {
    let shown = shown("model-not-found", Who::Every, 30, &[], 4);
    assert_snapshot!(shown, @r#"
        exit 4
        --- stdout
        {"run_dir":"output/demo","rows":30,"ok":0,"failed":0,"skipped":0,"pending":30,"not_in_input":0,"requests":1,"retries":0,"prompt_tokens":0,"completion_tokens":0,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":"status 404: The model `gpt-9` does not exist or you do not have access to it; check `model.model`"}
        --- stderr
        making output/demo: 30 of 30 rows to do
        stopped: 30 rows = 0 ok + 0 failed + 0 done before + 30 pending
          requests  1 (0 retries)
          tokens    0 prompt + 0 completion
          time      [TIME]
          result    output/demo/result.jsonl
          stopped:  status 404: The model `gpt-9` does not exist or you do not have access to it; check `model.model`
          to go on: the same command
        "#);
}

#[test]
fn a_redirect_is_named() {
    let shown = shown("redirect-307", Who::Every, 30, &[], 4);
    assert_snapshot!(shown, @r#"
        exit 4
        --- stdout
        {"run_dir":"output/demo","rows":30,"ok":0,"failed":0,"skipped":0,"pending":30,"not_in_input":0,"requests":1,"retries":0,"prompt_tokens":0,"completion_tokens":0,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":"status 307: a redirect to https://elsewhere.invalid/v1/chat/completions, which is never followed; write the final address into `model.base_url`"}
        --- stderr
        making output/demo: 30 of 30 rows to do
        stopped: 30 rows = 0 ok + 0 failed + 0 done before + 30 pending
          requests  1 (0 retries)
          tokens    0 prompt + 0 completion
          time      [TIME]
          result    output/demo/result.jsonl
          stopped:  status 307: a redirect to https://elsewhere.invalid/v1/chat/completions, which is never followed; write the final address into `model.base_url`
          to go on: the same command
        "#);
}

#[test]
fn a_daily_limit_says_when_to_come_back() {
    let shown = shown("daily-limit", Who::Row(1), 4, &[], 75);
    assert_snapshot!(shown, @r#"
        exit 75
        --- stdout
        {"run_dir":"output/demo","rows":4,"ok":1,"failed":0,"skipped":0,"pending":3,"not_in_input":0,"requests":2,"retries":0,"prompt_tokens":5,"completion_tokens":8,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":"status 429: Rate limit reached for gpt-4o on requests per day (RPD): Limit 200, Used 200. Please try again in 7m12s; come back after [TIME]"}
        --- stderr
        making output/demo: 4 of 4 rows to do
        stopped: 4 rows = 1 ok + 0 failed + 0 done before + 3 pending
          requests  2 (0 retries)
          tokens    5 prompt + 8 completion
          time      [TIME], [SPEED]
          result    output/demo/result.jsonl
          stopped:  status 429: Rate limit reached for gpt-4o on requests per day (RPD): Limit 200, Used 200. Please try again in 7m12s; come back after [TIME]
          to go on: the same command
        "#);
}

#[test]
fn an_endpoint_whose_gateway_is_alone_is_named() {
    let shown = shown("bad-gateway", Who::Every, 1, &[], 4);
    assert_snapshot!(shown, @r#"
    exit 4
    --- stdout
    {"run_dir":"output/demo","rows":1,"ok":0,"failed":0,"skipped":0,"pending":1,"not_in_input":0,"requests":3,"retries":2,"prompt_tokens":0,"completion_tokens":0,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":"127.0.0.1:[PORT]: status 502: an HTML page; check `model.base_url` and that the endpoint is up"}
    --- stderr
    making output/demo: 1 of 1 row to do
    stopped: 1 row = 0 ok + 0 failed + 0 done before + 1 pending
      requests  3 (2 retries)
      tokens    0 prompt + 0 completion
      time      [TIME]
      result    output/demo/result.jsonl
      stopped:  127.0.0.1:[PORT]: status 502: an HTML page; check `model.base_url` and that the endpoint is up
      to go on: the same command
    "#);
}

#[test]
fn an_endpoint_without_tls_is_named() {
    let shown = shown("not-tls", Who::Every, 30, &[], 4);
    assert_snapshot!(shown, @r#"
        exit 4
        --- stdout
        {"run_dir":"output/demo","rows":30,"ok":0,"failed":0,"skipped":0,"pending":30,"not_in_input":0,"requests":1,"retries":0,"prompt_tokens":0,"completion_tokens":0,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":"127.0.0.1:[PORT]: the TLS handshake failed: received corrupt message of type InvalidContentType; check that `model.base_url` names an https endpoint, and the proxy"}
        --- stderr
        making output/demo: 30 of 30 rows to do
        stopped: 30 rows = 0 ok + 0 failed + 0 done before + 30 pending
          requests  1 (0 retries)
          tokens    0 prompt + 0 completion
          time      [TIME]
          result    output/demo/result.jsonl
          stopped:  127.0.0.1:[PORT]: the TLS handshake failed: received corrupt message of type InvalidContentType; check that `model.base_url` names an https endpoint, and the proxy
          to go on: the same command
        "#);
}

#[test]
fn a_certificate_that_nobody_signed_is_named() {
    let shown = shown("bad-certificate", Who::Every, 30, &[], 4);
    assert_snapshot!(shown, @r#"
        exit 4
        --- stdout
        {"run_dir":"output/demo","rows":30,"ok":0,"failed":0,"skipped":0,"pending":30,"not_in_input":0,"requests":1,"retries":0,"prompt_tokens":0,"completion_tokens":0,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":"127.0.0.1:[PORT]: invalid peer certificate: UnknownIssuer; check the host name in `model.base_url`, the clock and the system's root certificates"}
        --- stderr
        making output/demo: 30 of 30 rows to do
        stopped: 30 rows = 0 ok + 0 failed + 0 done before + 30 pending
          requests  1 (0 retries)
          tokens    0 prompt + 0 completion
          time      [TIME]
          result    output/demo/result.jsonl
          stopped:  127.0.0.1:[PORT]: invalid peer certificate: UnknownIssuer; check the host name in `model.base_url`, the clock and the system's root certificates
          to go on: the same command
        "#);
}

#[test]
fn a_network_that_wants_a_log_in_is_named() {
    let shown = shown("captive-portal", Who::Every, 1, &[], 4);
    assert_snapshot!(shown, @r#"
    exit 4
    --- stdout
    {"run_dir":"output/demo","rows":1,"ok":0,"failed":0,"skipped":0,"pending":1,"not_in_input":0,"requests":3,"retries":2,"prompt_tokens":15,"completion_tokens":0,"untold":3,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":"127.0.0.1:[PORT]: an HTML page came instead of an answer (64 bytes); check `model.base_url` and whether this network wants a log-in"}
    --- stderr
    making output/demo: 1 of 1 row to do
    stopped: 1 row = 0 ok + 0 failed + 0 done before + 1 pending
      requests  3 (2 retries)
      tokens    about 15 prompt + 0 completion (3 answers do not say)
      time      [TIME]
      result    output/demo/result.jsonl
      stopped:  127.0.0.1:[PORT]: an HTML page came instead of an answer (64 bytes); check `model.base_url` and whether this network wants a log-in
      to go on: the same command
    "#);
}

#[test]
fn the_same_fault_of_every_row_stops_the_run() {
    let shown = shown("same-fault-for-all", Who::Every, 30, &[], 4);
    assert_snapshot!(shown, @r#"
        exit 4
        --- stdout
        {"run_dir":"output/demo","rows":30,"ok":0,"failed":20,"skipped":0,"pending":10,"not_in_input":0,"requests":20,"retries":0,"prompt_tokens":0,"completion_tokens":0,"untold":0,"wall_s":[TIME],"waited_s":[WAITED],"offline":false,"cut":0,"lost":0,"stopped":"all of the first 20 rows failed alike: bad_request: status 400: Jinja template error: roles must alternate; mend that and run again, which asks them anew, or set `run.stop_on_failures` to null to let such rows fail"}
        --- stderr
        making output/demo: 30 of 30 rows to do
        row 1 failed: bad_request: status 400: Jinja template error: roles must alternate
        row 2 failed: bad_request: status 400: Jinja template error: roles must alternate
        row 3 failed: bad_request: status 400: Jinja template error: roles must alternate
        stopped: 30 rows = 0 ok + 20 failed + 0 done before + 10 pending
          requests  20 (0 retries)
          tokens    0 prompt + 0 completion
          time      [TIME]
          result    output/demo/result.jsonl
          failures  output/demo/failures.jsonl
                    20 x bad_request
          stopped:  all of the first 20 rows failed alike: bad_request: status 400: Jinja template error: roles must alternate; mend that and run again, which asks them anew, or set `run.stop_on_failures` to null to let such rows fail
          to go on: the same command
        "#);
}

//! Limits that are set and shown while a run works.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use data_generation_fault_server::{FaultServer, Latency, Plan};
use insta::assert_snapshot;

use super::{RESULT, answers_at_once, ctl, settled, slow};
use crate::harness::{Folder, rows};
use crate::server::{Answer, Server};

#[test]
fn limits_of_other_times_are_changed_and_shown_too() {
    let (folder, mut run) = slow();
    run.until_lines(RESULT, 1);
    ctl(&folder, ["pause"]).exits(0);
    let more = [
        "set",
        "limits.requests_per_second=30",
        "tokens_per_day=900000",
        "rate_limit=auto",
    ];
    let told = ctl(&folder, more).exits(0).stderr;
    assert_snapshot!(settled(&told), @"
    rate_limit auto, token_limit null, concurrency_limit 2
    kept: 30 requests a second, 900000 tokens a day
    ");
    let less = [
        "set",
        "limits.requests_per_second=null",
        "rate_limit=600",
        "tokens_per_day=null",
    ];
    let told = ctl(&folder, less).exits(0).stderr;
    assert_snapshot!(settled(&told), @"rate_limit 600, token_limit null, concurrency_limit 2");
    let told = ctl(&folder, ["set", "rate_limit=auto"]).exits(0).stderr;
    assert_snapshot!(settled(&told), @"
    rate_limit auto, token_limit null, concurrency_limit 2
    no limits are kept
    ");
    ctl(&folder, ["drain"]).exits(0);
    let said = run.exits(130).stderr;
    assert!(
        said.contains("limits.requests_per_second is 30") && said.contains("rate_limit is auto"),
        "{said}"
    );
}

#[test]
fn an_endpoint_that_announces_no_limits_is_told_of_once() {
    let plan = Plan::good().latency(Latency::Fixed(Duration::from_millis(20)));
    let server = FaultServer::start_blocking(plan).unwrap();
    let folder = Folder::asking_at(server.url()).file("rows.jsonl", rows(40));
    let set = "model.rate_limit=auto";
    let ended = folder.datagen(["run", "--set", set]).exits(0).stderr;
    let warning = "no_limits_announced: the endpoint announces no limits, none is kept; `model.rate_limit` sets one";
    assert_eq!(ended.matches(warning).count(), 1, "{ended}");
}

#[test]
fn numbers_that_cannot_be_set_are_refused_in_the_right_words() {
    let folder = Folder::offline();
    let told = |value: &str| {
        let said = ctl(&folder, ["set", value]).exits(2).stderr;
        said.trim().to_owned()
    };
    assert_snapshot!(told("rate_limit=99999999999"), @"error: rate_limit: 99999999999 is more than can be set, 4294967295; null takes the limit away");
    assert_snapshot!(told("tokens_per_day=99999999999999999999"), @"error: tokens_per_day: 99999999999999999999 is more than can be set, 18446744073709551615; null takes the limit away");
    assert_snapshot!(told("rate_limit=0"), @"error: rate_limit: 0 would let nothing leave; `datagen ctl pause` does that, and null takes the limit away");
    assert_snapshot!(told("limits.tokens_per_day=1.5"), @"error: limits.tokens_per_day: `1.5` is neither a whole number above 0 nor null");
}

#[test]
fn a_limit_that_is_set_twice_in_one_order_is_not_set_at_all() {
    let (folder, mut run) = slow();
    run.until_lines(RESULT, 1);
    let told = |values: [&str; 3]| {
        let said = ctl(&folder, ["set"]).args(values).exits(2).stderr;
        said.trim().to_owned()
    };
    assert_snapshot!(told(["rate_limit=5", "rate_limit=7", "burst=2"]), @"error: rate_limit is set twice, by `rate_limit=5` and by `rate_limit=7`: leave one of them out");
    assert_snapshot!(told(["rate_limit=5", "token_limit=9", "model.rate_limit=5"]), @"error: rate_limit is set twice, by `rate_limit=5` and by `model.rate_limit=5`: leave one of them out");
    assert_snapshot!(told(["burst=2", "concurrency=3", "run.concurrency_limit=auto"]), @"error: concurrency_limit is set twice, by `concurrency=3` and by `run.concurrency_limit=auto`: leave one of them out");
    assert_snapshot!(told(["tokens_per_day=3", "burst=2", "limits.tokens_per_day=null"]), @"error: tokens_per_day is set twice, by `tokens_per_day=3` and by `limits.tokens_per_day=null`: leave one of them out");
    let shown = ctl(&folder, ["show"]).exits(0).stderr;
    assert_snapshot!(settled(&shown), @"rate_limit null, token_limit null, concurrency_limit 2");
    ctl(&folder, ["drain"]).exits(0);
    run.exits(130);
}

#[test]
fn a_burst_is_changed_and_shown_and_with_whom_limits_are_shared_is_not() {
    let (folder, mut run) = slow();
    run.until_lines(RESULT, 1);
    ctl(&folder, ["pause"]).exits(0);
    let told = |value: &str| {
        let told = ctl(&folder, ["set", value]).exits(0).stderr;
        settled(&told)
    };
    assert_snapshot!(told("limits.burst=5"), @"
    rate_limit null, token_limit null, concurrency_limit 2
    burst 5
    ");
    assert_snapshot!(told("tokens_per_day=900000"), @"
    rate_limit null, token_limit null, concurrency_limit 2
    kept: 900000 tokens a day; burst 5
    ");
    assert_snapshot!(told("burst=1"), @"
    rate_limit null, token_limit null, concurrency_limit 2
    kept: 900000 tokens a day
    ");
    assert_snapshot!(ctl(&folder, ["set", "limits.share=true"]).exits(2).shown(), @"
    exit 2
    --- stderr
    error: `limits.share` is fixed for a run: with whom it keeps its limits is known when it begins
      hint: `datagen ctl drain` ends it; then go on with `--set limits.share=true` or `false`
    ");
    ctl(&folder, ["drain"]).exits(0);
    let said = run.exits(130).stderr;
    assert!(said.contains("limits.burst is 5"), "{said}");
}

#[test]
fn limits_that_the_endpoint_announces_are_shown() {
    let server = Server::start(|_| {
        Answer::good("fine")
            .header("x-ratelimit-limit-requests", "600")
            .header("x-ratelimit-remaining-requests", "599")
            .header("x-ratelimit-reset-requests", "100ms")
            .header("x-ratelimit-limit-tokens", "90000")
            .header("x-ratelimit-remaining-tokens", "89988")
            .header("x-ratelimit-reset-tokens", "8ms")
    });
    for rate in ["auto", "6000"] {
        let folder = Folder::asking(&server).file("rows.jsonl", rows(400));
        let set = format!("model.rate_limit={rate}");
        let mut run = folder.datagen(["run", "--set", &set]).start();
        run.until_lines(RESULT, 2);
        let shown = ctl(&folder, ["show"]).exits(0).stderr;
        let expected = format!(
            "rate_limit {rate}, token_limit null, concurrency_limit 5\nkept: 600 requests a minute, 90000 tokens a minute"
        );
        assert_eq!(settled(&shown), expected);
        ctl(&folder, ["drain"]).exits(0);
        run.exits(130);
    }
}

#[test]
fn a_limit_that_is_set_while_a_run_works_counts_what_was_sent_before_also_by_earlier_commands() {
    let server = Server::start(|_| Answer::good("fine").after(Duration::from_millis(20)));
    let logged = "logging: {dir: logs}";
    let folder = Folder::asking(&server).file("rows.jsonl", rows(400)).edit(
        "config.yaml",
        "logging: {dir: null}",
        logged,
    );
    folder.datagen(["run", "--limit", "20"]).exits(0);
    for setting in ["limits.requests_per_day=25", "limits.tokens_per_day=60"] {
        let before = server.hits();
        let mut run = folder.datagen(["run", "--concurrency", "2"]).start();
        run.until("something was sent", |_| server.hits() > before + 5);
        ctl(&folder, ["pause"]).exits(0);
        run.until("the answers under way", |_| {
            let shown = ctl(&folder, ["show"]).exits(0);
            shown.stderr.contains("paused, 0 in flight")
        });
        let sent = server.hits();
        let counted = || {
            let name = format!("logs/{}", folder.names("logs")[0]);
            let line = "what was sent before counts against the limits";
            folder.read(&name).matches(line).count()
        };
        let looked = counted();
        ctl(&folder, ["set", setting]).exits(0);
        run.until("it has looked back", |_| counted() > looked);
        ctl(&folder, ["resume"]).exits(0);
        let said = run.exits(75).stderr;
        assert!(
            said.contains(" a day is used up; come back after"),
            "{said}"
        );
        assert_eq!(server.hits(), sent, "{setting}");
    }
}

#[test]
fn answers_of_a_clock_that_was_ahead_are_told_in_the_log_where_a_limit_is_set_while_a_run_works() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let server = Server::start(move |asked| {
        if asked.nth >= 3 {
            released.lock().unwrap().recv().unwrap_err();
        }
        Answer::good("fine")
    });
    let logged = "logging: {dir: logs}";
    let folder = Folder::asking(&server).file("rows.jsonl", rows(4)).edit(
        "config.yaml",
        "logging: {dir: null}",
        logged,
    );
    folder.datagen(["run", "--limit", "3"]).exits(0);
    let journal = "output/demo/journal.jsonl";
    let ahead = folder.lines(journal).into_iter().map(|line| {
        let at = line["at"].as_str().unwrap();
        (at.to_owned(), "2126-01-01T00:00:00.000Z")
    });
    let text = ahead.fold(folder.read(journal), |text, (at, ahead)| {
        text.replace(&at, ahead)
    });
    folder.write(journal, text);
    let mut run = folder.datagen(["run"]).start();
    run.until("one more is under way", |_| server.hits() == 4);
    ctl(&folder, ["set", "limits.requests_per_day=100"]).exits(0);
    run.until("the log says it", |_| {
        let name = format!("logs/{}", folder.names("logs")[0]);
        let says = "3 of the answers that were kept before have times that are still to come";
        folder.read(&name).contains(says)
    });
    drop(release);
    run.exits(0);
}

#[test]
fn what_was_set_ends_with_the_command_and_is_told_with_how_to_keep_it() {
    let (folder, mut run) = slow();
    run.until_lines(RESULT, 1);
    let told = ctl(&folder, ["set", "rate_limit=12", "concurrency=1"])
        .exits(0)
        .stderr;
    let keep = "--set model.rate_limit=12 --set run.concurrency_limit=1";
    assert!(
        told.contains(&format!(
            "until this command ends; whoever goes on later keeps it with `{keep}`"
        )),
        "{told}"
    );
    ctl(&folder, ["drain"]).exits(0);
    let said = run.exits(130).stderr;
    let ended = format!(
        "what `datagen ctl` set ended with its command; with `{keep}` the next one keeps it"
    );
    assert!(
        said.contains(&format!("to go on: the same command\n            {ended}")),
        "{said}"
    );
    let status = || {
        folder
            .datagen(["status", "--run", "output/demo"])
            .exits(0)
            .stdout
    };
    let shown = status();
    assert!(
        shown.contains(&format!("`datagen ctl` set while it worked: {keep}")),
        "{shown}"
    );
    assert!(shown.contains(&ended), "{shown}");
    folder.datagen(["run"]).exits(0);
    assert!(!status().contains(&ended), "it is over");
}

#[test]
fn a_limit_that_is_set_while_a_run_works_counts_what_is_under_way() {
    let (server, release) = answers_at_once(6);
    let folder = Folder::asking(&server).file("rows.jsonl", rows(40)).edit(
        "config.yaml",
        "logging: {dir: null}",
        "logging: {dir: logs}",
    );
    let mut run = folder.datagen(["run", "--concurrency", "2"]).start();
    run.until("two are held", |_| server.hits() == 8);
    run.until_lines(RESULT, 6);
    ctl(&folder, ["set", "limits.requests_per_day=8"]).exits(0);
    run.until("it has looked back", |_| {
        let name = format!("logs/{}", folder.names("logs")[0]);
        let line = "what was sent before counts against the limits";
        folder.read(&name).contains(line)
    });
    drop(release);
    let said = run.exits(75).stderr;
    assert!(said.contains(" a day is used up"), "{said}");
    assert_eq!(server.hits(), 8);
}

#[test]
fn the_reply_tells_the_wait_as_it_is_after_the_change() {
    let server = Server::start(|_| Answer::good("fine"));
    let folder = Folder::asking(&server).file("rows.jsonl", rows(30));
    let limited = ["run", "--concurrency", "8", "--set", "model.rate_limit=6"];
    let mut run = folder.datagen(limited).start();
    let set = |value: &str| ctl(&folder, ["set", value]).exits(0).stderr;
    run.until_lines(RESULT, 1);
    run.until("the wait", |_| {
        let shown = ctl(&folder, ["show"]).exits(0).stderr;
        shown.contains("wait for the limit of 6 requests a minute")
    });
    let told = set("rate_limit=4");
    assert!(
        told.contains("wait for the limit of 4 requests a minute"),
        "{told}"
    );
    // What was sent before is read beside the run, so it may be later that this one is waited for.
    set("token_limit=1");
    run.until("the other limit", |_| {
        let shown = ctl(&folder, ["show"]).exits(0).stderr;
        shown.contains("wait for the limit of 1 token a minute")
    });
    let told = set("token_limit=null");
    assert!(
        told.contains("wait for the limit of 4 requests a minute"),
        "{told}"
    );
    let told = set("rate_limit=auto");
    assert!(!told.contains("a minute"), "{told}");
    let told = set("rate_limit=6");
    assert!(!told.contains("the first answer will tell"), "{told}");
    run.signal(rustix::process::Signal::INT);
    run.exits(130);
}

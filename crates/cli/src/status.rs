//! `datagen status`: what became of a run, and how to go on.

use std::path::Path;
use std::process::ExitCode;

use data_generation::pipeline::{Command, State, Status as Found, Times, tokens_in_words};
use serde_json::{Value, json};

use crate::args::Status;
use crate::failure::Failure;
use crate::go_on::{self, GoOn, arguments};
use crate::output::{self, counted, quoted};

/// Classes for which another extractor may help.
const OF_THE_EXTRACTOR: [&str; 3] = ["extraction_miss", "extractor_error", "regex_limit"];
/// Classes that say something about the row itself: whoever asks again gets the same.
const OF_THE_INPUT: [&str; 2] = ["invalid_row", "row_too_large"];

pub(crate) fn run(status: &Status) -> Result<ExitCode, Failure> {
    let found = data_generation::status(&status.run)?;
    if status.json {
        output::data(&as_json(&found).to_string());
    } else {
        as_text(&found).iter().for_each(|line| output::data(line));
    }
    Ok(ExitCode::SUCCESS)
}

fn as_text(found: &Found) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", found.run_dir.display(), headline(found))];
    let mut part = |name: &str, text: String| lines.push(format!("  {name:9} {text}"));
    let pending = match found.pending {
        Some(pending) => format!("{pending} pending"),
        None => "nobody knows how many are pending".to_owned(),
    };
    let input = match found.manifest.input.rows {
        Some(rows) => {
            let part = part_of_the_input(found, rows)
                .map(|part| format!(", of which the last run took the first {part}"));
            format!("; the last input has {rows}{}", part.unwrap_or_default())
        }
        None => String::new(),
    };
    part(
        "rows",
        format!(
            "{} ok + {} failed, {pending}{input}",
            found.ok, found.failed
        ),
    );
    let labels = |name| std::iter::once(name).chain(std::iter::repeat(""));
    for ((class, count), label) in found.classes.iter().zip(labels("classes")) {
        part(label, format!("{count} x {class}"));
    }
    for ((message, count), label) in found.messages.iter().zip(labels("messages")) {
        part(label, format!("{count} x \"{message}\""));
    }
    let unjudged = match found.unjudged {
        0 => "all of them judged".to_owned(),
        some => format!("{some} of them not judged yet"),
    };
    part(
        "answers",
        format!("{} in the journal, {unjudged}", found.answers),
    );
    part(
        "tokens",
        tokens_in_words(found.prompt_tokens, found.completion_tokens, found.untold),
    );
    if let Some(latencies) = &found.latencies {
        part(
            "latency",
            format!(
                "median {} ms, 95 of 100 within {} ms, 99 within {} ms; of the answers, {} % came at a later try",
                latencies.median_ms,
                latencies.p95_ms,
                latencies.p99_ms,
                percent(found.re_asks, found.answers)
            ),
        );
    }
    if let Some(times) = found.manifest.times() {
        for (line, label) in times.to_string().lines().zip(labels("time")) {
            part(label, line.to_owned());
        }
        if let Some(again) = asked_again(&times) {
            part("again", again);
        }
    }
    for command in &found.manifest.commands {
        part("command", told(command));
        if let Some(set) = go_on::set(command) {
            part("", format!("`datagen ctl` set while it worked: {set}"));
        }
    }
    if found.put_in_place {
        part(
            "note",
            "new files wait to be put in their places; the next command does it".to_owned(),
        );
    }
    for path in &found.torn {
        part(
            "note",
            format!(
                "the last line of {} is torn; the next command mends it",
                path.display()
            ),
        );
    }
    for damage in &found.damage {
        part("damage", damage.clone());
    }
    let untold = found.damaged_lines - found.damage.len() as u64;
    if untold > 0 {
        part("damage", format!("and {untold} more"));
    }
    let ways = how_to_go_on(found);
    if !ways.is_empty()
        && let Some(what) = GoOn::with(&found.manifest, &found.run_dir).of_what_was_set()
    {
        part("note", what);
    }
    for (what, command) in ways {
        part("go on", format!("{what}: {command}"));
    }
    lines
}

/// What was sent again and why, most first.
fn asked_again(times: &Times) -> Option<String> {
    let mut classes: Vec<(&String, &u64)> = times.asked_again.iter().collect();
    classes.sort_by_key(|(_, requests)| std::cmp::Reverse(**requests));
    let all = classes.iter().map(|(_, requests)| **requests).sum();
    let classes = classes
        .iter()
        .map(|(class, requests)| format!("{requests} after {class}"));
    let classes: Vec<String> = classes.collect();
    let requests = counted(
        all,
        "request was sent once more",
        "requests were sent once more",
    );
    (all > 0).then(|| format!("{requests}: {}", classes.join(", ")))
}

/// How it stands, in a line. A command on rows of the folder that was stopped takes nothing back of a run that is
/// finished, and is told all the same.
fn headline(found: &Found) -> String {
    let text = state(&found.state);
    let last = found.manifest.commands.last();
    match last.and_then(|last| Some((last, last.stopped.as_ref()?))) {
        Some((last, why)) if found.state == State::Finished => {
            let name = arguments(&last.what).and_then(|words| words.get(1).cloned());
            let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
            format!("{text}; its last command{name} was stopped: {why}")
        }
        _ => text,
    }
}

/// How many rows the last run took of its input, where it did not take all of them.
fn part_of_the_input(found: &Found, rows: u64) -> Option<u64> {
    let command = found.manifest.last_through_an_input()?;
    let known = command.ended.is_some() || command.counts.rows > 0;
    let took = known.then_some(command.counts.rows).or(command.takes)?;
    (took < rows).then_some(took)
}

fn state(state: &State) -> String {
    match state {
        State::Running { holder } => format!("running ({holder})"),
        State::Finished => "finished".to_owned(),
        State::Stopped { why } => format!("stopped: {why}"),
        State::Killed => "killed: its last command did not come to its end".to_owned(),
        _ => "in a state of a later version".to_owned(),
    }
}

/// One command in a line: when, how long, what it made.
fn told(command: &Command) -> String {
    let time = match command.wall() {
        Some(wall) => format!("{} s", wall.as_secs()),
        None => "no end".to_owned(),
    };
    let counts = command.counts;
    let made = format!(
        "{} ok, {} failed of {}",
        counts.ok,
        counts.failed,
        counted(counts.rows, "row", "rows")
    );
    // A command at work and one that was killed are known as of their last checkpoint.
    let made = match (&command.ended, counts.rows) {
        (Some(_), _) => made,
        (None, 0) => "nothing noted of it yet".to_owned(),
        (None, _) => format!("{made} at its last checkpoint"),
    };
    let end = command
        .stopped
        .as_ref()
        .map(|why| format!("; stopped: {why}"));
    format!(
        "{} ({time}) {}: {made}{}",
        command.started,
        shown(&command.what).unwrap_or_else(|| "in code".to_owned()),
        end.unwrap_or_default()
    )
}

fn percent(part: u64, whole: u64) -> String {
    let share = part as f64 * 100.0 / whole.max(1) as f64;
    format!("{share:.1}")
}

/// What the next commands can be, exactly as they are typed, and what each does.
fn how_to_go_on(found: &Found) -> Vec<(String, String)> {
    let dir = quoted(&found.run_dir.display().to_string());
    let mut ways = Vec::new();
    if matches!(found.state, State::Running { .. }) {
        return ways;
    }
    let go_on = GoOn::with(&found.manifest, &found.run_dir);
    if found.damaged_lines > 0 {
        // Nothing else works before.
        let what = go_on.told("mend it and make the rest");
        return vec![(what, go_on.repairing())];
    }
    let unfinished = !found.manifest.is_finished() || found.pending.is_some_and(|rows| rows > 0);
    if unfinished {
        ways.push((go_on.told(MAKE_THE_REST), go_on.command()));
    }
    let rows = found.manifest.input.rows;
    if rows.is_some_and(|rows| part_of_the_input(found, rows).is_some())
        && let Some(command) = go_on.without_limit()
    {
        ways.push((go_on.told("make the whole input"), command));
    }
    // It costs nothing, so it comes before what is paid for.
    if found
        .classes
        .iter()
        .any(|(class, _)| OF_THE_EXTRACTOR.contains(&class.as_str()))
    {
        ways.push((
            "try another extractor on the answers, without a request".to_owned(),
            format!("datagen extract --run {dir} --extract SPEC"),
        ));
    }
    let (of_the_input, others): (Vec<_>, Vec<_>) = found
        .classes
        .iter()
        .partition(|(class, _)| OF_THE_INPUT.contains(&class.as_str()));
    if !others.is_empty() {
        ways.push((
            "ask again for what failed".to_owned(),
            format!("datagen retry --run {dir}"),
        ));
    }
    if let [(class, _), _, ..] = &others[..] {
        ways.push((
            "or for the commonest of it".to_owned(),
            format!("datagen retry --run {dir} --class {}", quoted(class)),
        ));
    }
    if !of_the_input.is_empty() {
        let rows = of_the_input.iter().map(|(_, rows)| rows).sum();
        let what = format!(
            "mend {} in the input and run again",
            counted(rows, "row", "rows")
        );
        ways.push((go_on.told(&what), go_on.command()));
    }
    ways
}

const MAKE_THE_REST: &str = "make the rest";

/// What makes the rows of the last input that are pending, and what it does; `None` where nothing does, or where
/// nobody can tell.
pub(crate) fn rest(dir: &Path) -> Option<(String, String)> {
    let found = data_generation::status(dir).ok()?;
    how_to_go_on(&found)
        .into_iter()
        .find(|(what, _)| what.starts_with(MAKE_THE_REST))
}

fn shown(what: &Value) -> Option<String> {
    let words = arguments(what)?;
    Some(
        words
            .iter()
            .map(|word| quoted(word))
            .collect::<Vec<_>>()
            .join(" "),
    )
}

fn as_json(found: &Found) -> Value {
    let counted = |list: &[(String, u64)], name: &str| -> Vec<Value> {
        let entry = |(text, count): &(String, u64)| json!({name: text, "rows": count});
        list.iter().map(entry).collect()
    };
    let (kind, why) = match &found.state {
        State::Running { holder } => ("running", Some(holder)),
        State::Stopped { why } => ("stopped", Some(why)),
        State::Killed => ("killed", None),
        _ => ("finished", None),
    };
    let commands = found.manifest.commands.iter().map(|command| {
        json!({
            "what": command.what,
            "started": command.started,
            "ended": command.ended,
            "wall_s": command.wall().map(|wall| wall.as_secs()),
            "counts": command.counts,
            "stopped": command.stopped,
            "times": command.times,
            "set": command.steered,
        })
    });
    let go_on = how_to_go_on(found)
        .into_iter()
        .map(|(what, command)| json!({"what": what, "command": command}));
    json!({
        "run_dir": found.run_dir,
        "state": kind,
        "why": why,
        "ok": found.ok,
        "failed": found.failed,
        "pending": found.pending,
        "input_rows": found.manifest.input.rows,
        "classes": counted(&found.classes, "class"),
        "messages": counted(&found.messages, "message"),
        "answers": found.answers,
        "unjudged": found.unjudged,
        "re_asks": found.re_asks,
        "prompt_tokens": found.prompt_tokens,
        "completion_tokens": found.completion_tokens,
        "untold": found.untold,
        "latency_ms": found.latencies.map(|latencies| json!({
            "median": latencies.median_ms,
            "p95": latencies.p95_ms,
            "p99": latencies.p99_ms,
            "sum": latencies.sum_ms,
        })),
        "times": found.manifest.times(),
        "commands": commands.collect::<Vec<_>>(),
        "put_in_place": found.put_in_place,
        "torn": found.torn,
        "damaged_lines": found.damaged_lines,
        "damage": found.damage,
        "go_on": go_on.collect::<Vec<_>>(),
    })
}

//! `datagen status`: what became of a run, and how to go on.

use std::process::ExitCode;

use data_generation::pipeline::{Command, State, Status as Found};
use serde_json::{Value, json};

use crate::args::Status;
use crate::failure::Failure;
use crate::output;

/// Classes for which another extractor may help.
const OF_THE_EXTRACTOR: &str = "extract";

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
    let mut lines = vec![format!(
        "{}: {}",
        found.run_dir.display(),
        state(&found.state)
    )];
    let mut part = |name: &str, text: String| lines.push(format!("  {name:9} {text}"));
    let pending = match found.pending {
        Some(pending) => format!("{pending} pending"),
        None => "nobody knows how many are pending".to_owned(),
    };
    let input = match found.manifest.input.rows {
        Some(rows) => format!("; the last input has {rows}"),
        None => String::new(),
    };
    part(
        "rows",
        format!(
            "{} ok + {} failed, {pending}{input}",
            found.ok, found.failed
        ),
    );
    for (class, count) in &found.classes {
        part("", format!("{count} x {class}"));
    }
    for (message, count) in &found.messages {
        part("", format!("{count} x \"{message}\""));
    }
    let unjudged = match found.unjudged {
        0 => "all of them judged".to_owned(),
        some => format!("{some} of them not judged yet"),
    };
    part(
        "answers",
        format!("{} in the journal, {unjudged}", found.answers),
    );
    let untold = match found.untold {
        0 => String::new(),
        some => format!(" ({some} answers do not say)"),
    };
    part(
        "tokens",
        format!(
            "{} prompt + {} completion{untold}",
            found.prompt_tokens, found.completion_tokens
        ),
    );
    if let Some(latencies) = &found.latencies {
        part(
            "latency",
            format!(
                "median {} ms, 95 of 100 within {} ms, 99 within {} ms; {} % asked again",
                latencies.median_ms,
                latencies.p95_ms,
                latencies.p99_ms,
                percent(found.re_asks, found.answers)
            ),
        );
    }
    for command in &found.manifest.commands {
        part("command", told(command));
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
    for (what, command) in how_to_go_on(found) {
        part("go on", format!("{what}: {command}"));
    }
    lines
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
    let end = command
        .stopped
        .as_ref()
        .map(|why| format!("; stopped: {why}"));
    format!(
        "{} ({time}) {}: {} ok, {} failed of {} rows{}",
        command.started,
        shown(&command.what).unwrap_or_else(|| "in code".to_owned()),
        counts.ok,
        counts.failed,
        counts.rows,
        end.unwrap_or_default()
    )
}

fn percent(part: u64, whole: u64) -> String {
    let share = part as f64 * 100.0 / whole.max(1) as f64;
    format!("{share:.1}")
}

/// What the next commands can be, exactly as they are typed, and what each does.
fn how_to_go_on(found: &Found) -> Vec<(&'static str, String)> {
    let dir = quoted(&found.run_dir.display().to_string());
    let mut ways = Vec::new();
    if matches!(found.state, State::Running { .. }) {
        return ways;
    }
    let through = found.manifest.last_through_an_input();
    let again = through.map_or_else(
        || "the program that made it, once more".to_owned(),
        |command| again(found, command, &dir),
    );
    if found.damaged_lines > 0 {
        // Nothing else works before.
        return vec![("mend it and make the rest", format!("{again} --repair"))];
    }
    let unfinished = !found.manifest.is_finished() || found.pending.is_some_and(|rows| rows > 0);
    if unfinished {
        ways.push(("make the rest", again));
    }
    if found.failed > 0 {
        ways.push((
            "ask again for what failed",
            format!("datagen retry --run {dir}"),
        ));
    }
    if let [(class, _), _, ..] = &found.classes[..] {
        ways.push((
            "or for the commonest of it",
            format!("datagen retry --run {dir} --class {}", quoted(class)),
        ));
    }
    if found
        .classes
        .iter()
        .any(|(class, _)| class.starts_with(OF_THE_EXTRACTOR))
    {
        ways.push((
            "try another extractor on the answers",
            format!("datagen extract --run {dir} --extract SPEC"),
        ));
    }
    ways
}

/// The command that worked through the input, so that it goes on here.
fn again(found: &Found, command: &Command, dir: &str) -> String {
    let Some(words) = arguments(&command.what) else {
        return "the program that made it, once more".to_owned();
    };
    let stamped = found.manifest.settings.get("output_data.need_time_stamp");
    let stamped = stamped.is_none_or(|setting| setting.value != json!(false));
    let chose = words
        .iter()
        .any(|word| word.starts_with("--resume") || word.starts_with("--fork"));
    let words: Vec<String> = without_choice(&words)
        .iter()
        .map(|word| quoted(word))
        .collect();
    let words = words.join(" ");
    if stamped || chose {
        format!("{words} --resume {dir}")
    } else {
        words
    }
}

/// The command without what says which folder.
fn without_choice(words: &[String]) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--new" => {}
            "--fork" => drop(words.next()),
            "--resume" => drop(words.next_if(|next| !next.starts_with('-'))),
            other if other.starts_with("--fork=") || other.starts_with("--resume=") => {}
            _ => kept.push(word.clone()),
        }
    }
    kept
}

/// The words of a command, where it was a command line.
fn arguments(what: &Value) -> Option<Vec<String>> {
    let words = what
        .as_array()?
        .iter()
        .map(|word| word.as_str().map(str::to_owned));
    let mut words = words.collect::<Option<Vec<String>>>()?;
    // Where the program lies is of no interest.
    *words.first_mut()? = "datagen".to_owned();
    Some(words)
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

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
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
        "commands": commands.collect::<Vec<_>>(),
        "put_in_place": found.put_in_place,
        "torn": found.torn,
        "damaged_lines": found.damaged_lines,
        "damage": found.damage,
        "go_on": go_on.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_as_a_shell_needs_it() {
        assert_eq!(quoted("output/demo-1_2.x"), "output/demo-1_2.x");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn what_chooses_a_folder_is_left_out_of_the_command_that_goes_on() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (typed, kept) in [
            ("datagen run --new --limit 3", "datagen run --limit 3"),
            ("datagen run --fork x --json", "datagen run --json"),
            ("datagen run --resume --json", "datagen run --json"),
            ("datagen run --resume output/x --json", "datagen run --json"),
            ("datagen run --resume=latest", "datagen run"),
        ] {
            assert_eq!(without_choice(&words(typed)), words(kept), "{typed}");
        }
    }
}

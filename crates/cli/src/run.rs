//! `datagen run`.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use data_generation::pipeline::Manifest;
use data_generation::settings::ConcurrencyLimit;
use data_generation::{
    DataGenerationPipeline, Error, Event, Report, Resume, RunBuilder, Steering, StopHandle,
    StopKind,
};
use rustix::fs::Mode;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::args::Run;
use crate::control::{self, Wheel};
use crate::failure::Failure;
use crate::go_on::GoOn;
use crate::log::Log;
use crate::output::{self, counted};
use crate::progress::{DRAW_EVERY, Screen};
use crate::{exit, files, pipeline, signals};

pub(crate) fn run(run: &Run) -> Result<ExitCode, Failure> {
    // Rows, answers and logs are nobody else's business on a machine with several users.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let mut builder = pipeline::builder(&run.inputs)?;
    if let Some(spec) = &run.extract {
        builder = builder.flag("run.extract", "--extract", spec);
    }
    if let Some(concurrency) = &run.concurrency {
        let value = number_or_word(concurrency);
        builder = builder.flag("run.concurrency_limit", "--concurrency", value);
    }
    if run.skip_invalid {
        builder = builder.flag("run.skip_invalid", "--skip-invalid", true);
    }
    let built = pipeline::build(builder)?;
    let job = configured(run, built.run(built.input()?));
    let manner = Manner {
        json: run.json,
        quiet: run.quiet,
        go_on: how_to_go_on,
        told: Report::to_string,
        changed: None,
    };
    carry_out(&built, job, &manner)
}

/// How a run is shown.
pub(crate) struct Manner {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    /// The command that goes on where this one stopped.
    pub(crate) go_on: fn(&Report) -> String,
    /// What it came to, for people.
    pub(crate) told: fn(&Report) -> String,
    /// What to do where the settings are no longer those of the dataset; `None` where it is as in a run.
    pub(crate) changed: Option<&'static str>,
}

/// A run from the start of its log to its exit code.
pub(crate) fn carry_out<'a>(
    built: &'a DataGenerationPipeline,
    job: RunBuilder<'a>,
    manner: &Manner,
) -> Result<ExitCode, Failure> {
    let log = Log::start(&built.settings().logging)?;
    let screen = Screen::new(manner.quiet, built.is_offline());
    let room = files::room(built.is_offline());

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("could not start", &error))?;
    let (stop, steering) = (StopHandle::new(), Steering::new());
    screen.steered_by(steering.clone());
    let (opened, folder) = watch::channel(None);
    let job = within(&room, built, job, &screen)
        .stop_handle(&stop)
        .steering(&steering)
        .observer(screen.clone())
        .observer(move |event: &Event<'_>| {
            if let Event::Started { run_dir, .. } = event {
                opened.send_replace(Some(run_dir.to_path_buf()));
            }
        });
    let wheel = Arc::new(Wheel {
        steering,
        stop: stop.clone(),
        screen: screen.clone(),
        room,
    });
    let drain = Duration::from_secs(built.settings().run.drain_s);
    let outcome = runtime.block_on(async {
        // Before the run writes its first byte.
        let signals = signals::watch(stop, drain, &screen)?;
        tokio::select! {
            outcome = job => Ok(outcome),
            () = signals => unreachable!("signals do not end"),
            () = drawing(&screen) => unreachable!("drawing does not end"),
            never = steered(folder, wheel) => match never {},
        }
    });
    // A thread that still reads standard input must not keep us here.
    runtime.shutdown_background();
    screen.clear();
    let outcome = outcome.map_err(|error| Failure::io("could not listen for signals", &error))?;
    conclude(manner, built, outcome, &log)
}

/// No more requests at the same time than there is room for their connections. Where the number is found out on
/// the way that is one bound of several, and not worth a word.
fn within<'a>(
    room: &files::Room,
    built: &DataGenerationPipeline,
    job: RunBuilder<'a>,
    screen: &Screen,
) -> RunBuilder<'a> {
    if let ConcurrencyLimit::Fixed(wanted) = built.settings().run.concurrency_limit
        && let Some(what) = room.too_little_for(wanted.get())
    {
        screen.note(&what);
    }
    screen.adapts(built.settings().run.concurrency_limit == ConcurrencyLimit::Auto);
    job.concurrency_ceiling(room.requests)
}

/// `--concurrency`, as a value of the configuration.
pub(crate) fn number_or_word(text: &str) -> Value {
    text.parse::<u64>()
        .map_or_else(|_| Value::from(text), Value::from)
}

/// What the command line says of this run alone.
fn configured<'a>(run: &Run, mut job: RunBuilder<'a>) -> RunBuilder<'a> {
    job = job.command(command()).offer_unfinished();
    if let Some(rows) = run.limit {
        job = job.limit(rows);
    }
    job = match run.resume.as_deref() {
        None => job,
        Some(dir) if dir == Path::new("latest") => job.resume(Resume::Latest),
        Some(dir) => job.resume(Resume::Dir(dir.to_owned())),
    };
    if run.new {
        job = job.begin_anew();
    }
    if let Some(name) = &run.fork {
        job = job.fork(name);
    }
    if run.add {
        job = job.add();
    }
    if run.repair {
        job = job.repair();
    }
    job
}

/// Lets other terminals steer the run, from when its folder is open.
async fn steered(mut folder: watch::Receiver<Option<PathBuf>>, wheel: Arc<Wheel>) -> Infallible {
    let dir = match folder.wait_for(Option::is_some).await {
        Ok(dir) => dir.clone(),
        Err(_) => None,
    };
    match dir {
        Some(dir) => control::serve(dir, wheel).await,
        None => std::future::pending().await,
    }
}

async fn drawing(screen: &Screen) {
    loop {
        tokio::time::sleep(DRAW_EVERY).await;
        screen.draw();
    }
}

/// The command line as it was typed, for the manifest; without what may be a key.
pub(crate) fn command() -> Value {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    Value::from(
        arguments
            .map(|argument| without_secret(&argument))
            .collect::<Vec<_>>(),
    )
}

fn without_secret(argument: &str) -> String {
    let lower = argument.to_ascii_lowercase();
    match argument.split_once('=') {
        _ if names_a_variable(argument) => argument.to_owned(),
        Some((key, _)) if lower.contains("api_key") || lower.contains("headers") => {
            // A flag and its key may stand in one: `--set=model.api_key=...`.
            let key = if key == "--set" { "--set=..." } else { key };
            format!("{key}=[secret]")
        }
        _ => argument.to_owned(),
    }
}

/// Whether it says where the key is, and not what it is. What is all capitals is no key; some keys have digits as well.
fn names_a_variable(argument: &str) -> bool {
    let value = argument.strip_prefix("--set=").unwrap_or(argument);
    let Some(name) = value.strip_prefix("model.api_key_env=") else {
        return false;
    };
    let capitals = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    let numbered = |byte: u8| capitals(byte) || byte.is_ascii_digit();
    name == "null"
        || name.bytes().all(capitals)
        || (name.contains('_') && name.bytes().all(numbered))
}

fn conclude(
    manner: &Manner,
    built: &DataGenerationPipeline,
    outcome: Result<Report, Error>,
    log: &Log,
) -> Result<ExitCode, Failure> {
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            if let (true, Some(dir)) = (manner.json, error.run_dir()) {
                output::data(&nothing_done(dir, built.is_offline(), &error).to_string());
            }
            return Err(Failure::in_run(error, manner.changed));
        }
    };
    if manner.json {
        output::data(&summary(&report).to_string());
    }
    if !manner.quiet {
        output::line(&(manner.told)(&report));
        // A disk that refused only what comes after the last row leaves something to do as well.
        let stopped = report.stopped.as_ref().map(|reason| reason.kind);
        if report.counts.pending > 0 || stopped == Some(StopKind::Io) {
            output::line(&format!("  to go on: {}", (manner.go_on)(&report)));
            if let Some(what) = of_what_was_set(&report) {
                output::line(&format!("            {what}"));
            }
        }
        if log.dropped_lines() > 0 {
            output::line(&format!(
                "  {} lost: the disk did not take it",
                counted(
                    log.dropped_lines() as u64,
                    "line of the log was",
                    "lines of the log were"
                )
            ));
        }
    } else if let Some(reason) = &report.stopped {
        output::error_line(&format!("stopped: {reason}"));
    }
    Ok(exit::of_report(&report))
}

fn how_to_go_on(report: &Report) -> String {
    let dir = &report.run_dir;
    match Manifest::of_run(dir).map(|manifest| GoOn::with(&manifest, dir)) {
        Ok(go_on) if go_on.is_the_same() => "the same command".to_owned(),
        Ok(go_on) => go_on.told(&go_on.command()),
        // A disk that refused a write may refuse to be read as well.
        Err(_) => {
            let dir = output::quoted(&dir.display().to_string());
            format!("what `datagen status --run {dir}` names")
        }
    }
}

fn of_what_was_set(report: &Report) -> Option<String> {
    let manifest = Manifest::of_run(&report.run_dir).ok()?;
    GoOn::with(&manifest, &report.run_dir).of_what_was_set()
}

fn summary(report: &Report) -> Value {
    let counts = report.counts;
    json!({
        "run_dir": report.run_dir,
        "rows": counts.rows,
        "ok": counts.ok,
        "failed": counts.failed,
        "skipped": counts.skipped,
        "pending": counts.pending,
        "not_in_input": report.not_in_input,
        "requests": report.requests,
        "retries": report.retries,
        "prompt_tokens": report.prompt_tokens,
        "completion_tokens": report.completion_tokens,
        "untold": report.untold,
        "wall_s": (report.wall.as_secs_f64() * 1000.0).round() / 1000.0,
        "waited_s": waited(report),
        "offline": report.offline,
        "cut": report.cut,
        "lost": report.lost,
        "stopped": report.stopped.as_ref().map(ToString::to_string),
    })
}

/// Seconds in which at least one row waited, by what for.
fn waited(report: &Report) -> Value {
    let waits = report.times.waiting.iter();
    let waits = waits.map(|(reason, span)| {
        let seconds = span.wall_ms as f64 / 1000.0;
        (reason.name().to_owned(), json!(seconds))
    });
    Value::Object(waits.collect())
}

/// The summary of a run that was refused after its folder was open.
fn nothing_done(dir: &Path, offline: bool, error: &Error) -> Value {
    json!({
        "run_dir": dir, "rows": 0, "ok": 0, "failed": 0, "skipped": 0, "pending": 0, "not_in_input": 0,
        "requests": 0, "retries": 0, "prompt_tokens": 0, "completion_tokens": 0, "untold": 0, "wall_s": 0.0,
        "waited_s": {}, "offline": offline, "cut": 0, "lost": 0, "stopped": error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_in_the_manifest_holds_no_key() {
        for argument in [
            "model.api_key=sk-1",
            "--set=model.api_key=sk-1",
            "model.headers.x=sk-1",
            "model={api_key: sk-1}",
            "model.api_key_env=sk-1",
            "model={api_key_env: X, api_key: sk-1}",
            "--set=model={API_KEY: sk-1}",
        ] {
            let shown = without_secret(argument);
            assert!(
                !shown.contains("sk-1") && shown.contains("[secret]"),
                "{argument} -> {shown}"
            );
        }
        for plain in [
            "model.temperature=0.2",
            "model.api_key_env=MY_KEY",
            "--set=model.api_key_env=null",
        ] {
            assert_eq!(without_secret(plain), plain);
        }
    }
}

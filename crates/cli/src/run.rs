//! `datagen run`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use data_generation::settings::ConcurrencyLimit;
use data_generation::{DataGenerationPipeline, Error, Report, Resume, RunBuilder, StopHandle};
use rustix::fs::Mode;
use serde_json::{Value, json};

use crate::args::Run;
use crate::failure::Failure;
use crate::log::Log;
use crate::progress::{DRAW_EVERY, Screen};
use crate::{exit, files, output, pipeline, signals};

pub(crate) fn run(run: &Run) -> Result<ExitCode, Failure> {
    // Rows, answers and logs are nobody else's business on a machine with several users.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let mut builder = pipeline::builder(&run.inputs)?;
    if let Some(spec) = &run.extract {
        builder = builder.flag("run.extract", "--extract", spec);
    }
    if let Some(concurrency) = &run.concurrency {
        let number = concurrency.parse::<u64>().map(Value::from);
        let value = number.unwrap_or_else(|_| Value::from(concurrency.as_str()));
        builder = builder.flag("run.concurrency_limit", "--concurrency", value);
    }
    if run.skip_invalid {
        builder = builder.flag("run.skip_invalid", "--skip-invalid", true);
    }
    let built = pipeline::build(builder)?;
    let source = built.input()?;
    let log = Log::start(&built.settings().logging)?;
    let screen = Screen::new(run.quiet, built.is_offline());
    let room = files::room(built.is_offline());

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("could not start", &error))?;
    let stop = StopHandle::new();
    let job = configured(run, within(room, &built, built.run(source), &screen))
        .stop_handle(&stop)
        .observer(screen.clone());
    let drain = Duration::from_secs(built.settings().run.drain_s);
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = job => Ok(outcome),
            error = signals::watch(stop, drain, &screen) => Err(error),
            () = drawing(&screen) => unreachable!("drawing does not end"),
        }
    });
    // A thread that still reads standard input must not keep us here.
    runtime.shutdown_background();
    screen.clear();
    let outcome = outcome.map_err(|error| match error {
        Ok(()) => Failure::usage("the signals ended"),
        Err(error) => Failure::io("could not listen for signals", &error),
    })?;
    conclude(run, &built, outcome, &log)
}

/// No more requests at the same time than there is room for their connections. Where the number is found out on
/// the way that is one bound of several, and not worth a word.
fn within<'a>(
    room: files::Room,
    built: &DataGenerationPipeline,
    job: RunBuilder<'a>,
    screen: &Screen,
) -> RunBuilder<'a> {
    let run = &built.settings().run;
    let wanted = run.most_at_once().get();
    let most = wanted.min(room.requests);
    match run.concurrency_limit {
        ConcurrencyLimit::Auto => job.concurrency_auto(most),
        ConcurrencyLimit::Fixed(_) => {
            if let (true, Some(files)) = (wanted > most, room.files) {
                screen.note(&format!(
                    "this system allows {files} open files, so {most} requests at a time instead of {wanted}; `ulimit -n` raises it"
                ));
            }
            job.concurrency_limit(most)
        }
    }
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
    job
}

async fn drawing(screen: &Screen) {
    loop {
        tokio::time::sleep(DRAW_EVERY).await;
        screen.draw();
    }
}

/// The command line as it was typed, for the manifest; without what may be a key.
fn command() -> Value {
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
        Some((key, _)) if lower.contains("api_key") || lower.contains("headers") => {
            // A flag and its key may stand in one: `--set=model.api_key=...`.
            let key = if key == "--set" { "--set=..." } else { key };
            format!("{key}=[secret]")
        }
        _ => argument.to_owned(),
    }
}

fn conclude(
    run: &Run,
    built: &DataGenerationPipeline,
    outcome: Result<Report, Error>,
    log: &Log,
) -> Result<ExitCode, Failure> {
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            if let (true, Some(dir)) = (run.json, error.run_dir()) {
                output::data(&nothing_done(dir, built.is_offline(), &error).to_string());
            }
            return Err(error.into());
        }
    };
    if run.json {
        output::data(&summary(&report).to_string());
    }
    if !run.quiet {
        output::line(&report.to_string());
        if report.counts.pending > 0 {
            output::line(&format!("  to go on: {}", how_to_go_on(built, &report)));
        }
        if log.dropped_lines() > 0 {
            output::line(&format!(
                "  {} lines of the log were lost: the disk did not take them",
                log.dropped_lines()
            ));
        }
    } else if let Some(reason) = &report.stopped {
        output::error_line(&format!("stopped: {reason}"));
    }
    Ok(exit::of_report(&report))
}

fn how_to_go_on(built: &DataGenerationPipeline, report: &Report) -> String {
    if built.settings().output_data.need_time_stamp {
        format!(
            "the same command with `--resume {}`",
            report.run_dir.display()
        )
    } else {
        "the same command".to_owned()
    }
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
        "wall_s": (report.wall.as_secs_f64() * 1000.0).round() / 1000.0,
        "offline": report.offline,
        "cut": report.cut,
        "stopped": report.stopped.as_ref().map(ToString::to_string),
    })
}

/// The summary of a run that was refused after its folder was open.
fn nothing_done(dir: &Path, offline: bool, error: &Error) -> Value {
    json!({
        "run_dir": dir, "rows": 0, "ok": 0, "failed": 0, "skipped": 0, "pending": 0, "not_in_input": 0,
        "requests": 0, "retries": 0, "prompt_tokens": 0, "completion_tokens": 0, "wall_s": 0.0,
        "offline": offline, "cut": 0, "stopped": error.to_string(),
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
            "--set=model={API_KEY: sk-1}",
        ] {
            let shown = without_secret(argument);
            assert!(
                !shown.contains("sk-1") && shown.contains("[secret]"),
                "{argument} -> {shown}"
            );
        }
        assert_eq!(
            without_secret("model.temperature=0.2"),
            "model.temperature=0.2"
        );
    }
}

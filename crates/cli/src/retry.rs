//! `datagen retry`: once more for the rows that failed.

use std::process::ExitCode;

use data_generation::{DataGenerationPipeline, Report};
use rustix::fs::Mode;

use crate::args::Retry;
use crate::failure::Failure;
use crate::output::{counted, quoted};
use crate::pipeline;
use crate::run::{Manner, carry_out, command, number_or_word};
use crate::status;

pub(crate) fn run(retry: &Retry) -> Result<ExitCode, Failure> {
    rustix::process::umask(Mode::from_raw_mode(0o077));
    refuse_places(&retry.set)?;
    let mut builder = DataGenerationPipeline::builder().of_run(&retry.run)?;
    if let Some(config) = &retry.config {
        builder = builder.config_file(config);
    }
    for assignment in &retry.set {
        builder = builder.assignment(assignment);
    }
    if let Some(concurrency) = &retry.concurrency {
        let value = number_or_word(concurrency);
        builder = builder.flag("run.concurrency_limit", "--concurrency", value);
    }
    let built = pipeline::build(builder)?;
    let job = built
        .retry(&retry.run, retry.classes.clone())
        .command(command());
    let manner = Manner {
        json: retry.json,
        quiet: retry.quiet,
        go_on: how_to_go_on,
        told,
        changed: Some(
            "a retry asks with the settings of the dataset, so leave these as they were; `datagen run --fork NAME` \
             makes a new dataset with others",
        ),
    };
    carry_out(&built, job, &manner)
}

/// Rows that were taken up and not asked are still failed, so the same command takes them up; those of the input are
/// for the command that worked through it.
fn how_to_go_on(report: &Report) -> String {
    let mut ways = Vec::new();
    let left = report.left_pending.unwrap_or(0);
    if report.counts.pending > left {
        ways.push("the same command".to_owned());
    }
    if left > 0
        && let Some((what, command)) = status::rest(&report.run_dir)
    {
        ways.push(format!("{what}: {command}"));
    }
    ways.join("; ")
}

fn told(report: &Report) -> String {
    let taken_up = report.counts.rows - report.left_failed - report.left_pending.unwrap_or(0);
    if taken_up > 0 || report.stopped.is_some() {
        return report.to_string();
    }
    let dir = quoted(&report.run_dir.display().to_string());
    let nothing = format!("no row of {dir} is failed, so there is nothing to ask again");
    match report.left_pending {
        None => format!("{nothing}; nobody knows how many rows are pending"),
        Some(0) => nothing,
        Some(pending) => format!(
            "{nothing}; {} pending, and no retry makes {}",
            counted(pending, "row is", "rows are"),
            if pending == 1 { "it" } else { "them" }
        ),
    }
}

/// Rows and folder are those of the run; another one would be taken for an order that is obeyed.
fn refuse_places(assignments: &[String]) -> Result<(), Failure> {
    for assignment in assignments {
        let key = assignment
            .split_once('=')
            .map_or(assignment.as_str(), |(key, _)| key)
            .trim();
        let group = key.split('.').next().unwrap_or(key);
        if ["input_data", "output_data"].contains(&group) {
            return Err(Failure::usage(format!(
                "`--set {key}` says nothing to a retry: rows and folder are those of the run"
            ))
            .hint(
                "leave it out; `datagen run` takes rows from elsewhere or writes to another folder",
            ));
        }
    }
    Ok(())
}

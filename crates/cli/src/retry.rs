//! `datagen retry`: once more for the rows that failed.

use std::process::ExitCode;

use data_generation::{DataGenerationPipeline, Report};
use rustix::fs::Mode;

use crate::args::Retry;
use crate::failure::Failure;
use crate::output::quoted;
use crate::pipeline;
use crate::run::{Manner, carry_out, command, number_or_word};

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
        told: if retry.classes.is_empty() {
            told
        } else {
            told_of_classes
        },
        changed: Some(
            "a retry asks with the settings of the dataset, so leave these as they were; `datagen run --fork NAME` \
             makes a new dataset with others",
        ),
    };
    carry_out(&built, job, &manner)
}

/// Rows that were not asked again are still failed, so the same command takes them up.
fn how_to_go_on(_report: &Report) -> String {
    "the same command".to_owned()
}

fn told(report: &Report) -> String {
    if report.counts.rows == 0 && report.stopped.is_none() {
        let dir = quoted(&report.run_dir.display().to_string());
        return format!("no row of {dir} is failed, so there is nothing to ask again");
    }
    report.to_string()
}

/// What there is of other classes was said before.
fn told_of_classes(report: &Report) -> String {
    if report.counts.rows == 0 && report.stopped.is_none() {
        let dir = quoted(&report.run_dir.display().to_string());
        return format!("so there is nothing to ask again in {dir}");
    }
    report.to_string()
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

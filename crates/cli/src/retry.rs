//! `datagen retry`: once more for the rows that failed.

use std::process::ExitCode;

use data_generation::{DataGenerationPipeline, Report};
use rustix::fs::Mode;

use crate::args::Retry;
use crate::failure::Failure;
use crate::pipeline;
use crate::run::{Manner, carry_out, command};

pub(crate) fn run(retry: &Retry) -> Result<ExitCode, Failure> {
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let mut builder = DataGenerationPipeline::builder().of_run(&retry.run)?;
    if let Some(config) = &retry.config {
        builder = builder.config_file(config);
    }
    for assignment in &retry.set {
        builder = builder.assignment(assignment);
    }
    if let Some(concurrency) = retry.concurrency {
        builder = builder.flag("run.concurrency_limit", "--concurrency", concurrency);
    }
    let built = pipeline::build(builder)?;
    let job = built
        .retry(&retry.run, retry.classes.clone())
        .command(command());
    let manner = Manner {
        json: retry.json,
        quiet: retry.quiet,
        go_on: how_to_go_on,
    };
    carry_out(&built, job, &manner)
}

/// Rows that were not asked again are still failed, so the same command takes them up.
fn how_to_go_on(_built: &DataGenerationPipeline, _report: &Report) -> String {
    "the same command".to_owned()
}

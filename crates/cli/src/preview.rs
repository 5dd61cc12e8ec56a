//! `datagen preview`: what a model would be shown.

use std::process::ExitCode;

use crate::args::Preview;
use crate::failure::Failure;
use crate::{output, pipeline};

pub(crate) fn run(preview: &Preview) -> Result<ExitCode, Failure> {
    let built = pipeline::build(pipeline::builder(&preview.inputs)?)?;
    let shown = built.preview(built.input()?, preview.count)?;
    for (row, number) in shown.iter().zip(1..) {
        output::data(&format!("=== row {number}"));
        if let Some(system) = &row.system {
            output::data(&format!("--- system\n{system}"));
        }
        output::data(&format!("--- user\n{}", row.user));
    }
    if shown.is_empty() {
        output::line("there are no rows");
    }
    Ok(ExitCode::SUCCESS)
}

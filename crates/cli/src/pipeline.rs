//! From command line to pipeline.

use std::path::PathBuf;

use data_generation::{Builder, DataGenerationPipeline};

use crate::args::Inputs;
use crate::failure::Failure;
use crate::output;

/// The places where a configuration is looked for when none is named.
const USUAL_PLACES: [&str; 2] = ["config/config.yaml", "config.yaml"];

/// The layers that every command has in common.
pub(crate) fn builder(inputs: &Inputs) -> Result<Builder, Failure> {
    let mut builder = DataGenerationPipeline::builder().config_file(config_file(inputs)?);
    for assignment in &inputs.set {
        builder = builder.assignment(assignment);
    }
    if let Some(data) = &inputs.data {
        builder = builder.flag("input_data.path", "--data", data);
    }
    Ok(builder)
}

fn config_file(inputs: &Inputs) -> Result<PathBuf, Failure> {
    if let Some(path) = &inputs.config {
        return Ok(path.clone());
    }
    USUAL_PLACES
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .ok_or_else(|| {
            Failure::usage(format!(
                "there is no {} and no {} here",
                USUAL_PLACES[0], USUAL_PLACES[1]
            ))
            .hint("name one with `--config FILE`, or make one with `datagen init`")
        })
}

/// Builds, and tells what is odd and stops nothing.
pub(crate) fn build(builder: Builder) -> Result<DataGenerationPipeline, Failure> {
    let pipeline = builder.build()?;
    for warning in pipeline.warnings() {
        output::line(&format!("warning: {warning}"));
    }
    Ok(pipeline)
}

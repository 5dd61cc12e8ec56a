//! A look at a run from outside.

use std::path::Path;

use data_generation_llm_client::Usage;
use data_generation_pipeline_core::{self as core, Status};

use crate::Error;

/// What a run folder says of itself: how it stands, what failed and why, what it cost and where the time went.
/// Reads only, also while a run works on it. Blocks.
///
/// ```
/// use data_generation::{DataGenerationPipeline, status};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let dir = tempfile::tempdir().unwrap();
/// # let pipeline = DataGenerationPipeline::builder().offline().system_prompt(None).user_prompt("{{n}}").output_dir(dir.path().to_str().unwrap()).build()?;
/// let report = pipeline.run([serde_json::json!({"n": 1})]).await?;
/// let status = status(&report.run_dir)?;
/// assert_eq!((status.ok, status.failed, status.answers), (1, 0, 1));
/// # Ok::<(), data_generation::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// When it is no run folder, or a file cannot be read.
pub fn status(dir: impl AsRef<Path>) -> Result<Status, Error> {
    let tokens = |body: &[u8], prompt_guess: Option<u64>| {
        crate::steps::usage(Usage::of_body(body, prompt_guess.unwrap_or(0)))
    };
    Ok(core::status(dir.as_ref(), tokens)?)
}

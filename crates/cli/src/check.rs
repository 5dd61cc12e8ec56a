//! `datagen check`: everything that can be known before the first request.

use std::process::ExitCode;

use data_generation::templating::{Need, Prompt};
use data_generation::{DataGenerationPipeline, pipeline as core};

use crate::args::Check;
use crate::failure::Failure;
use crate::output::counted;
use crate::{exit, output, pipeline};

pub(crate) fn run(check: &Check) -> Result<ExitCode, Failure> {
    let mut builder = pipeline::builder(&check.inputs)?;
    if let Some(spec) = &check.extract {
        builder = builder.flag("run.extract", "--extract", spec);
    }
    let built = pipeline::build(builder)?;

    show_settings(&built);
    show_prompts(&built);
    let rows_fit = show_rows(&built)?;
    let reachable = show_model(&built);
    let fine = rows_fit && reachable;
    output::data(if fine {
        "\nall is well; no request was sent"
    } else {
        "\nnot all is well; no request was sent"
    });
    Ok(if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::USAGE)
    })
}

fn show_settings(built: &DataGenerationPipeline) {
    output::data("configuration");
    let rows: Vec<(String, String, String)> = built
        .origins()
        .iter()
        .map(|(key, value, origin)| (key.to_owned(), value.to_string(), origin.to_string()))
        .collect();
    let width = |column: fn(&(String, String, String)) -> &String, most: usize| {
        rows.iter()
            .map(|row| column(row).chars().count())
            .max()
            .unwrap_or(0)
            .min(most)
    };
    let (keys, values) = (width(|row| &row.0, 40), width(|row| &row.1, 44));
    for (key, value, origin) in &rows {
        output::data(&format!("  {key:keys$}  {value:values$}  {origin}"));
    }
}

fn show_prompts(built: &DataGenerationPipeline) {
    output::data("\nprompts");
    match built.prompts().system() {
        Some(prompt) => show_prompt("system", prompt),
        None => output::data("  system  none"),
    }
    show_prompt("user", built.prompts().user());
}

fn show_prompt(role: &str, prompt: &Prompt) {
    let names: Vec<String> = prompt
        .variables()
        .iter()
        .map(|variable| match variable.need {
            Need::ConditionOnly | Need::PrintedInsideOwnIf => {
                format!("{} (may be missing)", variable.path)
            }
            _ => variable.path.clone(),
        })
        .collect();
    let names = if names.is_empty() {
        "no variables".to_owned()
    } else {
        names.join(", ")
    };
    output::data(&format!("  {role:6}  {}: {names}", prompt.name()));
}

/// Whether all rows fit; true where none are named.
fn show_rows(built: &DataGenerationPipeline) -> Result<bool, Failure> {
    output::data("\nrows");
    if built.settings().input_data.path.is_none() {
        output::data("  none are named (`--data FILE` or input_data.path)");
        return Ok(true);
    }
    let source = built.input()?;
    let core::CheckedRows {
        rows,
        repeated,
        problems,
        warnings,
        ..
    } = built.check(source)?;
    output::data(&format!("  {}", counted(rows, "row", "rows")));
    if repeated > 0 {
        output::data(&format!(
            "  {repeated} of them {} more than once; each is asked for as often as it comes",
            if repeated == 1 { "comes" } else { "come" }
        ));
    }
    for warning in warnings {
        output::data(&format!("  warning: {warning}"));
    }
    for problem in &problems.first {
        output::data(&format!("  {problem}"));
    }
    let untold = problems.total - problems.first.len() as u64;
    if untold > 0 {
        output::data(&format!("  and {untold} more"));
    }
    Ok(problems.total == 0)
}

fn show_model(built: &DataGenerationPipeline) -> bool {
    output::data("\nmodel");
    match built.check_model() {
        Ok(()) if built.is_offline() => output::data("  offline: no model will be asked"),
        Ok(()) => output::data(&format!(
            "  {} at {}",
            built.settings().model.model,
            built.settings().model.base_url
        )),
        Err(error) => {
            output::data(&format!("  {error}"));
            return false;
        }
    }
    true
}

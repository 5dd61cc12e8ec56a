//! `datagen extract`: the dataset of a run once more, with another extractor.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use data_generation::DataGenerationPipeline;
use data_generation::pipeline::Rejudged;
use rustix::fs::Mode;
use serde_json::{Value, json};

use crate::args::Extract;
use crate::exit;
use crate::failure::Failure;
use crate::output::{self, counted, quoted};
use crate::run::command;

/// From one line that tells how far it is to the next.
const TOLD_EVERY: Duration = Duration::from_secs(2);

pub(crate) fn run(extract: &Extract) -> Result<ExitCode, Failure> {
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let quiet = extract.quiet;
    let mut told = Instant::now();
    let job = DataGenerationPipeline::extract_again(&extract.run)
        .spec(&extract.extract)?
        .command(command())
        .progress(move |rows| {
            if !quiet && told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                output::line(&format!("{} so far", counted(rows, "row", "rows")));
            }
        });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("could not start", &error))?;
    let done = runtime.block_on(async { job.await })?;
    if extract.json {
        output::data(&summary(&done, &extract.extract).to_string());
    }
    if !quiet {
        tell(&done, &extract.extract);
    }
    Ok(if done.failed > 0 {
        ExitCode::from(exit::ROWS_FAILED)
    } else {
        ExitCode::SUCCESS
    })
}

fn tell(done: &Rejudged, spec: &str) {
    for repair in &done.repairs {
        output::line(&format!("warning: {repair}"));
    }
    output::line(&format!(
        "extracted again with {spec}: {} = {} ok + {} failed; no request was sent",
        counted(done.rows, "row", "rows"),
        done.ok,
        done.failed
    ));
    if done.recovered + done.lost > 0 {
        output::line(&format!(
            "  {} of them had failed and are in the dataset now, {} were in it and are failed now",
            done.recovered, done.lost
        ));
    }
    if done.kept > 0 {
        output::line(&format!(
            "  {} as before: no answer there has a text to extract from",
            counted(done.kept, "failed row stays", "failed rows stay")
        ));
    }
    if done.from_lines > 0 {
        output::line(&format!("warning: {}", without_answers(done)));
    }
    if done.unjudged > 0 {
        output::line(&format!(
            "  {} no line yet; the next `datagen run` judges first what is paid for",
            counted(
                done.unjudged,
                "answer is of a row that has",
                "answers are of rows that have"
            )
        ));
    }
    let dir = &done.run_dir;
    output::line(&format!(
        "  result    {}",
        dir.join("result.jsonl").display()
    ));
    if done.failed > 0 {
        output::line(&format!(
            "  failures  {}",
            dir.join("failures.jsonl").display()
        ));
    }
    output::line(&format!(
        "  from now on give `--extract {}` to `datagen run`, or set `run.extract`",
        quoted(spec)
    ));
}

/// What was judged although the journal has lost the answer.
fn without_answers(done: &Rejudged) -> String {
    let told = match done.from_lines {
        1 => "1 row was judged by the text in its line, because its answer is not in the journal"
            .to_owned(),
        rows => format!(
            "{rows} rows were judged by the text in their lines, because their answers are not in the journal"
        ),
    };
    let aside: Vec<String> = done
        .aside
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    match aside.is_empty() {
        true => told,
        false => format!(
            "{told}; lines that `--repair` moved aside are in {}",
            aside.join(", ")
        ),
    }
}

fn summary(done: &Rejudged, spec: &str) -> Value {
    json!({
        "run_dir": done.run_dir,
        "extract": spec,
        "rows": done.rows,
        "ok": done.ok,
        "failed": done.failed,
        "recovered": done.recovered,
        "lost": done.lost,
        "kept": done.kept,
        "from_lines": done.from_lines,
        "unjudged": done.unjudged,
        "requests": 0,
        "wall_s": (done.wall.as_secs_f64() * 1000.0).round() / 1000.0,
    })
}

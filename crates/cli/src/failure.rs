//! An error as the user sees it: what happened, what caused it, what to do.

use std::error::Error as StdError;
use std::process::ExitCode;

use data_generation::{Error, pipeline};

use crate::exit;
use crate::go_on::GoOn;
use crate::output;

/// What ends a command before its end.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: ExitCode,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(exit::USAGE, message)
    }

    pub(crate) fn io(message: impl Into<String>, error: &std::io::Error) -> Failure {
        Failure {
            causes: vec![error.to_string()],
            ..Failure::new(exit::IO, message)
        }
    }

    pub(crate) fn later(message: impl Into<String>) -> Failure {
        Failure::new(exit::LATER, message)
    }

    fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure {
            code: ExitCode::from(code),
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }

    /// What ended a run. A command may have its own word for settings that are no longer those of the dataset.
    pub(crate) fn in_run(error: Error, changed: Option<&str>) -> Failure {
        let is_changed = matches!(&error, Error::Run(run) if matches!(run.kind(), pipeline::ErrorKind::Changed { .. }));
        let mut failure = Failure::from(error);
        if let (true, Some(hint)) = (is_changed, changed) {
            failure.hints = vec![hint.to_owned()];
        }
        failure
    }

    pub(crate) fn print(&self) {
        // The faults after the first begin at the margin; further lines of one are indented already.
        let message = self.message.replace('\n', "\n  ").replace("\n    ", "\n  ");
        output::error_line(&format!("error: {message}"));
        for cause in &self.causes {
            output::error_line(&format!("  caused by: {cause}"));
        }
        for hint in &self.hints {
            output::error_line(&format!("  hint: {hint}"));
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        Failure {
            code: exit::of_error(&error),
            message: error.to_string(),
            causes,
            hints: hints(&error),
        }
    }
}

/// The extractor that a dataset has and the one that was asked for, where nothing else is different.
fn extractors(changes: &[pipeline::Change]) -> Option<(String, String)> {
    let [change] = changes else { return None };
    let spec = |value: &serde_json::Value| value.as_str().map(output::quoted);
    let is_extractor = change.key == "extract";
    is_extractor.then(|| Some((spec(&change.before)?, spec(&change.now)?)))?
}

fn hints(error: &Error) -> Vec<String> {
    let run = match error {
        Error::Run(run) => run,
        Error::Prompt(prompt) if prompt.is_not_found() => {
            let hint = "prompts.system_prompt_path (null for none) and prompts.user_prompt_path name the prompts; \
                        a relative path starts at the working directory";
            return vec![hint.to_owned()];
        }
        _ => return Vec::new(),
    };
    let hint = match run.kind() {
        pipeline::ErrorKind::Changed { dir, changes } => {
            if let Some((had, wanted)) = extractors(changes) {
                let dir = output::quoted(&dir.display().to_string());
                return vec![
                    format!("`--extract {had}` goes on with the extractor that the dataset has"),
                    format!(
                        "`datagen extract --run {dir} --extract {wanted}` makes it again with the other one, without \
                         a request"
                    ),
                ];
            }
            "`--fork NAME` makes a new dataset that keeps every answer whose request is unchanged, `--new` begins \
             afresh; or take the changes back"
        }
        pipeline::ErrorKind::Unfinished { dir, .. } => {
            return vec![
                format!(
                    "`--resume` goes on with it, `--resume {}` always with this one",
                    dir.display()
                ),
                "`--new` begins a new one and leaves it as it is".to_owned(),
            ];
        }
        pipeline::ErrorKind::DamagedSource { dir, .. } => {
            let first = "repair the source first, for a fork leaves it as it is";
            let hint = match pipeline::Manifest::of_run(dir) {
                Ok(manifest) => {
                    let go_on = GoOn::with(&manifest, dir);
                    go_on.told(&format!("{first}: `{}`", go_on.repairing()))
                }
                Err(_) => first.to_owned(),
            };
            return vec![hint];
        }
        pipeline::ErrorKind::OtherInput { rows: 0, .. } => {
            "look at where the rows come from: a file that was emptied, a command that gave nothing; `--add` says \
             that it is meant"
        }
        pipeline::ErrorKind::OtherInput { .. } => {
            "`--add` adds these rows to it; another output_data.experiment_name keeps them apart"
        }
        pipeline::ErrorKind::Input(problems) if problems.rows > 0 => {
            "mend the rows or the prompts; `--skip-invalid` lets these rows fail alone"
        }
        pipeline::ErrorKind::Io { action, .. } if *action == "could not make" => {
            "output_data.output_dir and output_data.experiment_name say where a run goes"
        }
        pipeline::ErrorKind::NoRun { runs, .. } if !runs.is_empty() => {
            let runs: Vec<String> = runs.iter().map(|dir| dir.display().to_string()).collect();
            return vec![format!(
                "there are runs in it, newest first: {}",
                runs.join(", ")
            )];
        }
        pipeline::ErrorKind::NoRun { .. } => {
            "a run's folder is the one that holds run.json; every run names it when it begins"
        }
        pipeline::ErrorKind::Locked { .. } => "wait for it, or stop it; what it has made is kept",
        _ => return Vec::new(),
    };
    vec![hint.to_owned()]
}

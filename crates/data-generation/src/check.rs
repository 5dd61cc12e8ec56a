//! Rows against prompts, before the first request.

use data_generation_pipeline_core::{Check, Conclusion};
use data_generation_templating::{Prompts, RowChecker};

/// Judges rows by the prompts' own rules.
pub(crate) struct PromptCheck {
    prompts: Prompts,
    checker: RowChecker,
}

impl PromptCheck {
    pub(crate) fn new(prompts: &Prompts) -> PromptCheck {
        PromptCheck {
            prompts: prompts.clone(),
            checker: prompts.checker(),
        }
    }
}

impl Check for PromptCheck {
    fn check(&mut self, row: &str) -> Vec<String> {
        self.checker
            .check(row)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn conclude(&mut self) -> Conclusion {
        // The next pass over the rows begins with a clean sheet.
        let findings = std::mem::replace(&mut self.checker, self.prompts.checker()).finish();
        Conclusion {
            warnings: findings.unused.iter().map(ToString::to_string).collect(),
            mistakes: findings
                .wrong_syntax
                .iter()
                .map(|wrong| format!("{wrong} (`prompts.syntax: format`)"))
                .collect(),
        }
    }
}

//! Rows against prompts, before the first request.

use data_generation_llm_client::{LimitOptions, estimate_tokens, least_tokens};
use data_generation_pipeline_core::{Check, Conclusion};
use data_generation_templating::{Prompts, RowChecker};

/// Judges rows by the prompts' own rules.
pub(crate) struct PromptCheck {
    prompts: Prompts,
    checker: RowChecker,
    limits: LimitOptions,
    /// A row of fewer bytes cannot be above them, and is not rendered.
    row_bytes: Option<u64>,
}

impl PromptCheck {
    pub(crate) fn new(prompts: &Prompts) -> PromptCheck {
        PromptCheck {
            prompts: prompts.clone(),
            checker: prompts.checker(),
            limits: LimitOptions::default(),
            row_bytes: None,
        }
    }

    /// Also finds rows whose prompt alone is above a limit of tokens.
    pub(crate) fn below(mut self, limits: LimitOptions) -> PromptCheck {
        let system = self.prompts.system().map(|prompt| prompt.source().len());
        let texts = (system.unwrap_or(0) + self.prompts.user().source().len()) as u64;
        let most = limits.most_tokens();
        self.row_bytes = most.map(|tokens| tokens.saturating_mul(8).saturating_sub(texts));
        self.limits = limits;
        self
    }

    /// What is wrong with a row that never fits into the limit.
    fn above_limit(&self, row: &str) -> Option<String> {
        if (row.len() as u64) < self.row_bytes? {
            return None;
        }
        let messages = self.prompts.render_row(row).ok()?;
        let of = |tokens: fn(&str) -> u64| {
            messages.system.as_deref().map_or(0, tokens) + tokens(&messages.user)
        };
        self.limits
            .never_fits(of(least_tokens), of(estimate_tokens))
    }
}

impl Check for PromptCheck {
    fn check(&mut self, row: &str) -> Vec<String> {
        let wrong = self.checker.check(row);
        match wrong.is_empty() {
            true => self.above_limit(row).into_iter().collect(),
            false => wrong.iter().map(ToString::to_string).collect(),
        }
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

//! Rows against prompts, before the first request.

use data_generation_llm_client::{estimate_tokens, least_tokens};
use data_generation_pipeline_core::{Check, Conclusion};
use data_generation_templating::{Prompts, RowChecker};

/// Judges rows by the prompts' own rules.
pub(crate) struct PromptCheck {
    prompts: Prompts,
    checker: RowChecker,
    limit: Option<TokenLimit>,
}

/// What a prompt alone must not exceed.
struct TokenLimit {
    setting: &'static str,
    tokens: u64,
    /// A row of fewer bytes cannot be above it, and is not rendered.
    row_bytes: u64,
}

impl PromptCheck {
    pub(crate) fn new(prompts: &Prompts) -> PromptCheck {
        PromptCheck {
            prompts: prompts.clone(),
            checker: prompts.checker(),
            limit: None,
        }
    }

    /// Also finds rows whose prompt alone is above this limit of tokens.
    pub(crate) fn below(mut self, limit: Option<(&'static str, u64)>) -> PromptCheck {
        let system = self.prompts.system().map(|prompt| prompt.source().len());
        let texts = (system.unwrap_or(0) + self.prompts.user().source().len()) as u64;
        self.limit = limit.map(|(setting, tokens)| TokenLimit {
            setting,
            tokens,
            row_bytes: tokens.saturating_mul(8).saturating_sub(texts),
        });
        self
    }

    /// What is wrong with a row that never fits into the limit.
    fn above_limit(&self, row: &str) -> Option<String> {
        let limit = self.limit.as_ref()?;
        if (row.len() as u64) < limit.row_bytes {
            return None;
        }
        let messages = self.prompts.render_row(row).ok()?;
        let of = |tokens: fn(&str) -> u64| {
            messages.system.as_deref().map_or(0, tokens) + tokens(&messages.user)
        };
        (of(least_tokens) >= limit.tokens).then(|| {
            format!(
                "the prompt alone has about {} tokens, and `{}` is {}: it never fits; raise the limit if the endpoint \
                 allows more, or shorten the row",
                of(estimate_tokens),
                limit.setting,
                limit.tokens
            )
        })
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

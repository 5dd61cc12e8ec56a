//! What a run's manifest keeps of the pipeline that made it.

use std::path::Path;

use data_generation_llm_client::ReasoningPolicy;
use data_generation_pipeline_core::Manifest;
use data_generation_templating::{Prompt, Prompts, Syntax};
use serde_json::Value;

use crate::Error;

/// The settings and prompts of a run, out of its `run.json`.
pub(crate) struct Kept<'a> {
    pub(crate) manifest: &'a Manifest,
}

impl Kept<'_> {
    /// The prompts as they were, whatever has become of their files.
    pub(crate) fn prompts(&self, dir: &Path) -> Result<Prompts, Error> {
        let syntax = self.syntax();
        let user = self.prompt("user").ok_or_else(|| {
            Error::Usage(format!(
                "{} holds no prompts, so another program made this run; use that one",
                dir.join("run.json").display()
            ))
        })?;
        let system = self
            .prompt("system")
            .map(|text| Prompt::from_text(SYSTEM, text, syntax))
            .transpose()?;
        Ok(Prompts::new(system, Prompt::from_text(USER, user, syntax)?))
    }

    /// The text of the `system` or the `user` prompt, where there is one.
    pub(crate) fn prompt(&self, role: &str) -> Option<&str> {
        self.manifest.dataset.get("prompts")?.get(role)?.as_str()
    }

    fn syntax(&self) -> Syntax {
        let syntax = self
            .manifest
            .dataset
            .get("prompts")
            .and_then(|prompts| prompts.get("syntax"));
        read(syntax).unwrap_or(Syntax::Handlebars)
    }

    pub(crate) fn reasoning(&self) -> ReasoningPolicy {
        let setting = self.manifest.settings.get("run.reasoning");
        read(setting.map(|setting| &setting.value)).unwrap_or_default()
    }

    /// A text of `dataset.model`.
    pub(crate) fn model(&self, key: &str) -> &str {
        let value = self
            .manifest
            .dataset
            .get("model")
            .and_then(|model| model.get(key));
        value.and_then(Value::as_str).unwrap_or_default()
    }
}

pub(crate) const SYSTEM: &str = "system prompt in run.json";
pub(crate) const USER: &str = "user prompt in run.json";

fn read<T: serde::de::DeserializeOwned>(value: Option<&Value>) -> Option<T> {
    serde_json::from_value(value?.clone()).ok()
}

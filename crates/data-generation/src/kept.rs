//! What a run's manifest keeps of the pipeline that made it.

use std::path::Path;

use data_generation_config::{Layers, Loaded, Origin};
use data_generation_extractors::parse;
use data_generation_llm_client::ReasoningPolicy;
use data_generation_pipeline_core::Manifest;
use data_generation_templating::{Prompt, Prompts, Syntax};
use serde_json::Value;

use crate::Error;
use crate::settings::{Provider, Settings};

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

    /// All settings as a layer of their own, `model.extra` only where no file `has_extra`: then that is compared
    /// with the run's as a whole, as in a run.
    pub(crate) fn layer(&self, layers: Layers, has_extra: bool) -> Result<Layers, Error> {
        self.layer_of(layers, has_extra, |_| true)
    }

    /// The settings that make the dataset one, as a layer of their own: above a configuration, which may have
    /// changed since then, and whose key, address and limits are what a retry wants of it.
    pub(crate) fn layer_of_dataset(
        &self,
        layers: Layers,
        has_extra: bool,
    ) -> Result<Layers, Error> {
        self.layer_of(layers, has_extra, |key| {
            let group = key.split('.').next().unwrap_or(key);
            ["prompts", "input_data", "output_data"].contains(&group)
                || ["model.provider", "model.model", "model.temperature"].contains(&key)
        })
    }

    /// Left out are secrets, which are not there; what this version does not know; and the variable of the key
    /// where nobody named it, for a named one goes to any address.
    fn layer_of(
        &self,
        mut layers: Layers,
        has_extra: bool,
        is_meant: impl Fn(&str) -> bool,
    ) -> Result<Layers, Error> {
        let known = serde_json::to_value(Settings::default())
            .map_err(|error| Error::Usage(error.to_string()))?;
        let is_known = |key: &str| {
            let mut names = key.split('.');
            names
                .try_fold(&known, |value, name| value.get(name))
                .is_some()
        };
        for (key, setting) in &self.manifest.settings {
            let secret = is_secret(key) || key == "model.headers";
            let nobodys = key == "model.api_key_env" && setting.origin == "default";
            // These two are told whole by what makes the dataset one.
            let whole = key == "run.extract" || key.starts_with("model.extra");
            if !secret && !nobodys && !whole && is_known(key) && is_meant(key) {
                layers = layers.kept(RUN_JSON, key, &setting.value);
            }
        }
        if let Some(extract) = self.manifest.dataset.get("extract") {
            layers = layers.kept(RUN_JSON, "run.extract", extract);
        }
        let model = self.manifest.dataset.get("model");
        if let Some(extra) = model.and_then(|model| model.get("extra"))
            && !has_extra
        {
            layers = layers.kept(RUN_JSON, "model.extra", extra);
        }
        Ok(layers)
    }

    /// Whether a value of this origin is that of the run.
    pub(crate) fn names(&self, origin: &Origin) -> bool {
        match origin {
            Origin::Default => true,
            Origin::Text { name, .. } => name == RUN_JSON,
            _ => false,
        }
    }

    /// What the run had and its manifest cannot give back: secrets, and what was code.
    pub(crate) fn refuse_what_is_missing(
        &self,
        dir: &Path,
        loaded: &Loaded<Settings>,
        has_model: bool,
        has_extractor: bool,
    ) -> Result<(), Error> {
        let dir = dir.display();
        let provider = self.model("provider");
        if !has_model && !["openai", "offline"].contains(&provider) {
            return Err(Error::Usage(format!(
                "the model of the run in {dir} is a program's own (`{provider}`), so that program asks again"
            )));
        }
        let extract = &loaded.value.run.extract;
        if !has_extractor && self.names(&loaded.origins.of("run.extract")) {
            parse(extract).map_err(|_| {
                Error::Usage(format!(
                    "the extractor of the run in {dir} is a program's own (`{extract}`), so that program asks again"
                ))
            })?;
        }
        if has_model || loaded.value.model.provider == Provider::Offline {
            return Ok(());
        }
        let another_key = !self.names(&loaded.origins.of("model.api_key_env"));
        for (key, setting) in &self.manifest.settings {
            let had = is_secret(key) && setting.value == "[secret]";
            let replaced = key == "model.api_key" && another_key;
            if had && !replaced && loaded.secrets.origin(key).is_none() {
                let variable = match key.as_str() {
                    "model.api_key" => {
                        ", or name a variable that holds it with `--set model.api_key_env=NAME`"
                    }
                    _ => "",
                };
                return Err(Error::Usage(format!(
                    "the run in {dir} had a literal `{key}` ({}), and run.json holds no secrets; give it again with \
                     `--config FILE` or `--set {key}=...`{variable}",
                    setting.origin
                )));
            }
        }
        Ok(())
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

/// What settings of a run are called where they come from.
const RUN_JSON: &str = "run.json";

fn is_secret(key: &str) -> bool {
    key == "model.api_key" || key.starts_with("model.headers.")
}

pub(crate) const SYSTEM: &str = "system prompt in run.json";
pub(crate) const USER: &str = "user prompt in run.json";

fn read<T: serde::de::DeserializeOwned>(value: Option<&Value>) -> Option<T> {
    serde_json::from_value(value?.clone()).ok()
}

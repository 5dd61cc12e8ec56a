//! The configuration of these tests: one of everything that a configuration can have.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use data_generation_config::{Error, Layers, Loaded};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) model: Model,
    pub(crate) run: Run,
    pub(crate) output: Output,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    pub(crate) provider: Provider,
    pub(crate) api_key: Option<String>,
    pub(crate) name: String,
    pub(crate) rate_limit: Option<u32>,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) temperature: Option<f64>,
    pub(crate) stop: Vec<String>,
    pub(crate) extra: serde_json::Map<String, serde_json::Value>,
    pub(crate) headers: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Provider {
    Openai,
    Offline,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    pub(crate) concurrency_limit: NonZeroUsize,
    pub(crate) extract: String,
    pub(crate) share: Share,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Output {
    pub(crate) dir: std::path::PathBuf,
    pub(crate) need_time_stamp: bool,
}

/// A number with a check of its own.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub(crate) struct Share(pub(crate) f64);

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        match share {
            0.0..=1.0 => Ok(Self(share)),
            _ => Err("must be from 0 to 1".to_owned()),
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self {
            provider: Provider::Openai,
            api_key: None,
            name: "small".to_owned(),
            rate_limit: None,
            max_tokens: Some(5012),
            temperature: Some(0.7),
            stop: Vec::new(),
            extra: serde_json::Map::new(),
            headers: BTreeMap::new(),
        }
    }
}

impl Default for Run {
    fn default() -> Self {
        Self {
            concurrency_limit: NonZeroUsize::MIN.saturating_add(4),
            extract: "none".to_owned(),
            share: Share(0.5),
        }
    }
}

impl Default for Output {
    fn default() -> Self {
        Self {
            dir: "output".into(),
            need_time_stamp: true,
        }
    }
}

/// The layers of these tests, with nothing over the defaults.
pub(crate) fn layers() -> Layers {
    Layers::defaults(&Settings::default())
        .expect("the defaults are a map")
        .free_form("model.extra")
        .secret("model.api_key")
        .secret("model.headers.*")
}

/// One YAML text over the defaults.
#[track_caller]
pub(crate) fn yaml(text: &str) -> Loaded<Settings> {
    match layers().text("c.yaml", text).load() {
        Ok(loaded) => loaded,
        Err(error) => panic!("{error}"),
    }
}

/// What is wrong with one YAML text.
#[track_caller]
pub(crate) fn fault(text: &str) -> Error {
    layers()
        .text("c.yaml", text)
        .load::<Settings>()
        .expect_err("the text should be refused")
}

/// Variables of an environment.
pub(crate) fn vars<const N: usize>(vars: [(&str, &str); N]) -> Vec<(String, String)> {
    vars.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

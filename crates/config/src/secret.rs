//! Values that nobody may see: taken out of every layer before anything else looks at it.

use std::fmt;

use secrecy::SecretString;
use serde_json::Value;

use crate::key::{self, KeyPath};
use crate::layer::{Layer, Source};
use crate::wording::shown;
use crate::{Fault, FaultKind, Origin};

/// Shorter secrets are not searched for in messages: they would be found in innocent words.
const MIN_SCRUBBED: usize = 6;

/// Which keys are secret.
pub(crate) struct Pattern {
    pub(crate) parent: KeyPath,
    /// One name, or every key of the parent.
    pub(crate) name: Option<String>,
}

impl Pattern {
    pub(crate) fn new(key: &str) -> Self {
        let mut parent = key::path(key);
        let name = parent.pop().filter(|name| name != "*");
        Self { parent, name }
    }

    /// Takes what is secret out of a layer. The defaults keep their keys, with nothing in them, so
    /// that the type finds them; other layers lose a map that was all secret.
    fn take(&self, layer: &mut Value, defaults: bool) -> Vec<(String, Value)> {
        let parent = key::get_mut(layer, &self.parent).and_then(Value::as_object_mut);
        let Some(parent) = parent else {
            return Vec::new();
        };
        match &self.name {
            Some(name) => {
                let value = match defaults {
                    true => parent.get_mut(name).map(std::mem::take),
                    false => parent.shift_remove(name),
                };
                value
                    .map(|value| (name.clone(), value))
                    .into_iter()
                    .collect()
            }
            None => {
                let taken = std::mem::take(parent).into_iter().collect();
                if let (Some((name, above)), false) = (self.parent.split_last(), defaults)
                    && let Some(above) = key::get_mut(layer, above).and_then(Value::as_object_mut)
                {
                    above.shift_remove(name);
                }
                taken
            }
        }
    }
}

/// The secrets of a configuration, by key.
///
/// ```
/// use data_generation_config::Layers;
/// use secrecy::ExposeSecret;
///
/// let defaults = serde_json::json!({ "model": { "api_key": null } });
/// let loaded = Layers::defaults(&defaults)?
///     .secret("model.api_key")
///     .text("config.yaml", "model: {api_key: sk-123456}")
///     .load::<serde_json::Value>()?;
///
/// assert!(loaded.value["model"]["api_key"].is_null());
/// let key = loaded.secrets.get("model.api_key").expect("it is set above");
/// assert_eq!(key.expose_secret(), "sk-123456");
/// # Ok::<(), data_generation_config::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Secrets {
    held: Vec<Held>,
}

/// A secret key: its value, or that a layer set it to null.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) key: String,
    pub(crate) value: Option<SecretString>,
    pub(crate) origin: Origin,
    /// Whether no layer above the defaults set it.
    pub(crate) default: bool,
}

impl Secrets {
    /// The secret at a full dotted key, if it is set.
    pub fn get(&self, key: &str) -> Option<&SecretString> {
        self.find(key)?.value.as_ref()
    }

    /// The secrets below a key, with their names there, in the order in which the layers name them.
    pub fn under(&self, prefix: &str) -> Vec<(String, SecretString)> {
        self.held
            .iter()
            .filter_map(|held| {
                let name = held.key.strip_prefix(prefix)?.strip_prefix('.')?;
                Some((name.to_owned(), held.value.clone()?))
            })
            .collect()
    }

    /// Where the secret at a full dotted key came from, if a layer set it (to null, even).
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.find(key).map(|held| &held.origin)
    }

    pub(crate) fn held(&self) -> &[Held] {
        &self.held
    }

    fn find(&self, key: &str) -> Option<&Held> {
        self.held.iter().find(|held| held.key == key)
    }

    fn hold(&mut self, held: Held) {
        match self.held.iter_mut().find(|other| other.key == held.key) {
            Some(other) => *other = held,
            None => self.held.push(held),
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.held.iter().map(|held| &held.key))
            .finish()
    }
}

/// Takes the secrets out of layers, from the lowest to the highest.
#[derive(Default)]
pub(crate) struct Taking {
    pub(crate) secrets: Secrets,
    /// Every secret that any layer had, to search messages for.
    seen: Vec<SecretString>,
}

impl Taking {
    pub(crate) fn take(&mut self, layer: &mut Layer, patterns: &[Pattern]) -> Vec<Fault> {
        let mut faults = Vec::new();
        for pattern in patterns {
            let mut value = std::mem::take(&mut layer.value);
            let taken = pattern.take(&mut value, matches!(layer.source, Source::Default));
            layer.value = value;
            for (name, value) in taken {
                let path = key::child(&pattern.parent, &name);
                faults.extend(self.settle(layer, &path, value).err());
            }
        }
        faults
    }

    fn settle(&mut self, layer: &Layer, path: &[String], value: Value) -> Result<(), Fault> {
        let word = shown(&key::dotted(path));
        let secret = match (layer.text_of(path), value) {
            (_, Value::Null) => None,
            (Some(text), _) => Some(text.to_owned()),
            (None, Value::String(string)) => Some(string),
            (None, value @ (Value::Array(_) | Value::Object(_))) => {
                let found = if value.is_array() { "a list" } else { "a map" };
                let message = format!("`{word}`: found {found}, expected a string");
                return Err(layer.fault(FaultKind::WrongType, path, message));
            }
            (None, value) => {
                let text = value.to_string();
                let from_yaml = matches!(layer.source, Source::File(_) | Source::Text(_));
                // `0x10` and `1e5` are read as other digits than they are written with.
                if from_yaml && !layer.lines.shows(path, &text) {
                    let message = format!("`{word}`: a number as a secret must stand in quotes");
                    return Err(layer.fault(FaultKind::BadValue, path, message));
                }
                Some(text)
            }
        };
        let default = matches!(layer.source, Source::Default);
        let value = secret.map(SecretString::from);
        self.seen.extend(value.clone());
        if default && value.is_none() {
            return Ok(());
        }
        self.secrets.hold(Held {
            key: key::dotted(path),
            value,
            origin: layer.origin(path),
            default,
        });
        Ok(())
    }

    /// Makes sure that a message holds no secret: an alias or a value in the wrong place may have
    /// brought one to where nobody looked for it.
    pub(crate) fn scrub(&self, text: &mut String) {
        use secrecy::ExposeSecret;
        for secret in &self.seen {
            let secret = secret.expose_secret();
            if secret.len() >= MIN_SCRUBBED && text.contains(secret) {
                *text = text.replace(secret, "[secret]");
            }
        }
    }
}

//! The known keys, and what a layer has that is none of them.

use serde_json::{Map, Value};

use crate::env;
use crate::key::{self, KeyPath};
use crate::layer::{Layer, Source};
use crate::secret::Pattern;
use crate::wording::shown;
use crate::{Fault, FaultKind};

/// At most so many choices are listed in a message.
const MAX_CHOICES: usize = 16;

/// How alike two words are (0 to 1) for one to be suggested for the other.
const ALIKE: f64 = 0.75;

/// What keys there are.
pub(crate) struct Shape {
    pub(crate) defaults: Value,
    pub(crate) free: Vec<KeyPath>,
    pub(crate) secrets: Vec<Pattern>,
}

impl Shape {
    /// Whether a path is a map of the user's own keys, or lies in one.
    pub(crate) fn is_free(&self, path: &[String]) -> bool {
        let wild = self.secrets.iter().filter(|secret| secret.name.is_none());
        (self.free.iter())
            .chain(wild.map(|secret| &secret.parent))
            .any(|free| path.starts_with(free))
    }

    /// The members of a section, which is a map whose keys are known.
    pub(crate) fn section(&self, path: &[String]) -> Option<&Map<String, Value>> {
        match self.is_free(path) {
            true => None,
            false => key::get(&self.defaults, path)?.as_object(),
        }
    }

    /// Takes everything out of a layer that no key could take, and says why.
    pub(crate) fn check(&self, layer: &mut Layer) -> Vec<Fault> {
        let mut faults = Vec::new();
        let value = std::mem::take(&mut layer.value);
        let mut path = KeyPath::new();
        layer.value = match value {
            Value::Object(map) => self.map(map, layer, &mut path, &mut faults).into(),
            _ => Value::Object(Map::new()),
        };
        faults
    }

    fn map(
        &self,
        map: Map<String, Value>,
        layer: &Layer,
        path: &mut KeyPath,
        faults: &mut Vec<Fault>,
    ) -> Map<String, Value> {
        let mut known = Map::new();
        for (name, value) in map {
            path.push(name);
            if let Some(value) = self.member(value, layer, path, faults) {
                known.insert(path.last().cloned().unwrap_or_default(), value);
            }
            path.pop();
        }
        known
    }

    fn member(
        &self,
        value: Value,
        layer: &Layer,
        path: &mut KeyPath,
        faults: &mut Vec<Fault>,
    ) -> Option<Value> {
        let free = self.is_free(path);
        if free && self.is_free(&path[..path.len() - 1]) {
            return Some(value);
        }
        let default = key::get(&self.defaults, path);
        if !free && default.is_none() {
            faults.push(self.unknown(layer, path));
            return None;
        }
        if !free && !matches!(default, Some(Value::Object(_))) {
            return match (&layer.target, default) {
                // `model.temperature.x`, set by that name, is a key that is not there.
                (Some(target), Some(default))
                    if target.len() > path.len() && !default.is_null() =>
                {
                    faults.push(self.unknown(layer, path));
                    None
                }
                _ => Some(value),
            };
        }
        match value {
            Value::Object(map) if free => Some(map.into()),
            Value::Object(map) => Some(self.map(map, layer, path, faults).into()),
            // A heading with all of its keys commented out.
            Value::Null => None,
            // What stands here instead may be a secret that lost its key: it is not shown.
            other => {
                let found = match other {
                    Value::Array(_) => "a list",
                    _ => "a single value",
                };
                let key = key::dotted(path);
                let message = format!("`{}`: found {found}, expected a map", shown(&key));
                faults.push(layer.fault(FaultKind::WrongType, path, message));
                None
            }
        }
    }

    fn unknown(&self, layer: &Layer, path: &[String]) -> Fault {
        // What was written, where the layer is an assignment to one key.
        let path = match &layer.target {
            Some(target) if target.starts_with(path) => target,
            _ => path,
        };
        let word = shown(&key::dotted(path));
        let hint = match self.suggestion(layer, path) {
            Some(near) => format!("did you mean `{near}`?"),
            None => self.offer(path),
        };
        layer.fault(
            FaultKind::UnknownKey,
            path,
            format!("unknown key `{word}`; {hint}"),
        )
    }

    /// The nearest valid name, as it would be written in the same place.
    fn suggestion(&self, layer: &Layer, path: &[String]) -> Option<String> {
        let write = |path: &KeyPath| match &layer.source {
            Source::Env { prefix, .. } => env::name(prefix, path),
            _ => key::dotted(path),
        };
        let name = path.last()?;
        // A neighbour first, then the same name in another section.
        let parent = &path[..path.len() - 1];
        if let Some(section) = self.section(parent)
            && let Some(near) = nearest(name, section.keys().map(String::as_str))
        {
            return Some(match layer.source {
                Source::File(_) | Source::Text(_) => near.to_owned(),
                _ => write(&key::child(parent, near)),
            });
        }
        let leaves = self.leaves();
        leaves
            .iter()
            .find(|leaf| leaf.last() == Some(name))
            .map(&write)
            .or_else(|| {
                let keys: Vec<String> = leaves.iter().map(|leaf| key::dotted(leaf)).collect();
                let near = nearest(&key::dotted(path), keys.iter().map(String::as_str))?;
                Some(write(&key::path(near)))
            })
    }

    /// The keys that there are, in the nearest section of a path.
    fn offer(&self, path: &[String]) -> String {
        (0..path.len())
            .rev()
            .find_map(|n| Some((&path[..n], self.section(&path[..n])?)))
            .map(|(parent, section)| {
                let names: Vec<&str> = section.keys().map(String::as_str).collect();
                let place = match parent {
                    [] => "the sections are".to_owned(),
                    _ => format!("`{}` has", shown(&key::dotted(parent))),
                };
                match names.len() {
                    0 => format!("{place} no keys"),
                    1..=MAX_CHOICES => format!("{place} `{}`", names.join("`, `")),
                    _ => format!("{place} `{}`, ...", names[..MAX_CHOICES].join("`, `")),
                }
            })
            .unwrap_or_default()
    }

    /// Every known key that is no section.
    pub(crate) fn leaves(&self) -> Vec<KeyPath> {
        fn walk(shape: &Shape, path: &mut KeyPath, leaves: &mut Vec<KeyPath>) {
            match shape.section(path) {
                Some(section) => {
                    for name in section.keys() {
                        path.push(name.clone());
                        walk(shape, path, leaves);
                        path.pop();
                    }
                }
                None => leaves.push(path.clone()),
            }
        }
        let mut leaves = Vec::new();
        walk(self, &mut KeyPath::new(), &mut leaves);
        for secret in &self.secrets {
            if let Some(name) = &secret.name {
                let path = key::child(&secret.parent, name);
                if !leaves.contains(&path) {
                    leaves.push(path);
                }
            }
        }
        leaves
    }
}

/// How alike two words are, from 0 to 1, whatever the case and the hyphens.
pub(crate) fn likeness(word: &str, name: &str) -> f64 {
    let plain = |word: &str| word.to_lowercase().replace('-', "_");
    let (word, name) = (plain(word), plain(name));
    strsim::jaro_winkler(&word, &name).max(strsim::normalized_damerau_levenshtein(&word, &name))
}

/// The name that is most like a word, if one is like it.
pub(crate) fn nearest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    names
        .into_iter()
        .map(|name| (likeness(word, name), name))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// `a`, `b` or `c`.
pub(crate) fn choices(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [name] => format!("`{name}`"),
        [names @ .., last] => format!("`{}` or `{last}`", names.join("`, `")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest_name() {
        let names = ["concurrency_limit", "extract", "max_tokens"];
        for (word, near) in [
            ("concurency", Some("concurrency_limit")),
            ("max-tokens", Some("max_tokens")),
            ("MaxTokens", Some("max_tokens")),
            ("extrcat", Some("extract")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, names), near, "{word}");
        }
    }

    #[test]
    fn lists_choices() {
        assert_eq!(choices(&["a"]), "`a`");
        assert_eq!(choices(&["a", "b", "c"]), "`a`, `b` or `c`");
    }
}

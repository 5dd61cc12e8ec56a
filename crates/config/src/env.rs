//! Environment variables as assignments.

use std::collections::HashMap;

use serde_json::Value;

use crate::key::{self, KeyPath};
use crate::layer::{Layer, Source};
use crate::shape::{Shape, likeness};
use crate::text;
use crate::wording::shown;
use crate::{Fault, FaultKind};

/// What the environment gave.
#[derive(Default)]
pub(crate) struct Environment {
    pub(crate) layers: Vec<Layer>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<String>,
}

/// The variable that would set a key.
pub(crate) fn name(prefix: &str, path: &[String]) -> String {
    format!("{prefix}{}", path.join("__").to_uppercase())
}

/// Reads the variables with a prefix; `lower` are the layers below, whose maps lend the spelling of
/// their keys.
pub(crate) fn read(
    prefix: &str,
    vars: Vec<(String, String)>,
    shape: &Shape,
    lower: &[Layer],
) -> Environment {
    let mut environment = Environment::default();
    let mut ours: Vec<(String, String)> = vars
        .into_iter()
        .filter(|(variable, _)| variable.starts_with(prefix))
        .collect();
    // The order of an environment is nobody's choice.
    ours.sort();
    let mut set: HashMap<KeyPath, String> = HashMap::new();
    for (variable, value) in ours {
        let rest = &variable[prefix.len()..];
        if !rest.contains("__") {
            environment.warnings.push(warning(prefix, &variable, shape));
            continue;
        }
        let path = spelled(rest, shape, lower);
        let source = Source::Env {
            prefix: prefix.to_owned(),
            variable: variable.clone(),
        };
        let given = text::variable(&value);
        let mut layer = Layer::assignment(source, path.clone(), given.value);
        layer.text = Some(given.text);
        match set.get(&path) {
            Some(other) => {
                let key = shown(&key::dotted(&path));
                let message = format!("`{other}` sets the key `{key}` too; unset one of them");
                let fault = layer.fault(FaultKind::DuplicateKey, &path, message);
                environment.faults.push(fault);
            }
            None => {
                set.insert(path, variable);
                environment.layers.push(layer);
            }
        }
    }
    environment
}

/// The path that a variable names: known keys in their own spelling, whatever the case.
fn spelled(rest: &str, shape: &Shape, lower: &[Layer]) -> KeyPath {
    let mut path = KeyPath::new();
    for word in rest.split("__") {
        let maps = std::iter::once(&shape.defaults).chain(lower.iter().map(|layer| &layer.value));
        let known = maps
            .filter_map(|value| key::get(value, &path).and_then(Value::as_object))
            .flat_map(|map| map.keys())
            .chain(secret_names(shape, &path))
            .find(|name| name.eq_ignore_ascii_case(word));
        path.push(match known {
            Some(name) => name.clone(),
            None if word.chars().any(char::is_lowercase) => word.to_owned(),
            None => word.to_lowercase(),
        });
    }
    path
}

fn secret_names<'s>(shape: &'s Shape, parent: &'s [String]) -> impl Iterator<Item = &'s String> {
    shape
        .secrets
        .iter()
        .filter(move |secret| secret.parent == parent)
        .filter_map(|secret| secret.name.as_ref())
}

/// Names the nearest key even where none is near: that shows how a key is written.
fn warning(prefix: &str, variable: &str, shape: &Shape) -> String {
    let word = &variable[prefix.len()..];
    let alike = |leaf: &KeyPath| {
        let name = leaf.last().map_or("", String::as_str);
        likeness(word, name).max(likeness(word, &leaf.join("_")))
    };
    let leaves = shape.leaves();
    let near = leaves
        .iter()
        .max_by(|a, b| alike(a).total_cmp(&alike(b)))
        .map(|leaf| format!("; the nearest key is `{}`", name(prefix, leaf)));
    format!(
        "environment variable {}: not configuration, as it has no double underscore{}",
        shown(variable),
        near.unwrap_or_default()
    )
}

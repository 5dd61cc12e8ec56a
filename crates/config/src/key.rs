//! Dotted keys as paths.

use serde_json::{Map, Value};

/// The segments of a key; a segment may hold a dot where the user's own map has such a name.
pub(crate) type KeyPath = Vec<String>;

/// The path of a dotted key.
pub(crate) fn path(key: &str) -> KeyPath {
    key.split('.').map(str::to_owned).collect()
}

/// The dotted key of a path.
pub(crate) fn dotted(path: &[String]) -> String {
    path.join(".")
}

/// The path of a member of `parent`.
pub(crate) fn child(parent: &[String], name: &str) -> KeyPath {
    let mut path = parent.to_vec();
    path.push(name.to_owned());
    path
}

/// The value at a path through maps.
pub(crate) fn get<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter()
        .try_fold(value, |value, name| value.as_object()?.get(name))
}

/// As [`get`], to be changed.
pub(crate) fn get_mut<'v>(value: &'v mut Value, path: &[String]) -> Option<&'v mut Value> {
    path.iter()
        .try_fold(value, |value, name| value.as_object_mut()?.get_mut(name))
}

/// Maps around a value, so that it stands at a path.
pub(crate) fn nest(path: &[String], value: Value) -> Value {
    path.iter().rev().fold(value, |value, name| {
        let mut map = Map::new();
        map.insert(name.clone(), value);
        Value::Object(map)
    })
}

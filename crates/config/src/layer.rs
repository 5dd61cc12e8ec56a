//! One layer: values that came from one place.

use std::path::PathBuf;

use figment::value::{Dict, Map, Value as Figure};
use figment::{Metadata, Profile, Provider};
use serde_json::Value;

use crate::key::{self, KeyPath};
use crate::locate::Lines;
use crate::{Fault, FaultKind, Origin};

/// The place that a layer came from.
#[derive(Clone)]
pub(crate) enum Source {
    Default,
    File(PathBuf),
    Text(String),
    Env { prefix: String, variable: String },
    Flag(String),
    Code,
}

/// Values of one place.
pub(crate) struct Layer {
    pub(crate) source: Source,
    /// Always a map.
    pub(crate) value: Value,
    /// The one key that is set, where the layer is an assignment.
    pub(crate) target: Option<KeyPath>,
    /// The value of `target` as a string, where it was given as text.
    pub(crate) text: Option<String>,
    pub(crate) lines: Lines,
}

impl Layer {
    pub(crate) fn new(source: Source, value: Value) -> Self {
        Self {
            source,
            value,
            target: None,
            text: None,
            lines: Lines::default(),
        }
    }

    /// A layer that sets one key.
    pub(crate) fn assignment(source: Source, target: KeyPath, value: Value) -> Self {
        Self {
            value: key::nest(&target, value),
            target: Some(target),
            ..Self::new(source, Value::Null)
        }
    }

    pub(crate) fn origin(&self, path: &[String]) -> Origin {
        self.source.origin(self.lines.nearest(path))
    }

    /// The string that was given for exactly this path, where the layer is text.
    pub(crate) fn text_of(&self, path: &[String]) -> Option<&str> {
        let text = self.text.as_deref()?;
        (self.target.as_deref() == Some(path)).then_some(text)
    }

    pub(crate) fn fault(&self, kind: FaultKind, path: &[String], message: String) -> Fault {
        Fault {
            kind,
            key: (!path.is_empty()).then(|| key::dotted(path)),
            origin: self.origin(path),
            column: None,
            message,
        }
    }
}

impl Source {
    pub(crate) fn origin(&self, line: Option<usize>) -> Origin {
        match self.clone() {
            Self::Default => Origin::Default,
            Self::File(path) => Origin::File { path, line },
            Self::Text(name) => Origin::Text { name, line },
            Self::Env { variable, .. } => Origin::Env { variable },
            Self::Flag(flag) => Origin::Flag { flag },
            Self::Code => Origin::Code,
        }
    }
}

/// A layer as figment takes it; the name of its metadata is its number.
pub(crate) struct Provided<'l>(pub(crate) usize, pub(crate) &'l Layer);

impl Provider for Provided<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.0.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let dict = Figure::serialize(&self.1.value)?
            .into_dict()
            .unwrap_or_default();
        Ok(Profile::Default.collect(dict))
    }
}

//! What the caller named, and reading it.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::key;
use crate::layer::{Layer, Source};
use crate::shape::{Shape, nearest};
use crate::wording::shown;
use crate::yaml::{self, Problem};
use crate::{Fault, FaultKind, Origin, env, text};

/// A layer that was named and not read yet.
pub(crate) enum Input {
    File(PathBuf),
    Text {
        name: String,
        yaml: String,
    },
    Env {
        prefix: String,
        vars: Vec<(String, String)>,
    },
    Set(String),
    Value {
        key: String,
        source: Source,
        value: Result<Value, String>,
    },
}

/// The layers of all inputs.
pub(crate) struct Reading {
    pub(crate) layers: Vec<Layer>,
    /// Each with the number of layers below it.
    pub(crate) faults: Vec<(usize, Fault)>,
    pub(crate) warnings: Vec<String>,
}

impl Reading {
    pub(crate) fn new(defaults: Value) -> Self {
        Self {
            layers: vec![Layer::new(Source::Default, defaults)],
            faults: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(crate) fn read(&mut self, input: Input, shape: &Shape) {
        match input {
            Input::File(path) => {
                let source = Source::File(path.clone());
                let text =
                    yaml::file(&path).and_then(|bytes| yaml::decode(&bytes).map(str::to_owned));
                match text {
                    Ok(text) => self.yaml(source, &text),
                    Err(problem) => self.problem(&source, problem),
                }
            }
            Input::Text { name, yaml } => self.yaml(Source::Text(name), &yaml),
            Input::Env { prefix, vars } => {
                let read = env::read(&prefix, vars, shape, &self.layers);
                self.layers.extend(read.layers);
                for fault in read.faults {
                    self.fault(fault);
                }
                self.warnings.extend(read.warnings);
            }
            Input::Set(assignment) => match set(&assignment, shape) {
                Ok(layer) => self.layers.push(layer),
                Err(fault) => self.fault(*fault),
            },
            Input::Value { key, source, value } => {
                let path = key::path(&key);
                match value {
                    Ok(value) => self.layers.push(Layer::assignment(source, path, value)),
                    Err(why) => {
                        let message = format!("`{}`: {}", shown(&key), shown(&why));
                        let layer = Layer::new(source, Value::Null);
                        self.fault(layer.fault(FaultKind::BadValue, &path, message));
                    }
                }
            }
        }
    }

    fn yaml(&mut self, source: Source, text: &str) {
        match yaml::document(text) {
            Ok((document, problems)) => {
                for problem in problems {
                    self.problem(&source, problem);
                }
                let mut layer = Layer::new(source, document.value);
                layer.lines = document.lines;
                self.layers.push(layer);
            }
            Err(problem) => {
                self.problem(&source, problem);
                // Its place is kept, so that faults stay in the order of the layers.
                self.layers
                    .push(Layer::new(source, Value::Object(Map::new())));
            }
        }
    }

    fn problem(&mut self, source: &Source, problem: Problem) {
        self.fault(Fault {
            kind: problem.kind,
            key: problem.key.map(|path| key::dotted(&path)),
            origin: source.origin(problem.line),
            column: problem.column,
            message: problem.message,
        });
    }

    fn fault(&mut self, fault: Fault) {
        self.faults.push((self.layers.len(), fault));
    }
}

/// Reads `key=value`.
fn set(assignment: &str, shape: &Shape) -> Result<Layer, Box<Fault>> {
    let fault = |flag: &str, message: String| {
        Err(Box::new(Fault {
            kind: FaultKind::Syntax,
            key: None,
            origin: Origin::Flag {
                flag: flag.to_owned(),
            },
            column: None,
            message,
        }))
    };
    let Some((key, value)) = assignment.split_once('=') else {
        // The word may be anything, a secret too: it is shown only where it is nearly a key.
        let leaves: Vec<String> = shape
            .leaves()
            .iter()
            .map(|leaf| key::dotted(leaf))
            .collect();
        let hint = nearest(assignment, leaves.iter().map(String::as_str)).unwrap_or("KEY");
        return fault("--set", format!("no `=` in it; write `{hint}=VALUE`"));
    };
    let key = key.trim();
    if key.is_empty() {
        return fault(
            "--set",
            "no key before the `=`; write `KEY=VALUE`".to_owned(),
        );
    }
    let source = Source::Flag(format!("--set {}", shown(key)));
    let given = text::assignment(value);
    let mut layer = Layer::assignment(source, key::path(key), given.value);
    layer.text = Some(given.text);
    Ok(layer)
}

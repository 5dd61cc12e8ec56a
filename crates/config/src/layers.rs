//! Naming the layers and loading them.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::extract::extract;
use crate::input::{Input, Reading};
use crate::key;
use crate::layer::Source;
use crate::secret::{Pattern, Taking};
use crate::shape::Shape;
use crate::tree::Tree;
use crate::wording;
use crate::{Error, Fault, FaultKind, Origin, Origins, Secrets};

/// What wins over what, from the lowest to the highest. Within one of these, what is named later
/// wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Precedence {
    Yaml,
    Environment,
    CommandLine,
    CodeGroup,
    Code,
}

/// The layers of a configuration, named in any order and then [loaded](Self::load).
///
/// Nothing is read before `load`, and every fault is reported there.
#[must_use]
pub struct Layers {
    defaults: Value,
    inputs: Vec<(Precedence, Input)>,
    secrets: Vec<String>,
    free: Vec<String>,
}

impl fmt::Debug for Layers {
    /// Counts only: what the layers hold may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layers")
            .field("inputs", &self.inputs.len())
            .field("secrets", &self.secrets)
            .field("free", &self.free)
            .finish_non_exhaustive()
    }
}

impl Layers {
    /// Begins with the built-in defaults. Their serialised form is also the list of the known keys,
    /// so optional fields must serialise as `null`.
    ///
    /// # Errors
    ///
    /// When the defaults do not serialise to a map.
    pub fn defaults<T: Serialize>(defaults: &T) -> Result<Layers, Error> {
        let why = match serde_json::to_value(defaults) {
            Ok(defaults @ Value::Object(_)) => {
                return Ok(Self {
                    defaults,
                    inputs: Vec::new(),
                    secrets: Vec::new(),
                    free: Vec::new(),
                });
            }
            Ok(_) => "the defaults must be a map".to_owned(),
            Err(error) => format!("the defaults could not be serialised: {error}"),
        };
        Err(Error::new(vec![Fault {
            kind: FaultKind::WrongType,
            key: None,
            origin: Origin::Default,
            column: None,
            message: why,
        }]))
    }

    /// A YAML file, which must exist.
    pub fn file(self, path: impl Into<PathBuf>) -> Self {
        self.input(Precedence::Yaml, Input::File(path.into()))
    }

    /// YAML that is not in a file; `name` stands for it in origins and faults.
    pub fn text(self, name: impl Into<String>, yaml: impl Into<String>) -> Self {
        let (name, yaml) = (name.into(), yaml.into());
        self.input(Precedence::Yaml, Input::Text { name, yaml })
    }

    /// A value that was kept somewhere, as strong as a file: of files and kept values, what is named later wins.
    /// `name` stands for the place in origins and faults.
    ///
    /// ```
    /// use data_generation_config::Layers;
    ///
    /// let layers = Layers::defaults(&serde_json::json!({"rate": 1, "model": "a"}))?;
    /// let loaded = layers
    ///     .kept("run.json", "rate", 20)
    ///     .kept("run.json", "model", "b")
    ///     .text("config.yaml", "model: c")
    ///     .load::<serde_json::Value>()?;
    /// assert_eq!(loaded.value, serde_json::json!({"rate": 20, "model": "c"}));
    /// assert_eq!(loaded.origins.of("rate").to_string(), "run.json");
    /// # Ok::<(), data_generation_config::Error>(())
    /// ```
    pub fn kept(self, name: &str, key: &str, value: impl Serialize) -> Self {
        let source = Source::Text(name.to_owned());
        self.value(Precedence::Yaml, key, source, value)
    }

    /// Those of the variables that begin with the prefix and have a double underscore in the rest:
    /// `DATAGEN_MODEL__TEMPERATURE=0.2` sets `model.temperature`.
    ///
    /// Known keys are matched whatever the case; a new key in a [free form](Self::free_form) map is
    /// taken in lower case, unless it has lower case letters already. A value is a number, `true`,
    /// `false`, `[a, b]`, `{a=1}`, JSON, `null` (which unsets an optional key), or else a string;
    /// where the type wants a string it is the text as it stands, without quotes around it. An empty
    /// variable is the empty string. A variable with the prefix alone gives a warning.
    ///
    /// A program passes [`std::env::vars_os`] without the names and values that are not UTF-8.
    pub fn env(self, prefix: &str, vars: impl IntoIterator<Item = (String, String)>) -> Self {
        let input = Input::Env {
            prefix: prefix.to_owned(),
            vars: vars.into_iter().collect(),
        };
        self.input(Precedence::Environment, input)
    }

    /// An assignment of the command line, `model.temperature=0.2`; its origin is `--set KEY`.
    ///
    /// The value is a YAML scalar or a flow collection (`[a, b]`, `{a: 1}`); where the type wants a
    /// string it is the text as it stands.
    pub fn set(self, assignment: &str) -> Self {
        self.input(Precedence::CommandLine, Input::Set(assignment.to_owned()))
    }

    /// A flag of the command line that sets one key; its origin is the flag (`--concurrency`).
    pub fn option(self, key: &str, flag: &str, value: impl Serialize) -> Self {
        let source = Source::Flag(flag.to_owned());
        self.value(Precedence::CommandLine, key, source, value)
    }

    /// A group of values given in code; below every [`code`](Self::code) value in whatever order
    /// they are called.
    pub fn code_group<T: Serialize>(self, key: &str, value: T) -> Self {
        self.value(Precedence::CodeGroup, key, Source::Code, value)
    }

    /// A value given in code: the highest layer.
    pub fn code<T: Serialize>(self, key: &str, value: T) -> Self {
        self.value(Precedence::Code, key, Source::Code, value)
    }

    /// Takes a key (`model.api_key`) or all keys of a map (`model.headers.*`) out of every layer
    /// before anything else sees it, into [`Secrets`]. The type finds `null` and an empty map there.
    ///
    /// A number is taken as its text; `null` takes away what a lower layer set.
    pub fn secret(mut self, key: &str) -> Self {
        self.secrets.push(key.to_owned());
        self
    }

    /// Makes a key a map of the user's own keys: none of them is unknown.
    pub fn free_form(mut self, key: &str) -> Self {
        self.free.push(key.to_owned());
        self
    }

    /// Reads and merges the layers.
    ///
    /// # Errors
    ///
    /// When anything is wrong with any of them: all that was found, in one [`Error`].
    pub fn load<T: DeserializeOwned>(mut self) -> Result<Loaded<T>, Error> {
        let shape = Shape {
            defaults: self.defaults.clone(),
            free: self.free.iter().map(|key| key::path(key)).collect(),
            secrets: self.secrets.iter().map(|key| Pattern::new(key)).collect(),
        };
        let mut reading = Reading::new(self.defaults);
        self.inputs.sort_by_key(|(precedence, _)| *precedence);
        for (_, input) in self.inputs {
            reading.read(input, &shape);
        }
        let Reading {
            mut layers,
            mut faults,
            mut warnings,
        } = reading;

        let mut taking = Taking::default();
        for (number, layer) in layers.iter_mut().enumerate() {
            let mut found = taking.take(layer, &shape.secrets);
            if number > 0 {
                found.extend(shape.check(layer));
            }
            faults.extend(found.into_iter().map(|fault| (number, fault)));
        }

        let merged = Tree::merge(&layers);
        let trees = merged.and_then(|tree| Ok((tree, Tree::merge(&layers[..1])?)));
        let value = match trees {
            Ok((tree, defaults)) => match extract::<T>(tree, &defaults) {
                Ok((value, tree)) => Some((value, Origins::new(&tree, &layers, &taking.secrets))),
                Err(complaints) => {
                    faults.extend(complaints.into_iter().map(|complaint| {
                        let key = key::dotted(&complaint.path);
                        let (kind, text) = wording::complaint(&key, &complaint.kind);
                        let layer = &layers[complaint.layer];
                        (complaint.layer, layer.fault(kind, &complaint.path, text))
                    }));
                    None
                }
            },
            Err(error) => {
                let (kind, text) = wording::complaint("", &error.kind);
                faults.push((0, layers[0].fault(kind, &[], text)));
                None
            }
        };

        match value {
            Some((value, origins)) if faults.is_empty() => {
                for warning in &mut warnings {
                    taking.scrub(warning);
                }
                Ok(Loaded {
                    value,
                    origins,
                    secrets: taking.secrets,
                    warnings,
                })
            }
            _ => {
                faults.sort_by_key(|(layer, fault)| (*layer, fault.line()));
                let scrubbed = faults.into_iter().map(|(_, mut fault)| {
                    taking.scrub(&mut fault.message);
                    fault
                });
                Err(Error::new(scrubbed.collect()))
            }
        }
    }

    fn input(mut self, precedence: Precedence, input: Input) -> Self {
        self.inputs.push((precedence, input));
        self
    }

    fn value(
        self,
        precedence: Precedence,
        key: &str,
        source: Source,
        value: impl Serialize,
    ) -> Self {
        let value = serde_json::to_value(value).map_err(|error| error.to_string());
        let key = key.to_owned();
        self.input(precedence, Input::Value { key, source, value })
    }
}

/// A configuration that was loaded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded<T> {
    /// The value itself.
    pub value: T,
    /// Where each part of it came from.
    pub origins: Origins,
    /// What was taken out of the layers.
    pub secrets: Secrets,
    /// What the user should know and may ignore, one line each.
    pub warnings: Vec<String>,
}

//! Rows in code.

use data_generation_pipeline_core::Source;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A row of variables for the two prompts.
///
/// Anything else that serialises to a JSON object is a row as well (a struct, a map, `serde_json::json!`); its
/// fields are then seen by both prompts.
///
/// ```
/// let row = data_generation::Row::new().user("topic", "tides").system("tone", "plain");
/// assert_eq!(
///     serde_json::to_string(&row).unwrap(),
///     r#"{"user_prompt_kwargs":{"topic":"tides"},"system_prompt_kwargs":{"tone":"plain"}}"#
/// );
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What the user prompt sees.
    #[serde(default)]
    pub user_prompt_kwargs: Map<String, Value>,
    /// What the system prompt sees.
    #[serde(default)]
    pub system_prompt_kwargs: Map<String, Value>,
}

impl Row {
    /// A row without variables.
    pub fn new() -> Row {
        Row::default()
    }

    /// Adds a variable of the user prompt.
    #[must_use]
    pub fn user(mut self, name: &str, value: impl Into<Value>) -> Row {
        self.user_prompt_kwargs
            .insert(name.to_owned(), value.into());
        self
    }

    /// Adds a variable of the system prompt.
    #[must_use]
    pub fn system(mut self, name: &str, value: impl Into<Value>) -> Row {
        self.system_prompt_kwargs
            .insert(name.to_owned(), value.into());
        self
    }
}

/// What can be run: a [`Source`], or rows that are all there (a `Vec`, a slice, an array), which are checked as a
/// whole before the first request. An iterator or a `Stream` goes through [`Source::iter`] or
/// [`Source::stream`].
pub trait IntoSource {
    /// The rows as a source.
    fn into_source(self) -> Source;
}

impl IntoSource for Source {
    fn into_source(self) -> Source {
        self
    }
}

impl<T: Serialize> IntoSource for Vec<T> {
    fn into_source(self) -> Source {
        Source::rows(self)
    }
}

impl<T: Serialize> IntoSource for &[T] {
    fn into_source(self) -> Source {
        Source::rows(self)
    }
}

impl<T: Serialize, const N: usize> IntoSource for [T; N] {
    fn into_source(self) -> Source {
        Source::rows(self)
    }
}

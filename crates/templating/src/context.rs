//! What a prompt sees when it is rendered.

use serde_json::Value;

use crate::{Error, exact};

/// The data that a prompt is filled from; owned, made once for a row.
///
/// ```
/// use data_generation_templating::{Context, Prompt, Syntax};
///
/// let prompt = Prompt::from_text("user prompt", "{{price}} for {{tags}}", Syntax::Handlebars)?;
/// let context = Context::from_json(r#"{"price": 1.10, "tags": ["a", 1]}"#)?;
/// assert_eq!(prompt.render(&context)?, r#"1.10 for ["a",1]"#);
/// # Ok::<(), data_generation_templating::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Context(handlebars::Context);

impl Context {
    /// Reads a JSON text. Its numbers print as they are written there; of two equal keys the last
    /// one counts.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Row`](crate::ErrorKind::Row) when it is not JSON, is nested deeper than 128
    /// levels, or has a number that no `f64` can hold.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        exact::parse(text)
            .map(Self::held)
            .map_err(|fault| Error::row(json_fault("the row", &fault)))
    }

    /// Takes a value from code. Its numbers print as `serde_json` prints them.
    #[must_use]
    pub fn from_value(mut value: Value) -> Self {
        exact::adopt(&mut value);
        Self::held(value)
    }

    /// Takes a value whose marks are in order already.
    pub(crate) fn held(value: Value) -> Self {
        Self(handlebars::Context::from(value))
    }

    pub(crate) fn engine(&self) -> &handlebars::Context {
        &self.0
    }

    pub(crate) fn data(&self) -> &Value {
        self.0.data()
    }
}

/// `serde_json`'s words may quote the data, so only its category and place are told.
pub(crate) fn json_fault(what: &str, fault: &serde_json::Error) -> String {
    let text = fault.to_string();
    let (line, column) = (fault.line(), fault.column());
    if text.starts_with("recursion limit") {
        format!("{what} is nested deeper than 128 levels")
    } else if text.starts_with("number out of range") {
        format!("{what} has a number that is out of range at line {line}, column {column}")
    } else if fault.is_eof() {
        format!("{what} ends too early, at line {line}, column {column}")
    } else {
        format!("{what} is not valid JSON at line {line}, column {column}")
    }
}

//! One prompt, compiled once.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use handlebars::{Output, RenderContext, Renderable, Template};
use serde::{Deserialize, Serialize};

use crate::error::ErrorKind;
use crate::plan::{Node, Place};
use crate::scan::Scan;
use crate::variables::{self, Names};
use crate::{Context, Error, Variable, check, compile, format_syntax, helpers, row};

/// How a prompt marks its variables. It is said, never guessed: JSON examples in a prompt look like
/// placeholders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Syntax {
    /// Handlebars: `{{topic}}`, `{{#if hint}}`, `{{#each items}}`.
    #[default]
    Handlebars,
    /// `{topic}`, `{a.b}`, `{a[b]}`, and `{{`, `}}` for braces that are text, as in Python's
    /// `str.format`.
    Format,
}

/// A prompt, compiled once; cheap to clone and shared by all threads.
///
/// Rendering is strict: a variable that is missing, null or an object is an error and never a hole
/// in the text. Nothing is escaped, and values are never read as templates.
///
/// ```
/// use data_generation_templating::{Context, Prompt, Syntax};
///
/// let prompt = Prompt::from_text("user prompt", "Write about {topic}.", Syntax::Format)?;
/// assert_eq!(prompt.variables()[0].path, "topic");
/// let context = Context::from_json(r#"{"topic": "{{rivers}} & <lakes>"}"#)?;
/// assert_eq!(prompt.render(&context)?, "Write about {{rivers}} & <lakes>.");
/// # Ok::<(), data_generation_templating::Error>(())
/// ```
#[derive(Clone)]
pub struct Prompt(Arc<Inner>);

struct Inner {
    name: String,
    source: String,
    syntax: Syntax,
    template: Template,
    plan: Vec<Node>,
    variables: Vec<Variable>,
    names: Names,
    placeholders: Vec<Placeholder>,
}

/// A name in single braces in a Handlebars prompt.
#[derive(Debug, Clone)]
pub(crate) struct Placeholder {
    pub(crate) name: String,
    /// The field of the row that it would be.
    pub(crate) field: String,
    pub(crate) place: Place,
}

impl Prompt {
    /// Compiles a text as it is; `name` stands for it in messages.
    ///
    /// # Errors
    ///
    /// When the text does not follow its syntax, calls an unknown helper, uses partials or
    /// decorators, or is nested too deeply; with line and column.
    pub fn from_text(name: &str, text: &str, syntax: Syntax) -> Result<Self, Error> {
        let (template, plan) = match syntax {
            Syntax::Handlebars => compile::compile(name, text)?,
            Syntax::Format => format_syntax::compile(name, text)?,
        };
        let (variables, names) = variables::collect(&plan);
        let placeholders = match syntax {
            Syntax::Handlebars => placeholders(text),
            Syntax::Format => Vec::new(),
        };
        Ok(Self(Arc::new(Inner {
            name: name.to_owned(),
            source: text.to_owned(),
            syntax,
            template,
            plan,
            variables,
            names,
            placeholders,
        })))
    }

    /// Reads and compiles a file; its path is the prompt's name. A byte order mark is dropped, CRLF
    /// read as LF, and one final newline dropped.
    ///
    /// # Errors
    ///
    /// When the file cannot be read ([`Error::is_not_found`] when it is absent) or is not UTF-8, and
    /// as in [`from_text`](Self::from_text).
    pub fn from_file(path: &Path, syntax: Syntax) -> Result<Self, Error> {
        let name = path.display().to_string();
        let bytes = fs::read(path).map_err(|fault| Error::io(&name, fault))?;
        let text = decode(&name, &bytes)?;
        Self::from_text(&name, &text, syntax)
    }

    /// The prompt's path, or the name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The text that was compiled: of a file without byte order mark, CR and final newline.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The syntax it is written in.
    #[must_use]
    pub fn syntax(&self) -> Syntax {
        self.0.syntax
    }

    /// The names that the prompt takes from a row, each once, in order of appearance. Names of the
    /// elements of an `each` are not among them.
    #[must_use]
    pub fn variables(&self) -> &[Variable] {
        &self.0.variables
    }

    /// Fills the prompt.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Variable`] when a variable is missing, null, an object, or of the wrong shape.
    pub fn render(&self, context: &Context) -> Result<String, Error> {
        self.render_as(context, row::ROW)
    }

    /// The same, where messages call the data by `label`.
    pub(crate) fn render_as(&self, context: &Context, label: &str) -> Result<String, Error> {
        let mut text = Text(String::with_capacity(self.0.source.len() * 2));
        let mut scope = RenderContext::new(None);
        let template = &self.0.template;
        match template.render(helpers::registry(), context.engine(), &mut scope, &mut text) {
            Ok(()) => Ok(text.0),
            // The check says it better than the engine.
            Err(fault) => Err(
                match check::walk(self, context.data(), label).into_iter().next() {
                    Some(problem) => Error::variable(problem),
                    None => {
                        let detail = fault.reason().to_string();
                        Error::new(&self.0.name, None, ErrorKind::Engine { detail })
                    }
                },
            ),
        }
    }

    pub(crate) fn plan(&self) -> &[Node] {
        &self.0.plan
    }

    pub(crate) fn names(&self) -> &Names {
        &self.0.names
    }

    pub(crate) fn placeholders(&self) -> &[Placeholder] {
        &self.0.placeholders
    }
}

impl fmt::Debug for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prompt")
            .field("name", &self.0.name)
            .field("syntax", &self.0.syntax)
            .field("variables", &self.0.variables)
            .finish_non_exhaustive()
    }
}

/// Where the engine writes.
struct Text(String);

impl Output for Text {
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.0.push_str(text);
        Ok(())
    }
}

fn placeholders(source: &str) -> Vec<Placeholder> {
    let mut list: Vec<Placeholder> = Vec::new();
    for (name, place) in Scan::new(source).single_braces() {
        if list.iter().all(|known| known.name != name) {
            let field = name.split(['.', '[']).next().unwrap_or_default().to_owned();
            list.push(Placeholder { name, field, place });
        }
    }
    list
}

/// A file's text, as prompts are read.
fn decode(name: &str, bytes: &[u8]) -> Result<String, Error> {
    let wrong = |place, detail: &str| {
        let detail = detail.to_owned();
        Error::new(name, place, ErrorKind::Encoding { detail })
    };
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return Err(wrong(None, "the file is UTF-16"));
    }
    // UTF-16 without its mark: every second byte of Latin text is NUL.
    if bytes.len() > 1 && (bytes[0] == 0) != (bytes[1] == 0) {
        return Err(wrong(None, "the file looks like UTF-16"));
    }
    let text = std::str::from_utf8(bytes).map_err(|fault| {
        let valid = String::from_utf8_lossy(&bytes[..fault.valid_up_to()]);
        let place = crate::scan::place(&valid, valid.len());
        let byte = bytes[fault.valid_up_to()];
        wrong(Some(place), &format!("the byte 0x{byte:02X} is not UTF-8"))
    })?;
    let mut text = text.replace("\r\n", "\n");
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

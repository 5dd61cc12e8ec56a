//! The crate's one error type.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::Problem;

/// A prompt could not be loaded, or could not be filled from a row.
///
/// The message says where, what and what to do; for the parts of it there are getters.
///
/// ```
/// use data_generation_templating::{ErrorKind, Prompt, Syntax};
///
/// let error = Prompt::from_text("prompts/user.txt", "Write {{upper topic}}.", Syntax::Handlebars).unwrap_err();
/// assert!(matches!(error.kind(), ErrorKind::UnknownHelper { .. }));
/// assert_eq!((error.prompt(), error.line(), error.column()), ("prompts/user.txt", Some(1), Some(7)));
/// ```
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    prompt: String,
    place: Option<(usize, usize)>,
    kind: ErrorKind,
    source: Option<io::Error>,
}

/// What went wrong; match on this, never on the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such prompt file.
    #[error("there is no such prompt file")]
    NotFound,
    /// The prompt file is there and could not be read.
    #[error("the prompt file could not be read")]
    Unreadable,
    /// The prompt file is not UTF-8.
    #[error("{detail}; save the prompt as UTF-8")]
    Encoding {
        /// What was found instead.
        detail: String,
    },
    /// The prompt does not follow its syntax.
    #[error("{message}")]
    Syntax {
        /// What is wrong and how it is written right.
        message: String,
    },
    /// The prompt calls a helper that does not exist.
    #[error("unknown helper `{name}`; {cure}")]
    UnknownHelper {
        /// The name as it stands in the prompt.
        name: String,
        /// The helpers that exist.
        cure: String,
    },
    /// The prompt uses a part of Handlebars that is not offered.
    #[error("{message}")]
    Unsupported {
        /// What it is and what can be written instead.
        message: String,
    },
    /// Blocks or brackets of the prompt are nested too deeply.
    #[error("blocks or brackets are nested deeper than {limit} levels; make the prompt simpler")]
    TooDeep {
        /// The number of levels that are allowed.
        limit: usize,
    },
    /// A row is not a JSON object, or cannot be held.
    #[error("{detail}")]
    Row {
        /// What is wrong with the row.
        detail: String,
    },
    /// A variable of the prompt has no value that could be printed.
    #[error("{0}")]
    Variable(Problem),
    /// The template engine refused for a reason of its own.
    #[error("the prompt could not be rendered: {detail}")]
    Engine {
        /// The engine's words.
        detail: String,
    },
}

impl Error {
    pub(crate) fn new(prompt: &str, place: Option<(usize, usize)>, kind: ErrorKind) -> Self {
        Self(Box::new(Inner {
            prompt: prompt.to_owned(),
            place,
            kind,
            source: None,
        }))
    }

    pub(crate) fn syntax(prompt: &str, place: (usize, usize), message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(prompt, Some(place), ErrorKind::Syntax { message })
    }

    pub(crate) fn unsupported(
        prompt: &str,
        place: (usize, usize),
        message: impl Into<String>,
    ) -> Self {
        let message = message.into();
        Self::new(prompt, Some(place), ErrorKind::Unsupported { message })
    }

    pub(crate) fn row(detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::new("", None, ErrorKind::Row { detail })
    }

    pub(crate) fn variable(problem: Problem) -> Self {
        let place = (problem.prompt_line > 0).then_some((problem.prompt_line, problem.column()));
        Self::new(&problem.prompt.clone(), place, ErrorKind::Variable(problem))
    }

    pub(crate) fn io(prompt: &str, source: io::Error) -> Self {
        let kind = if source.kind() == io::ErrorKind::NotFound {
            ErrorKind::NotFound
        } else {
            ErrorKind::Unreadable
        };
        let mut error = Self::new(prompt, None, kind);
        error.0.source = Some(source);
        error
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The prompt's name or path; empty where the row alone is at fault.
    #[must_use]
    pub fn prompt(&self) -> &str {
        &self.0.prompt
    }

    /// The line in the prompt as it was written, counted from 1.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.0.place.map(|(line, _)| line)
    }

    /// The column in the prompt as it was written, in characters, counted from 1.
    #[must_use]
    pub fn column(&self) -> Option<usize> {
        self.0.place.map(|(_, column)| column)
    }

    /// Whether the prompt file does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.0.kind, ErrorKind::NotFound)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            prompt,
            place,
            kind,
            ..
        } = &*self.0;
        match (kind, place) {
            // These name the prompt themselves, or have none.
            (ErrorKind::Variable(_) | ErrorKind::Row { .. }, _) => write!(f, "{kind}"),
            (_, Some((line, column))) => {
                write!(f, "`{prompt}` line {line}, column {column}: {kind}")
            }
            (_, None) => write!(f, "`{prompt}`: {kind}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_ref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

//! Why there is no value.

use std::error::Error as StdError;
use std::fmt;

/// An own error as functions hand it over.
pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// How many characters of an extractor's name a message shows.
const NAME_SHOWN: usize = 120;
/// How many characters of an own extractor's message are shown: it might hold the whole answer.
const OWN_SHOWN: usize = 500;

/// An extractor gave no value, or could not be made.
///
/// The text names the extractor and what happened; it never holds the answer. Match on [`kind`](Self::kind),
/// [`is_miss`](Self::is_miss) or [`class`](Self::class), never on the text.
#[derive(Debug)]
pub struct Error(Box<Inner>);

/// Boxed, so that a `Result` with this error stays small.
#[derive(Debug)]
struct Inner {
    extractor: Box<str>,
    kind: ErrorKind,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was looked for is not in the answer.
    #[error("{reason}")]
    Miss {
        /// What was looked for and where, as a fragment of a sentence.
        reason: String,
    },
    /// A tag is opened and not closed: the answer was cut, or is not in the form that was asked for.
    #[error(
        "`<{tag}>` opened at byte {at} is never closed: the answer was cut, or is not in the form asked for"
    )]
    UnclosedTag {
        /// The tag's name.
        tag: String,
        /// Where its `<` is, in bytes from the answer's beginning.
        at: usize,
    },
    /// A fenced block is opened and not closed, and what it holds is no complete list or object.
    #[error(
        "the code fence opened at byte {at} is never closed: the answer was cut, or is not in the form asked for"
    )]
    UnclosedFence {
        /// Where the fence begins, in bytes from the answer's beginning.
        at: usize,
    },
    /// There is a value, but [nothing is in it](crate::is_empty).
    #[error("{what} is empty")]
    Empty {
        /// Which part of the answer, as a fragment of a sentence.
        what: String,
    },
    /// The pattern went back more often than it may.
    #[error(
        "the pattern was given up after going back {limit} times; make it simpler, or raise the backtrack limit"
    )]
    BacktrackLimit {
        /// The limit that was reached.
        limit: usize,
    },
    /// The pattern needs more of the engine's stack than there is, whatever the backtrack limit.
    #[error(
        "the pattern needs too much stack for {answer_len} bytes; make it simpler, such as `.*?` for a look-ahead in each step"
    )]
    StackLimit {
        /// The answer's length in bytes.
        answer_len: usize,
    },
    /// The engine stopped for another reason, such as a fault of its own.
    #[error("the pattern could not be run: {reason}")]
    Engine {
        /// Why, as a fragment of a sentence.
        reason: String,
    },
    /// The pattern cannot be compiled; the engine's reason is the source of the error.
    #[error("the pattern does not compile{}", place(*.position))]
    Pattern {
        /// Where in the pattern, counted in characters from 1; `None` where the engine does not say.
        position: Option<usize>,
        /// Why, in the engine's words.
        #[source]
        reason: BoxError,
    },
    /// The text that describes an extractor, or a tag's name, is none.
    #[error("{reason}")]
    Spec {
        /// What is wrong with it and what is possible, as a fragment of a sentence.
        reason: String,
    },
    /// An own extractor returned this error.
    #[error("{}", shown(&.0.to_string(), OWN_SHOWN))]
    Own(BoxError),
}

impl Error {
    pub(crate) fn new(extractor: &str, kind: ErrorKind) -> Self {
        Self(Box::new(Inner {
            extractor: extractor.into(),
            kind,
        }))
    }

    /// A miss, for an [`Extract`](crate::Extract) or a function of your own: what was looked for is not
    /// in the answer. `reason` is a lower-case fragment that does not hold the answer.
    ///
    /// ```
    /// use data_generation_extractors::Error;
    ///
    /// let error = Error::miss("scores", "no line with a score");
    /// assert!(error.is_miss());
    /// assert_eq!(error.to_string(), "extractor `scores`: no line with a score");
    /// ```
    pub fn miss(extractor: &str, reason: impl Into<String>) -> Self {
        Self::new(
            extractor,
            ErrorKind::Miss {
                reason: reason.into(),
            },
        )
    }

    /// A fault of an [`Extract`](crate::Extract) of your own: not the answer is to blame.
    pub fn own(extractor: &str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(extractor, ErrorKind::Own(source.into()))
    }

    pub(crate) fn empty(extractor: &str, what: impl Into<String>) -> Self {
        Self::new(extractor, ErrorKind::Empty { what: what.into() })
    }

    pub(crate) fn spec(spec: &str, reason: impl Into<String>) -> Self {
        Self::new(
            spec,
            ErrorKind::Spec {
                reason: reason.into(),
            },
        )
    }

    /// The name of the extractor, or the text that describes none.
    #[must_use]
    pub fn extractor(&self) -> &str {
        &self.0.extractor
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Whether the answer is to blame: it lacks what was looked for, is cut, or holds nothing. Asking the
    /// model again may help.
    #[must_use]
    pub fn is_miss(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Miss { .. }
                | ErrorKind::UnclosedTag { .. }
                | ErrorKind::UnclosedFence { .. }
                | ErrorKind::Empty { .. }
        )
    }

    /// The class under which a failed row is counted: `extraction_miss` for a [miss](Self::is_miss),
    /// `regex_limit` for a pattern that was given up, `extractor_error` for all else.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self.kind() {
            _ if self.is_miss() => "extraction_miss",
            ErrorKind::BacktrackLimit { .. } | ErrorKind::StackLimit { .. } => "regex_limit",
            _ => "extractor_error",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "extractor `{}`: {}",
            shown(self.extractor(), NAME_SHOWN),
            self.kind()
        )
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self.kind() {
            // The text already says what the own error says; the chain goes on behind it.
            ErrorKind::Own(error) => error.source(),
            kind => kind.source(),
        }
    }
}

fn place(position: Option<usize>) -> String {
    position.map_or_else(String::new, |position| {
        format!(" (at character {position})")
    })
}

/// Text for a message: one line, cut after `limit` characters, without what could steer a terminal.
pub(crate) fn shown(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == limit {
            out.push_str("...");
            break;
        }
        let steers = matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || steers {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_class() {
        let class = |kind| Error::new("x", kind).class();
        let text = String::new;
        assert_eq!(class(ErrorKind::Miss { reason: text() }), "extraction_miss");
        assert_eq!(
            class(ErrorKind::UnclosedTag { tag: text(), at: 0 }),
            "extraction_miss"
        );
        assert_eq!(class(ErrorKind::UnclosedFence { at: 0 }), "extraction_miss");
        assert_eq!(class(ErrorKind::Empty { what: text() }), "extraction_miss");
        assert_eq!(class(ErrorKind::BacktrackLimit { limit: 1 }), "regex_limit");
        assert_eq!(
            class(ErrorKind::StackLimit { answer_len: 1 }),
            "regex_limit"
        );
        assert_eq!(
            class(ErrorKind::Engine { reason: text() }),
            "extractor_error"
        );
        assert_eq!(class(ErrorKind::Spec { reason: text() }), "extractor_error");
        assert_eq!(class(ErrorKind::Own("x".into())), "extractor_error");
    }

    #[test]
    fn an_own_message_is_one_short_line() {
        let error = Error::own("mine", format!("\u{1b}[31m\n{}", "长".repeat(10_000)));
        let text = error.to_string();
        assert!(
            text.starts_with(r"extractor `mine`: \u{1b}[31m\n长"),
            "{text}"
        );
        assert!(text.ends_with("长...") && text.chars().count() < 600);
    }

    #[test]
    fn a_chain_says_nothing_twice() {
        let inner = std::fs::read("/this/path/does/not/exist").unwrap_err();
        let error = Error::own("mine", inner);
        assert!(error.source().is_none(), "its own text is in the message");
    }

    #[test]
    fn an_error_is_as_small_as_a_pointer() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}

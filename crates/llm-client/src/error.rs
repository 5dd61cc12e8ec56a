use std::fmt;
use std::time::Duration;

/// An error of the caller's own, carried through unchanged.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a question has no reply, or why a model could not be made.
///
/// Match on [`kind`](Error::kind), never on the text.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    attempts: u32,
}

/// What went wrong, and whom it concerns: one row, the run, or nobody.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// This one question cannot be answered; others can.
    #[error("{message}")]
    Row {
        /// Stable name of the fault, in snake case.
        class: &'static str,
        /// The cause, in one line.
        message: String,
        /// What the model wrote, where it wrote something (an answer cut short, a refusal).
        text: Option<String>,
    },
    /// No question can be answered until somebody changes something. The client sends nothing more.
    #[error("{message}; {cure}")]
    Run {
        /// Stable name of the fault, in snake case.
        class: &'static str,
        /// The cause, in one line.
        message: String,
        /// What to change, naming the configuration key where there is one.
        cure: String,
    },
    /// The endpoint asks for a wait that is too long to sit through. The client sends nothing more.
    #[error("{message}")]
    Later {
        /// The cause, in one line.
        message: String,
        /// How long to stay away, where the endpoint said it.
        wait: Option<Duration>,
    },
    /// Nothing was wrong with the question: the caller, or an earlier error of the whole run, stopped it.
    #[error("stopped before an answer came")]
    Stopped,
    /// [`Call::paid`](crate::Call::paid) could not keep an answer.
    #[error("a paid answer could not be kept")]
    Call(#[source] BoxError),
    /// A field of [`OpenAiOptions`](crate::OpenAiOptions) cannot be used.
    #[error("`{field}` {message}")]
    Options {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it and what to write instead; never a secret.
        message: String,
    },
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, attempts: u32) -> Error {
        Error { kind, attempts }
    }

    pub(crate) fn options(field: &'static str, message: impl Into<String>) -> Error {
        let message = message.into();
        Error::new(ErrorKind::Options { field, message }, 0)
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// What went wrong, by value.
    pub fn into_kind(self) -> ErrorKind {
        self.kind
    }

    /// The number of the last request that was sent for this question; 0 when none was.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The stable snake-case name of the fault.
    pub fn class(&self) -> &'static str {
        match &self.kind {
            ErrorKind::Row { class, .. } | ErrorKind::Run { class, .. } => class,
            ErrorKind::Later { .. } => "later",
            ErrorKind::Stopped => "stopped",
            ErrorKind::Call(_) => "answer_not_kept",
            ErrorKind::Options { .. } => "options",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.kind)
    }
}

/// Why no whole answer arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportError {
    kind: TransportKind,
    message: String,
}

/// Where on the way a request was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportKind {
    /// The host name has no address.
    Dns,
    /// Nobody listens, or the network refuses.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The server's certificate is not to be trusted.
    Certificate,
    /// No connection within the connect timeout.
    ConnectTimeout,
    /// Not a byte for longer than the idle timeout.
    IdleTimeout,
    /// The whole answer took longer than the total timeout.
    TotalTimeout,
    /// The connection was closed or reset before the answer began.
    Closed,
    /// The connection broke inside the answer.
    Body,
    /// The server says that it has not begun to work on the request (HTTP/2 `GOAWAY`, `REFUSED_STREAM`).
    NotProcessed,
    /// The answer is larger than may be held.
    TooLarge,
    /// This process may not open more files or connections.
    TooManyFiles,
    /// The model (one of your own, or the offline one) cannot answer this very request.
    Row,
    /// Anything else.
    Other,
}

impl TransportError {
    /// An error of a kind; the message is one lowercase sentence without a full stop and without a secret.
    pub fn new(kind: TransportKind, message: impl Into<String>) -> TransportError {
        let message = message.into();
        TransportError { kind, message }
    }

    /// Where the request was lost.
    pub fn kind(&self) -> TransportKind {
        self.kind
    }

    /// The cause, in one line, with the address where there is one.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TransportError {}

//! Everything that was wrong with a configuration.

use std::fmt;

use crate::Origin;

/// A configuration that could not be used, with every fault that was found in it.
///
/// It prints one fault a line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Error {
    faults: Vec<Fault>,
}

impl Error {
    pub(crate) fn new(faults: Vec<Fault>) -> Self {
        Self { faults }
    }

    /// All faults: those of the lowest layer first, within a file from top to bottom.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Whether a fault of this kind is among them.
    pub fn has(&self, kind: FaultKind) -> bool {
        self.faults.iter().any(|fault| fault.kind == kind)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) key: Option<String>,
    pub(crate) origin: Origin,
    pub(crate) column: Option<usize>,
    pub(crate) message: String,
}

impl Fault {
    /// What is wrong; match on this, never on the text.
    pub fn kind(&self) -> FaultKind {
        self.kind
    }

    /// The full dotted key, where one key is at fault.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Where the faulty value came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The line in the file, from 1.
    pub fn line(&self) -> Option<usize> {
        self.origin.line()
    }

    /// The column in that line, in characters from 1; known for faults of syntax.
    pub fn column(&self) -> Option<usize> {
        self.column
    }

    /// The text without its origin.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A key that is missing everywhere came from nowhere.
        if self.kind == FaultKind::Missing && self.origin == Origin::Default {
            return f.write_str(&self.message);
        }
        write!(f, "{}", self.origin)?;
        if let (Some(_), Some(column)) = (self.line(), self.column) {
            write!(f, ":{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// The kinds of [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// A key that the configuration does not have.
    UnknownKey,
    /// A value of another type than the key wants.
    WrongType,
    /// A value of the right type that the key does not take.
    BadValue,
    /// A key that must be given and is not.
    Missing,
    /// Text that is not YAML, or an assignment without a key or a value.
    Syntax,
    /// A key that is given twice in one place.
    DuplicateKey,
    /// A file that does not exist.
    NoFile,
    /// A file that the operating system did not let us read.
    Io,
}

//! What keeps a pipeline from being built or run.

use std::fmt;
use std::path::Path;

use crate::{config, extract, llm, pipeline, templating};

/// Why a pipeline could not be built, or a run not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The configuration: every fault with its key and where it comes from.
    Config(config::Error),
    /// A prompt that cannot be read or compiled.
    Prompt(templating::Error),
    /// An extractor that cannot work.
    Extract(extract::Error),
    /// A model that cannot be asked: a wrong address, a missing key.
    Model(llm::Error),
    /// The run itself: rows, folder, lock, disk.
    Run(pipeline::Error),
    /// Settings that do not go together.
    Usage(String),
}

impl Error {
    /// Whether the operating system refused a read or a write; everything else is for the user to change.
    pub fn is_io(&self) -> bool {
        match self {
            Error::Config(error) => {
                error.has(config::FaultKind::Io)
                    && !error
                        .faults()
                        .iter()
                        .any(|fault| fault.kind() != config::FaultKind::Io)
            }
            Error::Prompt(error) => matches!(error.kind(), templating::ErrorKind::Unreadable),
            Error::Run(error) => error.is_io(),
            _ => false,
        }
    }

    /// The run folder that was open when it happened.
    pub fn run_dir(&self) -> Option<&Path> {
        match self {
            Error::Run(error) => error.run_dir(),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(error) => error.fmt(f),
            Error::Prompt(error) => error.fmt(f),
            Error::Extract(error) => error.fmt(f),
            Error::Model(error) => error.fmt(f),
            Error::Run(error) => error.fmt(f),
            Error::Usage(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Config(error) => error.source(),
            Error::Prompt(error) => error.source(),
            Error::Extract(error) => error.source(),
            Error::Model(error) => error.source(),
            Error::Run(error) => error.source(),
            Error::Usage(_) => None,
        }
    }
}

macro_rules! from {
    ($($variant:ident($error:ty)),*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Error::$variant(error)
            }
        })*
    };
}

from!(
    Config(config::Error),
    Prompt(templating::Error),
    Extract(extract::Error),
    Model(llm::Error),
    Run(pipeline::Error)
);

//! The only place that prints. Data goes to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};

/// Makes text of others safe to show: control characters would steer the terminal.
pub(crate) fn safe(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

/// A line of data. Who reads may have left: then nobody wants the rest, and nothing is wrong.
pub(crate) fn data(text: &str) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{}", safe(text))
        .and_then(|()| out.flush())
        .is_err()
    {
        tracing::debug!("standard output is closed");
    }
}

/// A line for the person in front of it.
pub(crate) fn line(text: &str) {
    let mut err = io::stderr().lock();
    if writeln!(err, "{}", safe(text)).is_err() {
        tracing::debug!("standard error is closed");
    }
}

/// An error's line.
pub(crate) fn error_line(text: &str) {
    line(text);
}

/// Whether a person watches.
pub(crate) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

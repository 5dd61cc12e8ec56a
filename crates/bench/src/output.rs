//! The only place that prints. Figures go to standard output, what happens meanwhile to standard error.

use std::io::{self, Write};

/// A line of figures. Who reads may have left, and nothing is wrong then.
pub(crate) fn line(text: &str) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// A line about what happens.
pub(crate) fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

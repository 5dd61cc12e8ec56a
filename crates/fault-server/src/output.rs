//! The only place that prints.

use std::io::{self, Write};

/// What was asked for, to standard output.
pub(crate) fn data(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A line for the person in front of it. When nobody can read it, nothing is lost.
pub(crate) fn line(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

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

/// A number of things, as people say it.
pub(crate) fn counted(count: u64, one: &str, more: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {more}"),
    }
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
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

/// Columns of the terminal.
pub(crate) fn columns() -> usize {
    let (_, columns) = console::Term::stderr().size();
    columns.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_as_a_shell_needs_it() {
        assert_eq!(quoted("output/demo-1_2.x"), "output/demo-1_2.x");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted(""), "''");
    }
}

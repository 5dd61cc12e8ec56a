//! Lines of keys in YAML text.
//!
//! The YAML reader tells positions only in errors. So each key is read by a visitor that keeps the
//! key and then fails on purpose: the error says where, and reading goes on.

use std::collections::HashMap;
use std::fmt::Display;

use crate::key::KeyPath;

/// The message of the failure on purpose.
pub(crate) const HERE: &str = "\u{1}here\u{1}";

/// The line that a failure on purpose names, from 1.
pub(crate) fn line_of(failure: &impl Display) -> Option<usize> {
    let text = failure.to_string();
    let (_, place) = text.rsplit_once(HERE)?;
    // The reader leaves out the place when it is the very first character.
    if place.is_empty() {
        return Some(1);
    }
    let line = place.strip_prefix(" at line ")?.split(' ').next()?;
    line.parse().ok()
}

/// The lines of the keys and list items of one document.
#[derive(Default)]
pub(crate) struct Lines {
    lines: HashMap<KeyPath, usize>,
    text: String,
}

impl Lines {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            lines: HashMap::new(),
            text: text.to_owned(),
        }
    }

    pub(crate) fn insert(&mut self, path: &[String], line: usize) {
        self.lines.insert(path.to_vec(), line);
    }

    /// The line of a path, or else of its nearest parent.
    pub(crate) fn nearest(&self, path: &[String]) -> Option<usize> {
        (1..=path.len())
            .rev()
            .find_map(|n| self.lines.get(&path[..n]).copied())
    }

    /// Whether the line of a path holds these words.
    pub(crate) fn shows(&self, path: &[String], words: &str) -> bool {
        let line = self.lines.get(path).and_then(|n| n.checked_sub(1));
        line.and_then(|n| self.text.lines().nth(n))
            .is_some_and(|line| line.contains(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_line_of_a_failure_on_purpose() {
        assert_eq!(
            line_of(&format!("a.b: {HERE} at line 12 column 3")),
            Some(12)
        );
        assert_eq!(line_of(&HERE), Some(1));
        assert_eq!(line_of(&"another failure at line 3 column 1"), None);
    }
}

//! What the check finds, in a row and over all of them.

use std::fmt;

/// One thing that is wrong with a row, seen from a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The variable as it stands in the prompt; the row's own key where the row is at fault, empty
    /// where the whole row is.
    pub variable: String,
    /// The prompt's name or path; empty where no prompt is concerned.
    pub prompt: String,
    /// The line in the prompt, counted from 1; 0 where no prompt is concerned.
    pub prompt_line: usize,
    /// What is wrong.
    pub kind: ProblemKind,
    pub(crate) column: usize,
    /// The tag as it is shown: `{{topic}}`.
    pub(crate) shown: String,
    pub(crate) detail: String,
}

/// What is wrong with a variable in a row; match on this, never on the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The row has no such name.
    Missing,
    /// The value is null, where it would be printed or entered.
    Null,
    /// The value is an object, where text would be printed.
    Object,
    /// The value is of a kind that cannot stand here: a list that is asked for a field, a string
    /// for `each`, a `user_prompt_kwargs` that is not an object, a row that is not one.
    WrongShape,
    /// The row, or a part of it that is needed, is not JSON that can be held.
    Malformed,
}

impl Problem {
    /// The column in the prompt, in characters, counted from 1; 0 where no prompt is concerned.
    #[must_use]
    pub fn column(&self) -> usize {
        self.column
    }

    pub(crate) fn row(kind: ProblemKind, variable: &str, detail: String) -> Self {
        Self {
            variable: variable.to_owned(),
            prompt: String::new(),
            prompt_line: 0,
            kind,
            column: 0,
            shown: String::new(),
            detail,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            prompt,
            prompt_line,
            shown,
            detail,
            ..
        } = self;
        if prompt.is_empty() && *prompt_line == 0 {
            write!(f, "{detail}")
        } else {
            write!(f, "`{shown}` ({prompt}:{prompt_line}) {detail}")
        }
    }
}

/// What only all rows together show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Findings {
    /// Kwargs that their prompt does not use: worth a warning.
    pub unused: Vec<UnusedKwarg>,
    /// Names in single braces in a Handlebars prompt, that the rows have and no prompt uses: the
    /// prompt was meant for [`Syntax::Format`](crate::Syntax::Format).
    pub wrong_syntax: Vec<WrongSyntax>,
}

/// A kwarg that no prompt uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct UnusedKwarg {
    /// Where it stands: `user_prompt_kwargs` or `system_prompt_kwargs`.
    pub group: &'static str,
    /// The kwarg's name.
    pub name: String,
    /// The number of rows that have it.
    pub rows: u64,
}

impl fmt::Display for UnusedKwarg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, name, rows } = self;
        let plural = if *rows == 1 { "" } else { "s" };
        let which = group.split('_').next().unwrap_or_default();
        write!(
            f,
            "`{name}` in `{group}` of {rows} row{plural} is not used by the {which} prompt"
        )
    }
}

/// A placeholder in the wrong syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrongSyntax {
    /// The name between the braces.
    pub name: String,
    /// The prompt's name or path.
    pub prompt: String,
    /// The line in the prompt, counted from 1.
    pub line: usize,
    /// The column in the prompt, in characters, counted from 1.
    pub column: usize,
}

impl fmt::Display for WrongSyntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            prompt,
            line,
            column,
        } = self;
        write!(
            f,
            "`{{{name}}}` (`{prompt}` line {line}, column {column}) is plain text in Handlebars, and the rows have `{name}`; write `{{{{{name}}}}}`, or use the syntax `format` for this prompt"
        )
    }
}

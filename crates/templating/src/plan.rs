//! What a prompt does with its data: the same tree for both syntaxes, read by the check.

use serde_json::Value;

use crate::helpers::Function;

/// Line and column in the prompt, each counted from 1.
pub(crate) type Place = (usize, usize);

/// A step that depends on the data; plain text has none.
#[derive(Debug)]
pub(crate) enum Node {
    /// `{{value}}`, or `{{json value}}`.
    Print {
        value: Expr,
        json: bool,
        place: Place,
    },
    /// `{{#if}}`; `unless` and blocks such as `{{#eq a b}}` are written as one.
    If {
        condition: Expr,
        include_zero: bool,
        then: Vec<Node>,
        otherwise: Vec<Node>,
        place: Place,
    },
    /// `{{#each list}}`.
    Each {
        list: Expr,
        body: Vec<Node>,
        otherwise: Option<Vec<Node>>,
        place: Place,
    },
    /// `{{#with value}}`.
    With {
        value: Expr,
        body: Vec<Node>,
        otherwise: Option<Vec<Node>>,
        place: Place,
    },
}

#[derive(Debug)]
pub(crate) enum Expr {
    Literal(Value),
    Path(Path),
    Call {
        function: Function,
        args: Vec<Expr>,
        /// Whether a missing argument counts as null: inside a condition.
        lenient: bool,
        /// The call as it is shown in messages.
        raw: String,
    },
}

impl Expr {
    /// The expression as it is shown in messages.
    pub(crate) fn raw(&self) -> &str {
        match self {
            Self::Literal(_) => "a literal",
            Self::Path(path) => &path.raw,
            Self::Call { raw, .. } => raw,
        }
    }
}

/// A name, resolved as far as the template alone tells.
#[derive(Debug)]
pub(crate) struct Path {
    /// As it stands in the prompt.
    pub(crate) raw: String,
    pub(crate) base: Base,
    pub(crate) keys: Vec<String>,
}

/// Where a path begins. Levels count the `each` and `with` blocks from the inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// The value of the block so many levels up.
    This(usize),
    Root,
    /// `@index`, `@key`, ... of the `each` so many levels up.
    Local(usize, Local),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Local {
    First,
    Last,
    Index,
    Key,
    /// The second block parameter: the key of an object's element, else the index.
    KeyOrIndex,
}

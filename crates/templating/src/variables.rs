//! Which names of a row a prompt uses, and how.

use std::collections::HashSet;

use crate::plan::{Base, Expr, Node, Path, Place};

/// A name that a prompt takes from the row.
///
/// ```
/// use data_generation_templating::{Need, Prompt, Syntax};
///
/// let text = "{{topic}}{{#if hint}} Hint: {{hint}}{{/if}}{{#each tags}} #{{this}}{{/each}}";
/// let prompt = Prompt::from_text("user prompt", text, Syntax::Handlebars)?;
/// let variables: Vec<_> = prompt.variables().iter().map(|v| (v.path.as_str(), v.need)).collect();
/// assert_eq!(
///     variables,
///     [("topic", Need::Printed), ("hint", Need::PrintedInsideOwnIf), ("tags", Need::Entered)],
/// );
/// # Ok::<(), data_generation_templating::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Variable {
    /// The name from the row's root, such as `topic` or `a.b`; `this` is the whole row.
    pub path: String,
    /// What it must be, at the place that asks the most of it.
    pub need: Need,
    /// The line of its first appearance, counted from 1.
    pub line: usize,
    /// The column of its first appearance, or of the tag it stands in, in characters from 1.
    pub column: usize,
}

/// What a variable must be in a row, where the prompt comes to print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Need {
    /// Only a condition, an argument of one, or an `each` or `with` that has an `{{else}}`: it may
    /// be missing.
    ConditionOnly,
    /// Printed, but only inside its own `{{#if name}}`: it may be missing.
    PrintedInsideOwnIf,
    /// Argument of an `each` or a `with` without `{{else}}`: it must be there and not null.
    Entered,
    /// Printed through the `json` helper: it must be there, and may be null or an object.
    PrintedAsJson,
    /// Printed: it must be there and be neither null nor an object.
    Printed,
}

/// The top-level names that a plan can ask of its data.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    /// The whole row is used: `{{json this}}`.
    pub(crate) all: bool,
    /// Sorted.
    list: Vec<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    name: String,
    /// Only printed or asked whether it holds: of a string nothing but "empty or not" counts.
    shallow: bool,
}

impl Names {
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.all || self.find(name).is_some()
    }

    pub(crate) fn is_shallow(&self, name: &str) -> bool {
        self.shallow(name).is_some()
    }

    /// Which of the names it is, if it is a shallow one.
    pub(crate) fn shallow(&self, name: &str) -> Option<usize> {
        let index = self.find(name)?;
        (!self.all && self.list[index].shallow).then_some(index)
    }

    fn find(&self, name: &str) -> Option<usize> {
        let index = self
            .list
            .binary_search_by(|known| known.name.as_str().cmp(name));
        index.ok()
    }

    /// The names of two prompts that see the same data.
    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut list = [self.list.as_slice(), &other.list].concat();
        list.sort();
        // `false` sorts first: of two entries the one that needs more stays.
        list.dedup_by(|later, earlier| later.name == earlier.name);
        Self {
            all: self.all || other.all,
            list,
        }
    }
}

/// Lists the free variables and the top-level names of a plan.
pub(crate) fn collect(plan: &[Node]) -> (Vec<Variable>, Names) {
    let mut collector = Collector::default();
    collector.nodes(plan);
    let mut list: Vec<Name> = Vec::new();
    for (name, shallow) in collector.names {
        list.push(Name { name, shallow });
    }
    list.sort();
    list.dedup_by(|later, earlier| later.name == earlier.name);
    let names = Names {
        all: collector.all,
        list,
    };
    (collector.variables, names)
}

#[derive(Default)]
struct Collector {
    variables: Vec<Variable>,
    all: bool,
    names: HashSet<(String, bool)>,
    /// The path from the root of each block around; `None` inside of `each`.
    levels: Vec<Option<Vec<String>>>,
    /// Paths whose own `if` is around.
    guards: Vec<Vec<String>>,
}

impl Collector {
    fn nodes(&mut self, nodes: &[Node]) {
        for node in nodes {
            match node {
                Node::Print { value, json, place } => {
                    let need = if *json {
                        Need::PrintedAsJson
                    } else {
                        Need::Printed
                    };
                    self.expr(value, need, !*json, *place);
                }
                Node::If {
                    condition,
                    then,
                    otherwise,
                    place,
                    ..
                } => {
                    self.expr(condition, Need::ConditionOnly, true, *place);
                    let guard = match condition {
                        Expr::Path(path) => self.resolve(path),
                        _ => None,
                    };
                    let guarded = guard.is_some();
                    self.guards.extend(guard);
                    self.nodes(then);
                    if guarded {
                        self.guards.pop();
                    }
                    self.nodes(otherwise);
                }
                Node::Each {
                    list,
                    body,
                    otherwise,
                    place,
                } => {
                    self.block(list, None, body, otherwise.as_deref(), *place);
                }
                Node::With {
                    value,
                    body,
                    otherwise,
                    place,
                } => {
                    let level = match value {
                        Expr::Path(path) => self.resolve(path),
                        _ => None,
                    };
                    self.block(value, level, body, otherwise.as_deref(), *place);
                }
            }
        }
    }

    fn block(
        &mut self,
        value: &Expr,
        level: Option<Vec<String>>,
        body: &[Node],
        otherwise: Option<&[Node]>,
        place: Place,
    ) {
        let need = if otherwise.is_some() {
            Need::ConditionOnly
        } else {
            Need::Entered
        };
        self.expr(value, need, false, place);
        self.levels.push(level);
        self.nodes(body);
        self.levels.pop();
        self.nodes(otherwise.unwrap_or_default());
    }

    fn expr(&mut self, expr: &Expr, need: Need, shallow: bool, place: Place) {
        match expr {
            Expr::Literal(_) => {}
            Expr::Path(path) => self.path(path, need, shallow, place),
            Expr::Call { args, lenient, .. } => {
                let need = if *lenient {
                    Need::ConditionOnly
                } else {
                    Need::PrintedAsJson
                };
                for arg in args {
                    self.expr(arg, need, false, place);
                }
            }
        }
    }

    fn path(&mut self, path: &Path, need: Need, shallow: bool, place: Place) {
        let Some(keys) = self.resolve(path) else {
            return;
        };
        match keys.as_slice() {
            [] => self.all = true,
            [name] => drop(self.names.insert((name.clone(), shallow))),
            [name, ..] => drop(self.names.insert((name.clone(), false))),
        }
        let guarded = self.guards.contains(&keys) && need > Need::PrintedInsideOwnIf;
        let need = if guarded {
            Need::PrintedInsideOwnIf
        } else {
            need
        };
        let path = if keys.is_empty() {
            "this".to_owned()
        } else {
            keys.join(".")
        };
        match self.variables.iter_mut().find(|known| known.path == path) {
            Some(known) => known.need = known.need.max(need),
            None => {
                let (line, column) = place;
                self.variables.push(Variable {
                    path,
                    need,
                    line,
                    column,
                });
            }
        }
    }

    /// The path from the root; `None` for what belongs to an element of an `each`.
    fn resolve(&self, path: &Path) -> Option<Vec<String>> {
        let mut keys = match path.base {
            Base::Root => Vec::new(),
            Base::Local(..) => return None,
            Base::This(up) if up == self.levels.len() => Vec::new(),
            Base::This(up) => self.levels.iter().rev().nth(up)?.clone()?,
        };
        keys.extend(path.keys.iter().cloned());
        Some(keys)
    }
}

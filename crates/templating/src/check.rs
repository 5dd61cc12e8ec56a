//! The check: a walk over the names of a prompt, evaluated against a row, without rendering.

use std::borrow::Cow;

use serde_json::Value;

use crate::exact;
use crate::helpers::truthy;
use crate::plan::{Base, Expr, Local, Node, Path, Place};
use crate::problem::{Problem, ProblemKind};
use crate::{Prompt, Syntax};

/// At most so many names of the row in a message.
const NAMES_SHOWN: usize = 5;

/// Everything that would keep `data` from being rendered; `root` is what messages call the data.
pub(crate) fn walk(prompt: &Prompt, data: &Value, root: &str) -> Vec<Problem> {
    let mut walk = Walk {
        prompt,
        problems: Vec::new(),
    };
    let frame = Frame {
        parent: None,
        this: data,
        source: root,
        position: None,
    };
    walk.nodes(prompt.plan(), &frame);
    walk.problems
}

struct Walk<'a> {
    prompt: &'a Prompt,
    problems: Vec<Problem>,
}

/// The value of a block, and the blocks around it.
struct Frame<'f> {
    parent: Option<&'f Frame<'f>>,
    this: &'f Value,
    /// What the block was given, for messages.
    source: &'f str,
    position: Option<Position<'f>>,
}

/// An element of an `each`.
#[derive(Clone, Copy)]
struct Position<'f> {
    index: usize,
    len: usize,
    key: Option<&'f str>,
}

/// Why a path has no value.
struct Fault<'f> {
    kind: ProblemKind,
    path: &'f Path,
    frame: &'f Frame<'f>,
    /// The last value that was reached, and by how many keys.
    reached: &'f Value,
    keys: usize,
}

impl<'f> Frame<'f> {
    fn up(&'f self, levels: usize) -> &'f Frame<'f> {
        let mut frame = self;
        for _ in 0..levels {
            frame = frame.parent.unwrap_or(frame);
        }
        frame
    }

    fn root(&'f self) -> &'f Frame<'f> {
        let mut frame = self;
        while let Some(parent) = frame.parent {
            frame = parent;
        }
        frame
    }

    fn local(&self, local: Local) -> Option<Value> {
        let Position { index, len, key } = self.position?;
        Some(match (local, key) {
            (Local::First, _) => Value::Bool(index == 0),
            (Local::Last, _) => Value::Bool(index + 1 == len),
            (Local::Index, _) | (Local::KeyOrIndex, None) => Value::from(index),
            (Local::Key | Local::KeyOrIndex, key) => Value::from(key?),
        })
    }

    /// "the row", "`items[2]`", "`address`".
    fn label(&self) -> String {
        match (&self.position, self.parent) {
            (Some(Position { key: Some(key), .. }), _) => format!("`{}.{key}`", self.source),
            (Some(Position { index, .. }), _) => format!("`{}[{index}]`", self.source),
            (None, Some(_)) => format!("`{}`", self.source),
            (None, None) => self.source.to_owned(),
        }
    }
}

type Found<'f> = Result<Cow<'f, Value>, Fault<'f>>;

fn resolve<'f>(path: &'f Path, frame: &'f Frame<'f>) -> Found<'f> {
    let base = match path.base {
        Base::This(up) => frame.up(up),
        Base::Root => frame.root(),
        Base::Local(up, local) => {
            let frame = frame.up(up);
            let value = frame.local(local).filter(|_| path.keys.is_empty());
            return value.map(Cow::Owned).ok_or(Fault {
                kind: ProblemKind::Missing,
                path,
                frame,
                reached: &Value::Null,
                keys: 0,
            });
        }
    };
    let mut value = base.this;
    for (keys, key) in path.keys.iter().enumerate() {
        let fault = |kind| Fault {
            kind,
            path,
            frame: base,
            reached: value,
            keys,
        };
        value = match value {
            Value::Array(list) => {
                let index: usize = key.parse().map_err(|_| fault(ProblemKind::WrongShape))?;
                list.get(index).ok_or_else(|| fault(ProblemKind::Missing))?
            }
            Value::Object(map) => map.get(key).ok_or_else(|| fault(ProblemKind::Missing))?,
            _ => return Err(fault(ProblemKind::Missing)),
        };
    }
    Ok(Cow::Borrowed(value))
}

fn eval<'f>(expr: &'f Expr, frame: &'f Frame<'f>) -> Result<Option<Cow<'f, Value>>, Fault<'f>> {
    match expr {
        Expr::Literal(value) => Ok(Some(Cow::Borrowed(value))),
        Expr::Path(path) => resolve(path, frame).map(Some),
        Expr::Call {
            function,
            args,
            lenient,
            ..
        } => {
            let mut values = Vec::with_capacity(args.len());
            for arg in args {
                let value = match eval(arg, frame) {
                    Err(fault) if *lenient && fault.kind == ProblemKind::Missing => None,
                    other => other?,
                };
                match value {
                    None if !*lenient => return Ok(None),
                    value => values.push(value.unwrap_or(Cow::Owned(Value::Null))),
                }
            }
            let args: Vec<&Value> = values.iter().map(Cow::as_ref).collect();
            let value = function.apply(&args).map(Cow::into_owned);
            Ok(value.map(Cow::Owned))
        }
    }
}

/// The value of a condition: missing is null.
fn eval_condition<'f>(expr: &'f Expr, frame: &'f Frame<'f>) -> Found<'f> {
    match eval(expr, frame) {
        Err(fault) if fault.kind != ProblemKind::Missing => Err(fault),
        Ok(Some(value)) => Ok(value),
        Ok(None) | Err(_) => Ok(Cow::Owned(Value::Null)),
    }
}

impl Walk<'_> {
    fn nodes(&mut self, nodes: &[Node], frame: &Frame<'_>) {
        for node in nodes {
            self.node(node, frame);
        }
    }

    fn node(&mut self, node: &Node, frame: &Frame<'_>) {
        match node {
            Node::Print { value, json, place } => {
                let tag = if *json { "json " } else { "" };
                match eval(value, frame) {
                    Err(fault) => self.fault(&fault, value, tag, *place),
                    Ok(None) => self.nothing_found(value, tag, frame, *place),
                    Ok(Some(_)) if *json => {}
                    Ok(Some(found)) => self.printed(&found, value, frame, *place),
                }
            }
            Node::If {
                condition,
                include_zero,
                then,
                otherwise,
                place,
            } => match eval_condition(condition, frame) {
                Err(fault) => self.fault(&fault, condition, "", *place),
                Ok(value) if truthy(&value, *include_zero) => self.nodes(then, frame),
                Ok(_) => self.nodes(otherwise, frame),
            },
            Node::Each {
                list,
                body,
                otherwise,
                place,
            } => {
                let otherwise = otherwise.as_deref();
                if let Some(value) = self.argument(list, "#each ", otherwise, frame, *place) {
                    self.each(&value, list, body, otherwise, frame, *place);
                }
            }
            Node::With {
                value,
                body,
                otherwise,
                place,
            } => {
                let otherwise = otherwise.as_deref();
                if let Some(found) = self.argument(value, "#with ", otherwise, frame, *place) {
                    self.with(&found, value, body, otherwise, frame, *place);
                }
            }
        }
    }

    /// The argument of an `each` or a `with`; without one the `{{else}}` is walked or a problem told.
    fn argument<'f>(
        &mut self,
        expr: &'f Expr,
        tag: &str,
        otherwise: Option<&[Node]>,
        frame: &'f Frame<'f>,
        place: Place,
    ) -> Option<Cow<'f, Value>> {
        match (eval(expr, frame), otherwise) {
            (Ok(Some(value)), _) => return Some(value),
            (Err(fault), _) if fault.kind != ProblemKind::Missing => {
                self.fault(&fault, expr, tag, place)
            }
            (_, Some(nodes)) => self.nodes(nodes, frame),
            (Err(fault), None) => self.fault(&fault, expr, tag, place),
            (Ok(None), None) => self.nothing_found(expr, tag, frame, place),
        }
        None
    }

    fn with(
        &mut self,
        found: &Value,
        value: &Expr,
        body: &[Node],
        otherwise: Option<&[Node]>,
        frame: &Frame<'_>,
        place: Place,
    ) {
        if truthy(found, false) {
            let inner = Frame {
                parent: Some(frame),
                this: found,
                source: value.raw(),
                position: None,
            };
            self.nodes(body, &inner);
        } else if let Some(otherwise) = otherwise {
            self.nodes(otherwise, frame);
        } else {
            let (kind, what) = match found {
                Value::Null => (ProblemKind::Null, "null"),
                Value::Bool(_) => (ProblemKind::WrongShape, "false"),
                Value::Number(_) => (ProblemKind::WrongShape, "zero"),
                _ => (ProblemKind::WrongShape, "empty"),
            };
            let detail = || format!("is {what}, and the block has no `{{{{else}}}}`");
            self.report(kind, value.raw(), value, "#with ", place, detail);
        }
    }

    /// A `lookup` without result.
    fn nothing_found(&mut self, expr: &Expr, tag: &str, frame: &Frame<'_>, place: Place) {
        let detail = || format!("finds nothing in {}", frame.label());
        self.report(ProblemKind::Missing, expr.raw(), expr, tag, place, detail);
    }

    fn each(
        &mut self,
        value: &Value,
        list: &Expr,
        body: &[Node],
        otherwise: Option<&[Node]>,
        frame: &Frame<'_>,
        place: Place,
    ) {
        let mut element = |index, len, key, this| {
            let inner = Frame {
                parent: Some(frame),
                this,
                source: list.raw(),
                position: Some(Position { index, len, key }),
            };
            self.nodes(body, &inner);
        };
        match (value, otherwise) {
            (Value::Array(list), _) if !list.is_empty() => {
                for (index, this) in list.iter().enumerate() {
                    element(index, list.len(), None, this);
                }
            }
            (Value::Object(map), _) if !map.is_empty() => {
                for (index, (key, this)) in map.iter().enumerate() {
                    element(index, map.len(), Some(key.as_str()), this);
                }
            }
            (_, Some(otherwise)) => self.nodes(otherwise, frame),
            (Value::Array(_) | Value::Object(_), None) => {}
            (Value::Null, None) => {
                let detail = || "is null, and the block has no `{{else}}`".to_owned();
                self.report(ProblemKind::Null, list.raw(), list, "#each ", place, detail);
            }
            (other, None) => {
                let detail = || format!("is {}, not a list or an object", exact::kind(other));
                self.report(
                    ProblemKind::WrongShape,
                    list.raw(),
                    list,
                    "#each ",
                    place,
                    detail,
                );
            }
        }
    }

    /// A value that would be printed as it is.
    fn printed(&mut self, value: &Value, expr: &Expr, frame: &Frame<'_>, place: Place) {
        let (kind, what) = match value {
            Value::Null => (ProblemKind::Null, "null"),
            Value::Object(_) => (ProblemKind::Object, "an object"),
            _ => return,
        };
        let raw = expr.raw();
        let syntax = self.prompt.syntax();
        let detail = || {
            let cure = match (syntax, expr, kind) {
                (Syntax::Format, ..) => "give it a text or a number".to_owned(),
                (_, Expr::Path(_), ProblemKind::Null) => format!(
                    "`{{{{#if {raw}}}}}` around it leaves it out, `{{{{json {raw}}}}}` prints it as JSON"
                ),
                (_, Expr::Path(_), _) => {
                    format!("print a field of it, or all of it with `{{{{json {raw}}}}}`")
                }
                _ => format!("`{{{{json ({raw})}}}}` prints it as JSON"),
            };
            format!("is {what} in {}; {cure}", frame.label())
        };
        self.report(kind, raw, expr, "", place, detail);
    }

    fn fault(&mut self, fault: &Fault<'_>, expr: &Expr, tag: &str, place: Place) {
        let Fault {
            kind,
            path,
            frame,
            reached,
            keys,
        } = fault;
        let is_call = matches!(expr, Expr::Call { .. });
        let detail = || {
            let parent = match &path.keys[..*keys] {
                [] => frame.label(),
                keys => format!("`{}`", keys.join(".")),
            };
            let what = match path.keys.get(*keys) {
                // Only a part of the path is there.
                Some(key) if path.keys.len() > 1 => {
                    format!("has no value: `{key}` is missing in {parent}")
                }
                _ if is_call => format!("has no value: `{}` is missing in {parent}", path.raw),
                _ => format!("is missing in {parent}"),
            };
            let wanted = path.keys.get(*keys).map_or("", String::as_str);
            match reached {
                Value::Object(map) if map.is_empty() => format!("{what}, which is empty"),
                Value::Object(map) => {
                    let names = nearest(wanted, map.keys().map(String::as_str));
                    format!("{what}; it has {names}")
                }
                Value::Array(list) if *kind == ProblemKind::WrongShape => {
                    format!(
                        "asks for `{wanted}` of {parent}, which is a list; its elements are numbered from 0"
                    )
                }
                Value::Array(list) => format!("{what}, a list of {}", list.len()),
                _ if path.keys.is_empty() => what,
                other => format!("{what}, which is {}", exact::kind(other)),
            }
        };
        self.report(*kind, &path.raw, expr, tag, place, detail);
    }

    /// Notes a problem of `variable`, which stands in the tag of `expr`.
    fn report(
        &mut self,
        kind: ProblemKind,
        variable: &str,
        expr: &Expr,
        tag: &str,
        (line, column): Place,
        detail: impl FnOnce() -> String,
    ) {
        let known = |problem: &Problem| {
            (problem.prompt_line, problem.column, problem.kind) == (line, column, kind)
                && problem.variable == variable
        };
        // One line is enough, however many elements of a list lack it.
        if self.problems.iter().any(known) {
            return;
        }
        let raw = expr.raw();
        let shown = match (self.prompt.syntax(), expr) {
            (Syntax::Format, _) => format!("{{{raw}}}"),
            (_, Expr::Call { .. }) if !tag.is_empty() => format!("{{{{{tag}({raw})}}}}"),
            _ => format!("{{{{{tag}{raw}}}}}"),
        };
        self.problems.push(Problem {
            variable: variable.to_owned(),
            prompt: self.prompt.name().to_owned(),
            prompt_line: line,
            kind,
            column,
            shown,
            detail: detail(),
        });
    }
}

/// The names of the data, the most similar first.
fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<(usize, &str)> = names
        .map(|name| (strsim::damerau_levenshtein(wanted, name), name))
        .collect();
    names.sort_by_key(|(distance, _)| *distance);
    let more = names.len() > NAMES_SHOWN;
    let shown: Vec<String> = names
        .iter()
        .take(NAMES_SHOWN)
        .map(|(_, name)| format!("`{name}`"))
        .collect();
    shown.join(", ") + if more { ", ..." } else { "" }
}

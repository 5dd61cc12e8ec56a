//! From the parser's tree to a [`plan`](crate::plan), and to a tree that prints strictly.

use std::sync::LazyLock;

use handlebars::template::{BlockParam, HelperTemplate, Parameter, Subexpression, TemplateElement};
use handlebars::{Path as EnginePath, PathSeg, Template, TemplateErrorReason};
use serde_json::Value;

use crate::Error;
use crate::error::ErrorKind;
use crate::helpers::{self, Function};
use crate::plan::{Base, Expr, Local, Node, Path, Place};
use crate::scan::{self, Scan};

const BLOCKS: [&str; 4] = ["if", "unless", "each", "with"];

/// Parses a Handlebars text. In the tree that comes back every value is printed by our own helper,
/// so that nothing missing, null or `[object]` can reach a model.
pub(crate) fn compile(prompt: &str, source: &str) -> Result<(Template, Vec<Node>), Error> {
    let scan = Scan::new(source);
    scan.check(prompt)?;
    let mut template = Template::compile(source).map_err(|fault| {
        // On a thread with a small stack the parser stops by itself.
        let stopped = matches!(fault.reason(), TemplateErrorReason::InvalidSyntax(text) if text.contains("limit reached"));
        if stopped {
            let limit = scan::DEPTH_LIMIT;
            Error::new(prompt, fault.pos(), ErrorKind::TooDeep { limit })
        } else {
            scan.explain(prompt, fault.pos().unwrap_or((1, 1)))
        }
    })?;
    let mut compiler = Compiler {
        prompt,
        source,
        levels: Vec::new(),
    };
    let plan = compiler.nodes(&mut template, (1, 1))?;
    Ok((template, plan))
}

/// An `each` or `with` around the place that is read.
struct Level {
    is_each: bool,
    params: Vec<String>,
}

struct Compiler<'a> {
    prompt: &'a str,
    source: &'a str,
    levels: Vec<Level>,
}

impl Compiler<'_> {
    fn nodes(&mut self, template: &mut Template, outer: Place) -> Result<Vec<Node>, Error> {
        let mut nodes = Vec::new();
        for (index, element) in template.elements.iter_mut().enumerate() {
            let place = template.mapping.get(index).map_or(outer, |at| (at.0, at.1));
            match element {
                TemplateElement::Expression(tag) | TemplateElement::HtmlExpression(tag) => {
                    nodes.push(self.expression(tag, place)?);
                }
                TemplateElement::HelperBlock(tag) => {
                    let place = self.chain_place(tag, place);
                    nodes.extend(self.block(tag, place)?);
                }
                TemplateElement::RawString(_) | TemplateElement::Comment(_) => {}
                // The scan has refused partials and decorators already.
                _ => {
                    return Err(self.unsupported(place, "this kind of tag is not offered"));
                }
            }
        }
        Ok(nodes)
    }

    /// The parser gives an `{{else if}}` no place of its own: it stands before its first content.
    fn chain_place(&self, tag: &HelperTemplate, place: Place) -> Place {
        let first = tag.template.as_ref().and_then(|body| body.mapping.first());
        let Some(first) = first.filter(|_| tag.chain) else {
            return place;
        };
        let before = &self.source[..scan::offset(self.source, (first.0, first.1))];
        let at = ["{{else", "{{~else", "{{ else", "{{^"]
            .iter()
            .filter_map(|text| before.rfind(text))
            .max();
        let at = at.map(|at| scan::place(self.source, at));
        // The head of a chain is marked as part of it too, and has its place.
        at.filter(|found| *found > place).unwrap_or(place)
    }

    /// `{{x}}`, `{{json x}}`, `{{lookup a b}}`.
    fn expression(&mut self, tag: &mut HelperTemplate, place: Place) -> Result<Node, Error> {
        if tag.params.is_empty() && tag.hash.is_empty() {
            let value = self.expr(&mut tag.name, false, place)?;
            let name = std::mem::replace(&mut tag.name, Parameter::Name(helpers::PRINT.to_owned()));
            tag.params.push(name);
            let json = false;
            return Ok(Node::Print { value, json, place });
        }
        let name = tag.name.as_name().unwrap_or_default().to_owned();
        let function = self.function(&name, &tag.params, place)?;
        self.arguments(&name, function, tag, place)?;
        if function == Function::Json {
            let value = self.expr(&mut tag.params[0], false, place)?;
            tag.name = Parameter::Name(helpers::PRINT_JSON.to_owned());
            let json = true;
            return Ok(Node::Print { value, json, place });
        }
        let print = Parameter::Name(helpers::PRINT.to_owned());
        let name = std::mem::replace(&mut tag.name, print);
        let params = std::mem::take(&mut tag.params);
        let call = Subexpression::new(name, params, std::mem::take(&mut tag.hash));
        tag.params.push(Parameter::Subexpression(call));
        let value = self.expr(&mut tag.params[0], false, place)?;
        let json = false;
        Ok(Node::Print { value, json, place })
    }

    fn block(&mut self, tag: &mut HelperTemplate, place: Place) -> Result<Option<Node>, Error> {
        let name = tag.name.as_name().unwrap_or_default().to_owned();
        let params = self.block_params(&name, tag, place)?;
        if name == "raw" {
            return Ok(None);
        }
        let function = Function::named(&name).filter(|function| function.is_condition());
        if function.is_none() && !BLOCKS.contains(&name.as_str()) {
            let cure = format!(
                "the blocks are `if`, `unless`, `each` and `with`, as in `{{{{#if {name}}}}}` or `{{{{#each {name}}}}}`"
            );
            return Err(self.error(place, ErrorKind::UnknownHelper { name, cure }));
        }
        if let Some(function) = function {
            self.arguments(&name, function, tag, place)?;
            let raw = raw_call(&name, &tag.params);
            let args = self.exprs(&mut tag.params, true, place)?;
            tag.name = Parameter::Name(helpers::lenient_name(&name));
            let lenient = true;
            let condition = Expr::Call {
                function,
                args,
                lenient,
                raw,
            };
            let then = self.body(tag, place)?;
            let otherwise = self.inverse(tag, place)?.unwrap_or_default();
            let include_zero = false;
            return Ok(Some(Node::If {
                condition,
                include_zero,
                then,
                otherwise,
                place,
            }));
        }
        let include_zero = self.include_zero(&name, tag, place)?;
        if tag.params.len() != 1 {
            let message = format!(
                "`{{{{#{name}}}}}` takes one argument; write `{{{{#{name} x}}}}`, and calls in brackets as in `{{{{#if (eq a b)}}}}`"
            );
            return Err(Error::syntax(self.prompt, place, message));
        }
        let lenient = matches!(name.as_str(), "if" | "unless") || tag.inverse.is_some();
        let argument = self.expr(&mut tag.params[0], lenient, place)?;
        let is_each = name == "each";
        let node = match name.as_str() {
            "if" | "unless" => {
                let mut then = self.body(tag, place)?;
                let mut otherwise = self.inverse(tag, place)?.unwrap_or_default();
                if name == "unless" {
                    std::mem::swap(&mut then, &mut otherwise);
                }
                let condition = argument;
                Node::If {
                    condition,
                    include_zero,
                    then,
                    otherwise,
                    place,
                }
            }
            _ => {
                self.levels.push(Level { is_each, params });
                let body = self.body(tag, place);
                self.levels.pop();
                let body = body?;
                let otherwise = self.inverse(tag, place)?;
                if is_each {
                    let list = argument;
                    Node::Each {
                        list,
                        body,
                        otherwise,
                        place,
                    }
                } else {
                    let value = argument;
                    Node::With {
                        value,
                        body,
                        otherwise,
                        place,
                    }
                }
            }
        };
        Ok(Some(node))
    }

    fn body(&mut self, tag: &mut HelperTemplate, place: Place) -> Result<Vec<Node>, Error> {
        let body = tag.template.as_mut().map(|body| self.nodes(body, place));
        body.unwrap_or_else(|| Ok(Vec::new()))
    }

    fn inverse(
        &mut self,
        tag: &mut HelperTemplate,
        place: Place,
    ) -> Result<Option<Vec<Node>>, Error> {
        let inverse = tag.inverse.as_mut();
        inverse
            .map(|inverse| self.nodes(inverse, place))
            .transpose()
    }

    fn exprs(
        &self,
        params: &mut [Parameter],
        lenient: bool,
        place: Place,
    ) -> Result<Vec<Expr>, Error> {
        let exprs = params
            .iter_mut()
            .map(|param| self.expr(param, lenient, place));
        exprs.collect()
    }

    /// Reads an argument; calls inside conditions are sent to the helpers' lenient variants.
    fn expr(&self, param: &mut Parameter, lenient: bool, place: Place) -> Result<Expr, Error> {
        match param {
            Parameter::Literal(value) => Ok(Expr::Literal(value.clone())),
            Parameter::Path(path) => self.path(path, place).map(Expr::Path),
            Parameter::Subexpression(call) => {
                let TemplateElement::Expression(tag) = &mut *call.element else {
                    return Err(self.unsupported(place, "this kind of tag is not offered"));
                };
                let name = tag.name.as_name().unwrap_or_default().to_owned();
                if tag.params.is_empty() {
                    let message = format!(
                        "`({name})` calls a helper without arguments; write `{name}` without the brackets"
                    );
                    return Err(Error::syntax(self.prompt, place, message));
                }
                let function = self.function(&name, &tag.params, place)?;
                self.arguments(&name, function, tag, place)?;
                let raw = raw_call(&name, &tag.params);
                let args = self.exprs(&mut tag.params, lenient, place)?;
                if lenient {
                    tag.name = Parameter::Name(helpers::lenient_name(&name));
                }
                Ok(Expr::Call {
                    function,
                    args,
                    lenient,
                    raw,
                })
            }
            Parameter::Name(name) => {
                let message = format!("`{name}` cannot stand here");
                Err(Error::syntax(self.prompt, place, message))
            }
            // The enum may grow; what is not known is not rendered.
            _ => Err(self.unsupported(place, "this kind of argument is not offered")),
        }
    }

    fn path(&self, path: &EnginePath, place: Place) -> Result<Path, Error> {
        /// The parser's marks for `../` and `@root`, whose type is private.
        static MARKS: LazyLock<[Option<PathSeg>; 2]> = LazyLock::new(|| {
            ["../x", "@root/x"].map(|text| match EnginePath::parse(text) {
                Ok(EnginePath::Relative((segments, _))) => segments.into_iter().next(),
                _ => None,
            })
        });
        let (segments, raw) = match path {
            EnginePath::Local((up, name, raw)) => return self.local(*up, name, raw, place),
            EnginePath::Relative((segments, raw)) => (segments, raw.clone()),
        };
        let (mut up, mut root) = (0, false);
        let mut keys: Vec<String> = Vec::new();
        for segment in segments {
            match segment {
                PathSeg::Named(name) => keys.push(name.clone()),
                mark if Some(mark) == MARKS[0].as_ref() && !root => up += 1,
                mark if Some(mark) == MARKS[1].as_ref() => root = true,
                _ => {
                    return Err(
                        self.unsupported(place, &format!("the name `{raw}` is not offered"))
                    );
                }
            }
        }
        if root {
            let base = Base::Root;
            return Ok(Path { raw, base, keys });
        }
        let inside_out = || self.levels.iter().rev().enumerate();
        let bound = keys.first().and_then(|name| {
            inside_out().find_map(|(level, block)| {
                let index = block.params.iter().position(|param| param == name)?;
                Some((level, index))
            })
        });
        if let Some((level, index)) = bound {
            // The engine takes the block parameter for these too, which nobody would expect.
            if up > 0 || raw.starts_with("this") && raw != keys[0] || raw.starts_with("./") {
                let name = &keys[0];
                let message = format!(
                    "`{raw}` would read the block parameter `{name}`; give the parameter another name"
                );
                return Err(Error::syntax(self.prompt, place, message));
            }
            keys.remove(0);
            let base = if index == 0 {
                Base::This(level)
            } else {
                Base::Local(level, Local::KeyOrIndex)
            };
            return Ok(Path { raw, base, keys });
        }
        if up > self.levels.len() {
            let message = format!(
                "`{raw}` leads out of the outermost block; only `each` and `with` open a level for `../`"
            );
            return Err(Error::syntax(self.prompt, place, message));
        }
        let base = Base::This(up);
        Ok(Path { raw, base, keys })
    }

    /// `@index` and its kin, with `with` blocks passed through to the `each` around them.
    fn local(&self, up: usize, name: &str, raw: &str, place: Place) -> Result<Path, Error> {
        let local = match name {
            "first" => Local::First,
            "last" => Local::Last,
            "index" => Local::Index,
            "key" => Local::Key,
            _ => {
                let message = format!(
                    "unknown name `{raw}`; there are `@index`, `@key`, `@first` and `@last` inside `each`, and `@root.name`"
                );
                return Err(Error::syntax(self.prompt, place, message));
            }
        };
        let spelled = raw
            .strip_prefix("this.")
            .or_else(|| raw.strip_prefix("./"))
            .unwrap_or(raw);
        let tail = spelled.rsplit(['/', '@']).next();
        let around = self.levels.iter().rev().enumerate().skip(up);
        let each = around.into_iter().find(|(_, block)| block.is_each);
        match each {
            Some((level, _)) if tail == Some(name) => Ok(Path {
                raw: raw.to_owned(),
                base: Base::Local(level, local),
                keys: Vec::new(),
            }),
            Some(_) => {
                let message = format!("`{raw}` has no fields; write `@{name}`");
                Err(Error::syntax(self.prompt, place, message))
            }
            None => {
                let message = format!("`{raw}` stands outside of an `each` block");
                Err(Error::syntax(self.prompt, place, message))
            }
        }
    }

    fn function(&self, name: &str, params: &[Parameter], place: Place) -> Result<Function, Error> {
        if BLOCKS.contains(&name) {
            let message =
                format!("`{name}` is a block; write `{{{{#{name} x}}}}...{{{{/{name}}}}}`");
            return Err(Error::syntax(self.prompt, place, message));
        }
        Function::named(name).ok_or_else(|| {
            let known = Function::ALL
                .map(|(name, _)| format!("`{name}`"))
                .join(", ");
            let mut cure =
                format!("there are {known}, and the blocks `if`, `unless`, `each` and `with`");
            if let [Parameter::Path(EnginePath::Relative((_, second)))] = params {
                cure += &format!("; a name with a space is written `{{{{[{name} {second}]}}}}`");
            }
            let name = name.to_owned();
            self.error(place, ErrorKind::UnknownHelper { name, cure })
        })
    }

    fn arguments(
        &self,
        name: &str,
        function: Function,
        tag: &HelperTemplate,
        place: Place,
    ) -> Result<(), Error> {
        let (least, most) = function.arity();
        let found = tag.params.len();
        if let Some(key) = tag.hash.keys().min() {
            let message = format!("`{name}` takes no named argument `{key}=`");
            return Err(Error::syntax(self.prompt, place, message));
        }
        if found < least || found > most {
            let plural = if least == 1 { "" } else { "s" };
            let some = if most > least { "at least " } else { "" };
            let message = format!("`{name}` takes {some}{least} argument{plural} and has {found}");
            return Err(Error::syntax(self.prompt, place, message));
        }
        Ok(())
    }

    fn include_zero(&self, name: &str, tag: &HelperTemplate, place: Place) -> Result<bool, Error> {
        let mut include_zero = false;
        for (key, value) in &tag.hash {
            match value {
                Parameter::Literal(Value::Bool(flag))
                    if key == "includeZero" && matches!(name, "if" | "unless") =>
                {
                    include_zero = *flag;
                }
                _ => {
                    let message = format!(
                        "`{{{{#{name}}}}}` does not take `{key}=`; only `if` and `unless` take `includeZero=true`"
                    );
                    return Err(Error::syntax(self.prompt, place, message));
                }
            }
        }
        Ok(include_zero)
    }

    fn block_params(
        &self,
        name: &str,
        tag: &HelperTemplate,
        place: Place,
    ) -> Result<Vec<String>, Error> {
        let names = match &tag.block_param {
            None => return Ok(Vec::new()),
            Some(BlockParam::Single(one)) => vec![one],
            Some(BlockParam::Pair((one, two))) => vec![one, two],
            Some(_) => Vec::new(),
        };
        let names: Vec<String> = names
            .into_iter()
            .filter_map(Parameter::as_name)
            .map(str::to_owned)
            .collect();
        let most = match name {
            "each" => 2,
            "with" => 1,
            _ => 0,
        };
        let twice = names.len() == 2 && names[0] == names[1];
        if names.len() > most || twice || names.iter().any(|name| name == "this") {
            let message = format!(
                "`{{{{#{name}}}}}` cannot name its parameters so; write `{{{{#each x as |item index|}}}}` or `{{{{#with x as |name|}}}}`"
            );
            return Err(Error::syntax(self.prompt, place, message));
        }
        Ok(names)
    }

    fn error(&self, place: Place, kind: ErrorKind) -> Error {
        Error::new(self.prompt, Some(place), kind)
    }

    fn unsupported(&self, place: Place, message: &str) -> Error {
        Error::unsupported(self.prompt, place, message)
    }
}

fn raw_call(name: &str, params: &[Parameter]) -> String {
    let mut raw = name.to_owned();
    for param in params {
        raw.push(' ');
        match param {
            Parameter::Literal(value) => raw.push_str(&value.to_string()),
            Parameter::Subexpression(call) => {
                let inner = call.params().map_or(&[][..], Vec::as_slice);
                let name = match call.as_element() {
                    TemplateElement::Expression(tag) => tag.name.as_name().unwrap_or_default(),
                    _ => "",
                };
                raw.push_str(&format!("({})", raw_call(name, inner)));
            }
            other => raw.push_str(other.as_name().unwrap_or_default()),
        }
    }
    raw
}

//! `{topic}` prompts, as Python's `str.format` has them, translated to the same tree.

use handlebars::template::{Parameter, Subexpression, TemplateElement};
use handlebars::{Path as EnginePath, PathSeg, Template};

use crate::Error;
use crate::helpers;
use crate::plan::{Base, Expr, Node, Path, Place};
use crate::scan;

const LITERAL: &str = "write `{{` and `}}` for braces that are text";

/// Reads a prompt with `{name}`, `{a.b}`, `{a[b]}`, `{{` and `}}`; all other text stays as it is.
pub(crate) fn compile(prompt: &str, source: &str) -> Result<(Template, Vec<Node>), Error> {
    let mut template = Template::new();
    let mut plan = Vec::new();
    let mut text = String::new();
    let mut at = 0;
    while let Some(offset) = source[at..].find(['{', '}']) {
        let brace = at + offset;
        text.push_str(&source[at..brace]);
        let doubled = source[brace..].starts_with("{{") || source[brace..].starts_with("}}");
        if doubled {
            text.push_str(&source[brace..=brace]);
            at = brace + 2;
            continue;
        }
        let refuse = |message: String| Error::syntax(prompt, scan::place(source, brace), message);
        if source[brace..].starts_with('}') {
            return Err(refuse(format!("`}}` without `{{`; {LITERAL}")));
        }
        let inside = &source[brace + 1..];
        let Some(length) = inside
            .find(['{', '}', '\n'])
            .filter(|end| inside[*end..].starts_with('}'))
        else {
            return Err(refuse(format!("`{{` without `}}` on the line; {LITERAL}")));
        };
        let name = &inside[..length];
        let keys = keys(name).map_err(refuse)?;
        if !text.is_empty() {
            template
                .elements
                .push(TemplateElement::RawString(std::mem::take(&mut text)));
        }
        let place = scan::place(source, brace);
        template.elements.push(print(name, &keys));
        plan.push(variable(name, keys, place));
        at = brace + 1 + length + 1;
    }
    text.push_str(&source[at..]);
    template.elements.push(TemplateElement::RawString(text));
    Ok((template, plan))
}

/// `a.b[c]` as `a`, `b`, `c`; or what is wrong with it, and the cure.
fn keys(name: &str) -> Result<Vec<String>, String> {
    let shown: String = name.chars().take(40).collect();
    if name.trim().is_empty() {
        return Err(format!(
            "`{{{shown}}}` names nothing; write `{{name}}`, or {}",
            LITERAL.trim_start_matches("write ")
        ));
    }
    if name.trim() != name && is_word(name.trim()) {
        return Err(format!(
            "`{{{shown}}}` has spaces round the name; write `{{{}}}`",
            name.trim()
        ));
    }
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "`{{{shown}}}` is a position, and a row has names; write `{{name}}`, or {}",
            LITERAL.trim_start_matches("write ")
        ));
    }
    let end = name.find(['!', ':', '.', '[']).unwrap_or(name.len());
    let (word, mut rest) = name.split_at(end);
    if !is_word(word) {
        return Err(format!("`{{{shown}}}` is not a name; {LITERAL}"));
    }
    let mut keys = vec![word.to_owned()];
    while let Some(first) = rest.chars().next() {
        let inside = &rest[1..];
        let length = match first {
            '.' => inside.find(['.', '[', '!', ':']).unwrap_or(inside.len()),
            '[' => inside.find(']').unwrap_or(0),
            _ => {
                return Err(format!(
                    "`{{{shown}}}` formats its value, which is not offered; write `{{{word}}}`, or {}",
                    LITERAL.trim_start_matches("write ")
                ));
            }
        };
        let key = &inside[..length];
        if key.is_empty() || (first == '.' && !is_word(key)) {
            return Err(format!(
                "`{{{shown}}}` is not a name; write `{{a.b}}` or `{{a[b]}}`, or {}",
                LITERAL.trim_start_matches("write ")
            ));
        }
        keys.push(key.to_owned());
        rest = &inside[length + usize::from(first == '[')..];
    }
    Ok(keys)
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
}

fn print(name: &str, keys: &[String]) -> TemplateElement {
    let segments = keys.iter().cloned().map(PathSeg::Named).collect();
    let path = EnginePath::Relative((segments, name.to_owned()));
    let helper = Parameter::Name(helpers::PRINT.to_owned());
    *Subexpression::new(helper, vec![Parameter::Path(path)], Default::default()).element
}

fn variable(name: &str, keys: Vec<String>, place: Place) -> Node {
    let value = Expr::Path(Path {
        raw: name.to_owned(),
        base: Base::This(0),
        keys,
    });
    let json = false;
    Node::Print { value, json, place }
}

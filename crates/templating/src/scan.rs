//! A light reading of a Handlebars text, before and beside the real parser.
//!
//! The tree that the parser makes is walked and dropped recursively, so its depth is bounded first;
//! and its errors are lists of grammar rules, so the plain words for a broken prompt come from here.

use crate::Error;
use crate::error::ErrorKind;
use crate::plan::Place;

/// Blocks inside blocks, with each `{{else if}}` counted as one more; and brackets inside one tag.
pub(crate) const DEPTH_LIMIT: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Close,
    Else,
    /// `{{else if ...}}`
    ElseChain,
    /// `{{> name}}` and `{{#> name}}`
    Partial,
    /// `{{* name}}` and `{{#*inline}}`
    Decorator,
    /// A comment, or a raw block: nothing in it is read.
    Comment,
    Other,
}

#[derive(Debug)]
struct Tag<'a> {
    start: usize,
    end: usize,
    kind: Kind,
    /// The block's name, for [`Kind::Open`] and [`Kind::Close`].
    name: &'a str,
    closed: bool,
}

/// A Handlebars text cut into its tags.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    source: &'a str,
    tags: Vec<Tag<'a>>,
    /// Things that look like block openings inside comments, strings and raw text. They are counted
    /// as blocks that never close: too deep is a safe answer, a stack overflow is none.
    hidden: usize,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(source: &'a str) -> Self {
        let mut scan = Self {
            source,
            tags: Vec::new(),
            hidden: 0,
        };
        let mut at = 0;
        while let Some(start) = find(source, at, "{{") {
            at = if escaped(source, start) {
                start
                    + if source[start..].starts_with("{{{{") {
                        4
                    } else {
                        2
                    }
            } else if source[start..].starts_with("{{{{") {
                scan.raw_block(start)
            } else {
                scan.tag(start)
            };
        }
        scan
    }

    /// Takes the tag that begins at `start`; returns where it ends.
    fn tag(&mut self, start: usize) -> usize {
        let source = self.source;
        let inside = source[start + 2..].trim_start_matches(|c: char| c == '~' || is_space(c));
        let from = source.len() - inside.len();
        if let Some(comment) = inside.strip_prefix('!') {
            return self.comment(start, comment);
        }
        let (kind, name) = kind_of(inside);
        let (end, closed) = match tag_end(source, from) {
            Some(end) => (end, true),
            None => match find(source, from, "}}") {
                // A quote that is never closed: the parser will say no, here only the extent counts.
                Some(end) => (end + 2, true),
                None => (source.len(), false),
            },
        };
        self.hide(from, end);
        self.tags.push(Tag {
            start,
            end,
            kind,
            name,
            closed,
        });
        end
    }

    fn comment(&mut self, start: usize, text: &str) -> usize {
        let from = self.source.len() - text.len();
        let dashes = text.trim_start_matches(is_space).starts_with("--");
        let long = dashes
            .then(|| find(text, text.find("--").unwrap_or(0) + 2, "--}}"))
            .flatten()
            .map(|end| end + 4);
        let length = long.or_else(|| text.find("}}").map(|end| end + 2));
        let end = length.map_or(self.source.len(), |length| from + length);
        self.hide(from, end);
        self.tags.push(Tag {
            start,
            end,
            kind: Kind::Comment,
            name: "",
            closed: length.is_some(),
        });
        end
    }

    /// `{{{{raw}}}} ... {{{{/raw}}}}`, of which nothing inside is a tag.
    fn raw_block(&mut self, start: usize) -> usize {
        let source = self.source;
        let mut end = source.len();
        let mut closed = false;
        let mut at = find(source, start, "}}}}").map_or(source.len(), |at| at + 4);
        while let Some(next) = find(source, at, "{{{{") {
            at = next + 4;
            if !escaped(source, next) {
                let close = find(source, at, "}}}}");
                closed = close.is_some();
                end = close.map_or(source.len(), |close| close + 4);
                break;
            }
        }
        self.hide(start + 4, end);
        self.tags.push(Tag {
            start,
            end,
            kind: Kind::Comment,
            name: "",
            closed,
        });
        end
    }

    fn hide(&mut self, from: usize, to: usize) {
        let text = &self.source[from..to];
        self.hidden += text
            .match_indices("{{")
            .filter(|(at, _)| {
                let rest = &text[at + 2..];
                rest.trim_start_matches(|c: char| c == '~' || is_space(c))
                    .starts_with('#')
            })
            .count();
    }

    /// Refuses what must not reach the parser.
    pub(crate) fn check(&self, prompt: &str) -> Result<(), Error> {
        let mut open: Vec<usize> = Vec::new();
        let mut depth = self.hidden;
        for tag in &self.tags {
            let refuse =
                |message: &str| Error::unsupported(prompt, place(self.source, tag.start), message);
            match tag.kind {
                _ if !tag.closed => return Err(self.never_closed(prompt, tag)),
                Kind::Partial => {
                    return Err(refuse(
                        "partials (`{{> name}}`) are not offered; put the text into the prompt itself",
                    ));
                }
                Kind::Decorator => {
                    return Err(refuse(
                        "decorators and inline partials (`{{*name}}`, `{{#*inline}}`) are not offered; put the text into the prompt itself",
                    ));
                }
                Kind::Open => {
                    open.push(1);
                    depth += 1;
                }
                Kind::ElseChain => {
                    if let Some(levels) = open.last_mut() {
                        *levels += 1;
                        depth += 1;
                    }
                }
                Kind::Close => depth -= open.pop().unwrap_or(0),
                Kind::Else | Kind::Comment | Kind::Other => {}
            }
            let text = &self.source.as_bytes()[tag.start + 2..tag.end];
            let bracket = |byte: &&u8| matches!(byte, b'(' | b'[' | b'{');
            let nested =
                tag.kind != Kind::Comment && text.iter().filter(bracket).count() > DEPTH_LIMIT;
            if nested || depth > DEPTH_LIMIT {
                let kind = ErrorKind::TooDeep { limit: DEPTH_LIMIT };
                return Err(Error::new(
                    prompt,
                    Some(place(self.source, tag.start)),
                    kind,
                ));
            }
        }
        Ok(())
    }

    fn never_closed(&self, prompt: &str, tag: &Tag<'_>) -> Error {
        let message = "`{{` is never closed; write `}}` behind the name, or `\\{{` for two braces that are text";
        Error::syntax(prompt, place(self.source, tag.start), message)
    }

    /// Says in plain words why the parser refused the text, near where it stopped.
    pub(crate) fn explain(&self, prompt: &str, stopped: Place) -> Error {
        let source = self.source;
        let fault = |tag: &Tag<'_>, message: String| {
            Error::syntax(prompt, place(source, tag.start), message)
        };
        let stop = offset(source, stopped);
        let near = self.tags.iter().rev().find(|tag| tag.start <= stop);
        let mut open: Vec<&Tag<'_>> = Vec::new();
        for tag in &self.tags {
            match (tag.kind, open.last()) {
                (Kind::Open, _) => open.push(tag),
                (Kind::Close, Some(opener)) if opener.name == tag.name => {
                    open.pop();
                }
                (Kind::Close, Some(opener)) => {
                    let (line, _) = place(source, opener.start);
                    let (name, wanted) = (tag.name, opener.name);
                    let message = format!(
                        "`{{{{/{name}}}}}` cannot close `{{{{#{wanted}}}}}` of line {line}; write `{{{{/{wanted}}}}}` first"
                    );
                    return fault(tag, message);
                }
                (Kind::Close, None) => {
                    let name = tag.name;
                    let message = format!(
                        "`{{{{/{name}}}}}` closes a block that was never opened; write `{{{{#{name} ...}}}}` before it or take it out"
                    );
                    return fault(tag, message);
                }
                (Kind::Else | Kind::ElseChain, None) => {
                    let message = "`{{else}}` outside of a block; write `{{#if ...}}` before it or take it out";
                    return fault(tag, message.to_owned());
                }
                _ => {}
            }
        }
        // A broken tag inside a block hides the block's end from the parser: the tag comes first.
        match (near, open.last()) {
            (Some(tag), None) if tag.kind != Kind::Close => fault(tag, broken(source, tag)),
            (_, Some(opener)) => {
                let name = opener.name;
                let message = format!(
                    "`{{{{#{name}}}}}` is never closed; write `{{{{/{name}}}}}` where it ends"
                );
                fault(opener, message)
            }
            (Some(tag), None) => fault(tag, broken(source, tag)),
            (None, None) => Error::syntax(prompt, stopped, "not valid Handlebars".to_owned()),
        }
    }

    /// Single-braced names in the text between the tags, such as `{topic}`, with their places.
    pub(crate) fn single_braces(&self) -> Vec<(String, Place)> {
        let mut found = Vec::new();
        let mut from = 0;
        let ends = self.tags.iter().map(|tag| (tag.start, tag.end));
        for (start, end) in ends.chain([(self.source.len(), self.source.len())]) {
            let mut at = from;
            while let Some(open) = find(&self.source[..start], at, "{") {
                at = open + 1;
                let inside = &self.source[at..start];
                let name = inside.split('}').next().unwrap_or("");
                if name.len() < inside.len() && is_name(name) {
                    found.push((name.to_owned(), place(self.source, open)));
                }
            }
            from = end;
        }
        found
    }
}

fn kind_of(inside: &str) -> (Kind, &str) {
    let rest = |text: &'static str| {
        inside
            .strip_prefix(text)
            .map(|rest| rest.trim_start_matches(is_space))
    };
    let name = |rest: &str| {
        let end = rest.find(|c: char| is_space(c) || matches!(c, '~' | '}' | '|'));
        end.unwrap_or(rest.len())
    };
    if let Some(rest) = rest("#") {
        match rest.bytes().next() {
            Some(b'>') => (Kind::Partial, ""),
            Some(b'*') => (Kind::Decorator, ""),
            _ => (Kind::Open, &rest[..name(rest)]),
        }
    } else if let Some(rest) = rest("/") {
        (Kind::Close, &rest[..name(rest)])
    } else if inside.starts_with('>') {
        (Kind::Partial, "")
    } else if inside.starts_with('*') {
        (Kind::Decorator, "")
    } else if let Some(rest) = rest("else").or_else(|| rest("^")) {
        let word = inside.as_bytes().get(4).copied().unwrap_or(b'}');
        match rest.bytes().next() {
            Some(b'}' | b'~') | None => (Kind::Else, ""),
            _ if inside.starts_with('^') || word.is_ascii_whitespace() => (Kind::ElseChain, ""),
            _ => (Kind::Other, ""),
        }
    } else {
        (Kind::Other, "")
    }
}

/// What is wrong with a tag that is closed and stands where a tag may stand.
fn broken(source: &str, tag: &Tag<'_>) -> String {
    let text = &source[tag.start..tag.end];
    let inside = text.trim_matches(|c: char| matches!(c, '{' | '}' | '~' | '#') || is_space(c));
    let shown: String = text.chars().take(40).collect();
    let shown = if shown.len() < text.len() {
        shown + "..."
    } else {
        shown
    };
    let cure = if inside.is_empty() {
        "write a name between the braces, or `\\{{` for two braces that are text"
    } else if inside == "." {
        "write `{{this}}`"
    } else if inside.starts_with(['"', '\'']) || inside.contains(':') {
        "braces of JSON stand single in Handlebars; write `\\{{` for two braces that are text"
    } else if inside.contains('|') {
        "there are no filters; a helper stands before its argument, as in `{{json x}}`"
    } else {
        "a name is written `{{name}}`, `{{a.b}}` or `{{[any name]}}`, and `\\{{` stands for two braces that are text"
    };
    format!("`{shown}` is not valid Handlebars; {cure}")
}

/// Exactly one backslash makes braces text; two and more are backslashes before a tag.
fn escaped(source: &str, at: usize) -> bool {
    let before = &source[..at];
    before.len() - before.trim_end_matches('\\').len() == 1
}

/// Where the tag's `}}` ends, strings skipped; `None` without an end or with an open string.
fn tag_end(source: &str, from: usize) -> Option<usize> {
    let bytes = source.as_bytes();
    let mut at = from;
    let mut quote = None;
    while at < bytes.len() {
        match (bytes[at], quote) {
            (b'\\', Some(_)) => at += 1,
            (byte, Some(open)) if byte == open => quote = None,
            (_, Some(_)) => {}
            (byte @ (b'"' | b'\''), None) => quote = Some(byte),
            (b'}', None) if bytes.get(at + 1) == Some(&b'}') => {
                let triple = bytes.get(from) == Some(&b'{') && bytes.get(at + 2) == Some(&b'}');
                return Some(at + 2 + usize::from(triple));
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// `topic`, `a.b`, `a[0]`.
fn is_name(text: &str) -> bool {
    let first = text.chars().next();
    first.is_some_and(|c| c.is_alphabetic() || c == '_')
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']'))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn find(text: &str, from: usize, what: &str) -> Option<usize> {
    text.get(from..)?.find(what).map(|at| from + at)
}

/// Line and column, in characters, of a byte offset.
pub(crate) fn place(source: &str, offset: usize) -> Place {
    let before = &source[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}

/// The byte offset of a place.
pub(crate) fn offset(source: &str, (line, column): Place) -> usize {
    let start: usize = source
        .split_inclusive('\n')
        .take(line - 1)
        .map(str::len)
        .sum();
    let rest = &source[start..];
    let end = rest
        .char_indices()
        .nth(column - 1)
        .map_or(rest.len(), |(at, _)| at);
    start + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_single_braces_are_found_between_the_tags_only() {
        let source = "{topic} {{x}} {\"a\": {tone}}\n{{! {no} }} {1} {} {{json \"{no}\"}}{a.b}";
        let found = Scan::new(source).single_braces();
        let names: Vec<_> = found
            .iter()
            .map(|(name, place)| (name.as_str(), *place))
            .collect();
        assert_eq!(
            names,
            [("topic", (1, 1)), ("tone", (1, 21)), ("a.b", (2, 35))]
        );
    }

    #[test]
    fn places_and_offsets_are_inverse() {
        let source = "人工\n智{{x}}\n";
        let at = source.find("{{").unwrap();
        assert_eq!(place(source, at), (2, 2));
        assert_eq!(offset(source, (2, 2)), at);
    }
}

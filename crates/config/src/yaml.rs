//! YAML text to values with lines: duplicate keys refused, merge keys applied, bombs refused.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use serde_yaml::Deserializer;

use crate::FaultKind;
use crate::key::{self, KeyPath};
use crate::line_ends::StandIns;
use crate::locate::Lines;
use crate::node::{Entry, Node, Walk};
use crate::wording::shown;

/// No configuration is longer; the YAML reader is slow on text that is made to be slow.
const MAX_BYTES: usize = 1 << 20;

/// Flow collections (`[`, `{`) that may stand open at once. The YAML reader works quadratically in
/// this number before anything can stop it.
const MAX_OPEN: usize = 1_000;

/// A map, and the line of each of its keys.
pub(crate) struct Document {
    pub(crate) value: Value,
    pub(crate) lines: Lines,
}

/// Something wrong in a text, before it is known whose text it is.
#[derive(Debug, PartialEq)]
pub(crate) struct Problem {
    pub(crate) kind: FaultKind,
    pub(crate) key: Option<KeyPath>,
    pub(crate) line: Option<usize>,
    pub(crate) column: Option<usize>,
    pub(crate) message: String,
}

impl Problem {
    fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            key: None,
            line: None,
            column: None,
            message: message.into(),
        }
    }

    fn at(self, line: Option<usize>, column: Option<usize>) -> Self {
        Self {
            line,
            column,
            ..self
        }
    }
}

/// Reads a file, which must be there.
pub(crate) fn file(path: &Path) -> Result<Vec<u8>, Problem> {
    let io = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound if path.is_relative() => Problem::new(
            FaultKind::NoFile,
            "no such file (a relative path starts at the working directory)",
        ),
        ErrorKind::NotFound => Problem::new(FaultKind::NoFile, "no such file"),
        ErrorKind::IsADirectory => {
            Problem::new(FaultKind::Io, "a directory; a file is wanted here")
        }
        _ => Problem::new(FaultKind::Io, format!("could not be read: {error}")),
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(io)?;
    Ok(bytes)
}

/// The text of a file: UTF-8, with or without a byte order mark.
pub(crate) fn decode(bytes: &[u8]) -> Result<&str, Problem> {
    let utf16 = match bytes {
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => true,
        [first, second, ..] => *first == 0 || *second == 0,
        _ => false,
    };
    if utf16 {
        return Err(Problem::new(
            FaultKind::Syntax,
            "the text is UTF-16; save the file as UTF-8",
        ));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Problem::new(
            FaultKind::Syntax,
            format!(
                "the byte 0x{:02x} is not UTF-8; save the file as UTF-8",
                bytes[error.valid_up_to()]
            ),
        )
        .at(Some(line), Some(column))
    })
}

/// Reads a configuration: a map, or nothing at all.
///
/// What concerns single keys is returned beside the document, and those keys are left out of it.
///
/// # Errors
///
/// The one problem of a text that cannot be read at all.
pub(crate) fn document(text: &str) -> Result<(Document, Vec<Problem>), Problem> {
    let mut settling = Settling {
        lines: Lines::new(text),
        problems: Vec::new(),
    };
    let value = match read(text)? {
        Node::Map(entries) => settling.map(entries, &mut KeyPath::new()),
        Node::Leaf(Value::Null) => Value::Object(Map::new()),
        node => {
            let found = match node {
                Node::List(_) => "a list",
                _ => "a single value",
            };
            return Err(Problem::new(
                FaultKind::Syntax,
                format!("found {found}, expected keys with values (`key: value`)"),
            ));
        }
    };
    let document = Document {
        value,
        lines: settling.lines,
    };
    Ok((document, settling.problems))
}

/// A value written in YAML, if the text is one.
pub(crate) fn value(text: &str) -> Option<Value> {
    let mut settling = Settling {
        lines: Lines::default(),
        problems: Vec::new(),
    };
    let value = settling.value(read(text).ok()?, &mut KeyPath::new());
    value.filter(|_| settling.problems.is_empty())
}

fn read(text: &str) -> Result<Node, Problem> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    if text.len() > MAX_BYTES {
        return Err(Problem::new(
            FaultKind::Syntax,
            format!("longer than {MAX_BYTES} bytes; is this a configuration?"),
        ));
    }
    if open_brackets(text) > MAX_OPEN {
        return Err(too_deep(None));
    }
    let stand_ins = StandIns::new(text);
    let text = stand_ins.put(text);
    let text = text.as_ref();
    let walk = Walk::new(stand_ins);
    let place = |error: &serde_yaml::Error| {
        let location = error.location();
        (
            location.as_ref().map(|at| at.line()),
            location.map(|at| at.column()),
        )
    };
    // First without looking at any value: what is wrong now is wrong with the syntax, and its text
    // quotes nothing. Texts of the second reading may quote a value, which may be a secret.
    if let Err(error) = IgnoredAny::deserialize(Deserializer::from_str(text)) {
        let (line, column) = place(&error);
        let why = error.to_string();
        let why = match why.split(" at line ").next().unwrap_or_default() {
            "EOF while parsing a value" => return Ok(Node::Leaf(Value::Null)),
            why if why.starts_with("deserializing from YAML containing more than one") => {
                "more than one document (`---`) in it".to_owned()
            }
            why if why.starts_with("found character that cannot start") => {
                format!("{why} (a tab? indent with spaces)")
            }
            "unknown anchor" => "an alias (`*name`) without its anchor (`&name`)".to_owned(),
            why => why.to_owned(),
        };
        return Err(
            Problem::new(FaultKind::Syntax, format!("not valid YAML: {why}")).at(line, column),
        );
    }
    walk.read(Deserializer::from_str(text)).map_err(|error| {
        let (line, column) = place(&error);
        if let Some(refusal) = walk.refusal() {
            return Problem::new(FaultKind::Syntax, refusal).at(line, column);
        }
        let why = error.to_string();
        if why.contains("recursion limit") {
            too_deep(line)
        } else if why.contains("repetition limit") {
            Problem::new(FaultKind::Syntax, "its aliases repeat too much").at(line, column)
        } else {
            Problem::new(FaultKind::Syntax, "a value that does not fit its tag").at(line, column)
        }
    })
}

fn too_deep(line: Option<usize>) -> Problem {
    Problem::new(FaultKind::Syntax, "nested too deeply").at(line, None)
}

/// The greatest number of brackets that are open at once, quotes and comments not considered.
fn open_brackets(text: &str) -> usize {
    let mut open = 0_usize;
    let mut most = 0;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// Turns nodes into values: merges, notes the lines, and notes what is wrong with single keys.
struct Settling {
    lines: Lines,
    problems: Vec<Problem>,
}

impl Settling {
    fn value(&mut self, node: Node, path: &mut KeyPath) -> Option<Value> {
        match node {
            Node::Leaf(value) => Some(value),
            Node::Odd(text) => {
                let message = format!(
                    "`{}`: the number {} is not finite or does not fit 64 bits",
                    shown(&key::dotted(path)),
                    shown(&text)
                );
                let line = self.lines.nearest(path);
                self.problem(FaultKind::BadValue, path, line, message);
                None
            }
            Node::List(items) => {
                let mut values = Vec::new();
                for (i, (line, item)) in items.into_iter().enumerate() {
                    path.push(i.to_string());
                    if let Some(line) = line {
                        self.lines.insert(path, line);
                    }
                    values.extend(self.value(item, path));
                    path.pop();
                }
                Some(Value::Array(values))
            }
            Node::Map(entries) => Some(self.map(entries, path)),
        }
    }

    fn map(&mut self, entries: Vec<Entry>, path: &mut KeyPath) -> Value {
        let mut map = Map::new();
        for entry in self.merged(entries, path) {
            // A place for anchors, as in the files of docker compose.
            if path.is_empty() && entry.key.starts_with("x-") {
                continue;
            }
            path.push(entry.key);
            if let Some(line) = entry.line {
                self.lines.insert(path, line);
            }
            if let Some(value) = self.value(entry.value, path) {
                map.insert(path.last().cloned().unwrap_or_default(), value);
            }
            path.pop();
        }
        Value::Object(map)
    }

    /// The entries of a map, each key once: its own, then those of its merge keys, the first one wins.
    fn merged(&mut self, entries: Vec<Entry>, path: &KeyPath) -> Vec<Entry> {
        let mut first: HashMap<String, Option<usize>> = HashMap::new();
        let mut own = Vec::new();
        let mut merges = Vec::new();
        for entry in entries {
            if let Some(line) = first.get(&entry.key) {
                let path = key::child(path, &entry.key);
                let on = line.map_or(String::new(), |line| format!(", first on line {line}"));
                let message = format!("key `{}` is there twice{on}", shown(&key::dotted(&path)));
                self.problem(FaultKind::DuplicateKey, &path, entry.line, message);
                continue;
            }
            first.insert(entry.key.clone(), entry.line);
            if entry.key == "<<" {
                merges.push(entry);
            } else {
                own.push(entry);
            }
        }
        for Entry { line, value, .. } in merges {
            let maps = match value {
                Node::List(items) => items.into_iter().map(|(_, item)| item).collect(),
                node => vec![node],
            };
            for node in maps {
                match node {
                    Node::Map(entries) => {
                        for entry in self.merged(entries, path) {
                            if !first.contains_key(&entry.key) {
                                first.insert(entry.key.clone(), entry.line);
                                own.push(entry);
                            }
                        }
                    }
                    Node::Leaf(Value::Null) => {}
                    _ => {
                        let message = "`<<` merges a map or a list of maps, nothing else";
                        let path = key::child(path, "<<");
                        self.problem(FaultKind::Syntax, &path, line, message.to_owned());
                    }
                }
            }
        }
        own
    }

    fn problem(&mut self, kind: FaultKind, path: &[String], line: Option<usize>, message: String) {
        // An alias shows the same fault of its anchor again.
        let same = |p: &Problem| {
            let name = p.key.as_ref().and_then(|key| key.last());
            p.kind == kind && p.line == line && name == path.last()
        };
        if line.is_some() && self.problems.iter().any(same) {
            return;
        }
        self.problems.push(Problem {
            kind,
            key: Some(path.to_vec()),
            line,
            column: None,
            message,
        });
    }
}

//! The texts of faults, in the words of a configuration rather than of its types.

use figment::error::{Actual, Kind};

use crate::FaultKind;
use crate::shape::{choices, nearest};

/// How much of a user's word is shown.
const SHOWN_CHARS: usize = 80;

/// A user's word as a message shows it: cut where it is long, control characters escaped.
pub(crate) fn shown(word: &str) -> String {
    let cut: String = word.chars().take(SHOWN_CHARS).collect();
    let mut text = one_line(&cut);
    if word.chars().nth(SHOWN_CHARS).is_some() {
        text.push_str("...");
    }
    text
}

/// The kind and the text of what a type said against the value of a key.
pub(crate) fn complaint(key: &str, kind: &Kind) -> (FaultKind, String) {
    let key = shown(key);
    let of = match key.as_str() {
        "" => String::new(),
        key => format!("`{key}`: "),
    };
    match kind {
        Kind::InvalidType(actual, wanted) => (
            FaultKind::WrongType,
            format!("{of}found {}, expected {}", found(actual), expected(wanted)),
        ),
        Kind::InvalidValue(actual, wanted) => (
            FaultKind::BadValue,
            format!("{of}found {}, expected {}", found(actual), expected(wanted)),
        ),
        Kind::InvalidLength(length, wanted) => (
            FaultKind::BadValue,
            format!("{of}found {length} items, expected {}", expected(wanted)),
        ),
        Kind::UnknownVariant(word, known) => {
            let hint = match nearest(word, known.iter().copied()) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => String::new(),
            };
            let known = choices(known);
            let text = format!("{of}found `{}`, expected {known}{hint}", shown(word));
            (FaultKind::BadValue, text)
        }
        Kind::UnknownField(word, known) => {
            let hint = match nearest(word, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("expected {}", choices(known)),
            };
            let text = format!("unknown key `{key}`; {hint}");
            (FaultKind::UnknownKey, text)
        }
        Kind::MissingField(_) => (FaultKind::Missing, format!("missing key `{key}`")),
        Kind::DuplicateField(_) => (
            FaultKind::DuplicateKey,
            format!("key `{key}` is there twice, once by another name"),
        ),
        Kind::Message(message) => (FaultKind::BadValue, format!("{of}{}", one_line(message))),
        Kind::ISizeOutOfRange(_)
        | Kind::USizeOutOfRange(_)
        | Kind::Unsupported(_)
        | Kind::UnsupportedKey(..) => (
            FaultKind::WrongType,
            format!("{of}found a value that this key cannot hold"),
        ),
    }
}

/// The text of a type's own check: whole, but on one line.
fn one_line(message: &str) -> String {
    let mut text = String::new();
    for c in message.chars() {
        match c {
            c if c.is_control() => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text
}

fn found(actual: &Actual) -> String {
    match actual {
        Actual::Bool(value) => format!("`{value}`"),
        Actual::Unsigned(number) => format!("the number `{number}`"),
        Actual::Signed(number) => format!("the number `{number}`"),
        // So that 5.0 does not read as the whole number 5.
        Actual::Float(number) => format!("the number `{number:?}`"),
        Actual::Str(word) if word.is_empty() => "an empty string".to_owned(),
        Actual::Str(word) => format!("the string `{}`", shown(word)),
        Actual::Char(c) => format!("the string `{}`", shown(&c.to_string())),
        Actual::Unit | Actual::Option => "nothing (null)".to_owned(),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a map".to_owned(),
        Actual::Other(other) => shown(other),
        _ => "a value of another type".to_owned(),
    }
}

/// serde's names of types, in plain words.
fn expected(wanted: &str) -> String {
    let range = |low: &dyn std::fmt::Display, high: &dyn std::fmt::Display| {
        format!("a whole number from {low} to {high}")
    };
    match wanted {
        "u8" => range(&u8::MIN, &u8::MAX),
        "u16" => range(&u16::MIN, &u16::MAX),
        "u32" => range(&u32::MIN, &u32::MAX),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i8" => range(&i8::MIN, &i8::MAX),
        "i16" => range(&i16::MIN, &i16::MAX),
        "i32" => range(&i32::MIN, &i32::MAX),
        "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a sequence" => "a list".to_owned(),
        "unit" => "nothing (null)".to_owned(),
        "path string" => "a path".to_owned(),
        _ if wanted.starts_with("a nonzero u") => "a whole number, 1 or more".to_owned(),
        _ if wanted.starts_with("a nonzero i") => "a whole number other than 0".to_owned(),
        _ if wanted.starts_with("struct ") => "a map".to_owned(),
        _ if wanted.starts_with("an array of length ") => wanted.replace("an array", "a list"),
        _ => wanted.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_long_and_odd_words_without_harm() {
        assert_eq!(shown("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\n");
        assert_eq!(shown(&"x".repeat(90)), format!("{}...", "x".repeat(80)));
        assert_eq!(shown("人工智能"), "人工智能");
    }
}

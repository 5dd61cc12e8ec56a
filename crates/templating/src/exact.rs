//! Rows as JSON values whose numbers print as they were written.
//!
//! `serde_json` keeps a number as an integer or an `f64`, so that `1.10` would print as `1.1` and
//! thirty digits as something else. A number whose text would change is therefore held as a string
//! that begins with a mark: the engine treats it as a scalar, and the helpers know it for a number.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

/// A noncharacter: never part of interchanged text.
const MARK: char = '\u{FDD0}';
const NUMBER: &str = "\u{FDD0}n";
/// A real string that begins with the mark is held behind this, so that nothing is ambiguous.
const STRING: &str = "\u{FDD0}s";

/// What a held string stands for.
pub(crate) enum Held<'a> {
    Text(&'a str),
    Number(&'a str),
}

pub(crate) fn held(string: &str) -> Held<'_> {
    if !string.starts_with(MARK) {
        Held::Text(string)
    } else if let Some(digits) = string.strip_prefix(NUMBER) {
        Held::Number(digits)
    } else {
        Held::Text(string.strip_prefix(STRING).unwrap_or(string))
    }
}

/// Parses a JSON text; nesting beyond `serde_json`'s limit of 128 is an error.
pub(crate) fn parse(text: &str) -> Result<Value, serde_json::Error> {
    let value: Value = serde_json::from_str(text)?;
    if !needs_care(text.as_bytes()) {
        return Ok(value);
    }
    Ok(Reader { text, at: 0 }.value().unwrap_or(value))
}

/// Puts real strings that begin with the mark behind [`STRING`].
pub(crate) fn adopt(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with(MARK) => text.insert_str(0, STRING),
        Value::Array(list) => list.iter_mut().for_each(adopt),
        Value::Object(map) => map.values_mut().for_each(adopt),
        _ => {}
    }
}

/// Appends a value as compact JSON, held numbers as they were written.
pub(crate) fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::String(string) => match held(string) {
            Held::Number(digits) => out.push_str(digits),
            Held::Text(text) => out.push_str(&Value::from(text).to_string()),
        },
        Value::Array(list) => {
            out.push('[');
            for (index, element) in list.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(element, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (index, (key, element)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_json(element, out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// The text that a prompt prints for a value; `None` for what must not be printed.
pub(crate) fn print(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Null | Value::Object(_) => None,
        Value::String(string) => match held(string) {
            Held::Number(text) | Held::Text(text) => Some(Cow::Borrowed(text)),
        },
        other => {
            let mut out = String::new();
            write_json(other, &mut out);
            Some(Cow::Owned(out))
        }
    }
}

/// The number of a value, held or not.
pub(crate) fn number(value: &Value) -> Option<Cow<'_, Number>> {
    match value {
        Value::Number(number) => Some(Cow::Borrowed(number)),
        Value::String(string) => match held(string) {
            Held::Number(digits) => serde_json::from_str(digits).ok().map(Cow::Owned),
            Held::Text(_) => None,
        },
        _ => None,
    }
}

/// The text of a value that is a string.
pub(crate) fn string(value: &Value) -> Option<&str> {
    match value {
        Value::String(string) => match held(string) {
            Held::Text(text) => Some(text),
            Held::Number(_) => None,
        },
        _ => None,
    }
}

/// "a list", "a number", ...: for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
        Value::Number(_) => "a number",
        Value::String(_) if number(value).is_some() => "a number",
        Value::String(_) => "a string",
    }
}

/// Whether a valid JSON text has a number or string that [`Value`] alone would not keep.
fn needs_care(text: &[u8]) -> bool {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'"' => {
                // The mark itself, or an escape that may stand for it.
                if matches!(text.get(at + 1), Some(0xEF | b'\\')) {
                    return true;
                }
                at = string_end(text, at);
            }
            b'-' | b'0'..=b'9' => {
                let end = number_end(text, at);
                if changes(&text[at..end]) {
                    return true;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    false
}

/// The index behind the string that begins at `start`.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(offset) = text
        .get(at..)
        .and_then(|rest| rest.iter().position(|byte| matches!(byte, b'"' | b'\\')))
    {
        at += offset;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

fn number_end(text: &[u8], start: usize) -> usize {
    let digits = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let length = text[start..].iter().take_while(|byte| digits(byte)).count();
    start + length.max(1)
}

/// Whether a number would be printed otherwise than it was written.
fn changes(token: &[u8]) -> bool {
    let plain = token.len() < 16 && token != b"-0" && token[1..].iter().all(u8::is_ascii_digit);
    !plain
        && serde_json::from_slice::<Number>(token)
            .map_or(true, |number| number.to_string().as_bytes() != token)
}

/// Reads a text that is known to be valid JSON once more, this time with the numbers' own text.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self) -> Option<Value> {
        let bytes = self.text.as_bytes();
        match self.peek()? {
            b'{' => {
                let mut map = Map::new();
                self.at += 1;
                while self.peek()? != b'}' {
                    let key = self.string()?;
                    self.skip(b':')?;
                    // The last of two equal keys wins, as everywhere in serde_json.
                    map.insert(key, self.value()?);
                    if self.peek()? == b',' {
                        self.at += 1;
                    }
                }
                self.at += 1;
                Some(Value::Object(map))
            }
            b'[' => {
                let mut list = Vec::new();
                self.at += 1;
                while self.peek()? != b']' {
                    list.push(self.value()?);
                    if self.peek()? == b',' {
                        self.at += 1;
                    }
                }
                self.at += 1;
                Some(Value::Array(list))
            }
            b'"' => {
                let mut value = Value::String(self.string()?);
                adopt(&mut value);
                Some(value)
            }
            b'-' | b'0'..=b'9' => {
                let token = &self.text[self.at..number_end(bytes, self.at)];
                self.at += token.len();
                if changes(token.as_bytes()) {
                    Some(Value::String(format!("{NUMBER}{token}")))
                } else {
                    serde_json::from_str(token).ok()
                }
            }
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            _ => None,
        }
    }

    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at)?.is_ascii_whitespace() {
            self.at += 1;
        }
        Some(bytes[self.at])
    }

    fn skip(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn string(&mut self) -> Option<String> {
        self.peek()?;
        let end = string_end(self.text.as_bytes(), self.at);
        let token = self.text.get(self.at..end)?;
        self.at = end;
        serde_json::from_str(token).ok()
    }

    fn word(&mut self, word: &str, value: Value) -> Option<Value> {
        self.at += word.len();
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        let mut out = String::new();
        write_json(&parse(text).unwrap(), &mut out);
        out
    }

    #[test]
    fn numbers_come_out_as_they_went_in() {
        for text in [
            "0",
            "-0",
            "0.00",
            "1",
            "-17",
            "1.10",
            "1e5",
            "1E-7",
            "0.1",
            "18446744073709551615",
            "18446744073709551616",
            "123456789012345678901234567890",
            "[1.0,1.00,{\"a\":1e+2}]",
        ] {
            assert_eq!(json(text), text);
        }
    }

    #[test]
    fn a_string_that_looks_like_a_held_number_stays_a_string() {
        for text in ["\"\u{FDD0}n1\"", "[\"\u{FDD0}s\",1.10]", "\"\u{FDD0}\""] {
            assert_eq!(json(text), text);
        }
        assert_eq!(json("\"\\ufdd0n1\""), "\"\u{FDD0}n1\"");
        let value = parse("\"\u{FDD0}n1\"").unwrap();
        assert_eq!(print(&value).unwrap(), "\u{FDD0}n1");
        assert!(number(&value).is_none());
    }

    #[test]
    fn the_careful_reading_agrees_with_serde_json() {
        let text = " { \"a\" : [ ] , \"b\\n\" : { } , \"a\" : [ true , false , null , \"\\u00e9\\\"\" ] , \"n\" : 1 } ";
        let plain: Value = serde_json::from_str(text).unwrap();
        assert_eq!(Reader { text, at: 0 }.value(), Some(plain));
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&format!("{}{}", "[".repeat(200), "]".repeat(200))).is_err());
    }
}

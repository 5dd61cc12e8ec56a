//! Lines of JSONL that every reader splits in the same places.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;
use serde_json::value::RawValue;

/// Writes `value` as one line of JSON at the end of `out`, with its `\n`.
///
/// # Errors
///
/// When `value` cannot be JSON (a map with keys that are no text).
pub(crate) fn push_line<T: Serialize>(out: &mut Vec<u8>, value: &T) -> serde_json::Result<()> {
    let start = out.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, LineFormatter);
    if let Err(error) = value.serialize(&mut serializer) {
        out.truncate(start);
        return Err(error);
    }
    out.push(b'\n');
    Ok(())
}

/// The body of an answer as it goes into the journal: the provider's JSON, or a string when it is none.
pub(crate) enum Body<'a> {
    Json(&'a RawValue),
    Text(String),
}

impl<'a> Body<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Body<'a> {
        match serde_json::from_slice::<&RawValue>(bytes) {
            // A string in the journal is always a body that is no JSON: one that is a string itself is
            // quoted once more, or nobody could tell the two apart.
            Ok(json) if !json.get().starts_with('"') => Body::Json(json),
            _ => Body::Text(String::from_utf8_lossy(bytes).into_owned()),
        }
    }
}

impl Serialize for Body<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Body::Json(json) => json.serialize(serializer),
            Body::Text(text) => serializer.serialize_str(text),
        }
    }
}

/// Compact JSON in which nothing but the final `\n` ends a line for anybody: U+2028, U+2029, U+0085
/// and the other control characters are escaped, white space between raw values is a blank.
struct LineFormatter;

impl Formatter for LineFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> io::Result<()> {
        write_safely(out, text)
    }

    fn write_raw_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> io::Result<()> {
        write_safely(out, text)
    }
}

/// How many bytes are looked at in one go.
const BLOCK: usize = 32;

/// Whether one of the bytes is, or begins, what may end a line.
fn may_hold_an_end(block: &[u8; BLOCK]) -> bool {
    let suspect = |byte: u8| byte < 0x20 || matches!(byte, 0x7f | 0xc2 | 0xe2);
    // Without a way out in the middle, so that the compiler can do them all at once.
    block.iter().fold(false, |any, byte| any | suspect(*byte))
}

fn write_safely<W: ?Sized + io::Write>(out: &mut W, text: &str) -> io::Result<()> {
    let bytes = text.as_bytes();
    let mut clean = 0;
    let mut at = 0;
    while at < bytes.len() {
        // Most of what is written is free of them, and this is seen many bytes at a time.
        let block = bytes[at..].first_chunk::<BLOCK>();
        if block.is_some_and(|block| !may_hold_an_end(block)) {
            at += BLOCK;
            continue;
        }
        let until = bytes.len().min(at + BLOCK);
        while at < until {
            let length = match bytes[at] {
                // Inside a JSON string these cannot stand raw, so here they are white space between values.
                b'\t' | b'\n' | b'\r' => 1,
                0x7f => 1,
                0xc2 if bytes[at + 1] < 0xa0 => 2,
                0xe2 if bytes[at + 1] == 0x80 && matches!(bytes[at + 2], 0xa8 | 0xa9) => 3,
                _ => {
                    at += 1;
                    continue;
                }
            };
            out.write_all(&bytes[clean..at])?;
            match text[at..at + length].chars().next() {
                Some('\t' | '\n' | '\r') => out.write_all(b" ")?,
                Some(character) => write!(out, "\\u{:04x}", u32::from(character))?,
                None => {}
            }
            at += length;
            clean = at;
        }
    }
    out.write_all(&bytes[clean..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<T: Serialize>(value: &T) -> String {
        let mut out = Vec::new();
        push_line(&mut out, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_character_but_the_last_ends_a_line_for_any_reader() {
        let text = "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f\u{1c}g\u{1d}h\u{1e}i\r\nj\u{7f}k\u{9b}é\u{2030}";
        let written = line(&text);
        assert_eq!(
            written.trim_end(),
            "\"a\\u2028b\\u2029c\\u0085d\\u000be\\ff\\u001cg\\u001dh\\u001ei\\r\\nj\\u007fk\\u009bé\u{2030}\""
        );
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
    }

    #[test]
    fn a_character_that_ends_a_line_is_found_wherever_it_stands() {
        for odd in ["\u{2028}", "\u{85}", "\u{7f}", "\u{2029}\u{9b}"] {
            for before in 0..3 * BLOCK {
                for behind in [0, 1, BLOCK, 2 * BLOCK + 1] {
                    let text = ["é".repeat(before % 2), "a".repeat(before), odd.to_owned()]
                        .concat()
                        + &"b".repeat(behind);
                    let written = line(&text);
                    assert!(
                        !written.trim_end().contains(odd),
                        "{before} {odd:?} {behind}"
                    );
                    assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
                }
            }
        }
    }

    #[test]
    fn raw_json_keeps_its_numbers_and_order_and_stays_on_one_line() {
        let raw: Box<RawValue> =
            serde_json::from_str("{\"b\":\r\n\t1.50,\n\"a\":\"x\u{2028}\", \"b\":1e400}").unwrap();
        assert_eq!(
            line(&raw),
            "{\"b\":   1.50, \"a\":\"x\\u2028\", \"b\":1e400}\n"
        );
    }

    #[test]
    fn a_body_that_is_no_json_becomes_a_string() {
        assert_eq!(
            line(&Body::new(b"<html>\xff</html>")),
            "\"<html>\u{fffd}</html>\"\n"
        );
        assert_eq!(line(&Body::new(b" {\"a\": 1}\n")), "{\"a\": 1}\n");
        assert_eq!(line(&Body::new(b"")), "\"\"\n");
        assert_eq!(line(&Body::new(b"\"x\"")), "\"\\\"x\\\"\"\n");
    }

    #[test]
    fn what_cannot_be_json_leaves_nothing_behind() {
        let mut out = b"before\n".to_vec();
        let wrong = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert!(push_line(&mut out, &wrong).is_err());
        assert_eq!(out, b"before\n");
    }
}

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
        write_on_one_line(out, text)
    }
}

/// Bytes that are, or begin, a character that ends a line for some reader: DEL, C1 controls, U+2028 and U+2029.
/// serde has escaped all others that stand in a string.
const SUSPECTS: [u8; 3] = [0x7f, 0xc2, 0xe2];

fn write_safely<W: ?Sized + io::Write>(out: &mut W, text: &str) -> io::Result<()> {
    let bytes = text.as_bytes();
    let [a, b, c] = SUSPECTS;
    let mut clean = 0;
    for at in memchr::memchr3_iter(a, b, c, bytes) {
        let length = match bytes[at] {
            0x7f => 1,
            0xc2 if bytes[at + 1] < 0xa0 => 2,
            0xe2 if bytes[at + 1] == 0x80 && matches!(bytes[at + 2], 0xa8 | 0xa9) => 3,
            _ => continue,
        };
        out.write_all(&bytes[clean..at])?;
        for character in text[at..at + length].chars() {
            write!(out, "\\u{:04x}", u32::from(character))?;
        }
        clean = at + length;
    }
    out.write_all(&bytes[clean..])
}

/// White space between raw values is a blank; in a JSON string none of these can stand.
fn write_on_one_line<W: ?Sized + io::Write>(out: &mut W, raw: &str) -> io::Result<()> {
    let mut rest = raw;
    while let Some(at) = memchr::memchr3(b'\t', b'\n', b'\r', rest.as_bytes()) {
        write_safely(out, &rest[..at])?;
        out.write_all(b" ")?;
        rest = &rest[at + 1..];
    }
    write_safely(out, rest)
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
            for before in 0..100 {
                for behind in [0, 1, 32, 65] {
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

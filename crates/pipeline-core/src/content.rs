//! What a row says, in one form: two rows are equal when their canonical texts are.

use std::fmt;

use serde_json::value::RawValue;

/// Objects and lists deeper than this are refused: serde's own limit, and no real row comes near it.
const MAX_DEPTH: usize = 128;

/// Why a text is no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContentError {
    /// 1-based column, in bytes, of the line that the row stands on; 0 where it is the whole row.
    pub(crate) column: usize,
    /// What is wrong, as a fragment without a full stop.
    pub(crate) what: String,
}

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.column > 0 {
            write!(f, " (column {})", self.column)
        } else {
            Ok(())
        }
    }
}

impl std::error::Error for ContentError {}

/// Writes the canonical text of the JSON object in `text` to `out`, which is cleared first.
///
/// Keys are sorted, strings decoded and written again in one way, white space is dropped, numbers
/// stay as they were written.
///
/// # Errors
///
/// When `text` is not one JSON object, has a key twice, is nested deeper than 128 levels, or holds a
/// surrogate without its partner (which no text can hold).
pub(crate) fn canonical(text: &str, out: &mut Vec<u8>) -> Result<(), ContentError> {
    out.clear();
    // serde judges the grammar; what follows may then trust it.
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| ContentError {
        column: error.column(),
        what: format!("is no JSON: {}", reason(&error)),
    })?;
    let value = raw.get();
    if !value.starts_with('{') {
        return Err(ContentError {
            column: 0,
            what: format!("is no JSON object but {}", kind_of(value)),
        });
    }
    let offset = value.as_ptr() as usize - text.as_ptr() as usize;
    let mut scanner = Scanner {
        bytes: value.as_bytes(),
        at: 0,
        offset,
        out,
    };
    scanner.value(0)
}

/// serde's text without its own position, which counts from the row and not from the file.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

fn kind_of(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// One walk over JSON that is known to be well formed.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    offset: usize,
    out: &'a mut Vec<u8>,
}

impl Scanner<'_> {
    fn error(&self, what: impl Into<String>) -> ContentError {
        ContentError {
            column: self.offset + self.at + 1,
            what: what.into(),
        }
    }

    fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), ContentError> {
        self.skip_space();
        match self.bytes[self.at] {
            b'{' | b'[' if depth == MAX_DEPTH => {
                Err(self.error(format!("is nested deeper than {MAX_DEPTH} levels")))
            }
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.string(),
            _ => {
                let end = self.bytes[self.at..]
                    .iter()
                    .position(|byte| {
                        matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r')
                    })
                    .map_or(self.bytes.len(), |length| self.at + length);
                self.out.extend_from_slice(&self.bytes[self.at..end]);
                self.at = end;
                Ok(())
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<(), ContentError> {
        self.out.push(b'[');
        self.at += 1;
        self.skip_space();
        while self.bytes[self.at] != b']' {
            if self.bytes[self.at] == b',' {
                self.out.push(b',');
                self.at += 1;
            }
            self.value(depth + 1)?;
            self.skip_space();
        }
        self.out.push(b']');
        self.at += 1;
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), ContentError> {
        self.out.push(b'{');
        self.at += 1;
        let first = self.out.len();
        // Where each member starts, its key ends, and it ends, in `out`; commas are put in afterwards.
        let mut members: Vec<(usize, usize, usize)> = Vec::new();
        let mut sorted = true;
        loop {
            self.skip_space();
            match self.bytes[self.at] {
                b'}' => break,
                b',' => {
                    self.at += 1;
                    self.skip_space();
                }
                _ => {}
            }
            let start = self.out.len();
            self.string()?;
            let key = self.out.len();
            self.skip_space();
            self.at += 1; // the colon
            self.out.push(b':');
            self.value(depth + 1)?;
            self.out.push(b',');
            if let Some(&(before, before_key, _)) = members.last() {
                sorted &= self.out[before..before_key] < self.out[start..key];
            }
            members.push((start, key, self.out.len()));
        }
        self.at += 1;
        if !sorted {
            members.sort_by(|a, b| self.out[a.0..a.1].cmp(&self.out[b.0..b.1]));
            for pair in members.windows(2) {
                if self.out[pair[0].0..pair[0].1] == self.out[pair[1].0..pair[1].1] {
                    let key = String::from_utf8_lossy(&self.out[pair[0].0..pair[0].1]);
                    return Err(self.error(format!("has the key {key} twice")));
                }
            }
            let mut ordered = Vec::with_capacity(self.out.len() - first);
            for &(start, _, end) in &members {
                ordered.extend_from_slice(&self.out[start..end]);
            }
            self.out.truncate(first);
            self.out.extend_from_slice(&ordered);
        }
        if !members.is_empty() {
            self.out.pop(); // the last comma
        }
        self.out.push(b'}');
        Ok(())
    }

    fn string(&mut self) -> Result<(), ContentError> {
        let start = self.at;
        self.at += 1;
        // A well-formed string has its closing quote, so there is always one to find.
        self.at += memchr::memchr2(b'"', b'\\', &self.bytes[self.at..]).unwrap_or_default();
        if self.bytes[self.at] == b'\\' {
            return self.escaped_string(start);
        }
        self.at += 1;
        self.out.extend_from_slice(&self.bytes[start..self.at]);
        Ok(())
    }

    /// The rare string with a backslash in it: serde decodes and encodes it.
    fn escaped_string(&mut self, start: usize) -> Result<(), ContentError> {
        while self.bytes[self.at] != b'"' {
            self.at += if self.bytes[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        let decoded: String =
            serde_json::from_slice(&self.bytes[start..self.at]).map_err(|error| {
                self.error(format!(
                    "holds a string that is no text: {}",
                    reason(&error)
                ))
            })?;
        serde_json::to_writer(&mut *self.out, &decoded)
            .map_err(|error| self.error(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn form(text: &str) -> String {
        let mut out = Vec::new();
        canonical(text, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn refusal(text: &str) -> String {
        canonical(text, &mut Vec::new()).unwrap_err().to_string()
    }

    #[test]
    fn order_of_keys_white_space_and_escapes_make_no_difference() {
        assert_eq!(
            form("{\"b\": [1, {\"d\":2,\"c\" :\t3}],\"a\":\"\\u4eba\\/\" } "),
            "{\"a\":\"人/\",\"b\":[1,{\"c\":3,\"d\":2}]}"
        );
        assert_eq!(
            form(r#"{"a":"人/","b":[1,{"c":3,"d":2}]}"#),
            r#"{"a":"人/","b":[1,{"c":3,"d":2}]}"#
        );
        assert_eq!(form("{ }"), "{}");
        assert_eq!(form("{\"a\":[ ]}"), "{\"a\":[]}");
        assert_eq!(
            form(r#"{"b":"x\"y\\","a":true}"#),
            r#"{"a":true,"b":"x\"y\\"}"#
        );
    }

    #[test]
    fn numbers_count_as_they_are_written() {
        assert_eq!(
            form(r#"{"n":[1.0,1,1e5,123456789012345678901234567890,-0]}"#),
            r#"{"n":[1.0,1,1e5,123456789012345678901234567890,-0]}"#
        );
    }

    #[test]
    fn keys_that_only_look_different_are_the_same_key() {
        assert_eq!(
            refusal(r#"{"a":1,"b":2,"\u0061":3}"#),
            "has the key \"a\" twice (column 25)"
        );
        assert_eq!(
            refusal(r#"{"x":{"a":1,"a":1}}"#),
            "has the key \"a\" twice (column 19)"
        );
    }

    #[test]
    fn what_is_no_object_is_refused_by_name() {
        assert_eq!(refusal("[1]"), "is no JSON object but a list");
        assert_eq!(refusal(" 7"), "is no JSON object but a number");
        assert_eq!(refusal("\"x\""), "is no JSON object but a string");
        assert_eq!(refusal("null"), "is no JSON object but null");
        assert_eq!(
            refusal("{\"a\":NaN}"),
            "is no JSON: expected value (column 6)"
        );
        assert_eq!(
            refusal("{\"a\":1} x"),
            "is no JSON: trailing characters (column 9)"
        );
    }

    #[test]
    fn extreme_depth_is_refused_and_does_not_crash() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(
            refusal(&deep),
            "is nested deeper than 128 levels (column 133)"
        );
    }

    #[test]
    fn half_a_surrogate_is_refused() {
        assert!(
            refusal(r#"{"a":"\ud83d"}"#).starts_with("holds a string that is no text"),
            "{}",
            refusal(r#"{"a":"\ud83d"}"#)
        );
    }

    /// A JSON value, and a second way to write it: keys the other way round, white space, escapes.
    fn written_twice() -> impl Strategy<Value = (String, String)> {
        let leaf = prop_oneof![
            Just(("null".to_owned(), "null".to_owned())),
            "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,3})?(e[0-9]{1,2})?"
                .prop_map(|number| (number.clone(), number)),
            ".{0,6}".prop_map(|text| written(&text)),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            let list = prop::collection::vec(inner.clone(), 0..4).prop_map(|items| {
                let (plain, other): (Vec<_>, Vec<_>) = items.into_iter().unzip();
                (
                    format!("[{}]", plain.join(",")),
                    format!("[\t{} ]", other.join(" , ")),
                )
            });
            prop_oneof![list, object(inner)]
        })
    }

    fn written(text: &str) -> (String, String) {
        let escaped: String = text
            .encode_utf16()
            .map(|unit| format!("\\u{unit:04x}"))
            .collect();
        (
            serde_json::to_string(text).unwrap_or_default(),
            format!("\"{escaped}\""),
        )
    }

    fn object(
        value: impl Strategy<Value = (String, String)>,
    ) -> impl Strategy<Value = (String, String)> {
        prop::collection::btree_map(".{0,4}", value, 0..5).prop_map(|members| {
            let members: Vec<_> = members
                .into_iter()
                .map(|(key, value)| (written(&key), value))
                .collect();
            let plain: Vec<_> = members
                .iter()
                .map(|(key, value)| format!("{}:{}", key.0, value.0))
                .collect();
            let other: Vec<_> = members
                .iter()
                .rev()
                .map(|(key, value)| format!("{} :\r\n{}", key.1, value.1))
                .collect();
            (
                format!("{{{}}}", plain.join(",")),
                format!("{{ {} }}", other.join(", ")),
            )
        })
    }

    proptest! {
        #[test]
        fn however_a_row_is_written_it_says_the_same((plain, other) in object(written_twice())) {
            let (mut one, mut two) = (Vec::new(), Vec::new());
            canonical(&plain, &mut one).unwrap();
            canonical(&other, &mut two).unwrap();
            prop_assert_eq!(&one, &two);
            // The form is JSON that says the same, and its own form.
            let form = String::from_utf8(one.clone()).unwrap();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&form).ok(), serde_json::from_str(&plain).ok());
            canonical(&form, &mut two).unwrap();
            prop_assert_eq!(one, two);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}", json in "[{}\\[\\]\"\\\\:, a1]{0,24}") {
            for text in [text, json] {
                // Whether it is a row is not the question.
                let _judged = canonical(&text, &mut Vec::new()).is_ok();
            }
        }
    }
}

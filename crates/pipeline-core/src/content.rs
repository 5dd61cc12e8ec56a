//! What a row says, in one form: two rows are equal when their canonical texts are.

use std::fmt;

use serde_json::value::RawValue;

use crate::skim::holds_controls;

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
    let mut scanner = Scanner {
        bytes: text.as_bytes(),
        at: 0,
        out,
    };
    scanner.row().map_err(|found| refusal(text, found))
}

/// Why a text that the scanner did not get through is no row: what is wrong with its grammar serde knows best, and
/// says it first.
fn refusal(text: &str, found: ContentError) -> ContentError {
    match serde_json::from_str::<&RawValue>(text) {
        Err(error) => ContentError {
            column: error.column(),
            what: format!("is no JSON: {}", reason(&error)),
        },
        Ok(value) if !value.get().starts_with('{') => ContentError {
            column: 0,
            what: format!("is no JSON object but {}", kind_of(value.get())),
        },
        Ok(_) => found,
    }
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

/// One walk over a text, which judges the grammar and writes the canonical form at once. It gets through exactly
/// those texts that serde takes for an object, but for what [`canonical`] refuses besides.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    out: &'a mut Vec<u8>,
}

impl Scanner<'_> {
    fn error(&self, what: impl Into<String>) -> ContentError {
        ContentError {
            column: self.at + 1,
            what: what.into(),
        }
    }

    /// What no JSON has at this place.
    fn misplaced(&self) -> ContentError {
        self.error("is no JSON object")
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), ContentError> {
        if self.peek() != Some(byte) {
            return Err(self.misplaced());
        }
        self.at += 1;
        Ok(())
    }

    fn row(&mut self) -> Result<(), ContentError> {
        self.skip_space();
        if self.peek() != Some(b'{') {
            return Err(self.misplaced());
        }
        self.object(0)?;
        self.skip_space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.misplaced()),
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), ContentError> {
        self.skip_space();
        match self.peek() {
            Some(b'{' | b'[') if depth == MAX_DEPTH => {
                Err(self.error(format!("is nested deeper than {MAX_DEPTH} levels")))
            }
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string(),
            _ => self.scalar(),
        }
    }

    fn scalar(&mut self) -> Result<(), ContentError> {
        let rest = &self.bytes[self.at..];
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        let token = &rest[..rest.iter().position(ends).unwrap_or(rest.len())];
        if !(matches!(token, b"true" | b"false" | b"null") || is_number(token)) {
            return Err(self.misplaced());
        }
        self.out.extend_from_slice(token);
        self.at += token.len();
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<(), ContentError> {
        self.out.push(b'[');
        self.at += 1;
        self.skip_space();
        if self.peek() != Some(b']') {
            loop {
                self.value(depth + 1)?;
                self.skip_space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.out.push(b',');
                self.at += 1;
            }
        }
        self.expect(b']')?;
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), ContentError> {
        self.out.push(b'{');
        self.at += 1;
        let first = self.out.len();
        // Where each member starts, its key ends, and it ends, in `out`; each is followed by a comma.
        let mut members: Vec<(usize, usize, usize)> = Vec::new();
        let mut sorted = true;
        self.skip_space();
        if self.peek() != Some(b'}') {
            loop {
                self.skip_space();
                let start = self.out.len();
                self.string()?;
                let key = self.out.len();
                self.skip_space();
                self.expect(b':')?;
                self.out.push(b':');
                self.value(depth + 1)?;
                self.out.push(b',');
                if let Some(&(before, before_key, _)) = members.last() {
                    sorted &= self.out[before..before_key] < self.out[start..key];
                }
                members.push((start, key, self.out.len()));
                self.skip_space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
            }
        }
        self.expect(b'}')?;
        if !sorted {
            members.sort_by(|a, b| self.out[a.0..a.1].cmp(&self.out[b.0..b.1]));
            for pair in members.windows(2) {
                if self.out[pair[0].0..pair[0].1] == self.out[pair[1].0..pair[1].1] {
                    let key = String::from_utf8_lossy(&self.out[pair[0].0..pair[0].1]);
                    return Err(self.error(format!("has the key {key} twice")));
                }
            }
            // Written once more in their order, behind themselves, and then moved to their place.
            let end = self.out.len();
            for &(start, _, end) in &members {
                self.out.extend_from_within(start..end);
            }
            self.out.copy_within(end.., first);
            self.out.truncate(end);
        }
        if !members.is_empty() {
            self.out.pop(); // the last comma
        }
        self.out.push(b'}');
        Ok(())
    }

    fn string(&mut self) -> Result<(), ContentError> {
        let start = self.at;
        self.expect(b'"')?;
        let rest = &self.bytes[self.at..];
        let Some(length) = memchr::memchr2(b'"', b'\\', rest) else {
            return Err(self.misplaced());
        };
        if rest[length] == b'\\' {
            return self.escaped_string(start);
        }
        if holds_controls(&rest[..length]) {
            return Err(self.misplaced());
        }
        self.at += length + 1;
        self.out.extend_from_slice(&self.bytes[start..self.at]);
        Ok(())
    }

    /// The rarer string with a backslash in it.
    fn escaped_string(&mut self, start: usize) -> Result<(), ContentError> {
        let mut kept = true;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(length) = memchr::memchr2(b'"', b'\\', rest) else {
                return Err(self.misplaced());
            };
            self.at += length;
            if rest[length] == b'"' {
                break;
            }
            // Those that are written again as they are.
            kept &= matches!(
                rest.get(length + 1),
                Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't')
            );
            self.at += 2;
        }
        self.at += 1;
        let written = &self.bytes[start..self.at];
        if kept && !holds_controls(written) {
            self.out.extend_from_slice(written);
            return Ok(());
        }
        // serde judges, decodes and encodes all others.
        let decoded: String = serde_json::from_slice(written).map_err(|error| {
            self.error(format!(
                "holds a string that is no text: {}",
                reason(&error)
            ))
        })?;
        serde_json::to_writer(&mut *self.out, &decoded)
            .map_err(|error| self.error(error.to_string()))
    }
}

fn is_number(token: &[u8]) -> bool {
    let digits = |bytes: &[u8]| {
        bytes
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let mut rest = token.strip_prefix(b"-").unwrap_or(token);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = &fraction[length..];
    }
    match rest {
        [] => true,
        [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] => {
            !exponent.is_empty() && digits(exponent) == exponent.len()
        }
        _ => false,
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

    /// Whether the scanner gets through, which it must do exactly where serde does and nothing else is wrong.
    #[track_caller]
    fn agrees_with_serde(text: &str) -> bool {
        let judged = canonical(text, &mut Vec::new()).map_err(|error| error.to_string());
        let read = serde_json::from_str::<&RawValue>(text);
        match (&judged, read) {
            (Ok(()), read) => {
                assert!(read.is_ok_and(|raw| raw.get().starts_with('{')), "{text:?}");
            }
            (Err(what), Err(_)) => assert!(what.starts_with("is no JSON: "), "{text:?}: {what}"),
            (Err(what), Ok(raw)) if raw.get().starts_with('{') => {
                let besides = [
                    "has the key ",
                    "is nested deeper ",
                    "holds a string that is no text: ",
                ];
                assert!(
                    besides.iter().any(|known| what.starts_with(known)),
                    "{text:?}: {what}"
                );
            }
            (Err(what), Ok(_)) => assert!(
                what.starts_with("is no JSON object but "),
                "{text:?}: {what}"
            ),
        }
        judged.is_ok()
    }

    /// What rows and broken rows are made of.
    fn piece() -> impl Strategy<Value = String> {
        let pieces = [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            " ",
            "\t",
            "\n",
            "\r",
            "\"",
            "\"a\"",
            "\"b\":",
            "\\",
            "\\u00e9",
            "\\ud83d",
            "\\u12",
            "\"\\n\"",
            "\u{1}",
            "\u{7f}",
            "\u{2028}",
            "\u{a0}",
            "人",
            "0",
            "-",
            "1",
            "12",
            ".",
            "e",
            "E+",
            "1.5",
            "-0.0e-3",
            "01",
            "true",
            "false",
            "null",
            "nul",
            "truex",
            "[1,2]",
            "{\"a\":1}",
            "[[]]",
            "{}",
            ",\"c\":",
            "NaN",
            "+1",
            "'",
        ];
        prop_oneof![9 => prop::sample::select(pieces.to_vec()).prop_map(str::to_owned), 1 => ".{0,2}"]
    }

    #[test]
    fn one_byte_that_is_changed_taken_out_or_put_in_is_judged_as_serde_judges_it() {
        let mut whole = 0;
        for text in [
            r#"{"n": -1.50e+3, "list": [ 0,[],{} , true,false,null, 1E9, -0.0], "t":{"b":"a \"quoted\" \\ é \u00e9人","a":""}}"#,
            " {\"a\" :\t[ ] ,\r\n\"\\u0061b\":[{\"x\":[[1,2],[3]]}] } ",
        ] {
            assert!(agrees_with_serde(text), "{text}");
            let bytes = text.as_bytes();
            for at in 0..bytes.len() {
                let mut tried: Vec<Vec<u8>> = b"\"\\{}[],: 0179-+.eEtfnu\0\n\t\x1f\x7fx"
                    .iter()
                    .flat_map(|byte| {
                        let mut replaced = bytes.to_vec();
                        replaced[at] = *byte;
                        let mut inserted = bytes.to_vec();
                        inserted.insert(at, *byte);
                        [replaced, inserted]
                    })
                    .collect();
                tried.push([&bytes[..at], &bytes[at + 1..]].concat());
                tried.push(bytes[..at].to_vec());
                for bytes in tried {
                    if let Ok(text) = std::str::from_utf8(&bytes) {
                        whole += usize::from(agrees_with_serde(text));
                    }
                }
            }
        }
        // Or this would prove nothing.
        assert!(whole > 1000, "{whole}");
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
        fn it_judges_the_grammar_as_serde_does(pieces in prop::collection::vec(piece(), 0..12)) {
            agrees_with_serde(&format!("{{\"a\":{}}}", pieces.concat()));
            agrees_with_serde(&pieces.concat());
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

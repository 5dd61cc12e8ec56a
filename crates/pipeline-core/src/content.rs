//! What a row says, in one form: two rows are equal when their canonical texts are.

use std::fmt;

use serde_json::value::RawValue;

use crate::canonical::Scanner;

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
    let scanned = Scanner::new(text, out).row();
    scanned.map_err(|found| refusal(text, found))
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
pub(crate) fn reason(error: &serde_json::Error) -> String {
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
    }
}

//! What counts as nothing.

use serde_json::Value;

/// Whether a value holds nothing that a dataset could use.
///
/// Empty are `null`, a string of nothing but white space, and a list or an object in which every value
/// is empty, so also `[]` and `{}`. Numbers and booleans never are, `0` and `false` included.
///
/// [`tag`](crate::tag), [`regex`](crate::regex) and [`from_fn`](crate::from_fn) hand out no value for
/// which this is true. [`json`](crate::json) is the exception: a list or an object that the model wrote is
/// its answer ("none found"), so there only `null` and blank strings are refused.
///
/// ```
/// use data_generation_extractors::is_empty;
/// use serde_json::json;
///
/// assert!(is_empty(&json!(["", " \n", null])));
/// assert!(!is_empty(&json!(["", "text"])));
/// assert!(!is_empty(&json!(0)));
/// ```
#[must_use]
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => trim(text).is_empty(),
        Value::Array(values) => values.iter().all(is_empty),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

/// The text without white space at both ends, by the white space of Python's `\s`.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Python counts the four information separators as white space, Unicode's property does not.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_is_empty_when_nothing_in_it_is_not() {
        for empty in [
            json!(null),
            json!(""),
            json!(" \n\t\u{3000}"),
            json!([]),
            json!({}),
            json!([["", null], {"a": " "}]),
        ] {
            assert!(is_empty(&empty), "{empty}");
        }
        for value in [
            json!(0),
            json!(false),
            json!("x"),
            json!(["", "x"]),
            json!({"a": null, "b": 0}),
        ] {
            assert!(!is_empty(&value), "{value}");
        }
    }

    #[test]
    fn white_space_is_what_python_trims() {
        assert_eq!(
            trim("\u{1c}\u{1f}\u{85}\u{a0}\u{2028}\u{3000} 文 本\u{b}\u{c}\r\n"),
            "文 本"
        );
        assert_eq!(
            trim("\u{200b}x"),
            "\u{200b}x",
            "a zero width space is no white space there either"
        );
    }
}

//! Values that are given as text: environment variables and `--set`.

use figment::value::Value as Parsed;
use serde_json::Value;

use crate::tree;
use crate::yaml;

/// More brackets than any value has.
const MAX_BRACKETS: usize = 64;

/// What YAML calls nothing.
const NULLS: [&str; 4] = ["null", "Null", "NULL", "~"];

/// A value given as text: what it means, and what it is where a string is wanted.
#[derive(Debug, PartialEq)]
pub(crate) struct Given {
    pub(crate) value: Value,
    pub(crate) text: String,
}

impl Given {
    fn string(text: &str) -> Self {
        Self {
            value: text.into(),
            text: text.to_owned(),
        }
    }

    fn null() -> Self {
        Self {
            value: Value::Null,
            text: "null".to_owned(),
        }
    }
}

/// The value of an environment variable: read as figment does, then as YAML, so that JSON works too.
pub(crate) fn variable(text: &str) -> Given {
    if text == "null" {
        return Given::null();
    }
    if is_beyond_figment(text) {
        return match assignment(text) {
            // Text that is not in quotes is text, with the blanks around it.
            given if given.value == text.trim() => Given::string(text),
            given => given,
        };
    }
    let parsed = match text.parse::<Parsed>() {
        Ok(parsed) => tree::json(&parsed),
        Err(never) => match never {},
    };
    match parsed {
        Some(Value::String(string)) if string != text && text.trim().starts_with(['"', '\'']) => {
            Given::string(&string)
        }
        None | Some(Value::String(_)) => match assignment(text) {
            // The words `~` and `Null` are text here; only `null` unsets.
            given if given.value.is_null() || given.value.is_string() => Given::string(text),
            given => Given {
                text: text.to_owned(),
                ..given
            },
        },
        Some(value) => Given {
            value,
            text: text.to_owned(),
        },
    }
}

/// figment counts characters where it cuts bytes, once there is a backslash in quotes, and goes one call
/// deeper for every bracket. YAML reads the same then.
fn is_beyond_figment(text: &str) -> bool {
    let is_cut_wrong = text.contains('\\') && !text.is_ascii();
    is_cut_wrong || text.matches(['[', '{']).nth(MAX_BRACKETS).is_some()
}

/// The value of an assignment on the command line: a YAML scalar or flow collection, else a string.
pub(crate) fn assignment(text: &str) -> Given {
    let text = text.trim();
    if text.is_empty() {
        return Given::string(text);
    }
    match yaml::value(text) {
        Some(Value::Null) if NULLS.contains(&text) => Given::null(),
        // YAML sees nothing in `#1` and `&a`; whoever wrote them meant them.
        Some(Value::Null) => Given::string(text),
        // `[a` is no list and `key: x` no map that anybody meant on a command line.
        Some(Value::Array(_)) if !text.starts_with('[') => Given::string(text),
        Some(Value::Object(_)) if !text.starts_with('{') => Given::string(text),
        Some(Value::String(string)) if text.starts_with(['"', '\'']) => Given::string(&string),
        None | Some(Value::String(_)) => Given::string(text),
        Some(value) => Given {
            value,
            text: text.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(given: Given, value: Value, text: &str) {
        assert_eq!((given.value, given.text.as_str()), (value, text));
    }

    #[test]
    fn a_variable_is_read_as_figment_reads_it() {
        check(variable("123"), json!(123), "123");
        check(variable("-1"), json!(-1), "-1");
        check(variable("0.5"), json!(0.5), "0.5");
        check(variable("true"), json!(true), "true");
        check(variable("[a, 2]"), json!(["a", 2]), "[a, 2]");
        check(variable("{top_k=40}"), json!({"top_k": 40}), "{top_k=40}");
        check(variable("\"123\""), json!("123"), "123");
    }

    #[test]
    fn a_variable_may_also_be_json() {
        check(
            variable(r#"{"a": [1]}"#),
            json!({"a": [1]}),
            r#"{"a": [1]}"#,
        );
        check(variable("1e-3"), json!(0.001), "1e-3");
        check(variable(" 0 #"), json!(0), " 0 #");
    }

    #[test]
    fn escapes_are_read_beside_letters_of_any_script() {
        check(variable("\"人\\n工\""), json!("人\n工"), "人\n工");
        check(variable("[\"é\\\"\"]"), json!(["é\""]), "[\"é\\\"\"]");
    }

    #[test]
    fn other_text_of_a_variable_stays_as_it_is() {
        for text in [
            "",
            " two  words ",
            "a: b",
            "~",
            "- a",
            "x #y",
            "[a",
            "trueish",
            "nan",
            "1.0e999",
            "\"a\" b",
        ] {
            check(variable(text), json!(text), text);
        }
        check(variable("null"), json!(null), "null");
    }

    #[test]
    fn an_assignment_is_a_yaml_scalar_or_flow_collection() {
        check(assignment("0.2"), json!(0.2), "0.2");
        check(
            assignment("{a: [1, x]}"),
            json!({"a": [1, "x"]}),
            "{a: [1, x]}",
        );
        check(assignment("'12'"), json!("12"), "12");
        check(assignment("null"), json!(null), "null");
        check(assignment("~"), json!(null), "null");
        for text in [
            "",
            "#1",
            "&a",
            "a: b",
            "x #y",
            "regex:[a-z]+",
            "- a",
            "*a",
            ".nan",
        ] {
            check(assignment(text), json!(text), text);
        }
    }
}

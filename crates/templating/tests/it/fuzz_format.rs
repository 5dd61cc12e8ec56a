//! `{topic}` prompts against a renderer that is nothing but the rule itself, over rows of any keys.

use data_generation_templating::{Prompt, Prompts, Syntax};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::cases::cases;

/// A piece of a prompt.
#[derive(Debug, Clone)]
enum Part {
    Text(String),
    /// A name and the keys below it, the last of them in brackets where that is true.
    Name(Vec<String>, bool),
}

/// Letters of any script, digits, `_` and `-`; a position is no name.
const WORD: &str = "[a-cé人_][a-c0-9é人_-]{0,2}";

fn part() -> impl Strategy<Value = Part> {
    let key = prop_oneof![4 => WORD, 1 => Just("0".to_owned()), 1 => Just("1".to_owned())];
    let odd = prop_oneof![3 => WORD, 1 => "[^{}\\[\\]\n]{1,4}"];
    prop_oneof![
        "[^{}]{0,8}".prop_map(Part::Text),
        "[{}]{1,2}".prop_map(Part::Text),
        "[ \r\n~-]{1,2}".prop_map(Part::Text),
        (WORD, vec(key, 0..2))
            .prop_map(|(name, keys)| Part::Name([vec![name], keys].concat(), false)),
        (WORD, odd).prop_map(|(name, key)| Part::Name(vec![name, key], true)),
    ]
}

impl Part {
    fn written(&self) -> String {
        match self {
            Part::Text(text) => text.replace('{', "{{").replace('}', "}}"),
            Part::Name(keys, true) => format!("{{{}[{}]}}", keys[0], keys[1]),
            Part::Name(keys, false) => format!("{{{}}}", keys.join(".")),
        }
    }
}

/// A value, and its text as JSON.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => any::<String>().prop_map(|text| json!(text).to_string()),
        3 => select(vec!["1", "1.10", "-0.00", "123456789012345678901234567890", "true", "false", "\"\"", "\"{b}\""])
            .prop_map(str::to_owned),
        1 => Just("null".to_owned()),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        let list = vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(",")));
        prop_oneof![list, row_of(inner)]
    })
}

fn row_of(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let key = prop_oneof![5 => WORD, 1 => any::<String>()];
    btree_map(key, value, 0..5).prop_map(|fields| {
        let fields: Vec<_> = fields
            .iter()
            .map(|(key, value)| format!("{}:{value}", json!(key)))
            .collect();
        format!("{{{}}}", fields.join(","))
    })
}

/// What a value prints as; `None` where it must be refused.
fn printed(row: &str, keys: &[String]) -> Option<String> {
    let mut at: Box<RawValue> = serde_json::from_str(row).unwrap();
    for key in keys {
        let text = at.get().to_owned();
        at = match text.as_bytes()[0] {
            b'{' => {
                let fields: std::collections::HashMap<String, Box<RawValue>> =
                    serde_json::from_str(&text).unwrap();
                fields.get(key)?.clone()
            }
            b'[' => {
                let items: Vec<Box<RawValue>> = serde_json::from_str(&text).unwrap();
                items.get(key.parse::<usize>().ok()?)?.clone()
            }
            _ => return None,
        };
    }
    match at.get().as_bytes()[0] {
        b'"' => serde_json::from_str(at.get()).ok(),
        b'n' | b'{' => None,
        // A list prints in a way of its own; that it prints is enough.
        b'[' => Some(at.get().to_owned()),
        _ => Some(at.get().to_owned()),
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_format_prompt_prints_what_it_names_or_is_refused(parts in vec(part(), 0..6), row in row_of(value())) {
        // With these keys a row has another form, with rules of its own.
        prop_assume!(!row.contains("_prompt_kwargs"));
        let text: String = parts.iter().map(Part::written).collect();
        let prompt = match Prompt::from_text("p", &text, Syntax::Format) {
            Ok(prompt) => prompt,
            Err(error) => return Err(TestCaseError::fail(format!("{text:?}: {error}"))),
        };
        let prompts = Prompts::new(None, prompt);
        let problems = prompts.checker().check(&row);
        let rendered = prompts.render_row(&row).map(|messages| messages.user);
        let has_list = parts.iter().any(|part| matches!(part, Part::Name(keys, _) if printed(&row, keys).is_some_and(|text| text.starts_with('['))));
        let expected: Option<String> = parts.iter().map(|part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Name(keys, _) => printed(&row, keys),
        }).collect();
        prop_assert_eq!(problems.is_empty(), rendered.is_ok(), "{:?} {}\n{:?}\n{:?}", text, row, problems, rendered);
        if has_list {
            return Ok(());
        }
        prop_assert_eq!(rendered.as_ref().ok(), expected.as_ref(), "{:?} {}\n{:?}", text, row, problems);
        for problem in &problems {
            prop_assert!(!problem.to_string().contains('\n'), "{:?}", problem.to_string());
        }
        let kwargs = format!(r#"{{"user_prompt_kwargs":{row},"other":1}}"#);
        prop_assert_eq!(prompts.render_row(&kwargs).map(|messages| messages.user).ok(), rendered.ok());
    }

    #[test]
    fn any_keys_and_values_print_in_both_syntaxes_as_they_are(key in WORD, value in value(), noise in value()) {
        let row = format!("{{{}:{value},\"zz\":{noise}}}", json!(key));
        let render = |text: String, syntax| {
            let prompt = Prompt::from_text("p", &text, syntax).unwrap();
            Prompts::new(None, prompt).render_row(&row).map(|messages| messages.user).ok()
        };
        let format = render(format!("{{{key}}}"), Syntax::Format);
        prop_assert_eq!(&render(format!("{{{{[{key}]}}}}"), Syntax::Handlebars), &format, "{}", row);
        if !value.starts_with('[') {
            prop_assert_eq!(format, printed(&row, &[key]));
        }
    }

    #[test]
    fn any_text_as_a_row_is_checked_as_it_is_rendered(row in prop_oneof![any::<String>(), "[{}\\[\\]\":,a1 ]{0,20}", value()]) {
        for (text, syntax) in [("{a}", Syntax::Format), ("{{a}}", Syntax::Handlebars), ("{{#each a}}{{this}}{{/each}}", Syntax::Handlebars)] {
            let prompts = Prompts::new(None, Prompt::from_text("p", text, syntax).unwrap());
            let problems = prompts.checker().check(&row);
            let rendered = prompts.render_row(&row);
            prop_assert_eq!(problems.is_empty(), rendered.is_ok(), "{} {:?}\n{:?}", text, problems, rendered);
            if serde_json::from_str::<Value>(&row).is_ok_and(|row| !row.is_object()) {
                prop_assert!(rendered.is_err());
            }
        }
    }
}

//! What was put into an answer comes out of it, whatever stands around.

use data_generation_extractors::{Extract, json, regex, tag};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json as value};

use crate::cases::cases;

/// Text with something in it, trimmed, and without what would begin or end a tag.
fn content() -> impl Strategy<Value = String> {
    "[^<>]{1,30}".prop_filter_map("it is blank", |text| {
        // What the extractors trim, and so cannot give back.
        let text =
            text.trim_matches(|c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}');
        (!text.is_empty()).then(|| text.to_owned())
    })
}

/// A name, and two ways to write it.
fn name() -> impl Strategy<Value = (String, String, String)> {
    "[a-z][a-z0-9_]{0,8}".prop_map(|name| (name.clone(), name.to_uppercase(), name))
}

/// The length of all text in a value.
fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(length).sum(),
        Value::Object(fields) => fields.values().map(length).sum(),
        _ => 0,
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn what_stands_in_tags_comes_out_in_its_order(
        (name, upper, lower) in name(),
        parts in vec((content(), "[^<>]{0,20}", any::<bool>(), select(vec!["", " a=\"1\"", "\n x", " b='2' c"]), select(vec!["", " ", "\r\n\t"])), 1..6),
        before in "[^<>]{0,20}",
    ) {
        let mut answer = before;
        for (content, after, loud, attributes, blank) in &parts {
            let (open, close) = if *loud { (&upper, &lower) } else { (&lower, &upper) };
            answer.push_str(&format!("<{open}{attributes}>{blank}{content}{blank}</{close}>{after}<{name}s>{after}</{name}s>"));
        }
        let contents: Vec<&String> = parts.iter().map(|part| &part.0).collect();
        let all = tag(&name).extract(&answer);
        prop_assert_eq!(all.ok(), Some(value!(contents)), "{}", answer);
        prop_assert_eq!(tag(&name).first().extract(&answer).ok(), Some(value!(contents[0])));
        prop_assert_eq!(tag(&name).last().extract(&answer).ok(), Some(value!(contents[contents.len() - 1])));
        // One that is opened once more and never closed spoils all of them.
        let cut = format!("{answer}<{upper}>rest");
        prop_assert!(tag(&name).extract(&cut).unwrap_err().is_miss());
    }

    #[test]
    fn what_a_pattern_names_comes_out_in_its_order(
        parts in vec(("[^;=]{1,20}", "[a-z]{1,5}"), 1..6), before in "[^;=]{0,20}",
    ) {
        prop_assume!(parts.iter().all(|(content, _)| !content.trim().is_empty()));
        let answer = parts.iter().fold(before, |answer, (content, key)| format!("{answer}={key}={content};"));
        let named: Vec<Value> = parts.iter().map(|(content, key)| value!({"key": key, "content": content})).collect();
        let keys: Vec<&String> = parts.iter().map(|(_, key)| key).collect();
        let pattern = regex("=(?<key>[a-z]+)=(?<content>[^;]*);").unwrap();
        prop_assert_eq!(pattern.extract(&answer).ok(), Some(Value::from(named)), "{}", answer);
        let group = regex("=([a-z]+)=[^;]*;").unwrap();
        prop_assert_eq!(group.extract(&answer).ok(), Some(value!(keys)));
    }

    #[test]
    fn the_whole_answer_is_json_where_it_is_json(text in any::<String>(), number in any::<i64>(), blank in "[ \n\r\t]{0,4}") {
        let expected = value!({"a": [text, number, {"b": null}], "c": true});
        prop_assert_eq!(json().extract(&format!("{blank}{expected}{blank}")).ok(), Some(expected));
    }

    #[test]
    fn no_extractor_gives_more_text_than_the_answer_has(
        answer in prop_oneof![any::<String>(), "(<a>|</a>|x|\n|\"|\\{|\\}|:|```|,){0,40}"],
    ) {
        let word = regex("[a-z]+").unwrap();
        let extractors: [&dyn Extract; 3] = [&tag("a"), &json(), &word];
        for extractor in extractors {
            if let Ok(found) = extractor.extract(&answer) {
                prop_assert!(length(&found) <= answer.len(), "{}: {}", extractor.name(), found);
            }
        }
    }
}

//! No answer and no pattern makes an extractor panic, hang or hand out nothing.

use data_generation_extractors::{Extract, is_empty, json, parse, regex, tag};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use crate::cases::cases;

fn pieces(pieces: Vec<&'static str>, count: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(select(pieces), 0..count).prop_map(|pieces| pieces.concat())
}

fn fences() -> impl Strategy<Value = String> {
    let parts = vec![
        "```", "````", "~~~", "json", "\n", "\r\n", " ", "{", "}", "[", "]", "\"", "\"a\":", "1",
        ",", "null", "x", "`", "人", "\u{feff}",
    ];
    pieces(parts, 24)
}

fn pattern_text() -> impl Strategy<Value = String> {
    let parts = vec![
        "(", ")", "[", "]", "{", "}", "?", "*", "+", "|", "^", "$", ".", "\\", "\\b", "\\d", "\\1",
        "\\k<a>", "(?<a>", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i)", "(?s)", "(?m)", "{2}",
        "{1,3}", "a", "b", "-", "^", ":", "&&", "人", "\\p{L}", "\\Q", "\\K", "\\G", "\\g<a>",
        "(?(1)", "(?x)", "#", " ",
    ];
    pieces(parts, 10)
}

/// Everything that holds for every extractor and answer.
fn obeys(extractor: &dyn Extract, answer: &str, content: &str) {
    match extractor.extract(answer) {
        Ok(Value::Array(list)) if extractor.name() == "json" => drop(list),
        Ok(Value::Object(fields)) if extractor.name() == "json" => drop(fields),
        Ok(value) => assert!(!is_empty(&value), "{} {answer:?}", extractor.name()),
        Err(error) => {
            assert_eq!(error.is_miss(), error.class() == "extraction_miss");
            assert!(error.to_string().lines().count() == 1, "{error}");
        }
    }
    if let Some(text) = extractor.sample(content) {
        assert!(
            extractor.extract(&text).is_ok(),
            "{} {text:?}",
            extractor.name()
        );
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn tags_take_any_answer(name in "\\PC{1,3}|[a-b:<>/ -]{0,3}", answer in "\\PC*|[<>/ab:. -]{0,40}", content in ".*") {
        for extractor in [tag(&name), tag(&name).first(), tag(&name).last()] {
            obeys(&extractor, &answer, &content);
        }
    }

    #[test]
    fn json_takes_any_answer(answer in prop_oneof![any::<String>(), fences()], content in any::<String>()) {
        obeys(&json(), &answer, &content);
    }

    #[test]
    fn a_value_in_a_block_comes_out_as_it_went_in(
        text in any::<String>(), number in any::<i64>(), fence in "`{3,5}|~{3,5}", line_end in "\r?\n", before in "[^`~]{0,20}",
    ) {
        let value = serde_json::json!({ "text": text, "list": [number, null, []] });
        for printed in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let answer = format!("{before}\n{fence}json{line_end}{printed}{line_end}{fence}\nDone.");
            prop_assert_eq!(&json().extract(&answer).unwrap(), &value);
        }
    }

    #[test]
    fn patterns_may_be_anything(pattern in prop_oneof![any::<String>(), pattern_text()], answer in "\\PC{0,30}|[ab\n-]{0,30}", content in ".{0,20}") {
        if let Ok(extractor) = regex(&pattern) {
            obeys(&extractor.with_backtrack_limit(10_000), &answer, &content);
        }
    }

    #[test]
    fn a_description_may_be_anything(spec in any::<String>(), kind in select(vec!["", "tag:", "regex:", "json", "none", ":"])) {
        if let Ok(Some(extractor)) = parse(&format!("{kind}{spec}")) {
            prop_assert!(extractor.check().is_ok());
            let again = parse(extractor.name()).unwrap().unwrap();
            prop_assert_eq!(again.name(), extractor.name());
        }
    }
}

/// Long enough that a search which looks again from every place would not come to its end.
#[test]
fn hostile_answers_of_any_length_come_to_their_end() {
    let count = 100_000;
    for part in [
        "<draft",
        "<draft>",
        "</draft",
        "<draft/>",
        "<",
        "</draft \n",
        "<draft>x</draft>",
    ] {
        let answer = part.repeat(count);
        for extractor in [tag("draft"), tag("draft").first(), tag("draft").last()] {
            obeys(&extractor, &answer, "x");
        }
    }
    for part in [
        "```\n",
        "```json\n{",
        "```json [\n",
        "```\n{}\n```\n",
        "~~~\n```\n",
        "```x\n[[[[\n```\n",
        "``` `\n",
        "{\"a\":",
        "```json\n[1]\n",
        "````\n```\n",
    ] {
        obeys(&json(), &part.repeat(count), "x");
    }
    let nested: String = (3..1_000)
        .rev()
        .map(|length| "`".repeat(length) + "a\n")
        .collect();
    obeys(&json(), &nested, "x");
}

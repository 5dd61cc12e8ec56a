//! The tag scanner against the regular expression that it stands for.

use data_generation_extractors::{ErrorKind, Extract, tag};
use fancy_regex::Regex;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use std::sync::LazyLock;

use crate::cases::cases;

/// The template's pattern, with the white space that a closing tag may have here.
static PATTERN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?is)<draft\b[^>]*>\s*(.*?)\s*</draft\s*>").unwrap());
/// An empty element is the one thing that the pattern takes for an opening tag and the scanner does not.
static EMPTY_ELEMENT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)<draft\b[^>]*/>").unwrap());

/// What the pattern finds, in the order of the text.
fn by_pattern(answer: &str) -> Vec<String> {
    PATTERN
        .captures_iter(answer)
        .map(|captures| captures.unwrap().get(1).unwrap().as_str().to_owned())
        .collect()
}

fn assert_same(answer: &str) {
    let expected = by_pattern(answer);
    let first = tag("draft").first().extract(answer);
    match expected.first() {
        Some(text) if !text.is_empty() => assert_eq!(first.unwrap(), text.as_str(), "{answer:?}"),
        _ => assert!(first.unwrap_err().is_miss(), "{answer:?}"),
    }
    match tag("draft").extract(answer) {
        Ok(found) => assert_eq!(found, Value::from(expected), "{answer:?}"),
        Err(error) => match error.kind() {
            ErrorKind::Miss { .. } => assert!(expected.is_empty(), "{answer:?}"),
            ErrorKind::Empty { .. } => assert!(expected.iter().any(String::is_empty), "{answer:?}"),
            // Where the scanner sees an unclosed tag, the pattern finds nothing from there on.
            ErrorKind::UnclosedTag { at, .. } => {
                assert_eq!(by_pattern(&answer[..*at]), expected, "{answer:?}");
                assert!(by_pattern(&answer[*at..]).is_empty(), "{answer:?}");
            }
            other => panic!("{answer:?}: {other:?}"),
        },
    }
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn the_scanner_finds_what_the_pattern_finds_in_any_characters(
        characters in prop::collection::vec(select(vec!['<', '>', '/', 'd', 'r', 'a', 'f', 't', ' ', '\n', 'x']), 0..60),
    ) {
        let answer: String = characters.into_iter().collect();
        prop_assume!(!EMPTY_ELEMENT.is_match(&answer).unwrap());
        assert_same(&answer);
    }

    #[test]
    fn the_scanner_finds_what_the_pattern_finds_in_pieces_of_tags(
        pieces in prop::collection::vec(
            select(vec![
                "<draft>", "</draft>", "<draft", "</draft", "<DRAFT x='1'>", "</Draft \n>", "<drafts>", "</drafts>",
                "<", ">", "/", "draft", " ", "\n", "x", "好", "<draft\n", "\u{3000}",
            ]),
            0..16,
        ),
    ) {
        let answer = pieces.concat();
        prop_assume!(!EMPTY_ELEMENT.is_match(&answer).unwrap());
        assert_same(&answer);
    }
}

#[test]
fn the_scanner_finds_what_the_pattern_finds_in_known_cases() {
    for answer in [
        "",
        "<draft>x</draft>",
        "<draft<x>y</draft>",
        "<draft x=\"a>b\">c</draft>",
        "<draft>x <draft>y</draft> z</draft>",
        "</draft><draft>\u{a0}x\u{2003}</draft></draft>",
        "<draft>1</draft><draft>2",
        "<draft>1</draft><draft",
    ] {
        assert_same(answer);
    }
}

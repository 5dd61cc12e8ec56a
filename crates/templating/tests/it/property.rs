use data_generation_templating::{Prompt, Prompts, Syntax};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::cases::cases;

/// A small grammar of templates. Depth is the number of `each` and `with` around, for `../`.
fn template(depth: usize, size: u32) -> BoxedStrategy<String> {
    let name = path(depth);
    let leaf = prop_oneof![
        4 => name.clone().prop_map(|name| format!("{{{{{name}}}}}")),
        1 => name.clone().prop_map(|name| format!("{{{{json {name}}}}}")),
        1 => call(depth).prop_map(|call| format!("{{{{{call}}}}}")),
        1 => Just("text {x} \n".to_owned()),
    ];
    if size == 0 {
        return leaf.boxed();
    }
    let inner =
        proptest::collection::vec(template(depth, size - 1), 0..3).prop_map(|list| list.concat());
    let deeper = proptest::collection::vec(template(depth + 1, size - 1), 0..3)
        .prop_map(|list| list.concat());
    let condition = prop_oneof![
        name.clone(),
        call(depth).prop_map(|call| format!("({call})"))
    ];
    let argument = prop_oneof![3 => name, 1 => (path(depth), path(depth)).prop_map(|(a, b)| format!("(lookup {a} {b})"))];
    let otherwise = proptest::option::of(inner.clone())
        .prop_map(|inner| inner.map_or(String::new(), |inner| format!("{{{{else}}}}{inner}")));
    let chain =
        (condition.clone(), inner.clone(), any::<bool>()).prop_map(|(condition, inner, wanted)| {
            if wanted {
                format!("{{{{else if {condition}}}}}{inner}")
            } else {
                String::new()
            }
        });
    prop_oneof![
        3 => leaf,
        2 => (inner.clone(), inner.clone()).prop_map(|(a, b)| a + &b),
        2 => (prop_oneof![Just("if"), Just("unless")], condition, inner.clone(), chain, otherwise.clone())
            .prop_map(|(block, condition, then, chain, otherwise)| format!("{{{{#{block} {condition}}}}}{then}{chain}{otherwise}{{{{/{block}}}}}")),
        2 => (prop_oneof![Just("each"), Just("with")], argument, deeper, otherwise, any::<bool>())
            .prop_map(|(block, argument, body, otherwise, named)| {
                let params = if named { " as |p|" } else { "" };
                let body = if named { body.replace("{{q}}", "{{p}}").replace("{{q.", "{{p.") } else { body };
                format!("{{{{#{block} {argument}{params}}}}}{body}{otherwise}{{{{/{block}}}}}")
            }),
        1 => (path(depth), path(depth), inner.clone()).prop_map(|(a, b, inner)| format!("{{{{#eq {a} {b}}}}}{inner}{{{{/eq}}}}")),
    ]
    .boxed()
}

fn path(depth: usize) -> BoxedStrategy<String> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c"), Just("q")];
    let tail = prop_oneof![4 => Just(""), 1 => Just(".a"), 1 => Just(".b"), 1 => Just(".0"), 1 => Just(".a.b")];
    let up = if depth == 0 {
        Just(0).boxed()
    } else {
        prop_oneof![3 => Just(0), 1 => 0..=depth].boxed()
    };
    let this = up.clone().prop_map(|up| "../".repeat(up) + "this");
    let plain =
        (up, name.clone(), tail).prop_map(|(up, name, tail)| "../".repeat(up) + name + tail);
    prop_oneof![6 => plain, 1 => this, 1 => name.prop_map(|name| format!("@root.{name}"))].boxed()
}

fn call(depth: usize) -> BoxedStrategy<String> {
    let one = prop_oneof![Just("not"), Just("len")];
    let two = prop_oneof![
        Just("eq"),
        Just("gt"),
        Just("and"),
        Just("or"),
        Just("lookup")
    ];
    let literal = prop_oneof![
        Just("1"),
        Just("\"a\""),
        Just("0"),
        Just("null"),
        Just("1.10")
    ];
    let arg = prop_oneof![3 => path(depth), 1 => literal.prop_map(str::to_owned)];
    prop_oneof![
        (one, path(depth)).prop_map(|(helper, a)| format!("{helper} {a}")),
        (two.clone(), arg.clone(), arg.clone())
            .prop_map(|(helper, a, b)| format!("{helper} {a} {b}")),
        (two, arg.clone(), arg).prop_map(|(helper, a, b)| format!("eq ({helper} {a} {b}) 1")),
    ]
    .boxed()
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        Just(json!(0)),
        Just(json!(1)),
        Just(json!("")),
        Just(json!("a")),
        Just(json!("text")),
        Just(json!("a \"quoted\" one")),
        // Half a character: nothing can print it.
        Just(json!("HALF")),
        // Becomes a number that has to be kept as it is written.
        Just(json!("NUMBER")),
        Just(json!("ZERO")),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        let key = prop_oneof![
            Just("a".to_owned()),
            Just("b".to_owned()),
            Just("c".to_owned()),
            Just("q".to_owned())
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..4)
                .prop_map(|list| Value::Object(list.into_iter().collect())),
        ]
    })
}

fn row() -> impl Strategy<Value = String> {
    let keys = ["a", "b", "c", "q"];
    proptest::collection::vec(proptest::option::weighted(0.8, value()), 4).prop_map(move |values| {
        let fields = keys
            .iter()
            .zip(values)
            .filter_map(|(key, value)| Some(((*key).to_owned(), value?)));
        let text = Value::Object(fields.collect()).to_string();
        text.replace("\"NUMBER\"", "1.10")
            .replace("\"ZERO\"", "-0.00")
            .replace("\"HALF\"", "\"\\ud800\"")
    })
}

fn agree(text: &str, row: &str) -> Result<(), TestCaseError> {
    let prompt = Prompt::from_text("p", text, Syntax::Handlebars)
        .map_err(|error| TestCaseError::fail(format!("{text}\n{error}")))?;
    let prompts = Prompts::new(None, prompt);
    let problems = prompts.checker().check(row);
    let rendered = prompts.render_row(row);
    prop_assert_eq!(
        problems.is_empty(),
        rendered.is_ok(),
        "{}\n{}\n{:?}\n{:?}",
        text,
        row,
        problems,
        rendered
    );
    let kwargs = format!(r#"{{"user_prompt_kwargs":{row},"a":{{}},"b":null}}"#);
    prop_assert_eq!(prompts.checker().check(&kwargs).len(), problems.len());
    prop_assert_eq!(prompts.render_row(&kwargs).ok(), rendered.ok());
    Ok(())
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn the_check_says_fine_exactly_when_rendering_succeeds(text in template(0, 3), row in row()) {
        agree(&text, &row)?;
    }

    #[test]
    fn no_text_makes_loading_panic(pieces in proptest::collection::vec(piece(), 0..12)) {
        let text = pieces.concat();
        for syntax in [Syntax::Handlebars, Syntax::Format] {
            if let Err(error) = Prompt::from_text("p", &text, syntax) {
                prop_assert!(error.line().is_some(), "{}", error);
            }
        }
    }

    #[test]
    fn text_without_braces_renders_as_it_is(text in "[^{\\\\]*", format in "[^{}]*") {
        let render = |text: &str, syntax| {
            let prompt = Prompt::from_text("p", text, syntax).unwrap();
            Prompts::new(None, prompt).render_row("{}").unwrap().user
        };
        prop_assert_eq!(render(&text, Syntax::Handlebars), text);
        prop_assert_eq!(render(&format, Syntax::Format), format);
    }

    #[test]
    fn strings_are_printed_unchanged(value in any::<String>()) {
        let prompt = Prompt::from_text("p", "{{x}}", Syntax::Handlebars).unwrap();
        let row = json!({ "x": value }).to_string();
        prop_assert_eq!(Prompts::new(None, prompt).render_row(&row).unwrap().user, value);
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn rows_before_make_no_difference_to_the_check(
        system in proptest::option::of(template(0, 2)), user in template(0, 2),
        rows in proptest::collection::vec((row(), row(), 0..4_usize), 1..12),
    ) {
        let prompt = |text: &String| Prompt::from_text("p", text, Syntax::Handlebars).unwrap();
        let prompts = Prompts::new(system.as_ref().map(prompt), prompt(&user));
        let mut checker = prompts.checker();
        // Each row comes twice, so that it is met as one that is known.
        for (one, other, form) in rows.iter().chain(&rows) {
            let row = match form {
                0 => format!(r#"{{"user_prompt_kwargs":{one},"system_prompt_kwargs":{other}}}"#),
                1 => format!(r#"{{"system_prompt_kwargs":{other},"a":1}}"#),
                _ => one.clone(),
            };
            let problems = checker.check(&row);
            prop_assert_eq!(&problems, &prompts.checker().check(&row), "{:?} {} {}", system, user, row);
            prop_assert_eq!(problems.is_empty(), prompts.render_row(&row).is_ok(), "{:?} {} {}", system, user, row);
        }
    }
}

/// The stuff that broken prompts are made of.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "{{",
        "}}",
        "{{{",
        "}}}",
        "{{{{",
        "}}}}",
        "{",
        "}",
        "#",
        "/",
        "if",
        "else",
        "each",
        "with",
        "raw",
        "a",
        "b.c",
        " ",
        "\n",
        "~",
        "!",
        "--",
        "\\",
        "\"",
        "'",
        "(",
        ")",
        "[",
        "]",
        "|",
        "as",
        "@",
        "../",
        "this",
        "@root.",
        "^",
        "&",
        ">",
        "*",
        "=",
        ".",
        "1",
        "json",
        "人",
        "{{#if a}}",
        "{{/if}}",
        "{{else}}",
        "{{else if b}}",
        "{{#each a as |x y|}}",
        "{{/each}}",
        "{{x}}",
        "{{{{raw}}}}",
        "{{{{/raw}}}}",
        "{{~",
        "~}}",
        "{{!--",
        "--}}",
        "{{^}}",
        "{{~else if b~}}",
        "{{#with a}}",
        "{{/with}}",
        "{{#unless a}}",
        "{{/unless}}",
    ];
    prop_oneof![9 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => ".{0,3}"]
}

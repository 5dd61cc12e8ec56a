use data_generation_templating::{Prompt, Prompts, Syntax};

use crate::refused;

#[track_caller]
fn renders(text: &str, row: &str, expected: &str) {
    let prompt = Prompt::from_text("p.txt", text, Syntax::Format).expect("it loads");
    let prompts = Prompts::new(None, prompt);
    assert_eq!(prompts.render_row(row).expect("it renders").user, expected);
    assert!(prompts.checker().check(row).is_empty());
}

#[test]
fn names_are_filled_in() {
    renders(
        "Write about {topic}, {a.b}, {a[c d]} and {l[1]}.",
        r#"{"topic":"人工智能","a":{"b":1.10,"c d":true},"l":[1,[2]]}"#,
        "Write about 人工智能, 1.10, true and [2].",
    );
    renders(
        "{this} {json} {else}",
        r#"{"this":1,"json":2,"else":3}"#,
        "1 2 3",
    );
}

#[test]
fn doubled_braces_are_text() {
    renders(
        r#"{{"a": "{x}", "b": {{}}}}"#,
        r#"{"x":1}"#,
        r#"{"a": "1", "b": {}}"#,
    );
    renders("{{{x}}} {{x}}", r#"{"x":1}"#, "{1} {x}");
}

#[test]
fn handlebars_in_a_format_prompt_is_text() {
    renders(
        r"\{{{{x}}}} \{{x}} \\{x} {{{{#if a}}}} {{{{!-- c --}}}}",
        r#"{"x":1}"#,
        r"\{{x}} \{x} \\1 {{#if a}} {{!-- c --}}",
    );
    renders(" \n{x} \n ", r#"{"x":"{{y}}{z}"}"#, " \n{{y}}{z} \n ");
}

#[test]
fn what_is_not_a_name_is_refused_with_its_place_and_cure() {
    let lines: Vec<_> = [
        "a\nb {}",
        "{0}",
        "{x!r}",
        "{x:>10}",
        "a } b",
        "a { b",
        "{\"a\": 1}",
        "{ x }",
        "{a.}",
        "{a[]}",
        "{1, 2}",
        "{x\n}",
        "{a[b}",
        "人{x.y z}",
    ]
    .iter()
    .map(|text| refused(text, Syntax::Format))
    .collect();
    insta::assert_snapshot!(lines.join("\n"), @r##"
`p.txt` line 2, column 3: `{}` names nothing; write `{name}`, or `{{` and `}}` for braces that are text
`p.txt` line 1, column 1: `{0}` is a position, and a row has names; write `{name}`, or `{{` and `}}` for braces that are text
`p.txt` line 1, column 1: `{x!r}` formats its value, which is not offered; write `{x}`, or `{{` and `}}` for braces that are text
`p.txt` line 1, column 1: `{x:>10}` formats its value, which is not offered; write `{x}`, or `{{` and `}}` for braces that are text
`p.txt` line 1, column 3: `}` without `{`; write `{{` and `}}` for braces that are text
`p.txt` line 1, column 3: `{` without `}` on the line; write `{{` and `}}` for braces that are text
`p.txt` line 1, column 1: `{"a": 1}` is not a name; write `{{` and `}}` for braces that are text
`p.txt` line 1, column 1: `{ x }` has spaces round the name; write `{x}`
`p.txt` line 1, column 1: `{a.}` is not a name; write `{a.b}` or `{a[b]}`, or `{{` and `}}` for braces that are text
`p.txt` line 1, column 1: `{a[]}` is not a name; write `{a.b}` or `{a[b]}`, or `{{` and `}}` for braces that are text
`p.txt` line 1, column 1: `{1, 2}` is not a name; write `{{` and `}}` for braces that are text
`p.txt` line 1, column 1: `{` without `}` on the line; write `{{` and `}}` for braces that are text
`p.txt` line 1, column 1: `{a[b}` is not a name; write `{a.b}` or `{a[b]}`, or `{{` and `}}` for braces that are text
`p.txt` line 1, column 2: `{x.y z}` is not a name; write `{a.b}` or `{a[b]}`, or `{{` and `}}` for braces that are text
"##);
}

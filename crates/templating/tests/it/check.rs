use data_generation_templating::{Need, ProblemKind, Prompt, Prompts, Syntax};

use crate::{handlebars, problem, problems, renders};

#[test]
fn a_missing_name_is_told_with_the_most_similar_ones() {
    insta::assert_snapshot!(
        problem("Hello\n  {{topic}}", r#"{"tone":1,"language":2,"topc":3,"a":4,"b":5,"c":6}"#),
        @"`{{topic}}` (p.txt:2) is missing in the row; it has `topc`, `tone`, `c`, `a`, `b`, ..."
    );
    insta::assert_snapshot!(problem("{{a.b.c}}", r#"{"a":{"b":{"d":1}}}"#), @"`{{a.b.c}}` (p.txt:1) has no value: `c` is missing in `a.b`; it has `d`");
    insta::assert_snapshot!(problem("{{a.b}}", r#"{"a":"text"}"#), @"`{{a.b}}` (p.txt:1) has no value: `b` is missing in `a`, which is a string");
    insta::assert_snapshot!(problem("{{a.7}}", r#"{"a":[1]}"#), @"`{{a.7}}` (p.txt:1) has no value: `7` is missing in `a`, a list of 1");
}

#[test]
fn null_and_objects_cannot_be_printed() {
    insta::assert_snapshot!(problem("{{a}}", r#"{"a":null}"#), @"`{{a}}` (p.txt:1) is null in the row; `{{#if a}}` around it leaves it out, `{{json a}}` prints it as JSON");
    insta::assert_snapshot!(problem("{{a}}", r#"{"a":{"b":1}}"#), @"`{{a}}` (p.txt:1) is an object in the row; print a field of it, or all of it with `{{json a}}`");
    insta::assert_snapshot!(problem("{{json a}}", "{}"), @"`{{json a}}` (p.txt:1) is missing in the row, which is empty");
    insta::assert_snapshot!(problem("{{lookup a \"b\"}}", r#"{"a":{}}"#), @r#"`{{lookup a "b"}}` (p.txt:1) finds nothing in the row"#);
}

#[test]
fn elements_of_a_list_are_each_checked_and_told_once() {
    insta::assert_snapshot!(
        problem("{{#each items}}{{name}}{{/each}}", r#"{"items":[{"name":1},{"nme":2},{}]}"#),
        @"`{{name}}` (p.txt:1) is missing in `items[1]`; it has `nme`"
    );
    insta::assert_snapshot!(
        problem("{{#each m}}{{this}}{{/each}}", r#"{"m":{"k":null}}"#),
        @"`{{this}}` (p.txt:1) is null in `m.k`; `{{#if this}}` around it leaves it out, `{{json this}}` prints it as JSON"
    );
    assert_eq!(
        problems(
            "{{#each items}}{{a}}{{b}}{{../c}}{{/each}}",
            r#"{"items":[1,2,3]}"#
        )
        .len(),
        3
    );
}

#[test]
fn a_block_without_else_needs_its_argument() {
    insta::assert_snapshot!(problem("{{#each l}}x{{/each}}", r#"{"k":[]}"#), @"`{{#each l}}` (p.txt:1) is missing in the row; it has `k`");
    insta::assert_snapshot!(problem("{{#each l}}x{{/each}}", r#"{"l":"a"}"#), @"`{{#each l}}` (p.txt:1) is a string, not a list or an object");
    insta::assert_snapshot!(problem("{{#each l}}x{{/each}}", r#"{"l":null}"#), @"`{{#each l}}` (p.txt:1) is null, and the block has no `{{else}}`");
    insta::assert_snapshot!(problem("{{#with l}}x{{/with}}", r#"{"l":{}}"#), @"`{{#with l}}` (p.txt:1) is empty, and the block has no `{{else}}`");
    for empty in ["0", "0.00", "\"\"", "false", "[]"] {
        let row = format!(r#"{{"l":{empty}}}"#);
        assert_eq!(problems("{{#with l}}x{{/with}}", &row).len(), 1, "{row}");
    }
    renders("{{#each l}}x{{/each}}", r#"{"l":[]}"#, "");
    renders(
        "{{#each l}}x{{else}}-{{/each}}{{#with l}}x{{else}}-{{/with}}",
        "{}",
        "--",
    );
}

#[test]
fn a_name_is_needed_only_where_its_condition_holds() {
    let text = "{{#if a}}{{b}}{{else}}{{c}}{{/if}}";
    assert_eq!(problems(text, r#"{"a":1,"b":1}"#), [""; 0]);
    assert_eq!(problems(text, r#"{"a":0,"c":1}"#), [""; 0]);
    assert_eq!(problems(text, r#"{"c":1}"#), [""; 0]);
    assert_eq!(problems(text, r#"{"a":1,"c":1}"#).len(), 1);
    assert_eq!(
        problems(
            "{{#if a}}{{a}}{{/if}}{{#unless b}}{{c}}{{/unless}}",
            r#"{"b":1}"#
        ),
        [""; 0]
    );
    assert_eq!(
        problems("{{#if (or a (eq b 2))}}{{c}}{{/if}}", r#"{"b":2}"#).len(),
        1
    );
    // Only these ask for the text of a string; elsewhere "empty or not" is enough.
    let text_is_x = "{{#if (eq a \"x\")}}{{b}}{{/if}}";
    assert_eq!(problems(text_is_x, r#"{"a":"x"}"#).len(), 1);
    assert_eq!(problems(text_is_x, r#"{"a":"y"}"#), [""; 0]);
    assert_eq!(problems(text, r#"{"a":"","c":1}"#), [""; 0]);
    assert_eq!(problems(text, r#"{"a":"a","c":1}"#).len(), 1);
}

#[test]
fn arguments_of_a_printed_helper_must_be_there() {
    assert_eq!(problems("{{#if (eq a 1)}}x{{/if}}", "{}"), [""; 0]);
    insta::assert_snapshot!(problem("{{#each (lookup a b)}}x{{/each}}", r#"{"a":{}}"#), @"`{{#each (lookup a b)}}` (p.txt:1) has no value: `b` is missing in the row; it has `a`");
    insta::assert_snapshot!(problem("{{len a}}", r#"{"b":1}"#), @"`{{len a}}` (p.txt:1) has no value: `a` is missing in the row; it has `b`");
}

#[test]
fn a_list_has_no_fields() {
    insta::assert_snapshot!(problem("{{#if a.b}}x{{/if}}", r#"{"a":[1]}"#), @"`{{a.b}}` (p.txt:1) asks for `b` of `a`, which is a list; its elements are numbered from 0");
}

#[test]
fn a_problem_can_be_read_by_a_program() {
    let prompts = Prompts::new(None, handlebars("x\n  {{topic}}"));
    let problems = prompts.checker().check("{}");
    let found = &problems[0];
    assert_eq!(
        (
            found.variable.as_str(),
            found.prompt.as_str(),
            found.prompt_line,
            found.column(),
            found.kind
        ),
        ("topic", "p.txt", 2, 3, ProblemKind::Missing)
    );
}

#[test]
fn both_prompts_are_checked() {
    let prompts = Prompts::new(Some(handlebars("{{a}}")), handlebars("{{b}}"));
    assert_eq!(prompts.checker().check("{}").len(), 2);
    assert_eq!(
        prompts
            .checker()
            .check(r#"{"system_prompt_kwargs":{"a":1},"b":1}"#)
            .len(),
        1
    );
    assert!(
        prompts
            .checker()
            .check(r#"{"a":"\u0041","b":""}"#)
            .is_empty()
    );
    assert_eq!(
        prompts.checker().check(r#"{"a":"\ud800","b":""}"#)[0].kind,
        ProblemKind::Malformed
    );
}

#[test]
fn a_row_that_looks_like_a_good_one_and_is_none_is_found() {
    let mut checker = Prompts::new(
        Some(handlebars("{{#if a}}{{b}}{{/if}}{{c.d}}")),
        handlebars("{{#if a}}{{b}}{{/if}}"),
    )
    .checker();
    let fine = [
        r#"{"a":"","c":{"d":1}}"#,
        r#"{"a":false,"c":{"d":"x"}}"#,
        r#"{"system_prompt_kwargs":{"a":"x","b":"x","c":{"d":1}},"user_prompt_kwargs":{"a":""}}"#,
        r#"{"system_prompt_kwargs":{"c":{"d":1}},"user_prompt_kwargs":{"a":"x","b":"x"}}"#,
    ];
    let wrong = [
        (r#"{"a":"x","c":{"d":1}}"#, 2),
        (r#"{"a":"","c":{"e":1}}"#, 1),
        (r#"{"a":"","c":"x"}"#, 1),
        (
            r#"{"system_prompt_kwargs":{"c":{"d":1},"a":"x","b":"x"},"user_prompt_kwargs":{"a":"x"}}"#,
            1,
        ),
        (
            r#"{"system_prompt_kwargs":{"c":{"d":1},"a":"x"},"user_prompt_kwargs":{"b":"x"}}"#,
            1,
        ),
    ];
    let mut lean = Prompts::new(None, handlebars("{{#if a}}{{b}}{{/if}}")).checker();
    for _ in 0..2 {
        for row in fine {
            assert_eq!(checker.check(row).len(), 0, "{row}");
        }
        for (row, count) in wrong {
            assert_eq!(checker.check(row).len(), count, "{row}");
        }
        // All of these are told apart without being parsed.
        for (value, is_fine) in [
            ("\"\"", true),
            ("false", true),
            ("null", true),
            ("\"x\"", false),
            ("7", false),
            ("true", false),
            ("0", true),
            ("\"\\ud800\"", false),
        ] {
            let (row, kwargs) = (
                format!("{{\"a\":{value}}}"),
                format!("{{\"user_prompt_kwargs\":{{\"a\":{value}}}}}"),
            );
            for row in [row, kwargs] {
                assert_eq!(lean.check(&row).is_empty(), is_fine, "{row}");
            }
            assert!(
                lean.check(&format!("{{\"a\":{value},\"b\":1}}")).is_empty()
                    || value.contains('\\')
            );
            let without_b = format!("{{\"a\":{value},\"b\":null}}");
            assert_eq!(lean.check(&without_b).is_empty(), is_fine, "{without_b}");
        }
    }
}

#[test]
fn the_same_kwargs_given_to_the_other_prompt_are_another_row() {
    let system = handlebars("{{#if b}}{{a}}{{/if}}");
    let mut checker = Prompts::new(Some(system), handlebars("{{a}}{{#if b}}x{{/if}}")).checker();
    let fine = r#"{"user_prompt_kwargs":{"a":"x","b":"x"},"system_prompt_kwargs":{}}"#;
    let wrong = r#"{"user_prompt_kwargs":{"a":"x"},"system_prompt_kwargs":{"b":"x"}}"#;
    assert_eq!(checker.check(fine).len(), 0);
    assert_eq!(checker.check(wrong).len(), 1);
}

#[test]
fn kwargs_that_no_prompt_uses_are_counted() {
    let mut checker = Prompts::new(
        Some(handlebars("{{a}}")),
        handlebars("{{#if c}}{{b}}{{/if}}"),
    )
    .checker();
    for _ in 0..2 {
        let row =
            r#"{"x":1,"user_prompt_kwargs":{"b":1,"a":1},"system_prompt_kwargs":{"a":1,"tone":2}}"#;
        assert!(checker.check(row).is_empty());
    }
    assert!(checker.check(r#"{"a":1,"b":1,"other":1}"#).is_empty());
    let findings = checker.finish();
    let unused: Vec<_> = findings.unused.iter().map(ToString::to_string).collect();
    assert_eq!(
        unused,
        [
            "`a` in `user_prompt_kwargs` of 2 rows is not used by the user prompt",
            "`tone` in `system_prompt_kwargs` of 2 rows is not used by the system prompt",
        ]
    );
    assert!(findings.wrong_syntax.is_empty());
}

#[test]
fn a_prompt_that_prints_the_whole_row_uses_every_kwarg() {
    let mut checker = Prompts::new(None, handlebars("{{json this}}")).checker();
    assert!(
        checker
            .check(r#"{"user_prompt_kwargs":{"a":1}}"#)
            .is_empty()
    );
    assert!(checker.finish().unused.is_empty());
}

#[test]
fn single_braces_round_a_name_of_the_rows_are_found() {
    let user = handlebars("A {topic} {tone}\n{\"a\": {answer}} {{used}} {used} {other}");
    let mut checker = Prompts::new(None, user.clone()).checker();
    assert!(
        checker
            .check(r#"{"topic":1,"answer":2,"used":3}"#)
            .is_empty()
    );
    let found = checker.finish().wrong_syntax;
    let names: Vec<_> = found
        .iter()
        .map(|wrong| (wrong.name.as_str(), wrong.line, wrong.column))
        .collect();
    assert_eq!(names, [("topic", 1, 3), ("answer", 2, 7)]);
    insta::assert_snapshot!(found[0], @"`{topic}` (`p.txt` line 1, column 3) is plain text in Handlebars, and the rows have `topic`; write `{{topic}}`, or use the syntax `format` for this prompt");

    let mut checker = Prompts::new(None, user.clone()).checker();
    assert!(
        checker
            .check(r#"{"tone":1,"user_prompt_kwargs":{"topic":1,"used":1}}"#)
            .is_empty()
    );
    let found = checker.finish().wrong_syntax;
    assert_eq!(found.len(), 1, "{found:?}");

    let mut checker = Prompts::new(Some(handlebars("{{topic}}{{answer}}")), user).checker();
    assert!(
        checker
            .check(r#"{"topic":1,"answer":2,"used":3}"#)
            .is_empty()
    );
    assert!(checker.finish().wrong_syntax.is_empty());
}

#[test]
fn variables_are_listed_once_with_their_strongest_need() {
    let text = "{{#if a}}{{a}}{{b}}{{/if}}\n{{json c.d}} {{c.d}} {{#each l}}{{x}}{{../e}}{{/each}}{{#with w}}{{v}}{{@root.r}}{{/with}}{{#unless u}}{{/unless}}{{#each o}}{{else}}{{/each}}{{json j}}{{#if (eq q 1)}}{{/if}}";
    let prompt = handlebars(text);
    let list: Vec<_> = prompt
        .variables()
        .iter()
        .map(|v| (v.path.as_str(), v.need, v.line))
        .collect();
    assert_eq!(
        list,
        [
            ("a", Need::PrintedInsideOwnIf, 1),
            ("b", Need::Printed, 1),
            ("c.d", Need::Printed, 2),
            ("l", Need::Entered, 2),
            ("e", Need::Printed, 2),
            ("w", Need::Entered, 2),
            ("w.v", Need::Printed, 2),
            ("r", Need::Printed, 2),
            ("u", Need::ConditionOnly, 2),
            ("o", Need::ConditionOnly, 2),
            ("j", Need::PrintedAsJson, 2),
            ("q", Need::ConditionOnly, 2),
        ]
    );
    assert_eq!(
        (prompt.variables()[1].line, prompt.variables()[1].column),
        (1, 15)
    );
}

#[test]
fn an_else_if_has_its_own_line() {
    let prompt = handlebars("{{#if a}}\n1\n{{else if b}}\n2\n{{else if (eq c 1)}}\n{{d}}\n{{/if}}");
    let lines: Vec<_> = prompt
        .variables()
        .iter()
        .map(|v| (v.path.as_str(), v.line))
        .collect();
    assert_eq!(lines, [("a", 1), ("b", 3), ("c", 5), ("d", 6)]);
}

#[test]
fn format_prompts_are_checked_alike() {
    let prompt = Prompt::from_text("p.txt", "Say\n{topic} {a.b} {n}", Syntax::Format).unwrap();
    let mut checker = Prompts::new(None, prompt).checker();
    let problems: Vec<_> = checker
        .check(r#"{"topc":1,"a":{"b":{}},"n":null}"#)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        problems,
        [
            "`{topic}` (p.txt:2) is missing in the row; it has `topc`, `a`, `n`",
            "`{a.b}` (p.txt:2) is an object in the row; give it a text or a number",
            "`{n}` (p.txt:2) is null in the row; give it a text or a number",
        ]
    );
}

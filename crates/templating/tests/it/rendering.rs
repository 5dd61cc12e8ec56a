use data_generation_templating::{Context, ErrorKind, Prompts};
use serde_json::json;

use crate::{handlebars, render, renders};

#[test]
fn values_are_neither_escaped_nor_read_as_templates() {
    renders(
        "{{x}}",
        r#"{"x":"<a> & \"{{y}}\" {{#if}} \\{{"}"#,
        "<a> & \"{{y}}\" {{#if}} \\{{",
    );
    renders("{{{x}}} {{&x}}", r#"{"x":"<a>"}"#, "<a> <a>");
}

#[test]
fn lists_print_as_json() {
    let row = r#"{"a":[1, "x", [true, null], {"k": 1.50}]}"#;
    renders("{{a}}", row, r#"[1,"x",[true,null],{"k":1.50}]"#);
    renders(
        "{{a.0}} {{a.[1]}} {{lookup a 1}} {{a.3.k}}",
        row,
        "1 x x 1.50",
    );
    renders(
        "{{#each a as |x i|}}{{i}}={{json x}};{{/each}}",
        row,
        r#"0=1;1="x";2=[true,null];3={"k":1.50};"#,
    );
}

#[test]
fn numbers_print_as_they_are_written_in_the_row() {
    let row = r#"{"a":1e5,"b":1.10,"c":123456789012345678901234567890,"d":-0,"e":0.00,"f":1E-7,"g":18446744073709551615}"#;
    renders(
        "{{a}} {{b}} {{c}} {{d}} {{e}} {{f}} {{g}}",
        row,
        "1e5 1.10 123456789012345678901234567890 -0 0.00 1E-7 18446744073709551615",
    );
    renders(
        "{{json a}} {{json this}}",
        r#"{"a":1.10,"b":["1.10"]}"#,
        r#"1.10 {"a":1.10,"b":["1.10"]}"#,
    );
    renders(
        "{{#if e}}yes{{else}}no{{/if}} {{#if b}}yes{{/if}}{{#with e}}yes{{else}} none{{/with}}",
        row,
        "no yes none",
    );
    renders(
        "{{#if (eq b 1.1)}}same{{/if}} {{#if (gt a 99999)}}more{{/if}}",
        row,
        "same more",
    );
}

#[test]
fn booleans_print_and_null_prints_only_as_json() {
    renders(
        "{{a}} {{json b}} {{json c}}",
        r#"{"a":true,"b":null,"c":{"d":"\n"}}"#,
        r#"true null {"d":"\n"}"#,
    );
}

#[test]
fn a_field_may_have_the_name_of_a_helper() {
    renders(
        "{{len}} {{json}} {{if}} {{eq}} {{lookup}} {{log}}",
        r#"{"len":1,"json":2,"if":3,"eq":4,"lookup":5,"log":6}"#,
        "1 2 3 4 5 6",
    );
}

#[test]
fn names_may_be_anything_in_brackets() {
    renders(
        "{{[user name]}} {{a.[b c]}} {{主题}}",
        r#"{"user name":"u","a":{"b c":1},"主题":"人工智能"}"#,
        "u 1 人工智能",
    );
}

#[test]
fn json_examples_stay_as_they_are() {
    renders(
        r#"{"a": {"b": "{{x}}"}}"#,
        r#"{"x":1}"#,
        r#"{"a": {"b": "1"}}"#,
    );
    renders(r#"{"a":{"b":{{x}}}}"#, r#"{"x":1}"#, r#"{"a":{"b":1}}"#);
    renders("{topic} {} {0} }} }", "{}", "{topic} {} {0} }} }");
}

#[test]
fn braces_and_backslashes_are_written_with_a_backslash() {
    renders(r"\{{x}} {{x}}", r#"{"x":1}"#, "{{x}} 1");
    renders(r"\\{{x}} C:\dir \n", r#"{"x":1}"#, r"\1 C:\dir \n");
    renders(r"{{{{raw}}}}{{x}} {{#if{{{{/raw}}}}", "{}", "{{x}} {{#if");
    renders("a{{! {{x }}b{{!-- {{x}} --}}c", "{}", "abc");
}

#[test]
fn white_space_is_kept_except_round_blocks_on_their_own_line() {
    let row = r#"{"a":"A","b":"B","l":[1,2]}"#;
    renders("", "{}", "");
    renders(" \n ", "{}", " \n ");
    renders("{{a}} {{b}}\n\n{{a}}\n", row, "A B\n\nA\n");
    renders("{{a}}   {{~b~}}   {{a}}", row, "ABA");
    renders(
        "x\n{{#if a}}\n  yes\n{{else}}\n  no\n{{/if}}\ny",
        row,
        "x\n  yes\ny",
    );
    renders(
        "{{#each l}}\n- {{this}}\n{{/each}}\nend",
        row,
        "- 1\n- 2\nend",
    );
    renders(
        "{{#each l}}{{this}}{{#unless @last}}, {{/unless}}{{/each}}",
        row,
        "1, 2",
    );
}

#[test]
fn conditions_know_what_is_missing_null_or_empty() {
    let text = "{{#if x}}yes{{else}}no{{/if}}";
    for row in [
        "{}",
        r#"{"x":null}"#,
        r#"{"x":0}"#,
        r#"{"x":""}"#,
        r#"{"x":[]}"#,
        r#"{"x":{}}"#,
        r#"{"x":false}"#,
    ] {
        renders(text, row, "no");
    }
    for row in [
        r#"{"x":"0"}"#,
        r#"{"x":-1}"#,
        r#"{"x":[0]}"#,
        r#"{"x":{"a":0}}"#,
        r#"{"x":true}"#,
        r#"{"x":5e-324}"#,
    ] {
        renders(text, row, "yes");
    }
    renders("{{#if x includeZero=true}}yes{{/if}}", r#"{"x":0}"#, "yes");
    renders(
        "{{#unless x}}a{{else if y}}b{{else}}c{{/unless}}",
        r#"{"x":1,"y":2}"#,
        "b",
    );
    renders(
        "{{#if a}}1{{else if b}}2{{else if (eq c 3)}}3{{else}}4{{/if}}",
        r#"{"c":3}"#,
        "3",
    );
    renders(
        "{{#eq a b}}same{{else}}other{{/eq}}{{#and a b}}both{{/and}}",
        r#"{"a":1}"#,
        "other",
    );
    renders(
        "{{#if (not a)}}none{{/if}}{{#if (gt (len l) 1)}}many{{/if}}",
        r#"{"l":[1,2]}"#,
        "nonemany",
    );
}

#[test]
fn blocks_see_their_element_and_what_is_around_it() {
    let row = r#"{"t":"T","l":[{"n":"a","m":["x","y"]},{"n":"b","m":[]}],"o":{"k":{"v":1}},"w":{"c":"C"}}"#;
    renders(
        "{{#each l}}{{@index}}{{n}}{{../t}}{{@root.t}}{{#each m}}[{{../n}}{{this}}{{@../index}}]{{/each}};{{/each}}",
        row,
        "0aTT[ax0][ay0];1bTT;",
    );
    renders(
        "{{#each o}}{{@key}}={{v}}{{/each}} {{#each o as |x k|}}{{k}}={{x.v}}{{/each}}",
        row,
        "k=1 k=1",
    );
    renders(
        "{{#with w}}{{c}}{{../t}}{{/with}} {{#with w as |z|}}{{z.c}}{{/with}}",
        row,
        "CT C",
    );
    renders(
        "{{#each l as |e|}}{{#with ../w}}{{e.n}}{{c}}{{@index}}{{/with}}{{/each}}",
        row,
        "aC0bC1",
    );
    renders(
        "{{#each l}}{{lookup ../w \"c\"}}{{lookup this \"n\"}}{{/each}}",
        row,
        "CaCb",
    );
    renders("{{#each none}}x{{else}}nothing{{/each}}", row, "nothing");
    renders(
        "{{#each [1,2]}}{{this}}{{/each}}{{#each (lookup l 0)}}{{@key}}{{/each}}",
        row,
        "12nm",
    );
    renders("{{#each l}}{{#if @first}}{{n}}{{/if}}{{/each}}", row, "a");
}

#[test]
fn kwargs_are_seen_by_their_own_prompt_only() {
    let prompts = Prompts::new(Some(handlebars("S {{x}}")), handlebars("U {{x}}"));
    let messages = prompts
        .render_row(r#"{"x":0,"user_prompt_kwargs":{"x":1},"system_prompt_kwargs":{"x":2}}"#)
        .unwrap();
    assert_eq!(
        (messages.system.as_deref(), messages.user.as_str()),
        (Some("S 2"), "U 1")
    );
    let messages = prompts.render_row(r#"{"x":0}"#).unwrap();
    assert_eq!(
        (messages.system.as_deref(), messages.user.as_str()),
        (Some("S 0"), "U 0")
    );
    let error = prompts
        .render_row(r#"{"x":0,"user_prompt_kwargs":{"x":1}}"#)
        .unwrap_err();
    insta::assert_snapshot!(error, @"`{{x}}` (p.txt:1) is missing in `system_prompt_kwargs`, which is empty");
}

#[test]
fn an_absent_group_of_kwargs_is_empty() {
    let prompts = Prompts::new(Some(handlebars("Be brief.")), handlebars("{{x}}"));
    let messages = prompts
        .render_row(r#"{"user_prompt_kwargs":{"x":1}}"#)
        .unwrap();
    assert_eq!(
        (messages.system.as_deref(), messages.user.as_str()),
        (Some("Be brief."), "1")
    );
}

#[test]
fn the_last_of_two_equal_keys_counts() {
    renders(
        "{{x}} {{json y}}",
        r#"{"x":1,"y":{"a":[1.10],"a":2.50},"x":"b"}"#,
        r#"b {"a":2.50}"#,
    );
}

#[test]
fn a_row_that_cannot_be_held_is_an_error_and_not_a_crash() {
    let prompts = Prompts::new(None, handlebars("{{x}}"));
    for (row, expected) in [
        ("[1]", "the row is a list, not a JSON object"),
        ("", "the row ends too early, at line 1, column 0"),
        (r#"{"x":1"#, "the row ends too early, at line 1, column 6"),
        (
            r#"{"x":1} 2"#,
            "the row is not valid JSON at line 1, column 9",
        ),
        (
            r#"{"x":1e999}"#,
            "`x` of the row has a number that is out of range at line 1, column 5",
        ),
        (
            r#"{"user_prompt_kwargs":"a secret"}"#,
            "`user_prompt_kwargs` is a string, not a JSON object",
        ),
        (
            r#"{"user_prompt_kwargs":{},"system_prompt_kwargs":null}"#,
            "`system_prompt_kwargs` is null, not a JSON object",
        ),
    ] {
        let error = prompts.render_row(row).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Row { .. }));
        assert_eq!(error.to_string(), expected);
        assert_eq!(prompts.checker().check(row)[0].to_string(), expected);
    }
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(
        prompts.render_row(&deep).unwrap_err().to_string(),
        "`x` of the row is nested deeper than 128 levels"
    );
    assert_eq!(prompts.checker().check(&deep).len(), 1);
    assert!(Context::from_json(&deep).is_err());
    // What no prompt looks at may be as deep as it likes.
    assert!(
        prompts
            .render_row(&deep.replace("\"x\"", "\"x\":1,\"y\""))
            .is_ok()
    );
}

#[test]
fn a_context_can_be_made_in_code() {
    let context = Context::from_value(json!({"a": ["x", 1], "b": "\u{FDD0}n1"}));
    assert_eq!(
        handlebars("{{a}} {{b}}").render(&context).unwrap(),
        "[\"x\",1] \u{FDD0}n1"
    );
}

#[test]
fn a_prompt_is_shared_by_all_threads() {
    let prompts = Prompts::new(None, handlebars("{{x}}"));
    std::thread::scope(|scope| {
        for number in 0..4 {
            let prompts = prompts.clone();
            scope.spawn(move || {
                let row = format!(r#"{{"x":{number}}}"#);
                assert_eq!(prompts.render_row(&row).unwrap().user, number.to_string());
            });
        }
    });
}

#[test]
fn rendering_without_a_check_leaves_no_hole() {
    for row in ["{}", r#"{"x":null}"#, r#"{"x":{}}"#] {
        assert!(
            matches!(
                render("{{x}}", row).unwrap_err().kind(),
                ErrorKind::Variable(_)
            ),
            "{row}"
        );
    }
}

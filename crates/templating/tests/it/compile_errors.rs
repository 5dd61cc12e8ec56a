use data_generation_templating::{ErrorKind, Prompt, Syntax};

use crate::refused;

#[test]
fn broken_prompts_are_told_in_plain_words() {
    let lines: Vec<_> = [
        "a\n  {{topic",
        "{{topic}",
        "{{}}",
        "{{.}}",
        "{{\"a\": 1}}",
        "{{x | upper}}",
        "{{a b-}}",
        "{{#if a}}\nx",
        "a\n{{/if}}",
        "{{#if a}}\n{{#each b}}{{/if}}{{/each}}",
        "{{else}}",
        "{{#if a}}{{b..c}}{{/if}}",
        "{{upper name}}",
        "{{#upper name}}x{{/upper}}",
        "{{#items}}x{{/items}}",
        "{{{{verbatim}}}}x{{{{/verbatim}}}}",
        "{{if x}}",
        "{{json x y}}",
        "{{#if}}x{{/if}}",
        "{{#if a b}}x{{/if}}",
        "{{#each a b=1}}x{{/each}}",
        "{{eq a}}",
        "{{#if (and a)}}x{{/if}}",
        "{{#if (a)}}x{{/if}}",
        "{{json x pretty=true}}",
        "{{> header}}",
        "{{#> layout}}x{{/layout}}",
        "{{#*inline \"x\"}}y{{/inline}}",
        "{{../x}}",
        "{{#if a}}{{../x}}{{/if}}",
        "{{@index}}",
        "{{#each a}}{{@odd}}{{/each}}",
        "{{#each a as |x|}}{{../x}}{{/each}}",
        "{{#with a as |x y|}}{{x}}{{/with}}",
    ]
    .iter()
    .map(|text| format!("{text:?}\n  {}", refused(text, Syntax::Handlebars)))
    .collect();
    insta::assert_snapshot!(lines.join("\n"), @r##"
"a\n  {{topic"
  `p.txt` line 2, column 3: `{{` is never closed; write `}}` behind the name, or `\{{` for two braces that are text
"{{topic}"
  `p.txt` line 1, column 1: `{{` is never closed; write `}}` behind the name, or `\{{` for two braces that are text
"{{}}"
  `p.txt` line 1, column 1: `{{}}` is not valid Handlebars; write a name between the braces, or `\{{` for two braces that are text
"{{.}}"
  `p.txt` line 1, column 1: `{{.}}` is not valid Handlebars; write `{{this}}`
"{{\"a\": 1}}"
  `p.txt` line 1, column 1: `{{"a": 1}}` is not valid Handlebars; braces of JSON stand single in Handlebars; write `\{{` for two braces that are text
"{{x | upper}}"
  `p.txt` line 1, column 1: `{{x | upper}}` is not valid Handlebars; there are no filters; a helper stands before its argument, as in `{{json x}}`
"{{a b-}}"
  `p.txt` line 1, column 1: unknown helper `a`; there are `json`, `len`, `lookup`, `eq`, `ne`, `gt`, `gte`, `lt`, `lte`, `and`, `or`, `not`, and the blocks `if`, `unless`, `each` and `with`; a name with a space is written `{{[a b-]}}`
"{{#if a}}\nx"
  `p.txt` line 1, column 1: `{{#if}}` is never closed; write `{{/if}}` where it ends
"a\n{{/if}}"
  `p.txt` line 2, column 1: `{{/if}}` closes a block that was never opened; write `{{#if ...}}` before it or take it out
"{{#if a}}\n{{#each b}}{{/if}}{{/each}}"
  `p.txt` line 2, column 12: `{{/if}}` cannot close `{{#each}}` of line 2; write `{{/each}}` first
"{{else}}"
  `p.txt` line 1, column 1: `{{else}}` outside of a block; write `{{#if ...}}` before it or take it out
"{{#if a}}{{b..c}}{{/if}}"
  `p.txt` line 1, column 10: `{{b..c}}` is not valid Handlebars; a name is written `{{name}}`, `{{a.b}}` or `{{[any name]}}`, and `\{{` stands for two braces that are text
"{{upper name}}"
  `p.txt` line 1, column 1: unknown helper `upper`; there are `json`, `len`, `lookup`, `eq`, `ne`, `gt`, `gte`, `lt`, `lte`, `and`, `or`, `not`, and the blocks `if`, `unless`, `each` and `with`; a name with a space is written `{{[upper name]}}`
"{{#upper name}}x{{/upper}}"
  `p.txt` line 1, column 1: unknown helper `upper`; the blocks are `if`, `unless`, `each` and `with`, as in `{{#if upper}}` or `{{#each upper}}`
"{{#items}}x{{/items}}"
  `p.txt` line 1, column 1: unknown helper `items`; the blocks are `if`, `unless`, `each` and `with`, as in `{{#if items}}` or `{{#each items}}`
"{{{{verbatim}}}}x{{{{/verbatim}}}}"
  `p.txt` line 1, column 1: unknown helper `verbatim`; the blocks are `if`, `unless`, `each` and `with`, as in `{{#if verbatim}}` or `{{#each verbatim}}`
"{{if x}}"
  `p.txt` line 1, column 1: `if` is a block; write `{{#if x}}...{{/if}}`
"{{json x y}}"
  `p.txt` line 1, column 1: `json` takes 1 argument and has 2
"{{#if}}x{{/if}}"
  `p.txt` line 1, column 1: `{{#if}}` takes one argument; write `{{#if x}}`, and calls in brackets as in `{{#if (eq a b)}}`
"{{#if a b}}x{{/if}}"
  `p.txt` line 1, column 1: `{{#if}}` takes one argument; write `{{#if x}}`, and calls in brackets as in `{{#if (eq a b)}}`
"{{#each a b=1}}x{{/each}}"
  `p.txt` line 1, column 1: `{{#each}}` does not take `b=`; only `if` and `unless` take `includeZero=true`
"{{eq a}}"
  `p.txt` line 1, column 1: `eq` takes 2 arguments and has 1
"{{#if (and a)}}x{{/if}}"
  `p.txt` line 1, column 1: `and` takes at least 2 arguments and has 1
"{{#if (a)}}x{{/if}}"
  `p.txt` line 1, column 1: `(a)` calls a helper without arguments; write `a` without the brackets
"{{json x pretty=true}}"
  `p.txt` line 1, column 1: `json` takes no named argument `pretty=`
"{{> header}}"
  `p.txt` line 1, column 1: partials (`{{> name}}`) are not offered; put the text into the prompt itself
"{{#> layout}}x{{/layout}}"
  `p.txt` line 1, column 1: partials (`{{> name}}`) are not offered; put the text into the prompt itself
"{{#*inline \"x\"}}y{{/inline}}"
  `p.txt` line 1, column 1: decorators and inline partials (`{{*name}}`, `{{#*inline}}`) are not offered; put the text into the prompt itself
"{{../x}}"
  `p.txt` line 1, column 1: `../x` leads out of the outermost block; only `each` and `with` open a level for `../`
"{{#if a}}{{../x}}{{/if}}"
  `p.txt` line 1, column 10: `../x` leads out of the outermost block; only `each` and `with` open a level for `../`
"{{@index}}"
  `p.txt` line 1, column 1: `@index` stands outside of an `each` block
"{{#each a}}{{@odd}}{{/each}}"
  `p.txt` line 1, column 12: unknown name `@odd`; there are `@index`, `@key`, `@first` and `@last` inside `each`, and `@root.name`
"{{#each a as |x|}}{{../x}}{{/each}}"
  `p.txt` line 1, column 19: `../x` would read the block parameter `x`; give the parameter another name
"{{#with a as |x y|}}{{x}}{{/with}}"
  `p.txt` line 1, column 1: `{{#with}}` cannot name its parameters so; write `{{#each x as |item index|}}` or `{{#with x as |name|}}`
"##);
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
    let many = 10_000;
    let deep =
        |open: &str, middle: &str, close: &str| open.repeat(many) + middle + &close.repeat(many);
    for text in [
        deep("{{#if a}}", "x", "{{/if}}"),
        deep("{{~ # if a}}", "x", "{{~ / if}}"),
        deep("{{#if a}}{{! {{/if}} }}", "", ""),
        deep("{{#if \"{{/if}}\"}}", "", ""),
        deep("{{#if a}}\\{{/if}}", "", ""),
        deep("{{#if a}}{{{{raw}}}}{{/if}}{{{{/raw}}}}", "", ""),
        deep("{{#if a}}{{!-- {{/if}} --}}", "", ""),
        deep("{{#if a}}{{! -- }} {{/if}} --}}", "", ""),
        format!("{{{{#if a}}}}{}{{{{/if}}}}", "{{else if b}}x".repeat(many)),
        format!("{{{{#if {}}}}}x{{{{/if}}}}", deep("(not ", "a", ")")),
        format!("{{{{json {}}}}}", deep("[", "1", "]")),
        format!("{{{{json {}}}}}", deep("{\"a\":", "1", "}")),
        format!("{{{{json {}", "(not ".repeat(many)),
        "{{#if a}}".repeat(many),
        "{{#if a".repeat(many),
    ] {
        let error = Prompt::from_text("p.txt", &text, Syntax::Handlebars).unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::TooDeep { .. } | ErrorKind::Syntax { .. }
            ),
            "{error}"
        );
    }
    assert!(Prompt::from_text("p.txt", &"{{x}}}}".repeat(1_000), Syntax::Handlebars).is_ok());
}

#[test]
fn blocks_that_hide_behind_quotes_are_counted() {
    let text = "{{[']}}{{#if a}}{{[']}}".repeat(65) + &"{{/if}}".repeat(65);
    let error = Prompt::from_text("p.txt", &text, Syntax::Handlebars).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooDeep { limit: 64 }));
}

#[test]
fn nesting_up_to_the_limit_is_fine() {
    let text = "{{#if a}}".repeat(64) + "{{a}}" + &"{{/if}}".repeat(64);
    crate::renders(&text, r#"{"a":1}"#, "1");
    let text = format!("{{{{#if a}}}}1{}{{{{/if}}}}", "{{else if b}}2".repeat(63));
    crate::renders(&text, r#"{"b":1}"#, "2");
    let text = format!(
        "{{{{#if {}a{}}}}}1{{{{/if}}}}",
        "(not ".repeat(64),
        ")".repeat(64)
    );
    crate::renders(&text, r#"{"a":1}"#, "1");
}

#[test]
fn an_error_can_be_read_by_a_program() {
    let error = Prompt::from_text("p.txt", "人 {{upper x}}", Syntax::Handlebars).unwrap_err();
    assert_eq!(
        (error.prompt(), error.line(), error.column()),
        ("p.txt", Some(1), Some(3))
    );
    assert!(matches!(error.kind(), ErrorKind::UnknownHelper { name, .. } if name == "upper"));
}

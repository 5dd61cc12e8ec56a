//! Integration tests, one module a topic.

#[cfg(test)]
mod cases;
mod check;
mod compile_errors;
mod files;
mod format_syntax;
#[cfg(test)]
mod fuzz_format;
#[cfg(test)]
mod property;
mod rendering;

use data_generation_templating::{Context, Error, Prompt, Prompts, Syntax};

fn handlebars(text: &str) -> Prompt {
    Prompt::from_text("p.txt", text, Syntax::Handlebars).expect("it loads")
}

/// Renders a Handlebars text for a row.
fn render(text: &str, row: &str) -> Result<String, Error> {
    let rendered = handlebars(text).render(&Context::from_json(row).expect("a row"));
    // The way over a row must say the same.
    let by_row = Prompts::new(None, handlebars(text)).render_row(row);
    assert_eq!(
        rendered.as_ref().ok(),
        by_row.as_ref().ok().map(|messages| &messages.user)
    );
    rendered
}

#[track_caller]
fn renders(text: &str, row: &str, expected: &str) {
    assert_eq!(render(text, row).expect("it renders"), expected);
    assert_eq!(problems(text, row), [""; 0]);
}

/// What the check says, which must agree with rendering.
#[track_caller]
fn problems(text: &str, row: &str) -> Vec<String> {
    let prompts = Prompts::new(None, handlebars(text));
    let problems = prompts.checker().check(row);
    assert_eq!(
        problems.is_empty(),
        prompts.render_row(row).is_ok(),
        "{problems:?}"
    );
    problems.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn problem(text: &str, row: &str) -> String {
    let problems = problems(text, row);
    assert_eq!(problems.len(), 1, "{problems:?}");
    // The error of a rendering without check says the same.
    assert_eq!(
        render(text, row).map_err(|error| error.to_string()),
        Err(problems[0].clone())
    );
    problems.concat()
}

/// The message of a text that does not load.
#[track_caller]
fn refused(text: &str, syntax: Syntax) -> String {
    let error = Prompt::from_text("p.txt", text, syntax).expect_err("it does not load");
    assert!(std::error::Error::source(&error).is_none());
    error.to_string()
}

//! Handlebars prompts for language models: compiled once, strict, and checked against every row before the first request.
//!
//! ```
//! use data_generation_templating::{Prompt, Prompts, Syntax};
//!
//! let user = Prompt::from_text("user prompt", "Write about {{topic}}.", Syntax::Handlebars)?;
//! let prompts = Prompts::new(None, user);
//!
//! // Before the run: every row, without rendering.
//! let mut checker = prompts.checker();
//! assert!(checker.check(r#"{"topic": "rivers"}"#).is_empty());
//! let problems = checker.check(r#"{"topc": "rivers"}"#);
//! assert!(problems[0].to_string().ends_with("is missing in the row; it has `topc`"));
//!
//! // During the run: once for each row.
//! assert_eq!(prompts.render_row(r#"{"topic": "rivers"}"#)?.user, "Write about rivers.");
//! # Ok::<(), data_generation_templating::Error>(())
//! ```
//!
//! Start here:
//!
//! - [`Prompt`]: one template, from a file or a text, in one of two [`Syntax`]es;
//! - [`Prompts`]: the system and the user prompt of a request, and [`Prompts::render_row`];
//! - [`RowChecker`]: tells every [`Problem`] of every row, and what only all rows show;
//! - [`Variable`]: what a prompt takes from a row;
//! - [`Error`]: where, what, and what to do.
//!
//! # What a prompt may say
//!
//! | written | does |
//! |---|---|
//! | `{{topic}}`, `{{a.b}}`, `{{list.0}}`, `{{[any name]}}` | prints; lists as JSON, numbers as they are written in the row |
//! | `{{json x}}` | prints any value as compact JSON |
//! | `{{#if x}}`, `{{else if y}}`, `{{else}}`, `{{/if}}`, `{{#unless x}}` | x may be missing; false, 0, "", null, `[]` and `{}` do not hold |
//! | `{{#each list}}`, `{{#each list as \|item index\|}}` | with `{{this}}`, `{{@index}}`, `{{@key}}`, `{{@first}}`, `{{@last}}`, `{{../name}}`, `{{@root.name}}` |
//! | `{{#with a}}`, `{{#with a as \|x\|}}` | enters an object |
//! | `eq ne gt gte lt lte and or not len lookup` | in brackets, `{{#if (eq level "hard")}}`, or as a block, `{{#eq a b}}` |
//! | `\{{`, `{{{{raw}}}}`, `{{! comment }}`, `{{~x~}}` | literal braces, comments, white space control |
//!
//! Inside a condition a missing name counts as null. Partials and decorators are refused.

mod check;
mod compile;
mod context;
mod error;
mod exact;
mod format_syntax;
mod helpers;
mod plan;
mod problem;
mod prompt;
mod prompts;
mod row;
mod scan;
mod variables;

pub use context::Context;
pub use error::{Error, ErrorKind};
pub use problem::{Findings, Problem, ProblemKind, UnusedKwarg, WrongSyntax};
pub use prompt::{Prompt, Syntax};
pub use prompts::{Messages, Prompts, RowChecker};
pub use variables::{Need, Variable};

//! Structured values out of the text of a model's answer: tags, regular expressions, JSON, or a function of your own.
//!
//! ```
//! use data_generation_extractors::{Extract, json, parse, tag};
//! use serde_json::json as value;
//!
//! let answer = "Sure!\n<draft>First.</draft>\n<draft lang=\"en\"> Second. </draft>";
//! assert_eq!(tag("draft").extract(answer)?, value!(["First.", "Second."]));
//! assert_eq!(tag("draft").last().extract(answer)?, value!("Second."));
//!
//! // The same extractors from a line of configuration; `none` is no extractor.
//! let extractor = parse(r#"regex:lang="(\w+)""#)?.expect("a pattern was named");
//! assert_eq!(extractor.extract(answer)?, value!(["en"]));
//!
//! // What is not there is an error that says so, never an empty value.
//! let error = json().extract(answer).unwrap_err();
//! assert!(error.is_miss());
//! # Ok::<(), data_generation_extractors::Error>(())
//! ```
//!
//! Start here:
//!
//! - [`tag`], [`regex`] and [`json`] make the built-in extractors, [`from_fn`] one of your own;
//! - [`parse`] makes one from text such as `tag:draft:first`;
//! - [`Extract`] is the trait that all of them are;
//! - [`Error`] says whether the answer was to blame ([`Error::is_miss`]) or something else;
//! - [`is_empty`] is the rule for what never counts as a value.
//!
//! Nothing here reads a file, calls a network or waits. No answer, however long or hostile, makes a
//! built-in extractor panic; tags and JSON take time in proportion to the answer's length, patterns have
//! a limit ([`Pattern::with_backtrack_limit`]).

mod empty;
mod error;
mod extract;
mod json;
mod pattern;
mod sample;
mod spec;
mod tag;

pub use empty::is_empty;
pub use error::{Error, ErrorKind};
pub use extract::{Extract, FromFn, from_fn};
pub use json::{Json, json};
pub use pattern::{DEFAULT_BACKTRACK_LIMIT, Pattern, regex};
pub use spec::parse;
pub use tag::{Tag, tag};

//! What a regular expression matches.

use std::error::Error as StdError;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fancy_regex::{
    Captures, CompileError, Error as EngineError, ParseError, Regex, RegexBuilder, RuntimeError,
};
use serde_json::{Map, Value};

use crate::error::BoxError;
use crate::{Error, ErrorKind, Extract, is_empty, sample};

/// How often a pattern may go back in the search for one match, unless
/// [`Pattern::with_backtrack_limit`] says otherwise: up to about 0.1 seconds.
pub const DEFAULT_BACKTRACK_LIMIT: usize = 1_000_000;

/// Steps of a compiled pattern. The engine itself has no bound, and a pattern that calls its own groups
/// can be a few characters long and fill all memory; honest ones need some hundreds.
const MAX_STEPS: usize = 100_000;

/// A regular expression; [`regex`] makes it and describes it.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
    entry: Entry,
    backtrack_limit: usize,
    name: String,
}

/// What each match becomes.
#[derive(Debug, Clone)]
enum Entry {
    Match,
    FirstGroup,
    /// Group numbers and names, in the order of the pattern.
    Named(Vec<(usize, String)>),
}

/// Gets what a regular expression matches: a list with one entry for each match, in the syntax of
/// [fancy-regex](https://docs.rs/fancy-regex) (the `regex` crate's, with look-around and backreferences).
///
/// - An entry is an object if groups are named (`(?<year>\d{4})`), else the text of group 1 if there is a
///   group, else the whole match.
/// - A group that took no part in a match is `null` in its entry.
/// - Texts are as they stand in the answer, not trimmed.
/// - No match is a miss, and so is a list in which every entry [is empty](crate::is_empty). Empty entries
///   among others stay, so that positions stay what the pattern says.
/// - `.` does not match a line's end unless the pattern begins with `(?s)`.
///
/// Patterns without look-around and backreferences never go back; others may go back
/// [`DEFAULT_BACKTRACK_LIMIT`] times for each match, and then the answer fails with
/// [`ErrorKind::BacktrackLimit`].
///
/// # Errors
///
/// [`ErrorKind::Pattern`] if the pattern does not compile: the text says where, the source says why.
///
/// ```
/// use data_generation_extractors::{Extract, regex};
/// use serde_json::json;
///
/// let answer = "Q: one\nA: 1\nQ: two\nA: 2";
/// assert_eq!(regex(r"A: (\d)")?.extract(answer)?, json!(["1", "2"]));
/// assert_eq!(
///     regex(r"Q: (?<question>.*)\nA: (?<answer>.*)")?.extract(answer)?,
///     json!([{"question": "one", "answer": "1"}, {"question": "two", "answer": "2"}]),
/// );
/// # Ok::<(), data_generation_extractors::Error>(())
/// ```
pub fn regex(pattern: &str) -> Result<Pattern, Error> {
    let name = format!("regex:{pattern}");
    let regex = guarded(|| compile(pattern, DEFAULT_BACKTRACK_LIMIT))
        .map_err(|reason| ErrorKind::Pattern {
            position: None,
            reason: BoxError::from(reason),
        })
        .and_then(|regex| regex.map_err(|error| not_compiled(pattern, &error)))
        .map_err(|kind| Error::new(&name, kind))?;
    let named: Vec<_> = regex
        .capture_names()
        .enumerate()
        .filter_map(|(number, name)| Some((number, name?.to_owned())))
        .collect();
    let entry = if !named.is_empty() {
        Entry::Named(named)
    } else if regex.captures_len() > 1 {
        Entry::FirstGroup
    } else {
        Entry::Match
    };
    Ok(Pattern {
        regex,
        entry,
        backtrack_limit: DEFAULT_BACKTRACK_LIMIT,
        name,
    })
}

fn compile(pattern: &str, backtrack_limit: usize) -> Result<Regex, EngineError> {
    RegexBuilder::new(pattern)
        .backtrack_limit(backtrack_limit)
        .max_prog_size(MAX_STEPS)
        .build()
}

impl Pattern {
    /// The same pattern with another limit for how often it may go back in the search for one match. A step
    /// takes about 0.1 microseconds.
    #[must_use]
    pub fn with_backtrack_limit(mut self, limit: usize) -> Self {
        self.regex = compile(self.regex.as_str(), limit)
            .expect("the same pattern compiled before, and the limit counts only when it runs");
        self.backtrack_limit = limit;
        self
    }

    fn entries(&self, answer: &str) -> Result<Vec<Value>, EngineError> {
        match self.entry {
            // Without groups the engine has a much quicker way.
            Entry::Match => self
                .regex
                .find_iter(answer)
                .map(|found| found.map(|found| found.as_str().into()))
                .collect(),
            _ => self
                .regex
                .captures_iter(answer)
                .map(|captures| captures.map(|captures| self.entry(&captures)))
                .collect(),
        }
    }

    fn entry(&self, captures: &Captures<'_, str>) -> Value {
        let group = |number| {
            captures
                .get(number)
                .map_or(Value::Null, |group| group.as_str().into())
        };
        match &self.entry {
            Entry::Match => group(0),
            Entry::FirstGroup => group(1),
            Entry::Named(groups) => {
                let mut fields = Map::new();
                for (number, name) in groups {
                    let value = group(*number);
                    // Of groups that share a name, the one that took part counts.
                    if !value.is_null() || !fields.contains_key(name) {
                        fields.insert(name.clone(), value);
                    }
                }
                Value::Object(fields)
            }
        }
    }

    fn not_run(&self, answer: &str, error: &EngineError) -> Error {
        let kind = match error {
            EngineError::RuntimeError(RuntimeError::BacktrackLimitExceeded) => {
                ErrorKind::BacktrackLimit {
                    limit: self.backtrack_limit,
                }
            }
            EngineError::RuntimeError(RuntimeError::StackOverflow) => ErrorKind::StackLimit {
                answer_len: answer.len(),
            },
            other => ErrorKind::Engine {
                reason: fragment(&other.to_string()),
            },
        };
        Error::new(&self.name, kind)
    }
}

impl Extract for Pattern {
    fn name(&self) -> &str {
        &self.name
    }

    fn extract(&self, answer: &str) -> Result<Value, Error> {
        let entries = guarded(|| self.entries(answer))
            .map_err(|reason| {
                Error::new(
                    &self.name,
                    ErrorKind::Engine {
                        reason: reason.into(),
                    },
                )
            })?
            .map_err(|error| self.not_run(answer, &error))?;
        if entries.is_empty() {
            let reason = format!("the pattern matches nowhere in {} bytes", answer.len());
            return Err(Error::miss(&self.name, reason));
        }
        if entries.iter().all(is_empty) {
            let what = format!("what the pattern matches ({} times)", entries.len());
            return Err(Error::empty(&self.name, what));
        }
        Ok(entries.into())
    }

    fn sample(&self, content: &str) -> Option<String> {
        sample::candidates(self.regex.as_str(), content).find(|text| self.extract(text).is_ok())
    }
}

/// Runs the engine, which panics on some patterns that it accepts, such as `(?(1))` without a group 1.
///
/// What it leaves behind is caches at most, and those it sets up anew for each search.
fn guarded<T>(engine: impl FnOnce() -> T) -> Result<T, &'static str> {
    catch_unwind(AssertUnwindSafe(engine)).map_err(
        |_| "the engine failed on it, which is a fault of the engine; write it in another way",
    )
}

/// What the engine says of a pattern, in the form of our messages.
fn not_compiled(pattern: &str, error: &EngineError) -> ErrorKind {
    let (at, reason) = match error {
        // The engine's catch-all says least; a plain parser is more exact where it can read the pattern.
        EngineError::ParseError(at, ParseError::GeneralParseError(reason)) => {
            whole_pattern_reason(pattern).map_or_else(
                || (Some(*at), reason.clone()),
                |(at, reason)| (Some(at), reason),
            )
        }
        EngineError::ParseError(at, reason) => (Some(*at), reason.to_string()),
        EngineError::CompileError(error) => match &**error {
            // The engine compiles a pattern in pieces: a place within a piece would mislead.
            CompileError::InnerError(error) => whole_pattern_reason(pattern).map_or_else(
                || (None, innermost(error).to_string()),
                |(at, reason)| (Some(at), reason),
            ),
            CompileError::PatternTooComplex => {
                (None, format!("it needs more than {MAX_STEPS} steps"))
            }
            other => (None, other.to_string()),
        },
        other => (None, other.to_string()),
    };
    let position = at
        .and_then(|at| pattern.get(..at))
        .map(|before| before.chars().count() + 1);
    ErrorKind::Pattern {
        position,
        reason: BoxError::from(fragment(&reason)),
    }
}

/// Where and why a plain pattern is refused; `None` for one that is beyond plain patterns, or is none.
fn whole_pattern_reason(pattern: &str) -> Option<(usize, String)> {
    use regex_syntax::Error as Syntax;
    use regex_syntax::ast::ErrorKind as Refused;
    match regex_syntax::parse(pattern).err()? {
        Syntax::Parse(error) => match error.kind() {
            Refused::UnsupportedBackreference | Refused::UnsupportedLookAround => None,
            kind => Some((error.span().start.offset, kind.to_string())),
        },
        Syntax::Translate(error) => Some((error.span().start.offset, error.kind().to_string())),
        _ => None,
    }
}

/// The last error of a chain: the ones before it say only that something failed.
fn innermost<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// An engine's sentence as a lower-case fragment in one line.
fn fragment(sentence: &str) -> String {
    let line = sentence
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    let line = line
        .trim()
        .trim_start_matches("error: ")
        .trim_end_matches('.');
    let mut chars = line.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(pattern: &str, answer: &str, expected: Value) {
        assert_eq!(regex(pattern).unwrap().extract(answer).unwrap(), expected);
    }

    #[test]
    fn an_entry_is_the_match_or_group_one_or_the_named_groups() {
        check(r"\d+", "1 22 x3", json!(["1", "22", "3"]));
        check(r"(\d)(\d)?", "12 3", json!(["1", "3"]));
        check(r"(\d)(?<b>\d)", "12 34", json!([{"b": "2"}, {"b": "4"}]));
    }

    #[test]
    fn named_groups_keep_the_order_of_the_pattern() {
        let value = regex(r"(?<z>.)(?P<a>.)").unwrap().extract("12").unwrap();
        assert_eq!(value.to_string(), r#"[{"z":"1","a":"2"}]"#);
    }

    #[test]
    fn a_group_that_took_no_part_is_null() {
        check(r"(a)|b", "ab", json!(["a", null]));
        check(r"(?<a>a)(?<b>b)?", "a", json!([{"a": "a", "b": null}]));
        assert!(
            regex(r"(a)|b")
                .unwrap()
                .extract("bb")
                .unwrap_err()
                .is_miss()
        );
        assert!(
            regex(r"(?<a>a)|b")
                .unwrap()
                .extract("b")
                .unwrap_err()
                .is_miss()
        );
    }

    #[test]
    fn texts_are_not_trimmed_and_empty_ones_stay_among_others() {
        check(r"(?m)^- (.*)$", "- x \n- \n- 三", json!(["x ", "", "三"]));
    }

    #[test]
    fn look_around_and_backreferences_work() {
        check(r"(?<=#)\w+(?!\w)", "#a #bc", json!(["a", "bc"]));
        check(
            r"(?s)<(?<tag>\w+)>(?<text>.*?)</\k<tag>>",
            "<x>1</x>",
            json!([{"tag": "x", "text": "1"}]),
        );
    }

    #[test]
    fn a_miss_says_what_happened_and_not_the_answer() {
        let message = |pattern: &str, answer: &str| {
            let error = regex(pattern).unwrap().extract(answer).unwrap_err();
            assert!(error.is_miss(), "{error:?}");
            error.to_string()
        };
        insta::assert_snapshot!(message(r"\d+", "none"), @r"extractor `regex:\d+`: the pattern matches nowhere in 4 bytes");
        insta::assert_snapshot!(message(r"x*", "aa"), @r"extractor `regex:x*`: what the pattern matches (3 times) is empty");
    }

    #[test]
    fn a_catastrophic_pattern_is_given_up_with_a_class_of_its_own() {
        let pattern = regex(r"^(a*)*\1x").unwrap().with_backtrack_limit(1_000);
        let error = pattern.extract(&"a".repeat(40)).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::BacktrackLimit { limit: 1_000 }),
            "{error:?}"
        );
        assert_eq!(error.class(), "regex_limit");
        insta::assert_snapshot!(error, @r"extractor `regex:^(a*)*\1x`: the pattern was given up after going back 1000 times; make it simpler, or raise the backtrack limit");
        let short = "a".repeat(12);
        let limited =
            |pattern: &Pattern| pattern.extract(&short).unwrap_err().class() == "regex_limit";
        assert!(limited(&pattern));
        assert!(!limited(&pattern.with_backtrack_limit(1_000_000)));
    }

    #[test]
    fn a_full_stack_is_an_error_and_no_crash() {
        let pattern = regex(r"(?s)<t>((?:(?!</t>).)*)</t>")
            .unwrap()
            .with_backtrack_limit(usize::MAX);
        let answer = format!("<t>{}</t>", "x".repeat(1_200_000));
        let error = pattern.extract(&answer).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::StackLimit { .. }),
            "{error:?}"
        );
        assert_eq!(error.class(), "regex_limit");
    }

    #[test]
    fn a_pattern_that_calls_its_groups_fills_no_memory() {
        // Each group calls the one before it twice: a million steps in 20 groups.
        let doubling = (1..20).fold(String::from("(?<g0>(?=x)x)"), |pattern, group| {
            let before = group - 1;
            format!(r"{pattern}(?<g{group}>\g<g{before}>\g<g{before}>)")
        });
        let error = regex(&doubling).unwrap_err();
        assert_eq!(
            error.source().unwrap().to_string(),
            "it needs more than 100000 steps"
        );
        for pattern in [
            r"(?<a>x\g<a>\g<a>|y)",
            "(?:(?:(?:(?=a)b){1000}){1000}){1000}",
        ] {
            if let Err(error) = regex(pattern) {
                assert_eq!(error.class(), "extractor_error", "{error}");
            }
        }
    }

    #[test]
    fn a_panic_of_the_engine_is_an_error() {
        let error = regex("(?(1))").unwrap().extract("a").unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Engine { .. }),
            "{error:?}"
        );
        insta::assert_snapshot!(error, @"extractor `regex:(?(1))`: the pattern could not be run: the engine failed on it, which is a fault of the engine; write it in another way");
    }

    #[test]
    fn a_pattern_that_does_not_compile_says_where_and_why() {
        let message = |pattern: &str| {
            let error = regex(pattern).unwrap_err();
            let source = error.source().expect("the engine's reason");
            assert!(source.source().is_none());
            format!("{error}: {source}")
        };
        insta::assert_snapshot!(message("ab(c"), @"extractor `regex:ab(c`: the pattern does not compile (at character 5): opening parenthesis without closing parenthesis");
        insta::assert_snapshot!(message("人)"), @"extractor `regex:人)`: the pattern does not compile (at character 2): unopened group");
        insta::assert_snapshot!(message("*a"), @"extractor `regex:*a`: the pattern does not compile (at character 1): target of repeat operator is invalid");
        insta::assert_snapshot!(message("人[z-a]"), @"extractor `regex:人[z-a]`: the pattern does not compile (at character 3): invalid character class range, the start must be <= the end");
        insta::assert_snapshot!(message(r"\p{Nonsense}"), @r"extractor `regex:\p{Nonsense}`: the pattern does not compile (at character 1): unicode property not found");
        insta::assert_snapshot!(message(r"(?=x)\p{Nonsense}"), @r"extractor `regex:(?=x)\p{Nonsense}`: the pattern does not compile: unicode property not found");
        insta::assert_snapshot!(message(r"(a)\2"), @r"extractor `regex:(a)\2`: the pattern does not compile: invalid back reference to group 2");
        insta::assert_snapshot!(message(r"(?:a{1000}){1000}"), @"extractor `regex:(?:a{1000}){1000}`: the pattern does not compile: heap usage during NFA compilation exceeded limit of 10485760");
        insta::assert_snapshot!(message(r"\"), @r"extractor `regex:\`: the pattern does not compile (at character 1): backslash without following character");
    }

    #[test]
    fn a_sample_holds_the_content_where_it_can() {
        let sample = |pattern: &str| regex(pattern).unwrap().sample("[offline] 人 7");
        assert_eq!(
            sample(r"(?s)<draft>\s*(.*?)\s*</draft>").as_deref(),
            Some("<draft>[offline] 人 7</draft>")
        );
        assert_eq!(sample(r"(?m)^Score: (\d+)$").as_deref(), Some("Score: 7"));
        assert_eq!(sample(r"Score: (\d\d)").as_deref(), Some("Score: 00"));
        assert_eq!(sample(r"(?:yes|no)").as_deref(), Some("yes"));
        assert_eq!(
            sample(r"(?i)topic: (?<topic>[a-z ]+)\n").as_deref(),
            Some("topic: offline  \n")
        );
        for fancy in [r"(?=x)x", r"(a)\1", r"\bx*\B"] {
            assert_eq!(sample(fancy), None, "{fancy}");
        }
    }
}

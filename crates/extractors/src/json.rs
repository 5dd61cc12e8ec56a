//! JSON, as the whole answer or in a fenced block.

use serde_json::{Deserializer, Value};

use crate::empty::{is_space, trim};
use crate::{Error, ErrorKind, Extract, is_empty};

const NAME: &str = "json";

/// Blocks within blocks are looked for this deep; a bound keeps the time proportional to the length.
const DEEPEST_BLOCK: usize = 4;

/// No white space, but some models begin with it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// JSON in an answer; [`json`] makes it and describes it.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Json;

/// Gets the answer as JSON: the whole of it, or else the last fenced block that is JSON.
///
/// - A fence is a line that begins with three or more `` ` `` or `~`, with or without a language; a block
///   ends with a fence of the same character that is at least as long. A closing fence may also stand
///   directly behind the value, in the same line. A block within a longer fence counts too.
/// - A last block that is never closed is taken only if it is one complete list or object; else the answer
///   is a miss, also if there are good blocks before it: it was probably cut.
/// - `null` and blank strings are misses. `[]` and `{}` are values: the model said that there is nothing.
///   What lists and objects hold is not looked at.
/// - The order of keys is kept (with serde_json's `preserve_order`, which this crate turns on); of equal
///   keys the last one counts. Integers from -2^63 to 2^64-1 are exact, all other numbers become 64-bit
///   floats.
/// - Refused as no JSON: `NaN`, numbers beyond the floats, lone surrogates, comments, trailing commas, more
///   than 127 levels.
///
/// ```
/// use data_generation_extractors::{Extract, json};
///
/// let answer = "Here you are:\n```json\n{\"a\": 1}\n```\nAnything else?";
/// assert_eq!(json().extract(answer)?, serde_json::json!({"a": 1}));
/// assert_eq!(json().extract(" [1, 2] ")?, serde_json::json!([1, 2]));
/// # Ok::<(), data_generation_extractors::Error>(())
/// ```
#[must_use]
pub fn json() -> Json {
    Json
}

impl Extract for Json {
    fn name(&self) -> &str {
        NAME
    }

    fn extract(&self, answer: &str) -> Result<Value, Error> {
        let whole = answer.trim_matches(|c| is_space(c) || c == BYTE_ORDER_MARK);
        let value = match serde_json::from_str(whole) {
            Ok(value) => value,
            Err(reason) => {
                let mut blocks = Blocks::default();
                blocks.read(answer, 0);
                blocks.outcome(answer, &reason)?
            }
        };
        match &value {
            Value::Array(_) | Value::Object(_) => Ok(value),
            scalar if is_empty(scalar) => Err(Error::empty(
                NAME,
                format!("the value `{}`", kind_of(scalar)),
            )),
            _ => Ok(value),
        }
    }

    fn sample(&self, content: &str) -> Option<String> {
        Some(serde_json::json!({ "text": content }).to_string())
    }
}

fn kind_of(scalar: &Value) -> &'static str {
    if scalar.is_null() { "null" } else { "\"\"" }
}

/// What the fenced blocks of an answer hold.
#[derive(Default)]
struct Blocks {
    last: Option<Value>,
    count: usize,
    /// Where a block begins that is never closed, if it is no complete value.
    unclosed: Option<usize>,
    /// Why the last block that was tried is no JSON.
    reason: String,
}

impl Blocks {
    fn outcome(self, answer: &str, whole: &serde_json::Error) -> Result<Value, Error> {
        if let Some(at) = self.unclosed {
            return Err(Error::new(NAME, ErrorKind::UnclosedFence { at }));
        }
        if let Some(value) = self.last {
            return Ok(value);
        }
        let length = answer.len();
        let reason = match self.count {
            0 => format!("the {length} bytes are no JSON ({whole}), and there is no fenced block"),
            1 => format!(
                "neither the {length} bytes nor the fenced block are JSON (block: {})",
                self.reason
            ),
            count => format!(
                "neither the {length} bytes nor one of the {count} fenced blocks are JSON (last block: {})",
                self.reason
            ),
        };
        Err(Error::miss(NAME, reason))
    }

    /// Goes through the blocks of `text`, which is the answer itself or what a block holds.
    ///
    /// Each try of a value ends at the next fence at the latest, because no fence (which begins a line) can
    /// be within a JSON string (which has no line's end). So no part of the text is tried often.
    fn read(&mut self, text: &str, depth: usize) {
        let mut at = 0;
        while let Some(fence) = Fence::next(text, at) {
            at = match fence.value(text) {
                Tried::Value(value, end) => {
                    self.count += 1;
                    self.last = Some(value);
                    end
                }
                Tried::Inline => fence.line_end,
                Tried::None(reason) => match fence.closing(text) {
                    Some((inner_end, end)) => {
                        self.count += 1;
                        self.reason = reason;
                        if depth < DEEPEST_BLOCK {
                            self.read(&text[fence.line_end..inner_end], depth + 1);
                        }
                        end
                    }
                    None => {
                        let rest = trim(&text[fence.line_end..]);
                        if depth == 0 && !rest.is_empty() {
                            self.unclosed = Some(fence.start);
                        }
                        return;
                    }
                },
            };
        }
    }
}

/// What came of trying what stands behind an opening fence.
enum Tried {
    /// A value and the place behind its closing fence.
    Value(Value, usize),
    /// It was no fence: code within a line.
    Inline,
    /// No value, and why.
    None(String),
}

/// A line that begins with a fence.
struct Fence {
    mark: char,
    length: usize,
    start: usize,
    /// Where what follows the marks begins.
    info: usize,
    /// Behind the line's end.
    line_end: usize,
}

impl Fence {
    /// The first one in a line that begins at or behind `at`, which is the beginning of a line or the rest
    /// of one that holds a closing fence.
    fn next(text: &str, mut at: usize) -> Option<Self> {
        while at < text.len() {
            let line_end = text[at..]
                .find('\n')
                .map_or(text.len(), |length| at + length + 1);
            let line =
                text[at..line_end].trim_start_matches(|c| is_space(c) || c == BYTE_ORDER_MARK);
            if let Some((mark, length)) = marks(line) {
                let start = line_end - line.len();
                let info = start + length;
                return Some(Self {
                    mark,
                    length,
                    start,
                    info,
                    line_end,
                });
            }
            at = line_end;
        }
        None
    }

    /// Tries a value that stands behind this fence and is followed by its closing fence.
    fn value(&self, text: &str) -> Tried {
        let info = &text[self.info..self.line_end];
        let behind_language =
            info.trim_start_matches(|c: char| !is_space(c) && !matches!(c, '{' | '[' | '`' | '~'));
        let on_this_line = trim(behind_language).starts_with(['{', '[']);
        if on_this_line
            && let Tried::Value(value, end) =
                self.value_at(text, self.line_end - behind_language.len())
        {
            return Tried::Value(value, end);
        }
        if self.mark == '`' && info.contains('`') {
            return Tried::Inline;
        }
        self.value_at(text, self.line_end)
    }

    fn value_at(&self, text: &str, start: usize) -> Tried {
        let mut values = Deserializer::from_str(&text[start..]).into_iter::<Value>();
        let value = match values.next() {
            Some(Ok(value)) => value,
            Some(Err(reason)) => return Tried::None(reason.to_string()),
            None => return Tried::None("it is empty".into()),
        };
        let end = start + values.byte_offset();
        let rest = text[end..].trim_start_matches(is_space);
        if rest.is_empty() && (value.is_array() || value.is_object()) {
            return Tried::Value(value, text.len());
        }
        if let Some((mark, length)) = marks(rest)
            && mark == self.mark
            && length >= self.length
        {
            let fence = text.len() - rest.len();
            let behind = rest[length..].lines().next().unwrap_or_default();
            let same_line = !text[end..fence].contains('\n');
            // In a line of its own, a fence with a language opens another block.
            if same_line || trim(behind).is_empty() {
                return Tried::Value(value, fence + length);
            }
        }
        Tried::None("there is more than one value".into())
    }

    /// The closing fence: where it begins and where its line ends.
    fn closing(&self, text: &str) -> Option<(usize, usize)> {
        let mut at = self.line_end;
        while let Some(fence) = Self::next(text, at) {
            let bare = trim(&text[fence.info..fence.line_end]).is_empty();
            if bare && fence.mark == self.mark && fence.length >= self.length {
                return Some((fence.start, fence.line_end));
            }
            at = fence.line_end;
        }
        None
    }
}

/// Which mark a fence at the beginning of `line` is made of, and how many.
fn marks(line: &str) -> Option<(char, usize)> {
    let mark = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = line.len() - line.trim_start_matches(mark).len();
    (length >= 3).then_some((mark, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as value;

    #[track_caller]
    fn check(answer: &str, expected: Value) {
        assert_eq!(json().extract(answer).unwrap(), expected, "{answer:?}");
    }

    #[track_caller]
    fn miss(answer: &str) -> String {
        let error = json().extract(answer).unwrap_err();
        assert!(error.is_miss(), "{error:?}");
        error.to_string()
    }

    #[test]
    fn the_whole_answer_counts_first() {
        check(" {\"a\": [1, null]}\r\n", value!({"a": [1, null]}));
        check("\u{feff}\u{a0}[1]\u{3000}", value!([1]));
        check("\"```json\\n{}\\n```\"", value!("```json\n{}\n```"));
        check("42", value!(42));
        check("false", value!(false));
    }

    #[test]
    fn the_last_block_that_is_json_counts() {
        let answer = "a\n```json\n{\"n\": 1}\n```\nb\n```\n{\"n\": 2}\n```\nc\n```bash\nls\n```\n";
        check(answer, value!({"n": 2}));
    }

    #[test]
    fn a_fence_may_have_any_mark_length_language_and_line_end() {
        for answer in [
            "```\n[1]\n```",
            "x\r\n```json\r\n[1]\r\n```\r\ny",
            "~~~ JSON title=\"x\"\n[1]\n~~~",
            "`````json5\n[1]\n``````",
            "1. so:\n   ```json\n   [1]\n   ```",
            "~~~\n\n [1] \n\n~~~ \t\n",
            "```json\n[1]```",
            "```json [1]```",
            "```[1]``` is it",
            "```json [\n1]\n```",
            "\u{feff}```\n[1]\n```",
        ] {
            check(answer, value!([1]));
        }
    }

    #[test]
    fn a_block_may_stand_in_a_longer_fence() {
        check(
            "````markdown\n# T\n```json\n[1]\n```\nend\n````\n",
            value!([1]),
        );
        check("~~~md\n```json\n[1]\n```\n~~~\n", value!([1]));
        check("````json\n{\"a\": \"```\"}\n````", value!({"a": "```"}));
        let error = miss("````json\n[1]\n```\n");
        assert!(
            error.contains("never closed"),
            "a shorter fence closes nothing: {error}"
        );
    }

    #[test]
    fn text_between_blocks_is_no_block() {
        miss("```\nls\n```\n[1]\n```\nls\n```\n");
        miss("text [1] text");
        miss("```code``` in a line\n[1]\n```\nls\n```\n");
        miss("``[1]``");
    }

    #[test]
    fn a_block_that_is_never_closed_counts_only_if_it_is_complete() {
        check("so:\n```json\n{\"a\": 1}\n", value!({"a": 1}));
        check("```\n[1]\n```\n```\n", value!([1]));
        for cut in [
            "```json\n{\"a\": 1",
            "```json\n12",
            "```\n{\"a\": 1} and",
            "````\n```\n[1]\n```\n",
        ] {
            let answer = format!("```json\n{{\"first\": true}}\n```\n{cut}");
            let error = json().extract(&answer).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::UnclosedFence { at: 28 }),
                "{cut}: {error:?}"
            );
        }
    }

    #[test]
    fn a_fence_with_a_language_begins_another_block() {
        check("```json\n[1]\n```json\n[2]\n```\n", value!([2]));
    }

    #[test]
    fn null_and_blank_text_are_misses_and_empty_lists_are_not() {
        for empty in [
            "null",
            "\"\"",
            "\" \\n\"",
            "```\nnull\n```",
            "```json\n[1]\n```\n```json\nnull\n```",
        ] {
            let error = json().extract(empty).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::Empty { .. }),
                "{empty}: {error:?}"
            );
        }
        check("[]", value!([]));
        check("```json\n{}\n```", value!({}));
        check("[null, \"\"]", value!([null, ""]));
    }

    #[test]
    fn a_miss_says_why_and_not_the_answer() {
        insta::assert_snapshot!(miss("Sorry."), @"extractor `json`: the 6 bytes are no JSON (expected value at line 1 column 1), and there is no fenced block");
        insta::assert_snapshot!(miss(""), @"extractor `json`: the 0 bytes are no JSON (EOF while parsing a value at line 1 column 0), and there is no fenced block");
        insta::assert_snapshot!(miss("```json\n{'a': 1}\n```"), @"extractor `json`: neither the 20 bytes nor the fenced block are JSON (block: key must be a string at line 1 column 2)");
        insta::assert_snapshot!(miss("```\nls\n```\n```\n[1] [2]\n```"), @"extractor `json`: neither the 26 bytes nor one of the 2 fenced blocks are JSON (last block: there is more than one value)");
        insta::assert_snapshot!(miss("null"), @"extractor `json`: the value `null` is empty");
        insta::assert_snapshot!(miss("so:\n```json\n[1,"), @"extractor `json`: the code fence opened at byte 4 is never closed: the answer was cut, or is not in the form asked for");
    }

    #[test]
    fn numbers_and_keys_are_what_serde_json_makes_of_them() {
        check(
            "[18446744073709551615, -9223372036854775808]",
            value!([u64::MAX, i64::MIN]),
        );
        check("18446744073709551616", value!(18446744073709551616.0));
        check("{\"b\": 1, \"a\": 2, \"b\": 3}", value!({"b": 3, "a": 2}));
        let ordered = json().extract("{\"z\": 1, \"a\": 2}").unwrap();
        assert_eq!(ordered.to_string(), "{\"z\":1,\"a\":2}");
        for refused in [
            "NaN",
            "[Infinity]",
            "1e400",
            "\"\\ud83d\"",
            "[1,]",
            "{} // x",
            "{}{}",
            "{'a': 1}",
        ] {
            miss(refused);
        }
    }

    #[test]
    fn deep_nesting_is_a_miss_and_no_crash() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        insta::assert_snapshot!(miss(&deep), @"extractor `json`: the 200000 bytes are no JSON (recursion limit exceeded at line 1 column 128), and there is no fenced block");
        miss(&format!("```json\n{deep}\n```"));
        let allowed = "[".repeat(127) + &"]".repeat(127);
        assert!(json().extract(&allowed).is_ok());
    }

    #[test]
    fn a_sample_is_accepted_whatever_the_content() {
        for content in ["", "\"\n```", "人"] {
            let text = json().sample(content).unwrap();
            check(&text, value!({ "text": content }));
        }
    }
}

//! What a run writes down of a row: a line of the dataset, or a line of the failures.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::row::RowId;

/// One finished row: one line of `result.jsonl`.
///
/// ```
/// use data_generation_pipeline_core::Record;
///
/// let line = r#"{"id":"e1d7f3e28f9bdb147db2853118862046","index":0,"input":{"n": 1.50},"response":"fine",
///     "model":"small","finish_reason":"stop","usage":{"prompt_tokens":4,"completion_tokens":1,"total_tokens":5},
///     "attempts":1,"latency_ms":812,"timestamp":"2026-11-22T10:00:00Z"}"#;
/// let record: Record = serde_json::from_str(line)?;
/// assert_eq!(record.input.get(), r#"{"n": 1.50}"#); // as it was given, numbers exact
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// The row's identity.
    pub id: RowId,
    /// 0-based position in the input of the command that finished the row.
    pub index: u64,
    /// The row as it was given, with every field.
    pub input: Box<RawValue>,
    /// The text of the model.
    pub response: String,
    /// What the extractor made of it; absent where there is no extractor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extracted: Option<Value>,
    /// What the provider named, else what was asked; `offline` for the offline model.
    pub model: String,
    /// Why the model stopped, in the provider's word.
    pub finish_reason: Option<String>,
    /// Tokens of the answer that was taken.
    pub usage: Usage,
    /// Requests for this row, up to and with the one that was answered, by the command that sent them.
    pub attempts: u32,
    /// Milliseconds of the last request, sending to last byte, without waiting.
    pub latency_ms: u64,
    /// When the answer arrived, RFC 3339 in UTC, to the second.
    pub timestamp: String,
    /// The model's reasoning, where it is kept apart from the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Short codes of what was odd about the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// There, and true, where no real model was asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offline: bool,
}

/// Tokens, as the provider counted them, or as they were guessed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Both, or what the provider says.
    pub total_tokens: u64,
    /// There, and true, where the provider counted nothing and this is our guess.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

/// One row that could not be made: one line of `failures.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The row's identity.
    pub id: RowId,
    /// 0-based position in the input of the command that tried the row.
    pub index: u64,
    /// The row as it was given; `null` where it was too large or no JSON.
    pub input: Option<Box<RawValue>>,
    /// Why.
    pub error: FailureReason,
    /// The text of the model, where there was one.
    pub response: Option<String>,
    /// The numbers of the journal's answers that were judged and found wanting.
    pub answers: Vec<u64>,
    /// Requests that this command sent for the row; where it only judged answers of an earlier one, the
    /// highest number among theirs.
    pub attempts: u32,
    /// When it was given up, RFC 3339 in UTC, to the second.
    pub timestamp: String,
    /// There where the row was finished, another extractor found nothing in its text, and the journal has lost the
    /// answer: then `response` is that text, and this is all else that was known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Box<Answered>>,
}

/// What a [`Record`] says of its answer besides the text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Answered {
    /// As in the record.
    pub model: String,
    /// As in the record.
    pub finish_reason: Option<String>,
    /// As in the record.
    pub usage: Usage,
    /// As in the record.
    pub attempts: u32,
    /// As in the record.
    pub latency_ms: u64,
    /// As in the record.
    pub timestamp: String,
    /// As in the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// As in the record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// As in the record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offline: bool,
}

/// Why a row failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureReason {
    /// A stable word to count and to match by. This crate's own are `invalid_row`, `row_too_large` and
    /// `panic`; all others come from steps.
    pub class: String,
    /// What happened and what to do, for people.
    pub message: String,
}

/// Seconds are enough for people and for sorting.
pub(crate) fn timestamp(at: std::time::SystemTime) -> String {
    let seconds = at
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or_default())
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::push_line;

    #[test]
    fn a_record_is_written_in_the_order_and_form_that_readers_rely_on() {
        let record = Record {
            id: RowId([0xab; 16]),
            index: 0,
            input: serde_json::from_str(r#"{"user_prompt_kwargs":{"topic":"人工智能"},"n": 1.50}"#)
                .unwrap(),
            response: "text".into(),
            extracted: Some(serde_json::json!(["x"])),
            model: "gpt-4o-2024-11-20".into(),
            finish_reason: Some("stop".into()),
            usage: Usage {
                prompt_tokens: 41,
                completion_tokens: 118,
                total_tokens: 159,
                estimated: false,
            },
            attempts: 1,
            latency_ms: 812,
            timestamp: timestamp(std::time::UNIX_EPOCH),
            reasoning: None,
            warnings: Vec::new(),
            offline: false,
        };
        let mut line = Vec::new();
        push_line(&mut line, &record).unwrap();
        insta::assert_snapshot!(String::from_utf8(line.clone()).unwrap(), @r#"{"id":"abababababababababababababababab","index":0,"input":{"user_prompt_kwargs":{"topic":"人工智能"},"n": 1.50},"response":"text","extracted":["x"],"model":"gpt-4o-2024-11-20","finish_reason":"stop","usage":{"prompt_tokens":41,"completion_tokens":118,"total_tokens":159},"attempts":1,"latency_ms":812,"timestamp":"1970-01-01T00:00:00Z"}"#);
        let back: Record = serde_json::from_slice(&line).unwrap();
        assert_eq!(back.input.get(), record.input.get());

        let odd = Record {
            extracted: None,
            offline: true,
            reasoning: Some("r".into()),
            warnings: vec!["w".into()],
            usage: Usage {
                estimated: true,
                ..record.usage
            },
            ..record
        };
        line.clear();
        push_line(&mut line, &odd).unwrap();
        insta::assert_snapshot!(String::from_utf8(line).unwrap(), @r#"{"id":"abababababababababababababababab","index":0,"input":{"user_prompt_kwargs":{"topic":"人工智能"},"n": 1.50},"response":"text","model":"gpt-4o-2024-11-20","finish_reason":"stop","usage":{"prompt_tokens":41,"completion_tokens":118,"total_tokens":159,"estimated":true},"attempts":1,"latency_ms":812,"timestamp":"1970-01-01T00:00:00Z","reasoning":"r","warnings":["w"],"offline":true}"#);
    }
}

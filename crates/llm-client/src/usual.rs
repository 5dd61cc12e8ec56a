//! The usual completion, read in one go.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::body::Completion;
use crate::usage::Told;

/// Nearly all bodies look like this, and this reads them in a third of the time. Whatever looks different in a member
/// that anybody asks for, or has one twice, is no error here but left to who reads anything.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    choices: [Choice<'a>; 1],
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    error: Option<IgnoredAny>,
    key_redacted: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    index: Option<u64>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Message<'a>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Message<'a> {
    content: String,
    #[serde(borrow, default)]
    reasoning_content: Option<Cow<'a, str>>,
    reasoning: Option<IgnoredAny>,
    refusal: Option<IgnoredAny>,
    tool_calls: Option<IgnoredAny>,
    function_call: Option<IgnoredAny>,
}

/// `None`: it is not the usual one, which says nothing about whether it is good.
pub(crate) fn read(body: &str) -> Option<Completion> {
    let body: Body<'_> = serde_json::from_str(body).ok()?;
    let [choice] = body.choices;
    let message = choice.message;
    let odd = [
        body.error,
        body.key_redacted,
        choice.error,
        message.reasoning,
        message.refusal,
        message.tool_calls,
        message.function_call,
    ];
    if odd.iter().any(Option::is_some) || choice.index.is_some_and(|index| index != 0) {
        return None;
    }
    let model = body.model.filter(|model| !model.is_empty());
    Some(Completion {
        text: message.content,
        reasoning: message.reasoning_content.unwrap_or_default().into_owned(),
        finish_reason: choice.finish_reason.map(Cow::into_owned),
        model: model.map(Cow::into_owned),
        usage: body.usage.and_then(Told::of),
        has_choice: true,
        ..Completion::default()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;
    use crate::body::read_anything;

    const USUAL: &str = r#"{"id":"x","object":"chat.completion","created":1,"model":"small",
        "choices":[{"index":0,"message":{"role":"assistant","content":"a \"text\" \u4eba\n","reasoning_content":"so",
        "refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],
        "usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5},"service_tier":"default"}"#;

    #[test]
    fn the_usual_one_is_read_here() {
        let completion = read(USUAL).unwrap();
        assert_eq!(completion.text, "a \"text\" 人\n");
        assert_eq!(completion.reasoning, "so");
        let usage = completion.usage.unwrap();
        assert_eq!(usage.numbers(), [Some(3), Some(2), Some(5)]);
        assert_eq!(completion.model.as_deref(), Some("small"));
    }

    const NAMES: [&str; 15] = [
        "id",
        "model",
        "choices",
        "usage",
        "error",
        "index",
        "finish_reason",
        "message",
        "delta",
        "content",
        "reasoning_content",
        "refusal",
        "tool_calls",
        "text",
        "key_redacted",
    ];
    const VALUES: [&str; 14] = [
        "null",
        "0",
        "1",
        "41.0",
        "-1",
        "true",
        "\"\"",
        "\"x\"",
        "\"\\ud83d\"",
        "[]",
        "{}",
        "[{}]",
        "1e999",
        "{\"message\":\"no\"}",
    ];

    proptest! {
        /// A member is put in anywhere, so that it is odd or there twice, or a value is another one.
        #[test]
        fn what_is_read_here_is_what_whoever_reads_anything_reads(
            edits in prop::collection::vec((any::<Index>(), select(&NAMES[..]), select(&VALUES[..]), any::<bool>()), 0..4)
        ) {
            let mut body = USUAL.to_owned();
            for (at, name, value, put_in) in edits {
                let marks: Vec<usize> = body.match_indices(if put_in { '{' } else { ':' }).map(|(at, _)| at).collect();
                let Some(at) = marks.get(at.index(marks.len().max(1))) else { continue };
                if put_in {
                    body.insert_str(at + 1, &format!("\"{name}\":{value},"));
                } else {
                    let end = body[at + 1..].find([',', '}']).map_or(body.len(), |end| at + 1 + end);
                    body.replace_range(at + 1..end, value);
                }
            }
            if let Some(completion) = read(&body) {
                prop_assert_eq!(Ok(completion), read_anything(&body), "{}", body);
            }
        }
    }
}

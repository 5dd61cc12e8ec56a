//! Reading a 2xx body: nothing odd in it costs the answer.

use data_generation_llm_client::{
    Answer, ClassifyOptions, ReasoningPolicy, Reply, Verdict, classify,
};
use proptest::prelude::*;

fn judge(body: impl Into<Vec<u8>>, reasoning: ReasoningPolicy) -> Verdict {
    let options = ClassifyOptions {
        reasoning,
        prompt_tokens: 7,
        ..ClassifyOptions::default()
    };
    classify(&Ok(Answer::from_body(200, body)), &options)
}

#[track_caller]
fn read(body: &str) -> Reply {
    match judge(body, ReasoningPolicy::Split) {
        Verdict::Usable(reply) => reply,
        other => panic!("{other:?}"),
    }
}

const GOOD: &str = r#"{"id":"x","model":"m-1","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;

#[test]
fn an_ordinary_answer_is_read_whole() {
    let reply = read(GOOD);
    assert_eq!(reply.text, "hello");
    assert_eq!(reply.model.as_deref(), Some("m-1"));
    assert_eq!(reply.finish_reason.as_deref(), Some("stop"));
    let usage = reply.usage;
    assert_eq!(
        (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens,
            usage.estimated
        ),
        (3, 2, 5, false)
    );
    assert!(reply.warnings.is_empty() && reply.reasoning.is_none());
}

#[test]
fn odd_neighbours_cost_nothing() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    for neighbour in [
        r#""id":null,"object":17,"created":"yesterday""#,
        r#""error":null"#,
        r#""error":{"message":"but it went well"}"#,
        r#""created":1e999,"n":123456789012345678901234567890"#,
        r#""logprob":NaN,"low":-Infinity"#,
        r#""model":{"a":1}"#,
        r#""system_fingerprint":"\ud83d","key \udc00":1"#,
        r#""choices":null"#,
        "\"raw\":\"line\nbreak\"",
        &format!(r#""deep":{deep}"#),
    ] {
        for body in [
            GOOD.replacen('{', &format!("{{{neighbour},"), 1),
            format!("{},{neighbour}}}", &GOOD[..GOOD.len() - 1]),
        ] {
            assert_eq!(
                read(&body).text,
                "hello",
                "{}",
                &neighbour[..neighbour.len().min(60)]
            );
        }
    }
    for body in [
        format!("\u{feff} \r\n\n{GOOD}\n"),
        format!("{GOOD} trailing"),
        format!("[{GOOD}]"),
    ] {
        assert_eq!(read(&body).text, "hello");
    }
}

#[test]
fn of_doubled_keys_the_last_usable_one_counts() {
    let choice = |text: &str| {
        format!(r#""choices":[{{"message":{{"content":"{text}"}},"finish_reason":"stop"}}]"#)
    };
    assert_eq!(
        read(&format!("{{{},{}}}", choice("one"), choice("two"))).text,
        "two"
    );
    assert_eq!(
        read(&format!(r#"{{{},"choices":[]}}"#, choice("one"))).text,
        "one"
    );
    let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":2}"#;
    let reply = read(&format!(r#"{{{},{usage},"usage":null}}"#, choice("one")));
    assert_eq!(
        (reply.usage.total_tokens, reply.usage.estimated),
        (5, false)
    );
}

#[test]
fn content_may_be_text_or_a_list_of_parts() {
    let content = |content: &str| {
        read(&format!(
            r#"{{"choices":[{{"message":{{"content":{content}}},"finish_reason":"stop"}}]}}"#
        ))
    };
    assert_eq!(
        content(r#"[{"type":"text","text":"a"},{"type":"image"},"b",{"text":{"value":"c"}}]"#).text,
        "abc"
    );
    let thinking = content(
        r#"[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"a"}]"#,
    );
    assert_eq!(
        (thinking.text.as_str(), thinking.reasoning.as_deref()),
        ("a", Some("hm"))
    );
    assert_eq!(
        read(r#"{"choices":[{"text":"legacy","finish_reason":"stop"}]}"#).text,
        "legacy"
    );
}

#[test]
fn half_a_surrogate_pair_becomes_a_mark_and_a_warning() {
    let content = |content: &str| {
        read(&format!(
            r#"{{"choices":[{{"message":{{"content":"{content}"}},"finish_reason":"stop"}}]}}"#
        ))
    };
    let reply = content(r"a\ud83db \ude00 \ud83d\ude00 人");
    assert_eq!(reply.text, "a\u{fffd}b \u{fffd} 😀 人");
    assert_eq!(reply.warnings, ["lone_surrogate"]);
    assert!(content(r"\ud83d\ude00").warnings.is_empty());
}

#[test]
fn an_odd_end_is_a_warning() {
    let end = |end: &str| {
        read(&format!(
            r#"{{"choices":[{{"message":{{"content":"a"}}{end}}}]}}"#
        ))
        .warnings
    };
    assert_eq!(end(""), ["no_finish_reason"]);
    assert_eq!(end(r#","finish_reason":null"#), ["no_finish_reason"]);
    assert_eq!(
        end(r#","finish_reason":"abort""#),
        ["unknown_finish_reason"]
    );
    assert!(end(r#","finish_reason":"STOP""#).is_empty());
}

#[test]
fn tokens_are_estimated_where_the_provider_does_not_count_them() {
    for usage in [
        "null",
        "[]",
        "{}",
        r#"{"prompt_tokens":-1,"completion_tokens":2}"#,
        r#"{"prompt_tokens":1e400,"completion_tokens":2}"#,
        "7",
    ] {
        let body = GOOD.replace(
            r#"{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}"#,
            usage,
        );
        let found = read(&body).usage;
        assert!(found.estimated, "{usage}");
        assert_eq!(
            (
                found.prompt_tokens,
                found.completion_tokens,
                found.total_tokens
            ),
            (7, 2, 9)
        );
        assert!(read(&body).warnings.is_empty());
    }
    let body = GOOD.replace("\"prompt_tokens\":3", "\"prompt_tokens\":\"3.0\"");
    assert_eq!(read(&body).usage.prompt_tokens, 3);
}

#[test]
fn thoughts_are_kept_apart_unless_they_shall_stay() {
    let body = |message: &str| {
        format!(r#"{{"choices":[{{"message":{message},"finish_reason":"stop"}}]}}"#)
    };
    for name in ["reasoning_content", "reasoning"] {
        let reply = read(&body(&format!(r#"{{"content":"a","{name}":"hm"}}"#)));
        assert_eq!(
            (reply.text.as_str(), reply.reasoning.as_deref()),
            ("a", Some("hm"))
        );
    }
    let inline = body(r#"{"content":" \n<think>\nhm\n</think>\n\na <think>b</think>"}"#);
    let reply = read(&inline);
    assert_eq!(
        (reply.text.as_str(), reply.reasoning.as_deref()),
        ("a <think>b</think>", Some("hm"))
    );
    let Verdict::Usable(kept) = judge(inline, ReasoningPolicy::Keep) else {
        panic!()
    };
    assert!(kept.text.contains("<think>\nhm") && kept.reasoning.is_none());
    let unclosed = read(&body(r#"{"content":"<think>hm"}"#));
    assert_eq!(
        (unclosed.text.as_str(), unclosed.warnings.as_slice()),
        ("<think>hm", &["unclosed_think"][..])
    );
    // A block and nothing after it is no answer.
    let only = judge(
        body(r#"{"content":"<think>hm</think>\n"}"#),
        ReasoningPolicy::Split,
    );
    assert!(
        matches!(
            only,
            Verdict::Retry {
                class: "empty_answer",
                ..
            }
        ),
        "{only:?}"
    );
}

#[test]
fn a_stream_that_nobody_asked_for_is_folded() {
    let events = [
        ": PROCESSING",
        r#"data: {"model":"m-1","choices":[{"index":0,"delta":{"role":"assistant","content":"he"}}]}"#,
        r#"data:{"choices":[{"index":0,"delta":{"reasoning_content":"hm","content":null}}]}"#,
        r#"data: {"choices":[{"index":0,"delta":{"content":"llo"},"finish_reason":null}]}"#,
        r#"data: {"choices":[{"index":1,"delta":{"content":"other"}}]}"#,
        r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
        r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#,
        "data: [DONE]",
    ];
    for separator in ["\n\n", "\r\n\r\n", "\n"] {
        let reply = read(&events.join(separator));
        assert_eq!(
            (reply.text.as_str(), reply.reasoning.as_deref()),
            ("hello", Some("hm"))
        );
        assert_eq!(
            (reply.model.as_deref(), reply.usage.total_tokens),
            (Some("m-1"), 5)
        );
        assert!(reply.warnings.is_empty(), "{:?}", reply.warnings);
    }
    for broken in [
        events[1..4].join("\n\n"),
        events[1..3].join("\n\n") + "\n\ndata: {\"choices\":[{\"del",
    ] {
        let verdict = judge(broken, ReasoningPolicy::Split);
        assert!(
            matches!(
                verdict,
                Verdict::Retry {
                    class: "answer_cut_short",
                    ..
                }
            ),
            "{verdict:?}"
        );
    }
    let failed = judge(
        "data: {\"error\":{\"code\":429,\"message\":\"slow\"}}\n\n",
        ReasoningPolicy::Split,
    );
    assert!(matches!(failed, Verdict::Pause { .. }), "{failed:?}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..300), status in 100u16..700) {
        for start in ["", "data: ", "{\"choices\":", "[", "{\"error\":"] {
            let mut bytes = start.as_bytes().to_vec();
            bytes.extend(&body);
            drop(classify(&Ok(Answer::from_body(status, bytes)), &ClassifyOptions::default()));
        }
    }

    #[test]
    fn a_mutated_answer_never_panics(at in 0..GOOD.len(), with in "[\"{}\\[\\]:,\\\\a0 ]{0,3}", cut in 0..3usize) {
        let body = format!("{}{with}{}", &GOOD[..at], &GOOD[(at + cut).min(GOOD.len())..]);
        drop(judge(body, ReasoningPolicy::Split));
    }

    #[test]
    fn any_text_comes_out_as_it_went_in(text in "\\PC{1,200}") {
        let body = serde_json::json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]});
        if let Verdict::Usable(reply) = judge(body.to_string(), ReasoningPolicy::Keep) {
            prop_assert_eq!(reply.text, text);
        } else {
            prop_assert!(text.trim().is_empty());
        }
    }
}

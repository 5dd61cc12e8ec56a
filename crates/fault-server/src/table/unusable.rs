//! Answers that were paid for and hold no answer.

use super::bodies::said;
use crate::fault::{Every, Fault, Play, answer, empty, unusable};

const CUT: &str = "answer_cut_short";
const EMPTY: &str = "empty_answer";

pub(super) const FAULTS: &[Fault] = &[
    unusable("choices-null", "no_choices", "200 with `choices: null`", answer(200, r#"{"id":"x","choices":null}"#))
        .seen_in("langchain #35236")
        .says("the answer has no `choices`"),
    unusable("choices-empty", "no_choices", "200 with `choices: []`", answer(200, r#"{"id":"x","choices":[]}"#))
        .says("the answer has no `choices`"),
    unusable("choices-absent", "no_choices", "200 without `choices`", answer(200, r#"{"id":"x"}"#))
        .says("the answer has no `choices`"),
    unusable("choices-of-null", "no_choices", "200 with `choices: [null]`", answer(200, r#"{"choices":[null]}"#))
        .says("the answer has no `choices`"),
    empty(
        "content-null",
        EMPTY,
        "200 with `content: null` and `stop`",
        answer(200, said!(r#""message":{"role":"assistant","content":null},"finish_reason":"stop""#)),
    )
    .seen_in("dify #13068")
    .says("the model wrote nothing"),
    empty(
        "content-empty",
        EMPTY,
        "200 with an empty content and `stop`",
        answer(200, said!(r#""message":{"role":"assistant","content":""},"finish_reason":"stop""#)),
    )
    .says("the model wrote nothing"),
    empty(
        "content-blank",
        EMPTY,
        "200 whose content is white space",
        answer(200, said!(r#""message":{"role":"assistant","content":" \n\n"},"finish_reason":"stop""#)),
    )
    .says("the model wrote nothing"),
    empty(
        "content-only-thoughts",
        EMPTY,
        "200 whose content is a think block and nothing after it",
        answer(
            200,
            said!(r#""message":{"role":"assistant","content":"<think>hm</think>"},"finish_reason":"stop""#),
        ),
    )
    .says("the model wrote nothing"),
    empty(
        "content-tool-call",
        EMPTY,
        "200 with a call of a tool that nobody offered",
        answer(
            200,
            said!(r#""message":{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls""#),
        ),
    )
    .says("the model called a tool"),
    unusable(
        "content-object",
        "odd_content",
        "200 whose content is an object",
        answer(
            200,
            said!(r#""message":{"role":"assistant","content":{"answer":42}},"finish_reason":"stop""#),
        ),
    )
    .says("`content` is neither text nor a list of parts"),
    unusable(
        "message-absent",
        EMPTY,
        "200 with a choice without a message",
        answer(200, said!(r#""finish_reason":"stop""#)),
    )
    .says("the model wrote nothing")
    .always(crate::fault::Always::Exactly(2))
    .every(Every::Breaker { rows: 20, each: 2 }),
    unusable(
        "json-cut",
        CUT,
        "200 whose JSON ends in the middle, with a length that fits",
        answer(200, r#"{"id":"chatcmpl-1","choices":[{"index":0,"message":{"content":"cut sh"#),
    )
    .seen_in("curator PR #463")
    .says("the answer ends in the middle"),
    unusable(
        "length-too-small",
        CUT,
        "200 with more bytes than `content-length` says",
        Play::Raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 21\r\n\r\n{\"choices\":[{\"message\":{\"content\":\"never read\"},\"finish_reason\":\"stop\"}]}"),
    )
    .says("the answer ends in the middle"),
    unusable("empty-body", "empty_body", "200 without a body", answer(200, ""))
        .says("status 2xx with an empty body"),
    unusable("blank-body", "empty_body", "200 with a body of white space", answer(200, "  \r\n\n"))
        .says("status 2xx with an empty body"),
    unusable("no-content", "empty_body", "204", answer(204, "")).says("status 2xx with an empty body"),
    unusable("accepted", "empty_body", "202 without a body", answer(202, ""))
        .says("status 2xx with an empty body"),
    unusable(
        "captive-portal",
        "html_answer",
        "200 with a page of HTML",
        answer(200, "<!DOCTYPE html><html><title>Log in to the network</title></html>"),
    )
    .seen_in("AutoGPT #341")
    .says("an HTML page came instead of an answer")
    .every(Every::Outage(3)),
    unusable("plain-text", "not_json", "200 with plain text", answer(200, "upstream is busy"))
        .says("the answer is not JSON"),
    unusable("json-number", "not_json", "200 whose body is a number", answer(200, "42"))
        .says("the answer is not JSON"),
    unusable("json-text", "not_json", "200 whose body is a JSON string", answer(200, "\"hello\""))
        .says("the answer is not JSON"),
    unusable(
        "stream-cut",
        CUT,
        "a stream that nobody asked for and that ends without an end",
        answer(200, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"}}]}\n\n"),
    )
    .says("the answer ends in the middle"),
    empty(
        "invalid-utf8",
        "invalid_utf8",
        "200 whose text is not UTF-8",
        Play::Bytes(b"{\"choices\":[{\"index\":0,\"message\":{\"content\":\"caf\xe9\"},\"finish_reason\":\"stop\"}]}"),
    )
    .says("the answer is not UTF-8"),
    empty(
        "unasked-compression",
        "invalid_utf8",
        "200 compressed in a way that nobody asked for and no header names",
        Play::Bytes(b"\x28\xb5\x2f\xfd\x04\x58\x89\x00\x00\xff\xfe"),
    )
    .says("the answer is not UTF-8"),
];

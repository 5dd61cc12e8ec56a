//! Answers that are odd and good: they were paid for, and the row is done.

use std::time::Duration;

use super::bodies::{GOOD, beside, said};
use crate::fault::{Fault, Play, answer, ok, warned, with};

pub(super) const FAULTS: &[Fault] = &[
    ok("good", "a good answer", answer(200, GOOD)),
    ok("created-201", "a good answer with status 201", answer(201, GOOD)),
    ok("error-null", "a good answer beside `\"error\": null`", answer(200, beside!(r#"error":null"#)))
        .seen_in("two of three tools lose the answer"),
    ok("error-empty-text", "a good answer beside `\"error\": \"\"`", answer(200, beside!(r#"error":"""#))),
    ok("error-false", "a good answer beside `\"error\": false`", answer(200, beside!(r#"error":false"#))),
    ok("error-empty-object", "a good answer beside `\"error\": {}`", answer(200, beside!(r#"error":{}"#))),
    ok(
        "error-beside-answer",
        "a whole answer beside an `error` that is a sentence",
        answer(200, beside!(r#"error":"a tool of ours was slow""#)),
    ),
    ok(
        "error-list-beside-answer",
        "a whole answer beside an `error` that is a list",
        answer(200, beside!(r#"error":[{"message":"one replica was slow"}]"#)),
    ),
    warned(
        "finish-unknown",
        "unknown_finish_reason",
        "a `finish_reason` that nobody knows",
        answer(200, said!(r#""message":{"role":"assistant","content":"{text}"},"finish_reason":"finished""#)),
    )
    .seen_in("vllm #27572"),
    warned(
        "finish-null",
        "no_finish_reason",
        "`finish_reason: null`",
        answer(200, said!(r#""message":{"role":"assistant","content":"{text}"},"finish_reason":null"#)),
    ),
    warned(
        "finish-absent",
        "no_finish_reason",
        "no `finish_reason`",
        answer(200, said!(r#""message":{"role":"assistant","content":"{text}"}"#)),
    ),
    ok(
        "finish-eos",
        "`finish_reason: eos_token`",
        answer(200, said!(r#""message":{"role":"assistant","content":"{text}"},"finish_reason":"eos_token""#)),
    ),
    ok(
        "reasoning-content",
        "reasoning in `reasoning_content`, apart from the answer",
        answer(200, said!(r#""message":{"role":"assistant","reasoning_content":"<draft>no</draft>","content":"{text}"},"finish_reason":"stop""#)),
    )
    .seen_in("vllm, DeepSeek"),
    ok(
        "reasoning-field",
        "reasoning in `reasoning`, apart from the answer",
        answer(200, said!(r#""message":{"role":"assistant","reasoning":"<draft>no</draft>","content":"{text}"},"finish_reason":"stop""#)),
    ),
    ok(
        "think-block",
        "a think block at the start of the content",
        answer(200, said!(r#""message":{"role":"assistant","content":"<think>\n<draft>no</draft>\n</think>\n\n{text}"},"finish_reason":"stop""#)),
    ),
    warned(
        "think-block-open",
        "unclosed_think",
        "a think block that is never closed",
        answer(200, said!(r#""message":{"role":"assistant","content":"<think>hm {text}"},"finish_reason":"stop""#)),
    ),
    ok(
        "content-parts",
        "content as a list of parts",
        answer(200, said!(r#""message":{"role":"assistant","content":[{"type":"text","text":""},{"type":"text","text":"{text}"}]},"finish_reason":"stop""#)),
    )
    .seen_in("OpenAI's schema"),
    ok(
        "content-thinking-parts",
        "content as a list of parts, one of them thoughts",
        answer(200, said!(r#""message":{"role":"assistant","content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"{text}"}]},"finish_reason":"stop""#)),
    ),
    ok(
        "content-doubled",
        "`content` twice, the second one null",
        answer(200, said!(r#""message":{"role":"assistant","content":"{text}","content":null},"finish_reason":"stop""#)),
    ),
    ok(
        "choice-of-completions",
        "`text` beside no message, as completions have it",
        answer(200, said!(r#""text":"{text}","finish_reason":"stop""#)),
    ),
    ok(
        "choices-object",
        "`choices` as an object",
        answer(200, r#"{"choices":{"message":{"content":"{text}"},"finish_reason":"stop"}}"#),
    ),
    ok("usage-absent", "no `usage`: tokens are estimated, and marked", answer(200, beside!(r#"object":"chat.completion""#)))
        .seen_in("async-openai #61"),
    ok("usage-null", "`usage: null`: tokens are estimated, and marked", answer(200, beside!(r#"usage":null"#))),
    ok(
        "usage-text",
        "`usage` as text: tokens are estimated, and marked",
        answer(200, beside!(r#"usage":"many""#)),
    ),
    ok(
        "usage-part",
        "`usage` without the tokens of the prompt: tokens are estimated, and marked",
        answer(200, beside!(r#"usage":{"completion_tokens":7}"#)),
    ),
    ok(
        "usage-zero",
        "`usage` of zeros beside a text: tokens are estimated, and marked",
        answer(200, beside!(r#"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#)),
    ),
    ok(
        "usage-total",
        "`usage` with `total_tokens` alone: it counts, and the parts are estimated and marked",
        answer(200, beside!(r#"usage":{"total_tokens":18}"#)),
    ),
    ok(
        "usage-below",
        "`usage` with a `total_tokens` below its parts: the parts count",
        answer(200, beside!(r#"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":7}"#)),
    ),
    ok(
        "usage-beyond",
        "`usage` beyond anything that can be: in the record as it is, no limit counts it, and one warning says so",
        answer(200, beside!(r#"usage":{"prompt_tokens":1000000000000000,"completion_tokens":7,"total_tokens":1000000000000007}"#)),
    ),
    ok(
        "usage-doubled",
        "`usage` twice, the second one null",
        answer(200, beside!(r#"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18},"usage":null"#)),
    ),
    ok(
        "usage-numbers-as-text",
        "`usage` with numbers as text and as fractions",
        answer(200, beside!(r#"usage":{"prompt_tokens":"11","completion_tokens":7.0}"#)),
    ),
    ok("id-number", "`id` as a number", answer(200, beside!(r#"id":7"#))).seen_in("async-openai #283"),
    ok(
        "types-wrong",
        "`object`, `created`, `model` and `index` of other types",
        answer(
            200,
            r#"{"object":null,"created":"now","model":{"name":"x"},"choices":[{"index":"0","message":{"role":7,"content":"{text}"},"finish_reason":"stop","logprobs":7}]}"#,
        ),
    ),
    ok(
        "fields-absent",
        "nothing but the choice",
        answer(200, r#"{"choices":[{"message":{"content":"{text}"},"finish_reason":"stop"}]}"#),
    ),
    ok(
        "fields-unknown",
        "fields that nobody knows, one of them a number beyond all bounds",
        answer(200, beside!(r#"provider":{"name":"x"},"cost":1e400,"citations":[],"timings":{"ms":0.1}"#)),
    ),
    ok("neighbour-deep", "a good answer beside a list that is nested 100,000 deep", Play::Deep(100_000)),
    ok(
        "nan-beside-answer",
        "a good answer beside `NaN`, which JSON forbids",
        answer(200, beside!(r#"logprob":NaN"#)),
    ),
    ok(
        "control-character",
        "a good answer with a raw newline in its text, which JSON forbids",
        answer(200, said!("\"message\":{\"role\":\"assistant\",\"content\":\"\n{text}\n\"},\"finish_reason\":\"stop\"")),
    ),
    warned(
        "lone-surrogate",
        "lone_surrogate",
        "half a surrogate pair in the text: U+FFFD stands in its place",
        answer(200, said!(r#""message":{"role":"assistant","content":"{text} \ud83d"},"finish_reason":"stop""#)),
    )
    .seen_in("serde-rs/json #495"),
    ok(
        "line-separators",
        "U+2028, U+0085 and U+0000 in the text",
        answer(200, said!(r#""message":{"role":"assistant","content":"\u2028\u0085\u0000{text}"},"finish_reason":"stop""#)),
    ),
    ok(
        "byte-order-mark",
        "a byte order mark before the JSON",
        answer(200, "\u{feff}{\"choices\":[{\"message\":{\"content\":\"{text}\"},\"finish_reason\":\"stop\"}]}"),
    ),
    ok(
        "more-after-the-json",
        "a second JSON value after the answer",
        answer(200, "{\"choices\":[{\"message\":{\"content\":\"{text}\"},\"finish_reason\":\"stop\"}]}\n{}"),
    ),
    ok(
        "list-of-one",
        "the answer in a list",
        answer(200, r#"[{"choices":[{"message":{"content":"{text}"},"finish_reason":"stop"}]}]"#),
    ),
    ok(
        "stream",
        "server-sent events although nobody asked: the chunks are folded",
        with(
            200,
            &[("content-type", "text/event-stream")],
            ": keep-alive\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"{text}\"}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7,\"total_tokens\":18}}\n\ndata: [DONE]\n\n",
        ),
    )
    .seen_in("token_proxy #238"),
    ok(
        "stream-without-done",
        "server-sent events without `[DONE]`, lines ended by CRLF",
        answer(
            200,
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"{text}\"}}]}\r\n\r\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\n",
        ),
    ),
    ok(
        "content-type-wrong",
        "a good answer as `text/html`",
        with(200, &[("content-type", "text/html; charset=latin1")], GOOD),
    ),
    ok(
        "blanks-before-the-json",
        "a space every three seconds for two minutes, then the answer: the total deadline still runs",
        Play::Blanks {
            bytes: 40,
            every: Duration::from_secs(3),
        },
    )
    .seen_in("sglang #3689"),
    ok("compressed", "a good answer, compressed by gzip", Play::Gzip),
    ok("chunked", "a good answer in chunks", Play::Chunked { cut: false }),
    ok("until-close", "a good answer by HTTP/1.0, ended by closing the connection", Play::UntilClose),
    ok(
        "continue-first",
        "`100 Continue`, which nobody asked for, before a good answer",
        Play::Before("HTTP/1.1 100 Continue\r\n\r\n"),
    ),
    ok(
        "early-hints-first",
        "`103 Early Hints` before a good answer",
        Play::Before("HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n"),
    ),
    ok("close-after-answer", "a good answer, then the connection is closed without a word", Play::CloseAfterAnswer),
    ok("long-header", "a good answer with a header of 16 KiB", Play::LongHeader(16 << 10)),
];

//! What concerns one row: its length, its content.

use super::bodies::{error, said};
use crate::fault::{Fault, answer, fail};

const TOO_LONG: &str = "context_too_long";
const FILTER: &str = "content_filter";

pub(super) const FAULTS: &[Fault] = &[
    fail("bad-request", "bad_request", "400 that says nothing known", answer(400, error!("Invalid message content", "invalid_request_error", "bad")))
        .says("status 400: Invalid message content"),
    fail("bad-request-page", "bad_request", "400 with a page of HTML", answer(400, "<html><body>400 Bad Request</body></html>"))
        .says("status 400: an HTML page"),
    fail(
        "unprocessable",
        "unprocessable",
        "422 with FastAPI's list of faults",
        answer(
            422,
            r#"{"detail":[{"loc":["body","messages",0],"msg":"field required","type":"missing"}]}"#,
        ),
    )
    .says("status 422: field required"),
    fail("not-acceptable", "unknown_status", "406", answer(406, "")).says("status 406"),
    fail("gone", "unknown_status", "410", answer(410, "")).says("status 410"),
    fail("teapot", "unknown_status", "418", answer(418, "")).says("status 418"),
    fail("legal-reasons", "unknown_status", "451", answer(451, "")).says("status 451"),
    fail(
        "moderated",
        FILTER,
        "403 that says that the input was flagged",
        answer(
            403,
            r#"{"error":{"code":403,"message":"Your input was flagged","metadata":{"reasons":["violence"],"flagged_input":"..."}}}"#,
        ),
    )
    .seen_in("OpenRouter's documentation")
    .says("status 403: Your input was flagged"),
    fail(
        "content-filter",
        FILTER,
        "400 with the code `content_filter`",
        answer(
            400,
            error!(
                "The response was filtered due to the prompt triggering the content management policy.",
                "invalid_request_error",
                "content_filter"
            ),
        ),
    )
    .seen_in("browser-use #4783")
    .says("status 400: The response was filtered"),
    fail(
        "data-inspection-failed",
        FILTER,
        "400 with the code `data_inspection_failed`",
        answer(
            400,
            error!(
                "Input data may contain inappropriate content.",
                "data_inspection_failed",
                "data_inspection_failed"
            ),
        ),
    )
    .says("status 400: Input data"),
    fail(
        "content-exists-risk",
        FILTER,
        "400 that says \"Content Exists Risk\"",
        answer(400, error!("Content Exists Risk", "invalid_request_error", "invalid_request_error")),
    )
    .says("Content Exists Risk"),
    fail(
        "finish-content-filter",
        FILTER,
        "200 with `finish_reason: content_filter` and half a text",
        answer(
            200,
            said!(r#""message":{"role":"assistant","content":"half"},"finish_reason":"content_filter""#),
        ),
    )
    .says("content filter stopped the answer"),
    fail(
        "finish-safety",
        FILTER,
        "200 with `finish_reason: SAFETY` and no text",
        answer(
            200,
            said!(r#""message":{"role":"assistant","content":null},"finish_reason":"SAFETY""#),
        ),
    )
    .says("content filter stopped the answer"),
    fail(
        "refusal",
        "refusal",
        "200 with `refusal` in the place of the content",
        answer(
            200,
            said!(r#""message":{"role":"assistant","content":null,"refusal":"I can't help with that."},"finish_reason":"stop""#),
        ),
    )
    .says("the model refused: I can't help with that"),
    fail(
        "refusal-part",
        "refusal",
        "200 with a refusal as a part of the content",
        answer(
            200,
            said!(r#""message":{"role":"assistant","content":[{"type":"refusal","refusal":"No."}]},"finish_reason":"stop""#),
        ),
    )
    .says("the model refused: No."),
    fail(
        "context-too-long",
        TOO_LONG,
        "400 with the code `context_length_exceeded`",
        answer(
            400,
            error!(
                "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
                "invalid_request_error",
                "context_length_exceeded"
            ),
        ),
    )
    .seen_in("codex")
    .says("maximum context length is 8192"),
    fail(
        "context-too-long-flat",
        TOO_LONG,
        "400 with vLLM's error, which is the object itself",
        answer(
            400,
            r#"{"object":"error","message":"This model's maximum context length is 10 tokens.","type":"BadRequestError","param":null,"code":400}"#,
        ),
    )
    .says("maximum context length is 10"),
    fail(
        "context-too-long-local",
        TOO_LONG,
        "400 of llama.cpp: the request exceeds the available context size",
        answer(
            400,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9001,"n_ctx":8192}}"#,
        ),
    )
    .says("exceeds the available context size"),
    fail(
        "prompt-too-long",
        TOO_LONG,
        "400 that says \"prompt is too long\"",
        answer(
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
        ),
    )
    .says("prompt is too long"),
    fail("payload-too-large", TOO_LONG, "413", answer(413, "<html><body>413 Request Entity Too Large</body></html>"))
        .says("status 413"),
    fail(
        "above-token-limit",
        "request_too_large",
        "429 for a request that alone is above the limit of tokens a minute: no wait helps",
        answer(
            429,
            error!(
                "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 41201. The input or output tokens must be reduced in order to run successfully.",
                "tokens",
                "rate_limit_exceeded"
            ),
        ),
    )
    .seen_in("two of three tools hang for ever")
    .says("status 429: Request too large"),
    fail(
        "cut-at-max-tokens",
        "cut_at_max_tokens",
        "200 with `finish_reason: length` and a text that is cut",
        answer(
            200,
            said!(r#""message":{"role":"assistant","content":"<draft>half of an ans"},"finish_reason":"length""#),
        ),
    )
    .seen_in("openai's LengthFinishReasonError")
    .says("the answer was cut after")
    .cure("raise `model.max_tokens`"),
    fail(
        "cut-while-reasoning",
        "cut_at_max_tokens",
        "200 with `finish_reason: length` after nothing but reasoning",
        answer(
            200,
            said!(r#""message":{"role":"assistant","content":"","reasoning_content":"Let me think"},"finish_reason":"length""#),
        ),
    )
    .says("all of them for reasoning")
    .cure("raise `model.max_tokens`"),
];

//! An error in an answer of status 200.

use super::bodies::{error, said};
use crate::fault::{Every, Fault, answer, fail, pause, retry, stop, unreachable, unusable};

pub(super) const FAULTS: &[Fault] = &[
    unreachable(
        "error-inside-502",
        "bad_gateway",
        "200 with an `error` of code 502",
        answer(200, r#"{"error":{"message":"Provider returned error","code":502}}"#),
    )
    .seen_in("OpenRouter's documentation")
    .says("status 200 with an error: Provider returned error"),
    retry(
        "error-inside-500",
        "server_error",
        "200 with an `error` of code 500 beside `choices: []`",
        answer(200, r#"{"error":{"message":"Internal error","code":500},"choices":[]}"#),
    )
    .says("status 200 with an error: Internal error"),
    pause(
        "error-inside-429",
        "rate_limited",
        "200 with an `error` of code 429",
        answer(200, r#"{"error":{"message":"Rate limit exceeded","code":429}}"#),
    )
    .says("status 200 with an error: Rate limit exceeded"),
    pause(
        "error-inside-429-hint",
        "rate_limited",
        "200 with an `error` that says \"try again in 300ms\"",
        answer(
            200,
            error!("Rate limit exceeded, try again in 300ms", "requests", "rate_limit_exceeded"),
        ),
    )
    .hint_ms(300)
    .says("try again in 300ms"),
    stop(
        "error-inside-quota",
        "insufficient_quota",
        "200 with an `error` of code `insufficient_quota`",
        answer(200, error!("Quota used up", "insufficient_quota", "insufficient_quota")),
    )
    .says("status 200 with an error: Quota used up")
    .cure("top up the account"),
    stop(
        "error-inside-401",
        "unauthorized",
        "200 with an `error` of code 401",
        answer(200, r#"{"error":{"message":"No auth credentials found","code":401}}"#),
    )
    .says("No auth credentials found")
    .cure("model.api_key_env"),
    fail(
        "error-inside-context",
        "context_too_long",
        "200 with an `error` about the context length",
        answer(
            200,
            error!("maximum context length is 8192 tokens", "invalid_request_error", "context_length_exceeded"),
        ),
    )
    .says("maximum context length"),
    unusable(
        "error-inside-text",
        "provider_error",
        "200 whose `error` is a sentence",
        answer(200, r#"{"error":"something odd happened"}"#),
    )
    .says("status 200 with an error: something odd happened"),
    unusable(
        "error-inside-list",
        "provider_error",
        "200 whose `error` is a list",
        answer(200, r#"{"error":[{"message":"something odd happened"}],"choices":null}"#),
    )
    .says("something odd happened"),
    unusable(
        "error-inside-choice",
        "provider_error",
        "200 with half a text and `finish_reason: error`",
        answer(
            200,
            said!(r#""message":{"role":"assistant","content":"half"},"finish_reason":"error","error":{"code":502,"message":"upstream died"}"#),
        ),
    )
    .says("the answer was broken off: upstream died"),
    unusable(
        "error-inside-stream",
        "provider_error",
        "a stream that nobody asked for, with an error after half a text",
        answer(
            200,
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"}}]}\n\ndata: {\"error\":{\"message\":\"upstream died\",\"code\":502},\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}\n\n",
        ),
    )
    .says("the answer was broken off: upstream died")
    .every(Every::Breaker { rows: 20, each: 3 }),
];

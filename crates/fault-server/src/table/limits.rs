//! 429 and the wait that the endpoint asks for.

use super::bodies::{SLOW_DOWN, error};
use crate::fault::{Fault, answer, later, pause, retry, with};

const RATE_LIMITED: &str = "rate_limited";
const OVERLOADED: &str = "overloaded";

pub(super) const FAULTS: &[Fault] = &[
    pause("rate-limited", RATE_LIMITED, "429 without a body", answer(429, "")).says("status 429"),
    pause(
        "rate-limited-error",
        RATE_LIMITED,
        "429 with OpenAI's error and no hint",
        answer(429, SLOW_DOWN),
    )
    .says("status 429: Rate limit reached"),
    pause(
        "rate-limited-page",
        RATE_LIMITED,
        "429 with a page of HTML",
        answer(429, "<html><body>Too Many Requests</body></html>"),
    )
    .says("status 429: an HTML page"),
    pause(
        "retry-after-seconds",
        RATE_LIMITED,
        "429 with `Retry-After: 1`",
        with(429, &[("retry-after", "1")], SLOW_DOWN),
    )
    .seen_in("openai-python #957")
    .hint_ms(1000)
    .says("status 429"),
    pause(
        "retry-after-fraction",
        RATE_LIMITED,
        "429 with `Retry-After: 0.3`",
        with(429, &[("retry-after", "0.3")], SLOW_DOWN),
    )
    .hint_ms(300)
    .says("status 429"),
    pause(
        "retry-after-date",
        RATE_LIMITED,
        "429 with `Retry-After` as a date one second after its own `Date`; both clocks stand in 2015",
        with(
            429,
            &[
                ("date", "Wed, 21 Oct 2015 07:28:00 GMT"),
                ("retry-after", "Wed, 21 Oct 2015 07:28:01 GMT"),
            ],
            SLOW_DOWN,
        ),
    )
    .seen_in("azure-sdk-python #31004")
    .hint_ms(1000)
    .says("status 429"),
    pause(
        "retry-after-date-past",
        RATE_LIMITED,
        "429 with `Retry-After` as a date that is over",
        with(
            429,
            &[
                ("date", "Wed, 21 Oct 2015 07:28:00 GMT"),
                ("retry-after", "Wed, 21 Oct 2015 07:27:00 GMT"),
            ],
            SLOW_DOWN,
        ),
    )
    .says("status 429"),
    pause(
        "retry-after-ms",
        RATE_LIMITED,
        "429 with `retry-after-ms: 200`",
        with(429, &[("retry-after-ms", "200")], SLOW_DOWN),
    )
    .hint_ms(200)
    .says("status 429"),
    pause(
        "x-ms-retry-after-ms",
        RATE_LIMITED,
        "429 with `x-ms-retry-after-ms: 200` beside a rounded `Retry-After: 1`",
        with(
            429,
            &[("retry-after", "1"), ("x-ms-retry-after-ms", "200")],
            SLOW_DOWN,
        ),
    )
    .seen_in("azure-sdk-python #9240")
    .hint_ms(200)
    .says("status 429"),
    pause(
        "retry-after-word",
        RATE_LIMITED,
        "429 with `Retry-After: soon`, which counts as none",
        with(429, &[("retry-after", "soon")], SLOW_DOWN),
    )
    .says("status 429"),
    pause(
        "retry-after-zero",
        RATE_LIMITED,
        "429 with `Retry-After: 0`, which counts as none",
        with(429, &[("retry-after", "0")], SLOW_DOWN),
    )
    .says("status 429"),
    pause(
        "retry-after-negative",
        RATE_LIMITED,
        "429 with `Retry-After: -5`, which counts as none",
        with(429, &[("retry-after", "-5")], SLOW_DOWN),
    )
    .says("status 429"),
    pause(
        "retry-after-absurd",
        RATE_LIMITED,
        "429 with `Retry-After` of thirty years, which counts as none",
        with(429, &[("retry-after", "999999999")], SLOW_DOWN),
    )
    .says("status 429"),
    pause(
        "hint-in-text-milliseconds",
        RATE_LIMITED,
        "429 that says \"try again in 120ms\"",
        answer(
            429,
            error!(
                "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29821, Requested 240. Please try again in 120ms.",
                "tokens",
                "rate_limit_exceeded"
            ),
        ),
    )
    .seen_in("distilabel #1014")
    .hint_ms(120)
    .says("try again in 120ms"),
    pause(
        "hint-in-text-seconds",
        RATE_LIMITED,
        "429 of a minute's quota that says \"retry in 0.7s\"",
        answer(
            429,
            r#"[{"error":{"code":429,"message":"You exceeded your current quota, please check your plan. Please retry in 0.7s.","status":"RESOURCE_EXHAUSTED"}}]"#,
        ),
    )
    .seen_in("codex #797")
    .hint_ms(700)
    .says("retry in 0.7s"),
    pause(
        "hint-in-text-minutes",
        RATE_LIMITED,
        "429 that says \"try again in 7m12s\"",
        answer(
            429,
            error!(
                "Rate limit reached for requests. Please try again in 7m12s.",
                "requests",
                "rate_limit_exceeded"
            ),
        ),
    )
    .hint_ms(432_000)
    .says("try again in 7m12s"),
    pause(
        "hint-in-plain-text",
        RATE_LIMITED,
        "429 whose body is the sentence \"retry after 1 second\"",
        answer(429, "Too many requests, retry after 1 second"),
    )
    .hint_ms(1000)
    .says("status 429: Too many requests"),
    later(
        "wait-too-long",
        "429 with `Retry-After: 901`, longer than anybody sits through",
        with(429, &[("retry-after", "901")], SLOW_DOWN),
    )
    .hint_ms(901_000)
    .says("status 429"),
    later(
        "wait-too-long-in-text",
        "429 that says \"try again in 24h0m0s\"",
        answer(
            429,
            error!(
                "Rate limit reached. Please try again in 24h0m0s.",
                "requests",
                "rate_limit_exceeded"
            ),
        ),
    )
    .hint_ms(86_400_000)
    .says("try again in 24h0m0s"),
    later(
        "daily-limit",
        "429 of a limit of requests a day (RPD), with a short wait that does not help",
        answer(
            429,
            error!(
                "Rate limit reached for gpt-4o on requests per day (RPD): Limit 200, Used 200. Please try again in 7m12s.",
                "requests",
                "rate_limit_exceeded"
            ),
        ),
    )
    .hint_ms(432_000)
    .says("requests per day"),
    later(
        "daily-quota",
        "429 whose quota has `PerDay` in its name",
        answer(
            429,
            r#"{"error":{"code":429,"message":"Quota exceeded for metric GenerateRequestsPerDayPerProjectPerModel","status":"RESOURCE_EXHAUSTED"}}"#,
        ),
    )
    .seen_in("gemini-cli #10925")
    .says("Quota exceeded"),
    pause("overloaded-529", OVERLOADED, "529", answer(529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#))
        .seen_in("claude-code #23049")
        .says("status 529: Overloaded"),
    pause(
        "overloaded-503",
        OVERLOADED,
        "503 that says that the server is overloaded",
        answer(
            503,
            error!(
                "That model is currently overloaded with other requests.",
                "server_error",
                "overloaded"
            ),
        ),
    )
    .says("status 503: That model is currently overloaded"),
    pause(
        "slow-down",
        OVERLOADED,
        "503 with the code `slow_down`",
        answer(
            503,
            error!("Please reduce the rate of your requests.", "server_error", "slow_down"),
        ),
    )
    .says("status 503"),
    pause(
        "overloaded-pending",
        OVERLOADED,
        "503 of a server whose queue is full",
        answer(
            503,
            error!(
                "server busy, please try again. maximum pending requests exceeded",
                "api_error",
                "unavailable"
            ),
        ),
    )
    .seen_in("ollama")
    .says("status 503: server busy, please try again"),
    pause(
        "overloaded-slots",
        OVERLOADED,
        "503 of a server all of whose slots are taken",
        answer(
            503,
            r#"{"error":{"code":503,"message":"no slot available","type":"unavailable_error"}}"#,
        ),
    )
    .seen_in("llama.cpp")
    .says("status 503: no slot available"),
    pause(
        "overloaded-queue",
        OVERLOADED,
        "503 with plain text: the queue is full",
        answer(503, "Request queue is full"),
    )
    .says("status 503: Request queue is full"),
    pause(
        "overloaded-with-retry-after",
        OVERLOADED,
        "529 with `Retry-After: 1`",
        with(529, &[("retry-after", "1")], ""),
    )
    .hint_ms(1000)
    .says("status 529"),
    retry(
        "unavailable-with-retry-after",
        "unavailable",
        "503 with `Retry-After: 1`",
        with(503, &[("retry-after", "1")], ""),
    )
    .hint_ms(1000)
    .says("status 503")
    .every(crate::fault::Every::Outage(3)),
];

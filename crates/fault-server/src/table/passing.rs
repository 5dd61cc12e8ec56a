//! Faults that pass.

use super::bodies::{PAGE, error};
use crate::fault::{Fault, answer, retry, unreachable};

const GATEWAY: &str = "gateway_error";

pub(super) const FAULTS: &[Fault] = &[
    retry("request-timeout", "request_timeout", "408", answer(408, "")).says("status 408"),
    retry("conflict", "conflict", "409", answer(409, "")).says("status 409"),
    retry("too-early", "too_early", "425", answer(425, "")).says("status 425"),
    retry(
        "server-error",
        "server_error",
        "500 with OpenAI's error",
        answer(
            500,
            error!(
                "The server had an error while processing your request",
                "server_error", "server_error"
            ),
        ),
    )
    .seen_in("AutoGPT #944")
    .says("status 500: The server had an error"),
    retry(
        "server-error-text",
        "server_error",
        "500 with plain text",
        answer(500, "Internal Server Error"),
    )
    .says("status 500: Internal Server Error"),
    retry(
        "server-error-page",
        "server_error",
        "500 with a page of HTML",
        answer(500, PAGE),
    )
    .says("status 500: an HTML page"),
    unreachable(
        "bad-gateway",
        "bad_gateway",
        "502 with the page of a proxy",
        answer(502, PAGE),
    )
    .seen_in("litellm #833")
    .says("status 502: an HTML page"),
    unreachable(
        "unavailable",
        "unavailable",
        "503 without a body",
        answer(503, ""),
    )
    .says("status 503"),
    unreachable(
        "unavailable-loading",
        "unavailable",
        "503 of a local server that loads its model",
        answer(
            503,
            r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
        ),
    )
    .says("status 503: Loading model"),
    unreachable(
        "gateway-timeout",
        "gateway_timeout",
        "504 with plain text",
        answer(504, "upstream request timeout"),
    )
    .says("status 504: upstream request timeout"),
    unreachable("gateway-520", GATEWAY, "520", answer(520, "")).says("status 520"),
    unreachable("gateway-521", GATEWAY, "521", answer(521, PAGE)).says("status 521"),
    unreachable("gateway-522", GATEWAY, "522", answer(522, "")).says("status 522"),
    unreachable("gateway-523", GATEWAY, "523", answer(523, "")).says("status 523"),
    unreachable(
        "gateway-524",
        GATEWAY,
        "524",
        answer(524, "error code: 524"),
    )
    .says("status 524"),
    retry(
        "unknown-5xx",
        "unknown_status",
        "599, which nobody knows",
        answer(599, ""),
    )
    .says("status 599"),
];

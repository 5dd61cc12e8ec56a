//! Key, address, model and parameters are wrong for every row.

use super::bodies::error;
use crate::fault::{Fault, answer, stop, with};

const KEY: &str = "model.api_key_env";
const MODEL: &str = "model.model";
const ADDRESS: &str = "model.base_url";

pub(super) const FAULTS: &[Fault] = &[
    stop("unauthorized", "unauthorized", "401 without a body", answer(401, ""))
        .seen_in("OpenAI's guide")
        .says("status 401")
        .cure(KEY),
    stop(
        "invalid-api-key",
        "unauthorized",
        "401 with the code `invalid_api_key`",
        answer(
            401,
            error!("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
        ),
    )
    .says("status 401: Incorrect API key")
    .cure(KEY),
    stop(
        "api-key-not-valid",
        "unauthorized",
        "400 that says that the key is not valid",
        answer(
            400,
            r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#,
        ),
    )
    .says("status 400: API key not valid")
    .cure(KEY),
    stop("forbidden", "forbidden", "403 without a body", answer(403, ""))
        .says("status 403")
        .cure(MODEL),
    stop(
        "forbidden-page",
        "forbidden",
        "403 with a page of HTML from a firewall",
        answer(403, "<!DOCTYPE html><title>Attention Required!</title>"),
    )
    .says("status 403: an HTML page")
    .cure(ADDRESS),
    stop("not-found", "not_found", "404 without a body", answer(404, ""))
        .says("status 404")
        .cure(ADDRESS),
    stop(
        "not-found-detail",
        "not_found",
        "404 with FastAPI's `detail`",
        answer(404, r#"{"detail":"Not Found"}"#),
    )
    .says("status 404: Not Found")
    .cure(ADDRESS),
    stop(
        "not-found-page",
        "not_found",
        "404 with a page of HTML",
        answer(404, "<html><body>404</body></html>"),
    )
    .says("status 404: an HTML page")
    .cure(ADDRESS),
    stop(
        "model-not-found",
        "model_not_found",
        "404 with the code `model_not_found`",
        answer(
            404,
            error!(
                "The model `gpt-9` does not exist or you do not have access to it.",
                "invalid_request_error",
                "model_not_found"
            ),
        ),
    )
    .says("status 404: The model `gpt-9` does not exist")
    .cure(MODEL),
    stop(
        "model-not-pulled",
        "model_not_found",
        "404 of a local server that has not loaded the model",
        answer(404, r#"{"error":"model 'qwen' not found, try pulling it first"}"#),
    )
    .says("status 404: model 'qwen' not found")
    .cure(MODEL),
    stop(
        "model-not-found-400",
        "model_not_found",
        "400 about a model that does not exist",
        answer(
            400,
            r#"{"error":{"message":"Model Not Exist","type":"invalid_request_error","param":"model"}}"#,
        ),
    )
    .says("status 400: Model Not Exist")
    .cure(MODEL),
    stop(
        "model-not-found-flat",
        "model_not_found",
        "404 with vLLM's error, which is the object itself",
        answer(
            404,
            r#"{"object":"error","message":"The model `x` does not exist.","type":"NotFoundError","param":null,"code":404}"#,
        ),
    )
    .says("status 404: The model `x` does not exist")
    .cure(MODEL),
    stop(
        "max-tokens-unsupported",
        "unsupported_parameter",
        "400: `max_tokens` is not supported, `max_completion_tokens` is",
        answer(
            400,
            r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}"#,
        ),
    )
    .seen_in("opencode #37964")
    .says("'max_tokens' is not supported")
    .cure("set `model.max_tokens: null` and `model.extra.max_completion_tokens`"),
    stop(
        "temperature-unsupported",
        "unsupported_parameter",
        "400: `temperature` does not support this value",
        answer(
            400,
            r#"{"error":{"message":"Unsupported value: 'temperature' does not support 0.7 with this model.","type":"invalid_request_error","param":"temperature","code":"unsupported_value"}}"#,
        ),
    )
    .says("'temperature' does not support 0.7")
    .cure("set `model.temperature: null`"),
    stop(
        "system-message-unsupported",
        "unsupported_parameter",
        "400: the model takes no system message",
        answer(
            400,
            r#"{"error":{"message":"Unsupported value: 'messages[0].role' does not support 'system' with this model.","type":"invalid_request_error","param":"messages[0].role","code":"unsupported_value"}}"#,
        ),
    )
    .says("does not support 'system'")
    .cure("prompts.system_prompt_path: null"),
    stop(
        "argument-unrecognized",
        "unsupported_parameter",
        "400: a field of `model.extra` is not known",
        answer(
            400,
            r#"{"error":{"message":"Unrecognized request argument supplied: top_k","type":"invalid_request_error","param":null,"code":null}}"#,
        ),
    )
    .says("Unrecognized request argument supplied: top_k")
    .cure("take `top_k` out of `model.extra`"),
    stop(
        "extra-inputs-forbidden",
        "unsupported_parameter",
        "400: extra inputs are not permitted",
        answer(
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"top_n: Extra inputs are not permitted"}}"#,
        ),
    )
    .says("Extra inputs are not permitted")
    .cure("model.extra"),
    stop("method-not-allowed", "wrong_endpoint", "405", answer(405, r#"{"detail":"Method Not Allowed"}"#))
        .says("status 405: Method Not Allowed")
        .cure(ADDRESS),
    stop("not-implemented", "wrong_endpoint", "501", answer(501, ""))
        .says("status 501")
        .cure(ADDRESS),
    stop("version-not-supported", "wrong_endpoint", "505", answer(505, ""))
        .says("status 505")
        .cure(ADDRESS),
    stop(
        "redirect-301",
        "redirect",
        "301 to another origin: a redirect is never followed, for a key goes to one origin only",
        with(301, &[("location", "https://elsewhere.invalid/v1?token=hidden")], ""),
    )
    .seen_in("CVE-2022-27774")
    .says("a redirect to https://elsewhere.invalid/v1, which is never followed")
    .cure(ADDRESS),
    stop(
        "redirect-302",
        "redirect",
        "302 to a page for logging in",
        with(302, &[("location", "/login")], ""),
    )
    .says("a redirect to /login")
    .cure(ADDRESS),
    stop("redirect-304", "redirect", "304, which nobody asked for", answer(304, ""))
        .says("status 304")
        .cure(ADDRESS),
    stop(
        "redirect-307",
        "redirect",
        "307, which would send prompt and key again",
        with(307, &[("location", "https://elsewhere.invalid/v1/chat/completions")], ""),
    )
    .seen_in("openai-python #3516")
    .says("status 307: a redirect")
    .cure(ADDRESS),
    stop(
        "redirect-308",
        "redirect",
        "308 to https on the same host",
        with(308, &[("location", "https://127.0.0.1/v1/chat/completions")], ""),
    )
    .says("status 308: a redirect")
    .cure(ADDRESS),
];

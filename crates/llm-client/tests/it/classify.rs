//! What each answer of the endpoint means.

use std::time::Duration;

use data_generation_llm_client::{
    Answer, Budget, ClassifyOptions, Headers, TransportError, TransportKind, Verdict, classify,
};

fn verdict(status: u16, body: &str, headers: &[(&str, &str)]) -> Verdict {
    let mut answer = Answer::from_body(status, body);
    answer.headers = Headers::from_pairs(headers.iter().copied());
    classify(&Ok(answer), &ClassifyOptions::default())
}

/// `R class`, `P class`, `F class`, `X class`, `later`, `ok`: the disposition in a few letters.
fn short(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Usable(_) => "ok".into(),
        Verdict::Retry {
            class,
            budget: Budget::Attempts,
            ..
        } => format!("R {class}"),
        Verdict::Retry { class, budget, .. } => format!("R {class} {budget:?}"),
        Verdict::Pause {
            class, hint: None, ..
        } => format!("P {class}"),
        Verdict::Pause {
            class,
            hint: Some(wait),
            ..
        } => format!("P {class} {wait:?}"),
        Verdict::FailRow { class, .. } => format!("F {class}"),
        Verdict::StopRun { class, .. } => format!("X {class}"),
        Verdict::Later { wait, .. } => format!("later {wait:?}"),
        _ => "?".into(),
    }
}

#[track_caller]
fn check(status: u16, body: &str, expected: &str) {
    assert_eq!(
        short(&verdict(status, body, &[])),
        expected,
        "{status} {body}"
    );
}

#[test]
fn a_status_alone_has_its_meaning() {
    for (status, expected) in [
        (301, "X redirect"),
        (304, "X redirect"),
        (400, "F bad_request"),
        (401, "X unauthorized"),
        (402, "X payment_required"),
        (403, "X forbidden"),
        (404, "X not_found"),
        (405, "X wrong_endpoint"),
        (408, "R request_timeout"),
        (409, "R conflict"),
        (413, "F context_too_long"),
        (418, "F unknown_status"),
        (422, "F unprocessable"),
        (425, "R too_early"),
        (429, "P rate_limited"),
        (500, "R server_error"),
        (501, "X wrong_endpoint"),
        (502, "R bad_gateway"),
        (503, "R unavailable"),
        (504, "R gateway_timeout"),
        (505, "X wrong_endpoint"),
        (520, "R gateway_error"),
        (524, "R gateway_error"),
        (529, "P overloaded"),
        (599, "R unknown_status"),
        (100, "R unknown_status"),
    ] {
        check(status, "", expected);
        if status != 503 {
            check(status, "<html><body>nginx</body></html>", expected);
        }
    }
}

#[test]
fn what_is_said_beats_the_status() {
    check(
        429,
        r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#,
        "X insufficient_quota",
    );
    check(
        429,
        r#"{"error":{"message":"x","type":"insufficient_quota","code":null}}"#,
        "X insufficient_quota",
    );
    check(
        400,
        r#"{"error":{"message":"Your credit balance is too low to access the API"}}"#,
        "X insufficient_quota",
    );
    check(
        403,
        r#"{"error":{"code":"Arrearage","message":"Access denied"}}"#,
        "X insufficient_quota",
    );
    check(
        400,
        r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key."}}]"#,
        "X unauthorized",
    );
    check(
        400,
        r#"{"error":{"message":"The model `gpt-9` does not exist","param":"model"}}"#,
        "X model_not_found",
    );
    check(
        404,
        r#"{"error":{"message":"model 'x' not found, try pulling it first"}}"#,
        "X model_not_found",
    );
    check(404, r#"{"detail":"Not Found"}"#, "X not_found");
    check(
        403,
        r#"{"error":{"code":403,"message":"Your input was flagged","metadata":{"reasons":["violence"]}}}"#,
        "F content_filter",
    );
    check(
        400,
        r#"{"error":{"message":"The response was filtered due to Azure's content management policy","code":"content_filter"}}"#,
        "F content_filter",
    );
    check(
        400,
        r#"{"error":{"message":"This model's maximum context length is 4096 tokens","code":"context_length_exceeded"}}"#,
        "F context_too_long",
    );
    check(
        400,
        r#"{"object":"error","message":"maximum context length is 10","code":400}"#,
        "F context_too_long",
    );
    check(
        503,
        r#"{"error":{"message":"The server is overloaded","type":"overloaded_error"}}"#,
        "P overloaded",
    );
    check(503, r#"{"error":{"code":"slow_down"}}"#, "P overloaded");
    // Gemini: a limit a minute in the words of an empty account, but with a wait.
    check(
        429,
        r#"{"error":{"code":429,"message":"You exceeded your current quota. Please retry in 34.5s.","status":"RESOURCE_EXHAUSTED"}}"#,
        "P rate_limited 34.5s",
    );
    check(
        429,
        r#"{"error":{"message":"Rate limit reached on requests per day (RPD). Please try again in 7m12s."}}"#,
        "later Some(432s)",
    );
    check(429, "try again in 120ms", "P rate_limited 120ms");
}

#[test]
fn a_wait_is_taken_from_headers_and_a_long_one_ends_the_run() {
    let wait = |status, header: &str| short(&verdict(status, "", &[("retry-after", header)]));
    assert_eq!(wait(429, "7"), "P rate_limited 7s");
    assert_eq!(wait(429, "-7"), "P rate_limited");
    assert_eq!(wait(429, "901"), "later Some(901s)");
    assert_eq!(wait(402, "5"), "P payment_required 5s");
    assert_eq!(wait(503, "3600"), "later Some(3600s)");
    let Verdict::Retry { hint, .. } = verdict(503, "", &[("retry-after", "30")]) else {
        panic!()
    };
    assert_eq!(hint, Some(Duration::from_secs(30)));
}

#[test]
fn an_unsupported_parameter_is_named_with_its_cure() {
    let cure = |body: &str| match verdict(400, body, &[]) {
        Verdict::StopRun {
            class: "unsupported_parameter",
            cure,
            ..
        } => cure,
        other => panic!("{other:?}"),
    };
    let openai = r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}"#;
    insta::assert_snapshot!(cure(openai), @"set `model.max_tokens: null` and `model.extra.max_completion_tokens` instead");
    let without_param =
        r#"{"error":"Unsupported parameter: 'max_tokens' is not supported with this model."}"#;
    assert_eq!(cure(without_param), cure(openai));
    let temperature = r#"{"error":{"message":"Unsupported value: 'temperature' does not support 0.7","param":"temperature","code":"unsupported_value"}}"#;
    insta::assert_snapshot!(cure(temperature), @"set `model.temperature: null`");
    let role = r#"{"error":{"message":"Unsupported value: 'messages[0].role' does not support 'system' with this model.","param":"messages[0].role","code":"unsupported_value"}}"#;
    insta::assert_snapshot!(cure(role), @"this model may take no system message; set `prompts.system_prompt_path: null`");
    let other = r#"{"error":{"message":"Unrecognized request argument supplied: top_k"}}"#;
    insta::assert_snapshot!(cure(other), @"take `top_k` out of `model.extra`");
}

#[test]
fn an_error_inside_a_200_is_classified_by_what_it_says() {
    check(
        200,
        r#"{"error":{"message":"Provider returned error","code":502}}"#,
        "R bad_gateway",
    );
    check(
        200,
        r#"{"error":{"message":"Rate limit exceeded","code":429}}"#,
        "P rate_limited",
    );
    check(
        200,
        r#"{"error":{"message":"Rate limit exceeded"},"choices":null}"#,
        "P rate_limited",
    );
    check(
        200,
        r#"{"error":{"code":"insufficient_quota","message":"x"}}"#,
        "X insufficient_quota",
    );
    check(
        200,
        r#"{"error":"something odd"}"#,
        "R provider_error Unusable",
    );
    check(
        200,
        r#"{"choices":[{"message":{"content":"half"},"finish_reason":"error","error":{"code":502,"message":"upstream"}}]}"#,
        "R provider_error Unusable",
    );
    check(
        200,
        r#"{"error":null,"choices":[{"message":{"content":"good"},"finish_reason":"stop"}]}"#,
        "ok",
    );
}

#[test]
fn a_paid_answer_that_is_none_is_asked_again_within_its_budget() {
    for (body, expected) in [
        ("", "R empty_body Unusable"),
        ("  \n", "R empty_body Unusable"),
        (
            "<!DOCTYPE html><title>Log in</title>",
            "R html_answer Unusable",
        ),
        (
            r#"{"choices":[{"message":{"content":"cut sh"#,
            "R answer_cut_short Unusable",
        ),
        ("Bad Gateway", "R not_json Unusable"),
        (r#"{"choices":null}"#, "R no_choices Unusable"),
        (r#"{"choices":[]}"#, "R no_choices Unusable"),
        (r#"{"id":"x"}"#, "R no_choices Unusable"),
        ("42", "R not_json Unusable"),
        (
            r#"{"choices":[{"message":{"content":null},"finish_reason":"stop"}]}"#,
            "R empty_answer Empty",
        ),
        (
            r#"{"choices":[{"message":{"content":" \n"},"finish_reason":"stop"}]}"#,
            "R empty_answer Empty",
        ),
        (
            r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"1"}]},"finish_reason":"tool_calls"}]}"#,
            "R empty_answer Empty",
        ),
        (
            r#"{"choices":[{"message":{"content":{"a":1}},"finish_reason":"stop"}]}"#,
            "R odd_content Unusable",
        ),
    ] {
        check(200, body, expected);
    }
    let utf8 = classify(
        &Ok(Answer::from_body(200, b"{\"a\":\"\xff\"}".to_vec())),
        &ClassifyOptions::default(),
    );
    assert_eq!(short(&utf8), "R invalid_utf8 Empty");
}

#[test]
fn a_row_that_cannot_be_answered_keeps_what_the_model_wrote() {
    let failed = |body: &str| match verdict(200, body, &[]) {
        Verdict::FailRow {
            class,
            message,
            text,
        } => (class, message, text.unwrap_or_default()),
        other => panic!("{other:?}"),
    };
    let cut = failed(
        r#"{"choices":[{"message":{"content":"<think>a</think>once upon"},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":16,"total_tokens":19}}"#,
    );
    assert_eq!(
        (cut.0, cut.2.as_str()),
        ("cut_at_max_tokens", "<think>a</think>once upon")
    );
    insta::assert_snapshot!(cut.1, @"the answer was cut after 16 tokens; raise `model.max_tokens`");
    let filtered =
        failed(r#"{"choices":[{"message":{"content":"half"},"finish_reason":"content_filter"}]}"#);
    assert_eq!(
        (filtered.0, filtered.2.as_str()),
        ("content_filter", "half")
    );
    let refusal = failed(
        r#"{"choices":[{"message":{"content":null,"refusal":"I can't\nhelp"},"finish_reason":"stop"}]}"#,
    );
    assert_eq!(
        (refusal.0, refusal.2.as_str()),
        ("refusal", "I can't\nhelp")
    );
    insta::assert_snapshot!(refusal.1, @"the model refused: I can't help");
}

#[test]
fn a_lost_request_is_sent_again_except_where_nobody_can_be_there() {
    let lost = |kind, succeeded_before| {
        let options = ClassifyOptions {
            succeeded_before,
            ..ClassifyOptions::default()
        };
        short(&classify(&Err(TransportError::new(kind, "x")), &options))
    };
    for (kind, first, later) in [
        (TransportKind::Dns, "X dns", "R dns"),
        (TransportKind::Tls, "X tls", "R tls"),
        (
            TransportKind::Certificate,
            "X bad_certificate",
            "X bad_certificate",
        ),
        (TransportKind::Connect, "R connect", "R connect"),
        (
            TransportKind::IdleTimeout,
            "R idle_timeout",
            "R idle_timeout",
        ),
        (
            TransportKind::NotProcessed,
            "R not_processed Free",
            "R not_processed Free",
        ),
        (
            TransportKind::TooLarge,
            "F answer_too_large",
            "F answer_too_large",
        ),
        (TransportKind::Row, "F model_error", "F model_error"),
    ] {
        assert_eq!(lost(kind, false), first);
        assert_eq!(lost(kind, true), later);
    }
}

#[test]
fn every_message_is_one_short_line() {
    let long = "very\n\u{1b}[31m long \u{202e}".repeat(500);
    for status in [200, 400, 401, 422, 429, 500, 529] {
        let body = serde_json::json!({"error": {"message": long, "code": 1}}).to_string();
        let text = format!("{:?}", verdict(status, &body, &[]));
        assert!(text.len() < 700, "{} bytes", text.len());
        assert!(
            !text.contains("\\u{1b}") && !text.contains("\\n") && !text.contains("202e"),
            "{text}"
        );
    }
}

//! Nobody pays.

use super::bodies::error;
use crate::fault::{Fault, answer, pause, stop, with};

const QUOTA: &str = "insufficient_quota";
const TOP_UP: &str = "top up the account";

pub(super) const FAULTS: &[Fault] = &[
    stop(
        "insufficient-quota",
        QUOTA,
        "429 with the code `insufficient_quota`, which beats the status",
        answer(
            429,
            error!(
                "You exceeded your current quota, please check your plan and billing details.",
                "insufficient_quota",
                "insufficient_quota"
            ),
        ),
    )
    .seen_in("langchainjs #1929")
    .says("status 429: You exceeded your current quota")
    .cure(TOP_UP),
    stop(
        "insufficient-quota-retry-after",
        QUOTA,
        "429 with the code `insufficient_quota` and a `Retry-After` that is not true",
        with(
            429,
            &[("retry-after", "1")],
            error!("You exceeded your current quota.", "insufficient_quota", "insufficient_quota"),
        ),
    )
    .seen_in("codex PR #6340")
    .says("status 429")
    .cure(TOP_UP),
    stop(
        "insufficient-quota-type",
        QUOTA,
        "429 that has `insufficient_quota` as its type and no code",
        answer(
            429,
            r#"{"error":{"message":"Quota used up","type":"insufficient_quota","code":null}}"#,
        ),
    )
    .says("status 429: Quota used up")
    .cure(TOP_UP),
    stop(
        "quota-in-words",
        QUOTA,
        "429 that has it in its words only",
        answer(429, r#"{"error":"You exceeded your current quota, please check your plan"}"#),
    )
    .says("status 429: You exceeded")
    .cure(TOP_UP),
    stop(
        "billing-hard-limit",
        QUOTA,
        "400 with the code `billing_hard_limit_reached`",
        answer(
            400,
            error!(
                "Billing hard limit has been reached",
                "invalid_request_error",
                "billing_hard_limit_reached"
            ),
        ),
    )
    .says("status 400: Billing hard limit")
    .cure(TOP_UP),
    stop(
        "credit-balance-too-low",
        QUOTA,
        "400 that says that the credit balance is too low",
        answer(
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}"#,
        ),
    )
    .says("status 400: Your credit balance is too low")
    .cure(TOP_UP),
    stop(
        "arrearage",
        QUOTA,
        "403 with the code `Arrearage`",
        answer(403, r#"{"error":{"code":"Arrearage","message":"Access denied."}}"#),
    )
    .says("status 403: Access denied")
    .cure(TOP_UP),
    stop(
        "user-quota",
        QUOTA,
        "403 with the code `insufficient_user_quota` of a relay",
        answer(
            403,
            r#"{"error":{"message":"用户额度不足","type":"new_api_error","code":"insufficient_user_quota"}}"#,
        ),
    )
    .says("status 403: 用户额度不足")
    .cure(TOP_UP),
    stop(
        "balance-in-chinese",
        QUOTA,
        "429 that says 余额不足",
        answer(429, r#"{"error":{"code":"1113","message":"您的账户余额不足,请充值"}}"#),
    )
    .says("余额不足")
    .cure(TOP_UP),
    stop(
        "insufficient-balance",
        QUOTA,
        "402 that says that the balance is insufficient",
        answer(
            402,
            error!("Insufficient Balance", "unknown_error", "invalid_request_error"),
        ),
    )
    .seen_in("DeepSeek")
    .says("status 402: Insufficient Balance")
    .cure(TOP_UP),
    stop(
        "payment-required",
        "payment_required",
        "402 without more",
        answer(402, ""),
    )
    .seen_in("OpenRouter")
    .says("status 402")
    .cure(TOP_UP),
    pause(
        "payment-required-retry-after",
        "payment_required",
        "402 with `Retry-After: 1`",
        with(402, &[("retry-after", "1")], ""),
    )
    .hint_ms(1000)
    .says("status 402"),
];

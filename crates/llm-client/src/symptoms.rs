use std::time::Duration;

use crate::failure::Failure;

/// No request has a longer parameter; a longer word is none, and must not fill a message.
const LONGEST_NAME: usize = 64;

/// What an endpoint's words and codes point to, whatever status it chose for them.
impl Failure {
    /// The status that a 200 with an error should have had, told from its code and words; 0 when they do not tell.
    pub(crate) fn implied_status(&self) -> u16 {
        match self {
            _ if self.is_out_of_money(None) => 402,
            _ if self.is_bad_key() => 401,
            _ if self.says(&[
                "rate_limit",
                "rate limit",
                "too many requests",
                "resource_exhausted",
            ]) =>
            {
                429
            }
            _ if self.is_overloaded() => 529,
            _ if self.is_unknown_model() => 404,
            _ if self.is_content_filter() || self.is_too_long() || self.is_unsupported() => 400,
            _ => 0,
        }
    }

    pub(crate) fn is_out_of_money(&self, hint: Option<Duration>) -> bool {
        let codes = [
            "insufficient_quota",
            "billing_hard_limit_reached",
            "billing_not_active",
            "insufficient_balance",
            "insufficient_credits",
            "insufficient_user_quota",
            "credit_balance_too_low",
            "exceeded_current_quota_error",
            "account_deactivated",
            "arrearage",
            "accountoverdueerror",
        ];
        let words = [
            "insufficient balance",
            "insufficient credit",
            "credit balance is too low",
            "余额不足",
            "欠费",
        ];
        // Gemini says "you exceeded your current quota" of a limit a minute too, but then adds how long to wait.
        self.has_code(&codes)
            || self.says(&words)
            || (hint.is_none()
                && !self.has_code(&["resource_exhausted"])
                && self.says(&["exceeded your current quota"]))
    }

    pub(crate) fn is_bad_key(&self) -> bool {
        self.has_code(&[
            "invalid_api_key",
            "authentication_error",
            "unauthenticated",
            "invalid_authentication_error",
        ]) || self.says(&["api key not valid", "invalid api key", "incorrect api key"])
    }

    pub(crate) fn is_unknown_model(&self) -> bool {
        let missing = [
            "does not exist",
            "not found",
            "not exist",
            "no such model",
            "unknown model",
            "is not a valid model",
        ];
        self.has_code(&["model_not_found", "model_not_exist", "invalid_model"])
            || (self.says(&["model"])
                && self.says(&missing)
                && self.param.as_deref().is_none_or(|param| param == "model"))
    }

    pub(crate) fn is_content_filter(&self) -> bool {
        self.has_code(&[
            "content_filter",
            "content_policy_violation",
            "moderation_blocked",
            "data_inspection_failed",
        ]) || self.says(&[
            "content_filter",
            "content filter",
            "content policy",
            "content management policy",
            "moderation",
            "flagged",
            "safety system",
            "safety filter",
            "inappropriate content",
            "content exists risk",
        ])
    }

    pub(crate) fn is_too_long(&self) -> bool {
        self.has_code(&[
            "context_length_exceeded",
            "exceed_context_size_error",
            "string_above_max_length",
            "request_too_large",
        ]) || self.says(&[
            "context length",
            "context window",
            "context size",
            "maximum context",
            "prompt is too long",
            "input is too long",
            "too many tokens",
            "too many input tokens",
            "reduce the length",
        ])
    }

    pub(crate) fn is_unsupported(&self) -> bool {
        self.has_code(&[
            "unsupported_parameter",
            "unsupported_value",
            "unknown_parameter",
        ]) || self.says(&[
            "unsupported parameter",
            "unsupported value",
            "unrecognized request argument",
            "unknown parameter",
            "unknown name",
            "is not supported with this model",
            "does not support parameter",
            "extra inputs are not permitted",
        ])
    }

    pub(crate) fn is_overloaded(&self) -> bool {
        self.says(&[
            "overload",
            "slow_down",
            "slow down",
            "at capacity",
            "too busy",
            "server busy",
            "server is busy",
            "currently busy",
            "model is busy",
            "no slot available",
            "no slots available",
            "no available slot",
            "maximum pending requests",
            "too many pending requests",
            "too many concurrent requests",
            "maximum concurrent requests",
            "queue is full",
            "queue full",
        ])
    }

    /// One request alone is above the limit of a minute: it never fits, however long anybody waits.
    pub(crate) fn is_request_too_large(&self) -> bool {
        self.says(&["request too large", "request is too large"])
    }

    pub(crate) fn is_daily_limit(&self) -> bool {
        self.says(&[
            "per day",
            "per-day",
            "perday",
            "daily limit",
            "daily quota",
            "(rpd)",
            "(tpd)",
        ])
    }

    /// The parameter that was refused: named by the endpoint, or between quotes in its words.
    pub(crate) fn parameter(&self) -> Option<&str> {
        let is_name = |name: &&str| {
            (1..=LONGEST_NAME).contains(&name.len())
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_.[]".contains(c))
        };
        let quoted = || {
            self.words()
                .split(['\'', '"', '`'])
                .skip(1)
                .step_by(2)
                .find(is_name)
        };
        let after_colon = || {
            self.words()
                .rsplit_once(": ")
                .map(|(_, name)| name.trim_end_matches('.'))
        };
        self.param
            .as_deref()
            .filter(is_name)
            .or_else(quoted)
            .or_else(|| after_colon().filter(is_name))
    }
}

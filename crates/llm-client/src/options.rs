use std::num::NonZeroUsize;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::LimitOptions;

/// How a [`Client`](crate::Client) paces and repeats its requests.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Requests at the same time, at most.
    pub concurrency: NonZeroUsize,
    /// Begin with few, and find out how many requests at the same time, up to `concurrency`, give the most
    /// throughput. Else there are always as many, but for pauses.
    pub adaptive: bool,
    /// What may be sent in any stretch of time.
    pub limits: LimitOptions,
    /// When and how often a request is sent again.
    pub retry: RetryOptions,
    /// How long an endpoint that has answered before is waited for when nobody is there any more (15
    /// minutes, without those in which the client is [held](crate::Client::hold)); then the run ends with "come back
    /// later".
    pub max_outage: Duration,
    /// What becomes of an inline think block.
    pub reasoning: ReasoningPolicy,
}

impl Default for ClientOptions {
    /// Five requests at the same time, no limits.
    fn default() -> ClientOptions {
        ClientOptions {
            concurrency: NonZeroUsize::MIN.saturating_add(4),
            adaptive: false,
            limits: LimitOptions::default(),
            retry: RetryOptions::default(),
            max_outage: Duration::from_secs(900),
            reasoning: ReasoningPolicy::default(),
        }
    }
}

/// When and how often a request is sent again. Every repeat takes its own permit of the rate limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryOptions {
    /// Requests for one row, the first included, that may end in a fault of server or network (6).
    /// Requests that the endpoint only put off (429, overloaded) are not counted.
    pub max_attempts: u32,
    /// Repeats after an answer that was paid for but cannot be read (2).
    pub unusable_retries: u32,
    /// Repeats after an answer that was paid for but is empty (1).
    pub empty_retries: u32,
    /// Seconds; the upper end of the first random wait, doubled for each further one (1).
    pub base_delay_s: f64,
    /// Seconds; no random wait is longer (60).
    pub max_delay_s: f64,
    /// Seconds from a row's first request until it is given up (3600), but for the time in which the endpoint was away
    /// or the client [held](crate::Client::hold).
    pub max_row_s: u64,
    /// Seconds; an endpoint that asks for a longer pause ends the run with "come back later" (900).
    pub max_pause_s: u64,
}

impl Default for RetryOptions {
    fn default() -> RetryOptions {
        RetryOptions {
            max_attempts: 6,
            unusable_retries: 2,
            empty_retries: 1,
            base_delay_s: 1.0,
            max_delay_s: 60.0,
            max_row_s: 3600,
            max_pause_s: 900,
        }
    }
}

/// What becomes of a think block at the very start of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningPolicy {
    /// It is taken off the text and kept in [`Reply::reasoning`](crate::Reply::reasoning).
    #[default]
    Split,
    /// It stays in the text.
    Keep,
}

/// What an [`OpenAi`](crate::OpenAi) model asks, and where.
#[derive(Debug, Clone)]
pub struct OpenAiOptions {
    /// The endpoint up to and without `/chat/completions`, such as `https://api.openai.com/v1`.
    pub base_url: String,
    /// Sent as `Authorization: Bearer ...`; `None` or empty: no such header.
    pub api_key: Option<SecretString>,
    /// Further request headers.
    pub headers: Vec<(String, SecretString)>,
    /// The model's name.
    pub model: String,
    /// Tokens of an answer, at most; `None`: not sent.
    pub max_tokens: Option<u32>,
    /// Sampling temperature; `None`: not sent.
    pub temperature: Option<f64>,
    /// Further fields of the request body, sent as they are.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// Whether secrets may leave this machine unencrypted.
    pub allow_http: bool,
    /// How long to wait for the endpoint.
    pub timeouts: Timeouts,
    /// Connections that are kept open, at most.
    pub concurrency: usize,
    /// Whether it is looked at from the beginning how long connections take, for
    /// [`Model::lateness`](crate::Model::lateness) (`true`). Each request copies the connector for it; otherwise that
    /// begins, with new connections, when it is first asked.
    pub times_connections: bool,
}

impl OpenAiOptions {
    /// A model of an endpoint, without a key and with the defaults for the rest.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> OpenAiOptions {
        OpenAiOptions {
            base_url: base_url.into(),
            api_key: None,
            headers: Vec::new(),
            model: model.into(),
            max_tokens: None,
            temperature: None,
            extra: serde_json::Map::new(),
            allow_http: false,
            timeouts: Timeouts::default(),
            concurrency: 5,
            times_connections: true,
        }
    }
}

/// How long to wait for an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included (10 s).
    pub connect: Duration,
    /// For the next byte of an answer, the first one included (300 s).
    pub idle: Duration,
    /// For the whole answer, however steadily it comes (600 s).
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            total: Duration::from_secs(600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_options_are_read_by_name_and_an_unknown_name_is_refused() {
        let options: RetryOptions = serde_json::from_str(r#"{"max_attempts": 3}"#).unwrap();
        assert_eq!(
            options,
            RetryOptions {
                max_attempts: 3,
                ..RetryOptions::default()
            }
        );
        let error = serde_json::from_str::<RetryOptions>(r#"{"attempts": 3}"#).unwrap_err();
        assert!(
            error.to_string().contains("unknown field `attempts`"),
            "{error}"
        );
    }

    #[test]
    fn debug_of_the_options_shows_no_secret() {
        let mut options = OpenAiOptions::new("http://localhost/v1", "m");
        options.api_key = Some("sk-hidden".into());
        options
            .headers
            .push(("x-token".into(), "tok-hidden".into()));
        assert!(!format!("{options:?}").contains("hidden"));
    }
}

//! Every setting, its default and its unit. Each layer's own options are beside the code that they steer;
//! here they are put together.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use data_generation_llm_client::{ReasoningPolicy, RetryOptions, Timeouts};
use data_generation_pipeline_core::Durability;
use data_generation_templating::Syntax;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::limits::Concurrency;
pub use crate::limits::{ConcurrencyLimit, LimitName, LimitSettings, RateLimit};

/// The effective configuration. Its default is the built-in default of every key.
///
/// ```
/// let defaults = data_generation::Settings::default();
/// assert_eq!(serde_json::json!(defaults.run.concurrency_limit), 5);
/// assert_eq!(defaults.model.rate_limit, None);
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whom to ask, and how.
    pub model: ModelSettings,
    /// What to ask.
    pub prompts: PromptSettings,
    /// What may be sent, beside the two limits of the model.
    pub limits: LimitSettings,
    /// The rows.
    pub input_data: InputSettings,
    /// Where the dataset goes.
    pub output_data: OutputSettings,
    /// How to work.
    pub run: RunSettings,
    /// The model without a network.
    pub offline: OfflineSettings,
    /// The log files.
    pub logging: LoggingSettings,
}

/// Who answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Any OpenAI-compatible endpoint.
    #[default]
    OpenAi,
    /// No network and no key; see [`OfflineSettings`].
    Offline,
}

/// `model`: whom to ask, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// `openai` (any compatible endpoint) or `offline`.
    pub provider: Provider,
    /// The environment variable that holds the key; null for none.
    pub api_key_env: Option<String>,
    /// Always null here: a literal key is taken out before anything else reads the configuration.
    pub api_key: Option<String>,
    /// The endpoint, up to and without `/chat/completions`.
    pub base_url: String,
    /// The model's name.
    pub model: String,
    /// Requests a minute, evenly spaced, repeats included; `auto`: as the endpoint says in its headers; null for
    /// no limit.
    pub rate_limit: Option<RateLimit>,
    /// Tokens a minute, prompts and answers; null for no limit.
    pub token_limit: Option<NonZeroU32>,
    /// Tokens of an answer at most; null: not sent.
    pub max_tokens: Option<u32>,
    /// Sampling temperature; null: not sent.
    pub temperature: Option<f64>,
    /// Further fields of the request body, sent as they are; none that is set beside it, nor `messages` or
    /// `stream`.
    pub extra: Map<String, Value>,
    /// Further request headers. Their values are secrets and never stand here.
    pub headers: Map<String, Value>,
    /// Whether a key may be sent over plain http to another machine.
    pub allow_http: bool,
    /// How long to wait for the endpoint.
    pub timeouts: TimeoutSettings,
}

impl Default for ModelSettings {
    fn default() -> Self {
        ModelSettings {
            provider: Provider::OpenAi,
            api_key_env: Some(DEFAULT_KEY_VARIABLE.to_owned()),
            api_key: None,
            base_url: "https://api.openai.com/v1".to_owned(),
            model: "gpt-4o-2024-11-20".to_owned(),
            rate_limit: None,
            token_limit: None,
            max_tokens: Some(5012),
            temperature: Some(0.7),
            extra: Map::new(),
            headers: Map::new(),
            allow_http: false,
            timeouts: TimeoutSettings::default(),
        }
    }
}

/// Where the key is looked for when nobody says where; it goes to the endpoint of this name only.
pub(crate) const DEFAULT_KEY_VARIABLE: &str = "OPENAI_API_KEY";

/// `model.timeouts`, in seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutSettings {
    /// Seconds for a connection, TLS included.
    pub connect_s: f64,
    /// Seconds without a single byte of the answer.
    pub idle_s: f64,
    /// Seconds for the whole answer.
    pub total_s: f64,
}

impl Default for TimeoutSettings {
    fn default() -> Self {
        let Timeouts {
            connect,
            idle,
            total,
        } = Timeouts::default();
        TimeoutSettings {
            connect_s: connect.as_secs_f64(),
            idle_s: idle.as_secs_f64(),
            total_s: total.as_secs_f64(),
        }
    }
}

/// `prompts`: what to ask.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptSettings {
    /// The system prompt's file; null for no system message.
    pub system_prompt_path: Option<PathBuf>,
    /// The user prompt's file.
    pub user_prompt_path: PathBuf,
    /// `handlebars` for `{{topic}}`, `format` for `{topic}` as in Python's `str.format`.
    pub syntax: Syntax,
}

impl Default for PromptSettings {
    fn default() -> Self {
        PromptSettings {
            system_prompt_path: Some("prompts/system_prompts/default.txt".into()),
            user_prompt_path: "prompts/user_prompts/default.txt".into(),
            syntax: Syntax::Handlebars,
        }
    }
}

/// `input_data`: the rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InputSettings {
    /// One JSON object a line; `-` is standard input.
    pub path: Option<PathBuf>,
    /// Bytes; a longer row fails without being held.
    pub max_row_bytes: usize,
}

impl Default for InputSettings {
    fn default() -> Self {
        InputSettings {
            path: None,
            max_row_bytes: 64 * 1024 * 1024,
        }
    }
}

/// `output_data`: where the dataset goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputSettings {
    /// The folder of all experiments.
    pub output_dir: PathBuf,
    /// The folder in it: letters, digits, `.`, `_`, `-`.
    pub experiment_name: String,
    /// A folder of its own for each command, or one folder that is continued.
    pub need_time_stamp: bool,
}

impl Default for OutputSettings {
    fn default() -> Self {
        OutputSettings {
            output_dir: "output".into(),
            experiment_name: "initial_test".to_owned(),
            need_time_stamp: true,
        }
    }
}

/// `run`: how to work.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunSettings {
    /// Requests at the same time, at least 1; or `auto`: as many as give the most throughput, found out while
    /// the run works.
    pub concurrency_limit: ConcurrencyLimit,
    /// Requests at the same time, at most, with `concurrency_limit: auto`.
    pub concurrency_max: NonZeroUsize,
    /// `none`, `tag:NAME[:all|first|last]`, `regex:PATTERN` or `json`.
    pub extract: String,
    /// How often, for each row, an answer is asked for again when nothing can be extracted from it. Each is
    /// paid for.
    pub extract_retries: u32,
    /// `split`: a think block at the start of an answer is kept apart; `keep`: it stays in the answer.
    pub reasoning: ReasoningPolicy,
    /// Rows that do not fit the prompts fail alone, where else nothing is sent.
    pub skip_invalid: bool,
    /// `group`: an answer is used as soon as it would outlast the end of the process, and is synced with others
    /// within `sync_ms`; `each`: it is used only once it would outlast a power loss.
    pub durability: Durability,
    /// Milliseconds, at most 500: how long what is written waits for the sync that makes it safe from a power
    /// loss. With `durability: each` that is said of finished rows alone, for answers do not wait.
    pub sync_ms: u64,
    /// Seconds that SIGTERM, or a terminal that is closed, leaves to the answers under way.
    pub drain_s: u64,
    /// Seconds: how long an endpoint that has answered before is waited for when nobody is there any more.
    pub outage_s: u64,
    /// The run stops when the first so many rows all fail alike, or half of the last hundred; null: never.
    pub stop_on_failures: Option<NonZeroU32>,
    /// Bytes; no further row is taken up while those at work hold as many.
    pub bytes_in_flight: u64,
    /// When and how often a request is sent again.
    pub retry: RetryOptions,
}

impl Default for RunSettings {
    fn default() -> Self {
        let options = data_generation_pipeline_core::RunOptions::default();
        let llm = data_generation_llm_client::ClientOptions::default();
        RunSettings {
            concurrency_limit: ConcurrencyLimit::Fixed(options.concurrency),
            concurrency_max: NonZeroUsize::MIN.saturating_add(1023),
            extract: "none".to_owned(),
            extract_retries: 1,
            reasoning: ReasoningPolicy::Split,
            skip_invalid: false,
            durability: options.durability,
            sync_ms: 200,
            drain_s: 30,
            outage_s: llm.max_outage.as_secs(),
            stop_on_failures: options.stop_on_failures,
            bytes_in_flight: options.bytes_in_flight,
            retry: RetryOptions::default(),
        }
    }
}

impl RunSettings {
    pub(crate) fn concurrency(&self) -> Concurrency {
        Concurrency {
            limit: self.concurrency_limit,
            auto_most: self.concurrency_max,
            ceiling: NonZeroUsize::MAX,
        }
    }

    pub(crate) fn sync_every(&self) -> Duration {
        Duration::from_millis(self.sync_ms)
    }
}

/// `offline`: the model without a network.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OfflineSettings {
    /// The answer, as a template that sees `{{system}}`, `{{user}}` and `{{model}}`; null for one that fits
    /// the extractor.
    pub reply: Option<String>,
    /// Milliseconds until it answers.
    pub latency_ms: u64,
    /// The share of requests, from 0 to 1, that get an invented status 500 and are sent again.
    pub error_rate: f64,
}

/// `logging`: the log files.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoggingSettings {
    /// One file a day goes here; null for none.
    pub dir: Option<PathBuf>,
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`; prompts and answers are written from `debug` on.
    pub level: String,
}

impl Default for LoggingSettings {
    fn default() -> Self {
        LoggingSettings {
            dir: Some("logs".into()),
            level: "info".to_owned(),
        }
    }
}

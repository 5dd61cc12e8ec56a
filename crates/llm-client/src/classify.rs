use std::time::Duration;

use crate::body::{self, Completion, KEY_REDACTED, Reading, Unreadable};
use crate::failure::{Failure, redirect_target, with_words};
use crate::hints::wait_hint;
use crate::reply::{Reply, split_thoughts};
use crate::usage::Usage;
use crate::{Answer, Headers, ReasoningPolicy, TransportError, TransportKind};

/// What an answer, or its absence, means.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// The question is answered.
    Usable(Reply),
    /// Ask again.
    Retry {
        /// Stable name of the fault.
        class: &'static str,
        /// The cause, in one line.
        message: String,
        /// What limits the repeats.
        budget: Budget,
        /// Not earlier than this.
        hint: Option<Duration>,
    },
    /// Nobody asks for a while; then ask again.
    Pause {
        /// Stable name of the fault.
        class: &'static str,
        /// The cause, in one line.
        message: String,
        /// Not earlier than this.
        hint: Option<Duration>,
    },
    /// This question cannot be answered.
    FailRow {
        /// Stable name of the fault.
        class: &'static str,
        /// The cause, in one line.
        message: String,
        /// What the model wrote, where it wrote something.
        text: Option<String>,
    },
    /// No question can be answered until somebody changes something.
    StopRun {
        /// Stable name of the fault.
        class: &'static str,
        /// The cause, in one line.
        message: String,
        /// What to change.
        cure: String,
    },
    /// The endpoint wants to be left alone for longer than anybody wants to wait.
    Later {
        /// The cause, in one line.
        message: String,
        /// How long, where the endpoint said it.
        wait: Option<Duration>,
    },
}

/// What limits the repeats of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Budget {
    /// [`max_attempts`](crate::RetryOptions::max_attempts): faults of server and network.
    Attempts,
    /// [`unusable_retries`](crate::RetryOptions::unusable_retries): paid answers that cannot be read.
    Unusable,
    /// [`empty_retries`](crate::RetryOptions::empty_retries): paid answers that are empty or no text at all.
    Empty,
    /// Nothing but a row's time: the endpoint never began to work on the request.
    Free,
}

/// What [`classify`] has to know besides the outcome.
#[derive(Debug, Clone)]
pub struct ClassifyOptions {
    /// What becomes of an inline think block.
    pub reasoning: ReasoningPolicy,
    /// The number of the request, for [`Reply::attempt`].
    pub attempt: u32,
    /// Tokens of the prompt for an answer that does not count them ([`estimate_tokens`](crate::estimate_tokens)).
    pub prompt_tokens: u64,
    /// Whether this endpoint ever gave a good answer; until then a bad name or handshake is final.
    pub succeeded_before: bool,
    /// A longer wait is [`Verdict::Later`].
    pub max_pause: Duration,
}

impl Default for ClassifyOptions {
    fn default() -> ClassifyOptions {
        ClassifyOptions {
            reasoning: ReasoningPolicy::Split,
            attempt: 1,
            prompt_tokens: 0,
            succeeded_before: false,
            max_pause: Duration::from_secs(900),
        }
    }
}

/// Says what an outcome means: a pure function of what came back.
///
/// ```
/// use data_generation_llm_client::{Answer, ClassifyOptions, Verdict, classify};
///
/// let answer = Answer::from_body(429, r#"{"error": {"message": "please try again in 120ms"}}"#);
/// let verdict = classify(&Ok(answer), &ClassifyOptions::default());
/// assert!(matches!(verdict, Verdict::Pause { hint: Some(wait), .. } if wait.as_millis() == 120));
/// ```
pub fn classify(outcome: &Result<Answer, TransportError>, options: &ClassifyOptions) -> Verdict {
    let paid = outcome.as_ref().ok().filter(|answer| answer.is_paid());
    let reading = paid.map(|answer| body::read(&answer.body));
    classify_read(outcome, reading, options)
}

/// The same where the body of an answer that was paid for has been read: it is large, and what it cost is asked
/// for before it is judged.
pub(crate) fn classify_read(
    outcome: &Result<Answer, TransportError>,
    reading: Option<Reading>,
    options: &ClassifyOptions,
) -> Verdict {
    let verdict = match (outcome, reading) {
        (Err(error), _) => lost(error, options),
        (Ok(answer), Some(reading)) => paid(answer, reading, options),
        (Ok(answer), None) => refused(answer.status, &Failure::from_body(&answer.body), answer),
    };
    match verdict {
        Verdict::Pause {
            message,
            hint: Some(wait),
            ..
        }
        | Verdict::Retry {
            message,
            hint: Some(wait),
            ..
        } if wait > options.max_pause => Verdict::Later {
            message,
            wait: Some(wait),
        },
        other => other,
    }
}

/// No whole answer came.
fn lost(error: &TransportError, options: &ClassifyOptions) -> Verdict {
    use TransportKind as Kind;
    let again = |class| retry(class, error.message().to_owned(), Budget::Attempts);
    let stop_at_first = |class, cure: &str| match options.succeeded_before {
        true => again(class),
        false => stop(class, error.message(), cure),
    };
    match error.kind() {
        Kind::Dns => stop_at_first("dns", "check the host name in `model.base_url`"),
        Kind::Tls => stop_at_first(
            "tls",
            "check that `model.base_url` names an https endpoint, and the proxy",
        ),
        Kind::Certificate => stop(
            "bad_certificate",
            error.message(),
            "check the host name in `model.base_url`, the clock and the system's root certificates",
        ),
        Kind::Connect => again("connect"),
        Kind::ConnectTimeout => again("connect_timeout"),
        Kind::IdleTimeout => again("idle_timeout"),
        Kind::TotalTimeout => again("total_timeout"),
        Kind::Closed => again("connection_closed"),
        Kind::Body => again("answer_broken_off"),
        Kind::TooManyFiles => again("too_many_open_files"),
        Kind::NotProcessed => retry("not_processed", error.message().to_owned(), Budget::Free),
        Kind::TooLarge => fail("answer_too_large", error.message().to_owned(), None),
        Kind::Row => fail("model_error", error.message().to_owned(), None),
        Kind::Other => again("transport"),
    }
}

/// A 2xx: it was paid for, so it is read as leniently as can be.
fn paid(answer: &Answer, reading: Reading, options: &ClassifyOptions) -> Verdict {
    let completion = match reading {
        Ok(completion) => completion,
        Err(unreadable) => return no_completion(unreadable, answer.body.len()),
    };
    let has_text = !completion.text.trim().is_empty();
    let broke_off = completion.finish_reason.as_deref() == Some("error");
    match &completion.failure {
        Some(failure) if !has_text => refused(
            failure.status.unwrap_or_else(|| failure.implied_status()),
            failure,
            answer,
        ),
        Some(failure) if broke_off => retry(
            "provider_error",
            with_words("the answer was broken off", failure),
            Budget::Unusable,
        ),
        _ if broke_off => retry(
            "provider_error",
            "the answer was broken off".into(),
            Budget::Unusable,
        ),
        _ => finished(completion, answer, options),
    }
}

fn no_completion(unreadable: Unreadable, bytes: usize) -> Verdict {
    let unusable = |class, message: &str| {
        retry(
            class,
            format!("{message} ({bytes} bytes)"),
            Budget::Unusable,
        )
    };
    match unreadable {
        Unreadable::Empty => unusable("empty_body", "status 2xx with an empty body"),
        Unreadable::Html => unusable("html_answer", "an HTML page came instead of an answer"),
        Unreadable::CutShort => unusable("answer_cut_short", "the answer ends in the middle"),
        Unreadable::NotJson => unusable("not_json", "the answer is not JSON"),
        Unreadable::NotUtf8 => retry(
            "invalid_utf8",
            format!("the answer is not UTF-8 ({bytes} bytes)"),
            Budget::Empty,
        ),
    }
}

/// A body that could be read and reports no error.
fn finished(mut completion: Completion, answer: &Answer, options: &ClassifyOptions) -> Verdict {
    let mut warnings = Vec::new();
    if completion.lone_surrogate {
        warnings.push("lone_surrogate");
    }
    if completion.key_redacted {
        warnings.push(KEY_REDACTED);
    }
    let usage = Usage::of(&completion, options.prompt_tokens);
    // What is about to be split, as it was; good answers are not copied for the sake of bad ones.
    let unsplit =
        (completion.text.trim_start().starts_with("<think")).then(|| completion.text.clone());
    if split_thoughts(&mut completion, options.reasoning) == Some(false) {
        warnings.push("unclosed_think");
    }
    let reason = completion
        .finish_reason
        .as_deref()
        .map(str::to_ascii_lowercase);
    let empty = completion.text.trim().is_empty();
    match reason.as_deref() {
        _ if !completion.refusal.trim().is_empty() => {
            let words = crate::failure::one_line(&completion.refusal);
            return fail(
                "refusal",
                format!("the model refused: {words}"),
                raw(unsplit, completion.text).or(Some(completion.refusal)),
            );
        }
        Some("content_filter" | "safety" | "recitation" | "prohibited_content") => {
            return fail(
                "content_filter",
                "the provider's content filter stopped the answer".into(),
                raw(unsplit, completion.text),
            );
        }
        Some("length" | "max_tokens" | "model_length") => {
            let spent = if empty {
                ", all of them for reasoning"
            } else {
                ""
            };
            let tokens = usage.completion_tokens;
            let message = format!(
                "the answer was cut after {tokens} tokens{spent}; raise `model.max_tokens`"
            );
            return fail("cut_at_max_tokens", message, raw(unsplit, completion.text));
        }
        _ if empty && completion.tool_calls => {
            return retry(
                "empty_answer",
                "the model called a tool and wrote no text".into(),
                Budget::Empty,
            );
        }
        _ if empty && completion.odd_content => {
            return retry(
                "odd_content",
                "`content` is neither text nor a list of parts".into(),
                Budget::Unusable,
            );
        }
        _ if !completion.has_choice => {
            return retry(
                "no_choices",
                "the answer has no `choices`".into(),
                Budget::Unusable,
            );
        }
        _ if empty => {
            return retry(
                "empty_answer",
                "the model wrote nothing".into(),
                Budget::Empty,
            );
        }
        None => warnings.push("no_finish_reason"),
        Some(
            "stop" | "end_turn" | "eos" | "eos_token" | "stop_sequence" | "tool_calls"
            | "function_call",
        ) => {}
        Some(_) => warnings.push("unknown_finish_reason"),
    }
    Verdict::Usable(Reply {
        text: completion.text,
        reasoning: Some(completion.reasoning).filter(|thoughts| !thoughts.is_empty()),
        finish_reason: completion.finish_reason,
        model: completion.model,
        usage,
        warnings,
        latency: answer.latency,
        at: answer.at,
        attempt: options.attempt,
    })
}

/// What the model wrote, thoughts included, where it wrote something.
fn raw(unsplit: Option<String>, text: String) -> Option<String> {
    Some(unsplit.unwrap_or(text)).filter(|text| !text.is_empty())
}

/// An error status, or a 200 that carries an error and names its status.
fn refused(status: u16, failure: &Failure, answer: &Answer) -> Verdict {
    let hint = wait_hint(answer, failure.words());
    let what = match answer.is_paid() {
        true => "status 200 with an error".to_owned(),
        false => format!("status {status}"),
    };
    let message = with_words(&what, failure);
    let again = |class| Verdict::Retry {
        class,
        message: message.clone(),
        budget: Budget::Attempts,
        hint,
    };
    let pause = |class| Verdict::Pause {
        class,
        message: message.clone(),
        hint,
    };
    let fail = |class| fail(class, message.clone(), None);
    let stop = |class, cure: &str| stop(class, &message, cure);
    match status {
        402 if hint.is_some() => pause("payment_required"),
        // What is said beats the status: an empty account answers 429, a bad key 400.
        400..=599 if failure.is_out_of_money(hint) => stop(
            "insufficient_quota",
            "top up the account that `model.api_key_env` belongs to, or use another key",
        ),
        400 if failure.is_bad_key() => stop("unauthorized", KEY_CURE),
        400 | 404 if failure.is_unknown_model() => stop("model_not_found", "check `model.model`"),
        400 if failure.is_content_filter() => fail("content_filter"),
        400 if failure.is_too_long() => fail("context_too_long"),
        400 if failure.is_unsupported() => unsupported(failure, &message),
        403 if failure.is_content_filter() => fail("content_filter"),
        429 if failure.is_request_too_large() => fail("request_too_large"),
        429 if failure.is_daily_limit() => Verdict::Later {
            message,
            wait: hint,
        },
        503 if failure.is_overloaded() => pause("overloaded"),

        300..=399 => redirected(status, &answer.headers),
        400 => fail("bad_request"),
        401 => stop("unauthorized", KEY_CURE),
        402 => stop(
            "payment_required",
            "top up the account, or use another `model.model`",
        ),
        403 => stop(
            "forbidden",
            "check that the key may use `model.model`, and `model.base_url`",
        ),
        404 => stop(
            "not_found",
            "check `model.base_url` (most end in /v1) and `model.model`",
        ),
        405 => stop(
            "wrong_endpoint",
            "check `model.base_url`: what is there takes no chat requests",
        ),
        408 => again("request_timeout"),
        409 => again("conflict"),
        413 => fail("context_too_long"),
        422 => fail("unprocessable"),
        425 => again("too_early"),
        429 => pause("rate_limited"),
        500 => again("server_error"),
        501 | 505 => stop(
            "wrong_endpoint",
            "check `model.base_url`: what is there takes no chat requests",
        ),
        502 => again("bad_gateway"),
        503 => again("unavailable"),
        504 => again("gateway_timeout"),
        520..=524 => again("gateway_error"),
        529 => pause("overloaded"),

        406..=499 => fail("unknown_status"),
        _ if answer.is_paid() => retry("provider_error", message, Budget::Unusable),
        _ => again("unknown_status"),
    }
}

const KEY_CURE: &str =
    "check `model.api_key_env` (or `model.api_key`) and that the key belongs to `model.base_url`";

fn unsupported(failure: &Failure, message: &str) -> Verdict {
    let cure = match failure.parameter() {
        Some("max_tokens") => {
            "set `model.max_tokens: null` and `model.extra.max_completion_tokens` instead"
                .to_owned()
        }
        Some(name @ "temperature") => format!("set `model.{name}: null`"),
        Some(name) if name.starts_with("messages") => {
            "this model may take no system message; set `prompts.system_prompt_path: null`"
                .to_owned()
        }
        Some(name) => format!("take `{name}` out of `model.extra`"),
        None => "take what the message names out of `model.extra`, or set it to null under `model`"
            .to_owned(),
    };
    stop("unsupported_parameter", message, &cure)
}

fn redirected(status: u16, headers: &Headers) -> Verdict {
    let target = redirect_target(headers)
        .map(|target| format!(" to {target}"))
        .unwrap_or_default();
    let message = format!("status {status}: a redirect{target}, which is never followed");
    stop(
        "redirect",
        &message,
        "write the final address into `model.base_url`",
    )
}

fn retry(class: &'static str, message: String, budget: Budget) -> Verdict {
    Verdict::Retry {
        class,
        message,
        budget,
        hint: None,
    }
}

fn fail(class: &'static str, message: String, text: Option<String>) -> Verdict {
    Verdict::FailRow {
        class,
        message,
        text,
    }
}

fn stop(class: &'static str, message: &str, cure: &str) -> Verdict {
    Verdict::StopRun {
        class,
        message: message.to_owned(),
        cure: cure.to_owned(),
    }
}

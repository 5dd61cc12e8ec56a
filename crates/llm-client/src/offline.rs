use std::fmt;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use serde_json::json;

use crate::reply::estimate_tokens;
use crate::{Answer, Headers, Model, Request, TransportError, TransportKind};

type ReplyFn = dyn Fn(&Request) -> Result<String, String> + Send + Sync;

/// A model without a network, for trying things out and for tests.
///
/// The same request and attempt always get the same answer, an invented failure included.
///
/// ```
/// use data_generation_llm_client::Offline;
/// use std::time::Duration;
///
/// let model = Offline::new(|request| Ok(format!("[offline] {}", request.user)))
///     .latency(Duration::from_millis(20))
///     .error_rate(0.05);
/// ```
pub struct Offline {
    reply: Box<ReplyFn>,
    latency: Duration,
    error_rate: f64,
}

impl Offline {
    /// A model that answers with what `reply` makes of the request; its error fails that one row.
    pub fn new(
        reply: impl Fn(&Request) -> Result<String, String> + Send + Sync + 'static,
    ) -> Offline {
        Offline {
            reply: Box::new(reply),
            latency: Duration::ZERO,
            error_rate: 0.0,
        }
    }

    /// How long each answer takes; none by default.
    pub fn latency(mut self, latency: Duration) -> Offline {
        self.latency = latency;
        self
    }

    /// The share of requests, from 0 to 1, that get an invented status 500; 0 by default.
    pub fn error_rate(mut self, rate: f64) -> Offline {
        self.error_rate = rate;
        self
    }

    fn answer(&self, request: &Request, attempt: u32) -> Result<(u16, String), TransportError> {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&self.identity(request))
            .update(&attempt.to_le_bytes());
        let hash = hasher.finalize();
        let mut draw = [0; 4];
        draw.copy_from_slice(&hash.as_bytes()[..4]);
        if f64::from(u32::from_le_bytes(draw)) < self.error_rate * 2f64.powi(32) {
            let error = json!({"error": {"message": "invented by the offline model", "type": "server_error"}});
            return Ok((500, error.to_string()));
        }
        let text = (self.reply)(request)
            .map_err(|message| TransportError::new(TransportKind::Row, message))?;
        let prompt =
            estimate_tokens(&request.user) + request.system.as_deref().map_or(0, estimate_tokens);
        let completion = estimate_tokens(&text);
        let body = json!({
            "id": format!("offline-{}", &hash.to_hex()[..16]),
            "object": "chat.completion",
            "model": "offline",
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            },
        });
        Ok((200, body.to_string()))
    }
}

impl Model for Offline {
    fn provider(&self) -> &str {
        "offline"
    }

    fn model(&self) -> &str {
        "offline"
    }

    fn ask<'a>(
        &'a self,
        request: &'a Request,
        attempt: u32,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        Box::pin(async move {
            let start = tokio::time::Instant::now();
            if !self.latency.is_zero() {
                tokio::time::sleep(self.latency).await;
            }
            let (status, body) = self.answer(request, attempt)?;
            Ok(Answer {
                status,
                headers: Headers::default(),
                body: body.into_bytes(),
                latency: start.elapsed(),
                at: SystemTime::now(),
            })
        })
    }
}

impl fmt::Debug for Offline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offline")
            .field("latency", &self.latency)
            .field("error_rate", &self.error_rate)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(model: &Offline, rows: u32) -> Vec<u16> {
        (0..rows)
            .map(|row| {
                model
                    .answer(&Request::user(format!("row {row}")), 1)
                    .unwrap()
                    .0
            })
            .collect()
    }

    #[test]
    fn the_same_request_and_attempt_get_the_same_answer() {
        let model = Offline::new(|request| Ok(request.user.clone())).error_rate(0.5);
        assert_eq!(statuses(&model, 100), statuses(&model, 100));
        let request = Request::user("x");
        assert_eq!(
            model.answer(&request, 2).unwrap(),
            model.answer(&request, 2).unwrap()
        );
    }

    #[test]
    fn the_error_rate_is_kept_and_another_attempt_draws_anew() {
        let model = Offline::new(|_| Ok("x".into())).error_rate(0.25);
        let failed = statuses(&model, 2000)
            .iter()
            .filter(|status| **status == 500)
            .count();
        assert!((400..600).contains(&failed), "{failed} of 2000");
        let request = Request::user("row 1");
        let drawn: Vec<u16> = (1..100)
            .map(|n| model.answer(&request, n).unwrap().0)
            .collect();
        assert!(drawn.contains(&200) && drawn.contains(&500));
    }

    #[test]
    fn rates_of_zero_and_one_mean_never_and_always() {
        let model = Offline::new(|_| Ok("x".into()));
        assert!(statuses(&model, 200).iter().all(|status| *status == 200));
        let model = model.error_rate(1.0);
        assert!(statuses(&model, 200).iter().all(|status| *status == 500));
    }

    #[tokio::test(start_paused = true)]
    async fn latency_is_slept_on_the_clock_of_the_runtime() {
        let model = Offline::new(|_| Ok("x".into())).latency(Duration::from_secs(3));
        let answer = model.ask(&Request::user("x"), 1).await.unwrap();
        assert_eq!(answer.latency, Duration::from_secs(3));
    }
}

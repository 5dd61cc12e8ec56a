//! A model that gives what its dice say, and remembers what it gave.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation::StopHandle;
use data_generation::llm::{Answer, Headers, Model, Request, TransportError};
use futures::future::BoxFuture;
use serde_json::{Value, json};

/// What a model gives; every answer that is paid for has a number of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Both,
    OnlyA,
    OnlyB,
    Empty,
    NoChoices,
    Page,
    Cut,
    Filtered,
    Broken,
    Busy,
    BadKey,
}

impl Kind {
    pub(crate) fn is_paid(self) -> bool {
        !matches!(self, Kind::Broken | Kind::Busy | Kind::BadKey)
    }

    /// Whether an extractor finds something in it.
    pub(crate) fn serves(self, extract: Extract) -> bool {
        match self {
            Kind::Both => true,
            Kind::OnlyA => extract != Some("b"),
            Kind::OnlyB => extract != Some("a"),
            _ => false,
        }
    }

    pub(crate) fn text(self, prompt: &str, number: usize) -> String {
        let part = |name: &str| format!("<{name}>{prompt} serial-{number}-</{name}>");
        match self {
            Kind::OnlyA => part("a"),
            Kind::OnlyB => part("b"),
            _ => part("a") + &part("b"),
        }
    }

    fn answer(self, prompt: &str, number: usize) -> Answer {
        let body = |content: Value, reason: &str| {
            let body = json!({
                "id": format!("serial-{number}-"),
                "choices": [{"message": {"content": content}, "finish_reason": reason}],
            });
            Answer::from_body(200, body.to_string())
        };
        match self {
            Kind::Both | Kind::OnlyA | Kind::OnlyB => {
                body(json!(self.text(prompt, number)), "stop")
            }
            Kind::Empty => body(json!(""), "stop"),
            Kind::Cut => body(json!("<a>half"), "length"),
            Kind::Filtered => body(json!(null), "content_filter"),
            Kind::NoChoices => {
                Answer::from_body(200, format!(r#"{{"id":"serial-{number}-","choices":[]}}"#))
            }
            Kind::Page => Answer::from_body(200, format!("<html>serial-{number}-</html>")),
            Kind::Broken => Answer::from_body(500, "no"),
            Kind::BadKey => Answer::from_body(401, "no"),
            Kind::Busy => {
                let mut answer = Answer::from_body(429, "slow down");
                answer.headers = Headers::from_pairs([("retry-after-ms", "40")]);
                answer
            }
        }
    }
}

pub(crate) type Extract = Option<&'static str>;

#[derive(Default)]
pub(crate) struct Given {
    /// By number: for which prompt, and what.
    pub(crate) answers: Vec<(String, Kind)>,
    /// Stops the run at this number.
    pub(crate) stop_at: Option<(usize, StopHandle)>,
}

/// A model that gives what its dice say.
#[derive(Clone)]
pub(crate) struct Dice {
    pub(crate) given: Arc<Mutex<Given>>,
    pub(crate) rng: Arc<Mutex<fastrand::Rng>>,
}

impl Model for Dice {
    fn provider(&self) -> &str {
        "dice"
    }

    fn model(&self) -> &str {
        "dice-1"
    }

    fn ask<'a>(
        &'a self,
        request: &'a Request,
        _attempt: u32,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        Box::pin(async move {
            let (wait, kind) = {
                let mut rng = self.rng.lock().unwrap();
                let kind = match rng.u32(0..100) {
                    0..40 => Kind::Both,
                    40..52 => Kind::OnlyA,
                    52..64 => Kind::OnlyB,
                    64..70 => Kind::Empty,
                    70..76 => Kind::NoChoices,
                    76..80 => Kind::Page,
                    80..84 => Kind::Cut,
                    84..88 => Kind::Filtered,
                    88..96 => Kind::Broken,
                    96..99 => Kind::Busy,
                    _ => Kind::BadKey,
                };
                (rng.u64(0..400), kind)
            };
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let mut given = self.given.lock().unwrap();
            let number = given.answers.len();
            given.answers.push((request.user.clone(), kind));
            if let Some((_, stop)) = given.stop_at.as_ref().filter(|(at, _)| *at == number) {
                stop.interrupt();
            }
            Ok(kind.answer(&request.user, number))
        })
    }
}

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{Answer, TransportError};

/// Something that answers a request once: an endpoint, the offline model, or one of your own.
///
/// A model neither waits nor retries; [`Client`](crate::Client) does that for all of them.
///
/// ```
/// use data_generation_llm_client::{Answer, Model, Request, TransportError};
/// use futures::future::BoxFuture;
///
/// struct Shout;
///
/// impl Model for Shout {
///     fn provider(&self) -> &str { "shout" }
///     fn model(&self) -> &str { "shout-1" }
///     fn ask<'a>(&'a self, request: &'a Request, _attempt: u32) -> BoxFuture<'a, Result<Answer, TransportError>> {
///         Box::pin(async move { Ok(Answer::text(&request.user.to_uppercase())) })
///     }
/// }
/// ```
pub trait Model: Send + Sync {
    /// Who answers: `openai`, `offline`, a name of your own.
    fn provider(&self) -> &str;

    /// What is asked for; it stands for the model when an answer does not name one.
    fn model(&self) -> &str;

    /// The bytes that make two requests the same call: whatever changes the answer, without the token
    /// maximum. They are the same in every version of this crate.
    fn identity(&self, request: &Request) -> Vec<u8> {
        serde_json::json!([self.model(), request.system, request.user])
            .to_string()
            .into_bytes()
    }

    /// Where it is asked, such as `127.0.0.1:8000`: messages name it where nobody is there. `None` where that is
    /// no place.
    fn address(&self) -> Option<&str> {
        None
    }

    /// The body of an answer that an earlier run kept, without the secrets that this model knows. Bodies of its own
    /// come without them.
    fn without_secrets(&self, body: Vec<u8>) -> Vec<u8> {
        body
    }

    /// The most tokens that an answer can have, where that is limited.
    fn max_tokens(&self) -> Option<u64> {
        None
    }

    /// How much later than others a request may have arrived lately, because its connection had to be made first:
    /// limits are kept as the endpoint sees them.
    fn lateness(&self) -> Duration {
        Duration::ZERO
    }

    /// Asks once; never retries. `attempt` counts the requests of a row from 1.
    ///
    /// # Errors
    /// When no whole answer arrived. An answer with an error status is an [`Answer`].
    fn ask<'a>(
        &'a self,
        request: &'a Request,
        attempt: u32,
    ) -> BoxFuture<'a, Result<Answer, TransportError>>;
}

macro_rules! forward {
    ($pointer:ident) => {
        impl<M: Model + ?Sized> Model for $pointer<M> {
            fn provider(&self) -> &str {
                (**self).provider()
            }
            fn model(&self) -> &str {
                (**self).model()
            }
            fn identity(&self, request: &Request) -> Vec<u8> {
                (**self).identity(request)
            }
            fn address(&self) -> Option<&str> {
                (**self).address()
            }
            fn without_secrets(&self, body: Vec<u8>) -> Vec<u8> {
                (**self).without_secrets(body)
            }
            fn max_tokens(&self) -> Option<u64> {
                (**self).max_tokens()
            }
            fn lateness(&self) -> Duration {
                (**self).lateness()
            }
            fn ask<'a>(
                &'a self,
                request: &'a Request,
                attempt: u32,
            ) -> BoxFuture<'a, Result<Answer, TransportError>> {
                (**self).ask(request, attempt)
            }
        }
    };
}
forward!(Arc);
forward!(Box);

/// One question.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    /// The system message; none is sent when it is `None`.
    pub system: Option<String>,
    /// The user message.
    pub user: String,
}

impl Request {
    /// A question without a system message.
    pub fn user(text: impl Into<String>) -> Request {
        Request {
            system: None,
            user: text.into(),
        }
    }
}

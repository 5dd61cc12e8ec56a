//! A client for OpenAI-compatible chat endpoints with one retry owner, a rate limit shared by all tasks, and every paid answer in your hands.
//!
//! ```
//! use data_generation_llm_client::{Client, ClientOptions, LimitOptions, Offline, Request};
//! use std::{num::NonZeroU32, sync::Arc};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), data_generation_llm_client::Error> {
//! let model = Offline::new(|request| Ok(format!("{}? Yes.", request.user)));
//! let options = ClientOptions { limits: LimitOptions::per_minute(NonZeroU32::new(600)), ..ClientOptions::default() };
//! let client = Client::new(Arc::new(model), options);
//!
//! let reply = client.ask(&Request::user("Is it raining")).await?;
//! assert_eq!(reply.text, "Is it raining? Yes.");
//! # Ok(())
//! # }
//! ```
//!
//! Start here:
//!
//! - [`Client`] asks for many tasks at once: rate limit, concurrency, pauses and repeats are its business alone.
//! - [`Model`] is what it asks, once a time: [`OpenAi`] for any compatible endpoint, [`Offline`] without
//!   a network, or a type of your own.
//! - [`Call`] lets the asker keep every paid answer before it is judged, watch, and stop.
//! - [`classify`] says what an answer means, and [`ErrorKind`] whom a failure concerns: one row or the run.
//! - [`Limiter`] is the rate limit, usable alone.

mod adapt;
mod announced;
mod answer;
mod body;
mod call;
#[cfg(test)]
mod cases;
mod classify;
mod client;
mod connects;
mod crowd;
mod error;
mod estimate;
mod failure;
mod fit;
mod fixed;
mod gate;
mod hints;
mod hold;
mod kept;
mod ledger;
mod level;
mod limit;
mod limit_file;
mod members;
mod meter;
mod minute;
mod model;
mod next;
mod offline;
mod openai;
mod options;
mod outage;
mod pace;
mod paid;
mod question;
mod queue;
mod rates;
mod reply;
mod reserve;
mod retry;
mod round;
mod secrets;
#[cfg(test)]
mod shapes;
mod share;
mod symptoms;
mod transport;
mod usage;
mod usual;
mod watch;
mod window;

pub use answer::{Answer, Headers};
pub use call::{Call, Event, LimitKind, WaitReason};
pub use classify::{Budget, ClassifyOptions, Verdict, classify};
pub use client::{Client, LookingBack};
pub use error::{BoxError, Error, ErrorKind, TransportError, TransportKind};
pub use limit::{Limiter, Permit, TooLong};
pub use limit_file::LimitFile;
pub use model::{Model, Request};
pub use offline::Offline;
pub use openai::OpenAi;
pub use options::{ClientOptions, OpenAiOptions, ReasoningPolicy, RetryOptions, Timeouts};
pub use rates::{LimitOptions, Rates};
pub use reply::{Reply, estimate_tokens, least_tokens};
pub use usage::Usage;

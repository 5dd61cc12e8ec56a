//! An OpenAI-compatible server on loopback that does on purpose what real endpoints do by accident.
//!
//! ```
//! use data_generation_fault_server::{Fault, FaultServer, Plan, Times, Who};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let fault = Fault::named("retry-after-seconds").expect("it is in the table");
//! assert_eq!((fault.class, fault.requests.once), ("rate_limited", 2));
//!
//! let plan = Plan::good().fault(fault, Who::Row(7), Times::Once);
//! let server = FaultServer::start(plan)?;
//! println!("point `model.base_url` at {}", server.url());
//! assert_eq!(server.stop().total(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! Start here:
//!
//! - [`FAULTS`] is the table: what an endpoint does, and what must become of the row, the run, the requests.
//! - [`Plan`] says which [`Fault`] is played for [`Who`] and how often ([`Times`]), how slow the endpoint is
//!   ([`Latency`]), what it allows ([`Limit`]), when it is down ([`Outage`]).
//! - [`FaultServer`] plays it, and [`Seen`] is what it saw: who asked, when, how often, how many at once.
//! - [`trial`] is what tests need that try many entries of the table.
//! - [`page()`] writes the table down for people.

mod bomb;
mod fault;
mod http;
mod http2;
mod page;
mod plan;
mod play;
mod question;
mod seen;
mod server;
mod shared;
mod table;
mod tls;
pub mod trial;

pub use fault::{Always, Disposition, Every, Fault, Play, Requests, Section};
pub use page::page;
pub use plan::{Down, Latency, Limit, Outage, Plan, Times, Who};
pub use question::Question;
pub use seen::{Asked, Got, Seen};
pub use server::FaultServer;
pub use table::FAULTS;
pub use tls::CERTIFICATE;

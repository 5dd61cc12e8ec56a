//! Rows through steps into a dataset, with a journal: nothing that was paid for is lost, a run can be
//! killed at any byte and goes on.
//!
//! ```
//! use data_generation_pipeline_core::{Draft, Place, Run, Row, Source, Step, StepContext, StepError, Workflow};
//! use futures::future::{BoxFuture, FutureExt};
//!
//! struct Shout;
//! impl Step for Shout {
//!     fn name(&self) -> &str { "shout" }
//!     fn run<'a>(&'a self, row: &'a Row, draft: &'a mut Draft, _: &'a StepContext<'a>) -> BoxFuture<'a, Result<(), StepError>> {
//!         async move { draft.response = row.json().to_uppercase(); Ok(()) }.boxed()
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let dir = tempfile::tempdir().unwrap();
//! let place = Place { output_dir: dir.path().into(), experiment_name: "demo".into(), need_time_stamp: false };
//! let rows = Source::rows([serde_json::json!({"topic": "tides"})]);
//! let report = Run::new(place, rows, Workflow::new().then(Shout)).execute().await.unwrap();
//! assert!(std::fs::read_to_string(report.result_path()).unwrap().contains(r#""response":"{\"TOPIC\":\"TIDES\"}""#));
//! # });
//! ```
//!
//! Start here: [`Run`] is one command's work, [`Step`] is what is done with a row, [`Source`] is where
//! rows come from, [`Event`] is what a run tells, [`Report`] is what it came to.
//!
//! What a run promises:
//!
//! - An answer is in the journal before anything is made of it; see [`StepContext::journal`].
//! - Every row of the input is, at every moment, exactly one of finished, failed, pending.
//! - In each commit the journal is synced before lines that rest on it are written.
//! - Memory grows with the rows at work, a few bytes for the identity of each row, and more for each
//!   that failed.

mod append;
mod before;
mod beside;
mod breaker;
mod canonical;
#[cfg(test)]
mod cases;
mod check;
mod clock;
mod content;
mod disk;
mod error;
mod event;
mod failed;
mod failures;
#[cfg(test)]
mod faulty;
mod files;
mod folder;
mod fork;
mod identity;
mod journal;
mod line;
mod lines;
mod lock;
mod look;
mod manifest;
mod numbers;
mod pass;
mod past;
mod place;
mod plan;
mod read_ahead;
mod record;
mod rejudge;
mod repair;
mod report;
mod row;
mod rows;
mod run;
mod run_dir;
mod scan;
mod seal;
mod shared;
mod siblings;
mod skim;
mod source;
mod spool;
mod status;
mod step;
mod stop;
mod swap;
mod sweep;
mod times;
mod torn;
mod unjournaled;
mod work;
mod writer;

pub use check::{Check, Conclusion};
pub use error::{Change, Error, ErrorKind, InputProblem, InputProblems};
pub use event::{Batch, Event, Observer};
pub use journal::{JournaledAnswer, PaidAnswer, call_key};
pub use look::{CheckedRows, check_rows, first_rows};
pub use manifest::{Command, InputFacts, Manifest, Setting};
pub use past::{AHEAD, OtherRun, Past};
pub use place::{Place, Resume, Start};
pub use record::{Answered, Failure, FailureReason, Record, Usage};
pub use rejudge::{Rejudge, Rejudged};
pub use report::{Counts, Report, tokens_in_words};
pub use row::{Row, RowId, hash};
pub use run::{Durability, Run, RunOptions};
pub use source::Source;
pub use status::{Latencies, State, Status, status};
pub use step::{Aside, Draft, Step, StepContext, StepError, Workflow};
pub use stop::{StopHandle, StopKind, StopReason};
pub use times::{Span, Times, WaitReason};
pub use unjournaled::Unjournaled;

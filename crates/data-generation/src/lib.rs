//! Makes training and evaluation data with large language models: rows and prompts in, a JSONL dataset
//! out; with limits that hold, answers that are never lost, and runs that go on where they stopped.
//!
//! ```
//! use data_generation::{DataGenerationPipeline, Row, extract};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let dir = tempfile::tempdir().unwrap();
//! let pipeline = DataGenerationPipeline::builder()
//!     .offline() // or a config file, or .base_url(..) and .model(..)
//!     .system_prompt(Some("You are a {{tone}} writer."))
//!     .user_prompt("Write about {{topic}} between <draft> tags.")
//! #   .output_dir(dir.path().to_str().unwrap())
//!     .experiment_name("demo")
//!     .need_time_stamp(false)
//!     .build()?;
//! let rows = [Row::new().user("topic", "tides").system("tone", "plain")];
//! let report = pipeline.run(rows).concurrency_limit(5).extractor(extract::tag("draft")).await?;
//! println!("{report}");
//! # assert_eq!(report.counts.ok, 1);
//! # Ok::<(), data_generation::Error>(())
//! # }).unwrap();
//! ```
//!
//! Start here: [`DataGenerationPipeline`] and its [`Builder`], [`Row`], [`Source`] for files and streams,
//! [`Report`] for what a run came to, [`Settings`] for every key of the configuration.
//!
//! Each layer is a crate that is useful alone, and is here under a short name: [`config`] (layers with
//! origins), [`templating`] (prompts), [`llm`] (the client), [`extract`] (extractors) and [`pipeline`] (rows,
//! journal, dataset).

mod again;
mod builder;
mod check;
mod credentials;
mod error;
mod generation;
mod kept;
mod limits;
mod look;
mod look_back;
mod offline;
mod rows;
mod run;
pub mod settings;
mod steering;
mod steps;
mod trace;

pub use again::ExtractAgain;
pub use builder::{Builder, ENV_PREFIX};
#[doc(inline)]
pub use data_generation_config as config;
#[doc(inline)]
pub use data_generation_extractors as extract;
#[doc(inline)]
pub use data_generation_llm_client as llm;
#[doc(inline)]
pub use data_generation_pipeline_core as pipeline;
#[doc(inline)]
pub use data_generation_pipeline_core::{
    Event, Observer, Record, Report, Resume, Source, StopHandle, StopKind,
};
#[doc(inline)]
pub use data_generation_templating as templating;
pub use error::Error;
pub use generation::{DataGenerationPipeline, Preview};
pub use look::status;
pub use rows::{IntoSource, Row};
pub use run::{Records, RunBuilder};
pub use settings::Settings;
pub use steering::{Steered, Steering};

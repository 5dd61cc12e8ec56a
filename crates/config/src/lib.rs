//! Layered configuration with the origin of every value: defaults, YAML, environment, command line, code.
//!
//! ```
//! use data_generation_config::Layers;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Settings { model: Model }
//! #[derive(Default, Serialize, Deserialize)]
//! struct Model { name: String, temperature: Option<f64> }
//!
//! let loaded = Layers::defaults(&Settings::default())?
//!     .text("config.yaml", "model:\n  name: small\n  temperature: 0.7\n")
//!     .env("DATAGEN_", [("DATAGEN_MODEL__TEMPERATURE".into(), "0.2".into())])
//!     .load::<Settings>()?;
//!
//! assert_eq!(loaded.value.model.temperature, Some(0.2));
//! assert_eq!(loaded.origins.of("model.name").to_string(), "config.yaml:2");
//! # Ok::<(), data_generation_config::Error>(())
//! ```
//!
//! # Start here
//!
//! - [`Layers`]: name the layers, then [`load`](Layers::load) them into a type of your own.
//! - [`Loaded`]: the value, where each part of it came from, the secrets, the warnings.
//! - [`Origins`] and [`Origin`]: which file and line, variable or flag a value came from.
//! - [`Secrets`]: what was taken out of every layer before anything else saw it.
//! - [`Error`] and [`Fault`]: everything that is wrong, all of it at once.
//!
//! # What holds
//!
//! Lowest to highest: defaults, YAML, environment, command line, a builder call for a group, a
//! builder call for one value. Maps are merged deeply, lists are replaced. A section that is `null`
//! in a layer (a heading with all of its keys commented out) sets nothing; any other `null` does
//! replace the value below it.
//!
//! The serialised defaults are the list of the known keys, so an optional field must serialise as
//! `null` and not be skipped. Keys of a map keep their order: first those of the defaults, then
//! those of the layers, lowest first.
//!
//! YAML is read by the 1.2 core rules (`no` and `010` are strings). A key twice in a map is refused,
//! merge keys (`<<`) are applied, and a top-level key that begins with `x-` is skipped: a place for
//! anchors. Numbers are 64 bits wide and finite.

mod env;
mod error;
mod extract;
mod input;
mod key;
mod layer;
mod layers;
mod line_ends;
mod locate;
mod node;
mod origin;
mod secret;
mod shape;
mod text;
mod tree;
mod wording;
mod yaml;

pub use error::{Error, Fault, FaultKind};
pub use layers::{Layers, Loaded};
pub use origin::{Origin, Origins};
pub use secret::Secrets;

//! Runs on a disk that refuses, and on one that loses power.

mod bench;
mod losses;
mod power;
mod recorder;
mod refusals;

pub(crate) use recorder::{Fault, How, Kind, Recorder};

//! Runs on a disk that refuses, and on one that loses power.

mod beginnings;
mod bench;
mod losses;
mod moments;
mod piped;
mod power;
mod recorder;
mod refusals;
mod replaced;
mod sample;

pub(crate) use recorder::{Fault, How, Kind, Recorder};

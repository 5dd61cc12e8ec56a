//! Integration tests, one module a topic.

mod environment;
mod faults;
mod origins;
mod precedence;
mod secrets;
mod settings;
mod yaml;

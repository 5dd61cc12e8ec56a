//! Integration tests, one module a topic.

#[cfg(test)]
mod cases;
mod environment;
mod faults;
#[cfg(test)]
mod fuzz;
mod origins;
mod precedence;
mod secrets;
mod settings;
mod yaml;

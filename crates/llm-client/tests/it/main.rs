//! Integration tests, one module a topic.

// `cfg(test)` always holds here; it tells clippy that helpers may unwrap like the tests that they serve.
#[cfg(test)]
mod adapting;
#[cfg(test)]
mod announcing;
#[cfg(test)]
mod busy;
#[cfg(test)]
#[path = "../../src/cases.rs"]
mod cases;
#[cfg(test)]
mod classify;
#[cfg(test)]
mod client;
#[cfg(test)]
mod dead_connection;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod fuzz_hints;
#[cfg(test)]
mod gone;
#[cfg(test)]
mod holding;
#[cfg(test)]
mod lanes;
#[cfg(test)]
mod limiter;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod restarts;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod server;
#[cfg(test)]
mod sizes;
#[cfg(test)]
mod slowing;
#[cfg(test)]
mod stopping;
#[cfg(test)]
mod transport;
#[cfg(test)]
mod waiting;

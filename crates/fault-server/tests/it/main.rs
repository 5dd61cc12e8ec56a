//! Integration tests, one module a topic.

// `cfg(test)` always holds here; it tells clippy that helpers may unwrap like the tests that they serve.
#[cfg(test)]
mod client;
#[cfg(test)]
mod counting;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod page;
#[cfg(test)]
mod program;
#[cfg(test)]
mod wire;

//! The layers together, as somebody who writes Rust uses them.

#[cfg(test)]
mod building;
#[cfg(test)]
mod concurrency;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod paid;
#[cfg(test)]
mod running;

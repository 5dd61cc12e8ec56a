//! The layers together, as somebody who writes Rust uses them.

#[cfg(test)]
mod away;
#[cfg(test)]
mod before;
#[cfg(test)]
mod building;
#[cfg(test)]
mod concurrency;
#[cfg(test)]
mod every_row;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod long_waits;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod paid;
#[cfg(test)]
mod pauses;
#[cfg(test)]
mod played;
#[cfg(test)]
mod running;
#[cfg(test)]
mod state_machine;

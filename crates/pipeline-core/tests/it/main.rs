//! What a run promises, tried out on real folders.

#[cfg(test)]
mod again;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod fork;
#[cfg(test)]
mod fuzz_journal;
#[cfg(test)]
mod fuzz_rows;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod making;
#[cfg(test)]
mod stopping;
#[cfg(test)]
mod times;
#[cfg(test)]
mod truncated;

//! What a run promises, tried out on real folders.

#[cfg(test)]
mod again;
#[cfg(test)]
mod fork;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod making;
#[cfg(test)]
mod stopping;
#[cfg(test)]
mod truncated;

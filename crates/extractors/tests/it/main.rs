//! Integration tests, one module a topic.

#[cfg(test)]
mod cases;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod template;
#[cfg(test)]
mod well_formed;

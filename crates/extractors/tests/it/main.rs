//! Integration tests, one module a topic.

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod template;

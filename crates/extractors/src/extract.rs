//! The trait, and extractors made of a function.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::{Error, is_empty};

/// Gets a value out of the text of an answer.
///
/// An extractor is asked again for the same answer when a run is taken up, so it should give the same
/// value each time; it may be asked from several threads at once.
///
/// ```
/// use data_generation_extractors::{Error, Extract};
/// use serde_json::Value;
///
/// struct FirstLine;
///
/// impl Extract for FirstLine {
///     fn name(&self) -> &str {
///         "first_line"
///     }
///
///     fn extract(&self, answer: &str) -> Result<Value, Error> {
///         let line = answer.lines().find(|line| !line.trim().is_empty());
///         line.map(Value::from).ok_or_else(|| Error::miss(self.name(), "no line with text"))
///     }
/// }
///
/// assert_eq!(FirstLine.extract("\nHello\nworld")?, "Hello");
/// # Ok::<(), Error>(())
/// ```
pub trait Extract: Send + Sync {
    /// Stands for the extractor in a manifest: `tag:draft`, `regex:...`, `json`, or the name of your own.
    fn name(&self) -> &str;

    /// Gets the value out of the answer. It should not be [empty](crate::is_empty).
    ///
    /// # Errors
    ///
    /// A [miss](Error::is_miss) when the answer does not hold what was looked for, or a fault.
    fn extract(&self, answer: &str) -> Result<Value, Error>;

    /// Whether the extractor can work at all. Meant to be called once, before the first answer is paid for.
    ///
    /// # Errors
    ///
    /// What every call of [`extract`](Self::extract) would fail with, such as an impossible tag name.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// A text that this extractor accepts, with `content` in it where it can hold it: what a model is
    /// imitated with. `None` if there is none or it is not known.
    fn sample(&self, content: &str) -> Option<String> {
        let _ = content;
        None
    }
}

macro_rules! extract_through_a_pointer {
    ($($pointer:ty),*) => {$(
        impl<E: Extract + ?Sized> Extract for $pointer {
            fn name(&self) -> &str {
                (**self).name()
            }

            fn extract(&self, answer: &str) -> Result<Value, Error> {
                (**self).extract(answer)
            }

            fn check(&self) -> Result<(), Error> {
                (**self).check()
            }

            fn sample(&self, content: &str) -> Option<String> {
                (**self).sample(content)
            }
        }
    )*};
}

extract_through_a_pointer!(&E, Arc<E>, Box<E>);

impl fmt::Debug for dyn Extract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Extract").field(&self.name()).finish()
    }
}

/// An extractor made of a function; [`from_fn`] makes it.
#[derive(Clone)]
pub struct FromFn<F> {
    name: String,
    function: F,
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Makes an extractor of a function from the answer to a value or an error.
///
/// `name` stands for the function in a manifest: change it when the function begins to give other values.
/// A returned [empty](crate::is_empty) value is a miss. An [`Error`] of this crate is passed on as it is, so
/// that a function may use other extractors or say [`Error::miss`]; any other error (a `String`, one of
/// `std` or `anyhow`) becomes [`ErrorKind::Own`](crate::ErrorKind::Own). A panic in the function is not
/// caught here.
///
/// ```
/// use data_generation_extractors::{Extract, from_fn, tag};
/// use serde_json::Value;
///
/// let score = from_fn("score", |answer| {
///     let text = tag("score").first().extract(answer)?;
///     let score: u8 = text.as_str().unwrap_or_default().parse()?;
///     Ok::<Value, Box<dyn std::error::Error + Send + Sync>>(score.into())
/// });
/// assert_eq!(score.extract("<score>7</score>")?, 7);
/// assert_eq!(score.extract("7").unwrap_err().class(), "extraction_miss");
/// assert_eq!(score.extract("<score>?</score>").unwrap_err().class(), "extractor_error");
/// # Ok::<(), data_generation_extractors::Error>(())
/// ```
pub fn from_fn<F, E>(name: impl Into<String>, function: F) -> FromFn<F>
where
    F: Fn(&str) -> Result<Value, E> + Send + Sync,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    FromFn {
        name: name.into(),
        function,
    }
}

impl<F, E> Extract for FromFn<F>
where
    F: Fn(&str) -> Result<Value, E> + Send + Sync,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn extract(&self, answer: &str) -> Result<Value, Error> {
        let value =
            (self.function)(answer).map_err(|error| match error.into().downcast::<Error>() {
                Ok(error) => *error,
                Err(error) => Error::own(&self.name, error),
            })?;
        if is_empty(&value) {
            return Err(Error::empty(&self.name, "the value"));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, tag};
    use serde_json::json;
    use std::convert::Infallible;

    #[test]
    fn an_own_function_never_hands_out_an_empty_value() {
        for empty in [json!(null), json!(" "), json!([]), json!([""])] {
            let extractor = from_fn("mine", |_| Ok::<_, Infallible>(empty.clone()));
            let error = extractor.extract("answer").unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Empty { .. }), "{empty}");
        }
    }

    #[test]
    fn an_own_error_may_be_a_text() {
        let error = from_fn("mine", |_| Err::<Value, _>("no verb"))
            .extract("answer")
            .unwrap_err();
        assert_eq!(error.to_string(), "extractor `mine`: no verb");
        assert!(!error.is_miss());
    }

    #[test]
    fn an_error_of_another_extractor_stays_what_it_is() {
        let through = from_fn("mine", |answer| tag("draft").extract(answer));
        let error = through.extract("<draft>cut").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::UnclosedTag { .. }));
        assert_eq!(error.extractor(), "tag:draft");
    }

    #[test]
    fn a_pointer_to_an_extractor_is_one_in_every_method() {
        fn check(extractor: impl Extract) {
            assert_eq!(extractor.name(), "tag:a b");
            assert!(extractor.check().is_err());
            assert!(extractor.extract("x").is_err());
            assert_eq!(extractor.sample("x"), None);
        }
        let extractor = tag("a b");
        check(&extractor);
        check(Box::new(tag("a b")) as Box<dyn Extract>);
        check(Arc::new(tag("a b")) as Arc<dyn Extract>);
        let good: Arc<dyn Extract> = Arc::new(tag("a"));
        assert!(good.check().is_ok());
        assert_eq!(good.sample("x").as_deref(), Some("<a>x</a>"));
        assert_eq!(format!("{good:?}"), r#"Extract("tag:a")"#);
    }
}

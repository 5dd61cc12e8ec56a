//! Where rows come from.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{BoxStream, Stream};
use serde::Serialize;

use crate::error::Error;

/// A row as JSON, or why it cannot be.
pub(crate) type Written = Result<Box<str>, String>;
pub(crate) type RowStream = BoxStream<'static, Written>;

fn write(row: &impl Serialize) -> Written {
    serde_json::to_string(row)
        .map(Into::into)
        .map_err(|error| format!("cannot be written as JSON: {error}"))
}

/// Rows, one JSON object each.
///
/// A file, standard input and [`rows`](Source::rows) are read twice: once for the check of all rows, and once
/// for the run. A [`stream`](Source::stream) or [`iter`](Source::iter) shows its rows once.
pub struct Source {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    /// Can be read again.
    Lasting(Lasting),
    /// Copied into the run folder first, and then a file.
    Stdin(Box<dyn Read + Send>),
    /// Seen once: checked row by row.
    Stream(RowStream),
    /// The failed rows of the run folder, of these classes or all.
    Failed(Vec<String>),
}

/// Rows that are read twice: for the check of all of them, and for the run.
#[derive(Clone)]
pub(crate) struct Lasting {
    pub(crate) name: String,
    pub(crate) from: Where,
}

#[derive(Clone)]
pub(crate) enum Where {
    File(PathBuf),
    /// Only where one reading is enough.
    Stdin,
    /// The caller held them all anyway.
    Rows(Arc<[Written]>),
}

impl Source {
    /// A file of JSON Lines: UTF-8, with or without BOM and CRLF; blank lines are passed over. It is opened
    /// when the run begins, and must not change until the run has read it a second time.
    pub fn jsonl(path: impl Into<PathBuf>) -> Source {
        let path = path.into();
        Source::lasting(path.display().to_string(), Where::File(path))
    }

    fn lasting(name: String, from: Where) -> Source {
        Source {
            name: name.clone(),
            kind: Kind::Lasting(Lasting { name, from }),
        }
    }

    /// Standard input, as JSON Lines. It is copied into the run folder before anything else happens, and is then
    /// a file: `.input.jsonl` once the run begins. Rows that were there under this name and with which the new ones do
    /// not begin are kept, as `.input-<time>.jsonl`. A run that is refused leaves them as they were.
    pub fn stdin() -> Source {
        Source {
            name: "standard input".into(),
            kind: Kind::Stdin(Box::new(io::stdin())),
        }
    }

    /// As standard input that holds this.
    #[cfg(test)]
    pub(crate) fn piped(text: String) -> Source {
        Source {
            name: "standard input".into(),
            kind: Kind::Stdin(Box::new(io::Cursor::new(text))),
        }
    }

    /// Rows that are all there: they are written as JSON now, held until the end, and checked as a whole
    /// before the first request.
    ///
    /// ```
    /// # use data_generation_pipeline_core::Source;
    /// let source = Source::rows([serde_json::json!({"topic": "tides"})]);
    /// ```
    pub fn rows<T: Serialize>(rows: impl IntoIterator<Item = T>) -> Source {
        let rows: Vec<Written> = rows.into_iter().map(|row| write(&row)).collect();
        Source::lasting("rows".into(), Where::Rows(rows.into()))
    }

    /// Rows that come one by one. Each is checked before its own request; a bad one fails alone, class
    /// `invalid_row`. What only all rows together show is not checked, and nobody knows how many there are.
    ///
    /// ```
    /// # use data_generation_pipeline_core::Source;
    /// use futures::stream::{self, StreamExt};
    ///
    /// let source = Source::stream(stream::iter(1..).map(|n| serde_json::json!({"n": n})));
    /// ```
    pub fn stream<T: Serialize>(rows: impl Stream<Item = T> + Send + 'static) -> Source {
        let rows = rows.map(|row| write(&row)).boxed();
        Source {
            name: "stream".into(),
            kind: Kind::Stream(rows),
        }
    }

    /// Where a run folder keeps the copy of the rows that came from standard input, from which the run can be gone on
    /// with.
    ///
    /// ```
    /// # use data_generation_pipeline_core::Source;
    /// let copy = Source::copy_of_stdin("output/demo".as_ref());
    /// assert_eq!(copy.to_str(), Some("output/demo/.input.jsonl"));
    /// ```
    pub fn copy_of_stdin(run_dir: &Path) -> PathBuf {
        run_dir.join(".input.jsonl")
    }

    /// The failed rows of the run that is gone on with, those of these classes or, where none is named, all. They
    /// keep their ids. The run says nothing about its input then: what it was, whether it is finished, which
    /// rows it does not have, all stays as it was. Where there is no such row nothing is done, and no command noted;
    /// a class that no failed row has is warned of.
    ///
    /// ```
    /// # use data_generation_pipeline_core::Source;
    /// let source = Source::failed(["server_error"]);
    /// ```
    pub fn failed<S: Into<String>>(classes: impl IntoIterator<Item = S>) -> Source {
        Source {
            name: "failed rows".into(),
            kind: Kind::Failed(classes.into_iter().map(Into::into).collect()),
        }
    }

    /// Rows out of an iterator, taken as they are needed; as [`stream`](Source::stream).
    pub fn iter<T: Serialize, I>(rows: I) -> Source
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
    {
        Source {
            name: "iterator".into(),
            ..Source::stream(futures::stream::iter(rows))
        }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Source").field(&self.name).finish()
    }
}

impl Source {
    /// For one reading, without a folder to copy standard input to.
    pub(crate) fn readable_once(self) -> Result<Lasting, Error> {
        match self.kind {
            Kind::Lasting(lasting) => Ok(lasting),
            Kind::Stdin(_) => Ok(Lasting {
                name: self.name,
                from: Where::Stdin,
            }),
            Kind::Stream(_) => Err(Error::usage("a stream shows its rows only while it runs")),
            Kind::Failed(_) => Err(Error::usage(
                "failed rows are those of a run that is gone on with",
            )),
        }
    }
}

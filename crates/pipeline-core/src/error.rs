//! What keeps a run from starting, or ends it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::report::Counts;

/// Why a run could not start, or could not go on.
///
/// Match on [`kind`](Error::kind), never on the text.
#[derive(Debug)]
pub struct Error {
    kind: Box<ErrorKind>,
    run_dir: Option<PathBuf>,
}

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input cannot be read as rows, or rows do not fit the steps. Nothing was sent.
    Input(InputProblems),
    /// A path, name or option that cannot be used.
    Usage {
        /// What is wrong, where, and what to do.
        message: String,
    },
    /// The run folder was made with other settings; one dataset has one of each.
    Changed {
        /// The run folder.
        dir: PathBuf,
        /// What is different.
        changes: Vec<Change>,
    },
    /// A run with the same settings is not finished, and what it has was paid for.
    Unfinished {
        /// The run folder.
        dir: PathBuf,
        /// Where its rows stood at its last checkpoint.
        counts: Counts,
    },
    /// A folder that is no run folder: it has no `run.json`.
    NoRun {
        /// The folder.
        dir: PathBuf,
        /// Whether it is there at all.
        exists: bool,
        /// Run folders in it, the newest start first, three at most.
        runs: Vec<PathBuf>,
    },
    /// Another process works on the run folder.
    Locked {
        /// The run folder.
        dir: PathBuf,
        /// Who, as that process wrote it down.
        holder: String,
    },
    /// The input holds none of the rows that the run folder has finished, or no row at all.
    OtherInput {
        /// The run folder.
        dir: PathBuf,
        /// How many rows are finished there.
        finished: u64,
        /// How many rows the input has.
        rows: u64,
    },
    /// A file of the run folder is damaged before its last line.
    Damaged {
        /// The file.
        path: PathBuf,
        /// 1-based number of the line; 0 where no single line is meant.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The run that was to be forked is damaged. A fork leaves it as it is, so it must be repaired first.
    DamagedSource {
        /// Its folder.
        dir: PathBuf,
        /// Where it is damaged, and how.
        damage: String,
    },
    /// Somebody asked the run to stop before it had begun.
    Interrupted,
    /// The operating system refused a read or a write.
    Io {
        /// What was tried, as in "could not write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// One setting that differs from what the run folder was made with.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The key, as `model.temperature`.
    pub key: String,
    /// What the folder was made with; `null` where it had none.
    pub before: serde_json::Value,
    /// What was asked for now.
    pub now: serde_json::Value,
}

/// Everything that the check found wrong, before any request.
#[derive(Debug, Clone, Default)]
pub struct InputProblems {
    /// The first 20, each with its place.
    pub first: Vec<InputProblem>,
    /// How many there are in all.
    pub total: u64,
    /// How many rows they stand in.
    pub rows: u64,
}

/// One thing that is wrong with one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputProblem {
    /// The file, or what the rows are called where there is none.
    pub source: String,
    /// 1-based number of the line, or of the row where there are no lines.
    pub line: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for InputProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.source, self.line, self.what)
    }
}

impl InputProblems {
    const SHOWN: usize = 20;

    pub(crate) fn add(&mut self, problem: impl FnOnce() -> InputProblem) {
        self.total += 1;
        if self.first.len() < Self::SHOWN {
            self.first.push(problem());
        }
    }
}

impl Error {
    pub(crate) fn usage(message: impl Into<String>) -> Error {
        ErrorKind::Usage {
            message: message.into(),
        }
        .into()
    }

    /// Wraps what the system said with what was tried on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| {
            ErrorKind::Io {
                action,
                path,
                source,
            }
            .into()
        }
    }

    /// What went wrong; match on this.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The run folder that was open when it happened.
    pub fn run_dir(&self) -> Option<&Path> {
        self.run_dir.as_deref()
    }

    pub(crate) fn in_run(self, dir: &Path) -> Error {
        Error {
            run_dir: Some(dir.to_owned()),
            ..self
        }
    }

    /// Whether the operating system refused something, and not a mistake in command, settings or data.
    pub fn is_io(&self) -> bool {
        matches!(*self.kind, ErrorKind::Io { .. })
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Error {
            kind: Box::new(kind),
            run_dir: None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            ErrorKind::Input(problems) => {
                let plural = |count: u64| if count == 1 { "" } else { "s" };
                let InputProblems { total, rows, .. } = problems;
                write!(f, "{total} problem{} in ", plural(*total))?;
                match rows {
                    0 => f.write_str("the prompts for these rows")?,
                    rows => write!(f, "{rows} row{} of the input", plural(*rows))?,
                }
                f.write_str("; no request was sent")?;
                for problem in &problems.first {
                    write!(f, "\n  {problem}")?;
                }
                match problems.total - problems.first.len() as u64 {
                    0 => Ok(()),
                    more => write!(f, "\n  and {more} more"),
                }
            }
            ErrorKind::Usage { message } => f.write_str(message),
            ErrorKind::Changed { dir, changes } => {
                write!(
                    f,
                    "the run in {} was made with other settings:",
                    dir.display()
                )?;
                for change in changes {
                    write!(f, "\n  {change}")?;
                }
                Ok(())
            }
            ErrorKind::Unfinished { dir, counts } => write!(
                f,
                "the run in {} has the same settings and is not finished ({} of {} {} at its last checkpoint)",
                dir.display(),
                counts.ok + counts.skipped,
                counts.rows,
                if counts.rows == 1 { "row" } else { "rows" }
            ),
            ErrorKind::NoRun { dir, exists, .. } => {
                let what = if *exists {
                    "is no run folder: it has no run.json"
                } else {
                    "is not there"
                };
                write!(f, "{} {what}", dir.display())
            }
            ErrorKind::Locked { dir, holder } => {
                write!(f, "another process works on {} ({holder})", dir.display())
            }
            ErrorKind::OtherInput {
                dir,
                finished,
                rows: 0,
            } => write!(
                f,
                "the input has no rows, and the run in {} was begun with some ({finished} of them are finished)",
                dir.display()
            ),
            ErrorKind::OtherInput { dir, finished, .. } => {
                let dir = dir.display();
                match finished {
                    1 => write!(
                        f,
                        "the input does not have the row that is finished in {dir}"
                    ),
                    _ => write!(
                        f,
                        "the input has none of the {finished} rows that are finished in {dir}"
                    ),
                }
            }
            // What concerns a file as a whole has no line.
            ErrorKind::Damaged {
                path,
                line: 0,
                what,
            } => write!(f, "{}: {what}", path.display()),
            ErrorKind::Damaged { path, line, what } => {
                write!(f, "{}:{line}: {what}", path.display())
            }
            ErrorKind::DamagedSource { dir, damage } => {
                write!(f, "{} cannot be forked: {damage}", dir.display())
            }
            ErrorKind::Interrupted => f.write_str("interrupted before the first request"),
            ErrorKind::Io { action, path, .. } => write!(f, "{action} {}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.kind {
            ErrorKind::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(before), Some(now)) = (self.before.as_str(), self.now.as_str())
            && (before.contains('\n') || now.contains('\n'))
        {
            return write_text_diff(f, &self.key, before, now);
        }
        write!(f, "{}: {} -> {}", self.key, self.before, self.now)
    }
}

/// The lines of a text that are gone and those that came, in between what both have.
fn write_text_diff(f: &mut fmt::Formatter<'_>, key: &str, before: &str, now: &str) -> fmt::Result {
    let (before, now): (Vec<_>, Vec<_>) = (before.lines().collect(), now.lines().collect());
    let head = before.iter().zip(&now).take_while(|(a, b)| a == b).count();
    let tail = before[head..]
        .iter()
        .rev()
        .zip(now[head..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    write!(f, "{key}, from line {}:", head + 1)?;
    for line in &before[head..before.len() - tail] {
        write!(f, "\n    - {line}")?;
    }
    for line in &now[head..now.len() - tail] {
        write!(f, "\n    + {line}")?;
    }
    Ok(())
}

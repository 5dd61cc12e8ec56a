//! A look before the first request: what is there, what is asked, what is wrong.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::before::Before;
use crate::check::{Check, Examined, examine};
use crate::error::{Error, ErrorKind, InputProblems};
use crate::event::Event;
use crate::failed::FailedRows;
use crate::files::Files;
use crate::fork;
use crate::identity::Finished;
use crate::lock::Lock;
use crate::manifest::{InputFacts, Manifest};
use crate::place::{Target, is_run};
use crate::plan::Plan;
use crate::repair;
use crate::rows::{Next, Rows, RowsError};
use crate::run::Job;
use crate::source::{Kind, Lasting, RowStream, Source, Where};
use crate::spool::{self, Spool};
use crate::torn;

/// A look at rows and folder.
pub(crate) struct Look<'a> {
    pub(crate) job: &'a Job,
    /// Held by whatever still writes into the folder, also where the run itself was dropped.
    pub(crate) lock: Arc<Lock>,
    /// Whether an earlier command met equal rows.
    pub(crate) equal_rows: bool,
    /// Whether the run that is gone on with has an input that is not known to be empty.
    pub(crate) had_rows: bool,
}

impl Look<'_> {
    /// Everything that is known before the first request: what is there, what is asked, what is wrong.
    pub(crate) async fn at(
        &self,
        source: Source,
        mut check: Box<dyn Check>,
    ) -> Result<Looked, Error> {
        let Job {
            disk, dir, target, ..
        } = self.job;
        let max_row_bytes = self.job.options.max_row_bytes;
        let Source { name, kind } = source;
        let (source, spool) = match kind {
            Kind::Lasting(lasting) => (lasting, None),
            Kind::Stdin(from) => {
                let (spool, file) = Spool::begin(disk, dir)?;
                // Who types may never end; an interrupt must not wait for it.
                tokio::select! {
                    filled = blocking(move || spool::fill(file, from)) => filled?,
                    () = self.job.stop.token().cancelled() => return Err(ErrorKind::Interrupted.into()),
                }
                let from = Where::File(spool.path().to_owned());
                (Lasting { name, from }, Some(spool))
            }
            Kind::Stream(rows) => return self.at_stream(name, rows, check).await,
            Kind::Failed(classes) => return self.at_failed(classes, check).await,
        };

        // The checks block: they read files and compute. They must not hold up whoever shares the runtime.
        // The rows and what the folder holds know nothing of each other, and both may be long.
        let (stop, observers) = (self.job.stop.clone(), self.job.observers.clone());
        let in_vain = Arc::new(AtomicBool::new(false));
        let given_up = Arc::clone(&in_vain);
        let opening = async {
            match target {
                Target::ForkOf { .. } => Ok(None), // first the answers must be there, and for them the rows be known
                _ => {
                    let opened = self.open(dir, self.job.options.repair).await;
                    in_vain.store(opened.is_err(), Ordering::Relaxed);
                    opened.map(Some)
                }
            }
        };
        let checking = blocking(move || {
            let examined = examine(&source, max_row_bytes, check.as_mut(), |rows| {
                observers
                    .iter()
                    .for_each(|observer| observer.event(&Event::Checking { rows }));
                !stop.is_stopping() && !given_up.load(Ordering::Relaxed)
            })?;
            Ok((source, examined, check))
        });
        let (opened, examined) = futures::join!(opening, checking);
        let opened = opened?;
        let (source, mut examined, check) = examined?;
        let skip_invalid = self.job.options.skip_invalid;
        examined.refuse_problems(skip_invalid)?;
        let (files, mut before) = match (opened, target) {
            (Some(opened), _) => {
                examined.compare(&opened.1.finished);
                opened
            }
            (None, Target::ForkOf { source: from, .. }) => {
                // A fork begins without finished rows.
                examined.compare(&Finished::default());
                self.fork(from, dir, &source, &examined).await?;
                self.open(dir, false).await?
            }
            (None, _) => unreachable!("only a fork opens later"),
        };
        let plan = Plan::new(
            &source,
            &examined,
            &mut before,
            dir,
            self.job.options.limit,
            self.equal_rows,
            max_row_bytes,
        )
        .await?;
        self.refuse_other_input(dir, &before.finished, &plan, examined.rows)?;
        before.finished.forget_met();
        let rows = Rows::again(
            &source,
            &examined,
            max_row_bytes,
            skip_invalid.then_some(check),
        )?;
        let Examined {
            facts,
            mut warnings,
            repeated,
            finished,
            rows: all,
            ..
        } = examined;
        // Where a part of the rows counts or one stands for another, each is looked at.
        let rows = if plan.rows == Some(all) && plan.spares.is_empty() {
            rows.passing_over(finished)
        } else {
            rows
        };
        if facts.rows == Some(0) {
            warnings.push(format!("{} has no rows", facts.source));
        }
        Ok(Looked {
            unjudged: before.unjudged.len() as u64,
            left_failed: Vec::new(),
            before,
            plan,
            rows,
            facts: Some(facts),
            files,
            warnings,
            equal_rows: !repeated.is_empty(),
            spool,
        })
    }

    /// A stream shows its rows one by one: nothing is known before, each is checked when it comes.
    async fn at_stream(
        &self,
        name: String,
        rows: RowStream,
        check: Box<dyn Check>,
    ) -> Result<Looked, Error> {
        let Job { dir, target, .. } = self.job;
        if let Target::ForkOf { source: from, .. } = target {
            self.copy_journal(from, dir, None).await?;
        }
        let (files, before) = self.open(dir, self.job.options.repair).await?;
        Ok(Looked {
            unjudged: before.unjudged.len() as u64,
            left_failed: Vec::new(),
            before,
            plan: Plan::default(),
            rows: Rows::once(rows, self.job.options.max_row_bytes, check),
            facts: Some(InputFacts {
                source: name,
                ..InputFacts::default()
            }),
            files,
            warnings: Vec::new(),
            equal_rows: false,
            spool: None,
        })
    }

    /// The failed rows of the folder: they are known, and they are not its input.
    async fn at_failed(
        &self,
        classes: Vec<String>,
        check: Box<dyn Check>,
    ) -> Result<Looked, Error> {
        let Job { dir, target, .. } = self.job;
        if !matches!(target, Target::Folder(dir) if is_run(dir)) {
            return Err(Error::usage(
                "failed rows are those of a run that is there: name the one to go on with",
            ));
        }
        let (files, before) = self.open(dir, self.job.options.repair).await?;
        let found = FailedRows::find(dir, &classes, &before)?;
        let nothing_to_ask = found.count == 0;
        let mut warnings = Vec::new();
        if found.without_input > 0 {
            let what = match found.without_input {
                1 => "1 failed row cannot be asked again: it was too large to be held or no JSON object".to_owned(),
                rows => format!(
                    "{rows} failed rows cannot be asked again: they were too large to be held or no JSON objects"
                ),
            };
            if nothing_to_ask {
                return Err(Error::usage(format!(
                    "{what}; mend the input and run it again"
                )));
            }
            warnings.push(what);
        }
        if let Some(missing) = found.missing {
            // A class that is mistyped must not look like one whose rows are all well.
            if nothing_to_ask {
                return Err(Error::usage(missing));
            }
            warnings.push(missing);
        }
        let plan = Plan {
            rows: Some(found.count),
            ..Plan::default()
        };
        Ok(Looked {
            unjudged: found.unjudged,
            left_failed: found.left,
            before,
            plan,
            rows: Rows::failed(found.rows, self.job.options.max_row_bytes, check),
            facts: None,
            files,
            warnings,
            equal_rows: false,
            spool: None,
        })
    }

    fn refuse_other_input(
        &self,
        dir: &Path,
        finished: &Finished,
        plan: &Plan,
        rows: u64,
    ) -> Result<(), Error> {
        let is_other = finished.len() > 0 && plan.not_in_input == finished.len();
        // It would pass for the end of a run that has not finished a row yet.
        let is_gone = rows == 0 && self.had_rows;
        if (is_other || is_gone) && !self.job.options.add {
            return Err(ErrorKind::OtherInput {
                dir: dir.to_owned(),
                finished: finished.len(),
                rows,
            }
            .into());
        }
        Ok(())
    }

    /// Copies the answers whose call is unchanged into the new folder.
    async fn fork(
        &self,
        from: &Path,
        to: &Path,
        source: &Lasting,
        examined: &Examined,
    ) -> Result<(), Error> {
        let old = Manifest::read(from)?;
        let only_the_extractor = old.is_some_and(|old| {
            old.changes(&self.job.dataset)
                .iter()
                .all(|change| change.key == "extract" || change.key.starts_with("extract."))
        });
        if only_the_extractor {
            return self.copy_journal(from, to, None).await;
        }
        let mut keys = HashSet::new();
        let mut rows = Rows::again(source, examined, self.job.options.max_row_bytes, None)?;
        loop {
            match rows.next().await {
                Ok(None) => break,
                Ok(Some(Next { row: Ok(row), .. })) => {
                    keys.extend(
                        self.job
                            .workflow
                            .steps
                            .iter()
                            .filter_map(|step| step.call_key(&row)),
                    );
                }
                Ok(Some(_)) => {}
                Err(RowsError::Changed(what)) => return Err(Error::usage(what)),
                Err(RowsError::Io(error)) => return Err(error),
            }
        }
        self.copy_journal(from, to, Some(keys)).await
    }

    /// Opens the files, repairs their ends and reads what they hold; with `repair`, answers that lost their newlines
    /// get them again and bad lines are moved aside first. Where the run is dropped meanwhile, the lock is held until
    /// this is over.
    async fn open(&self, dir: &Path, repair: bool) -> Result<(Files, Before), Error> {
        let (disk, dir, lock) = (
            self.job.disk.clone(),
            dir.to_owned(),
            Arc::clone(&self.lock),
        );
        blocking(move || {
            let parted = match repair {
                true => torn::part(&disk, &dir)?,
                false => None,
            };
            let mut files = Files::open(&disk, &dir)?;
            files.repairs.splice(0..0, parted);
            if repair {
                let moved = repair::repair(&disk, &dir)?;
                if !moved.is_empty() {
                    let ends = std::mem::take(&mut files.repairs);
                    files = Files::open(&disk, &dir)?;
                    files.repairs = ends.into_iter().chain(moved).collect();
                }
            }
            let before = Before::load(&dir)?;
            drop(lock);
            Ok((files, before))
        })
        .await
    }

    async fn copy_journal(
        &self,
        from: &Path,
        to: &Path,
        keys: Option<HashSet<String>>,
    ) -> Result<(), Error> {
        let (disk, from, to) = (self.job.disk.clone(), from.to_owned(), to.to_owned());
        let lock = Arc::clone(&self.lock);
        blocking(move || {
            let copied = fork::copy(&disk, &from, &to, keys.as_ref());
            drop(lock);
            copied
        })
        .await
    }
}

/// What a look before the first request found.
pub(crate) struct Looked {
    pub(crate) before: Before,
    pub(crate) plan: Plan,
    pub(crate) rows: Rows,
    /// `None` where the rows are those of the folder, and its input stays what it was.
    pub(crate) facts: Option<InputFacts>,
    /// Answers that are paid for and will be judged first.
    pub(crate) unjudged: u64,
    /// Failed rows that a retry does not take up, by class.
    pub(crate) left_failed: Vec<(String, u64)>,
    pub(crate) files: Files,
    pub(crate) warnings: Vec<String>,
    /// Whether rows are known to say what others say.
    pub(crate) equal_rows: bool,
    /// Standard input, to be put in its place when the command is accepted.
    pub(crate) spool: Option<Spool>,
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// What a check of all rows found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CheckedRows {
    /// How many there are.
    pub rows: u64,
    /// How many different rows come more than once.
    pub repeated: u64,
    /// What is wrong.
    pub problems: InputProblems,
    /// Worth a line, but nothing that stops.
    pub warnings: Vec<String>,
}

/// Reads and checks all rows, as a run does before its first request. Blocks; makes no folder. A row above
/// `max_row_bytes` is no problem here: it fails alone, in the run.
///
/// ```
/// use data_generation_pipeline_core::{Source, check_rows};
///
/// let rows = Source::rows([serde_json::json!({"n": 1}), serde_json::json!([2])]);
/// let checked = check_rows(rows, &mut (), 1024)?;
/// assert_eq!((checked.rows, checked.problems.total), (2, 1));
/// assert_eq!(checked.problems.first[0].to_string(), "rows:2: is no JSON object but a list");
/// # Ok::<(), data_generation_pipeline_core::Error>(())
/// ```
///
/// # Errors
///
/// When the rows cannot be read. What is wrong with them is in what it returns. A stream cannot be
/// checked as a whole.
pub fn check_rows(
    source: Source,
    check: &mut dyn Check,
    max_row_bytes: usize,
) -> Result<CheckedRows, Error> {
    let source = source.readable_once()?;
    let mut examined = examine(&source, max_row_bytes, check, |_| true)?;
    examined.compare(&Finished::default());
    Ok(CheckedRows {
        rows: examined.rows,
        repeated: examined.repeated.len() as u64,
        problems: examined.problems,
        warnings: examined.warnings,
    })
}

/// The first rows as JSON texts, at most `count`. Blocks; makes no folder.
///
/// ```
/// use data_generation_pipeline_core::{Source, first_rows};
///
/// let rows = Source::rows([serde_json::json!({"n": 1}), serde_json::json!({"n": 2})]);
/// assert_eq!(first_rows(rows, 1, 1024)?, [r#"{"n":1}"#]);
/// # Ok::<(), data_generation_pipeline_core::Error>(())
/// ```
///
/// # Errors
///
/// When they cannot be read, one of them is no JSON object or longer than `max_row_bytes`, or they are a
/// stream.
pub fn first_rows(
    source: Source,
    count: usize,
    max_row_bytes: usize,
) -> Result<Vec<String>, Error> {
    source.readable_once()?.first(count, max_row_bytes)
}

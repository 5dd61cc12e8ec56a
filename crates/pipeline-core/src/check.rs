//! The check of all rows before the first request.

use crate::error::{Error, ErrorKind, InputProblem, InputProblems};
use crate::identity::{Finished, ShortSet, Shorts};
use crate::manifest::InputFacts;
use crate::pass::Pass;
use crate::seal::{FinishedBlocks, Seal, Sealing};
use crate::source::Lasting;

/// Whether a row fits what will be done with it.
///
/// ```
/// use data_generation_pipeline_core::{Check, Source, check_rows};
///
/// struct HasTopic;
///
/// impl Check for HasTopic {
///     fn check(&mut self, row: &str) -> Vec<String> {
///         if row.contains(r#""topic":"#) { Vec::new() } else { vec!["`topic` is missing".into()] }
///     }
/// }
///
/// let checked = check_rows(Source::rows([serde_json::json!({"n": 1})]), &mut HasTopic, 1024)?;
/// assert_eq!(checked.problems.first[0].to_string(), "rows:1: `topic` is missing");
/// # Ok::<(), data_generation_pipeline_core::Error>(())
/// ```
pub trait Check: Send {
    /// What is wrong with the row, given as JSON text, each as a fragment that names variable and prompt;
    /// empty where nothing is. Rows that are no JSON objects never get here. With
    /// [`RunOptions::skip_invalid`](crate::RunOptions::skip_invalid) the rows are shown a second time.
    fn check(&mut self, row: &str) -> Vec<String>;

    /// What only all rows together show: warnings, or mistakes that concern every row. Called once, after
    /// the last row of an input that is read twice.
    fn conclude(&mut self) -> Conclusion {
        Conclusion::default()
    }
}

/// What a check finds in all rows together.
#[derive(Debug, Clone, Default)]
pub struct Conclusion {
    /// Worth a line, but nothing that stops.
    pub warnings: Vec<String>,
    /// Nothing may be sent before these are mended.
    pub mistakes: Vec<String>,
}

/// Nothing to check.
impl Check for () {
    fn check(&mut self, _row: &str) -> Vec<String> {
        Vec::new()
    }
}

/// What the first pass over an input found.
pub(crate) struct Examined {
    pub(crate) facts: InputFacts,
    pub(crate) rows: u64,
    pub(crate) problems: InputProblems,
    /// Whether something is wrong that concerns every row.
    mistaken: bool,
    pub(crate) warnings: Vec<String>,
    /// All rows, until they are compared.
    shorts: Shorts,
    /// The rows that come more than once, once they were compared.
    pub(crate) repeated: ShortSet,
    /// How many finished rows the input has as the first of their kind, once they were compared.
    pub(crate) known: u64,
    /// Where rows can be passed over, once they were compared.
    pub(crate) finished: FinishedBlocks,
    pub(crate) seal: Seal,
}

/// Reads all rows once: everything that is wrong with any of them is known before the first request.
///
/// `go_on` hears every now and then how many rows were read, and ends it by answering false.
pub(crate) fn examine(
    source: &Lasting,
    max_row_bytes: usize,
    check: &mut dyn Check,
    mut go_on: impl FnMut(u64) -> bool,
) -> Result<Examined, Error> {
    let (mut pass, file) = Pass::open(source, max_row_bytes)?;
    let mut shorts = Shorts::default();
    let mut hash = blake3::Hasher::new();
    let mut sealing = Sealing::of(file);
    let mut problems = InputProblems::default();
    pass.for_each(|given, mark| {
        let content = given.content;
        shorts.push(content);
        hash.update(&content.id(0).0);
        let faults = match given.text {
            Ok(text) => check.check(text),
            // A row that is too large fails alone, in the run: it is no mistake of the prompts.
            Err(fault) if fault.class == "row_too_large" => Vec::new(),
            Err(fault) => vec![fault.message],
        };
        problems.rows += u64::from(!faults.is_empty());
        for what in faults {
            problems.add(|| InputProblem {
                source: source.name.clone(),
                line: given.line,
                what,
            });
        }
        if sealing.push(content, mark) && !go_on(sealing.rows()) {
            return Err(ErrorKind::Interrupted.into());
        }
        Ok(())
    })?;
    let rows = sealing.rows();
    let Conclusion { warnings, mistakes } = check.conclude();
    let mistaken = !mistakes.is_empty();
    for what in mistakes {
        problems.add(|| InputProblem {
            source: source.name.clone(),
            line: 1,
            what,
        });
    }
    let hash = hash.finalize().to_hex()[..32].to_owned();
    Ok(Examined {
        facts: InputFacts {
            source: source.name.clone(),
            rows: Some(rows),
            hash: Some(hash),
        },
        rows,
        problems,
        mistaken,
        warnings,
        shorts,
        repeated: ShortSet::default(),
        known: 0,
        finished: FinishedBlocks::default(),
        seal: sealing.end(pass.mark()),
    })
}

impl Examined {
    /// Compares the rows with each other and with those that are finished, once, and lets go of what that takes.
    pub(crate) fn compare(&mut self, finished: &Finished) {
        let mut shorts = std::mem::take(&mut self.shorts);
        self.finished = self.seal.finished_blocks(&shorts, finished);
        self.repeated = shorts.repeated();
        if !self.repeated.is_empty() {
            self.finished = FinishedBlocks::default();
        }
        self.known = shorts.known(finished);
    }

    /// Nothing is sent while something is wrong, unless bad rows may fail alone.
    pub(crate) fn refuse_problems(&mut self, skip_invalid: bool) -> Result<(), Error> {
        if self.problems.total == 0 || (skip_invalid && !self.mistaken) {
            return Ok(());
        }
        Err(ErrorKind::Input(std::mem::take(&mut self.problems)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Where;

    #[test]
    fn everything_that_is_wrong_is_found_and_the_first_twenty_told() {
        struct Wants;
        impl Check for Wants {
            fn check(&mut self, row: &str) -> Vec<String> {
                if row.contains("topic") {
                    Vec::new()
                } else {
                    vec!["`{{topic}}` is missing".into()]
                }
            }
        }
        let text = format!(
            "{{\"topic\":1}}\n[1]\n{{\"a\":1,\"a\":2}}\n{}",
            "{\"x\":1}\n".repeat(30)
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        std::fs::write(&path, text).unwrap();
        let source = Lasting {
            name: path.display().to_string(),
            from: Where::File(path),
        };
        let mut examined = examine(&source, 100, &mut Wants, |_| true).unwrap();
        let problems = examined.problems.clone();
        assert_eq!(
            (problems.total, problems.rows, problems.first.len()),
            (32, 32, 20)
        );
        assert!(
            problems.first[0]
                .to_string()
                .ends_with("rows.jsonl:2: is no JSON object but a list"),
            "{}",
            problems.first[0]
        );
        assert!(
            problems.first[1]
                .to_string()
                .ends_with("rows.jsonl:3: has the key \"a\" twice (column 14)"),
            "{}",
            problems.first[1]
        );
        assert!(
            examined
                .refuse_problems(false)
                .unwrap_err()
                .to_string()
                .ends_with("and 12 more")
        );
        assert!(examined.refuse_problems(true).is_ok());
    }

    #[test]
    fn a_mistake_that_concerns_every_row_is_refused_also_where_bad_rows_may_fail_alone() {
        struct Mistaken;
        impl Check for Mistaken {
            fn check(&mut self, row: &str) -> Vec<String> {
                if row.contains("bad") {
                    vec!["is bad".into()]
                } else {
                    Vec::new()
                }
            }
            fn conclude(&mut self) -> Conclusion {
                Conclusion {
                    mistakes: vec!["single braces".into()],
                    ..Conclusion::default()
                }
            }
        }
        let rows: std::sync::Arc<[_]> = [r#"{"a":1}"#, r#"{"bad":1}"#]
            .map(|row| Ok(row.into()))
            .into();
        for rows in [rows.clone(), rows[..1].into()] {
            let source = Lasting {
                name: "rows".into(),
                from: Where::Rows(rows),
            };
            let mut examined = examine(&source, 100, &mut Mistaken, |_| true).unwrap();
            assert!(
                examined
                    .refuse_problems(true)
                    .unwrap_err()
                    .to_string()
                    .contains("single braces")
            );
        }
    }
}

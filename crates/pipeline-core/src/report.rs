//! What a command came to.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stop::StopReason;
use crate::times::Times;

/// Where the rows of a command's input stand: `rows = ok + failed + skipped + pending`. Of a retry, where all rows
/// stand that were not in the dataset when it began: also those that it did not take up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows of the input, or of its part that was asked for; of a stream, those that came.
    pub rows: u64,
    /// Finished by this command.
    pub ok: u64,
    /// Failed in this command.
    pub failed: u64,
    /// Finished before.
    pub skipped: u64,
    /// None of these: a later command makes them.
    pub pending: u64,
}

impl Counts {
    /// Failed rows that are finished now, and finished ones that are failed now. Rows that another command
    /// counted may be among them, so no more are moved than there are.
    pub(crate) fn shift(&mut self, recovered: u64, lost: u64) {
        let recovered = recovered.min(self.failed);
        self.failed -= recovered;
        self.ok += recovered;
        let lost = lost.min(self.ok + self.skipped);
        let of_ok = lost.min(self.ok);
        self.ok -= of_ok;
        self.skipped -= lost - of_ok;
        self.failed += lost;
    }
}

/// What a command came to, and what it cost. It prints as a summary of a few lines.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The run's folder.
    pub run_dir: PathBuf,
    /// Where the rows stand.
    pub counts: Counts,
    /// Finished rows of the folder that the input does not have; they stay.
    pub not_in_input: u64,
    /// Requests that left in this command, those without an answer included.
    pub requests: u64,
    /// Of these, the ones beyond a row's first; answers that an earlier command paid for count as requests.
    pub retries: u64,
    /// Prompt tokens of everything that was paid for in this command, as far as steps told them.
    pub prompt_tokens: u64,
    /// Completion tokens of everything that was paid for in this command, as far as steps told them.
    pub completion_tokens: u64,
    /// Answers that did not say what they cost: theirs is a guess in both.
    pub untold: u64,
    /// From start to end, the check included.
    pub wall: Duration,
    /// Whether no real model was asked.
    pub offline: bool,
    /// Requests under way that were cut off; their answers may have been paid for and are lost.
    pub cut: u64,
    /// Answers that were paid for and could not be put into the journal, because the system refused it.
    pub lost: u64,
    /// Why the command stopped before the end of its input; `None` where it did not.
    pub stopped: Option<StopReason>,
    /// Rows that failed in this command by class, most first; after a retry, all that are failed.
    pub failures: Vec<(String, u64)>,
    /// Of a retry: failed rows that it did not take up. They are in `counts`.
    pub left_failed: u64,
    /// Of a retry: rows of the run's input that are neither finished nor failed, and that no retry makes. They are in
    /// `counts`. `None` where nobody knows: the run was killed, and its rows came one by one.
    pub left_pending: Option<u64>,
    /// Where the time went.
    pub times: Times,
}

/// What a retry leaves as it is.
pub(crate) struct Left {
    /// Failed rows, by class.
    pub(crate) failed: Vec<(String, u64)>,
    /// Rows of the run's input that no command has made.
    pub(crate) pending: Option<u64>,
}

impl Report {
    /// The dataset.
    pub fn result_path(&self) -> PathBuf {
        self.run_dir.join("result.jsonl")
    }

    /// The rows that could not be made.
    pub fn failures_path(&self) -> PathBuf {
        self.run_dir.join("failures.jsonl")
    }

    /// Counts the rows too that a retry leaves as they are: not all is well because a part of it is.
    pub(crate) fn with_left(mut self, left: Left) -> Report {
        let Left { failed, pending } = left;
        for (class, rows) in failed {
            self.left_failed += rows;
            match self.failures.iter_mut().find(|(known, _)| *known == class) {
                Some((_, count)) => *count += rows,
                None => self.failures.push((class, rows)),
            }
        }
        self.failures
            .sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
        self.left_pending = pending;
        let pending = pending.unwrap_or(0);
        self.counts.failed += self.left_failed;
        self.counts.pending += pending;
        self.counts.rows += self.left_failed + pending;
        self
    }

    /// Whether every row of the input is in the dataset.
    pub fn is_complete(&self) -> bool {
        self.counts.failed == 0
            && self.counts.pending == 0
            && self.left_pending.is_some()
            && self.stopped.is_none()
    }
}

/// Tokens in words, and of how many answers they are a guess, because those do not say.
///
/// ```
/// use data_generation_pipeline_core::tokens_in_words;
///
/// assert_eq!(tokens_in_words(8, 4, 0), "8 prompt + 4 completion");
/// assert_eq!(tokens_in_words(8, 4, 1), "about 8 prompt + 4 completion (1 answer does not say)");
/// ```
pub fn tokens_in_words(prompt: u64, completion: u64, untold: u64) -> String {
    let tokens = format!("{prompt} prompt + {completion} completion");
    match untold {
        0 => tokens,
        1 => format!("about {tokens} (1 answer does not say)"),
        some => format!("about {tokens} ({some} answers do not say)"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            rows,
            ok,
            failed,
            skipped,
            pending,
        } = self.counts;
        let title = match &self.stopped {
            None if failed > 0 => "finished, with failed rows",
            None if pending > 0 => "finished, with pending rows",
            None => "finished",
            Some(_) => "stopped",
        };
        write!(
            f,
            "{title}{}: {rows} {}",
            if self.offline {
                " (offline: no model was asked)"
            } else {
                ""
            },
            if rows == 1 { "row" } else { "rows" }
        )?;
        write!(
            f,
            " = {ok} ok + {failed} failed + {skipped} done before + {pending} pending"
        )?;
        write!(
            f,
            "\n  requests  {} ({} {})",
            self.requests,
            self.retries,
            if self.retries == 1 {
                "retry"
            } else {
                "retries"
            }
        )?;
        write!(
            f,
            "\n  tokens    {}",
            tokens_in_words(self.prompt_tokens, self.completion_tokens, self.untold)
        )?;
        let seconds = self.wall.as_secs_f64();
        write!(f, "\n  time      {seconds:.1} s")?;
        if ok > 0 && seconds > 0.0 {
            write!(f, ", {:.1} rows a second", ok as f64 / seconds)?;
        }
        if let Some(waited) = self.times.summary() {
            write!(f, "\n  waited    {waited}")?;
        }
        write!(f, "\n  result    {}", self.result_path().display())?;
        if failed > 0 {
            write!(f, "\n  failures  {}", self.failures_path().display())?;
            for (class, count) in &self.failures {
                write!(f, "\n            {count} x {class}")?;
            }
        }
        let left = [
            (
                self.left_failed,
                "failed row was not asked again",
                "failed rows were not asked again",
            ),
            (
                self.left_pending.unwrap_or(0),
                "row of the run is pending, and no retry makes it",
                "rows of the run are pending, and no retry makes them",
            ),
            (
                self.not_in_input,
                "finished row is not in this input; it stays",
                "finished rows are not in this input; they stay",
            ),
            (
                self.cut,
                "answer under way was cut off",
                "answers under way were cut off",
            ),
            (
                self.lost,
                "answer that was paid for could not be written",
                "answers that were paid for could not be written",
            ),
        ];
        if self.left_pending.is_none() {
            write!(f, "\n  nobody knows how many rows of the run are pending")?;
        }
        for (count, one, more) in left {
            match count {
                0 => {}
                1 => write!(f, "\n  1 {one}")?,
                count => write!(f, "\n  {count} {more}")?,
            }
        }
        if let Some(reason) = &self.stopped {
            write!(f, "\n  stopped:  {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_change_sides_keep_the_sum() {
        let mut counts = Counts {
            rows: 10,
            ok: 2,
            failed: 3,
            skipped: 4,
            pending: 1,
        };
        counts.shift(2, 0);
        assert_eq!((counts.ok, counts.failed), (4, 1));
        // More than there are: another command counted them.
        counts.shift(5, 0);
        assert_eq!((counts.ok, counts.failed), (5, 0));
        counts.shift(0, 7);
        assert_eq!((counts.ok, counts.skipped, counts.failed), (0, 2, 7));
        counts.shift(0, 70);
        assert_eq!((counts.ok, counts.skipped, counts.failed), (0, 0, 9));
        assert_eq!(
            counts.rows,
            counts.ok + counts.failed + counts.skipped + counts.pending
        );
    }
}

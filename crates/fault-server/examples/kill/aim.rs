use std::fmt;
use std::time::Duration;

use crate::run_files::{RunFiles, Tear};
use crate::{IN_FLIGHT, ROWS, Tally};

/// The moment that a kill is meant for.
pub(crate) enum Aim {
    /// So long after the start, at the latest when the first request leaves.
    Start(Duration),
    /// When the torn end of a file is being repaired.
    Repair(Tear),
    /// So long after the first request has left.
    Asking(Duration),
    /// When so many more answers are in the journal.
    Answers(usize),
    /// When lines are being committed, after so many more answers.
    Commit(usize),
    /// When no more than so many rows are left.
    FewLeft(usize),
    /// When everything is there, or was already.
    Last,
}

impl Aim {
    pub(crate) fn choose(
        luck: &mut fastrand::Rng,
        number: u32,
        kills: u32,
        files: &RunFiles,
        torn: Option<Tear>,
        tally: &Tally,
    ) -> Aim {
        let left = kills - number;
        if left < kills.div_ceil(20) {
            // Each is nearer to the end than the one before, and the last one is before it all the same.
            return Aim::FewLeft(24 + left as usize * 40 + luck.usize(..24));
        }
        if let Some(tear) = torn
            && luck.bool()
        {
            return Aim::Repair(tear);
        }
        // Rows are left for the kills to come: a run must go on until the last one.
        let rows = ROWS.saturating_sub(files.rows() + 2 * IN_FLIGHT);
        // A life makes some rows more while it is aimed at.
        let mean = (rows / (left as usize + 1)).saturating_sub(20);
        let answers = 1 + luck.usize(..=2 * mean);
        match luck.u32(..100) {
            0..15 if number > 1 => Aim::Start(tally.start_up.mul_f64(luck.f64() * 1.1)),
            15..30 => Aim::Asking(Duration::from_millis(luck.u64(..120))),
            30..65 => Aim::Commit(answers),
            _ => Aim::Answers(answers),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Aim::Start(_) => "starting",
            Aim::Repair(_) => "repairing",
            Aim::Asking(_) => "asking",
            Aim::Answers(_) => "answered",
            Aim::Commit(_) => "committing",
            Aim::FewLeft(_) => "nearly done",
            Aim::Last => "done",
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:11}", self.name())
    }
}

//! Which of the many moments of a run are tried: those that are alike only now and then. Where `FUZZ_TIMES`
//! is set, as for `.ci/fuzz` and a stage of `.ci/run`, all of them.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::path::Path;

use super::bench::{Command, assert_whole, copy_folder, run, run_dir};
use super::recorder::{FileId, Kind, Made, Recorder};

fn is_everything_tried() -> bool {
    std::env::var_os("FUZZ_TIMES").is_some()
}

/// Picks moments by the change that comes next: the first two of each kind of each file, and one in four of those
/// after them.
#[derive(Default)]
pub(super) struct Sample {
    met: HashMap<(Discriminant<Made>, Option<FileId>), usize>,
}

impl Sample {
    /// Whether this moment is tried; the end always is.
    pub(super) fn takes(&mut self, next: Option<&Made>) -> bool {
        let Some(made) = next else { return true };
        let file = match made {
            Made::Write(id, _) | Made::SetLength(id, _) | Made::Sync(id) => Some(*id),
            _ => None,
        };
        let met = self.met.entry((discriminant(made), file)).or_default();
        *met += 1;
        is_everything_tried() || *met <= 2 || met.is_multiple_of(4)
    }
}

/// What a command changes in a copy of a folder where nothing is refused, so that it can be told which changes there
/// are to refuse.
pub(super) struct Changes(Vec<(Kind, usize)>);

impl Changes {
    pub(super) async fn of(template: &Path, command: &Command) -> Changes {
        let root = tempfile::tempdir().unwrap();
        copy_folder(template, root.path());
        let recorder = Recorder::over(root.path(), None);
        let ran = run(root.path(), command, &recorder).await;
        assert!(ran.is_clean(), "nothing was refused, and yet it stopped");
        if command.start.fork.is_none() && command.piped.is_none() {
            assert_whole(&run_dir(root.path()), "the whole run");
        }
        Changes(recorder.counts().into_iter().collect())
    }

    /// How many there are of a kind, or of all.
    pub(super) fn count(&self, kind: Option<Kind>) -> usize {
        let such = |(other, _): &&(Kind, usize)| kind.is_none_or(|kind| kind == *other);
        self.0.iter().filter(such).map(|(_, count)| count).sum()
    }

    /// Which change of a kind is to be refused: the first and the last three, which are the odd ones, and one in four
    /// between them, others for another `salt`; and at last one that never comes.
    pub(super) fn to_refuse(&self, kind: Option<Kind>, salt: usize) -> Vec<usize> {
        let count = self.count(kind);
        let is_tried = |nth: &usize| {
            let is_odd = *nth <= 3 || nth + 3 > count;
            is_everything_tried() || is_odd || (nth + salt).is_multiple_of(4)
        };
        // A few more may come another time.
        let all = (1..=count).filter(is_tried);
        all.chain([usize::MAX]).collect()
    }
}

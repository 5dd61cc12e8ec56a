//! The power goes out at the moments of a command, whatever command it is.

use std::path::Path;
use std::sync::Arc;

use tokio::time::Instant;

use super::bench::copy_folder;
use super::losses::Told;
use super::power::{Dice, Platter};
use super::recorder::Recorder;
use super::sample::Sample;

/// What is left, and what was said before.
pub(super) struct Left<'a> {
    pub(super) root: &'a Path,
    pub(super) told: &'a Told,
    pub(super) now: Instant,
    /// Which loss it was, for messages.
    pub(super) point: &'a str,
    /// Whether the command had come to its end.
    pub(super) ended: bool,
    /// A number that is another one each time.
    pub(super) nth: usize,
}

/// Works in a copy of the template, and shows what each loss would leave. Returns how many there were.
pub(super) async fn at_every_moment(
    template: &Path,
    seed: u64,
    work: impl AsyncFnOnce(&Path, &Arc<Recorder>),
    mut look: impl AsyncFnMut(Left<'_>),
) -> usize {
    let root = tempfile::tempdir().unwrap();
    copy_folder(template, root.path());
    let recorder = Recorder::over(root.path(), None);
    work(root.path(), &recorder).await;
    let log = recorder.log();

    let mut dice = Dice(seed);
    let mut platter = Platter::holding(root.path(), recorder.found(), &[]);
    let mut told = Told::default();
    let (mut sample, mut losses) = (Sample::default(), 0);
    for at in 0..=log.len() {
        let next = log.get(at).map(|(_, made)| made);
        let tried = match sample.takes(next) {
            true => platter.losses(&mut dice),
            false => Vec::new(),
        };
        let next = next.map(ToString::to_string);
        for loss in tried {
            let left = tempfile::tempdir().unwrap();
            platter.lose(loss, &mut dice, left.path());
            let point = format!("before change {at} ({next:?}), {loss:?}");
            look(Left {
                root: left.path(),
                told: &told,
                now: log[at.min(log.len() - 1)].0,
                point: &point,
                ended: next.is_none(),
                nth: losses,
            })
            .await;
            losses += 1;
        }
        if let Some((when, made)) = log.get(at) {
            platter.apply(made);
            told.hear(*when, made);
        }
    }
    losses
}

//! The power goes out while a run begins as a copy of another, or in the place of one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::bench::{
    Command, answers_in, assert_whole, half_done, output_dir, rows_in, run, run_dir, run_well,
};
use super::losses::assert_promises;
use super::moments::at_every_moment;
use crate::Start;

const FILES: [&str; 3] = ["journal.jsonl", "result.jsonl", "failures.jsonl"];

fn contents(dir: &Path) -> [Vec<u8>; 3] {
    FILES.map(|name| std::fs::read(dir.join(name)).unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn a_fork_outlasts_a_power_loss_at_any_moment_and_its_source_is_left_alone() {
    let template = tempfile::tempdir().unwrap();
    half_done(template.path()).await;
    let (source, paid_for) = (
        contents(&run_dir(template.path())),
        answers_in(&run_dir(template.path())),
    );
    let command = Command {
        start: Start {
            fork: Some("copy".into()),
            ..Start::default()
        },
        ..Command::default()
    };
    let copy = |root: &Path| output_dir(root).join("copy");
    let mut with_answers = 0;
    let losses = at_every_moment(
        template.path(),
        5,
        async |root, recorder| {
            assert!(run(root, &command, recorder).await.is_clean());
            assert_whole(&copy(root), "the whole fork");
        },
        async |left| {
            let (root, point, dir) = (left.root, left.point, copy(left.root));
            assert!(contents(&run_dir(root)) == source, "{point}: the source");
            assert_promises(&dir, &command, left.told, left.now, point);
            let failed = rows_in(&dir, "failures.jsonl");
            with_answers += usize::from(!answers_in(&dir).is_empty());
            let kept: BTreeSet<_> = answers_in(&dir).union(&paid_for).copied().collect();
            let again = run_well(root, &command, point).await;
            for answer in &again.asked {
                let is_kept = kept.contains(answer) && !failed.contains_key(&answer.0);
                assert!(!is_kept, "{point}: {answer:?} is paid for and asked again");
            }
            assert!(!left.ended || again.asked.iter().all(|(n, _)| failed.contains_key(n)));
            assert_whole(&dir, point);
            assert!(contents(&run_dir(root)) == source, "{point}: the source");
        },
    )
    .await;
    assert!(losses > 80 && with_answers > 40, "{losses} {with_answers}");
}

/// All folders of runs, the hidden ones too.
fn runs(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(output_dir(root)).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_new_run_outlasts_a_power_loss_at_any_moment_and_the_old_one_is_kept() {
    let template = tempfile::tempdir().unwrap();
    half_done(template.path()).await;
    let old = contents(&run_dir(template.path()));
    let new = Command {
        start: Start {
            new: true,
            ..Start::default()
        },
        ..Command::default()
    };
    let (mut still_old, mut neither) = (0, 0);
    let losses = at_every_moment(
        template.path(),
        6,
        async |root, recorder| {
            assert!(run(root, &new, recorder).await.is_clean());
            assert_whole(&run_dir(root), "the whole run");
        },
        async |left| {
            let (root, point, dir) = (left.root, left.point, run_dir(left.root));
            let kept = |root: &Path| runs(root).iter().filter(|dir| contents(dir) == old).count();
            assert_eq!(kept(root), 1, "{point}: the old run");
            let is_old = contents(&dir) == old;
            still_old += usize::from(is_old);
            neither += usize::from(!dir.exists());
            assert_promises(&dir, &new, left.told, left.now, point);
            // Who goes on goes on with the one that is there; who begins afresh moves it aside.
            let afresh = left.nth % 3 == 0;
            let plain = Command::default();
            let command = if afresh { &new } else { &plain };
            let (answers, failed) = (answers_in(&dir), rows_in(&dir, "failures.jsonl"));
            let again = run_well(root, command, point).await;
            for answer in &again.asked {
                let is_kept = answers.contains(answer) && !failed.contains_key(&answer.0);
                assert!(afresh || !is_kept, "{point}: {answer:?} is asked again");
            }
            assert_whole(&dir, point);
            if afresh || !is_old {
                assert_eq!(kept(root), 1, "{point}: the old run");
            }
        },
    )
    .await;
    assert!(
        losses > 80 && still_old > 5 && neither > 0,
        "{losses} {still_old} {neither}"
    );
}

//! The power goes out before the changes of a run, and the same command goes on with what is left.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::bench::{
    Command, ROWS, answers_in, assert_whole, copy_folder, fails, half_done, lines, rows_in, run,
    run_dir, run_well,
};
use super::power::{Dice, Platter};
use super::recorder::{Made, Recorder};
use super::sample::Sample;
use crate::{Durability, Manifest, RunOptions};

/// What the run said, up to the moment of the loss.
#[derive(Default)]
pub(super) struct Told {
    acknowledged: Vec<(Instant, (i64, u32))>,
    committed: BTreeSet<i64>,
}

impl Told {
    pub(super) fn hear(&mut self, at: Instant, made: &Made) {
        match made {
            Made::Acknowledged(n, attempt) => self.acknowledged.push((at, (*n, *attempt))),
            Made::Committed(n) => drop(self.committed.insert(*n)),
            _ => {}
        }
    }
}

/// What is left must hold everything that was promised, before anybody goes on with it.
pub(super) fn assert_promises(dir: &Path, command: &Command, told: &Told, now: Instant, at: &str) {
    let answers = answers_in(dir);
    let promised = match command.durability {
        Durability::Each => Duration::ZERO,
        // A timer may be a millisecond late.
        Durability::Group => RunOptions::default().sync_every + Duration::from_millis(2),
    };
    for (since, answer) in &told.acknowledged {
        let must_be_there = command.durability == Durability::Each || *since + promised < now;
        assert!(
            !must_be_there || answers.contains(answer),
            "{at}: the answer {answer:?} is lost"
        );
    }
    let finished = rows_in(dir, "result.jsonl");
    for n in &told.committed {
        assert!(
            finished.contains_key(n),
            "{at}: row {n} was told to be finished and is lost"
        );
    }
    let journaled: BTreeSet<String> = lines(dir, "journal.jsonl")
        .iter()
        .map(|line| line["row"].as_str().unwrap().to_owned())
        .collect();
    for name in ["result.jsonl", "failures.jsonl"] {
        for line in lines(dir, name) {
            let id = line["id"].as_str().unwrap();
            assert!(
                journaled.contains(id),
                "{at}: a line of {name} without its answer"
            );
        }
    }
}

/// One run, and a power loss before its changes and after the last. Returns how many losses there were.
async fn lose_power(template: &Path, command: &Command, unsynced: &[&str], seed: u64) -> usize {
    let root = tempfile::tempdir().unwrap();
    copy_folder(template, root.path());
    let recorder = Recorder::over(root.path(), None);
    assert!(run(root.path(), command, &recorder).await.is_clean());
    assert_whole(&run_dir(root.path()), "the whole run");
    let log = recorder.log();

    let mut dice = Dice(seed);
    let mut platter = Platter::holding(root.path(), recorder.found(), unsynced);
    let mut told = Told::default();
    let (mut sample, mut losses) = (Sample::default(), 0);
    for at in 0..=log.len() {
        let now = log[at.min(log.len() - 1)].0;
        let tried = sample.takes(log.get(at).map(|(_, made)| made));
        for loss in platter.losses(&mut dice) {
            if !tried {
                continue;
            }
            losses += 1;
            let next = log.get(at).map(|(_, made)| made.to_string());
            let point = format!(
                "{:?}, before change {at} ({next:?}), {loss:?}",
                command.durability
            );
            let left = tempfile::tempdir().unwrap();
            platter.lose(loss, &mut dice, left.path());
            let dir = run_dir(left.path());
            assert_promises(&dir, command, &told, now, &point);
            if next.is_none() {
                let finished = rows_in(&dir, "result.jsonl").len();
                let expected = (0..ROWS).filter(|n| !fails(*n)).count();
                assert_eq!(
                    finished, expected,
                    "{point}: the run was told to be complete"
                );
                assert!(
                    Manifest::read(&dir).unwrap().unwrap().is_finished(),
                    "{point}"
                );
            }
            let failed = rows_in(&dir, "failures.jsonl");
            let kept = answers_in(&dir);
            let again = run_well(left.path(), command, &point).await;
            for answer in &again.asked {
                let is_kept = kept.contains(answer) && !failed.contains_key(&answer.0);
                assert!(!is_kept, "{point}: {answer:?} is there and is asked again");
            }
            assert_whole(&dir, &point);
        }
        if let Some((when, made)) = log.get(at) {
            platter.apply(made);
            told.hear(*when, made);
        }
    }
    losses
}

fn commands() -> [Command; 2] {
    [Durability::Group, Durability::Each].map(|durability| Command {
        durability,
        ..Command::default()
    })
}

#[tokio::test(start_paused = true)]
async fn a_fresh_run_outlasts_a_power_loss_at_any_moment() {
    let nothing = tempfile::tempdir().unwrap();
    for command in commands() {
        let losses = lose_power(nothing.path(), &command, &[], 1).await;
        assert!(losses > 80, "only {losses}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_resumed_run_outlasts_a_power_loss_at_any_moment() {
    let half = tempfile::tempdir().unwrap();
    half_done(half.path()).await;
    for command in commands() {
        let losses = lose_power(half.path(), &command, &[], 3).await;
        assert!(losses > 40, "only {losses}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_run_left_unsynced_is_durable_before_anything_rests_on_it() {
    let half = tempfile::tempdir().unwrap();
    half_done(half.path()).await;
    // Killed when it had written its last line: the next command has nothing to add to the dataset.
    let all = tempfile::tempdir().unwrap();
    run_well(all.path(), &Command::default(), "all of it").await;
    let unsynced = ["result.jsonl", "failures.jsonl"];
    for template in [half, all] {
        let losses = lose_power(template.path(), &Command::default(), &unsynced, 4).await;
        assert!(losses > 40, "only {losses}");
    }
}

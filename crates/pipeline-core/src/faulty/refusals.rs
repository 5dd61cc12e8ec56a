//! The n-th change of the disk is refused, for every kind of change, until a run comes through clean.

use std::collections::BTreeSet;
use std::path::Path;

use super::bench::{
    Answer, Command, Ran, answers_in, assert_whole, copy_folder, half_done, output_dir, rows_in,
    run, run_dir, run_well,
};
use super::recorder::{Fault, How, Kind, Recorder};
use super::sample::Changes;
use crate::{Durability, Start, StopKind};

/// Every kind of change with every way to refuse it, and how many of them the shortest of the runs below makes
/// at least.
const REFUSALS: [(Option<Kind>, How, usize); 12] = [
    (Some(Kind::Write), How::Eio, 10),
    (Some(Kind::Write), How::Enospc, 10),
    (Some(Kind::Write), How::Short, 10),
    (Some(Kind::Write), How::ShortAndStuck, 10),
    (Some(Kind::Write), How::FullFromThen, 10),
    (Some(Kind::Sync), How::Eio, 7),
    (Some(Kind::SyncFolder), How::Eio, 2),
    (Some(Kind::Open), How::Eio, 6),
    (Some(Kind::Rename), How::Eio, 2),
    (Some(Kind::SetLength), How::Eio, 1),
    (Some(Kind::MakeFolder), How::Enospc, 0),
    (None, How::GoneFromThen, 30),
];

/// What can go wrong in other ways where a folder begins differently.
const BEGINNING: [(Option<Kind>, How); 6] = [
    (Some(Kind::Write), How::Short),
    (Some(Kind::Sync), How::Eio),
    (Some(Kind::SyncFolder), How::Eio),
    (Some(Kind::Open), How::Eio),
    (Some(Kind::Rename), How::Eio),
    (None, How::GoneFromThen),
];

/// What happened in a run that met a refusal must be said, and nothing more may be sent.
fn assert_stopped(ran: &Ran, recorder: &Recorder, told: &str) {
    match &ran.outcome {
        Err(error) => {
            assert!(error.is_io(), "{told}: {error}");
            assert!(ran.asked.is_empty(), "{told}: something was sent");
        }
        Ok(report) => {
            let stopped = report.stopped.as_ref();
            assert_eq!(
                stopped.map(|reason| reason.kind),
                Some(StopKind::Io),
                "{told}"
            );
        }
    }
    // A commit is refused on another thread: a row that was just looking may still send.
    assert!(
        recorder.asked_since_refused() <= 1,
        "{told}: the sending went on"
    );
    assert!(
        !recorder.synced_again(),
        "{told}: a sync that had failed was tried again"
    );
}

/// What was paid for and is in the journal; of a row that has failed it was judged, and the row is asked anew.
fn kept(dir: &Path, acknowledged: impl IntoIterator<Item = Answer>) -> BTreeSet<Answer> {
    let failed = rows_in(dir, "failures.jsonl");
    acknowledged
        .into_iter()
        .filter(|(n, _)| !failed.contains_key(n))
        .collect()
}

/// Runs, with a refusal at one n after the other, in copies of the template; each time the same command must then
/// finish. Returns how many runs met a refusal.
async fn refuse_each(
    template: &Path,
    command: &Command,
    changes: &Changes,
    (kind, how, at_least): (Option<Kind>, How, usize),
) -> usize {
    assert!(
        changes.count(kind) >= at_least,
        "{kind:?}: the run makes too few changes to prove anything"
    );
    let mut runs = 0;
    for nth in changes.to_refuse(kind, how as usize) {
        let told = format!("{kind:?} {how:?} {:?} {nth}", command.durability);
        let root = tempfile::tempdir().unwrap();
        copy_folder(template, root.path());
        let dir = run_dir(root.path());
        let recorder = Recorder::over(root.path(), Some(Fault { kind, nth, how }));
        let ran = run(root.path(), command, &recorder).await;
        if !recorder.has_refused() {
            assert!(
                ran.is_clean(),
                "{told}: nothing was refused, and yet it stopped"
            );
            assert_whole(&dir, &told);
            continue;
        }
        runs += 1;
        assert_stopped(&ran, &recorder, &told);

        let acknowledged = recorder.acknowledged();
        let in_journal = answers_in(&dir);
        for answer in &acknowledged {
            assert!(
                in_journal.contains(answer),
                "{told}: the answer {answer:?} is lost"
            );
        }
        let kept = kept(&dir, in_journal);
        let again = run_well(root.path(), command, &told).await;
        let doubled: Vec<_> = again
            .asked
            .iter()
            .filter(|answer| kept.contains(answer))
            .collect();
        assert!(
            doubled.is_empty(),
            "{told}: {doubled:?} were paid for and are asked again"
        );
        assert_whole(&dir, &told);
    }
    runs
}

/// With every refusal for group commit, and with those that are about acknowledging where each answer is synced.
async fn refuse_all(template: &Path) {
    let mut command = Command::default();
    let changes = Changes::of(template, &command).await;
    let mut runs = 0;
    for refusal in REFUSALS {
        runs += refuse_each(template, &command, &changes, refusal).await;
    }
    assert!(runs > 80, "only {runs} refusals");
    command.durability = Durability::Each;
    let changes = Changes::of(template, &command).await;
    for (kind, how) in [(Kind::Write, How::Short), (Kind::Sync, How::Eio)] {
        let runs = refuse_each(template, &command, &changes, (Some(kind), how, 10)).await;
        assert!(runs > 6, "only {runs} refusals");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_run_stops_at_any_refusal_and_the_same_command_finishes_it() {
    let nothing = tempfile::tempdir().unwrap();
    refuse_all(nothing.path()).await;
}

#[tokio::test(start_paused = true)]
async fn a_resumed_run_stops_at_any_refusal_and_the_same_command_finishes_it() {
    let half = tempfile::tempdir().unwrap();
    half_done(half.path()).await;
    refuse_all(half.path()).await;
}

#[tokio::test(start_paused = true)]
async fn a_fork_that_is_refused_anywhere_leaves_its_source_alone_and_can_be_made_again() {
    let template = tempfile::tempdir().unwrap();
    half_done(template.path()).await;
    let command = Command {
        start: Start {
            fork: Some("copy".into()),
            ..Start::default()
        },
        ..Command::default()
    };
    let source_journal = std::fs::read(run_dir(template.path()).join("journal.jsonl")).unwrap();
    let source = answers_in(&run_dir(template.path()));
    let changes = Changes::of(template.path(), &command).await;
    for (kind, how) in BEGINNING {
        for nth in changes.to_refuse(kind, how as usize) {
            let told = format!("{kind:?} {how:?} {nth}");
            let root = tempfile::tempdir().unwrap();
            copy_folder(template.path(), root.path());
            let recorder = Recorder::over(root.path(), Some(Fault { kind, nth, how }));
            let ran = run(root.path(), &command, &recorder).await;
            let copy = output_dir(root.path()).join("copy");
            if recorder.has_refused() {
                assert_stopped(&ran, &recorder, &told);
                let again = run_well(root.path(), &command, &told).await;
                let doubled = again.asked.iter().any(|(n, attempt)| {
                    source.contains(&(*n, *attempt)) && !super::bench::fails(*n)
                });
                assert!(!doubled, "{told}: {:?} asked again", again.asked);
            }
            assert_whole(&copy, &told);
            let journal = std::fs::read(run_dir(root.path()).join("journal.jsonl")).unwrap();
            assert!(
                journal == source_journal,
                "{told}: the source was written to"
            );
            if !recorder.has_refused() {
                assert!(
                    ran.is_clean() && nth > 1 || kind == Some(Kind::SetLength),
                    "{told}"
                );
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_run_that_is_refused_anywhere_loses_nothing_of_the_old_one() {
    let template = tempfile::tempdir().unwrap();
    half_done(template.path()).await;
    let old = std::fs::read(run_dir(template.path()).join("journal.jsonl")).unwrap();
    let command = Command {
        start: Start {
            new: true,
            ..Start::default()
        },
        ..Command::default()
    };
    let changes = Changes::of(template.path(), &command).await;
    for (kind, how) in BEGINNING {
        for nth in changes.to_refuse(kind, how as usize) {
            let told = format!("{kind:?} {how:?} {nth}");
            let root = tempfile::tempdir().unwrap();
            copy_folder(template.path(), root.path());
            let recorder = Recorder::over(root.path(), Some(Fault { kind, nth, how }));
            let ran = run(root.path(), &command, &recorder).await;
            let folders = std::fs::read_dir(output_dir(root.path())).unwrap();
            let kept = folders.filter(|folder| {
                let journal = folder.as_ref().unwrap().path().join("journal.jsonl");
                std::fs::read(journal).is_ok_and(|journal| journal == old)
            });
            assert_eq!(kept.count(), 1, "{told}: the old run");
            if recorder.has_refused() {
                assert_stopped(&ran, &recorder, &told);
                run_well(root.path(), &command, &told).await;
            }
            assert_whole(&run_dir(root.path()), &told);
            if !recorder.has_refused() {
                assert!(ran.is_clean() && nth > 1, "{told}");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_with_a_time_stamp_that_cannot_begin_leaves_no_folder_behind() {
    let command = Command {
        need_time_stamp: true,
        ..Command::default()
    };
    for (kind, how) in [
        (Kind::Write, How::Eio),
        (Kind::Open, How::Eio),
        (Kind::Sync, How::Eio),
        (Kind::SyncFolder, How::Eio),
        (Kind::MakeFolder, How::Eio),
        (Kind::Rename, How::Eio),
    ] {
        let mut refused = 0;
        for nth in 1.. {
            let told = format!("{kind:?} {nth}");
            let root = tempfile::tempdir().unwrap();
            let kind = Some(kind);
            let recorder = Recorder::over(root.path(), Some(Fault { kind, nth, how }));
            let ran = run(root.path(), &command, &recorder).await;
            if !recorder.has_refused() || ran.outcome.is_ok() {
                break;
            }
            refused += 1;
            assert_stopped(&ran, &recorder, &told);
            let left: Vec<_> = std::fs::read_dir(run_dir(root.path()))
                .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
                .unwrap_or_default();
            let with_manifest = left.iter().filter(|dir| dir.join("run.json").exists());
            assert_eq!(left.len(), with_manifest.count(), "{told}: {left:?}");
        }
        assert!(refused > 0, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_no_more_lines_still_takes_the_answers_that_are_under_way() {
    let mut tried = 0;
    for nth in 1.. {
        let root = tempfile::tempdir().unwrap();
        let fault = Fault {
            kind: Some(Kind::Sync),
            nth,
            how: How::Eio,
        };
        let recorder = Recorder::over(root.path(), Some(fault));
        let ran = run(root.path(), &Command::default(), &recorder).await;
        if !recorder.has_refused() {
            break;
        }
        let journal = answers_in(&run_dir(root.path()));
        for answer in &ran.asked {
            assert!(
                journal.contains(answer),
                "sync {nth}: {answer:?} was paid for and is gone"
            );
        }
        tried += usize::from(!ran.asked.is_empty());
    }
    assert!(tried > 3, "only {tried} runs had sent something");
}

#[tokio::test(start_paused = true)]
async fn a_fresh_run_of_a_few_rows_syncs_no_more_than_it_must() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(output_dir(root.path())).unwrap();
    std::fs::write(output_dir(root.path()).join(".gitkeep"), "").unwrap();
    let command = Command {
        limit: Some(3),
        ..Command::default()
    };
    let recorder = Recorder::over(root.path(), None);
    assert!(run(root.path(), &command, &recorder).await.is_clean());
    let counts = recorder.counts();
    // Folders: the one above the new folder, and the new one for each manifest. Files: both manifests, the
    // journal, the dataset.
    assert_eq!((counts[&Kind::SyncFolder], counts[&Kind::Sync]), (3, 4));
}

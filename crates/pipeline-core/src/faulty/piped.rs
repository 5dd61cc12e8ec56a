//! Other rows come from standard input, on a disk that refuses and on one that loses power: those of before are the
//! only copy that there is.

use std::path::Path;

use super::bench::{Command, ROWS, assert_whole, copy_folder, piped, run, run_dir, run_well};
use super::moments::at_every_moment;
use super::recorder::{Fault, How, Kind, Recorder};
use super::sample::Changes;

fn of(rows: i64) -> Command {
    Command {
        piped: Some(rows),
        ..Command::default()
    }
}

/// A run that came to its half.
async fn half_of_what_was_piped(root: &Path) {
    let first = Command {
        limit: Some(ROWS as u64 / 2),
        ..of(ROWS)
    };
    run_well(root, &first, "the first half").await;
}

/// What the folder holds of standard input, and whether a copy is there that was not accepted.
fn copies(dir: &Path) -> (Vec<String>, bool) {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let (new, kept): (Vec<_>, Vec<_>) = names
        .filter(|name| name.starts_with(".input"))
        .partition(|name| name == ".input.jsonl.new");
    let texts = kept
        .iter()
        .map(|name| std::fs::read_to_string(dir.join(name)).unwrap());
    (texts.collect(), !new.is_empty())
}

#[track_caller]
fn assert_kept(dir: &Path, rows: i64, told: &str) {
    let (texts, _) = copies(dir);
    assert!(texts.contains(&piped(ROWS)), "{told}: {texts:?}");
    let current = std::fs::read_to_string(dir.join(".input.jsonl")).unwrap();
    let is_whole = [ROWS, rows].iter().any(|rows| piped(*rows) == current);
    assert!(is_whole, "{told}: {current}");
}

#[tokio::test(start_paused = true)]
async fn the_rows_of_before_outlast_a_power_loss_at_any_moment() {
    let template = tempfile::tempdir().unwrap();
    half_of_what_was_piped(template.path()).await;
    let fewer = ROWS - 8;
    let losses = at_every_moment(
        template.path(),
        7,
        async |root, recorder| {
            assert!(run(root, &of(fewer), recorder).await.is_clean());
            assert!(!copies(&run_dir(root)).1, "a copy is left behind");
        },
        async |left| {
            assert_kept(&run_dir(left.root), fewer, left.point);
            run_well(left.root, &of(ROWS), left.point).await;
            assert_kept(&run_dir(left.root), ROWS, left.point);
            assert_whole(&run_dir(left.root), left.point);
        },
    )
    .await;
    assert!(losses > 80, "{losses}");
}

#[tokio::test(start_paused = true)]
async fn the_rows_of_before_are_kept_whatever_is_refused() {
    let template = tempfile::tempdir().unwrap();
    half_of_what_was_piped(template.path()).await;
    let fewer = ROWS - 8;
    let changes = Changes::of(template.path(), &of(fewer)).await;
    for (kind, how) in [
        (Some(Kind::Write), How::Short),
        (Some(Kind::Sync), How::Eio),
        (Some(Kind::SyncFolder), How::Eio),
        (Some(Kind::Open), How::Eio),
        (Some(Kind::Rename), How::Eio),
        (None, How::GoneFromThen),
    ] {
        let mut before_the_first_request = 0;
        for nth in changes.to_refuse(kind, how as usize) {
            let told = format!("{kind:?} {how:?} {nth}");
            let root = tempfile::tempdir().unwrap();
            copy_folder(template.path(), root.path());
            let recorder = Recorder::over(root.path(), Some(Fault { kind, nth, how }));
            let ran = run(root.path(), &of(fewer), &recorder).await;
            let dir = run_dir(root.path());
            assert_kept(&dir, fewer, &told);
            if !recorder.has_refused() {
                break;
            }
            if ran.outcome.is_err() {
                before_the_first_request += 1;
                // Nor can be removed what is on a disk that is gone.
                assert!(kind.is_none() || !copies(&dir).1, "{told}");
            }
            run_well(root.path(), &of(ROWS), &told).await;
            assert_kept(&dir, ROWS, &told);
            assert_whole(&dir, &told);
        }
        assert!(before_the_first_request > 1, "{kind:?} {how:?}");
    }
}

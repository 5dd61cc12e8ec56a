//! The power goes out while files are replaced as a whole: lines are judged again, or bad ones moved aside.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::bench::{
    Command, ROWS, answers_in, assert_whole, half_done, judging_otherwise, lines, rows_in, run,
    run_dir, run_well,
};
use super::losses::assert_promises;
use super::moments::at_every_moment;
use super::recorder::Recorder;
use crate::disk::Disk;
use crate::{Manifest, Rejudge, Usage};

const FILES: [&str; 3] = ["journal.jsonl", "result.jsonl", "failures.jsonl"];

async fn extract(root: &Path, disk: Disk) {
    let workflow = judging_otherwise(&Recorder::over(root, None));
    let open = Rejudge::open_on(disk, &run_dir(root)).unwrap();
    let (settings, command) = (BTreeMap::new(), Value::Null);
    let mut progress = |_| {};
    let judged = open.judge(&workflow, "other", settings, command, &mut progress);
    judged.await.unwrap();
}

/// The whole lines of the files, and the extractor that they were made with.
fn state(dir: &Path) -> (Vec<Vec<Value>>, Option<Value>) {
    let manifest = Manifest::read(dir).unwrap().unwrap();
    assert!(manifest.put_in_place.is_empty());
    let lines = FILES.iter().map(|name| lines(dir, name)).collect();
    (lines, manifest.dataset.get("extract").cloned())
}

#[tokio::test(start_paused = true)]
async fn lines_that_are_judged_again_are_the_old_ones_or_the_new_ones_after_any_power_loss() {
    let template = tempfile::tempdir().unwrap();
    half_done(template.path()).await;
    let before = state(&run_dir(template.path()));
    let whole = tempfile::tempdir().unwrap();
    super::bench::copy_folder(template.path(), whole.path());
    extract(whole.path(), Disk::default()).await;
    let after = state(&run_dir(whole.path()));
    assert_eq!(before.0[0], after.0[0], "the journal");
    assert!(before.0[1] != after.0[1] && before.0[2] != after.0[2]);

    let (mut seen_before, mut seen_after) = (0, 0);
    let losses = at_every_moment(
        template.path(),
        7,
        async |root, recorder| extract(root, recorder.disk()).await,
        async |left| {
            let (dir, point) = (run_dir(left.root), left.point);
            let said = crate::status(&dir, |_, _| Usage::default()).unwrap();
            assert_eq!(said.damage, [""; 0], "{point}");
            // Whoever opens it next comes to one of the two.
            drop(Rejudge::open_on(Disk::default(), &dir).unwrap());
            let now = state(&dir);
            seen_before += usize::from(now == before);
            seen_after += usize::from(now == after);
            assert!(now == after || now == before && !left.ended, "{point}");
            let rows = (now.0[1].len() as u64, now.0[2].len() as u64);
            assert_eq!((said.ok, said.failed), rows, "{point}: what is said of it");
            extract(left.root, Disk::default()).await;
            assert_eq!(state(&dir), after, "{point}: once more");
        },
    )
    .await;
    assert!(
        losses > 20 && seen_before > 5 && seen_after > 3,
        "{losses} {seen_before} {seen_after}"
    );
}

/// Cuts the line of this row in its middle, so that it is no JSON and yet a line.
fn damage(dir: &Path, name: &str, row: i64) -> String {
    let id = crate::row::Content::of(&format!("{{\"n\":{row}}}"), &mut Vec::new());
    let id = id.unwrap().id(0).to_string();
    let text = std::fs::read_to_string(dir.join(name)).unwrap();
    let line = text.lines().find(|line| line.contains(&id)).unwrap();
    let bad = line[..line.len() / 2].to_owned();
    std::fs::write(dir.join(name), text.replacen(line, &bad, 1)).unwrap();
    bad
}

#[tokio::test(start_paused = true)]
async fn a_repair_outlasts_a_power_loss_at_any_moment_and_throws_no_line_away() {
    let template = tempfile::tempdir().unwrap();
    half_done(template.path()).await;
    let dir = run_dir(template.path());
    let mut bad = vec![
        // The answer of this one is gone, of the others it is there.
        ("result.jsonl", damage(&dir, "result.jsonl", 1)),
        ("journal.jsonl", damage(&dir, "journal.jsonl", 1)),
        ("result.jsonl", damage(&dir, "result.jsonl", 2)),
        ("failures.jsonl", damage(&dir, "failures.jsonl", 3)),
    ];
    let result = std::fs::read_to_string(dir.join("result.jsonl")).unwrap();
    let twice = result
        .lines()
        .find(|line| line.contains("\"n\":6}"))
        .unwrap();
    std::fs::write(dir.join("result.jsonl"), format!("{twice}\n{result}")).unwrap();
    bad.push(("result.jsonl", twice.to_owned()));
    let good: Vec<Vec<Value>> = FILES.iter().map(|name| lines(&dir, name)).collect();

    let command = Command {
        repair: true,
        ..Command::default()
    };
    let (mut refused, mut repaired) = (0, 0);
    let losses = at_every_moment(
        template.path(),
        8,
        async |root, recorder: &Arc<Recorder>| {
            assert!(run(root, &command, recorder).await.is_clean());
            assert_whole(&run_dir(root), "the whole run");
        },
        async |left| {
            let (dir, point) = (run_dir(left.root), left.point);
            assert_promises(&dir, &command, left.told, left.now, point);
            assert_nothing_is_thrown_away(&dir, &bad, &good, point);
            // Without `--repair` it is refused or goes on, and never as if nothing had been there.
            let (answers, failed) = (answers_in(&dir), rows_in(&dir, "failures.jsonl"));
            let plain = run(
                left.root,
                &Command::default(),
                &Recorder::over(left.root, None),
            )
            .await;
            match &plain.outcome {
                Ok(report) => {
                    assert!(report.stopped.is_none(), "{point}: {report}");
                    repaired += 1;
                }
                Err(error) => {
                    assert!(error.to_string().contains("--repair"), "{point}: {error}");
                    assert!(plain.asked.is_empty() && !left.ended, "{point}");
                    refused += 1;
                }
            }
            let again = run_well(left.root, &command, point).await;
            for answer in plain.asked.iter().chain(&again.asked) {
                let may_be_asked = failed.contains_key(&answer.0) || super::bench::fails(answer.0);
                assert!(
                    may_be_asked || !answers.contains(answer),
                    "{point}: {answer:?}"
                );
            }
            assert_nothing_is_thrown_away(&dir, &bad, &good[..2], point);
            assert_whole(&dir, point);
        },
    )
    .await;
    assert!(
        losses > 60 && refused > 10 && repaired > 10,
        "{losses} {refused} {repaired}"
    );
}

/// Each bad line is where it was or aside, and the good ones are where they were. A row that failed may be finished
/// since.
fn assert_nothing_is_thrown_away(
    dir: &Path,
    bad: &[(&str, String)],
    good: &[Vec<Value>],
    point: &str,
) {
    let names = std::fs::read_dir(dir).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let aside: Vec<Value> = names
        .filter(|name| name.starts_with(".damaged-"))
        .flat_map(|name| lines(dir, &name))
        .collect();
    for (name, line) in bad {
        let text = std::fs::read(dir.join(name)).unwrap();
        let stays = String::from_utf8_lossy(&text)
            .lines()
            .any(|other| other == line);
        let is_aside = aside
            .iter()
            .any(|kept| kept["file"] == *name && kept["text"] == *line);
        assert!(stays || is_aside, "{point}: of {name} is gone: {line}");
    }
    for (name, good) in FILES.iter().zip(good) {
        let now = lines(dir, name);
        let is_gone = |line: &&Value| !now.contains(line);
        let gone: Vec<_> = good.iter().filter(is_gone).collect();
        assert!(
            gone.is_empty() || *name == "failures.jsonl",
            "{point}: {name}: {gone:?}"
        );
    }
    assert!(rows_in(dir, "result.jsonl").len() <= ROWS as usize);
}

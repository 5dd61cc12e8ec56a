//! A finished run whose files lost their ends, byte by byte, as when the machine goes down.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};

use data_generation_pipeline_core::{Report, Run, Source, Workflow};
use serde_json::Value;

use crate::cases::{is_tried, times};
use crate::harness::{Bench, Extract, rows};

const ROWS: i64 = 12;
const RESULT: &str = "result.jsonl";
const JOURNAL: &str = "journal.jsonl";
const FAILURES: &str = "failures.jsonl";

/// How an end was lost.
#[derive(Debug, Clone, Copy)]
enum Loss {
    Cut,
    /// The length is there and the bytes are not.
    Nuls,
    /// Only the last bytes came to the disk.
    NulsBeforeTheNewline,
}

/// A finished run: every fourth row failed, after an answer that was paid for.
struct Finished {
    bench: Bench,
    asked: Arc<Mutex<Vec<i64>>>,
    files: HashMap<&'static str, Vec<u8>>,
}

impl Finished {
    async fn new() -> Finished {
        let asked: Arc<Mutex<Vec<i64>>> = Arc::default();
        let hears = Arc::clone(&asked);
        let mut bench = Bench::behaving(move |row, _| {
            let n = row["n"].as_i64().unwrap();
            let mut asked = hears.lock().unwrap();
            let again = asked.len() >= ROWS as usize;
            asked.push(n);
            let word = if n % 4 == 3 && !again { "odd" } else { "good" };
            Ok(format!("{word} {n}"))
        });
        // Where a disk costs nothing there is time for every byte.
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            bench.dir = tempfile::tempdir_in(memory).unwrap();
            bench.ask.journal = bench.path().join(JOURNAL);
        }
        let mut finished = Finished {
            bench,
            asked,
            files: HashMap::new(),
        };
        let report = finished.run().await;
        assert_eq!((report.counts.ok, report.counts.failed), (9, 3));
        for name in [RESULT, JOURNAL, FAILURES, "run.json"] {
            let bytes = std::fs::read(finished.bench.path().join(name)).unwrap();
            finished.files.insert(name, bytes);
        }
        finished
    }

    async fn run(&self) -> Report {
        let mut run: Run = self.bench.run(Source::rows(rows(0..ROWS)));
        run.workflow = Workflow::new()
            .then(self.bench.ask.clone())
            .then(Extract("good "))
            .again_at_most(0);
        run.execute().await.unwrap()
    }

    /// Where the last lines of a file begin, so many of them.
    fn tail(&self, name: &str, lines: usize) -> std::ops::Range<usize> {
        let bytes = &self.files[name];
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let starts: Vec<usize> = std::iter::once(0)
            .chain(ends.map(|(at, _)| at + 1))
            .collect();
        starts[starts.len() - 1 - lines]..bytes.len()
    }

    /// Where a file is cut in its last lines, so many of them: near the ends of each line, and at one byte in five
    /// between them, which are all alike. `.ci/fuzz` tries every byte.
    fn places(&self, name: &str, lines: usize) -> Vec<usize> {
        let (bytes, tail) = (&self.files[name], self.tail(name, lines));
        let is_near_an_end = |at: usize| {
            let near = &bytes[at.saturating_sub(4)..bytes.len().min(at + 4)];
            near.contains(&b'\n')
        };
        tail.filter(|at| is_tried(*at, 5) || is_near_an_end(*at))
            .collect()
    }

    /// Goes on after these losses, and looks whether all is as it should be.
    async fn survives(&self, losses: &[(&'static str, usize, Loss)]) {
        let dir = self.bench.path();
        let mut kept = self.files.clone();
        for (name, bytes) in &self.files {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
        for (name, at, loss) in losses {
            let whole = &self.files[name];
            let mut bytes = whole[..*at].to_owned();
            match loss {
                Loss::Cut => {}
                Loss::Nuls => bytes.resize(whole.len(), 0),
                Loss::NulsBeforeTheNewline => {
                    bytes.resize(whole.len() - 1, 0);
                    bytes.push(b'\n');
                }
            }
            std::fs::write(dir.join(name), &bytes).unwrap();
            kept.insert(name, whole_lines(&bytes));
        }
        let what = format!("{losses:?}");
        let (results, failures) = (ns(&kept[RESULT]), ns(&kept[FAILURES]));
        let answered = answered(&kept[JOURNAL]);
        let expected: Vec<i64> = (0..ROWS)
            .filter(|n| !results.contains(n))
            .filter(|n| failures.contains(n) || !answered.contains(n))
            .collect();

        self.asked.lock().unwrap().truncate(ROWS as usize);
        let report = self.run().await;
        let mut asked = self.asked.lock().unwrap().split_off(ROWS as usize);
        asked.sort_unstable();
        assert_eq!(asked, expected, "asked again after {what}");
        assert!(report.stopped.is_none(), "{what}");
        assert_eq!(report.counts.pending, 0, "{what}");
        for name in [RESULT, JOURNAL] {
            let now = std::fs::read(dir.join(name)).unwrap();
            assert!(now.starts_with(&kept[name]), "{name} changed after {what}");
        }
        // A row that failed without its line is judged from the journal, and fails again.
        let mut all = self.bench.tally(RESULT);
        for (n, times) in self.bench.tally(FAILURES) {
            *all.entry(n).or_insert(0) += times;
        }
        assert_eq!(all, crate::harness::once_each(0..ROWS), "{what}");
        for line in self.bench.lines(RESULT) {
            assert_eq!(line["extracted"], line["input"]["n"].to_string(), "{what}");
        }
        let numbers: Vec<u64> = self.bench.lines(JOURNAL).iter().map(number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?} {what}");
    }
}

fn number(line: &Value) -> u64 {
    line["seq"].as_u64().unwrap()
}

/// What of a file's lines is still whole; a last one may lack its newline.
fn whole_lines(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let whole = lines.filter(|line| serde_json::from_slice::<Value>(line).is_ok());
    let mut whole: Vec<u8> = whole.flatten().copied().collect();
    if whole.last().is_some_and(|byte| *byte != b'\n') {
        whole.push(b'\n');
    }
    whole
}

fn values(lines: &[u8]) -> impl Iterator<Item = Value> {
    let text = std::str::from_utf8(lines).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

fn ns(lines: &[u8]) -> BTreeSet<i64> {
    values(lines)
        .map(|line| line["input"]["n"].as_i64().unwrap())
        .collect()
}

/// The rows whose answers these are: each answer ends with its row's number.
fn answered(journal: &[u8]) -> BTreeSet<i64> {
    let of = |line: Value| {
        let text = line["body"]["text"].as_str().unwrap().to_owned();
        text.rsplit(' ').next().unwrap().parse().unwrap()
    };
    values(journal).map(of).collect()
}

#[tokio::test]
async fn each_file_cut_at_any_byte_of_its_last_three_lines_goes_on() {
    let finished = Finished::new().await;
    let mut cases = 0;
    for name in [RESULT, JOURNAL, FAILURES] {
        for at in finished.places(name, 3) {
            finished.survives(&[(name, at, Loss::Cut)]).await;
            cases += 1;
        }
    }
    assert!(cases > 300, "{cases} cases");
}

#[tokio::test]
async fn nuls_from_any_byte_of_a_last_line_on_are_cut_off() {
    let finished = Finished::new().await;
    for name in [RESULT, JOURNAL, FAILURES] {
        for at in finished.places(name, 1) {
            finished.survives(&[(name, at, Loss::Nuls)]).await;
            if at + 1 < finished.files[name].len() {
                let loss = Loss::NulsBeforeTheNewline;
                finished.survives(&[(name, at, loss)]).await;
            }
        }
    }
}

#[tokio::test]
async fn all_files_cut_at_once_go_on() {
    let finished = Finished::new().await;
    let mut seed = 11_u64;
    let mut luck = |range: std::ops::Range<usize>| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        range.start + (seed >> 33) as usize % range.len()
    };
    let combinations = if is_tried(1, 5) { 300 } else { 60 };
    for _ in 0..combinations * times() {
        let cuts = [RESULT, JOURNAL, FAILURES].map(|name| {
            let at = luck(finished.tail(name, 3));
            (name, at, Loss::Cut)
        });
        // Two of the three, or all.
        let some = luck(0..3);
        finished.survives(&cuts[some.min(1)..]).await;
    }
}

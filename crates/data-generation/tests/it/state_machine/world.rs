//! What may happen to a run, in any order.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use data_generation::extract::tag;
use data_generation::{DataGenerationPipeline, Event, Source, StopHandle};

use super::audit::{Asked, Told};
use super::dice::{Dice, Extract};
use super::disk::{Disk, Entry};

/// What a row says.
pub(crate) type Content = (u32, u32);

/// How a command ends.
#[derive(Debug, Clone, Copy)]
enum How {
    ToTheEnd,
    /// Dropped after so many polls, as a kill would.
    Killed(u32),
    /// Interrupted at the so-many-th answer.
    Stopped(usize),
}

pub(crate) struct World {
    pub(crate) home: tempfile::TempDir,
    pub(crate) rng: fastrand::Rng,
    pub(crate) dice: Dice,
    /// The run that is worked on.
    pub(crate) name: String,
    /// The extractor that its folder was made with.
    pub(crate) extract: Extract,
    pub(crate) forks: u32,
    pub(crate) rows: Vec<Content>,
    /// What every id that was ever met says.
    pub(crate) known: HashMap<String, Content>,
    pub(crate) history: Arc<Mutex<Vec<String>>>,
}

impl World {
    pub(crate) fn new(seed: u64, history: Arc<Mutex<Vec<String>>>) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let dice = Dice {
            given: Arc::default(),
            rng: Arc::new(Mutex::new(rng.fork())),
        };
        let mut world = World {
            // Where there is a file system in memory, a sync costs nothing.
            home: tempfile::tempdir_in("/dev/shm")
                .or_else(|_| tempfile::tempdir())
                .unwrap(),
            rng,
            dice,
            name: "demo".into(),
            extract: None,
            forks: 0,
            rows: Vec::new(),
            known: HashMap::new(),
            history,
        };
        for _ in 0..world.rng.usize(1..8) {
            let row = world.row();
            world.rows.push(row);
        }
        world
    }

    fn row(&mut self) -> Content {
        (self.rng.u32(0..6), self.rng.u32(0..3))
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.home.path().join(&self.name)
    }

    fn note(&self, what: String) {
        self.history.lock().unwrap().push(what);
    }

    pub(crate) fn edit(&mut self) {
        let (row, at) = (self.row(), self.rng.usize(0..self.rows.len().max(1)));
        match self.rng.u32(0..6) {
            0 if self.rows.len() < 10 => self.rows.insert(at, row),
            1 if !self.rows.is_empty() => drop(self.rows.remove(at)),
            2 if !self.rows.is_empty() => self.rows[at] = row,
            3 if !self.rows.is_empty() && self.rows.len() < 10 => self.rows.push(self.rows[at]),
            4 => self.rng.shuffle(&mut self.rows),
            5 if self.rng.u32(0..4) == 0 => self.rows = vec![row],
            _ => return,
        }
        self.note(format!("rows are {:?}", self.rows));
    }

    /// What a power loss may do: the end of a file is gone, or is NULs. Never of the journal what lines rest on.
    pub(crate) fn tear(&mut self) {
        let file = ["result.jsonl", "failures.jsonl", "journal.jsonl"][self.rng.usize(0..3)];
        let path = self.dir().join(file);
        let Ok(text) = std::fs::read(&path) else {
            return;
        };
        let mut floor = text.len().saturating_sub(400);
        if file == "journal.jsonl" {
            let disk = Disk::read(&self.dir());
            let judged: BTreeSet<u64> = disk.failures.values().flatten().copied().collect();
            let rests = |entry: &Entry| judged.contains(&entry.0) || disk.is_finished(&entry.1);
            let lines = text.split_inclusive(|byte| *byte == b'\n');
            let keep = disk.journal.iter().rposition(rests).map_or(0, |at| at + 1);
            floor = floor.max(lines.take(keep).map(<[u8]>::len).sum());
        }
        if floor > text.len() {
            return;
        }
        let keep = self.rng.usize(floor..=text.len());
        let mut torn = text[..keep].to_vec();
        if self.rng.u32(0..3) == 0 {
            torn.resize(text.len(), 0);
        }
        self.note(format!("{file} is torn at {keep} of {}", text.len()));
        std::fs::write(&path, torn).unwrap();
    }

    fn pipeline(&self, name: &str) -> DataGenerationPipeline {
        DataGenerationPipeline::builder()
            .environment(std::iter::empty())
            .system_prompt(None)
            .user_prompt("Say {{n}}.")
            .output_dir(self.home.path().to_str().unwrap())
            .experiment_name(name)
            .need_time_stamp(false)
            .set("run.retry.max_attempts", 3)
            .own_model(self.dice.clone())
            .build()
            .unwrap()
    }

    /// The input as a file, each time written in another way.
    fn input(&mut self) -> PathBuf {
        let path = self.home.path().join("rows.jsonl");
        let mut text = String::new();
        for (n, v) in &self.rows {
            text.push_str(&match self.rng.bool() {
                true => format!("{{\"n\":{n},\"v\":{v}}}\n"),
                false => format!("\n{{ \"v\": {v}, \"n\" :{n} }}\r\n"),
            });
        }
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Nobody works on the folder any more, a commit that a kill has left behind included.
    fn at_rest(&self, dir: &Path) {
        let Ok(lock) = std::fs::File::open(dir.join("run.lock")) else {
            return;
        };
        lock.lock().unwrap();
    }

    pub(crate) async fn command(&mut self) {
        let before = Disk::read(&self.dir());
        let other = [None, Some("a"), Some("b")][self.rng.usize(0..3)];
        let (fork, extract) = match self.rng.u32(0..10) {
            0 => (true, self.extract),
            1 | 2 => (true, other),
            3 => (false, other),
            _ => (false, self.extract),
        };
        let limit = (self.rng.u32(0..5) == 0).then(|| self.rng.u64(0..8));
        let add = self.rng.bool();
        let concurrency = self.rng.usize(1..5);
        let how = match self.rng.u32(0..10) {
            0..3 => How::Killed(self.rng.u32(1..80)),
            3 | 4 => How::Stopped(self.rng.usize(0..8)),
            _ => How::ToTheEnd,
        };
        let name = match fork {
            true => format!("fork{}", self.forks),
            false => self.name.clone(),
        };
        self.note(format!(
            "{name}: extract {extract:?}, fork {fork}, limit {limit:?}, add {add}, {concurrency} at a time, {how:?}"
        ));

        let stop = StopHandle::new();
        let first = {
            let mut given = self.dice.given.lock().unwrap();
            let first = given.answers.len();
            given.stop_at = match how {
                How::Stopped(at) => Some((first + at, stop.clone())),
                _ => None,
            };
            first
        };
        let told: Arc<Mutex<Told>> = Arc::default();
        let ear = Arc::clone(&told);
        let pipeline = self.pipeline(&self.name);
        let input = self.input();
        let mut run = pipeline
            .run(Source::jsonl(&input))
            .concurrency_limit(concurrency)
            .stop_handle(&stop)
            .observer(move |event: &Event<'_>| ear.lock().unwrap().hear(event));
        if let Some(name) = extract {
            run = run.extractor(tag(name));
        }
        if let Some(rows) = limit {
            run = run.limit(rows);
        }
        if add {
            run = run.add();
        }
        if fork {
            run = run.fork(&name);
        }
        let polls = match how {
            How::Killed(polls) => polls,
            _ => u32::MAX,
        };
        let outcome = until_killed(run.into_future(), polls).await;
        let dir = self.home.path().join(&name);
        self.at_rest(&dir);
        let told = std::mem::take(&mut *told.lock().unwrap());
        let asked = Asked {
            extract,
            limit,
            add,
            fork,
            concurrency,
            first,
        };
        self.audit(&asked, &before, &dir, &told, outcome);
        if fork && dir.join("run.json").exists() {
            self.name = name;
            self.forks += 1;
            self.extract = extract;
        }
        if !fork && !before.has_answers() && dir.join("run.json").exists() {
            self.extract = extract;
        }
    }
}

/// `None` where it was dropped before its end.
async fn until_killed<F: Future + Unpin>(mut run: F, polls: u32) -> Option<F::Output> {
    let mut left = polls;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return std::task::Poll::Ready(None);
        }
        left -= 1;
        std::pin::Pin::new(&mut run).poll(cx).map(Some)
    })
    .await
}

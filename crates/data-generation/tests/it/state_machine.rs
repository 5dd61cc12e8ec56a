//! Running, killing, stopping, tearing, editing and forking in any order: a plain model says what must stand
//! on the disk afterwards.
//!
//! A sequence is what its seed makes of it; a failure names the seed, and `STATE_SEED=n` tries that one
//! alone. Where a run is killed is counted in polls, of which the threads that write have their share, so
//! that a seed may need a few tries.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation::extract::tag;
use data_generation::llm::{Answer, Headers, Model, Request, TransportError};
use data_generation::pipeline::ErrorKind;
use data_generation::{DataGenerationPipeline, Error, Event, Report, Source, StopHandle};
use futures::future::BoxFuture;
use serde_json::{Value, json};

/// Sequences in every run of the tests.
const SEQUENCES: u64 = 120;
/// Requests of one row in one command that a fault may cost: three questions (what was paid for before, the
/// first, the one after a miss) of three attempts each.
const BUDGET: usize = 9;

/// What a row says.
type Content = (u32, u32);

/// What a model gives; every answer that is paid for has a number of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Both,
    OnlyA,
    OnlyB,
    Empty,
    NoChoices,
    Page,
    Cut,
    Filtered,
    Broken,
    Busy,
    BadKey,
}

impl Kind {
    fn is_paid(self) -> bool {
        !matches!(self, Kind::Broken | Kind::Busy | Kind::BadKey)
    }

    /// Whether an extractor finds something in it.
    fn serves(self, extract: Extract) -> bool {
        match self {
            Kind::Both => true,
            Kind::OnlyA => extract != Some("b"),
            Kind::OnlyB => extract != Some("a"),
            _ => false,
        }
    }

    fn text(self, prompt: &str, number: usize) -> String {
        let part = |name: &str| format!("<{name}>{prompt} serial-{number}-</{name}>");
        match self {
            Kind::OnlyA => part("a"),
            Kind::OnlyB => part("b"),
            _ => part("a") + &part("b"),
        }
    }

    fn answer(self, prompt: &str, number: usize) -> Answer {
        let body = |content: Value, reason: &str| {
            let body = json!({
                "id": format!("serial-{number}-"),
                "choices": [{"message": {"content": content}, "finish_reason": reason}],
            });
            Answer::from_body(200, body.to_string())
        };
        match self {
            Kind::Both | Kind::OnlyA | Kind::OnlyB => {
                body(json!(self.text(prompt, number)), "stop")
            }
            Kind::Empty => body(json!(""), "stop"),
            Kind::Cut => body(json!("<a>half"), "length"),
            Kind::Filtered => body(json!(null), "content_filter"),
            Kind::NoChoices => {
                Answer::from_body(200, format!(r#"{{"id":"serial-{number}-","choices":[]}}"#))
            }
            Kind::Page => Answer::from_body(200, format!("<html>serial-{number}-</html>")),
            Kind::Broken => Answer::from_body(500, "no"),
            Kind::BadKey => Answer::from_body(401, "no"),
            Kind::Busy => {
                let mut answer = Answer::from_body(429, "slow down");
                answer.headers = Headers::from_pairs([("retry-after-ms", "40")]);
                answer
            }
        }
    }
}

type Extract = Option<&'static str>;

#[derive(Default)]
struct Given {
    /// By number: for which prompt, and what.
    answers: Vec<(String, Kind)>,
    /// Stops the run at this number.
    stop_at: Option<(usize, StopHandle)>,
}

/// A model that gives what its dice say.
#[derive(Clone)]
struct Dice {
    given: Arc<Mutex<Given>>,
    rng: Arc<Mutex<fastrand::Rng>>,
}

impl Model for Dice {
    fn provider(&self) -> &str {
        "dice"
    }

    fn model(&self) -> &str {
        "dice-1"
    }

    fn ask<'a>(
        &'a self,
        request: &'a Request,
        _attempt: u32,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        Box::pin(async move {
            let (wait, kind) = {
                let mut rng = self.rng.lock().unwrap();
                let kind = match rng.u32(0..100) {
                    0..40 => Kind::Both,
                    40..52 => Kind::OnlyA,
                    52..64 => Kind::OnlyB,
                    64..70 => Kind::Empty,
                    70..76 => Kind::NoChoices,
                    76..80 => Kind::Page,
                    80..84 => Kind::Cut,
                    84..88 => Kind::Filtered,
                    88..96 => Kind::Broken,
                    96..99 => Kind::Busy,
                    _ => Kind::BadKey,
                };
                (rng.u64(0..400), kind)
            };
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let mut given = self.given.lock().unwrap();
            let number = given.answers.len();
            given.answers.push((request.user.clone(), kind));
            if let Some((_, stop)) = given.stop_at.as_ref().filter(|(at, _)| *at == number) {
                stop.interrupt();
            }
            Ok(kind.answer(&request.user, number))
        })
    }
}

/// What a run tells of its rows.
#[derive(Default)]
struct Told {
    started: Vec<(String, u64)>,
    sent: HashMap<String, usize>,
    finished: BTreeSet<String>,
    failed: BTreeSet<String>,
}

/// One line of the journal: number, row, and number of the answer.
type Entry = (u64, String, usize);

/// What a folder holds, read as plainly as can be.
#[derive(Default, Clone)]
struct Disk {
    results: Vec<(String, Value)>,
    /// The last line of each row that is not finished.
    failures: BTreeMap<String, Vec<u64>>,
    failure_lines: usize,
    journal: Vec<Entry>,
    holds_bytes: bool,
    /// Whether there is a run whose input is not known to be empty.
    had_rows: bool,
    /// Whole lines of results and journal as they stand.
    bytes: [Vec<u8>; 2],
}

fn whole_lines(path: &Path) -> (Vec<Value>, Vec<u8>) {
    let text = std::fs::read(path).unwrap_or_default();
    let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    // What a crash may leave at the end: a torn line, or NULs.
    if lines
        .last()
        .is_some_and(|last| serde_json::from_slice::<Value>(last).is_err())
    {
        lines.pop();
    }
    let values = lines
        .iter()
        .map(|line| serde_json::from_slice(line).unwrap());
    (values.collect(), lines.concat())
}

fn number_in(text: &str) -> usize {
    let (_, rest) = text.split_once("serial-").unwrap();
    rest.split('-').next().unwrap().parse().unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

impl Disk {
    fn read(dir: &Path) -> Disk {
        let (results, result_bytes) = whole_lines(&dir.join("result.jsonl"));
        let (failures, _) = whole_lines(&dir.join("failures.jsonl"));
        let (journal, journal_bytes) = whole_lines(&dir.join("journal.jsonl"));
        let results: Vec<_> = results
            .into_iter()
            .map(|line| (text(&line["id"]), line))
            .collect();
        let finished: BTreeSet<_> = results.iter().map(|(id, _)| id.clone()).collect();
        assert_eq!(finished.len(), results.len(), "a row is finished twice");
        let failure_lines = failures.len();
        let numbers = |line: &Value| {
            let numbers = line["answers"].as_array().unwrap().iter();
            numbers.map(|number| number.as_u64().unwrap()).collect()
        };
        let mut last: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for line in &failures {
            last.insert(text(&line["id"]), numbers(line));
        }
        last.retain(|id, _| !finished.contains(id));
        let entry = |line: Value| {
            let number = number_in(&line["body"].to_string());
            (line["seq"].as_u64().unwrap(), text(&line["row"]), number)
        };
        let journal: Vec<Entry> = journal.into_iter().map(entry).collect();
        assert!(
            journal.is_sorted_by(|a, b| a.0 < b.0),
            "numbers of the journal go down"
        );
        let numbers: BTreeSet<usize> = journal.iter().map(|entry| entry.2).collect();
        assert_eq!(
            numbers.len(),
            journal.len(),
            "an answer is in the journal twice"
        );
        let has_bytes = |name: &str| std::fs::metadata(dir.join(name)).is_ok_and(|it| it.len() > 0);
        let manifest = std::fs::read(dir.join("run.json")).ok();
        let manifest: Option<Value> = manifest.map(|text| serde_json::from_slice(&text).unwrap());
        Disk {
            had_rows: manifest.is_some_and(|manifest| manifest["input"]["rows"] != 0),
            holds_bytes: has_bytes("journal.jsonl") || has_bytes("result.jsonl"),
            results,
            failures: last,
            failure_lines,
            journal,
            bytes: [result_bytes, journal_bytes],
        }
    }

    fn is_finished(&self, id: &str) -> bool {
        self.results.iter().any(|(finished, _)| finished == id)
    }

    /// Answers of a row that no line rests on.
    fn unjudged<'a>(&'a self, id: &'a str) -> impl Iterator<Item = usize> + 'a {
        let judged = self.failures.get(id).cloned().unwrap_or_default();
        let own = self.journal.iter().filter(move |entry| entry.1 == id);
        own.filter(move |entry| !judged.contains(&entry.0))
            .map(|entry| entry.2)
    }

    /// Part of an answer is enough: what it was made with is not forgotten.
    fn has_answers(&self) -> bool {
        self.holds_bytes
    }
}

/// How a command ends.
#[derive(Debug, Clone, Copy)]
enum How {
    ToTheEnd,
    /// Dropped after so many polls, as a kill would.
    Killed(u32),
    /// Interrupted at the so-many-th answer.
    Stopped(usize),
}

struct World {
    home: tempfile::TempDir,
    rng: fastrand::Rng,
    dice: Dice,
    /// The run that is worked on.
    name: String,
    /// The extractor that its folder was made with.
    extract: Extract,
    forks: u32,
    rows: Vec<Content>,
    /// What every id that was ever met says.
    known: HashMap<String, Content>,
    history: Arc<Mutex<Vec<String>>>,
}

fn of(row: Content) -> String {
    format!("Say {}.", row.0)
}

fn tally(rows: impl IntoIterator<Item = Content>) -> BTreeMap<Content, usize> {
    let mut tally = BTreeMap::new();
    rows.into_iter()
        .for_each(|row| *tally.entry(row).or_insert(0) += 1);
    tally
}

/// How many of one are in the other.
fn common(one: &BTreeMap<Content, usize>, other: &BTreeMap<Content, usize>) -> usize {
    let of = |(row, count): (&Content, &usize)| *count.min(other.get(row).unwrap_or(&0));
    one.iter().map(of).sum()
}

impl World {
    fn new(seed: u64, history: Arc<Mutex<Vec<String>>>) -> World {
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

    fn dir(&self) -> PathBuf {
        self.home.path().join(&self.name)
    }

    fn note(&self, what: String) {
        self.history.lock().unwrap().push(what);
    }

    fn edit(&mut self) {
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
    fn tear(&mut self) {
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

    async fn command(&mut self) {
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

    /// Everything that must be so, whatever happened.
    fn audit(
        &mut self,
        asked: &Asked,
        before: &Disk,
        dir: &Path,
        told: &Told,
        outcome: Option<Result<Report, Error>>,
    ) {
        for (id, index) in &told.started {
            let row = self.rows[*index as usize];
            assert_eq!(
                *self.known.entry(id.clone()).or_insert(row),
                row,
                "an id of two rows"
            );
        }
        let source = Disk::read(&self.dir());
        let after = Disk::read(dir);
        if asked.fork {
            assert_eq!(
                source.bytes, before.bytes,
                "the source of a fork stays as it is"
            );
        }
        // A fork begins with all answers, none of them judged, and with no line.
        let begun = match asked.fork {
            true => Disk {
                journal: before.journal.clone(),
                ..Disk::default()
            },
            false => before.clone(),
        };
        let refusal = self.refusal(asked, before, &begun);
        let report = match (&outcome, refusal) {
            (Some(Err(error)), Some(expected)) => {
                let text = error.to_string();
                assert!(expected.is(error), "{expected:?} is expected: {text}");
                assert!(told.started.is_empty());
                assert_eq!(source.bytes, before.bytes);
                return;
            }
            (Some(Err(error)), None) => panic!("it is refused: {error}"),
            (Some(Ok(_)), Some(expected)) => panic!("it is not refused: {expected:?}"),
            (None, Some(_)) => {
                assert!(told.started.is_empty(), "it began what is to be refused");
                return;
            }
            (Some(Ok(report)), None) => Some(report),
            (None, None) => None,
        };
        if !asked.fork {
            for (now, then) in after.bytes.iter().zip(&before.bytes) {
                assert!(
                    now.starts_with(then.trim_ascii_end()),
                    "a line that stood there is gone"
                );
            }
        }
        self.audit_requests(asked, &begun, told);
        self.audit_lines(asked, &begun, &after, told, report.is_some());
        self.audit_journal(asked, &after, report.is_some());
        if let Some(report) = report {
            self.audit_counts(asked, &begun, &after, told, report);
        }
    }

    /// Why the command must be refused, if it must.
    fn refusal(&self, asked: &Asked, before: &Disk, begun: &Disk) -> Option<Refusal> {
        if asked.fork {
            return (!self.dir().join("run.json").exists()).then_some(Refusal::NothingToFork);
        }
        if before.has_answers() && asked.extract != self.extract {
            return Some(Refusal::Changed);
        }
        let finished = tally(begun.results.iter().map(|(id, _)| self.known[id]));
        let is_other = common(&tally(self.rows.iter().copied()), &finished) == 0;
        let is_other = !finished.is_empty() && is_other;
        let is_gone = self.rows.is_empty() && before.had_rows;
        ((is_other || is_gone) && !asked.add).then_some(Refusal::OtherInput)
    }

    /// Nobody is asked for what is finished or paid for, nor more often than the budget allows.
    fn audit_requests(&self, asked: &Asked, begun: &Disk, told: &Told) {
        let ids: BTreeSet<&String> = told.started.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), told.started.len(), "a row is taken up twice");
        let given = self.dice.given.lock().unwrap();
        let now = &given.answers[asked.first..];
        // A pause costs a row no attempt, and what stops the run is tried once more.
        let free = now
            .iter()
            .filter(|(_, kind)| matches!(kind, Kind::Busy | Kind::BadKey));
        let free = free.count();
        for (id, sent) in &told.sent {
            assert!(!begun.is_finished(id), "{id} is asked for and was finished");
            assert!(*sent <= BUDGET + free, "{sent} requests for one row");
            let good = begun
                .unjudged(id)
                .find(|number| given.answers[*number].1.serves(asked.extract));
            assert_eq!(
                good, None,
                "{id} is asked for though an answer was paid for"
            );
        }
        for id in ids {
            assert!(!begun.is_finished(id), "{id} is taken up and was finished");
        }
    }

    /// Each line belongs to its row, its answer and its extractor.
    fn audit_lines(&self, asked: &Asked, begun: &Disk, after: &Disk, told: &Told, is_whole: bool) {
        let given = self.dice.given.lock().unwrap();
        for (id, line) in &after.results[begun.results.len()..] {
            let row = self.known[id];
            assert_eq!(
                (&line["input"]["n"], &line["input"]["v"]),
                (&json!(row.0), &json!(row.1))
            );
            let number = number_in(line["response"].as_str().unwrap());
            let (prompt, kind) = &given.answers[number];
            assert_eq!(*prompt, of(row), "the answer of another row");
            assert_eq!(line["response"], kind.text(prompt, number));
            assert!(kind.serves(asked.extract));
            let expected = asked
                .extract
                .map(|_| json!([format!("{prompt} serial-{number}-")]));
            assert_eq!(line.get("extracted"), expected.as_ref());
            let own = after
                .journal
                .iter()
                .any(|entry| entry.1 == *id && entry.2 == number);
            assert!(own, "a line rests on no answer of the journal");
        }
        for (id, judged) in &after.failures {
            let own: BTreeSet<u64> = after
                .journal
                .iter()
                .filter(|entry| entry.1 == *id)
                .map(|entry| entry.0)
                .collect();
            let judged: BTreeSet<u64> = judged.iter().copied().collect();
            assert!(
                judged.is_subset(&own),
                "a failure rests on answers that are not its own"
            );
            // What a kill has cut off may be told and not yet written.
            if is_whole && told.failed.contains(id) {
                assert_eq!(
                    judged, own,
                    "{id} failed before all of its answers were judged"
                );
            }
        }
        for entry in &after.journal {
            if let Some(row) = self.known.get(&entry.1) {
                assert_eq!(
                    given.answers[entry.2].0,
                    of(*row),
                    "an answer under another row"
                );
            }
        }
    }

    /// What was paid for is there; only a kill may lose what was in flight.
    fn audit_journal(&self, asked: &Asked, after: &Disk, is_whole: bool) {
        let kept: BTreeSet<usize> = after.journal.iter().map(|entry| entry.2).collect();
        let given = self.dice.given.lock().unwrap();
        let paid =
            (asked.first..given.answers.len()).filter(|number| given.answers[*number].1.is_paid());
        let lost = paid.filter(|number| !kept.contains(number)).count();
        let in_flight = if is_whole { 0 } else { asked.concurrency };
        assert!(lost <= in_flight, "{lost} answers are lost");
    }

    fn audit_counts(
        &self,
        asked: &Asked,
        begun: &Disk,
        after: &Disk,
        told: &Told,
        report: &Report,
    ) {
        let counts = report.counts;
        let limit = asked.limit.unwrap_or(u64::MAX).min(self.rows.len() as u64);
        assert_eq!(counts.rows, limit);
        assert_eq!(
            counts.rows,
            counts.ok + counts.failed + counts.skipped + counts.pending
        );
        assert_eq!(
            counts.ok as usize,
            after.results.len() - begun.results.len()
        );
        assert_eq!(
            (counts.ok as usize, counts.failed as usize),
            (told.finished.len(), told.failed.len())
        );
        assert_eq!(report.requests as usize, told.sent.values().sum::<usize>());
        assert_eq!(
            after.failure_lines,
            after.failures.len(),
            "a failed row stands once, a finished one not at all"
        );
        let finished = tally(begun.results.iter().map(|(id, _)| self.known[id]));
        let wanted = tally(self.rows.iter().copied());
        let matched = common(&wanted, &finished);
        if asked.limit.is_none() {
            assert_eq!(counts.skipped as usize, matched);
            assert_eq!(report.not_in_input as usize, begun.results.len() - matched);
        }
        if report.stopped.is_none() {
            assert_eq!(counts.pending, 0);
            for (id, _) in &told.started {
                assert!(
                    told.finished.contains(id) != told.failed.contains(id),
                    "{id} is neither or both"
                );
                let given = self.dice.given.lock().unwrap();
                if begun
                    .unjudged(id)
                    .any(|number| given.answers[number].1.serves(asked.extract))
                {
                    assert!(
                        after.is_finished(id),
                        "{id} was paid for and is not finished"
                    );
                }
            }
        }
        if report.stopped.is_none() && asked.limit.is_none() {
            let done = after.results.iter().map(|(id, _)| id).chain(&told.failed);
            let done = tally(done.map(|id| self.known[id]));
            assert_eq!(common(&wanted, &done), self.rows.len(), "a row is lost");
        }
    }
}

/// A command as the model knows it.
struct Asked {
    extract: Extract,
    limit: Option<u64>,
    add: bool,
    fork: bool,
    concurrency: usize,
    /// The number of the first answer that it may have got.
    first: usize,
}

#[derive(Debug)]
enum Refusal {
    NothingToFork,
    Changed,
    OtherInput,
}

impl Refusal {
    fn is(&self, error: &Error) -> bool {
        let Error::Run(error) = error else {
            return false;
        };
        match self {
            Refusal::NothingToFork => error.to_string().contains("there is no run to go on with"),
            Refusal::Changed => matches!(error.kind(), ErrorKind::Changed { .. }),
            Refusal::OtherInput => matches!(error.kind(), ErrorKind::OtherInput { .. }),
        }
    }
}

impl Told {
    fn hear(&mut self, event: &Event<'_>) {
        match event {
            Event::RowStarted { id, index } => self.started.push((id.to_string(), *index)),
            Event::Sending { id, .. } => *self.sent.entry(id.to_string()).or_insert(0) += 1,
            Event::Finished { record } => drop(self.finished.insert(record.id.to_string())),
            Event::Failed { failure } => drop(self.failed.insert(failure.id.to_string())),
            _ => {}
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

fn sequence(seed: u64, history: Arc<Mutex<Vec<String>>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(seed, history);
        for _ in 0..world.rng.u32(3..10) {
            match world.rng.u32(0..10) {
                0..3 => world.edit(),
                3 | 4 => world.tear(),
                _ => world.command().await,
            }
        }
    });
}

#[test]
fn whatever_happens_to_a_run_nothing_paid_for_is_lost_and_no_row_is_doubled() {
    let of_the_environment = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seeds = match of_the_environment("STATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..SEQUENCES * of_the_environment("FUZZ_TIMES").unwrap_or(1),
    };
    for seed in seeds {
        let history = Arc::default();
        let told = Arc::clone(&history);
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| sequence(seed, told)));
        if outcome.is_err() {
            let history = history.lock().unwrap().join("\n  ");
            panic!("the sequence of STATE_SEED={seed}, reason above:\n  {history}");
        }
    }
}

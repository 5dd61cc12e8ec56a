//! A whole run against the fault server, and the laws that hold whatever the server does.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation::extract::tag;
use data_generation::{DataGenerationPipeline, Event, Report, StopHandle};
use data_generation_fault_server::trial::{Patience, expect, same};
use data_generation_fault_server::{FAULTS, Fault, FaultServer, Got, Plan, Seen};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::Home;

/// So much quicker than in life do plays stall.
const HURRY: u32 = 200;

/// Longer than a good answer takes on a machine that does much else.
const PATIENT: Patience = Patience {
    connect: Duration::from_secs(60),
    idle: Duration::from_secs(60),
    total: Duration::from_secs(60),
};

/// A folder and settings for one run, or for several one after another.
pub(crate) struct Stage {
    home: Home,
    pub(crate) patience: Patience,
    pub(crate) rows: u64,
    pub(crate) places: usize,
    /// Settings beyond those that all have.
    settings: Vec<(&'static str, Value)>,
}

/// What came of a run.
pub(crate) struct Played {
    pub(crate) report: Report,
    pub(crate) seen: Seen,
    pub(crate) told: Vec<(Instant, Told)>,
    pub(crate) fates: BTreeMap<u64, Fate>,
    journal: Vec<Line>,
    names: HashMap<String, u64>,
}

/// A line of the journal. Its body stays unread: it is what the endpoint sent, and no reader need like it.
#[derive(Deserialize)]
struct Line {
    seq: u64,
    row: String,
}

/// What a run tells while it works, as far as it matters here; rows by their number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    Sending(u64),
    Answered(u64),
    Retrying(u64),
    Paused(Duration),
    Stopping,
}

/// What became of a row: its line.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    Done(Value),
    Failed(Value),
    Pending,
}

impl Stage {
    pub(crate) fn new(fault: &Fault) -> Stage {
        Stage {
            home: quick_home(),
            patience: Patience::for_fault(fault, Duration::from_secs(3), PATIENT.total),
            rows: 8,
            places: 1,
            settings: vec![("run.retry.base_delay_s", json!(0.0))],
        }
    }

    pub(crate) fn set(mut self, key: &'static str, value: impl Into<Value>) -> Stage {
        self.settings.push((key, value.into()));
        self
    }

    /// Whether it gives answers up so early that some requests may never have come.
    pub(crate) fn is_impatient(&self) -> bool {
        let Patience { idle, total, .. } = self.patience;
        idle.min(total) < Duration::from_millis(500)
    }

    fn pipeline(&self, url: &str) -> DataGenerationPipeline {
        let Patience {
            connect,
            idle,
            total,
        } = self.patience;
        let builder = self
            .home
            .builder()
            .user_prompt("row {{n}}")
            .base_url(url)
            .api_key_env(None)
            .model("m-1")
            .set("model.timeouts.connect_s", connect.as_secs_f64())
            .set("model.timeouts.idle_s", idle.as_secs_f64())
            .set("model.timeouts.total_s", total.as_secs_f64())
            .set("run.sync_ms", 100);
        let set = |builder: data_generation::Builder, (key, value): &(&str, Value)| {
            builder.set(key, value)
        };
        let builder = self.settings.iter().fold(builder, set);
        builder.build().expect("the settings are sound")
    }

    /// Runs all rows in the folder against an endpoint that follows the plan.
    pub(crate) async fn play(&self, plan: Plan) -> Result<Played, String> {
        let server = FaultServer::start(plan.hurried(HURRY)).map_err(|error| error.to_string())?;
        self.play_on(server, &StopHandle::new()).await
    }

    pub(crate) async fn play_on(
        &self,
        server: FaultServer,
        stop: &StopHandle,
    ) -> Result<Played, String> {
        let pipeline = self.pipeline(server.url());
        let rows: Vec<Value> = (1..=self.rows).map(|n| json!({"n": n})).collect();
        let told = Arc::new(Mutex::new((Vec::new(), HashMap::new())));
        let ear = Arc::clone(&told);
        let report = pipeline
            .run(rows)
            .concurrency_limit(self.places)
            .extractor(tag("draft"))
            .stop_handle(stop)
            .observer(move |event: &Event<'_>| hear(&mut ear.lock().unwrap(), event))
            .await
            .map_err(|error| format!("the run did not start: {error}"))?;
        drop(pipeline);
        let seen = server.stop();
        let (told, names) = std::mem::take(&mut *told.lock().unwrap());
        let fates = fates(&self.home, self.rows)?;
        let journal = std::fs::read(self.home.dir.path().join("demo/journal.jsonl"));
        let journal = journal.map_err(|error| error.to_string())?;
        let lines = journal
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        let journal = lines.map(serde_json::from_slice).collect::<Result<_, _>>();
        let journal = journal.map_err(|error| format!("the journal: {error}"))?;
        Ok(Played {
            report,
            seen,
            told,
            fates,
            journal,
            names,
        })
    }

    /// Another run in the same folder, against an endpoint that does nothing wrong: every row is done in the
    /// end, and none that was done is asked again.
    pub(crate) async fn finish(mut self, before: &Played) -> Result<(), String> {
        self.patience = PATIENT;
        let after = self.play(Plan::good()).await?;
        let left: Vec<u64> = before
            .fates
            .iter()
            .filter(|(_, fate)| !matches!(fate, Fate::Done(_)))
            .map(|(row, _)| *row)
            .collect();
        let counts = after.report.counts;
        let done = self.rows - left.len() as u64;
        same(
            "skipped, ok, failed, pending of the second run",
            (done, left.len() as u64, 0, 0),
            (counts.skipped, counts.ok, counts.failed, counts.pending),
        )?;
        let asked: Vec<u64> = after.seen.by_row().into_keys().collect();
        same("rows that the second run asked", left.clone(), asked)?;
        same("requests of the second run", left.len(), after.seen.total())
    }
}

/// A folder in memory where the system has such a place: what is tried here is what becomes of answers, and the
/// disk, with its thousands of syncs, would be the slowest part of it.
fn quick_home() -> Home {
    match tempfile::tempdir_in("/dev/shm") {
        Ok(dir) => Home { dir },
        Err(_) => Home::new(),
    }
}

fn hear((told, names): &mut (Vec<(Instant, Told)>, HashMap<String, u64>), event: &Event<'_>) {
    let row = |id: &data_generation::pipeline::RowId| names.get(&id.to_string()).copied();
    let what = match event {
        Event::RowStarted { id, index } => {
            names.insert(id.to_string(), index + 1);
            return;
        }
        Event::Sending { id, .. } => row(id).map(Told::Sending),
        Event::Answered { id, .. } => row(id).map(Told::Answered),
        Event::Retrying { id, .. } => row(id).map(Told::Retrying),
        Event::Paused { wait, .. } => Some(Told::Paused(*wait)),
        Event::Stopping { .. } => Some(Told::Stopping),
        _ => None,
    };
    told.extend(what.map(|what| (Instant::now(), what)));
}

/// Reads what became of each row, and that it is one thing only.
fn fates(home: &Home, rows: u64) -> Result<BTreeMap<u64, Fate>, String> {
    let mut fates: BTreeMap<u64, Fate> = (1..=rows).map(|row| (row, Fate::Pending)).collect();
    let results = home.lines("result.jsonl").into_iter().map(Fate::Done);
    let failures = home.lines("failures.jsonl").into_iter().map(Fate::Failed);
    for fate in results.chain(failures) {
        let line = fate.line();
        let row = line["input"]["n"].as_u64().unwrap_or_default();
        match fates.insert(row, fate) {
            Some(Fate::Pending) => {}
            other => return Err(format!("row {row} is there twice, or is none: {other:?}")),
        }
    }
    Ok(fates)
}

impl Fate {
    /// Its line; of a pending row there is none.
    pub(crate) fn line(&self) -> &Value {
        match self {
            Fate::Done(line) | Fate::Failed(line) => line,
            Fate::Pending => &Value::Null,
        }
    }

    pub(crate) fn is_pending(&self) -> bool {
        matches!(self, Fate::Pending)
    }
}

impl Played {
    pub(crate) fn requests_of(&self, row: u64) -> u32 {
        self.seen.of_row(row).count() as u32
    }

    /// How often a row was sent, whether or not it arrived.
    pub(crate) fn sent_of(&self, row: u64) -> usize {
        let sent = |(_, told): &&(Instant, Told)| *told == Told::Sending(row);
        self.told.iter().filter(sent).count()
    }

    pub(crate) fn stopped(&self) -> &str {
        let reason = self.report.stopped.as_ref();
        reason.map_or("it did not stop", |reason| &reason.message)
    }

    /// What is true of the first run in a folder, whatever the server did. `unseen`: some requests did not reach
    /// it.
    pub(crate) fn laws(&self, unseen: bool) -> Result<(), String> {
        self.counts()?;
        self.requests(unseen)?;
        self.journal(unseen)?;
        for (row, fate) in &self.fates {
            match fate {
                Fate::Done(record) => self.record(*row, record),
                Fate::Failed(failure) => {
                    let attempts = failure["attempts"].as_u64();
                    same(
                        "attempts of the failure",
                        Some(self.sent_of(*row) as u64),
                        attempts,
                    )
                }
                Fate::Pending => Ok(()),
            }
            .map_err(|wrong| format!("row {row}: {wrong}"))?;
        }
        let stopping = self
            .told
            .iter()
            .position(|(_, told)| *told == Told::Stopping);
        let after = stopping.map_or(&[][..], |at| &self.told[at..]);
        let sent = after
            .iter()
            .find(|(_, told)| matches!(told, Told::Sending(_)));
        expect("nothing leaves once the run stops", sent.is_none(), sent)
    }

    fn counts(&self) -> Result<(), String> {
        let counts = self.report.counts;
        let of =
            |such: fn(&Fate) -> bool| self.fates.values().filter(|fate| such(fate)).count() as u64;
        let (ok, failed, pending) = (
            of(|fate| matches!(fate, Fate::Done(_))),
            of(|fate| matches!(fate, Fate::Failed(_))),
            of(Fate::is_pending),
        );
        same(
            "rows, ok, failed, skipped, pending",
            (self.fates.len() as u64, ok, failed, 0, pending),
            (
                counts.rows,
                counts.ok,
                counts.failed,
                counts.skipped,
                counts.pending,
            ),
        )?;
        let by_class: u64 = self.report.failures.iter().map(|(_, count)| count).sum();
        same("failures by class", failed, by_class)?;
        expect(
            "rows are pending only where the run stopped",
            pending == 0 || self.report.stopped.is_some(),
            pending,
        )
    }

    fn requests(&self, unseen: bool) -> Result<(), String> {
        let (sent, seen) = (self.report.requests, self.seen.total() as u64);
        let right = if unseen { sent >= seen } else { sent == seen };
        expect(
            "the report's requests are those that were seen",
            right,
            (sent, seen),
        )?;
        let rows = self
            .fates
            .keys()
            .filter(|row| self.sent_of(**row) > 0)
            .count() as u64;
        same("retries", sent - rows, self.report.retries)
    }

    /// One line for each answer that was paid for.
    fn journal(&self, unseen: bool) -> Result<(), String> {
        let mut paid: BTreeMap<u64, usize> = BTreeMap::new();
        for asked in &self.seen.requests {
            let is_paid = match asked.got {
                Got::Good => true,
                Got::Fault(name) => Fault::named(name).is_some_and(Fault::is_paid),
                _ => false,
            };
            *paid.entry(asked.row).or_default() += usize::from(is_paid);
        }
        let mut kept: BTreeMap<u64, usize> = paid.keys().map(|row| (*row, 0)).collect();
        for (n, line) in self.journal.iter().enumerate() {
            same("seq", n as u64 + 1, line.seq)?;
            let row = self.names.get(&line.row);
            *kept
                .entry(*row.ok_or("the journal has an unknown row")?)
                .or_default() += 1;
        }
        if unseen {
            // A server that dies has begun answers that never arrived.
            let right = kept.iter().all(|(row, lines)| lines <= &paid[row]);
            return expect("no line of the journal without an answer", right, kept);
        }
        same("lines of the journal by row", paid, kept)
    }

    fn record(&self, row: u64, record: &Value) -> Result<(), String> {
        let answer = format!("answer to row {row}");
        same("its own answer", &json!([answer]), &record["extracted"])?;
        let attempts = record["attempts"].as_u64();
        same(
            "attempts of the record",
            Some(self.sent_of(row) as u64),
            attempts,
        )
    }

    /// Disposition and words: class, cause and cure of a row that failed.
    pub(crate) fn failed(&self, row: u64, fault: &Fault) -> Result<(), String> {
        let Some(Fate::Failed(failure)) = self.fates.get(&row) else {
            return Err(format!("it should have failed: {:?}", self.fates.get(&row)));
        };
        let error = &failure["error"];
        same("class", Some(fault.class), error["class"].as_str())?;
        let message = error["message"].as_str().unwrap_or_default();
        expect(fault.message, message.contains(fault.message), message)?;
        expect(fault.cure, message.contains(fault.cure), message)
    }
}

/// All entries that such a test can play: those that speak HTTP/2 need a process that trusts them.
pub(crate) fn entries(trusted: bool) -> impl Iterator<Item = &'static Fault> {
    FAULTS
        .iter()
        .filter(move |fault| fault.needs_trust() == trusted)
}

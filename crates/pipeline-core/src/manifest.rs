//! `run.json`: what a run folder was made with, by which commands, and how far it came.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::append;
use crate::disk::Disk;
use crate::error::{Change, Error, ErrorKind};
use crate::report::{Counts, Report};
use crate::times::Times;
use crate::unjournaled::Unjournaled;

/// The format of run folders that this version writes and reads.
const FORMAT: u32 = 1;

/// The manifest of a run folder.
///
/// ```
/// use data_generation_pipeline_core::Manifest;
/// # use data_generation_pipeline_core::{Place, Run, Source, Workflow};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let dir = tempfile::tempdir().unwrap();
/// # let place = Place { output_dir: dir.path().into(), experiment_name: "demo".into(), need_time_stamp: false };
/// # let report = Run::new(place, Source::rows([serde_json::json!({"n": 1})]), Workflow::new()).execute().await?;
/// let manifest = Manifest::read(&report.run_dir)?.expect("a run has one");
/// assert!(manifest.is_finished());
/// assert_eq!(manifest.commands.len(), 1);
/// # Ok::<(), data_generation_pipeline_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the folder's format.
    pub format: u32,
    /// The program that wrote it, with its version.
    pub tool: String,
    /// When the folder was made, RFC 3339 in UTC.
    pub started: String,
    /// When the last command ended, RFC 3339 in UTC; `null` while one works or after a crash.
    pub ended: Option<String>,
    /// The folder that this one was forked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<PathBuf>,
    /// What makes this dataset one dataset: provider, model, prompts, extractor and so on.
    pub dataset: Map<String, Value>,
    /// Hashes of what the dataset was made with, by name; see [`hash`](crate::hash).
    #[serde(default)]
    pub hashes: BTreeMap<String, String>,
    /// The effective configuration of the last command, each value with where it came from; no secrets.
    pub settings: BTreeMap<String, Setting>,
    /// The input of the last command.
    #[serde(default)]
    pub input: InputFacts,
    /// Whether equal rows were ever met: then some ids stand for a second or third of the same.
    #[serde(default)]
    pub equal_rows: bool,
    /// Counts as of the last checkpoint, at most half a minute old; of the command before until the first one.
    #[serde(default)]
    pub counts: Counts,
    /// Every command that worked on this run, oldest first.
    pub commands: Vec<Command>,
    /// New files of lines that wait to be put in their places, with their lengths in bytes: a command that
    /// made them was killed after it had decided. Who opens the folder next does it first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub put_in_place: BTreeMap<String, u64>,
}

/// One effective setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Its value; never a secret.
    pub value: Value,
    /// Where it came from, for people: "default", "config.yaml:7", "--set model.temperature".
    pub origin: String,
}

/// The input of a command, as it was when it was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFacts {
    /// The file, or what the rows are called where there is none.
    pub source: String,
    /// Rows in it; `null` where the rows come one by one and nobody knows.
    pub rows: Option<u64>,
    /// 32 hex digits over the contents of all rows in their order; `null` where nobody knows.
    pub hash: Option<String>,
}

/// One command that worked on a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Command {
    /// What was asked for, as the caller describes it (the command line of the CLI).
    pub what: Value,
    /// The version of the program.
    pub tool: String,
    /// When it began, RFC 3339 in UTC.
    pub started: String,
    /// When it ended; `null` while it works or after a crash.
    pub ended: Option<String>,
    /// Rows of the input that it works through, which may be its first rows alone; `None` where nobody knows how many
    /// there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes: Option<u64>,
    /// What it came to, before its end as of the last checkpoint.
    #[serde(default)]
    pub counts: Counts,
    /// Why it stopped before the end of the input, if it did.
    #[serde(default)]
    pub stopped: Option<String>,
    /// The settings that differ from those of the command before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Whether it worked on rows of the folder (a retry, an extraction) and not through an input: then it says
    /// nothing of whether the run is finished.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_rows: bool,
    /// Where its time went, before its end as of the last checkpoint; `None` where nobody measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Times>,
    /// Its requests of which the journal holds nothing, oldest first, before its end as of the last checkpoint; for
    /// limits that a new start must not fill up again, so those of long ago may be missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unjournaled: Vec<Unjournaled>,
    /// Settings that were changed while it worked, each with its last value, before its end as of the last checkpoint.
    /// They ended with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steered: BTreeMap<String, Value>,
    /// The number that its first answer has in the journal, or would have; `None` where it asks nothing, and of older
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seq: Option<u64>,
}

impl Command {
    /// From start to end, in whole seconds as it was written down; `None` without an end.
    pub fn wall(&self) -> Option<Duration> {
        let at = |time: &str| time.parse::<jiff::Timestamp>().ok();
        let (start, end) = (at(&self.started)?, at(self.ended.as_deref()?)?);
        end.duration_since(start).try_into().ok()
    }
}

impl Manifest {
    pub(crate) fn new(
        dataset: Map<String, Value>,
        settings: BTreeMap<String, Setting>,
    ) -> Manifest {
        Manifest {
            format: FORMAT,
            tool: tool(),
            started: now(),
            ended: None,
            forked_from: None,
            dataset,
            hashes: BTreeMap::new(),
            settings,
            input: InputFacts::default(),
            equal_rows: false,
            counts: Counts::default(),
            commands: Vec::new(),
            put_in_place: BTreeMap::new(),
        }
    }

    /// Reads the manifest of a run folder; `None` where it has none.
    ///
    /// # Errors
    ///
    /// When there is one that cannot be read ([`ErrorKind::Io`], [`ErrorKind::Damaged`]), or that a version
    /// with another format wrote ([`ErrorKind::Usage`]).
    pub fn read(dir: &Path) -> Result<Option<Manifest>, Error> {
        let path = dir.join("run.json");
        if std::fs::symlink_metadata(&path).is_ok_and(|facts| !facts.is_file()) {
            return Err(Error::usage(format!(
                "{} is not a regular file; move it away",
                path.display()
            )));
        }
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("could not read", &path)(error)),
        };
        let damaged = |line: usize, what: String| -> Error {
            ErrorKind::Damaged {
                path: path.clone(),
                line: line as u64,
                what,
            }
            .into()
        };
        let version: Version = serde_json::from_slice(&text).map_err(|error| {
            let how = match text.trim_ascii() {
                [] => "is empty".to_owned(),
                _ => format!("is torn or no manifest of a run ({error})"),
            };
            damaged(
                error.line(),
                format!(
                    "{how}, so nobody can tell what this dataset was made with; put a copy of it back, or move the \
                     folder aside and make the dataset anew"
                ),
            )
        })?;
        if version.format != FORMAT {
            return Err(Error::usage(format!(
                "{} has format {}, this version of the program knows {FORMAT}; use the version that made it",
                path.display(),
                version.format
            )));
        }
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| damaged(error.line(), error.to_string()))
    }

    /// Replaces `run.json`, and makes everything durable that was made or renamed in the folder before.
    pub(crate) fn write(&self, disk: &Disk, dir: &Path) -> Result<(), Error> {
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|error| Error::usage(error.to_string()))?;
        text.push(b'\n');
        append::replace(disk, &dir.join("run.json"), &text)?;
        disk.sync_folder(dir)
            .map_err(Error::io("could not write", dir))
    }

    /// Notes that a command begins to work through an input.
    pub(crate) fn begin(
        &mut self,
        input: InputFacts,
        settings: BTreeMap<String, Setting>,
        what: Value,
    ) {
        self.begin_with_rows(settings, what);
        self.input = input;
        if let Some(command) = self.commands.last_mut() {
            command.of_rows = false;
        }
    }

    /// Notes how many rows of the input the command works through.
    pub(crate) fn note_takes(&mut self, rows: Option<u64>) {
        if let Some(command) = self.commands.last_mut() {
            command.takes = rows;
        }
    }

    /// Notes which answers in the journal are those of the command: from this number on.
    pub(crate) fn note_first_seq(&mut self, seq: u64) {
        if let Some(command) = self.commands.last_mut() {
            command.first_seq = Some(seq);
        }
    }

    /// A setting as each of the commands had it, in their order; null where it had none.
    pub(crate) fn setting_of_commands(&self, key: &str) -> Vec<Value> {
        let value = |setting: &Setting| setting.value.clone();
        let mut value = self.settings.get(key).map_or(Value::Null, value);
        let mut values: Vec<Value> = Vec::new();
        for command in self.commands.iter().rev() {
            values.push(value.clone());
            let mut changes = command.changed.iter();
            if let Some(before) = changes.find_map(|change| value_before(change, key)) {
                value = before;
            }
        }
        values.reverse();
        values
    }

    /// Notes what was changed while the command worked.
    pub(crate) fn note_steered(&mut self, settings: BTreeMap<String, Value>) {
        if let Some(command) = self.commands.last_mut() {
            command.steered = settings;
        }
    }

    /// Notes that a command begins to work on rows that the folder holds. Input and counts stay those of the
    /// command that worked through an input.
    pub(crate) fn begin_with_rows(&mut self, settings: BTreeMap<String, Setting>, what: Value) {
        let mut changes = Vec::new();
        if !self.commands.is_empty() {
            let plain = |settings: &BTreeMap<String, Setting>| {
                settings
                    .iter()
                    .map(|(key, setting)| (key.clone(), setting.value.clone()))
                    .collect::<Map<_, _>>()
            };
            differences(
                "",
                &plain(&self.settings).into(),
                &plain(&settings).into(),
                &mut changes,
            );
        }
        self.tool = tool();
        self.ended = None;
        self.settings = settings;
        self.commands.push(Command {
            what,
            tool: tool(),
            started: now(),
            ended: None,
            takes: None,
            counts: Counts::default(),
            stopped: None,
            changed: changes.iter().map(ToString::to_string).collect(),
            of_rows: true,
            times: None,
            unjournaled: Vec::new(),
            steered: BTreeMap::new(),
            first_seq: None,
        });
    }

    /// Notes how far the command has come.
    pub(crate) fn note(&mut self, counts: Counts, times: Times) {
        let of_rows = match self.commands.last_mut() {
            Some(command) => {
                command.counts = counts;
                command.times = Some(times);
                command.of_rows
            }
            None => false,
        };
        if !of_rows {
            self.counts = counts;
        }
    }

    /// Notes the requests of the command of which the journal holds nothing.
    pub(crate) fn note_unjournaled(&mut self, requests: Vec<Unjournaled>) {
        if let Some(command) = self.commands.last_mut() {
            command.unjournaled = requests;
        }
    }

    /// Notes more of them, for a command that did not come to it.
    pub(crate) fn add_unjournaled(&mut self, of: usize, requests: Unjournaled) {
        if let Some(command) = self.commands.get_mut(of) {
            command.unjournaled.push(requests);
        }
    }

    /// Notes what the command came to.
    pub(crate) fn end(&mut self, report: &Report) {
        let stopped = report.stopped.as_ref().map(ToString::to_string);
        match self.commands.last() {
            Some(command) if command.of_rows => self.counts.shift(report.counts.ok, 0),
            _ => self.counts = report.counts,
        }
        self.end_with(report.counts, stopped);
        if let Some(command) = self.commands.last_mut() {
            command.times = Some(report.times.clone());
        }
    }

    /// Closes the last command.
    pub(crate) fn end_with(&mut self, counts: Counts, stopped: Option<String>) {
        let ended = now();
        if let Some(command) = self.commands.last_mut() {
            command.ended = Some(ended.clone());
            command.counts = counts;
            command.stopped = stopped;
        }
        self.ended = Some(ended);
    }

    /// Whether a command was at work since then, or has not said when it ended.
    pub(crate) fn has_worked_since(&self, since: SystemTime) -> bool {
        self.commands.iter().any(|command| {
            let ended = command.ended.as_deref();
            // It is written down in whole seconds.
            let ended = ended.and_then(|ended| ended.parse::<jiff::Timestamp>().ok());
            ended.is_none_or(|ended| SystemTime::from(ended) + Duration::from_secs(1) >= since)
        })
    }

    /// The last command that worked through an input.
    pub fn last_through_an_input(&self) -> Option<&Command> {
        self.commands.iter().rev().find(|command| !command.of_rows)
    }

    /// Where the time of all commands went, those at work and those that were killed as of their last checkpoint;
    /// `None` where nobody measured it.
    pub fn times(&self) -> Option<Times> {
        let times = self
            .commands
            .iter()
            .filter_map(|command| command.times.as_ref());
        times.fold(None, |sum: Option<Times>, times| {
            let mut sum = sum.unwrap_or_default();
            sum.add(times);
            Some(sum)
        })
    }

    /// Whether the last command that worked through an input came to its end, rows that failed included.
    pub fn is_finished(&self) -> bool {
        self.last_through_an_input()
            .is_some_and(|last| last.ended.is_some() && last.stopped.is_none())
    }

    /// What is different between this run's dataset and another's.
    pub(crate) fn changes(&self, dataset: &Map<String, Value>) -> Vec<Change> {
        let mut changes = Vec::new();
        differences(
            "",
            &Value::Object(self.dataset.clone()),
            &Value::Object(dataset.clone()),
            &mut changes,
        );
        changes
    }
}

/// What a change of a setting says that it was before; `None` where it is a change of another one.
fn value_before(change: &str, key: &str) -> Option<Value> {
    let values = change.strip_prefix(key)?.strip_prefix(": ")?;
    let mut values = serde_json::Deserializer::from_str(values).into_iter();
    values.next()?.ok()
}

#[derive(Deserialize)]
struct Version {
    format: u32,
}

fn differences(key: &str, before: &Value, now: &Value, changes: &mut Vec<Change>) {
    if before == now {
        return;
    }
    if let (Value::Object(old), Value::Object(new)) = (before, now) {
        let mut names: Vec<&String> = old
            .keys()
            .chain(new.keys().filter(|name| !old.contains_key(*name)))
            .collect();
        names.sort();
        for name in names {
            let key = if key.is_empty() {
                name.clone()
            } else {
                format!("{key}.{name}")
            };
            let absent = Value::Null;
            differences(
                &key,
                old.get(name).unwrap_or(&absent),
                new.get(name).unwrap_or(&absent),
                changes,
            );
        }
        return;
    }
    changes.push(Change {
        key: key.to_owned(),
        before: before.clone(),
        now: now.clone(),
    });
}

pub(crate) fn now() -> String {
    crate::record::timestamp(std::time::SystemTime::now())
}

pub(crate) fn tool() -> String {
    concat!("data-generation ", env!("CARGO_PKG_VERSION")).to_owned()
}

#[cfg(test)]
mod tests;

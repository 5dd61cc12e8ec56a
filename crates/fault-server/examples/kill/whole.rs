//! Kills of the commands that replace files as a whole: `extract` and `run --repair`. After each of them a file is the
//! old one or the new one, and the same command comes to what an undisturbed one makes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Outcome;
use crate::life::Life;
use crate::observer::Observer;

/// Rows of the folder that the commands work on.
const ROWS: u64 = 2_000;
const EXTRACT: [&str; 6] = [
    "extract",
    "--run",
    "output/kill",
    "--extract",
    "regex:answer ([0-9]+)",
    "--json",
];
const GO_ON: [&str; 6] = [
    "run",
    "--config",
    "config.yaml",
    "--extract",
    EXTRACT[4],
    "--json",
];
const REPAIR: [&str; 5] = ["run", "--config", "config.yaml", "--repair", "--json"];

/// A finished run, to begin with again and again.
pub(crate) struct Whole<'a> {
    program: &'a Path,
    place: &'a Path,
    observer: &'a Observer,
    dir: PathBuf,
    manifest: Vec<u8>,
    result: Lines,
    journal: Lines,
}

/// The lines of a file, without their ends.
type Lines = Vec<String>;

/// What is to be killed, and what the kills came to.
struct Kills {
    name: &'static str,
    arguments: &'static [&'static str],
    /// How long the last one took that nobody shot.
    takes: Duration,
    shot: usize,
    /// Of those: how many left all as it was, and how many had come to all that there was to do.
    nothing_done: usize,
    all_done: usize,
}

/// Lines that were damaged, each with its file.
type Bad = Vec<(&'static str, String)>;

impl<'a> Whole<'a> {
    /// Takes the finished run over, with as many of its rows as are wanted here.
    pub(crate) fn of(
        program: &'a Path,
        place: &'a Path,
        observer: &'a Observer,
    ) -> Outcome<Whole<'a>> {
        let dir = place.join("output/kill");
        let (mut result, mut rows) = (Lines::new(), HashSet::new());
        for line in lines(&dir.join("result.jsonl"))? {
            let value: Value = serde_json::from_str(&line)?;
            if value["index"].as_u64().is_some_and(|index| index < ROWS) {
                rows.insert(value["id"].to_string());
                result.push(line);
            }
        }
        let mut journal = Lines::new();
        for line in lines(&dir.join("journal.jsonl"))? {
            let value: Value = serde_json::from_str(&line)?;
            if rows.contains(&value["row"].to_string()) {
                journal.push(line);
            }
        }
        let input: String = (0..ROWS).map(|row| format!("{{\"n\": {row}}}\n")).collect();
        std::fs::write(place.join("rows.jsonl"), input)?;
        Ok(Whole {
            program,
            place,
            observer,
            manifest: std::fs::read(dir.join("run.json"))?,
            dir,
            result,
            journal,
        })
    }

    /// So many kills of each command; what they came to.
    pub(crate) fn trial(&self, kills: u32, luck: &mut fastrand::Rng) -> Outcome<Vec<String>> {
        let asked = self.observer.asked();
        let told = vec![self.extract(kills, luck)?, self.repair(kills, luck)?];
        match self.observer.asked() - asked {
            0 => Ok(told),
            more => Err(format!("{more} requests left, and every answer was there").into()),
        }
    }

    fn extract(&self, kills: u32, luck: &mut fastrand::Rng) -> Outcome<String> {
        self.put(&self.result, &self.journal)?;
        let mut tally = Kills::of("extract", &EXTRACT);
        self.again(&mut tally)?;
        let new = lines(&self.dir.join("result.jsonl"))?;
        if new.len() != self.result.len() || new == self.result {
            return Err("extract makes nothing else".into());
        }
        for number in 0..kills {
            self.put(&self.result, &self.journal)?;
            let hidden = self.dir.join(".result.jsonl.extracted");
            let manifest = self.dir.join("run.json");
            let decided = || {
                let manifest = std::fs::read(&manifest).unwrap_or_default();
                manifest.windows(12).any(|word| word == b"put_in_place")
            };
            let shot = match number % 4 {
                0 => self.shoot(&mut tally, luck, 0.02, decided)?,
                1 => self.shoot(&mut tally, luck, 0.8, || hidden.exists())?,
                _ => self.shoot(&mut tally, luck, 0.95, || true)?,
            };
            let now = lines(&self.dir.join("result.jsonl"))?;
            if now != self.result && now != new {
                return Err("a kill of extract left neither the old lines nor the new ones".into());
            }
            tally.nothing_done += usize::from(shot && now == self.result && !hidden.exists());
            tally.all_done += usize::from(shot && !hidden.exists() && now == new && !decided());
            // What was decided is finished by whatever command comes next.
            if decided() {
                let (code, summary) = self.start(&GO_ON)?.end()?;
                if code != 0 || lines(&self.dir.join("result.jsonl"))? != new {
                    return Err(format!("a run did not finish an extract: {summary}").into());
                }
            }
            self.again(&mut tally)?;
            if lines(&self.dir.join("result.jsonl"))? != new {
                return Err("extract, killed and begun again, makes other lines".into());
            }
            if lines(&self.dir.join("journal.jsonl"))? != self.journal {
                return Err("extract changed the journal".into());
            }
            if hidden.exists() || decided() {
                return Err("extract left something undone".into());
            }
        }
        tally.told()
    }

    fn repair(&self, kills: u32, luck: &mut fastrand::Rng) -> Outcome<String> {
        let mut tally = Kills::of("run --repair", &REPAIR);
        for number in 0..=kills {
            let (mut result, mut journal) = (self.result.clone(), self.journal.clone());
            let (bad, good_journal) = damage(&mut result, &mut journal, luck)?;
            let good: HashSet<&String> = result.iter().filter(|line| is_json(line)).collect();
            self.put(&result, &journal)?;
            let before = self.contents()?;
            // The first one is left alone, so that it is known how long one takes.
            if number > 0 {
                let shot = match number % 3 {
                    0 => self.shoot(&mut tally, luck, 0.3, || !self.aside_files().is_empty())?,
                    _ => self.shoot(&mut tally, luck, 0.95, || true)?,
                };
                tally.nothing_done += usize::from(shot && self.contents()? == before);
                let now = lines(&self.dir.join("result.jsonl"))?;
                let all = now.len() == ROWS as usize && now.iter().all(|line| is_json(line));
                tally.all_done += usize::from(shot && all);
                self.nothing_is_gone(&bad, &good)?;
            }
            self.again(&mut tally)?;
            self.nothing_is_gone(&bad, &good)?;
            let sorted = |mut lines: Lines| {
                lines.sort();
                lines
            };
            if sorted(lines(&self.dir.join("result.jsonl"))?) != sorted(self.result.clone()) {
                return Err("a repair did not come to the lines that were there before".into());
            }
            if lines(&self.dir.join("journal.jsonl"))? != good_journal {
                return Err("a repair left another journal than its good lines".into());
            }
        }
        tally.told()
    }

    /// Each bad line is where it was or aside, and the good ones are where they were.
    fn nothing_is_gone(&self, bad: &Bad, good: &HashSet<&String>) -> Outcome<()> {
        let mut aside = HashSet::new();
        for path in self.aside_files() {
            for line in lines(&path)? {
                // The last one may be torn: then what it says is in its place still.
                if let Ok(line) = serde_json::from_str::<Value>(&line) {
                    aside.insert(line["text"].as_str().unwrap_or_default().to_owned());
                }
            }
        }
        let files = ["result.jsonl", "journal.jsonl"];
        let [result, journal] = files.map(|name| lines(&self.dir.join(name)));
        let [result, journal]: [HashSet<String>; 2] = [result?, journal?].map(HashSet::from_iter);
        for (name, line) in bad {
            let file = if *name == files[0] { &result } else { &journal };
            if !file.contains(line) && !aside.contains(line) {
                return Err(format!("a bad line of {name} is gone: {line}").into());
            }
        }
        match good.iter().find(|line| !result.contains(**line)) {
            Some(line) => Err(format!("a good line is gone: {line}").into()),
            None => Ok(()),
        }
    }

    fn aside_files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths
            .filter(|path| path.to_string_lossy().contains("/.damaged-"))
            .collect()
    }

    /// Puts the folder there as it was, with these lines.
    fn put(&self, result: &Lines, journal: &Lines) -> Outcome<()> {
        std::fs::remove_dir_all(&self.dir)?;
        std::fs::create_dir(&self.dir)?;
        let text = |lines: &Lines| {
            lines
                .iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>()
        };
        std::fs::write(self.dir.join("run.json"), &self.manifest)?;
        std::fs::write(self.dir.join("result.jsonl"), text(result))?;
        std::fs::write(self.dir.join("journal.jsonl"), text(journal))?;
        std::fs::write(self.dir.join("failures.jsonl"), "")?;
        Ok(())
    }

    fn contents(&self) -> Outcome<[Vec<u8>; 2]> {
        let [result, journal] = ["result.jsonl", "journal.jsonl"];
        Ok([
            std::fs::read(self.dir.join(result))?,
            std::fs::read(self.dir.join(journal))?,
        ])
    }

    fn start(&self, arguments: &[&str]) -> Outcome<Life<'a>> {
        Life::of(self.program, self.place, self.observer, arguments)
    }

    /// Lets one come to its end.
    fn again(&self, kills: &mut Kills) -> Outcome<()> {
        let began = Instant::now();
        match self.start(kills.arguments)?.end()? {
            (0, _) => {
                kills.takes = began.elapsed();
                Ok(())
            }
            (code, summary) => Err(format!("{}: exit {code}: {summary}", kills.name).into()),
        }
    }

    /// Shoots one at any moment of such a part of its time after something is so; false: it was over before.
    fn shoot(
        &self,
        kills: &mut Kills,
        luck: &mut fastrand::Rng,
        part: f64,
        is_so: impl FnMut() -> bool,
    ) -> Outcome<bool> {
        let after = kills.takes.mul_f64(part * luck.f64());
        let shot = self.start(kills.arguments)?.shoot_when(is_so, after)?;
        kills.shot += usize::from(shot);
        Ok(shot)
    }
}

impl Kills {
    fn of(name: &'static str, arguments: &'static [&'static str]) -> Kills {
        Kills {
            name,
            arguments,
            takes: Duration::ZERO,
            shot: 0,
            nothing_done: 0,
            all_done: 0,
        }
    }

    fn told(self) -> Outcome<String> {
        if self.shot == 0 {
            return Err(format!("no kill of {} came in time", self.name).into());
        }
        Ok(format!(
            "ok: {} kills of {} on {ROWS} rows ({} before it had changed anything, {} in the middle, {} when its work \
             was done); the same command came to the same lines each time",
            self.shot,
            self.name,
            self.nothing_done,
            self.shot - self.nothing_done - self.all_done,
            self.all_done
        ))
    }
}

/// Damages some lines of both files, none of which takes an answer from a row that needs it. Which are bad now, and
/// the good ones of the journal.
fn damage(
    result: &mut Lines,
    journal: &mut Lines,
    luck: &mut fastrand::Rng,
) -> Outcome<(Bad, Lines)> {
    let mut bad = Bad::new();
    let mut without_line = HashSet::new();
    for _ in 0..1 + luck.usize(..40) {
        let at = luck.usize(..result.len());
        if let Ok(line) = serde_json::from_str::<Value>(&result[at]) {
            without_line.insert(line["id"].to_string());
            let length = 1 + luck.usize(..result[at].len() - 1);
            result[at].truncate(length);
            bad.push(("result.jsonl", result[at].clone()));
        }
    }
    let mut good_journal = Lines::new();
    for line in journal.iter_mut() {
        let value: Value = serde_json::from_str(line)?;
        let needed = without_line.contains(&value["row"].to_string());
        if needed || luck.u32(..100) > 0 {
            good_journal.push(line.clone());
        } else {
            let length = 1 + luck.usize(..line.len() - 1);
            line.truncate(length);
            bad.push(("journal.jsonl", line.clone()));
        }
    }
    // One of each stands twice.
    for (name, lines) in [("result.jsonl", result), ("journal.jsonl", journal)] {
        let whole: Vec<usize> = (0..lines.len()).filter(|at| is_json(&lines[*at])).collect();
        let at = whole[luck.usize(..whole.len())];
        let twice = lines[at].clone();
        lines.insert(at + 1, twice.clone());
        bad.push((name, twice));
    }
    Ok((bad, good_journal))
}

fn is_json(line: &str) -> bool {
    serde_json::from_str::<&serde_json::value::RawValue>(line).is_ok()
}

fn lines(path: &Path) -> Outcome<Lines> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.lines().map(str::to_owned).collect())
}

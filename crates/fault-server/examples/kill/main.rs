//! SIGKILL at random moments of one run of 10,000 rows with 256 in flight: `.ci/kill [N]`.
//!
//! The run is the real program against this crate's server, which is not killed and counts what it is asked. Each
//! life goes on where the one before was shot; now and then the end of a file is torn in between, as when the
//! machine itself goes down. In the end every row must be there once, with its own answer, and what was asked
//! again must be no more than what was in flight.
//!
//! Then commands that replace files as a whole (`extract`, `run --repair`) are killed on what has become of it.
//!
//! `KILL_SEED=n` repeats the choices of an earlier run, `DATAGEN=path` says which program.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod aim;
mod life;
mod observer;
mod run_files;
mod verdict;
mod whole;

use aim::Aim;
use life::Life;
use observer::Observer;
use run_files::RunFiles;
use whole::Whole;

/// Rows of the run.
pub(crate) const ROWS: usize = 10_000;
/// Requests at the same time.
pub(crate) const IN_FLIGHT: usize = 256;
/// Every so many kills a file's end is torn.
const TEAR_EVERY: u64 = 8;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let kills = match std::env::args().nth(1).map(|text| text.parse()) {
        None => 200,
        Some(Ok(kills)) if kills > 0 => kills,
        Some(_) => {
            say("usage: kill [KILLS], a number from 1 on");
            return ExitCode::from(2);
        }
    };
    let seed = std::env::var("KILL_SEED").ok();
    let seed = seed.and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let place = match tempfile::Builder::new().prefix("kill.").tempdir() {
        Ok(place) => place,
        Err(error) => {
            say(&format!("no folder to work in: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match trial(place.path(), kills, seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let kept = place.keep();
            say(&format!(
                "FAILED with KILL_SEED={seed}: {error}\nthe run is left in {}",
                kept.display()
            ));
            ExitCode::FAILURE
        }
    }
}

/// The only place that prints.
fn say(text: &str) {
    // Whoever does not listen any more still wants the verdict, which is the exit code.
    drop(writeln!(std::io::stdout().lock(), "kill: {text}"));
}

fn trial(place: &Path, kills: u32, seed: u64) -> Outcome<()> {
    let program = std::env::var_os("DATAGEN").ok_or("DATAGEN must say which program")?;
    let program = PathBuf::from(program);
    let mut luck = fastrand::Rng::with_seed(seed);
    let observer = Observer::start(seed)?;
    write_inputs(place, &observer)?;
    let mut files = RunFiles::of(place.join("output/kill"));
    say(&format!(
        "{ROWS} rows, {IN_FLIGHT} in flight, {kills} kills, seed {seed}"
    ));

    let mut tally = Tally::default();
    let mut torn = None;
    for number in 1..=kills {
        let aim = Aim::choose(&mut luck, number, kills, &files, torn.take(), &tally);
        let life = Life::start(&program, place, &observer)?;
        life.shoot(&aim, &mut luck, &mut files, &mut tally)?;
        let seen = tally.after(&mut files, &observer)?;
        if files.rows() >= ROWS {
            return Err("the run was over before the last kill".into());
        }
        let mut line = format!("{number:3} {aim}: {seen}, {} rows", files.rows());
        if luck.u64(..TEAR_EVERY) == 0
            && let Some(tear) = files.tear(&mut luck)?
        {
            line.push_str(&format!("; then {tear}"));
            torn = Some(tear);
        }
        say(&line);
    }
    at_the_end(
        &program, place, &observer, &mut luck, &mut files, &mut tally,
    )?;
    finish(&program, place, &observer, &mut files)?;
    verdict::judge(&files, &observer, &tally)?;
    say(&tally.summary(&files, &observer));
    let whole = Whole::of(&program, place, &observer)?;
    for told in whole.trial(kills.div_ceil(5).max(4), &mut luck)? {
        say(&told);
    }
    Ok(())
}

/// Kills that fall when the last row is there and the run puts its things in order, or when a finished folder
/// is read. Such a life may be quicker than its kill.
fn at_the_end(
    program: &Path,
    place: &Path,
    observer: &Observer,
    luck: &mut fastrand::Rng,
    files: &mut RunFiles,
    tally: &mut Tally,
) -> Outcome<()> {
    for _ in 0..6 {
        let life = Life::start(program, place, observer)?;
        life.shoot_if_there(&Aim::Last, luck, files, tally)?;
        let seen = tally.after(files, observer)?;
        say(&format!("    {}: {seen}, {} rows", Aim::Last, files.rows()));
    }
    Ok(())
}

/// Lives that nobody ends: until all is done, and once more, which must ask nothing.
fn finish(program: &Path, place: &Path, observer: &Observer, files: &mut RunFiles) -> Outcome<()> {
    // A row that misses fails for a whole command before it has its answer.
    for _ in 0..3 {
        let asked = observer.asked();
        let (code, summary) = Life::start(program, place, observer)?.end()?;
        files.look()?;
        let of_it = observer.asked() - asked;
        if summary["requests"] != of_it {
            return Err(format!("{of_it} requests came, and the summary says {summary}").into());
        }
        match code {
            0 if of_it == 0 => return Ok(()),
            0 | 3 => {}
            code => return Err(format!("exit {code} in the end: {summary}").into()),
        }
    }
    Err("a run over a finished dataset still asks".into())
}

fn write_inputs(place: &Path, observer: &Observer) -> Outcome<()> {
    let rows: String = (0..ROWS).map(|row| format!("{{\"n\": {row}}}\n")).collect();
    std::fs::write(place.join("rows.jsonl"), rows)?;
    std::fs::write(place.join("user.txt"), "Write a short draft about {{n}}.\n")?;
    // Commits follow each other closely, so that many a kill falls into one.
    let config = format!(
        "model: {{base_url: \"{}\", api_key_env: null, model: tiny}}\n\
         prompts: {{system_prompt_path: null, user_prompt_path: user.txt}}\n\
         input_data: {{path: rows.jsonl}}\n\
         output_data: {{experiment_name: kill, need_time_stamp: false}}\n\
         run: {{concurrency_limit: {IN_FLIGHT}, extract: \"tag:draft\", extract_retries: 0, sync_ms: 10}}\n\
         logging: {{dir: null}}\n",
        observer.url()
    );
    std::fs::write(place.join("config.yaml"), config)?;
    Ok(())
}

/// What all lives came to.
#[derive(Default)]
pub(crate) struct Tally {
    /// Lives that were shot.
    pub(crate) kills: usize,
    /// By what the kill was aimed at.
    aims: std::collections::BTreeMap<&'static str, usize>,
    /// Requests whose answers never came into the journal.
    pub(crate) lost: usize,
    /// The most of them in one life.
    most_lost: usize,
    /// The time from the last start to its first request.
    pub(crate) start_up: std::time::Duration,
}

impl Tally {
    pub(crate) fn shot(&mut self, aim: &Aim) {
        self.kills += 1;
        *self.aims.entry(aim.name()).or_default() += 1;
    }

    /// Looks at what a life has left, and whether it may be so.
    fn after(&mut self, files: &mut RunFiles, observer: &Observer) -> Outcome<String> {
        observer.settled();
        let answers = files.look()?;
        let lost = observer.asked() - files.answers() - files.torn_answers();
        let of_it = lost - self.lost;
        if of_it > IN_FLIGHT {
            return Err(format!(
                "{of_it} answers were lost at once; {IN_FLIGHT} were in flight at most"
            )
            .into());
        }
        self.lost = lost;
        self.most_lost = self.most_lost.max(of_it);
        Ok(format!("{answers:4} answers, {of_it:3} cut off"))
    }

    fn summary(&self, files: &RunFiles, observer: &Observer) -> String {
        let aims: Vec<String> = self
            .aims
            .iter()
            .map(|(name, times)| format!("{times} {name}"))
            .collect();
        format!(
            "ok: {} kills ({}), {} torn ends; {ROWS} rows once each; {} requests = {} answers in the journal + {} torn out + {} cut off (at most {} at once)",
            self.kills,
            aims.join(", "),
            files.tears(),
            observer.asked(),
            files.answers(),
            files.torn_answers(),
            self.lost,
            self.most_lost,
        )
    }
}

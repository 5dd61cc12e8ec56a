use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::aim::Aim;
use crate::observer::Observer;
use crate::run_files::{Growth, RunFiles};
use crate::{Outcome, ROWS, Tally};

/// Longer than a life takes to come to anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_micros(200);

/// One process; it is gone when this is dropped.
pub(crate) struct Life<'a> {
    child: Child,
    born: Instant,
    observer: &'a Observer,
    asked_before: usize,
    place: PathBuf,
}

impl Drop for Life<'_> {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl<'a> Life<'a> {
    pub(crate) fn start(program: &Path, place: &Path, observer: &'a Observer) -> Outcome<Life<'a>> {
        let run = ["run", "--config", "config.yaml", "--json"];
        Life::of(program, place, observer, &run)
    }

    /// Of any command.
    pub(crate) fn of(
        program: &Path,
        place: &Path,
        observer: &'a Observer,
        arguments: &[&str],
    ) -> Outcome<Life<'a>> {
        // The user's own settings are not on trial.
        let child = Command::new(program)
            .args(arguments)
            .current_dir(place)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(File::create(place.join("summary.json"))?)
            .stderr(File::create(place.join("errors.txt"))?)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        Ok(Life {
            child,
            born: Instant::now(),
            observer,
            asked_before: observer.asked(),
            place: place.to_owned(),
        })
    }

    /// Ends it at the moment that is aimed at. Where it ends by itself before, something is wrong.
    pub(crate) fn shoot(
        mut self,
        aim: &Aim,
        luck: &mut fastrand::Rng,
        files: &mut RunFiles,
        tally: &mut Tally,
    ) -> Outcome<()> {
        match self.wait_for(aim, luck, files, tally)? {
            true => {
                self.child.kill()?;
                let status = self.child.wait()?;
                if status.code().is_some() {
                    return Err(self.ended_by_itself(aim));
                }
                tally.shot(aim);
                Ok(())
            }
            false => Err(self.ended_by_itself(aim)),
        }
    }

    /// The same for a life that may well be over before.
    pub(crate) fn shoot_if_there(
        mut self,
        aim: &Aim,
        luck: &mut fastrand::Rng,
        files: &mut RunFiles,
        tally: &mut Tally,
    ) -> Outcome<()> {
        if self.wait_for(aim, luck, files, tally)? {
            self.child.kill()?;
        }
        match self.child.wait()?.code() {
            None => tally.shot(aim),
            Some(0 | 3) => {}
            Some(_) => return Err(self.ended_by_itself(aim)),
        }
        Ok(())
    }

    /// Ends it so long after something is so; false: it came to a good end before.
    pub(crate) fn shoot_when(
        mut self,
        mut is_so: impl FnMut() -> bool,
        after: Duration,
    ) -> Outcome<bool> {
        if self.until("its time has come", |_| Ok(is_so()))? {
            std::thread::sleep(after);
            self.child.kill()?;
        }
        match self.child.wait()?.code() {
            None => Ok(true),
            Some(0) => Ok(false),
            Some(_) => Err(self.told("it ended by itself")),
        }
    }

    /// Its exit code and summary.
    pub(crate) fn end(mut self) -> Outcome<(i32, Value)> {
        // Once it has ended there is nothing more to wait for.
        self.until("it ends", |_| Ok(false))?;
        let code = self.child.wait()?.code();
        let summary = std::fs::read(self.place.join("summary.json"))?;
        match code {
            Some(code) if !summary.is_empty() => Ok((code, serde_json::from_slice(&summary)?)),
            _ => Err(self.told("it ended without a summary")),
        }
    }

    /// False: it ended before.
    fn wait_for(
        &mut self,
        aim: &Aim,
        luck: &mut fastrand::Rng,
        files: &mut RunFiles,
        tally: &mut Tally,
    ) -> Outcome<bool> {
        let (mut journal, mut result) = (files.journal_growth(), files.result_growth());
        let there = match aim {
            Aim::Start(after) => {
                let at = self.born + *after;
                // Where it is quicker than lives were before, its first request is the end of the start.
                self.until("its time has come", |life| {
                    Ok(Instant::now() >= at || life.observer.asked() > life.asked_before)
                })?
            }
            Aim::Repair(tear) => {
                let there = self.until("the end is repaired", |_| Ok(tear.is_repaired()))?;
                pause(luck, Duration::from_millis(1));
                there
            }
            Aim::Asking(after) => {
                let there = self.until_asking(tally)?;
                std::thread::sleep(*after);
                there
            }
            Aim::Answers(count) => {
                self.until_asking(tally)?;
                self.until_answers(&mut journal, *count)?
            }
            Aim::Commit(count) => {
                self.until_asking(tally)?;
                self.until_answers(&mut journal, *count)?;
                let lines = result.lines()?;
                let there = self.until("lines are committed", |_| Ok(result.lines()? > lines))?;
                pause(luck, Duration::from_micros(500));
                there
            }
            Aim::FewLeft(rows) => {
                let left = rows + self.observer.may_miss();
                let rows = ROWS.saturating_sub(left + files.rows()).max(1);
                self.until("few rows are left", |_| Ok(result.lines()? >= rows))?
            }
            Aim::Last => {
                let rows = ROWS - files.rows();
                let there = match rows {
                    0 => true,
                    rows => self.until("the last row is there", |_| Ok(result.lines()? >= rows))?,
                };
                let most = match rows {
                    0 => tally.start_up,
                    _ => Duration::from_millis(12),
                };
                pause(luck, most);
                there
            }
        };
        Ok(there)
    }

    fn until_asking(&mut self, tally: &mut Tally) -> Outcome<bool> {
        let there = self.until("it asks", |life| {
            Ok(life.observer.asked() > life.asked_before)
        })?;
        tally.start_up = self.born.elapsed();
        Ok(there)
    }

    fn until_answers(&mut self, journal: &mut Growth, count: usize) -> Outcome<bool> {
        self.until("answers are there", |_| Ok(journal.lines()? >= count))
    }

    /// Waits until something is so; false: it ended before.
    fn until(
        &mut self,
        what: &str,
        mut is_so: impl FnMut(&mut Life<'a>) -> Outcome<bool>,
    ) -> Outcome<bool> {
        loop {
            if self.child.try_wait()?.is_some() {
                return Ok(false);
            }
            if is_so(self)? {
                return Ok(true);
            }
            if self.born.elapsed() > PATIENCE {
                return Err(self.told(&format!("no progress: still waiting until {what}")));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn ended_by_itself(&self, aim: &Aim) -> Box<dyn std::error::Error> {
        self.told(&format!(
            "it ended by itself before it was shot ({})",
            aim.name()
        ))
    }

    fn told(&self, what: &str) -> Box<dyn std::error::Error> {
        let said = std::fs::read_to_string(self.place.join("errors.txt")).unwrap_or_default();
        format!("{what}; it said:\n{said}").into()
    }
}

fn pause(luck: &mut fastrand::Rng, most: Duration) {
    std::thread::sleep(most.mul_f64(luck.f64()));
}

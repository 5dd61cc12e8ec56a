use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use serde_json::Value;

use crate::Outcome;

/// The files of the run as they must still be there after the next life.
pub(crate) struct RunFiles {
    dir: PathBuf,
    result: Lines,
    journal: Lines,
    /// Texts of answers that a tear has taken out of the journal.
    torn_answers: HashSet<String>,
    tears: usize,
}

/// A file of whole lines that only grows.
struct Lines {
    path: PathBuf,
    kept: Vec<u8>,
    lines: usize,
    /// The bytes of a torn file until somebody repairs it.
    torn: Option<Vec<u8>>,
}

/// How a file's end was torn.
pub(crate) struct Tear {
    path: PathBuf,
    length: u64,
    how: String,
}

impl RunFiles {
    pub(crate) fn of(dir: PathBuf) -> RunFiles {
        RunFiles {
            result: Lines::of(dir.join("result.jsonl")),
            journal: Lines::of(dir.join("journal.jsonl")),
            torn_answers: HashSet::new(),
            tears: 0,
            dir,
        }
    }

    /// Reads what a life has left; nothing that was there before may have changed. How many answers came.
    pub(crate) fn look(&mut self) -> Outcome<usize> {
        self.result.look()?;
        self.journal.look()
    }

    pub(crate) fn rows(&self) -> usize {
        self.result.lines
    }

    pub(crate) fn answers(&self) -> usize {
        self.journal.lines
    }

    pub(crate) fn torn_answers(&self) -> usize {
        self.torn_answers.len()
    }

    pub(crate) fn was_torn_out(&self, answer: &str) -> bool {
        self.torn_answers.contains(answer)
    }

    pub(crate) fn tears(&self) -> usize {
        self.tears
    }

    pub(crate) fn result_growth(&self) -> Growth {
        Growth::of(&self.result)
    }

    pub(crate) fn journal_growth(&self) -> Growth {
        Growth::of(&self.journal)
    }

    /// The values of `result.jsonl`, `journal.jsonl` or another file of lines; each line must be whole.
    pub(crate) fn values(&self, name: &str) -> Outcome<Vec<Value>> {
        let text = std::fs::read_to_string(self.dir.join(name))?;
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(format!("{name} ends in a torn line").into());
        }
        let values = text.lines().enumerate().map(|(n, line)| {
            serde_json::from_str(line).map_err(|error| format!("{name}:{}: {error}", n + 1).into())
        });
        values.collect()
    }

    /// Tears the last line of one of the files, as a machine does that goes down: the line is cut, or NULs stand
    /// in it. `None` where the file that luck chose has none.
    pub(crate) fn tear(&mut self, luck: &mut fastrand::Rng) -> Outcome<Option<Tear>> {
        let name = luck.choice([
            "journal.jsonl",
            "journal.jsonl",
            "result.jsonl",
            "failures.jsonl",
        ]);
        let name = name.expect("one of four");
        let path = self.dir.join(name);
        let whole = std::fs::read(&path).unwrap_or_default();
        if whole.last() != Some(&b'\n') {
            return Ok(None);
        }
        let start = start_of_last_line(&whole);
        let at = luck.usize(start..whole.len());
        let mut bytes = whole[..at].to_owned();
        let lost = whole.len() - at;
        let how = match luck.u8(..3) {
            0 => format!("cut {lost} bytes"),
            1 => {
                bytes.resize(whole.len(), 0);
                format!("NULs in {lost} bytes")
            }
            _ => {
                bytes.resize(whole.len() - 1, 0);
                bytes.push(b'\n');
                format!("NULs before the line end in {lost} bytes")
            }
        };
        std::fs::write(&path, &bytes)?;
        let length = bytes.len() as u64;
        let keeps_line = serde_json::from_slice::<Value>(&bytes[start..]).is_ok();
        let lines = match name {
            "journal.jsonl" => Some(&mut self.journal),
            "result.jsonl" => Some(&mut self.result),
            _ => None,
        };
        if let Some(lines) = lines {
            if !keeps_line {
                if name == "journal.jsonl" {
                    let line: Value = serde_json::from_slice(&whole[start..])?;
                    self.torn_answers.insert(said(&line).to_owned());
                }
                lines.kept.truncate(start);
                lines.lines -= 1;
            }
            lines.torn = Some(bytes);
        }
        self.tears += 1;
        Ok(Some(Tear {
            path,
            length,
            how: format!("{name}: {how} of {}", whole.len() - start),
        }))
    }
}

/// What the answer of a journal line says.
pub(crate) fn said(line: &Value) -> &str {
    let content = &line["body"]["choices"][0]["message"]["content"];
    content.as_str().unwrap_or_default()
}

fn start_of_last_line(whole: &[u8]) -> usize {
    let before = whole[..whole.len() - 1]
        .iter()
        .rposition(|byte| *byte == b'\n');
    before.map_or(0, |newline| newline + 1)
}

fn count(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

impl Lines {
    fn of(path: PathBuf) -> Lines {
        Lines {
            path,
            kept: Vec::new(),
            lines: 0,
            torn: None,
        }
    }

    fn look(&mut self) -> Outcome<usize> {
        let mut now = std::fs::read(&self.path).unwrap_or_default();
        if self.torn.as_ref() == Some(&now) {
            return Ok(0); // that life did not come to its repair
        }
        self.torn = None;
        let whole = now.iter().rposition(|byte| *byte == b'\n');
        now.truncate(whole.map_or(0, |newline| newline + 1));
        if !now.starts_with(&self.kept) {
            let name = self.path.display();
            return Err(format!("what {name} held is no longer there as it was").into());
        }
        let came = count(&now[self.kept.len()..]);
        self.lines += came;
        self.kept = now;
        Ok(came)
    }
}

impl Tear {
    pub(crate) fn is_repaired(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|facts| facts.len() != self.length)
    }
}

impl fmt::Display for Tear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.how)
    }
}

/// Counts the lines that come to a file while a life works.
pub(crate) struct Growth {
    path: PathBuf,
    from: u64,
    at: u64,
    lines: usize,
}

impl Growth {
    fn of(lines: &Lines) -> Growth {
        let from = lines.kept.len() as u64;
        Growth {
            path: lines.path.clone(),
            from,
            at: from,
            lines: 0,
        }
    }

    /// So many until now.
    pub(crate) fn lines(&mut self) -> Outcome<usize> {
        let Ok(mut file) = File::open(&self.path) else {
            return Ok(0); // not there yet
        };
        if file.metadata()?.len() < self.at {
            // A torn end was cut off.
            (self.at, self.lines) = (self.from, 0);
        }
        file.seek(SeekFrom::Start(self.at))?;
        let mut came = Vec::new();
        self.at += file.read_to_end(&mut came)? as u64;
        self.lines += count(&came);
        Ok(self.lines)
    }
}

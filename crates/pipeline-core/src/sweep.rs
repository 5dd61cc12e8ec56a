//! All lines of a long file, gone through by several threads at once, each with a stretch of it at a time.
//!
//! A thread that only reads for another one hands every byte from one processor's memory to the other's, and copies it
//! twice on the way. Here whoever has read a block judges its lines where they lie.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::Error;
use crate::scan::{damaged, text};

/// One thread has so many bytes at a time.
const STRETCH: u64 = 1024 * 1024;
/// So many are read in one go: they are looked at several times and must stay near the processor meanwhile.
const BLOCK: usize = 128 * 1024;
/// The end of a line that goes on in the next stretch is read in pieces of so many bytes or more.
const PIECE: usize = 8 * 1024;
/// No two threads have a block at the same time that a long line has made larger than this.
const MOST_KEPT: usize = 4 * BLOCK;
/// More threads than these wait for memory.
const MOST_THREADS: usize = 8;

/// Shows each line, without its newline, to `each`, together with what is gathered of its stretch and its offset in the
/// file; hands what was gathered of the stretches to `gathered`, in the order of the file. What `each` refuses is
/// told with the number of the line, what `gathered` refuses with that of the first line of the stretch; of several
/// things that are wrong the first in the file. What a crash left of a last line is no line, and where there is no
/// file there are none. The lines are those that are there at the beginning; a file that is written to meanwhile
/// must not be given.
pub(crate) fn sweep<T: Default + Send>(
    path: &Path,
    each: impl Fn(&mut T, u64, &str) -> Result<(), String> + Sync,
    gathered: impl FnMut(T) -> Result<(), String> + Send,
) -> Result<(), Error> {
    sweep_by(path, STRETCH, threads, each, gathered)
}

/// How many threads are worth while for so many stretches.
fn threads(stretches: u64) -> usize {
    let most = usize::try_from(stretches).unwrap_or(MOST_THREADS);
    match most {
        // It is not free to ask the system.
        0 | 1 => 1,
        most => thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MOST_THREADS)
            .min(most),
    }
}

fn sweep_by<T: Default + Send>(
    path: &Path,
    stretch: u64,
    threads: impl FnOnce(u64) -> usize,
    each: impl Fn(&mut T, u64, &str) -> Result<(), String> + Sync,
    gathered: impl FnMut(T) -> Result<(), String> + Send,
) -> Result<(), Error> {
    let length = match std::fs::metadata(path) {
        Ok(facts) => facts.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("could not read", path)(error)),
    };
    let stretches = length.div_ceil(stretch);
    let sweep = Sweep {
        path,
        length,
        stretch,
        each,
        long: Mutex::new(()),
        state: Mutex::new(State {
            next: 0,
            over: false,
            waiting: BTreeMap::new(),
            merged: 0,
            lines: 0,
            gathered,
            outcome: Ok(()),
        }),
    };
    thread::scope(|scope| {
        for _ in 1..threads(stretches) {
            // Where the system has no thread left, those that are there do all of it.
            let spawned = thread::Builder::new()
                .name("sweep".into())
                .spawn_scoped(scope, || sweep.work());
            if spawned.is_err() {
                break;
            }
        }
        sweep.work();
    });
    let state = sweep.state.into_inner();
    state.unwrap_or_else(PoisonError::into_inner).outcome
}

/// What the threads share.
struct Sweep<'a, E, T, G> {
    path: &'a Path,
    length: u64,
    stretch: u64,
    each: E,
    /// Held by the thread that has a very long line: where all are long, memory holds one of them at a time.
    long: Mutex<()>,
    state: Mutex<State<T, G>>,
}

struct State<T, G> {
    /// The number of the stretch that is taken up next.
    next: u64,
    /// Whether no further one is taken up: those before the first that is wrong have all been.
    over: bool,
    /// Stretches that were gone through before others that stand before them.
    waiting: BTreeMap<u64, Seen<T>>,
    /// So many stretches were handed on,
    merged: u64,
    /// with so many lines.
    lines: u64,
    gathered: G,
    outcome: Result<(), Error>,
}

/// One stretch.
#[derive(Default)]
struct Seen<T> {
    gathered: T,
    lines: u64,
    /// What is wrong with the last of these lines, or why there are no more.
    fault: Option<Fault>,
}

enum Fault {
    Damaged(String),
    Unreadable(io::Error),
}

impl<E, T, G> Sweep<'_, E, T, G>
where
    T: Default,
    E: Fn(&mut T, u64, &str) -> Result<(), String>,
    G: FnMut(T) -> Result<(), String>,
{
    /// Goes through stretches until none is left.
    fn work(&self) {
        let mut lines = None;
        while let Some(number) = self.take() {
            let lines = match &mut lines {
                Some(lines) => Ok(lines),
                // Each thread has a file of its own, or the system would take what they read for leaps.
                none => File::open(self.path).map(|file| {
                    none.insert(Lines {
                        file,
                        block: vec![0; BLOCK],
                        long: &self.long,
                    })
                }),
            };
            let seen = match lines {
                Ok(lines) => self.look_at(number, lines),
                Err(error) => Seen {
                    fault: Some(Fault::Unreadable(error)),
                    ..Seen::default()
                },
            };
            self.hand_in(number, seen);
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T, G>> {
        // Whoever panicked while holding it takes all others along when the scope ends.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<u64> {
        let mut state = self.state();
        let is_left = !state.over && state.next * self.stretch < self.length;
        is_left.then(|| {
            state.next += 1;
            state.next - 1
        })
    }

    fn look_at(&self, number: u64, lines: &mut Lines<'_>) -> Seen<T> {
        let from = number * self.stretch;
        let to = (from + self.stretch).min(self.length);
        let mut seen = Seen::default();
        let read = lines.each(from, to, |offset, line, has_end| {
            if !has_end && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_err() {
                return false;
            }
            seen.lines += 1;
            let judged = text(line).and_then(|text| (self.each)(&mut seen.gathered, offset, text));
            seen.fault = judged.err().map(Fault::Damaged);
            seen.fault.is_none()
        });
        if let Err(error) = read {
            seen.fault = Some(Fault::Unreadable(error));
        }
        seen
    }

    /// Hands on what was seen, as soon as all that stands before it was.
    fn hand_in(&self, number: u64, seen: Seen<T>) {
        let mut state = self.state();
        state.over |= seen.fault.is_some();
        state.waiting.insert(number, seen);
        while state.outcome.is_ok()
            && let merged = state.merged
            && let Some(seen) = state.waiting.remove(&merged)
        {
            state.merged += 1;
            state.merge(self.path, seen);
        }
    }
}

impl<T, G: FnMut(T) -> Result<(), String>> State<T, G> {
    fn merge(&mut self, path: &Path, seen: Seen<T>) {
        let first = self.lines + 1;
        self.lines += seen.lines;
        let outcome = (self.gathered)(seen.gathered).map_err(|what| damaged(path, first, what));
        self.outcome = outcome.and(match seen.fault {
            None => Ok(()),
            Some(Fault::Damaged(what)) => Err(damaged(path, self.lines, what)),
            Some(Fault::Unreadable(error)) => Err(Error::io("could not read", path)(error)),
        });
        self.over |= self.outcome.is_err();
    }
}

/// Cuts stretches of a file into lines.
struct Lines<'a> {
    file: File,
    /// Read bytes, from the beginning on; how many, each stretch counts for itself.
    block: Vec<u8>,
    /// Held by whoever has a line that is longer than a block may stay.
    long: &'a Mutex<()>,
}

impl<'a> Lines<'a> {
    /// Shows the lines that begin in a stretch, each with its offset and whether it has its newline, which is not
    /// shown, until `each` answers false.
    fn each(
        &mut self,
        from: u64,
        to: u64,
        each: impl FnMut(u64, &[u8], bool) -> bool,
    ) -> io::Result<()> {
        let mut alone = None;
        let read = self.each_in(from..to, &mut alone, each);
        if alone.is_some() {
            self.block.truncate(BLOCK);
            self.block.shrink_to_fit();
        }
        read
    }

    fn each_in(
        &mut self,
        stretch: Range<u64>,
        alone: &mut Option<MutexGuard<'a, ()>>,
        mut each: impl FnMut(u64, &[u8], bool) -> bool,
    ) -> io::Result<()> {
        // A line begins behind a newline: for the first one the byte before the stretch is looked at.
        let mut offset = stretch.start.saturating_sub(1);
        let mut in_the_line_before = stretch.start > 0;
        // Of the block: so many bytes are filled, and the first ones of them are known to hold no newline.
        let (mut filled, mut looked_at) = (0, 0);
        loop {
            if filled == self.block.len() {
                if 2 * filled > MOST_KEPT {
                    let long = self.long;
                    alone
                        .get_or_insert_with(|| long.lock().unwrap_or_else(PoisonError::into_inner));
                }
                self.block.resize(2 * filled, 0);
            }
            let end = offset + filled as u64;
            let wanted = match stretch.end.saturating_sub(end) {
                // Only the end of the last line is missing.
                0 => PIECE.max(filled),
                rest => usize::try_from(rest).unwrap_or(BLOCK),
            };
            let behind = filled.saturating_add(wanted).min(self.block.len());
            let read = match self.file.read_at(&mut self.block[filled..behind], end) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            filled += read;
            let mut start = 0;
            while let Some(length) = memchr::memchr(b'\n', &self.block[looked_at..filled]) {
                let newline = looked_at + length;
                let line = &self.block[start..newline];
                if !in_the_line_before && !each(offset + start as u64, line, true) {
                    return Ok(());
                }
                in_the_line_before = false;
                (start, looked_at) = (newline + 1, newline + 1);
                if offset + start as u64 >= stretch.end {
                    return Ok(());
                }
            }
            if in_the_line_before {
                // It is somebody else's, however long it is.
                start = filled;
            }
            if read == 0 {
                if start < filled {
                    each(offset + start as u64, &self.block[start..filled], false);
                }
                return Ok(());
            }
            if in_the_line_before && offset + filled as u64 >= stretch.end {
                return Ok(());
            }
            self.block.copy_within(start..filled, 0);
            offset += start as u64;
            filled -= start;
            looked_at = filled;
        }
    }
}

#[cfg(test)]
mod tests;

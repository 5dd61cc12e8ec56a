//! The one writer of a run's files.
//!
//! An answer is acknowledged when `write` has returned. Lines that rest on answers wait for the next
//! commit, in which the journal is synced first; the sync runs beside the loop and holds nobody up.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::append::{AppendFile, Repair};
use crate::error::Error;
use crate::event::Batch;
use crate::journal::{self, Entry};
use crate::lock::Lock;

/// Lines that wait for their commit take at most so much memory; then whoever brings more waits.
const QUEUED_BYTES: usize = 16 * 1024 * 1024;
/// A semaphore counts in units of this, so that its number stays small.
const UNIT: usize = 1024;
/// Messages that wait for the writer.
const QUEUE: usize = 1024;

/// The files of a run, opened and with whole ends.
pub(crate) struct Files {
    pub(crate) journal: AppendFile,
    pub(crate) lines: LineFiles,
    pub(crate) repairs: Vec<String>,
}

/// The two files whose lines rest on the journal.
pub(crate) struct LineFiles {
    result: AppendFile,
    failures: AppendFile,
}

impl Files {
    pub(crate) fn open(dir: &Path) -> Result<Files, Error> {
        let mut repairs = Vec::new();
        let mut open = |name: &str| -> Result<AppendFile, Error> {
            let (file, repair) = AppendFile::open(dir.join(name))?;
            match repair {
                Repair::None => {}
                Repair::NewlineAdded => repairs.push(format!(
                    "{name}: the last line was whole and got its newline"
                )),
                Repair::Cut(bytes) => repairs.push(format!(
                    "{name}: {bytes} bytes of a torn last line were cut off"
                )),
            }
            Ok(file)
        };
        let journal = open("journal.jsonl")?;
        let lines = LineFiles {
            result: open("result.jsonl")?,
            failures: open("failures.jsonl")?,
        };
        crate::append::sync_folder(dir).map_err(Error::io("could not write", dir))?;
        Ok(Files {
            journal,
            lines,
            repairs,
        })
    }
}

enum Message {
    Answer {
        tail: Vec<u8>,
        done: oneshot::Sender<u64>,
    },
    Finished {
        line: Vec<u8>,
    },
    Failed {
        line: Vec<u8>,
    },
    Close,
}

/// What rows hold of the writer.
pub(crate) struct WriterHandle {
    sender: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
    journal: Arc<std::fs::File>,
}

impl WriterHandle {
    /// One that reads back and writes nothing: what is handed to it is refused.
    pub(crate) fn reading(journal: &AppendFile) -> WriterHandle {
        let (sender, _) = mpsc::channel(1);
        WriterHandle {
            sender,
            room: Arc::new(Semaphore::new(0)),
            journal: journal.handle(),
        }
    }

    /// Resolves with the answer's number when it is written; `None` when the writer has stopped.
    pub(crate) async fn journal(&self, tail: Vec<u8>) -> Option<u64> {
        let (done, written) = oneshot::channel();
        self.sender
            .send(Message::Answer { tail, done })
            .await
            .ok()?;
        written.await.ok()
    }

    pub(crate) async fn finished(&self, line: Vec<u8>) -> bool {
        self.line(line, |line| Message::Finished { line }).await
    }

    pub(crate) async fn failed(&self, line: Vec<u8>) -> bool {
        self.line(line, |line| Message::Failed { line }).await
    }

    /// Waits for room, then hands the line over; false when the writer has stopped.
    async fn line(&self, line: Vec<u8>, message: impl FnOnce(Vec<u8>) -> Message) -> bool {
        let Ok(room) = self.room.acquire_many(units(line.len())).await else {
            return false;
        };
        room.forget(); // given back when the line is committed
        self.sender.send(message(line)).await.is_ok()
    }

    /// Nothing more will come: commit what there is and end.
    pub(crate) async fn close(&self) {
        // Where nobody listens any more, it has ended already.
        drop(self.sender.send(Message::Close).await);
    }

    pub(crate) fn read_back(&self, offset: u64) -> io::Result<Entry> {
        journal::read_at(&self.journal, offset)
    }
}

fn units(bytes: usize) -> u32 {
    bytes.div_ceil(UNIT).min(QUEUED_BYTES / UNIT) as u32
}

/// Why the writer gave up.
#[derive(Debug)]
pub(crate) struct WriteError {
    pub(crate) path: std::path::PathBuf,
    pub(crate) source: io::Error,
}

/// Writes until it is closed, and then commits what is left.
pub(crate) struct Writer {
    receiver: mpsc::Receiver<Message>,
    room: Arc<Semaphore>,
    journal: AppendFile,
    /// Away while a commit runs.
    lines: Option<LineFiles>,
    next_seq: u64,
    sync_every: Duration,
    /// The commit that is under way, if one is.
    commit: Option<Commit>,
    /// Held until the last commit has ended, also where the run itself was dropped.
    lock: Arc<Lock>,
}

type Commit = JoinHandle<(LineFiles, Batch, Result<(), WriteError>)>;

impl Writer {
    pub(crate) fn new(
        journal: AppendFile,
        lines: LineFiles,
        next_seq: u64,
        sync_every: Duration,
        lock: Arc<Lock>,
    ) -> (Writer, WriterHandle) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let room = Arc::new(Semaphore::new(QUEUED_BYTES / UNIT));
        let handle = WriterHandle {
            sender,
            room: Arc::clone(&room),
            journal: journal.handle(),
        };
        (
            Writer {
                receiver,
                room,
                journal,
                lines: Some(lines),
                next_seq,
                sync_every,
                commit: None,
                lock,
            },
            handle,
        )
    }

    /// Runs to the end; `committed` hears of every batch once it is durable.
    ///
    /// # Errors
    ///
    /// At the first write or sync that the system refuses: a sync that failed is not tried again.
    pub(crate) async fn run(mut self, mut committed: impl FnMut(&Batch)) -> Result<(), WriteError> {
        let result = self.work(&mut committed).await;
        if let Some(commit) = self.commit.take()
            && let Ok((_, batch, Ok(()))) = commit.await
        {
            committed(&batch);
        }
        // Whoever still waits for room must not wait for ever.
        self.room.close();
        result
    }

    async fn work(&mut self, committed: &mut impl FnMut(&Batch)) -> Result<(), WriteError> {
        let mut batch = Batch::default();
        let mut dirty_since: Option<Instant> = None;
        let mut open = true;
        loop {
            let commit_at = dirty_since.map(|since| since + self.sync_every);
            let full = batch.results.len() + batch.failures.len() > QUEUED_BYTES / 2;
            let due = dirty_since.is_some() && self.commit.is_none() && (!open || full);
            if due {
                self.commit = Some(self.start_commit(std::mem::take(&mut batch)));
                dirty_since = None;
                continue;
            }
            if !open && self.commit.is_none() {
                return Ok(());
            }
            tokio::select! {
                biased;
                done = async { self.commit.as_mut().expect("guarded").await }, if self.commit.is_some() => {
                    self.commit = None;
                    let (lines, batch, outcome) = done.expect("a commit does not panic");
                    self.lines = Some(lines);
                    outcome?;
                    self.room.add_permits(batch.units as usize);
                    committed(&batch);
                }
                message = self.receiver.recv(), if open => match message {
                    None => open = false,
                    Some(first) => {
                        dirty_since.get_or_insert_with(Instant::now);
                        open = self.take(first, &mut batch)?;
                    }
                },
                () = tokio::time::sleep_until(commit_at.unwrap_or_else(Instant::now)),
                    if commit_at.is_some() && self.commit.is_none() =>
                {
                    self.commit = Some(self.start_commit(std::mem::take(&mut batch)));
                    dirty_since = None;
                }
            }
        }
    }

    /// Takes the message and all that wait behind it; their answers become one write. False at the end.
    fn take(&mut self, first: Message, batch: &mut Batch) -> Result<bool, WriteError> {
        let mut open = true;
        let mut lines = Vec::new();
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Answer { tail, done } => {
                    journal::push_numbered(&mut lines, self.next_seq, &tail);
                    waiting.push((done, self.next_seq));
                    self.next_seq += 1;
                }
                Message::Finished { line } => {
                    batch.results.extend_from_slice(&line);
                    batch.finished += 1;
                    batch.units += units(line.len());
                }
                Message::Close => open = false,
                Message::Failed { line } => {
                    batch.failures.extend_from_slice(&line);
                    batch.failed += 1;
                    batch.units += units(line.len());
                }
            }
            next = self.receiver.try_recv().ok();
        }
        self.journal.append(&lines).map_err(|source| WriteError {
            path: self.journal.path().to_owned(),
            source,
        })?;
        for (done, seq) in waiting {
            if done.send(seq).is_err() {
                tracing::debug!(seq, "the row was cut off; its answer is safe all the same");
            }
        }
        Ok(open)
    }

    fn start_commit(&mut self, batch: Batch) -> Commit {
        let journal = (self.journal.handle(), self.journal.path().to_owned());
        let mut lines = self.lines.take().expect("one commit at a time");
        let lock = Arc::clone(&self.lock);
        tokio::task::spawn_blocking(move || {
            let outcome = lines.commit(&journal.0, &journal.1, &batch);
            drop(lock);
            (lines, batch, outcome)
        })
    }
}

impl LineFiles {
    /// The journal first: no line may rest on an answer that a power loss could still take.
    fn commit(
        &mut self,
        journal: &std::fs::File,
        journal_path: &Path,
        batch: &Batch,
    ) -> Result<(), WriteError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| WriteError { path, source }
        };
        journal.sync_data().map_err(failed(journal_path))?;
        for (file, lines) in [
            (&mut self.result, &batch.results),
            (&mut self.failures, &batch.failures),
        ] {
            if !lines.is_empty() {
                file.append(lines)
                    .and_then(|()| file.sync())
                    .map_err(failed(file.path()))?;
            }
        }
        Ok(())
    }
}

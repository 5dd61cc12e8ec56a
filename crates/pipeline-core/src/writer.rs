//! The one writer of a run's files.
//!
//! An answer is acknowledged when `write` has returned, or, if each is to outlast a power loss, when the sync
//! after it has. Lines that rest on answers wait for the next commit, in which the journal is synced first;
//! syncs run beside the loop, one at a time, and hold up nobody who does not wait for them.
//!
//! After the first refusal the run stops. No line is written any more, but answers that are still under way are
//! paid for, and so they go into the journal as long as that takes them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::append::AppendFile;
use crate::disk::DiskFile;
use crate::event::Batch;
use crate::files::{Files, LineFiles, WriteError};
use crate::journal::{self, Entry};
use crate::lock::Lock;
use crate::record::{Failure, Record};
use crate::run::{Durability, RunOptions};
use crate::shared::stop_for_disk;
use crate::stop::StopHandle;

/// Rows that wait for their commit take at most so much memory; then whoever brings more waits.
const QUEUED_BYTES: usize = 2 * 1024 * 1024;
/// Rows of so many bytes wait for no more: a quick run would hold megabytes of them otherwise.
const COMMIT_BYTES: usize = 512 * 1024;
/// A semaphore counts in units of this, so that its number stays small.
const UNIT: usize = 1024;
/// Messages that wait for the writer.
const QUEUE: usize = 256;

enum Message {
    Answer { tail: Vec<u8>, done: Done },
    Finished { record: Box<Record>, room: Room },
    Failed { failure: Box<Failure>, room: Room },
    Close,
}

/// Takes the number of an answer once it is acknowledged.
type Done = oneshot::Sender<u64>;

/// Room in the queue for one row, in units.
pub(crate) struct Room(u32);

/// What rows hold of the writer.
pub(crate) struct WriterHandle {
    sender: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
    journal: Arc<DiskFile>,
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

    /// Resolves with the answer's number when it is acknowledged; `None` when it could not be.
    pub(crate) async fn journal(&self, tail: Vec<u8>) -> Option<u64> {
        let (done, written) = oneshot::channel();
        self.sender
            .send(Message::Answer { tail, done })
            .await
            .ok()?;
        written.await.ok()
    }

    /// Waits for room for a row whose line has about so many bytes; `None` when the writer has stopped.
    pub(crate) async fn room(&self, bytes: usize) -> Option<Room> {
        let units = bytes.div_ceil(UNIT).min(QUEUED_BYTES / UNIT) as u32;
        let room = self.room.acquire_many(units).await.ok()?;
        room.forget(); // given back when the line is committed
        Some(Room(units))
    }

    /// Hands the row over; false when the writer has stopped.
    pub(crate) async fn finished(&self, record: Box<Record>, room: Room) -> bool {
        let message = Message::Finished { record, room };
        self.sender.send(message).await.is_ok()
    }

    /// Hands the row over; false when the writer has stopped.
    pub(crate) async fn failed(&self, failure: Box<Failure>, room: Room) -> bool {
        let message = Message::Failed { failure, room };
        self.sender.send(message).await.is_ok()
    }

    /// Nothing more will come: commit what there is and end.
    pub(crate) async fn close(&self) {
        // Where nobody listens any more, it has ended already.
        drop(self.sender.send(Message::Close).await);
    }

    pub(crate) fn read_back(&self, offset: u64) -> io::Result<Entry> {
        journal::read_at(self.journal.file(), offset)
    }
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
    durability: Durability,
    /// Answers that are written and will be acknowledged by the next commit.
    unsynced: Vec<(Done, u64)>,
    /// Room for the lines of answers that are written next.
    answers: Vec<u8>,
    /// Rows for the next commit; their lines are made beside the loop.
    batch: Batch,
    /// Since when something waits for a commit.
    dirty_since: Option<Instant>,
    /// The commit that is under way, if one is.
    commit: Option<Commit>,
    stop: StopHandle,
    /// Whether the system has refused a write or sync: then no line is written any more.
    refused: bool,
    /// Whether it was the journal's sync: then it is synced no more, and nothing acknowledges by it.
    sync_lost: bool,
    /// Held until the last commit has ended, also where the run itself was dropped.
    lock: Arc<Lock>,
}

type Commit = JoinHandle<(LineFiles, Batch, Result<(), WriteError>)>;

impl Writer {
    /// The writer, what rows hold of it, and what was repaired when the files were opened.
    pub(crate) fn new(
        files: Files,
        next_seq: u64,
        options: &RunOptions,
        stop: StopHandle,
        lock: Arc<Lock>,
    ) -> (Writer, WriterHandle, Vec<String>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let room = Arc::new(Semaphore::new(QUEUED_BYTES / UNIT));
        let handle = WriterHandle {
            sender,
            room: Arc::clone(&room),
            journal: files.journal.handle(),
        };
        let writer = Writer {
            receiver,
            room,
            journal: files.journal,
            lines: Some(files.lines),
            next_seq,
            sync_every: options.sync_every,
            durability: options.durability,
            unsynced: Vec::new(),
            answers: Vec::new(),
            batch: Batch::default(),
            dirty_since: None,
            commit: None,
            stop,
            refused: false,
            sync_lost: false,
            lock,
        };
        (writer, handle, files.repairs)
    }

    /// Runs until it is closed; `committed` hears of every batch once it is durable. False where the system
    /// refused a write or sync; then the run was told to stop, and a sync that failed was not tried again.
    pub(crate) async fn run(mut self, mut committed: impl FnMut(&Batch)) -> bool {
        let mut open = true;
        loop {
            if self.commit.is_none() && (self.lines_are_due(open) || !self.unsynced.is_empty()) {
                self.start_commit(open);
            }
            if !open && self.commit.is_none() {
                return !self.refused;
            }
            let commit_at = self.dirty_since.map(|since| since + self.sync_every);
            tokio::select! {
                biased;
                done = async { self.commit.as_mut().expect("guarded").await }, if self.commit.is_some() => {
                    self.commit = None;
                    let (lines, batch, outcome) = done.expect("a commit does not panic");
                    self.lines = Some(lines);
                    match outcome {
                        Ok(()) => {
                            self.room.add_permits(batch.units as usize);
                            if batch.units > 0 {
                                committed(&batch);
                            }
                        }
                        Err(error) => {
                            self.sync_lost |= error.path == self.journal.path();
                            self.refuse();
                        }
                    }
                }
                message = self.receiver.recv(), if open => {
                    open = match message {
                        Some(first) => self.take(first),
                        None => false,
                    };
                }
                () = tokio::time::sleep_until(commit_at.unwrap_or_else(Instant::now)),
                    if commit_at.is_some() && self.commit.is_none() => {}
            }
        }
    }

    /// Whether what waits for a commit has waited long enough. Answers alone wait for one too.
    fn lines_are_due(&self, open: bool) -> bool {
        let full = self.batch.units as usize * UNIT > COMMIT_BYTES;
        self.dirty_since
            .is_some_and(|since| full || !open || since.elapsed() >= self.sync_every)
    }

    /// Takes the message and all that wait behind it; their answers become one write. False at the end.
    fn take(&mut self, first: Message) -> bool {
        let mut open = true;
        let mut lines = std::mem::take(&mut self.answers);
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Answer { tail, done } => {
                    journal::push_numbered(&mut lines, self.next_seq, &tail);
                    waiting.push((done, self.next_seq));
                    self.next_seq += 1;
                }
                // Their rows stay pending, and are judged again from the journal.
                Message::Finished { .. } | Message::Failed { .. } if self.refused => {}
                Message::Finished { record, room } => {
                    self.batch.records.push(*record);
                    self.batch.units += room.0;
                }
                Message::Failed { failure, room } => {
                    self.batch.failures.push(*failure);
                    self.batch.units += room.0;
                }
                Message::Close => open = false,
            }
            next = self.receiver.try_recv().ok();
        }
        self.write(&lines, waiting);
        lines.clear();
        lines.shrink_to(COMMIT_BYTES);
        self.answers = lines;
        if self.batch.units > 0 {
            self.dirty_since.get_or_insert_with(Instant::now);
        }
        open
    }

    /// Writes answers, and acknowledges them, or lets them wait for the sync that does.
    fn write(&mut self, lines: &[u8], waiting: Vec<(Done, u64)>) {
        if lines.is_empty() || self.journal.is_refused() {
            return;
        }
        let (kept, appended) = self.journal.append_what_fits(lines);
        let mut waiting = waiting;
        if let Err(source) = appended {
            tell(&self.stop, &WriteError::of(self.journal.path())(source));
            self.refuse();
            // Answers whose lines are there whole are paid for and safe; the others are told to nobody.
            waiting.truncate(memchr::memchr_iter(b'\n', &lines[..kept]).count());
        }
        match self.durability {
            Durability::Group => {
                if !self.sync_lost {
                    self.dirty_since.get_or_insert_with(Instant::now);
                }
                waiting.into_iter().for_each(acknowledge);
            }
            Durability::Each if self.sync_lost => {}
            Durability::Each => self.unsynced.extend(waiting),
        }
    }

    /// No line is written any more, and who waits for one waits no longer.
    fn refuse(&mut self) {
        self.refused = true;
        self.batch = Batch::default();
        self.room.close();
        if self.sync_lost {
            // They are written, so the next command finds them.
            self.unsynced.clear();
            self.dirty_since = None;
        }
    }

    fn start_commit(&mut self, open: bool) {
        // A sync that only acknowledges answers leaves the lines to gather for their own.
        let batch = if self.lines_are_due(open) {
            self.dirty_since = None;
            std::mem::take(&mut self.batch)
        } else {
            Batch::default()
        };
        let answers = std::mem::take(&mut self.unsynced);
        let journal = self.journal.handle();
        let mut lines = self.lines.take().expect("one commit at a time");
        let (lock, stop) = (Arc::clone(&self.lock), self.stop.clone());
        self.commit = Some(tokio::task::spawn_blocking(move || {
            let synced = || answers.into_iter().for_each(acknowledge);
            let outcome = lines.commit(&journal, synced, &batch);
            if let Err(error) = &outcome {
                // From here, so that nothing is sent until the loop hears of it.
                tell(&stop, error);
            }
            drop(lock);
            (lines, batch, outcome)
        }));
    }
}

fn acknowledge((done, seq): (Done, u64)) {
    if done.send(seq).is_err() {
        tracing::debug!(seq, "the row was cut off; its answer is safe all the same");
    }
}

fn tell(stop: &StopHandle, WriteError { path, source }: &WriteError) {
    stop_for_disk(stop, &format!("could not write {}", path.display()), source);
}

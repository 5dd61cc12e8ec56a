//! A watch over the disk that writes down every change, and refuses those that it is told to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::disk::{Change, Disk, Opening, Watch};

/// What kinds of changes can be refused; removing is left out, for nothing rests on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Open,
    Write,
    SetLength,
    Sync,
    SyncFolder,
    Rename,
    MakeFolder,
    Remove,
}

/// How a change is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The device fails.
    Eio,
    /// The disk is full.
    Enospc,
    /// Half of a write gets to the disk, which is full then.
    Short,
    /// The same, and the file cannot be cut back either.
    ShortAndStuck,
    /// The disk stays full: no write comes through from then on.
    FullFromThen,
    /// The device is gone: nothing comes through from then on.
    GoneFromThen,
}

/// The n-th change of a kind is refused, or of any kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) kind: Option<Kind>,
    pub(crate) nth: usize,
    pub(crate) how: How,
}

/// The number of a file, which it keeps when it is renamed.
pub(crate) type FileId = usize;

/// A change that was made, or something that the run said meanwhile.
#[derive(Debug, Clone)]
pub(crate) enum Made {
    Create(PathBuf, FileId),
    Write(FileId, Vec<u8>),
    SetLength(FileId, u64),
    Sync(FileId),
    SyncFolder(PathBuf),
    Rename(PathBuf, PathBuf),
    MakeFolder(PathBuf),
    Remove(PathBuf),
    /// The run acknowledged this answer to this row.
    Acknowledged(i64, u32),
    /// The run told that this row's line is durable.
    Committed(i64),
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Made::Write(id, bytes) => write!(f, "write of {} bytes to file {id}", bytes.len()),
            other => write!(f, "{other:?}"),
        }
    }
}

/// A file or a folder that was there before.
pub(crate) type Found = (PathBuf, Option<(FileId, Vec<u8>)>);

#[derive(Default)]
struct State {
    files: FileId,
    ids: HashMap<u64, FileId>,
    log: Vec<(Instant, Made)>,
    fault: Option<Fault>,
    counts: BTreeMap<Kind, usize>,
    asked: usize,
    /// How many requests had left when the first change was refused.
    asked_when_refused: Option<usize>,
    unsyncable: HashSet<FileId>,
    synced_again: bool,
}

pub(crate) struct Recorder {
    found: Vec<Found>,
    state: Mutex<State>,
}

impl Recorder {
    /// Watches a folder; what is in it is there to stay.
    pub(crate) fn over(root: &Path, fault: Option<Fault>) -> Arc<Recorder> {
        let mut state = State {
            fault,
            ..State::default()
        };
        let mut found = Vec::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path.clone());
                    found.push((path, None));
                } else {
                    let id = state.new_file(std::fs::metadata(&path).unwrap().ino());
                    let contents = std::fs::read(&path).unwrap();
                    found.push((path, Some((id, contents))));
                }
            }
        }
        Arc::new(Recorder {
            found,
            state: Mutex::new(state),
        })
    }

    pub(crate) fn disk(self: &Arc<Self>) -> Disk {
        Disk::watched(Arc::clone(self) as Arc<dyn Watch>)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn found(&self) -> &[Found] {
        &self.found
    }

    pub(crate) fn say(&self, what: Made) {
        self.state().log.push((Instant::now(), what));
    }

    pub(crate) fn count_request(&self) {
        self.state().asked += 1;
    }

    pub(crate) fn log(&self) -> Vec<(Instant, Made)> {
        self.state().log.clone()
    }

    /// The answers that the run acknowledged, each with its row.
    pub(crate) fn acknowledged(&self) -> Vec<(i64, u32)> {
        let state = self.state();
        let answers = state.log.iter().filter_map(|(_, made)| match made {
            Made::Acknowledged(n, attempt) => Some((*n, *attempt)),
            _ => None,
        });
        answers.collect()
    }

    pub(crate) fn counts(&self) -> BTreeMap<Kind, usize> {
        self.state().counts.clone()
    }

    pub(crate) fn has_refused(&self) -> bool {
        self.state().asked_when_refused.is_some()
    }

    /// How many requests left after the first change was refused.
    pub(crate) fn asked_since_refused(&self) -> usize {
        let state = self.state();
        state.asked - state.asked_when_refused.unwrap_or(state.asked)
    }

    /// Whether a file was synced after a sync of it had failed.
    pub(crate) fn synced_again(&self) -> bool {
        self.state().synced_again
    }
}

impl Kind {
    fn of(change: &Change<'_>) -> Kind {
        match change {
            Change::Open { .. } => Kind::Open,
            Change::Write { .. } => Kind::Write,
            Change::SetLength { .. } => Kind::SetLength,
            Change::Sync { .. } => Kind::Sync,
            Change::SyncFolder { .. } => Kind::SyncFolder,
            Change::Rename { .. } => Kind::Rename,
            Change::MakeFolder { .. } => Kind::MakeFolder,
            Change::Remove { .. } | Change::RemoveFolder { .. } => Kind::Remove,
        }
    }
}

impl State {
    fn new_file(&mut self, inode: u64) -> FileId {
        self.files += 1;
        self.ids.insert(inode, self.files);
        self.files
    }

    fn id(&self, file: &File) -> FileId {
        self.ids[&file.metadata().unwrap().ino()]
    }

    fn refuses(&self, kind: Kind) -> Option<How> {
        let fault = self.fault?;
        let refused = self.asked_when_refused.is_some();
        let lasts = match fault.how {
            How::FullFromThen => kind == Kind::Write,
            How::ShortAndStuck => kind == Kind::SetLength,
            How::GoneFromThen => true,
            How::Eio | How::Enospc | How::Short => false,
        };
        let count = match fault.kind {
            Some(_) => self.counts[&kind],
            None => self.counts.values().sum(),
        };
        let hit = fault.kind.is_none_or(|wanted| wanted == kind) && count == fault.nth;
        (hit && !refused || lasts && refused).then_some(fault.how)
    }

    fn put(&mut self, made: Made) {
        self.log.push((Instant::now(), made));
    }

    fn make(&mut self, change: &Change<'_>) -> io::Result<Option<File>> {
        let made = match *change {
            // Nothing here needs a real sync; what it is good for is worked out from the record.
            Change::Sync { file } => {
                let id = self.id(file);
                self.synced_again |= self.unsyncable.contains(&id);
                self.put(Made::Sync(id));
                return Ok(None);
            }
            Change::SyncFolder { path } => {
                self.put(Made::SyncFolder(path.to_owned()));
                return Ok(None);
            }
            Change::Open { path, how } => {
                let is_new = !path.exists();
                let file = change.make()?.expect("opening opens");
                if is_new {
                    let id = self.new_file(file.metadata()?.ino());
                    self.put(Made::Create(path.to_owned(), id));
                } else if how == Opening::Replace {
                    let id = self.id(&file);
                    self.put(Made::SetLength(id, 0));
                }
                return Ok(Some(file));
            }
            Change::Write { file, bytes } => Made::Write(self.id(file), bytes.to_vec()),
            Change::SetLength { file, length } => Made::SetLength(self.id(file), length),
            Change::Rename { from, to } => Made::Rename(from.to_owned(), to.to_owned()),
            Change::MakeFolder { path } => Made::MakeFolder(path.to_owned()),
            Change::Remove { path } | Change::RemoveFolder { path } => {
                Made::Remove(path.to_owned())
            }
        };
        change.make()?;
        self.put(made);
        Ok(None)
    }
}

impl Watch for Recorder {
    /// Changes are made one at a time, so that the record has their order.
    fn change(&self, change: &Change<'_>) -> io::Result<Option<File>> {
        let mut state = self.state();
        let kind = Kind::of(change);
        *state.counts.entry(kind).or_default() += 1;
        let Some(how) = state.refuses(kind) else {
            return state.make(change);
        };
        if let Change::Sync { file } = change {
            let id = state.id(file);
            state.synced_again |= !state.unsyncable.insert(id);
        }
        let first = state.asked_when_refused.is_none();
        let asked = state.asked;
        state.asked_when_refused.get_or_insert(asked);
        let (eio, enospc) = (5, 28);
        match (how, *change) {
            (How::Short | How::ShortAndStuck, Change::Write { file, bytes }) if first => {
                let bytes = &bytes[..bytes.len() / 2];
                state.make(&Change::Write { file, bytes })?;
                Err(io::Error::from_raw_os_error(enospc))
            }
            (How::Eio | How::GoneFromThen, _) | (_, Change::SetLength { .. }) => {
                Err(io::Error::from_raw_os_error(eio))
            }
            _ => Err(io::Error::from_raw_os_error(enospc)),
        }
    }
}

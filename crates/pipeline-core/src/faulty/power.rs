//! What a power loss leaves: what was synced, and of the rest as much or as little as the worst file system
//! may keep.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::recorder::{FileId, Found, Made};

/// How much survives of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing.
    Everything,
    /// All names, none of the bytes.
    Bytes,
    /// All names, and of each file's changes the first ones, up to any byte.
    Tail,
    /// All names and all lengths, but from some byte on there are NULs.
    Nuls,
    /// Any of these for each file, and any of the names.
    Anything,
}

pub(crate) const LOSSES: [Loss; 5] = [
    Loss::Everything,
    Loss::Bytes,
    Loss::Tail,
    Loss::Nuls,
    Loss::Anything,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(FileId),
    Folder,
}

#[derive(Debug, Clone)]
enum NameChange {
    Add(PathBuf, Node),
    Move(PathBuf, PathBuf, Node),
    Drop(PathBuf),
}

#[derive(Debug, Clone)]
enum ByteChange {
    Write(Vec<u8>),
    SetLength(u64),
}

#[derive(Debug, Clone, Default)]
struct Bytes {
    durable: Vec<u8>,
    pending: Vec<ByteChange>,
}

/// A file system that knows what is durable.
#[derive(Debug, Clone, Default)]
pub(crate) struct Platter {
    bytes: BTreeMap<FileId, Bytes>,
    durable: BTreeMap<PathBuf, Node>,
    live: BTreeMap<PathBuf, Node>,
    /// Changes of names by the folder that they are in.
    pending: BTreeMap<PathBuf, Vec<NameChange>>,
}

/// A small generator: the same seed, the same losses.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides.max(1)
    }
}

impl ByteChange {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            ByteChange::Write(more) => bytes.extend_from_slice(more),
            ByteChange::SetLength(length) => bytes.resize(*length as usize, 0),
        }
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            NameChange::Add(path, node) => drop(names.insert(path, node)),
            NameChange::Drop(path) => drop(names.remove(&path)),
            NameChange::Move(from, to, node) => {
                names.remove(&from);
                names.insert(to, node);
            }
        }
    }
}

impl Bytes {
    fn survivors(&self, loss: Loss, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let loss = match loss {
            Loss::Anything => [Loss::Bytes, Loss::Tail, Loss::Nuls][dice.roll(3)],
            loss => loss,
        };
        if matches!(loss, Loss::Everything | Loss::Bytes) || self.pending.is_empty() {
            return bytes;
        }
        let whole = dice.roll(self.pending.len() + 1);
        for change in &self.pending[..whole] {
            change.apply(&mut bytes);
        }
        match self.pending.get(whole) {
            Some(ByteChange::Write(more)) => {
                bytes.extend_from_slice(&more[..dice.roll(more.len() + 1)]);
                if loss == Loss::Nuls {
                    let mut all = self.durable.clone();
                    self.pending
                        .iter()
                        .for_each(|change| change.apply(&mut all));
                    bytes.resize(bytes.len().max(all.len()), 0);
                }
            }
            Some(ByteChange::SetLength(_)) | None => {}
        }
        bytes
    }
}

impl Platter {
    /// With what was found there. A killed process may have left the bytes of these files unsynced.
    pub(crate) fn holding(found: &[Found], unsynced: &[&str]) -> Platter {
        let mut platter = Platter::default();
        for (path, file) in found {
            let node = match file {
                None => Node::Folder,
                Some((id, contents)) => {
                    let bytes = platter.bytes.entry(*id).or_default();
                    if unsynced.iter().any(|name| path.ends_with(name)) {
                        bytes.pending.push(ByteChange::Write(contents.clone()));
                    } else {
                        bytes.durable.clone_from(contents);
                    }
                    Node::File(*id)
                }
            };
            platter.durable.insert(path.clone(), node);
            platter.live.insert(path.clone(), node);
        }
        platter
    }

    pub(crate) fn apply(&mut self, made: &Made) {
        match made {
            Made::Create(path, id) => {
                self.bytes.insert(*id, Bytes::default());
                self.name(NameChange::Add(path.clone(), Node::File(*id)), path);
            }
            Made::MakeFolder(path) => {
                self.name(NameChange::Add(path.clone(), Node::Folder), path);
            }
            Made::Remove(path) => self.name(NameChange::Drop(path.clone()), path),
            Made::Rename(from, to) => {
                assert_eq!(from.parent(), to.parent(), "nothing moves between folders");
                let node = self.live[from];
                self.name(NameChange::Move(from.clone(), to.clone(), node), to);
            }
            Made::Write(id, bytes) => self.change(*id, ByteChange::Write(bytes.clone())),
            Made::SetLength(id, length) => self.change(*id, ByteChange::SetLength(*length)),
            Made::Sync(id) => {
                let Bytes { durable, pending } = self.bytes.entry(*id).or_default();
                pending.drain(..).for_each(|change| change.apply(durable));
            }
            Made::SyncFolder(path) => {
                for change in self.pending.remove(path).unwrap_or_default() {
                    change.apply(&mut self.durable);
                }
            }
            Made::Acknowledged(..) | Made::Committed(_) => {}
        }
    }

    fn name(&mut self, change: NameChange, path: &Path) {
        change.clone().apply(&mut self.live);
        let folder = path.parent().unwrap().to_owned();
        self.pending.entry(folder).or_default().push(change);
    }

    fn change(&mut self, id: FileId, change: ByteChange) {
        self.bytes.entry(id).or_default().pending.push(change);
    }

    /// Writes down what is left of the folder `from` after a loss, as the folder `to`.
    pub(crate) fn lose(&self, loss: Loss, dice: &mut Dice, from: &Path, to: &Path) {
        let mut names = self.durable.clone();
        for change in self.pending.values().flatten() {
            let survives = match loss {
                Loss::Everything => false,
                Loss::Anything => dice.roll(2) == 0,
                Loss::Bytes | Loss::Tail | Loss::Nuls => true,
            };
            if survives {
                change.clone().apply(&mut names);
            }
        }
        // Sorted: a folder comes before what is in it. What is in one that is gone is gone with it.
        for (path, node) in names {
            let Ok(path) = path.strip_prefix(from) else {
                continue;
            };
            let path = to.join(path);
            if !path.parent().unwrap().is_dir() {
                continue;
            }
            match node {
                Node::Folder => std::fs::create_dir(&path).unwrap(),
                Node::File(id) => {
                    let bytes = self.bytes[&id].survivors(loss, dice);
                    std::fs::write(&path, bytes).unwrap();
                }
            }
        }
    }
}

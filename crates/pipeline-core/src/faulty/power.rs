//! What a power loss leaves: what was synced, and of the rest as much or as little as the worst file system
//! may keep.

use std::collections::BTreeMap;
use std::ffi::OsString;
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
    /// Of the names only the newest change: what had to be there before it is not.
    AllButTheNewestName,
}

const LOSSES: [Loss; 5] = [
    Loss::Everything,
    Loss::Bytes,
    Loss::Tail,
    Loss::Nuls,
    Loss::Anything,
];

/// A folder keeps its number when it is renamed, and with it what is in it.
type FolderId = usize;

const ROOT: FolderId = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(FileId),
    Folder(FolderId),
}

/// What is in which folder under which name.
type Names = BTreeMap<(FolderId, OsString), Node>;

/// A change of names in one folder.
#[derive(Debug, Clone)]
enum NameChange {
    Add(OsString, Node),
    Move(OsString, OsString, Node),
    Drop(OsString),
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
    root: PathBuf,
    bytes: BTreeMap<FileId, Bytes>,
    durable: Names,
    live: Names,
    pending: BTreeMap<FolderId, Vec<NameChange>>,
    folders: FolderId,
    /// The folder of the newest change of a name, until it is synced.
    newest: Option<FolderId>,
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
    fn apply(self, folder: FolderId, names: &mut Names) {
        match self {
            NameChange::Add(name, node) => drop(names.insert((folder, name), node)),
            NameChange::Drop(name) => drop(names.remove(&(folder, name))),
            NameChange::Move(from, to, node) => {
                names.remove(&(folder, from));
                names.insert((folder, to), node);
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
        let is_synced_only = matches!(
            loss,
            Loss::Everything | Loss::Bytes | Loss::AllButTheNewestName
        );
        if is_synced_only || self.pending.is_empty() {
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
    /// With what was found in a folder. A killed process may have left the bytes of these files unsynced.
    pub(crate) fn holding(root: &Path, found: &[Found], unsynced: &[&str]) -> Platter {
        let mut platter = Platter {
            root: root.to_owned(),
            ..Platter::default()
        };
        // A folder comes before what is in it.
        for (path, file) in found {
            let node = match file {
                None => platter.new_folder(),
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
            let (folder, name) = platter.place(path);
            platter.durable.insert((folder, name.clone()), node);
            platter.live.insert((folder, name), node);
        }
        platter
    }

    pub(crate) fn apply(&mut self, made: &Made) {
        match made {
            Made::Create(path, id) => {
                self.bytes.insert(*id, Bytes::default());
                self.change_name(path, |name| NameChange::Add(name, Node::File(*id)));
            }
            Made::MakeFolder(path) => {
                let folder = self.new_folder();
                self.change_name(path, |name| NameChange::Add(name, folder));
            }
            Made::Remove(path) => self.change_name(path, NameChange::Drop),
            Made::Rename(from, to) => {
                assert_eq!(from.parent(), to.parent(), "nothing moves between folders");
                let node = self.live[&self.place(from)];
                let (_, from) = self.place(from);
                self.change_name(to, |to| NameChange::Move(from, to, node));
            }
            Made::Write(id, bytes) => self.change(*id, ByteChange::Write(bytes.clone())),
            Made::SetLength(id, length) => self.change(*id, ByteChange::SetLength(*length)),
            Made::Sync(id) => {
                let Bytes { durable, pending } = self.bytes.entry(*id).or_default();
                pending.drain(..).for_each(|change| change.apply(durable));
            }
            Made::SyncFolder(path) => {
                // The one above what is watched holds nothing that is looked at.
                let Some(folder) = self.folder(path) else {
                    return;
                };
                self.newest.take_if(|newest| *newest == folder);
                for change in self.pending.remove(&folder).unwrap_or_default() {
                    change.apply(folder, &mut self.durable);
                }
            }
            Made::Acknowledged(..) | Made::Committed(_) => {}
        }
    }

    fn new_folder(&mut self) -> Node {
        self.folders += 1;
        Node::Folder(self.folders)
    }

    /// The folder that has this path now; `None` outside of what is watched.
    fn folder(&self, path: &Path) -> Option<FolderId> {
        let inside = path.strip_prefix(&self.root).ok()?;
        inside.iter().try_fold(ROOT, |folder, name| {
            match self.live.get(&(folder, name.to_owned())) {
                Some(Node::Folder(folder)) => Some(*folder),
                _ => None,
            }
        })
    }

    fn place(&self, path: &Path) -> (FolderId, OsString) {
        let folder = self.folder(path.parent().unwrap());
        let name = path.file_name().unwrap().to_owned();
        (folder.unwrap_or_else(|| panic!("{}", path.display())), name)
    }

    fn change_name(&mut self, path: &Path, change: impl FnOnce(OsString) -> NameChange) {
        let (folder, name) = self.place(path);
        let change = change(name);
        change.clone().apply(folder, &mut self.live);
        self.pending.entry(folder).or_default().push(change);
        self.newest = Some(folder);
    }

    /// The losses to be tried at this moment: nothing is left of what was not synced, and one of the others.
    pub(crate) fn losses(&self, dice: &mut Dice) -> Vec<Loss> {
        let mut losses = vec![Loss::Everything, LOSSES[1 + dice.roll(LOSSES.len() - 1)]];
        losses.extend(self.newest.map(|_| Loss::AllButTheNewestName));
        losses
    }

    fn change(&mut self, id: FileId, change: ByteChange) {
        self.bytes.entry(id).or_default().pending.push(change);
    }

    /// Writes down what is left after a loss, as the folder `to`.
    pub(crate) fn lose(&self, loss: Loss, dice: &mut Dice, to: &Path) {
        let mut names = self.durable.clone();
        for (folder, changes) in &self.pending {
            for (at, change) in changes.iter().enumerate() {
                let is_newest = self.newest == Some(*folder) && at + 1 == changes.len();
                let survives = match loss {
                    Loss::AllButTheNewestName => is_newest,
                    Loss::Everything => false,
                    Loss::Anything => dice.roll(2) == 0,
                    Loss::Bytes | Loss::Tail | Loss::Nuls => true,
                };
                if survives {
                    change.clone().apply(*folder, &mut names);
                }
            }
        }
        // What is in a folder that is gone is gone with it.
        let mut folders = vec![(ROOT, to.to_owned())];
        while let Some((folder, path)) = folders.pop() {
            let inside = names.range((folder, OsString::new())..(folder + 1, OsString::new()));
            for ((_, name), node) in inside {
                let path = path.join(name);
                match node {
                    Node::Folder(id) => {
                        std::fs::create_dir(&path).unwrap();
                        folders.push((*id, path));
                    }
                    Node::File(id) => {
                        let bytes = self.bytes[id].survivors(loss, dice);
                        std::fs::write(&path, bytes).unwrap();
                    }
                }
            }
        }
    }
}

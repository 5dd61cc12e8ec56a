//! The one place where this crate changes the file system.
//!
//! A change is simply made, unless somebody watches: a test, that lets the n-th one fail or writes down what
//! a power loss would leave. Reading goes past it.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file system. Clones share whoever watches.
#[derive(Clone, Default)]
pub(crate) struct Disk(Option<Arc<dyn Watch>>);

/// Stands between this crate and the file system.
pub(crate) trait Watch: Send + Sync {
    /// Makes the change ([`Change::make`]), or a part of it, or refuses it.
    fn change(&self, change: &Change<'_>) -> io::Result<Option<File>>;
}

/// How a file is opened; all make it where it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// To read, and to write at the end.
    Append,
    /// To write from the start, emptied.
    Replace,
    /// To read and write, as it is.
    Keep,
}

/// One change of the file system.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change<'a> {
    Open { path: &'a Path, how: Opening },
    Write { file: &'a File, bytes: &'a [u8] },
    SetLength { file: &'a File, length: u64 },
    Sync { file: &'a File },
    SyncFolder { path: &'a Path },
    Rename { from: &'a Path, to: &'a Path },
    MakeFolder { path: &'a Path },
    Remove { path: &'a Path },
    RemoveFolder { path: &'a Path },
}

impl Change<'_> {
    /// Makes it; an opened file is handed out. What is made is for its owner alone to read.
    pub(crate) fn make(&self) -> io::Result<Option<File>> {
        match *self {
            Change::Open { path, how } => OpenOptions::new()
                .read(how != Opening::Replace)
                .append(how == Opening::Append)
                .write(how != Opening::Append)
                .truncate(how == Opening::Replace)
                .create(true)
                .mode(0o600)
                .open(path)
                .map(Some),
            Change::Write { mut file, bytes } => file.write_all(bytes).map(|()| None),
            Change::SetLength { file, length } => file.set_len(length).map(|()| None),
            Change::Sync { file } => file.sync_data().map(|()| None),
            Change::SyncFolder { path } => File::open(path)?.sync_all().map(|()| None),
            Change::Rename { from, to } => std::fs::rename(from, to).map(|()| None),
            Change::MakeFolder { path } => {
                DirBuilder::new().mode(0o700).create(path).map(|()| None)
            }
            Change::Remove { path } => std::fs::remove_file(path).map(|()| None),
            Change::RemoveFolder { path } => std::fs::remove_dir(path).map(|()| None),
        }
    }
}

impl Disk {
    #[cfg(test)]
    pub(crate) fn watched(watch: Arc<dyn Watch>) -> Disk {
        Disk(Some(watch))
    }

    fn change(&self, change: &Change<'_>) -> io::Result<Option<File>> {
        match &self.0 {
            None => change.make(),
            Some(watch) => watch.change(change),
        }
    }

    fn do_it(&self, change: &Change<'_>) -> io::Result<()> {
        self.change(change).map(drop)
    }

    pub(crate) fn open(&self, path: &Path, how: Opening) -> io::Result<DiskFile> {
        let file = self.change(&Change::Open { path, how })?;
        Ok(DiskFile {
            file: file.ok_or_else(|| io::Error::other("nothing was opened"))?,
            path: path.to_owned(),
            disk: self.clone(),
        })
    }

    /// Makes creations, renames and removals in a folder durable.
    pub(crate) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let here = path.as_os_str().is_empty();
        let path = if here { Path::new(".") } else { path };
        self.do_it(&Change::SyncFolder { path })
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.do_it(&Change::Rename { from, to })
    }

    /// Makes one folder, whose parent is there.
    pub(crate) fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.do_it(&Change::MakeFolder { path })
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.do_it(&Change::Remove { path })
    }

    pub(crate) fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.do_it(&Change::RemoveFolder { path })
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Disk").field(&self.0.is_some()).finish()
    }
}

/// An open file whose changes go through the [`Disk`].
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: File,
    path: PathBuf,
    disk: Disk,
}

impl DiskFile {
    pub(crate) fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.disk.do_it(&Change::Write {
            file: &self.file,
            bytes,
        })
    }

    pub(crate) fn set_length(&self, length: u64) -> io::Result<()> {
        self.disk.do_it(&Change::SetLength {
            file: &self.file,
            length,
        })
    }

    /// Makes what was written durable. Where it fails nobody knows what is on the disk, and a second call
    /// could succeed without having written anything: do not try it again.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.disk.do_it(&Change::Sync { file: &self.file })
    }

    /// To read from it, or to lock it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! A new file under a hidden name beside the one whose place it will take.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use crate::disk::{Disk, DiskFile, Opening};

use crate::error::Error;

/// A file that is written as a whole; nobody reads it before it is synced and has its name.
pub(crate) struct Beside {
    file: BufWriter<DiskFile>,
    path: PathBuf,
    bytes: u64,
}

impl Beside {
    /// Begins it anew. What a killed command left under the name is of no use, and if it is a link, what it
    /// leads to is nobody's business here.
    pub(crate) fn create(disk: &Disk, path: PathBuf) -> Result<Beside, Error> {
        let open = || -> io::Result<DiskFile> {
            if std::fs::symlink_metadata(&path).is_ok() {
                disk.remove(&path)?;
            }
            disk.open(&path, Opening::Replace)
        };
        let file = open().map_err(Error::io("could not make", &path))?;
        Ok(Beside {
            file: BufWriter::with_capacity(256 * 1024, file),
            path,
            bytes: 0,
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.bytes += bytes.len() as u64;
        self.file
            .write_all(bytes)
            .map_err(Error::io("could not write", &self.path))
    }

    /// Makes it durable, and tells how long it is.
    pub(crate) fn sync(self) -> Result<u64, Error> {
        let Beside { file, path, bytes } = self;
        let end = || -> io::Result<()> {
            file.into_inner()
                .map_err(io::IntoInnerError::into_error)?
                .sync()
        };
        end().map_err(Error::io("could not write", &path))?;
        Ok(bytes)
    }
}

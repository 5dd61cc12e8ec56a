//! One process for a run folder.

use std::fs::TryLockError;
use std::io::{Read, Seek};
use std::path::Path;

use crate::disk::{Disk, DiskFile, Opening};
use crate::error::{Error, ErrorKind};

/// An operating-system lock: a process that dies gives it back.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: DiskFile,
}

impl Lock {
    pub(crate) fn take(disk: &Disk, dir: &Path) -> Result<Lock, Error> {
        let path = dir.join("run.lock");
        let file = disk
            .open(&path, Opening::Keep)
            .map_err(Error::io("could not open", &path))?;
        match file.file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who it is matters less than that it is there.
                let holder = match file.file().read_to_string(&mut holder) {
                    Ok(_) if !holder.trim().is_empty() => holder.trim().to_owned(),
                    _ => "it has not said which".to_owned(),
                };
                return Err(ErrorKind::Locked {
                    dir: dir.to_owned(),
                    holder,
                }
                .into());
            }
            Err(TryLockError::Error(error)) => {
                return Err(Error::io("could not lock", &path)(error));
            }
        }
        let note = format!(
            "process {}, since {}\n",
            std::process::id(),
            crate::manifest::now()
        );
        file.set_length(0)
            .and_then(|()| file.file().rewind())
            .and_then(|()| file.append(note.as_bytes()))
            .map_err(Error::io("could not write", &path))?;
        Ok(Lock { _file: file })
    }
}

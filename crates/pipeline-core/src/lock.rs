//! One process for a run folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Error, ErrorKind};

/// An operating-system lock: a process that dies gives it back.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(dir: &Path) -> Result<Lock, Error> {
        let path = dir.join("run.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("could not open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who it is matters less than that it is there.
                let holder = match file.read_to_string(&mut holder) {
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
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(note.as_bytes()))
            .map_err(Error::io("could not write", &path))?;
        Ok(Lock { _file: file })
    }
}

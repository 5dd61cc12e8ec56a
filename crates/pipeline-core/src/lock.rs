//! One process for a run folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// How often, and how long after, a lock that is held is tried again.
const LOOKS: u32 = 3;
const LOOK: Duration = Duration::from_millis(5);

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
        // Who only looks whether it is held has it for a moment.
        let mut tried = file.try_lock();
        for _ in 0..LOOKS {
            if !matches!(tried, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(LOOK);
            tried = file.try_lock();
        }
        match tried {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ErrorKind::Locked {
                    dir: dir.to_owned(),
                    holder: who(&mut file),
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

/// Who works on the folder; `None` where nobody does. Nothing is written.
pub(crate) fn holder(dir: &Path) -> Result<Option<String>, Error> {
    let path = dir.join("run.lock");
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("could not open", &path)(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(who(&mut file))),
        Err(TryLockError::Error(error)) => Err(Error::io("could not look at", &path)(error)),
    }
}

/// Who it is matters less than that it is there.
fn who(file: &mut File) -> String {
    let mut holder = String::new();
    match file.read_to_string(&mut holder) {
        Ok(_) if !holder.trim().is_empty() => holder.trim().to_owned(),
        _ => "it has not said which".to_owned(),
    }
}

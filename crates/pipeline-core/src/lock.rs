//! One process for a run folder.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::disk::{Disk, DiskFile, Opening};
use crate::error::{Error, ErrorKind};

/// Looks at the note of another process, which may have the lock and be about to write, or at a place where one is
/// about to put its folder.
const LOOKS: u32 = 100;
/// Tries at a lock that is held.
const TRIES: u32 = 3;
/// Between two looks, or two tries.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// An operating-system lock: a process that dies gives it back.
#[derive(Debug)]
pub(crate) struct Lock {
    file: DiskFile,
}

impl Lock {
    pub(crate) fn take(disk: &Disk, dir: &Path) -> Result<Lock, Error> {
        let path = dir.join("run.lock");
        let mut gone = 0;
        loop {
            let file = match disk.open(&path, Opening::Keep) {
                Ok(file) => file,
                // Between moving an old folder aside and putting its own there another process leaves the place
                // free for a moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound && gone < LOOKS => {
                    gone += 1;
                    std::thread::sleep(LOOK_AGAIN);
                    continue;
                }
                Err(error) => return Err(Error::io("could not open", &path)(error)),
            };
            match try_lock(file.file()) {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(ErrorKind::Locked {
                        dir: dir.to_owned(),
                        holder: noted(file.file()),
                    }
                    .into());
                }
                Err(TryLockError::Error(error)) => {
                    return Err(Error::io("could not lock", &path)(error));
                }
            }
            // Since it was opened the folder may have been moved aside or taken back: then this is the lock of
            // another folder, or of none.
            if is_at(file.file(), &path) {
                let lock = Lock { file };
                lock.note().map_err(Error::io("could not write", &path))?;
                return Ok(lock);
            }
        }
    }

    /// Says whose it is.
    fn note(&self) -> std::io::Result<()> {
        let note = format!(
            "process {}, since {}\n",
            std::process::id(),
            crate::manifest::now()
        );
        self.file.set_length(0)?;
        self.file.file().rewind()?;
        self.file.append(note.as_bytes())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever comes next must not be taken for this process until it has said who it is. Nothing rests on
        // it, so it is no change that a run depends on.
        if let Err(error) = self.file.file().set_len(0) {
            tracing::debug!(%error, "the note in run.lock stays");
        }
    }
}

/// Who only looks whether the lock is held has it for a moment.
fn try_lock(file: &File) -> Result<(), TryLockError> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK_AGAIN),
            other => return other,
        }
    }
    file.try_lock()
}

/// Who works on the folder; `None` where nobody does. Nothing is written.
pub(crate) fn holder(dir: &Path) -> Result<Option<String>, Error> {
    let path = dir.join("run.lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("could not open", &path)(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(noted(&file))),
        Err(TryLockError::Error(error)) => Err(Error::io("could not look at", &path)(error)),
    }
}

/// Who says that it holds the lock.
fn noted(mut file: &File) -> String {
    for _ in 0..LOOKS {
        let mut note = String::new();
        let read = file.rewind().and_then(|()| file.read_to_string(&mut note));
        // Who it is matters less than that it is there.
        if read.is_ok() && note.ends_with('\n') {
            return note.trim().to_owned();
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    "it has not said which".to_owned()
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(there)) => (held.dev(), held.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_being_replaced_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("run");
        std::fs::create_dir(dir.path().join("new")).unwrap();
        std::thread::scope(|scope| {
            let taking = scope.spawn(|| Lock::take(&Disk::default(), &place).is_ok());
            std::thread::sleep(LOOK_AGAIN);
            std::fs::rename(dir.path().join("new"), &place).unwrap();
            assert!(taking.join().unwrap());
        });
        let nowhere = dir.path().join("nowhere");
        assert!(Lock::take(&Disk::default(), &nowhere).is_err());
    }

    #[test]
    fn a_lock_is_of_the_folder_that_is_there_now() {
        let place = tempfile::tempdir().unwrap();
        let (dir, aside) = (place.path().join("demo"), place.path().join("aside"));
        std::fs::create_dir(&dir).unwrap();
        let old = Lock::take(&Disk::default(), &dir).unwrap();
        std::fs::rename(&dir, &aside).unwrap();
        std::fs::create_dir(&dir).unwrap();
        let new = Lock::take(&Disk::default(), &dir).unwrap();
        assert!(!is_at(old.file.file(), &dir.join("run.lock")));
        assert!(is_at(new.file.file(), &dir.join("run.lock")));
        assert!(is_at(old.file.file(), &aside.join("run.lock")));
    }

    #[test]
    fn a_process_that_ends_leaves_no_note_of_itself() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(&Disk::default(), dir.path()).unwrap();
        let note = || std::fs::read_to_string(dir.path().join("run.lock")).unwrap();
        assert!(note().contains(&std::process::id().to_string()));
        drop(lock);
        assert_eq!(note(), "");
    }
}

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::ledger::{Ledger, Micros};

/// Tries at the lock, and the time between two: a second in all.
const TRIES: u32 = 1_000;
const PAUSE: Duration = Duration::from_millis(1);

/// Limits that several processes on one machine keep together: what each of them has sent stands in one small
/// file, and an operating-system lock lets one of them at a time look and write.
///
/// A process that dies leaves nothing behind but what it has sent, and that is forgotten when it is old enough.
#[derive(Debug, Clone)]
pub struct LimitFile(Arc<Files>);

#[derive(Debug)]
struct Files {
    path: PathBuf,
    lock: File,
}

impl LimitFile {
    /// Opens the file, or makes it, its folder included; both are private to the user. Everybody who names
    /// the same file shares its limits, so make the name of endpoint and account: [`name`](LimitFile::name).
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<LimitFile> {
        let path = path.into();
        if let Some(folder) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.with_extension("lock"))?;
        Ok(LimitFile(Arc::new(Files { path, lock })))
    }

    /// A name for an endpoint and what identifies the account there; nothing can be read out of it.
    pub fn name(endpoint: &str, account: &str) -> String {
        let endpoint = crate::openai::as_everybody_writes_it(endpoint);
        let mut hasher = blake3::Hasher::new_derive_key("data-generation 2026 shared limits");
        hasher.update(&(endpoint.len() as u64).to_le_bytes());
        hasher
            .update(endpoint.as_bytes())
            .update(account.as_bytes());
        hasher.finalize().to_hex()[..24].to_owned()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Looks and changes, alone among all processes. `ledger` gets what all have sent, and what it holds afterwards
    /// is what all others see. Where the file cannot be read or written it is used as it is, and remembers that
    /// it is ahead of the file.
    pub(crate) fn with<T>(
        &self,
        ledger: &mut Ledger,
        now: Micros,
        act: impl FnOnce(&mut Ledger) -> T,
    ) -> (T, io::Result<()>) {
        let read = self.lock().and_then(|()| self.read(ledger, now));
        let value = act(ledger);
        let done = read.and_then(|()| self.write(ledger));
        ledger.is_unsaved = done.is_err();
        // Closing would do it too, but the file stays open.
        let unlocked = self.0.lock.unlock();
        (value, done.and(unlocked))
    }

    /// Whoever has it needs it for some microseconds; one that was stopped in that moment must not stop all.
    fn lock(&self) -> io::Result<()> {
        for _ in 0..TRIES {
            match self.0.lock.try_lock() {
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(error)) => return Err(error),
                Ok(()) => return Ok(()),
            }
        }
        Err(io::Error::other("another process holds its lock"))
    }

    fn read(&self, ledger: &mut Ledger, now: Micros) -> io::Result<()> {
        match std::fs::read(&self.0.path) {
            // A file that is no ledger is one of another version: it is written anew.
            Ok(text) => {
                if let Ok(shared) = serde_json::from_slice::<Ledger>(&text) {
                    ledger.take_over(shared, now);
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// By renaming: whoever is killed in the middle leaves the old one.
    fn write(&self, ledger: &Ledger) -> io::Result<()> {
        let beside = self.0.path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(&serde_json::to_vec(ledger)?)?;
        std::fs::rename(&beside, &self.0.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_endpoint_and_account_apart_and_shows_neither() {
        let name = LimitFile::name("https://api.openai.com", "sk-secret");
        assert_eq!(name.len(), 24);
        assert_ne!(name, LimitFile::name("https://api.openai.com", "sk-other"));
        assert_ne!(name, LimitFile::name("https://api.openai.comsk", "-secret"));
    }

    #[test]
    fn an_endpoint_has_one_name_however_it_is_written() {
        let name = |endpoint| LimitFile::name(endpoint, "sk-secret");
        let usual = name("https://api.openai.com/v1");
        for other in [
            "https://api.openai.com/v1/",
            "HTTPS://API.OpenAI.com/v1",
            " https://api.openai.com:443/v1//",
        ] {
            assert_eq!(name(other), usual, "{other}");
        }
        for other in [
            "https://api.openai.com/V1",
            "http://api.openai.com/v1",
            "https://api.openai.com:8443/v1",
            "https://api.openai.com/v1?of=2",
        ] {
            assert_ne!(name(other), usual, "{other}");
        }
        assert_eq!(name("HTTP://LOCALHOST:80"), name("http://localhost/"));
        assert_ne!(name("Own Model"), name("own model"));
    }

    #[test]
    fn a_file_that_is_no_ledger_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = LimitFile::open(dir.path().join("limits/x.json")).unwrap();
        std::fs::write(file.path(), "\0\0{").unwrap();
        let mut ledger = Ledger::default();
        let (_, done) = file.with(&mut ledger, 0, |_| {});
        done.unwrap();
        serde_json::from_slice::<Ledger>(&std::fs::read(file.path()).unwrap()).unwrap();
    }
}

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Tries at the lock before anybody sleeps, and those with a pause after them: some 20 ms in all. Whoever holds it
/// needs it for some microseconds, unless the machine has other things to do.
const QUICK_TRIES: u32 = 20;
const TRIES: u32 = 120;
const PAUSE: Duration = Duration::from_micros(200);
/// Where the second of two copies stands. What limits need is far less: a few hundred numbers each.
const COPY: u64 = 1 << 20;
/// The line before each copy.
const HEAD: usize = 64;

/// Limits that several processes on one machine keep together: what each of them has sent stands in one small
/// file, and an operating-system lock lets one of them at a time look and write.
///
/// A process that dies leaves nothing behind but what it has sent, and that is forgotten when it is old enough.
#[derive(Debug, Clone)]
pub struct LimitFile(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Among the threads of this process the lock of the system is none.
    file: Mutex<File>,
}

/// The file, for nobody else to read or write until this is dropped.
pub(crate) struct Locked<'a> {
    file: MutexGuard<'a, File>,
    copies: Vec<(u64, Head)>,
    /// The file is another one than before: somebody took the old one away.
    pub(crate) is_another: bool,
}

/// Which state of the file somebody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Each writer counts on.
    number: u64,
    sum: u64,
}

/// What stands before a copy.
#[derive(Debug, Clone, Copy)]
struct Head {
    stamp: Stamp,
    length: usize,
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
        let file = Mutex::new(open(&path)?);
        Ok(LimitFile(Arc::new(Shared { path, file })))
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

    /// Keeps everybody else out. One that was stopped while it had the lock must not stop all, so nobody waits long for
    /// it, and whoever is not patient does not wait at all.
    pub(crate) fn lock(&self, is_patient: bool) -> io::Result<Locked<'_>> {
        let file = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        lock(&file, is_patient)?;
        // From here on it is given back whatever happens.
        let mut locked = Locked {
            file,
            copies: Vec::new(),
            is_another: false,
        };
        locked.is_another = !self.is_there(&locked.file)?;
        if locked.is_another {
            *locked.file = open(&self.0.path)?;
            lock(&locked.file, is_patient)?;
        }
        locked.copies = copies(&locked.file)?;
        Ok(locked)
    }

    /// Whether this is still the file that others find.
    fn is_there(&self, file: &File) -> io::Result<bool> {
        let known = file.metadata()?;
        match std::fs::metadata(&self.0.path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (known.dev(), known.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn lock(file: &File, is_patient: bool) -> io::Result<()> {
    let tries = if is_patient { TRIES } else { 1 };
    for n in 0..tries {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if n < QUICK_TRIES => thread::yield_now(),
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::WouldBlock,
        "another process holds its lock",
    ))
}

impl Locked<'_> {
    /// What somebody wrote after the state that is known, and which state that is; `None` where there is nothing new,
    /// and no text at all where the file holds none that is whole.
    pub(crate) fn read(&self, known: Stamp) -> io::Result<Option<(Stamp, Vec<u8>)>> {
        let mut copies: Vec<(u64, Head)> = self.copies.to_vec();
        copies.sort_by_key(|(_, head)| std::cmp::Reverse(head.stamp.number));
        if copies.first().is_some_and(|(_, head)| head.stamp == known) {
            return Ok(None);
        }
        // Whoever was killed while he wrote leaves the copy before.
        for (at, head) in copies {
            let mut text = vec![0; head.length];
            match self.file.read_exact_at(&mut text, at + HEAD as u64) {
                Ok(()) if sum(&text) == head.stamp.sum => return Ok(Some((head.stamp, text))),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some((Stamp::default(), Vec::new())))
    }

    /// Beside the state that is known, which stays until this one is whole.
    pub(crate) fn write(&self, known: Stamp, text: &[u8]) -> io::Result<Stamp> {
        let numbers = self.copies.iter().map(|(_, head)| head.stamp.number);
        let stamp = Stamp {
            number: numbers.max().unwrap_or(0).wrapping_add(1),
            sum: sum(text),
        };
        let mut places = self.copies.iter();
        let place = match places.find(|(_, head)| head.stamp == known) {
            Some((at, _)) => COPY - at,
            None => 0,
        };
        let length = text.len();
        if length > COPY as usize - HEAD {
            return Err(io::Error::other("there is too much to write"));
        }
        let mut copy = Head { stamp, length }.to_line();
        copy.extend_from_slice(text);
        self.file.write_all_at(&copy, place)?;
        Ok(stamp)
    }
}

/// Where there are copies.
fn copies(file: &File) -> io::Result<Vec<(u64, Head)>> {
    let mut copies = Vec::with_capacity(2);
    for at in [0, COPY] {
        let mut line = [0; HEAD];
        let read = file.read_at(&mut line, at)?;
        copies.extend(Head::of_line(&line[..read]).map(|head| (at, head)));
    }
    Ok(copies)
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Closing would do it too, but the file stays open. Where it fails the others go on without us.
        drop(self.file.unlock());
    }
}

impl Head {
    fn to_line(self) -> Vec<u8> {
        let Head {
            stamp: Stamp { number, sum },
            length,
        } = self;
        let mut line = format!("limits 2 {number:016x} {sum:016x} {length:08x}").into_bytes();
        line.resize(HEAD - 1, b' ');
        line.push(b'\n');
        line
    }

    fn of_line(line: &[u8]) -> Option<Head> {
        let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
        let mut words = line.strip_prefix("limits 2 ")?.split_ascii_whitespace();
        let mut number = || u64::from_str_radix(words.next()?, 16).ok();
        let (number, sum, length) = (number()?, number()?, number()?);
        let length = usize::try_from(length).ok()?;
        let fits = length <= COPY as usize - HEAD;
        fits.then_some(Head {
            stamp: Stamp { number, sum },
            length,
        })
    }
}

fn sum(text: &[u8]) -> u64 {
    let hash = blake3::hash(text);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first)
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
        // Of a model of one's own the name need not be an address.
        assert_ne!(
            LimitFile::name("own", "model"),
            LimitFile::name("ownm", "odel")
        );
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

    /// What is read by somebody who knows nothing.
    fn read(file: &LimitFile) -> String {
        let (_, text) = file
            .lock(true)
            .unwrap()
            .read(Stamp::default())
            .unwrap()
            .unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn what_is_written_is_read_by_others_and_is_no_news_to_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("limits/x");
        let (one, other) = (
            LimitFile::open(&path).unwrap(),
            LimitFile::open(&path).unwrap(),
        );
        let mut known = Stamp::default();
        assert_eq!(read(&one), "");
        for text in ["first", "second, which is longer", "third", ""] {
            let locked = one.lock(true).unwrap();
            known = locked.write(known, text.as_bytes()).unwrap();
            drop(locked);
            assert_eq!(read(&other), text);
            assert!(
                one.lock(true).unwrap().read(known).unwrap().is_none(),
                "{text}"
            );
        }
    }

    #[test]
    fn while_one_has_it_nobody_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let (one, other) = (
            LimitFile::open(&path).unwrap(),
            LimitFile::open(&path).unwrap(),
        );
        let locked = one.lock(true).unwrap();
        for is_patient in [true, false] {
            let error = other.lock(is_patient).map(drop).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
        drop(locked);
        other.lock(false).unwrap();
    }

    #[test]
    fn whoever_is_killed_while_he_writes_leaves_what_was_there_before() {
        let dir = tempfile::tempdir().unwrap();
        let file = LimitFile::open(dir.path().join("x")).unwrap();
        let mut known = Stamp::default();
        let mut texts = vec![String::new()];
        for n in 0..3 {
            let text = format!("{n}").repeat(5_000 + n * 1_000);
            known = file
                .lock(true)
                .unwrap()
                .write(known, text.as_bytes())
                .unwrap();
            texts.push(text);
        }
        let before = std::fs::read(file.path()).unwrap();
        // The one that is written next, torn at each page and in its first line.
        file.lock(true)
            .unwrap()
            .write(known, &[b'n'; 9_000])
            .unwrap();
        let after = std::fs::read(file.path()).unwrap();
        let place = COPY as usize;
        for end in [0, 1, 30, HEAD, HEAD + 1, 4_096, 8_192] {
            let mut torn = before.clone();
            torn.resize(after.len(), 0);
            torn[place..place + end].copy_from_slice(&after[place..place + end]);
            std::fs::write(file.path(), &torn).unwrap();
            assert_eq!(read(&file), texts[3], "torn after {end}");
            // Whoever comes next writes in its place, and not over the only whole copy.
            let locked = file.lock(true).unwrap();
            let found = locked
                .read(known)
                .unwrap()
                .map_or(known, |(found, _)| found);
            assert_eq!(found, known);
            locked.write(found, b"whole").unwrap();
            drop(locked);
            let whole = std::fs::read(file.path()).unwrap();
            assert_eq!(whole[..place], before[..place], "torn after {end}");
            assert_eq!(read(&file), "whole");
        }
    }

    #[test]
    fn a_file_that_is_something_else_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "limits 2 {not these}".repeat(10)).unwrap();
        let file = LimitFile::open(&path).unwrap();
        assert_eq!(read(&file), "");
        file.lock(true)
            .unwrap()
            .write(Stamp::default(), b"limits")
            .unwrap();
        assert_eq!(read(&file), "limits");
    }

    #[test]
    fn a_file_that_was_taken_away_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let one = LimitFile::open(&path).unwrap();
        one.lock(true)
            .unwrap()
            .write(Stamp::default(), b"old")
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        let other = LimitFile::open(&path).unwrap();
        other
            .lock(true)
            .unwrap()
            .write(Stamp::default(), b"new")
            .unwrap();
        let locked = one.lock(true).unwrap();
        assert!(locked.is_another);
        drop(locked);
        assert!(!one.lock(true).unwrap().is_another);
        assert_eq!(read(&one), "new");
    }

    #[test]
    fn whoever_has_taken_a_new_file_keeps_others_out_of_that_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let one = LimitFile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let other = LimitFile::open(&path).unwrap();
        let locked = other.lock(true).unwrap();
        let error = one.lock(false).map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(locked);
        let locked = one.lock(false).unwrap();
        let error = other.lock(false).map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(locked);
    }

    #[test]
    fn whoever_cannot_use_the_file_keeps_nobody_else_out() {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("x"), dir.path().join("aside"));
        let (one, other) = (
            LimitFile::open(&path).unwrap(),
            LimitFile::open(&path).unwrap(),
        );
        std::fs::rename(&path, &aside).unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = one.lock(true).map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(&aside, &path).unwrap();
        other.lock(false).unwrap();
    }

    #[test]
    fn a_patient_one_gets_a_lock_that_is_held_for_a_moment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let (one, other) = (
            LimitFile::open(&path).unwrap(),
            LimitFile::open(&path).unwrap(),
        );
        // On a busy machine a moment may be long: most of these are enough.
        let got = (0..20).filter(|_| {
            let (held, is_held) = std::sync::mpsc::channel();
            thread::scope(|scope| {
                scope.spawn(|| {
                    let locked = one.lock(true).unwrap();
                    held.send(()).unwrap();
                    thread::sleep(PAUSE * 10);
                    drop(locked);
                });
                is_held.recv().unwrap();
                other.lock(true).is_ok()
            })
        });
        assert!(got.count() > 10);
    }

    #[test]
    fn nobody_else_on_the_machine_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("limits/x");
        let file = LimitFile::open(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        // The same for one that is made anew.
        std::fs::remove_file(&path).unwrap();
        drop(file.lock(true).unwrap());
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn what_is_too_long_for_its_place_is_refused_and_harms_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = LimitFile::open(dir.path().join("x")).unwrap();
        let mut known = Stamp::default();
        for text in ["first", "second"] {
            known = file
                .lock(true)
                .unwrap()
                .write(known, text.as_bytes())
                .unwrap();
        }
        let too_long = vec![b'x'; COPY as usize];
        file.lock(true)
            .unwrap()
            .write(known, &too_long)
            .unwrap_err();
        assert_eq!(read(&file), "second");
    }

    #[test]
    fn a_head_that_says_more_than_there_is_room_for_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let file = LimitFile::open(&path).unwrap();
        file.lock(true)
            .unwrap()
            .write(Stamp::default(), b"whole")
            .unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.resize(COPY as usize, 0);
        for length in [1, COPY as usize, u32::MAX as usize] {
            let stamp = Stamp { number: 9, sum: 9 };
            let mut harmed = bytes.clone();
            harmed.extend(Head { stamp, length }.to_line());
            std::fs::write(&path, harmed).unwrap();
            assert_eq!(read(&file), "whole", "{length}");
            let is_one = file.lock(true).unwrap().copies.len() == 2;
            assert_eq!(is_one, length == 1, "{length}");
        }
    }
}

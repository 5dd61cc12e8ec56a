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

/// That a process is there, for others to see.
#[derive(Debug)]
pub(crate) struct Standing {
    path: PathBuf,
    _file: File,
}

impl Drop for Standing {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

/// Which state of the file somebody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Each writer counts on.
    number: u64,
    sum: u64,
}

impl Stamp {
    /// Whether it is that state, or one that somebody may have written who knew that state.
    pub(crate) fn may_follow(self, known: Stamp) -> bool {
        self == known || self.number > known.number
    }
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
        let file = Mutex::new(open(&path)?);
        Ok(LimitFile(Arc::new(Shared { path, file })))
    }

    /// A name for an endpoint and what identifies the account there, on this machine since it was started; nothing can
    /// be read out of it.
    pub fn name(endpoint: &str, account: &str) -> String {
        name_by(&clock(), endpoint, account)
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

    /// Shows that the process with this number is there, until what is returned is dropped: by a lock that the system
    /// takes from whoever ends, in whatever way.
    pub(crate) fn stand(&self, id: u64) -> io::Result<Standing> {
        let path = self.of_process(id);
        let file = open(&path)?;
        file.try_lock().map_err(io::Error::other)?;
        Ok(Standing { path, _file: file })
    }

    /// Whether the process with this number is there; `None` where it shows nothing. What one has left that ended
    /// without a word is cleared away.
    pub(crate) fn is_standing(&self, id: u64) -> Option<bool> {
        let path = self.of_process(id);
        let file = File::open(&path).ok()?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Some(true),
            Err(TryLockError::Error(_)) => None,
            Ok(()) => {
                drop(std::fs::remove_file(path));
                Some(false)
            }
        }
    }

    fn of_process(&self, id: u64) -> PathBuf {
        self.0.path.with_extension(format!("{id:016x}"))
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

fn name_by(clock: &str, endpoint: &str, account: &str) -> String {
    let endpoint = crate::openai::as_everybody_writes_it(endpoint);
    let mut hasher = blake3::Hasher::new_derive_key("data-generation 2026 shared limits");
    for part in [clock, &endpoint, account] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..24].to_owned()
}

/// The clock that the books are kept by: it begins anew with each start of a machine, and each machine has its own,
/// also where several have one home. Containers on one machine share it, unless they have one of their own. Where the
/// system does not tell, all clocks are taken for one.
fn clock() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let space = std::fs::read_link("/proc/self/ns/time");
    let space = space.unwrap_or_default();
    format!("{} {}", boot.unwrap_or_default().trim(), space.display())
}

/// Somebody may have taken the folder away as well.
fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
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

    /// Whether nobody has ever written anything.
    pub(crate) fn is_blank(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() == 0)
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
mod tests;

//! Room for connections: each takes a file descriptor.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::progress::Screen;

/// What the program itself keeps open: the run's files, the log, the terminal, the runtime.
const OWN_FILES: u64 = 64;

/// Raises the soft limit of open files to the hard one; so many requests may then be under way at once.
pub(crate) fn places(wanted: usize, offline: bool, screen: &Screen) -> usize {
    if offline {
        return wanted;
    }
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
    }
    let Some(files) = getrlimit(Resource::Nofile).current else {
        return wanted;
    };
    let room = usize::try_from(files.saturating_sub(OWN_FILES))
        .unwrap_or(usize::MAX)
        .max(1);
    if wanted > room {
        screen.note(&format!(
            "this system allows {files} open files, so {room} requests at a time instead of {wanted}; `ulimit -n` raises it"
        ));
    }
    wanted.min(room)
}

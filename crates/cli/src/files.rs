//! Room for connections: each takes a file descriptor.

use rustix::process::{Resource, getrlimit, setrlimit};

/// What the program itself keeps open: the run's files, the log, the terminal, the runtime.
const OWN_FILES: u64 = 64;

/// How much the system allows.
pub(crate) struct Room {
    /// Open files, where they are limited.
    pub(crate) files: Option<u64>,
    /// Requests at the same time.
    pub(crate) requests: usize,
}

impl Room {
    /// What to say where more are wanted.
    pub(crate) fn too_little_for(&self, wanted: usize) -> Option<String> {
        let (most, files) = (self.requests, self.files?);
        (wanted > most).then(|| {
            format!(
                "this system allows {files} open files, so {most} requests at a time instead of {wanted}; `ulimit -n` raises it"
            )
        })
    }
}

/// Raises the soft limit of open files to the hard one; so many requests may then be under way at once.
pub(crate) fn room(offline: bool) -> Room {
    let unlimited = Room {
        files: None,
        requests: usize::MAX,
    };
    if offline {
        return unlimited;
    }
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
    }
    let Some(files) = getrlimit(Resource::Nofile).current else {
        return unlimited;
    };
    let requests = usize::try_from(files.saturating_sub(OWN_FILES)).unwrap_or(usize::MAX);
    Room {
        files: Some(files),
        requests: requests.max(1),
    }
}

//! Ctrl-C, SIGTERM, and a terminal that is closed.

use std::io;
use std::time::Duration;

use data_generation::StopHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::output::counted;
use crate::progress::Screen;

/// Where a file may not grow any further, the writer is told and says so: the process must live for that. It does
/// from now on, for a handler stays when nobody listens any more.
pub(crate) fn outlive_large_files() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let _entered = runtime.enter();
    signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)
}

/// Listens from now on, and stops the run when somebody asks for it; the future never ends by itself.
///
/// The first SIGINT waits for the answers under way, a second one leaves at once. SIGTERM waits at most
/// `drain`, because schedulers kill; so does SIGHUP, for whoever closes the terminal has paid as well.
pub(crate) fn watch(
    stop: StopHandle,
    drain: Duration,
    screen: &Screen,
) -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = hangup()?;
    let last_words = move |why: &str| {
        screen.note(&match screen.in_flight() {
            0 => why.to_owned(),
            some => format!(
                "{why}: waiting at most {} s for {} under way",
                drain.as_secs(),
                counted(some, "answer", "answers")
            ),
        });
        drain
    };
    Ok(async move {
        // A run may have stopped by itself and wait for answers; that is no signal yet.
        let mut told = false;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {
                    if told {
                        stop.interrupt_within(Duration::ZERO);
                    } else {
                        told = true;
                        stop.interrupt();
                        screen.note(&match screen.in_flight() {
                            0 => "interrupted".to_owned(),
                            some => format!(
                                "interrupted: waiting for {} under way; Ctrl-C again leaves at once",
                                counted(some, "answer", "answers")
                            ),
                        });
                    }
                }
                _ = terminate.recv() => {
                    told = true;
                    stop.interrupt_within(last_words("told to end"));
                }
                _ = async { hangup.as_mut().expect("guarded").recv().await }, if hangup.is_some() => {
                    told = true;
                    stop.interrupt_within(last_words("the terminal was closed"));
                }
            }
        }
    })
}

/// Under `nohup` a closed terminal is no matter of ours, and to listen would make it one. Where the system does
/// not tell whether it is ignored, nobody listens, and it is what it was before.
fn hangup() -> io::Result<Option<Signal>> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The lowest bit is signal 1, SIGHUP.
    match ignored {
        Some(mask) if mask & 1 == 0 => signal(SignalKind::hangup()).map(Some),
        _ => Ok(None),
    }
}

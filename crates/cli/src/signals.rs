//! Ctrl-C and SIGTERM.

use std::time::Duration;

use data_generation::StopHandle;
use tokio::signal::unix::{SignalKind, signal};

use crate::progress::Screen;

/// Stops the run when somebody asks for it; never returns by itself.
///
/// The first SIGINT waits for the answers under way, a second one leaves at once. SIGTERM waits at most
/// `drain`, because schedulers kill.
pub(crate) async fn watch(
    stop: StopHandle,
    drain: Duration,
    screen: &Screen,
) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            _ = interrupt.recv() => {
                if stop.is_stopping() {
                    stop.interrupt_within(Duration::ZERO);
                } else {
                    stop.interrupt();
                    screen.note(&format!(
                        "interrupted: waiting for {} answers under way; Ctrl-C again leaves at once",
                        screen.in_flight()
                    ));
                }
            }
            _ = terminate.recv() => {
                screen.note(&format!(
                    "told to end: waiting at most {} s for {} answers under way",
                    drain.as_secs(),
                    screen.in_flight()
                ));
                stop.interrupt_within(drain);
            }
        }
    }
}

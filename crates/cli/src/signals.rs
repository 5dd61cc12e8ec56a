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
                        1 => "interrupted: waiting for 1 answer under way; Ctrl-C again leaves at once".to_owned(),
                        more => format!(
                            "interrupted: waiting for {more} answers under way; Ctrl-C again leaves at once"
                        ),
                    });
                }
            }
            _ = terminate.recv() => {
                told = true;
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

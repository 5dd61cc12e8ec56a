//! Exit codes, and what leads to which.

use std::process::ExitCode;

use data_generation::{Error, Report, StopKind, pipeline};

/// Unexpected: a defect of ours.
pub(crate) const DEFECT: u8 = 1;
/// Something that the user must change before a request leaves.
pub(crate) const USAGE: u8 = 2;
/// Finished, some rows are not in the dataset: they failed, or no retry makes them.
pub(crate) const ROWS_FAILED: u8 = 3;
/// The provider refused in a way that no retry cures.
pub(crate) const REFUSED: u8 = 4;
/// The operating system refused a read or write.
pub(crate) const IO: u8 = 74;
/// Try again later.
pub(crate) const LATER: u8 = 75;
/// Interrupted.
pub(crate) const INTERRUPTED: u8 = 130;

/// The code of a run that had begun.
pub(crate) fn of_report(report: &Report) -> ExitCode {
    let code = match report.stopped.as_ref().map(|reason| reason.kind) {
        Some(StopKind::Interrupted) => INTERRUPTED,
        Some(StopKind::Io) => IO,
        Some(StopKind::Refused) => REFUSED,
        Some(StopKind::Later) => LATER,
        Some(StopKind::Input) => USAGE,
        Some(_) => DEFECT,
        None if report.is_complete() => 0,
        None => ROWS_FAILED,
    };
    ExitCode::from(code)
}

/// The code of what had not begun.
pub(crate) fn of_error(error: &Error) -> ExitCode {
    let interrupted = matches!(error, Error::Run(error) if matches!(error.kind(), pipeline::ErrorKind::Interrupted));
    ExitCode::from(match error {
        _ if interrupted => INTERRUPTED,
        error if error.is_io() => IO,
        _ => USAGE,
    })
}

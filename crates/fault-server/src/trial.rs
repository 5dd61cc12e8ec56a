//! What tests need that try many entries of the table.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::fault::{Fault, Play};

/// How long a client waits for an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the next byte.
    pub idle: Duration,
    /// For the whole answer.
    pub total: Duration,
}

impl Patience {
    /// Long but for the one wait that the entry needs to come to its end.
    pub fn for_fault(fault: &Fault, short: Duration, long: Duration) -> Patience {
        let mut patience = Patience {
            connect: long,
            idle: long,
            total: long,
        };
        match fault.play {
            Play::SilentTls => patience.connect = short,
            Play::Silent | Play::Stall(_) => patience.idle = short,
            Play::Drip { .. } => patience.total = short,
            _ => {}
        }
        patience
    }
}

/// Tries all cases, so many at once, none longer than that; fails with what is wrong with each of them, so that
/// none hides another.
///
/// # Panics
/// Where a case is wrong, panics or does not end, or where there is none.
pub async fn all<F>(cases: impl IntoIterator<Item = (String, F)>, at_once: usize, longest: Duration)
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let mut running = JoinSet::new();
    let mut wrong = Vec::new();
    let mut tried = 0;
    let mut ended = |outcome: Option<String>| {
        tried += 1;
        wrong.extend(outcome);
    };
    for (name, case) in cases {
        if running.len() >= at_once
            && let Some(outcome) = running.join_next().await
        {
            ended(outcome.expect("a case is not cancelled"));
        }
        running.spawn(async move {
            // In a task of its own, so that a panic is told with the name of its case.
            match tokio::spawn(timeout(longest, case)).await {
                Ok(Ok(Ok(()))) => None,
                Ok(Ok(Err(wrong))) => Some(format!("{name}: {wrong}")),
                Ok(Err(_)) => Some(format!("{name}: it never ends")),
                Err(panic) => Some(format!("{name}: {panic}")),
            }
        });
    }
    while let Some(outcome) = running.join_next().await {
        ended(outcome.expect("a case is not cancelled"));
    }
    wrong.sort();
    assert!(
        wrong.is_empty(),
        "{} of {tried} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(tried > 0, "nothing was tried");
}

/// What ought to be so.
///
/// # Errors
/// With what it ought to be and what it is, where it is not.
pub fn expect(what: &str, right: bool, got: impl Debug) -> Result<(), String> {
    match right {
        true => Ok(()),
        false => Err(format!("{what}, got {got:?}")),
    }
}

/// Two things that ought to be equal.
///
/// # Errors
/// With both, where they are not.
pub fn same<T: PartialEq + Debug>(what: &str, expected: T, got: T) -> Result<(), String> {
    match expected == got {
        true => Ok(()),
        false => Err(format!("{what}: expected {expected:?}, got {got:?}")),
    }
}

/// Runs one test of this program (`module::name`) in a process of its own, with other variables around it.
///
/// # Panics
/// Where it fails there, or there is no such test.
pub async fn alone(test: &str, variables: Vec<(&'static str, String)>) {
    let test = test.to_owned();
    let run = tokio::task::spawn_blocking(move || {
        let program = std::env::current_exe().expect("a test knows its program");
        let mut command = std::process::Command::new(program);
        command
            .args([&*test, "--exact", "--nocapture"])
            .envs(variables)
            .output()
            .expect("a program can be started")
    });
    let output = run.await.expect("waiting for a program does not panic");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{errors}"
    );
}

/// Says in [`trusting`] that the certificate is trusted in this process.
const TRUSTED: &str = "FAULT_SERVER_IS_TRUSTED";

/// The variables of a process that trusts the [`CERTIFICATE`](crate::CERTIFICATE) that stands in a file. The
/// system's own list is read once, so another process is needed: [`alone`].
pub fn trusting(file: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("SSL_CERT_FILE", file.to_string_lossy().into_owned()),
        ("NO_PROXY", "*".to_owned()),
        (TRUSTED, "1".to_owned()),
    ]
}

/// Whether this is a process that trusts the certificate.
pub fn is_trusted() -> bool {
    std::env::var_os(TRUSTED).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_wrong_with_one_case_hides_no_other() {
        let case = |n: u32| async move {
            match n {
                2 => std::future::pending().await,
                3 => panic!("three"),
                n => same("number", 1, n),
            }
        };
        let cases = (0..5).map(move |n| (format!("case {n}"), case(n)));
        let all = tokio::spawn(all(cases, 2, Duration::from_millis(20)));
        let panic = all.await.unwrap_err().into_panic();
        let text = panic.downcast_ref::<String>().unwrap();
        for (case, what) in [
            (0, "expected 1, got 0"),
            (2, "it never ends"),
            (3, "three"),
            (4, "expected 1, got 4"),
        ] {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("case {case}:")));
            assert!(line.unwrap().contains(what), "{text}");
        }
        assert!(text.starts_with("4 of 5 are wrong:"), "{text}");
    }
}

//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures what datagen costs beside bare loops. It compares; it never fails on time.
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Few rows and one run of each: shows that everything works, the figures mean little.
    #[arg(long)]
    pub(crate) quick: bool,
    /// With what takes long and much disk: ten million rows.
    #[arg(long)]
    pub(crate) long: bool,
    /// Only this scene; may be repeated. `--list` names them.
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// How often each scene runs, instead of as often as it thinks right.
    #[arg(long, value_name = "N")]
    pub(crate) runs: Option<usize>,
    /// Names the scenes and ends.
    #[arg(long)]
    pub(crate) list: bool,
    /// The program to measure; without it the `datagen` beside this program.
    #[arg(long, value_name = "FILE")]
    pub(crate) datagen: Option<PathBuf>,
    /// Where the runs go, on a real disk; without it a folder beside this program.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// The server, until standard input ends.
    #[command(hide = true)]
    Serve(Serve),
    /// A bare loop.
    #[command(hide = true)]
    Loop(Loop),
    /// Starts a program and writes down what it took.
    #[command(hide = true)]
    Measure(Measure),
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// From the last byte of a request to the first of its answer.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
}

impl Serve {
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_millis(self.latency_ms)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Loop {
    pub(crate) by: Library,
    #[arg(long)]
    pub(crate) url: String,
    #[arg(long)]
    pub(crate) rows: PathBuf,
    #[arg(long)]
    pub(crate) out: PathBuf,
    #[arg(long)]
    pub(crate) in_flight: usize,
}

/// What a bare loop asks with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Library {
    Reqwest,
    AsyncOpenai,
}

#[derive(Debug, Args)]
pub(crate) struct Measure {
    /// Where to write what it took.
    #[arg(long)]
    pub(crate) account: PathBuf,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

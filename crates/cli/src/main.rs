//! `datagen`: datasets from prompts and rows with large language models, from the command line.

use std::process::ExitCode;

use clap::Parser;

use crate::failure::Failure;

mod args;
mod check;
mod control;
mod ctl;
mod exit;
mod extract;
mod failure;
mod files;
mod fit;
mod go_on;
mod init;
mod log;
mod output;
mod pace;
mod pipeline;
mod preview;
mod progress;
mod retry;
mod run;
mod signals;
mod status;

fn main() -> ExitCode {
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        // clap prints help and its own errors; it exits with 2 for a mistake, which is our code as well.
        Err(error) => error.exit(),
    };
    let result = signals::outlive_large_files()
        .map_err(|error| Failure::io("could not listen for signals", &error))
        .and_then(|()| carry_out(&arguments.command));
    match result {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            failure.code
        }
    }
}

fn carry_out(command: &args::Command) -> Result<ExitCode, Failure> {
    match command {
        args::Command::Init(init) => init::run(init),
        args::Command::Check(check) => check::run(check),
        args::Command::Preview(preview) => preview::run(preview),
        args::Command::Run(run) => run::run(run),
        args::Command::Ctl(ctl) => ctl::run(ctl),
        args::Command::Retry(retry) => retry::run(retry),
        args::Command::Extract(extract) => extract::run(extract),
        args::Command::Status(status) => status::run(status),
    }
}

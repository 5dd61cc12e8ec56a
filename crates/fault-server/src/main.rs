//! The fault server, by hand: point a run at it and see what happens.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod output;
mod rehearsal;

fn main() -> ExitCode {
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        // clap prints help and its own errors, with 2 for a mistake.
        Err(error) => error.exit(),
    };
    match rehearsal::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::line(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

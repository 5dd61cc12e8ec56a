//! What `datagen` costs: its shipped build beside bare loops, against a fast server, on one machine.
//!
//! One program in four roles. Started by hand it measures; it starts itself again as the server, as a bare
//! loop, and as the small process that starts what is measured and asks the operating system about it.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod bare;
mod bench;
mod config;
mod contender;
mod figures;
mod measure;
mod output;
mod reply;
mod rows;
mod scenes;
mod server;
mod stats;
mod table;

fn main() -> ExitCode {
    let arguments = args::Arguments::parse();
    let done = match &arguments.role {
        None => scenes::run(&arguments.options),
        Some(args::Role::Serve(serve)) => server::serve(serve.latency()),
        Some(args::Role::Loop(bare)) => bare::run(bare),
        Some(args::Role::Measure(measure)) => measure::run(measure),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

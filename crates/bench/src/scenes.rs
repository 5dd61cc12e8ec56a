//! What is measured: one scene for each thing that has a target.

use crate::args::Options;
use crate::bench::{Bench, Failed};
use crate::output;
use crate::table::Table;

mod check;
mod latency;
mod many;
mod resume;
mod small;
mod throughput;
mod wide;

/// One scene.
struct Scene {
    name: &'static str,
    about: &'static str,
    /// Only with `--long`, or when it is named.
    long: bool,
    play: fn(&Bench<'_>, &mut Table) -> Result<(), Failed>,
}

const SCENES: [Scene; 8] = [
    Scene {
        name: "small",
        about: "3 rows: time to the first request, and what a run takes besides its answers",
        long: false,
        play: small::play,
    },
    Scene {
        name: "check",
        about: "the check of all rows before the first request, 568 and 2,000 bytes a row",
        long: false,
        play: check::play,
    },
    Scene {
        name: "latency",
        about: "50 ms latency, 256 in flight, 20,000 rows, beside the bare loops",
        long: false,
        play: latency::play,
    },
    Scene {
        name: "throughput",
        about: "no latency, 256 in flight, 20,000 rows, beside the bare loops in pairs",
        long: false,
        play: throughput::play,
    },
    Scene {
        name: "memory",
        about: "peak memory at 200,000 rows",
        long: false,
        play: throughput::memory,
    },
    Scene {
        name: "wide",
        about: "2 s latency, 4,096 in flight, 40,960 rows",
        long: false,
        play: wide::play,
    },
    Scene {
        name: "resume",
        about: "one million finished rows and one to do",
        long: false,
        play: resume::play,
    },
    Scene {
        name: "many",
        about: "ten million rows of 60 bytes, offline, and one more",
        long: true,
        play: many::play,
    },
];

/// Plays the scenes that are wanted and prints the table.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    if options.list {
        for scene in &SCENES {
            let long = if scene.long { " (with --long)" } else { "" };
            output::line(&format!("{:10}  {}{long}", scene.name, scene.about));
        }
        return Ok(());
    }
    if let Some(name) = options
        .only
        .iter()
        .find(|name| SCENES.iter().all(|scene| scene.name != **name))
    {
        return Err(format!("there is no scene `{name}`; --list names them"));
    }
    let bench = Bench::new(options).map_err(|error| error.to_string())?;
    output::note(&format!("measuring {}", bench.datagen.display()));
    let mut table = Table::default();
    let wanted = |scene: &&Scene| match options.only.is_empty() {
        true => options.long || !scene.long,
        false => options.only.iter().any(|name| name == scene.name),
    };
    let mut failed = Vec::new();
    for scene in SCENES.iter().filter(wanted) {
        output::note(&format!("{}: {}", scene.name, scene.about));
        if let Err(error) = (scene.play)(&bench, &mut table) {
            // The others are worth measuring all the same.
            output::note(&format!("{}: FAILED: {error}", scene.name));
            failed.push(scene.name);
        }
    }
    table.print();
    if options.quick {
        output::line(
            "\nquick: everything was tried, with few rows and once; the figures mean little",
        );
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("not measured: {}", failed.join(", "))),
    }
}

//! Very many requests under way, each of which takes long.

use std::time::Duration;

use crate::bench::{Bench, Failed};
use crate::contender::{Contender, Run};
use crate::figures::median;
use crate::rows::Kind;
use crate::table::{Table, Target};

const IN_FLIGHT: usize = 4096;
/// Each place is used so often.
const ROUNDS: u64 = 10;

pub(crate) fn play(bench: &Bench<'_>, table: &mut Table) -> Result<(), Failed> {
    let latency = Duration::from_millis(if bench.options.quick { 200 } else { 2000 });
    let count = ROUNDS * IN_FLIGHT as u64;
    let rows = bench.rows(Kind::Texts, count)?;
    let server = bench.serve(latency)?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..bench.runs(3) {
        ours.push(Contender::Datagen.run(bench, &server, (&rows, count), IN_FLIGHT)?);
        bare.push(Contender::AsyncOpenai.run(bench, &server, (&rows, count), IN_FLIGHT)?);
    }
    let ideal = latency.as_secs_f64() * ROUNDS as f64;
    let share = |run: &Run| ideal / run.working().as_secs_f64() * 100.0;
    let of = |runs: &[Run], figure: &dyn Fn(&Run) -> f64| median(runs.iter().map(figure));
    table.add(
        "2 s, 4,096 in flight: share of the ideal",
        of(&ours, &share),
        "%",
        &format!("async-openai {:.1} %", of(&bare, &share)),
        Target::AtLeast(93.0),
    );
    table.add(
        "2 s, 4,096 in flight: peak memory",
        of(&ours, &Run::peak_mib),
        "MiB",
        &format!("async-openai {:.1} MiB", of(&bare, &Run::peak_mib)),
        Target::AtMost(160.0),
    );
    table.add(
        "2 s, 4,096 in flight: connections for 40,960 rows",
        ours.iter()
            .map(|run| run.server.connections as f64)
            .fold(0.0, f64::max),
        "",
        &format!(
            "async-openai {}; at most {} in flight",
            bare.iter()
                .map(|run| run.server.connections)
                .max()
                .unwrap_or(0),
            ours.iter()
                .map(|run| run.server.most_in_flight)
                .max()
                .unwrap_or(0)
        ),
        Target::AtMost(IN_FLIGHT as f64),
    );
    Ok(())
}

//! An endpoint that takes 50 ms: what is lost of what it could give, and what that costs.

use std::time::Duration;

use crate::bench::{Bench, Failed};
use crate::contender::{Contender, Run};
use crate::figures::{median, range};
use crate::rows::Kind;
use crate::table::{Table, Target, thousands};

const LATENCY: Duration = Duration::from_millis(50);
const IN_FLIGHT: usize = 256;

pub(crate) fn play(bench: &Bench<'_>, table: &mut Table) -> Result<(), Failed> {
    let count = bench.scaled(20_000);
    let rows = bench.rows(Kind::Texts, count)?;
    let server = bench.serve(LATENCY)?;
    let (mut ours, mut openai, mut reqwest) = (Vec::new(), Vec::new(), Vec::new());
    let runs = bench.runs(5);
    for _ in 0..runs {
        ours.push(Contender::Datagen.run(bench, &server, (&rows, count), IN_FLIGHT)?);
        openai.push(Contender::AsyncOpenai.run(bench, &server, (&rows, count), IN_FLIGHT)?);
        reqwest.push(Contender::Reqwest.run(bench, &server, (&rows, count), IN_FLIGHT)?);
    }
    let of = |runs: &[Run], figure: fn(&Run) -> f64| median(runs.iter().map(figure));
    let ideal = IN_FLIGHT as f64 / LATENCY.as_secs_f64();
    let rate = of(&ours, Run::rows_a_second);
    let (low, high) = range(ours.iter().map(Run::rows_a_second));
    let best = of(&openai, Run::rows_a_second).max(of(&reqwest, Run::rows_a_second));
    table.add(
        "50 ms, 256 in flight: share of the ideal",
        rate / ideal * 100.0,
        "%",
        &format!(
            "{} rows/s, {low:.0} to {high:.0} in {runs} runs; whole wall {} rows/s",
            thousands(rate as i64),
            thousands(of(&ours, Run::rows_a_second_of_wall) as i64)
        ),
        Target::AtLeast(90.0),
    );
    table.add(
        "50 ms: rows/s, of the better bare loop",
        rate / best,
        "",
        &format!(
            "async-openai {:.0}, reqwest {:.0} rows/s",
            of(&openai, Run::rows_a_second),
            of(&reqwest, Run::rows_a_second)
        ),
        Target::AtLeast(0.97),
    );
    let pairs = ours.iter().zip(&openai);
    table.add(
        "50 ms: CPU, of bare async-openai",
        median(pairs.map(|(ours, bare)| ours.cpu_a_thousand() / bare.cpu_a_thousand())),
        "times",
        &format!(
            "CPU s per 1,000 rows: datagen {:.4}, async-openai {:.4}, reqwest {:.4}",
            of(&ours, Run::cpu_a_thousand),
            of(&openai, Run::cpu_a_thousand),
            of(&reqwest, Run::cpu_a_thousand)
        ),
        Target::AtMost(1.5),
    );
    table.add(
        &format!("50 ms: peak memory, {} rows", thousands(count as i64)),
        of(&ours, Run::peak_mib),
        "MiB",
        &format!(
            "async-openai {:.1}, reqwest {:.1} MiB",
            of(&openai, Run::peak_mib),
            of(&reqwest, Run::peak_mib)
        ),
        Target::AtMost(25.0),
    );
    Ok(())
}

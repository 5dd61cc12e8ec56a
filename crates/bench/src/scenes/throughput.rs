//! An endpoint that takes no time: what the program itself can do, and what it holds meanwhile.

use std::time::Duration;

use crate::bench::{Bench, Failed};
use crate::contender::{Contender, Run};
use crate::figures::{median, range};
use crate::rows::Kind;
use crate::table::{Table, Target, thousands};

const IN_FLIGHT: usize = 256;

pub(crate) fn play(bench: &Bench<'_>, table: &mut Table) -> Result<(), Failed> {
    let count = bench.scaled(20_000);
    let rows = bench.rows(Kind::Texts, count)?;
    let server = bench.serve(Duration::ZERO)?;
    let run = |contender: Contender| contender.run(bench, &server, (&rows, count), IN_FLIGHT);
    let runs = bench.runs(7);
    let (mut ours, mut openai, mut reqwest) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..runs {
        // Who goes first changes: the machine is not the same all the time.
        if n % 2 == 0 {
            ours.push(run(Contender::Datagen)?);
            openai.push(run(Contender::AsyncOpenai)?);
        } else {
            openai.push(run(Contender::AsyncOpenai)?);
            ours.push(run(Contender::Datagen)?);
        }
        reqwest.push(run(Contender::Reqwest)?);
    }
    let wall = |run: &Run| run.account.wall().as_secs_f64();
    let ratios = |bare: &[Run]| -> Vec<f64> {
        let pairs = ours.iter().zip(bare);
        pairs.map(|(ours, bare)| wall(bare) / wall(ours)).collect()
    };
    let (to_openai, to_reqwest) = (ratios(&openai), ratios(&reqwest));
    let (low, high) = range(to_openai.iter().copied());
    let of = |runs: &[Run], figure: fn(&Run) -> f64| median(runs.iter().map(figure));
    table.add(
        "no latency: rows/s of whole wall, of bare async-openai",
        median(to_openai),
        "",
        &format!(
            "{low:.2} to {high:.2} in {runs} pairs; {} rows/s beside {} and, with reqwest, {}",
            thousands(of(&ours, Run::rows_a_second_of_wall) as i64),
            thousands(of(&openai, Run::rows_a_second_of_wall) as i64),
            thousands(of(&reqwest, Run::rows_a_second_of_wall) as i64)
        ),
        Target::AtLeast(0.75),
    );
    table.add(
        "no latency: rows/s of whole wall, of bare reqwest",
        median(to_reqwest),
        "",
        "",
        Target::None,
    );
    table.add(
        "no latency: CPU s per 1,000 rows",
        of(&ours, Run::cpu_a_thousand),
        "s",
        &format!(
            "async-openai {:.4}, reqwest {:.4}; peak {:.1} MiB",
            of(&openai, Run::cpu_a_thousand),
            of(&reqwest, Run::cpu_a_thousand),
            of(&ours, Run::peak_mib)
        ),
        Target::None,
    );
    Ok(())
}

/// Ten times as many rows: memory must not follow them.
pub(crate) fn memory(bench: &Bench<'_>, table: &mut Table) -> Result<(), Failed> {
    let count = bench.scaled(200_000);
    bench.need_disk(count * 4_000)?;
    let rows = bench.rows(Kind::Texts, count)?;
    for (latency, what) in [(0, "no latency"), (50, "50 ms")] {
        let server = bench.serve(Duration::from_millis(latency))?;
        let mut peaks = Vec::new();
        for _ in 0..bench.runs(if latency == 0 { 3 } else { 1 }) {
            peaks.push(
                Contender::Datagen
                    .run(bench, &server, (&rows, count), IN_FLIGHT)?
                    .peak_mib(),
            );
        }
        let bare = Contender::AsyncOpenai.run(bench, &server, (&rows, count), IN_FLIGHT)?;
        table.add(
            &format!("{what}: peak memory, {} rows", thousands(count as i64)),
            median(peaks.iter().copied()),
            "MiB",
            &format!(
                "{} runs; async-openai {:.1} MiB",
                peaks.len(),
                bare.peak_mib()
            ),
            Target::AtMost(28.0),
        );
    }
    Ok(())
}

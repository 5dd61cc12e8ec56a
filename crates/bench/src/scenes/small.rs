//! A run of three rows: how long until the first request, and what it takes besides its answers.

use std::time::Duration;

use crate::bench::{Bench, Failed};
use crate::contender::Contender;
use crate::figures::median;
use crate::rows::Kind;
use crate::table::{Table, Target};

const LATENCY: Duration = Duration::from_millis(50);

pub(crate) fn play(bench: &Bench<'_>, table: &mut Table) -> Result<(), Failed> {
    let rows = bench.rows(Kind::Texts, 3)?;
    let server = bench.serve(LATENCY)?;
    let runs = bench.runs(15);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        ours.push(Contender::Datagen.run(bench, &server, (&rows, 3), 3)?);
        bare.push(Contender::AsyncOpenai.run(bench, &server, (&rows, 3), 3)?);
    }
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    table.add(
        "3 rows: start to first request",
        median(ours.iter().map(|run| ms(run.until_first_request()))),
        "ms",
        &format!(
            "bare async-openai {:.1} ms; {runs} runs",
            median(bare.iter().map(|run| ms(run.until_first_request())))
        ),
        Target::AtMost(10.0),
    );
    table.add(
        "3 rows: on top of the answers",
        median(ours.iter().map(|run| ms(run.on_top_of_answers()))),
        "ms",
        &format!(
            "bare async-openai {:.1} ms",
            median(bare.iter().map(|run| ms(run.on_top_of_answers())))
        ),
        Target::AtMost(15.0),
    );
    Ok(())
}

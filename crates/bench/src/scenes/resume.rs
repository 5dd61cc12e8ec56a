//! A run that is nearly done: one million rows are finished, one is new.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use crate::bench::{Bench, Failed};
use crate::contender::Contender;
use crate::figures::median;
use crate::output;
use crate::rows::{self, Kind};
use crate::table::{Table, Target, thousands};

/// Journal, dataset and input of a row.
const BYTES_A_ROW: u64 = 4_500;

pub(crate) fn play(bench: &Bench<'_>, table: &mut Table) -> Result<(), Failed> {
    let count = bench.scaled(1_000_000);
    bench.need_disk(count * BYTES_A_ROW)?;
    let place = bench.place()?;
    let input = place.path().join("rows.jsonl");
    std::fs::rename(bench.rows(Kind::Texts, count)?, &input)?;
    let server = bench.serve(Duration::ZERO)?;
    output::note(&format!("  first the {count} rows"));
    Contender::Datagen.run_in(bench, place.path(), &server, (&input, count), 256)?;
    let (mut seconds, mut peaks) = (Vec::new(), Vec::new());
    for n in 0..bench.runs(3) as u64 {
        let mut file = OpenOptions::new().append(true).open(&input)?;
        rows::write(&mut file, Kind::Texts, count + n..count + n + 1)?;
        file.flush()?;
        drop(file);
        let run = Contender::Datagen.run_in(
            bench,
            place.path(),
            &server,
            (&input, count + n + 1),
            256,
        )?;
        if run.server.requests != 1 {
            return Err(format!("{} requests for one new row", run.server.requests).into());
        }
        seconds.push(run.until_first_request().as_secs_f64());
        peaks.push(run.peak_mib());
    }
    let count = thousands(count as i64);
    let runs = seconds.len();
    table.add(
        &format!("{count} finished rows: start to the next request"),
        median(seconds),
        "s",
        &format!("{runs} runs, files in the page cache"),
        Target::AtMost(3.0),
    );
    table.add(
        &format!("{count} finished rows: peak memory"),
        median(peaks),
        "MiB",
        "",
        Target::AtMost(64.0),
    );
    Ok(())
}

//! The check of all rows before the first request.

use crate::bench::{Bench, Failed};
use crate::config::{self, Prompts};
use crate::figures::median;
use crate::output;
use crate::rows::Kind;
use crate::table::{Table, Target};

pub(crate) fn play(bench: &Bench<'_>, table: &mut Table) -> Result<(), Failed> {
    for (kind, rows) in [(Kind::Problems, 400_000), (Kind::LongProblems, 150_000)] {
        let rows = bench.scaled(rows);
        let path = bench.rows(kind, rows)?;
        let place = bench.place()?;
        config::write(place.path(), Prompts::Problems, config::OFFLINE)?;
        let (datagen, data) = (bench.datagen.to_string_lossy(), path.to_string_lossy());
        let program = [
            &*datagen,
            "check",
            "--config",
            "config.yaml",
            "--data",
            &data,
        ];
        let mut seconds = Vec::new();
        let mut peak = 0.0_f64;
        // Once for the page cache.
        bench.measure(place.path(), &program)?;
        for _ in 0..bench.runs(5) {
            let account = bench.measure(place.path(), &program)?;
            output::note(&format!("  {} rows in {:?}", rows, account.wall()));
            seconds.push(account.wall().as_secs_f64());
            peak = peak.max(account.peak_kib as f64 / 1024.0);
        }
        let seconds = median(seconds);
        let (rate, megabytes) = (
            rows as f64 / seconds,
            (rows * kind.bytes()) as f64 / 1e6 / seconds,
        );
        let bytes = kind.bytes();
        let (what, more) = (
            format!("check of {bytes}-byte rows"),
            format!("{rows} rows, whole process, at most {peak:.1} MiB"),
        );
        if kind == Kind::Problems {
            table.add(
                &what,
                rate,
                "rows/s",
                &format!("{megabytes:.0} MB/s; {more}"),
                Target::AtLeast(400_000.0),
            );
        } else {
            table.add(
                &what,
                megabytes,
                "MB/s",
                &format!("{rate:.0} rows/s; {more}"),
                Target::AtLeast(300.0),
            );
        }
    }
    Ok(())
}

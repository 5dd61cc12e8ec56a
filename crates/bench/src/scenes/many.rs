//! Ten million rows: memory follows them by a few bytes each, and the last are as quick as the first.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Failed};
use crate::config::{self, Prompts};
use crate::contender::lines;
use crate::output;
use crate::rows::{self, Kind};
use crate::table::{Table, Target, thousands};

/// Journal, dataset and input of a row.
const BYTES_A_ROW: u64 = 1_300;
/// How often the length of the dataset is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(crate) fn play(bench: &Bench<'_>, table: &mut Table) -> Result<(), Failed> {
    let count = bench.scaled(10_000_000);
    bench.need_disk(count * BYTES_A_ROW)?;
    let place = bench.place()?;
    let input = place.path().join("rows.jsonl");
    std::fs::rename(bench.rows(Kind::Short, count)?, &input)?;
    config::write(place.path(), Prompts::Short, config::OFFLINE)?;
    let (datagen, result) = (
        bench.datagen.to_string_lossy(),
        place.path().join("output/bench/result.jsonl"),
    );
    let program = [
        &*datagen,
        "run",
        "--config",
        "config.yaml",
        "--data",
        "rows.jsonl",
        "--concurrency",
        "256",
    ];

    let mut running = bench.measuring(place.path(), &program)?;
    let mut growth = Growth::default();
    while !running.has_ended()? {
        std::thread::sleep(LOOK_EVERY);
        growth.look(&result);
    }
    let fresh = running.end()?;
    let written = lines(&result)?;
    if written != count {
        return Err(format!("{written} lines for {count} rows").into());
    }
    output::note(&format!(
        "  fresh: {:?}, {} MiB",
        fresh.wall(),
        fresh.peak_kib / 1024
    ));

    let mut file = OpenOptions::new().append(true).open(&input)?;
    rows::write(&mut file, Kind::Short, count..count + 1)?;
    file.flush()?;
    drop(file);
    let resumed = bench.measure(place.path(), &program)?;
    if lines(&result)? != count + 1 {
        return Err("the one new row was not made".into());
    }
    output::note(&format!(
        "  one more: {:?}, {} MiB",
        resumed.wall(),
        resumed.peak_kib / 1024
    ));

    let shown = thousands(count as i64);
    let mib = |kib: u64| kib as f64 / 1024.0;
    table.add(
        &format!("{shown} rows offline: peak memory, fresh"),
        mib(fresh.peak_kib),
        "MiB",
        &format!("{:.0} s in all", fresh.wall().as_secs_f64()),
        Target::AtMost(120.0),
    );
    table.add(
        &format!("{shown} rows offline: peak memory, resumed"),
        mib(resumed.peak_kib),
        "MiB",
        &format!("one row more, {:.1} s in all", resumed.wall().as_secs_f64()),
        Target::AtMost(250.0),
    );
    let (first, last) = growth.first_and_last_tenth(count);
    table.add(
        &format!("{shown} rows offline: last tenth, of the first"),
        last / first,
        "",
        &format!(
            "{} rows/s, then {}",
            thousands(first as i64),
            thousands(last as i64)
        ),
        Target::AtLeast(0.95),
    );
    Ok(())
}

/// How a file grew.
#[derive(Default)]
struct Growth {
    looks: Vec<(Instant, u64)>,
}

impl Growth {
    fn look(&mut self, path: &Path) {
        let length = std::fs::metadata(path).map_or(0, |facts| facts.len());
        self.looks.push((Instant::now(), length));
    }

    /// Rows a second of the first tenth of the file and of the last; lines are about equally long.
    fn first_and_last_tenth(&self, rows: u64) -> (f64, f64) {
        let whole = self.looks.last().map_or(0, |look| look.1);
        let rate = |from: u64, to: u64| {
            // The last look that is not beyond the beginning, and the first that is at the end.
            let first = self.looks.iter().rfind(|look| look.1 <= from);
            let last = self.looks.iter().find(|look| look.1 >= to);
            match (first, last) {
                (Some(first), Some(last)) if last.0 > first.0 => {
                    let share = (last.1 - first.1) as f64 / whole as f64;
                    rows as f64 * share / (last.0 - first.0).as_secs_f64()
                }
                _ => f64::NAN,
            }
        };
        (rate(0, whole / 10), rate(whole / 10 * 9, whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_grows_half_as_fast_at_its_end_is_seen() {
        let start = Instant::now();
        let mut growth = Growth::default();
        for tick in 0..=30_u64 {
            let length = if tick <= 10 {
                tick * 100
            } else {
                1000 + (tick - 10) * 50
            };
            let at = start + Duration::from_millis(tick * 100);
            growth.looks.push((at, length));
        }
        let (first, last) = growth.first_and_last_tenth(2_000);
        assert!((first - 1000.0).abs() < 1.0, "{first}");
        assert!((last - 500.0).abs() < 1.0, "{last}");
    }
}

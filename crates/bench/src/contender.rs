//! Who is measured: our program, and bare loops.

use std::path::Path;
use std::time::Duration;

use crate::bench::{Bench, Failed, Server};
use crate::config::{self, Prompts};
use crate::measure::Account;
use crate::output;
use crate::stats::{Stats, ns};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    Datagen,
    AsyncOpenai,
    Reqwest,
}

impl Contender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Contender::Datagen => "datagen",
            Contender::AsyncOpenai => "bare async-openai",
            Contender::Reqwest => "bare reqwest",
        }
    }
}

/// What one run took, by the operating system's account and the server's.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) rows: u64,
    pub(crate) account: Account,
    pub(crate) server: Stats,
    /// When the last line was written, in nanoseconds since the epoch.
    last_line_ns: u64,
}

impl Run {
    /// From the first request at the server to the last line on the disk.
    pub(crate) fn working(&self) -> Duration {
        let from = self.server.first_request_ns;
        Duration::from_nanos(self.last_line_ns.saturating_sub(from))
    }

    pub(crate) fn rows_a_second(&self) -> f64 {
        self.rows as f64 / self.working().as_secs_f64()
    }

    /// The same over all of the process's life.
    pub(crate) fn rows_a_second_of_wall(&self) -> f64 {
        self.rows as f64 / self.account.wall().as_secs_f64()
    }

    pub(crate) fn cpu_a_thousand(&self) -> f64 {
        self.account.cpu().as_secs_f64() * 1000.0 / self.rows as f64
    }

    pub(crate) fn peak_mib(&self) -> f64 {
        self.account.peak_kib as f64 / 1024.0
    }

    /// From the start of the process to its first request at the server.
    pub(crate) fn until_first_request(&self) -> Duration {
        let at = self.server.first_request_ns;
        Duration::from_nanos(at.saturating_sub(self.account.started_ns))
    }

    /// What the process took besides waiting for answers: from the first request to the last answer.
    pub(crate) fn on_top_of_answers(&self) -> Duration {
        let answers = self.server.last_answer_ns - self.server.first_request_ns;
        self.account
            .wall()
            .saturating_sub(Duration::from_nanos(answers))
    }
}

impl Contender {
    /// One run over fresh rows in a fresh folder, which is gone afterwards.
    pub(crate) fn run(
        self,
        bench: &Bench<'_>,
        server: &Server,
        rows: (&Path, u64),
        in_flight: usize,
    ) -> Result<Run, Failed> {
        let place = bench.place()?;
        self.run_in(bench, place.path(), server, rows, in_flight)
    }

    /// One run in a folder that stays.
    pub(crate) fn run_in(
        self,
        bench: &Bench<'_>,
        place: &Path,
        server: &Server,
        (rows, count): (&Path, u64),
        in_flight: usize,
    ) -> Result<Run, Failed> {
        let (rows, in_flight) = (rows.to_string_lossy(), in_flight.to_string());
        let datagen = bench.datagen.to_string_lossy();
        let result = match self {
            Contender::Datagen => {
                config::write(place, Prompts::Texts, &config::endpoint(&server.url))?;
                place.join("output/bench/result.jsonl")
            }
            Contender::AsyncOpenai | Contender::Reqwest => place.join("result.jsonl"),
        };
        let library = match self {
            Contender::Reqwest => "reqwest",
            _ => "async-openai",
        };
        let program: Vec<&str> = match self {
            Contender::Datagen => vec![
                &datagen,
                "run",
                "--config",
                "config.yaml",
                "--data",
                &rows,
                "--concurrency",
                &in_flight,
            ],
            _ => vec![
                "self",
                "loop",
                library,
                "--url",
                &server.url,
                "--rows",
                &rows,
                "--out",
                "result.jsonl",
                "--in-flight",
                &in_flight,
            ],
        };
        server.reset()?;
        let account = bench.measure(place, &program)?;
        let stats = server.stats()?;
        let written = lines(&result)?;
        if written != count {
            return Err(format!("{} wrote {written} lines for {count} rows", self.name()).into());
        }
        let run = Run {
            rows: stats.requests,
            account,
            server: stats,
            last_line_ns: ns(std::fs::metadata(&result)?.modified()?),
        };
        output::note(&format!(
            "  {:17} {:8.0} rows/s, {:8.0} of wall {:6.2} s, {:.4} CPU s per 1,000, {:5.1} MiB; {} connections, \
             server {:.4} CPU s per 1,000, {} us late",
            self.name(),
            run.rows_a_second(),
            run.rows_a_second_of_wall(),
            run.account.wall().as_secs_f64(),
            run.cpu_a_thousand(),
            run.peak_mib(),
            run.server.connections,
            run.server.cpu_us as f64 / 1e3 / run.rows.max(1) as f64,
            run.server.lateness().as_micros(),
        ));
        Ok(run)
    }
}

/// How many lines a file has.
pub(crate) fn lines(path: &Path) -> Result<u64, Failed> {
    use std::io::Read;
    let mut file = std::fs::File::open(path)
        .map_err(|error| format!("could not open {}: {error}", path.display()))?;
    let mut block = vec![0; 256 * 1024];
    let mut lines = 0;
    loop {
        match file.read(&mut block)? {
            0 => return Ok(lines),
            read => lines += memchr::memchr_iter(b'\n', &block[..read]).count() as u64,
        }
    }
}

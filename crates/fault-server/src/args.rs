//! The command line.

use std::time::Duration;

use clap::Parser;
use data_generation_fault_server::{FAULTS, Fault, Times, Who};

/// Plays an endpoint that misbehaves, to see what a run makes of it.
#[derive(Debug, Parser)]
#[command(
    name = "data-generation-fault-server",
    version,
    about,
    max_term_width = 100,
    after_help = "\
Examples:
  --list
      every fault with what it does
  --fault insufficient-quota --rows every --times always
      an account that is empty from the beginning
  --fault retry-after-seconds --rows every --times once --latency-ms 200
      every row is put off once
  --rpm 60
      good answers, sixty a minute at most
  --concurrency 8 --busy-status 503 --latency-ms 1000
      a server with eight slots that turns away whoever finds none free
  --down 10-40
      good answers, but nobody listens from the tenth to the fortieth second

In another terminal, with the printed address:
  datagen run --set model.provider=openai --set model.base_url=http://127.0.0.1:8000/v1 ...

A row is known by the last whole number in its user message. Ctrl-C ends it and prints what it saw."
)]
pub(crate) struct Arguments {
    /// The fault to play, by its name in --list; may be repeated. Without it all answers are good.
    #[arg(long, value_name = "NAME", value_parser = fault)]
    pub(crate) fault: Vec<&'static Fault>,
    /// Who meets it: the `first` row to ask, one in the `middle` (the twentieth), `every` row, or the row
    /// with this number in its user message.
    #[arg(long, value_name = "first|middle|every|N", default_value = "every", value_parser = rows)]
    pub(crate) rows: Rows,
    /// How often such a row meets it before it gets good answers: `once`, `always`, or so many times.
    #[arg(long, value_name = "once|always|N", default_value = "once", value_parser = times)]
    pub(crate) times: Often,
    /// Milliseconds before each answer.
    #[arg(long, value_name = "MS", default_value_t = 50)]
    pub(crate) latency_ms: u64,
    /// How far latencies spread around that (log-normal); 0: not at all, 0.5: calm, 1: lively.
    #[arg(long, value_name = "SIGMA", default_value_t = 0.0)]
    pub(crate) spread: f64,
    /// Requests a minute; whoever exceeds it gets 429 with Retry-After.
    #[arg(long, value_name = "N")]
    pub(crate) rpm: Option<u64>,
    /// Tokens a minute; whoever exceeds it gets 429 with Retry-After.
    #[arg(long, value_name = "N")]
    pub(crate) tpm: Option<u64>,
    /// Requests at the same time; whoever exceeds it gets 429.
    #[arg(long, value_name = "N")]
    pub(crate) concurrency: Option<usize>,
    /// What whoever exceeds --concurrency gets instead of 429: this status, at once and without a word.
    #[arg(long, value_name = "STATUS", requires = "concurrency", value_parser = clap::value_parser!(u16).range(400..600))]
    pub(crate) busy_status: Option<u16>,
    /// Seconds after the start between which nobody listens; may be repeated.
    #[arg(long, value_name = "FROM-TO", value_parser = stretch)]
    pub(crate) down: Vec<Stretch>,
    /// The port on 127.0.0.1; 0 for any that is free.
    #[arg(long, default_value_t = 8000)]
    pub(crate) port: u16,
    /// What the luck of the latencies is made of.
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
    /// Prints all faults and ends.
    #[arg(long)]
    pub(crate) list: bool,
    /// Prints the page `docs/faults.md` and ends.
    #[arg(long, conflicts_with = "list")]
    pub(crate) page: bool,
}

/// From and to, since the start.
pub(crate) type Stretch = (Duration, Duration);

/// Who meets the faults. Not `Who` itself, which clap would have to compare and print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    First,
    Middle,
    Every,
    Number(u64),
}

impl Rows {
    pub(crate) fn who(self) -> Who {
        match self {
            Rows::First => Who::FirstRow,
            Rows::Middle => Who::Arrival(19),
            Rows::Every => Who::Every,
            Rows::Number(row) => Who::Row(row),
        }
    }
}

pub(crate) type Often = Times;

fn fault(name: &str) -> Result<&'static Fault, String> {
    Fault::named(name).ok_or_else(|| {
        let near = |fault: &&Fault| (strsim::jaro_winkler(fault.name, name) * 1000.0) as u32;
        match FAULTS.iter().max_by_key(near) {
            Some(fault) => format!("did you mean `{}`? --list shows all", fault.name),
            None => "--list shows all".into(),
        }
    })
}

fn rows(text: &str) -> Result<Rows, String> {
    match text {
        "first" => Ok(Rows::First),
        "middle" => Ok(Rows::Middle),
        "every" => Ok(Rows::Every),
        number => number
            .parse()
            .map(Rows::Number)
            .map_err(|_| "must be first, middle, every or a number".into()),
    }
}

fn times(text: &str) -> Result<Often, String> {
    match text {
        "once" => Ok(Times::Once),
        "always" => Ok(Times::Always),
        number => number
            .parse()
            .map(Times::First)
            .map_err(|_| "must be once, always or a number".into()),
    }
}

fn stretch(text: &str) -> Result<Stretch, String> {
    let wrong = || "must be two numbers of seconds such as 10-40".to_owned();
    let (from, to) = text.split_once('-').ok_or_else(wrong)?;
    let seconds = |text: &str| -> Result<Duration, String> {
        let seconds = text.trim().parse().map_err(|_| wrong())?;
        Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
    };
    let (from, to) = (seconds(from)?, seconds(to)?);
    if from < to {
        Ok((from, to))
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_form_of_rows_and_times_is_read() {
        let line = ["x", "--fault", "silent", "--rows", "middle", "--times", "3"];
        let arguments = Arguments::try_parse_from(line).unwrap();
        assert_eq!(arguments.fault[0].name, "silent");
        assert_eq!(arguments.rows, Rows::Middle);
        assert_eq!(arguments.times, Times::First(3));
        assert_eq!(rows("12"), Ok(Rows::Number(12)));
        assert_eq!(times("always"), Ok(Times::Always));
        let seconds = Duration::from_secs;
        assert_eq!(stretch("10-40"), Ok((seconds(10), seconds(40))));
        assert!(stretch("40-10").is_err() && stretch("x").is_err() && rows("last").is_err());
    }

    #[test]
    fn a_name_that_is_not_known_gets_the_nearest_one() {
        let nearest = fault("insufficient-qouta").unwrap_err();
        assert_eq!(
            nearest,
            "did you mean `insufficient-quota`? --list shows all"
        );
    }
}

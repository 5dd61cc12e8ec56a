//! Where the time of a command went.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What a row waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WaitReason {
    /// A limit of requests in a second or a minute.
    RequestLimit,
    /// A limit of tokens in a second or a minute.
    TokenLimit,
    /// A limit of a day, of requests or tokens.
    DayLimit,
    /// The endpoint, which asked for a pause.
    Pause,
    /// The endpoint, which nobody reaches.
    Away,
    /// The time before its next request after a fault.
    BackOff,
    /// Whoever has asked to send nothing.
    Held,
    /// Other requests, which are under way.
    Slot,
    /// Something else.
    #[serde(other)]
    Other,
}

impl WaitReason {
    pub(crate) const ALL: [WaitReason; 9] = [
        WaitReason::RequestLimit,
        WaitReason::TokenLimit,
        WaitReason::DayLimit,
        WaitReason::Pause,
        WaitReason::Away,
        WaitReason::BackOff,
        WaitReason::Held,
        WaitReason::Slot,
        WaitReason::Other,
    ];

    /// Its stable word, as `run.json` has it.
    pub fn name(self) -> &'static str {
        match self {
            WaitReason::RequestLimit => "request_limit",
            WaitReason::TokenLimit => "token_limit",
            WaitReason::DayLimit => "day_limit",
            WaitReason::Pause => "pause",
            WaitReason::Away => "away",
            WaitReason::BackOff => "back_off",
            WaitReason::Held => "held",
            WaitReason::Slot => "slot",
            WaitReason::Other => "other",
        }
    }
}

/// In words that go on from "waited for".
impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WaitReason::RequestLimit => "the limit of requests",
            WaitReason::TokenLimit => "the limit of tokens",
            WaitReason::DayLimit => "the limit of a day",
            WaitReason::Pause => "the end of pauses that the endpoint asked for",
            WaitReason::Away => "an endpoint that was away",
            WaitReason::BackOff => "the next try after a fault",
            WaitReason::Held => "the end of a pause that was asked for",
            WaitReason::Slot => "a free slot",
            WaitReason::Other => "something else",
        })
    }
}

/// A kind of time, in two ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Milliseconds in which there was at least one.
    pub wall_ms: u64,
    /// Milliseconds of all of them added up.
    pub sum_ms: u64,
}

impl Span {
    /// How many there were at once, on average of the time in which there was one.
    fn at_once(self) -> f64 {
        self.sum_ms as f64 / self.wall_ms.max(1) as f64
    }

    fn add(&mut self, other: Span) {
        self.wall_ms += other.wall_ms;
        self.sum_ms += other.sum_ms;
    }
}

/// Where the time of a command went. It prints as a table, a line for each kind of time.
///
/// Kinds overlap: while one row waits for a limit, the request of another may be under way.
///
/// ```
/// use data_generation_pipeline_core::{Span, Times, WaitReason};
///
/// let mut times = Times::default();
/// times.wall_ms = 603_000;
/// times.asking = Span { wall_ms: 482_000, sum_ms: 2_362_000 };
/// times.waiting.insert(WaitReason::RequestLimit, Span { wall_ms: 252_000, sum_ms: 32_256_000 });
/// assert_eq!(
///     times.to_string(),
///     "10 min 3 s  100 %  in all\n\
///      \u{20}8 min 2 s   80 %  requests were under way, 4.9 at once on average\n\
///      4 min 12 s   42 %  rows waited for the limit of requests, 128 at once on average",
/// );
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Times {
    /// Milliseconds from start to end, or to the last checkpoint.
    pub wall_ms: u64,
    /// Milliseconds of these before the first row was taken up: rows are checked and the folder is read.
    pub preparing_ms: u64,
    /// Requests under way.
    pub asking: Span,
    /// Rows that waited, by what for; without what none waited for.
    pub waiting: BTreeMap<WaitReason, Span>,
    /// Requests that were sent again, by the class of what was wrong before.
    pub asked_again: BTreeMap<String, u64>,
}

/// What took less is told in numbers only.
const WORTH_A_LINE_MS: u64 = 100;
/// So long a preparation is worth a line.
const WORTH_A_PREPARATION_MS: u64 = 1_000;
/// A cause of so much, and of a tenth of the time, belongs into a summary.
const WORTH_A_SUMMARY_MS: u64 = 5_000;

impl Times {
    /// The wait that took most of all rows' time, of those that took more than a tenth of the command's time and more
    /// than five seconds. A free slot is what is waited for when all is well, and never it.
    pub fn largest_wait(&self) -> Option<(WaitReason, Span)> {
        let waits = self.waiting.iter().filter(|(reason, span)| {
            let long = span.wall_ms > WORTH_A_SUMMARY_MS && span.wall_ms > self.wall_ms / 10;
            long && **reason != WaitReason::Slot
        });
        let (reason, span) = waits.max_by_key(|(_, span)| span.sum_ms)?;
        Some((*reason, *span))
    }

    /// The largest wait in a line.
    pub(crate) fn summary(&self) -> Option<String> {
        let (reason, span) = self.largest_wait()?;
        Some(format!(
            "{} ({} % of the time) for {reason}, {} at once on average",
            in_words(span.wall_ms),
            percent(span.wall_ms, self.wall_ms),
            rows(span.at_once())
        ))
    }

    /// Adds those of another command.
    pub(crate) fn add(&mut self, other: &Times) {
        self.wall_ms += other.wall_ms;
        self.preparing_ms += other.preparing_ms;
        self.asking.add(other.asking);
        for (reason, span) in &other.waiting {
            self.waiting.entry(*reason).or_default().add(*span);
        }
        for (class, requests) in &other.asked_again {
            *self.asked_again.entry(class.clone()).or_default() += requests;
        }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![(self.wall_ms, "in all".to_owned())];
        if self.preparing_ms >= WORTH_A_PREPARATION_MS {
            let what = "before the first row was taken up: rows are checked, the folder is read";
            lines.push((self.preparing_ms, what.to_owned()));
        }
        if self.asking.wall_ms >= WORTH_A_LINE_MS {
            let at_once = number(self.asking.at_once());
            let what = format!("requests were under way, {at_once} at once on average");
            lines.push((self.asking.wall_ms, what));
        }
        let mut waits: Vec<_> = self.waiting.iter().collect();
        waits.sort_by_key(|(_, span)| std::cmp::Reverse(span.wall_ms));
        for (reason, span) in waits {
            if span.wall_ms >= WORTH_A_LINE_MS {
                let at_once = number(span.at_once());
                let what = format!("rows waited for {reason}, {at_once} at once on average");
                lines.push((span.wall_ms, what));
            }
        }
        let texts: Vec<String> = lines.iter().map(|(ms, _)| in_words(*ms)).collect();
        let width = texts.iter().map(String::len).max().unwrap_or(0);
        for (number, ((ms, what), text)) in lines.iter().zip(&texts).enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            let share = percent(*ms, self.wall_ms);
            write!(f, "{end}{text:>width$}  {share:>3} %  {what}")?;
        }
        Ok(())
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    (part as f64 * 100.0 / whole.max(1) as f64).round() as u64
}

fn number(mean: f64) -> String {
    if mean < 9.95 {
        format!("{mean:.1}")
    } else {
        format!("{mean:.0}")
    }
}

fn rows(mean: f64) -> String {
    match number(mean).as_str() {
        "1.0" => "1 row".to_owned(),
        number => format!("{number} rows"),
    }
}

/// As people say it.
fn in_words(ms: u64) -> String {
    let seconds = (ms + 500) / 1000;
    match ms {
        0..9_950 => format!("{:.1} s", ms as f64 / 1000.0),
        9_950..119_500 => format!("{seconds} s"),
        119_500..7_199_500 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(wall_s: u64, sum_s: u64) -> Span {
        Span {
            wall_ms: wall_s * 1000,
            sum_ms: sum_s * 1000,
        }
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        let said = [0, 49, 9_949, 9_950, 119_499, 119_500, 7_199_499, 7_260_000].map(in_words);
        assert_eq!(
            said,
            [
                "0.0 s",
                "0.0 s",
                "9.9 s",
                "10 s",
                "119 s",
                "2 min 0 s",
                "119 min 59 s",
                "2 h 1 min"
            ]
        );
        assert_eq!(
            [0.96, 1.0, 9.94, 9.96].map(rows),
            ["1 row", "1 row", "9.9 rows", "10 rows"]
        );
    }

    #[test]
    fn the_table_has_the_longest_waits_first_and_leaves_out_what_took_no_time() {
        let mut times = Times {
            wall_ms: 120_000,
            preparing_ms: 1_500,
            asking: span(90, 360),
            ..Times::default()
        };
        times.waiting.insert(WaitReason::BackOff, span(6, 12));
        times.waiting.insert(WaitReason::Pause, span(50, 600));
        times.waiting.insert(
            WaitReason::Slot,
            Span {
                wall_ms: 99,
                sum_ms: 99,
            },
        );
        insta::assert_snapshot!(times, @"
        2 min 0 s  100 %  in all
            1.5 s    1 %  before the first row was taken up: rows are checked, the folder is read
             90 s   75 %  requests were under way, 4.0 at once on average
             50 s   42 %  rows waited for the end of pauses that the endpoint asked for, 12 at once on average
            6.0 s    5 %  rows waited for the next try after a fault, 2.0 at once on average
        ");
    }

    #[test]
    fn a_summary_names_the_largest_wait_where_it_matters() {
        let of = |waits: &[(WaitReason, Span)]| {
            let times = Times {
                wall_ms: 60_000,
                waiting: waits.iter().copied().collect(),
                ..Times::default()
            };
            times.summary()
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(WaitReason::Pause, span(6, 60))]), None, "a tenth");
        assert_eq!(of(&[(WaitReason::Slot, span(60, 600))]), None);
        let waits = [
            (WaitReason::Slot, span(60, 600)),
            (WaitReason::BackOff, span(5, 500)),
            (WaitReason::RequestLimit, span(60, 60)),
            (WaitReason::TokenLimit, span(30, 90)),
        ];
        assert_eq!(
            of(&waits).unwrap(),
            "30 s (50 % of the time) for the limit of tokens, 3.0 rows at once on average"
        );
        let short = Times {
            wall_ms: 6_000,
            waiting: BTreeMap::from([(WaitReason::Pause, span(5, 5))]),
            ..Times::default()
        };
        assert_eq!(short.summary(), None, "five seconds");
    }

    #[test]
    fn what_a_later_version_wrote_is_read_as_far_as_it_is_known() {
        let later = r#"{"wall_ms": 5, "waiting": {"pause": {"wall_ms": 1, "sum_ms": 2}, "moon": {"wall_ms": 3, "sum_ms": 3}}, "new": 1}"#;
        let times: Times = serde_json::from_str(later).unwrap();
        assert_eq!(times.waiting[&WaitReason::Other].wall_ms, 3);
        let text = serde_json::to_string(&times).unwrap();
        assert_eq!(serde_json::from_str::<Times>(&text).unwrap(), times);
        for reason in WaitReason::ALL {
            assert_eq!(
                serde_json::to_value(reason).unwrap(),
                serde_json::json!(reason.name())
            );
        }
    }
}

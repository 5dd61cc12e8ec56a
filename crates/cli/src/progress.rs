//! What a run shows while it works: a bar on a terminal, plain lines elsewhere, nothing when quiet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use data_generation::pipeline::RowId;
use data_generation::{Event, Observer};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{self, counted};

/// How often a bar is drawn.
pub(crate) const DRAW_EVERY: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Bar,
    Lines,
    Quiet,
}

/// The screen of a run; every clone shows the same.
#[derive(Clone)]
pub(crate) struct Screen(Arc<Inner>);

struct Inner {
    style: Style,
    offline: bool,
    bar: ProgressBar,
    ok: AtomicU64,
    failed: AtomicU64,
    in_flight: AtomicU64,
    /// How many may be.
    places: AtomicU64,
    /// Whether that is found out on the way.
    adapts: AtomicBool,
    tokens: AtomicU64,
    state: Mutex<State>,
}

struct State {
    rows: Option<u64>,
    before: u64,
    began: Instant,
    last_line: Instant,
    /// What each waiting row waits for.
    waiting: HashMap<RowId, Wait>,
    pause: Option<(String, Instant)>,
    /// Whether the bar has a second line now.
    shows_wait: bool,
}

struct Wait {
    on: String,
    until: Option<Instant>,
}

impl Screen {
    pub(crate) fn new(quiet: bool, offline: bool) -> Screen {
        let style = match (quiet, output::is_terminal()) {
            (true, _) => Style::Quiet,
            (false, true) => Style::Bar,
            (false, false) => Style::Lines,
        };
        Screen::with_style(style, offline)
    }

    fn with_style(style: Style, offline: bool) -> Screen {
        let bar = match style {
            Style::Bar => {
                ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10))
            }
            Style::Lines | Style::Quiet => ProgressBar::hidden(),
        };
        bar.set_style(bar_style(false));
        let now = Instant::now();
        let state = State {
            rows: None,
            before: 0,
            began: now,
            last_line: now,
            waiting: HashMap::new(),
            pause: None,
            shows_wait: false,
        };
        Screen(Arc::new(Inner {
            style,
            offline,
            bar,
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            places: AtomicU64::new(0),
            adapts: AtomicBool::new(false),
            tokens: AtomicU64::new(0),
            state: Mutex::new(state),
        }))
    }

    /// Whether it is found out on the way how many may be in flight.
    pub(crate) fn adapts(&self, adapts: bool) {
        self.0.adapts.store(adapts, Ordering::Relaxed);
    }

    /// Requests under way.
    pub(crate) fn in_flight(&self) -> u64 {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// A line that stays.
    pub(crate) fn note(&self, text: &str) {
        match self.0.style {
            Style::Bar => self.0.bar.suspend(|| output::line(text)),
            Style::Lines => output::line(text),
            Style::Quiet => {}
        }
    }

    /// Brings bar or lines up to date; called every [`DRAW_EVERY`].
    pub(crate) fn draw(&self) {
        if self.0.style == Style::Quiet {
            return;
        }
        let mut state = self.state();
        let (text, waiting) = (self.text(&state), waiting(&state));
        match self.0.style {
            Style::Bar => {
                let position = self.done() + state.before;
                if state.shows_wait != waiting.is_some() {
                    state.shows_wait = waiting.is_some();
                    self.0.bar.set_style(bar_style(state.shows_wait));
                }
                drop(state);
                self.0
                    .bar
                    .set_prefix(output::safe(&waiting.unwrap_or_default()));
                self.0.bar.set_message(text);
                self.0.bar.set_position(position);
            }
            Style::Lines if state.last_line.elapsed() >= LINE_EVERY => {
                state.last_line = Instant::now();
                drop(state);
                let line: Vec<String> = std::iter::once(text).chain(waiting).collect();
                output::line(&line.join(" · "));
            }
            Style::Lines | Style::Quiet => {}
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.0.bar.finish_and_clear();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self) -> u64 {
        self.0.ok.load(Ordering::Relaxed) + self.0.failed.load(Ordering::Relaxed)
    }

    /// What fits a line of 80 characters; without what is waited for, which has a line of its own.
    fn text(&self, state: &State) -> String {
        let done = self.done();
        let mut parts = Vec::new();
        parts.push(match state.rows {
            Some(rows) => format!("{}/{rows}", done + state.before),
            None => format!("{} rows", done + state.before),
        });
        parts.push(format!("{} failed", self.0.failed.load(Ordering::Relaxed)));
        let places = self.0.places.load(Ordering::Relaxed);
        parts.push(match self.0.adapts.load(Ordering::Relaxed) {
            true => format!("{} in flight of {places} (auto)", self.in_flight()),
            false => format!("{} in flight", self.in_flight()),
        });
        let seconds = state.began.elapsed().as_secs_f64();
        let rate = if seconds > 0.2 {
            done as f64 / seconds
        } else {
            0.0
        };
        if rate > 0.0 {
            parts.push(format!("{rate:.1} rows/s"));
        }
        if let Some(rows) = state.rows
            && rate > 0.0
        {
            let left = rows.saturating_sub(done + state.before) as f64 / rate;
            parts.push(format!(
                "{} left",
                duration(Duration::from_secs_f64(left.min(3.6e6)))
            ));
        }
        parts.push(format!(
            "{} tokens",
            short(self.0.tokens.load(Ordering::Relaxed))
        ));
        if self.0.offline {
            parts.push("offline".to_owned());
        }
        parts.join(" · ")
    }
}

fn bar_style(waiting: bool) -> ProgressStyle {
    let template = if waiting {
        "{bar:8} {wide_msg}\n{prefix:78!}"
    } else {
        "{bar:8} {wide_msg}"
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("━╸ ")
}

/// What most of the waiting rows wait for.
fn waiting(state: &State) -> Option<String> {
    if let Some((message, until)) = &state.pause
        && let Some(left) = until.checked_duration_since(Instant::now())
    {
        return Some(format!("paused {}: {message}", duration(left)));
    }
    let mut counts: HashMap<&str, (u64, Option<Instant>)> = HashMap::new();
    // A free slot is what everybody waits for when all is well.
    for wait in state
        .waiting
        .values()
        .filter(|wait| wait.on != "a free slot")
    {
        let entry = counts.entry(wait.on.as_str()).or_default();
        entry.0 += 1;
        entry.1 = entry.1.max(wait.until);
    }
    let (on, (rows, until)) = counts
        .into_iter()
        .max_by_key(|(on, (rows, _))| (*rows, *on))?;
    let left = until.and_then(|until| until.checked_duration_since(Instant::now()));
    let left = left
        .map(|left| format!(", {} at most", duration(left)))
        .unwrap_or_default();
    let plural = if rows == 1 { "row waits" } else { "rows wait" };
    Some(format!("{rows} {plural} for {on}{left}"))
}

impl Observer for Screen {
    fn event(&self, event: &Event<'_>) {
        let inner = &*self.0;
        match event {
            Event::Checking { rows } if rows % 65_536 == 0 => {
                self.note(&format!("checking rows: {rows} so far"))
            }
            Event::Started {
                run_dir,
                rows,
                finished,
                not_in_input,
                unjudged,
                resumed,
            } => {
                let mut state = self.state();
                (state.rows, state.before) = (*rows, *finished);
                state.began = Instant::now();
                drop(state);
                inner.bar.set_length(rows.unwrap_or(0));
                self.note(&opening(
                    run_dir,
                    *rows,
                    *finished,
                    *not_in_input,
                    *unjudged,
                    *resumed,
                    inner.offline,
                ));
            }
            Event::Warning { message } => self.note(&format!("warning: {message}")),
            Event::Places { places } => inner.places.store(*places as u64, Ordering::Relaxed),
            Event::Sending { .. } => drop(inner.in_flight.fetch_add(1, Ordering::Relaxed)),
            Event::Answered { .. } => drop(inner.in_flight.fetch_sub(1, Ordering::Relaxed)),
            Event::Spent {
                prompt_tokens,
                completion_tokens,
            } => {
                inner
                    .tokens
                    .fetch_add(prompt_tokens + completion_tokens, Ordering::Relaxed);
            }
            Event::Waiting {
                id, on, at_most, ..
            } => {
                let until = at_most.map(|wait| Instant::now() + wait);
                self.state().waiting.insert(
                    *id,
                    Wait {
                        on: (*on).to_owned(),
                        until,
                    },
                );
            }
            Event::WaitEnded { id } => drop(self.state().waiting.remove(id)),
            Event::Paused { message, wait } => {
                self.state().pause = Some(((*message).to_owned(), Instant::now() + *wait));
            }
            Event::Finished { .. } => drop(inner.ok.fetch_add(1, Ordering::Relaxed)),
            Event::Failed { failure } => {
                self.state().waiting.remove(&failure.id);
                // The first few are told at once; a mistake that concerns every row is seen early.
                if inner.failed.fetch_add(1, Ordering::Relaxed) < 3 {
                    let error = &failure.error;
                    // As lines are counted: from 1.
                    self.note(&format!(
                        "row {} failed: {}: {}",
                        failure.index + 1,
                        error.class,
                        error.message
                    ));
                }
            }
            Event::Stopping { reason, .. }
                if reason.kind != data_generation::StopKind::Interrupted =>
            {
                self.note(&format!("stopping: {reason}"));
            }
            _ => {}
        }
    }
}

fn opening(
    run_dir: &std::path::Path,
    rows: Option<u64>,
    finished: u64,
    not_in_input: Option<u64>,
    unjudged: u64,
    resumed: bool,
    offline: bool,
) -> String {
    let mut text = String::new();
    text.push_str(if resumed { "going on with " } else { "making " });
    text.push_str(&run_dir.display().to_string());
    if offline {
        text.push_str(" (offline: no model is asked)");
    }
    if let Some(rows) = rows {
        text.push_str(&format!(
            ": {} of {} to do",
            rows - finished.min(rows),
            counted(rows, "row", "rows")
        ));
    }
    if unjudged > 0 {
        text.push_str(&format!(
            ", {} judged first",
            counted(
                unjudged,
                "answer that is paid for is",
                "answers that are paid for are"
            )
        ));
    }
    if let Some(gone @ 1..) = not_in_input {
        text.push_str(&format!(
            "; {}",
            counted(
                gone,
                "finished row is not in this input and stays",
                "finished rows are not in this input and stay"
            )
        ));
    }
    text
}

fn short(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{:.1}k", count as f64 / 1e3),
        _ => format!("{:.2}M", count as f64 / 1e6),
    }
}

fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().ceil() as u64;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use data_generation::pipeline::WaitReason;

    use super::*;

    #[test]
    fn amounts_are_short_and_have_their_unit() {
        assert_eq!(
            [0, 9_999, 12_345, 1_234_567].map(short),
            ["0", "9999", "12.3k", "1.23M"]
        );
        let shown =
            [0, 59, 119, 121, 7199, 9000].map(|seconds| duration(Duration::from_secs(seconds)));
        assert_eq!(shown, ["0 s", "59 s", "119 s", "3 min", "120 min", "2.5 h"]);
    }

    #[test]
    fn what_most_rows_wait_for_is_said_and_a_pause_before_all_else() {
        let screen = Screen::with_style(Style::Lines, true);
        let id = |digit: &str| RowId::from_hex(&digit.repeat(32)).unwrap();
        let wait = |id, on| {
            screen.event(&Event::Waiting {
                id,
                reason: WaitReason::Other,
                on,
                at_most: None,
            })
        };
        let said = || waiting(&screen.state());
        wait(id("1"), "a free slot");
        assert_eq!(said(), None, "waiting for a slot is no news");
        wait(id("2"), "the rate limit");
        assert_eq!(said().as_deref(), Some("1 row waits for the rate limit"));
        screen.event(&Event::Paused {
            message: "the endpoint asked for it",
            wait: Duration::from_secs(12),
        });
        assert_eq!(
            said().as_deref(),
            Some("paused 12 s: the endpoint asked for it")
        );
        screen.event(&Event::WaitEnded { id: id("2") });
        screen.state().pause = None;
        assert_eq!(said(), None);
        screen.event(&Event::Places { places: 24 });
        assert_eq!(
            screen.text(&screen.state()),
            "0 rows · 0 failed · 0 in flight · 0 tokens · offline"
        );
        screen.adapts(true);
        assert_eq!(
            screen.text(&screen.state()),
            "0 rows · 0 failed · 0 in flight of 24 (auto) · 0 tokens · offline"
        );
        screen.adapts(false);
        assert_eq!(
            screen.text(&screen.state()),
            "0 rows · 0 failed · 0 in flight · 0 tokens · offline"
        );
    }
}

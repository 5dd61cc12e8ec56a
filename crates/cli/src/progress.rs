//! What a run shows while it works: a bar on a terminal, plain lines elsewhere, nothing when quiet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use data_generation::pipeline::{RowId, WaitReason};
use data_generation::{Event, Observer, Steering};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::fit::{self, Part, STAYS};
use crate::output::{self, counted};
use crate::pace::{Ahead, Pace};

/// How often a bar is drawn.
pub(crate) const DRAW_EVERY: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// So many requests tell how many of them are in vain.
const ENOUGH: u64 = 10;
/// So many requests tell how long one takes.
const LATELY: u32 = 20;

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
    pace: Pace,
    /// Of requests that have come to an end: how many, how many of them in vain, and how long they took.
    answered: u64,
    in_vain: u64,
    latency: Duration,
    /// When the last one left.
    last_left: Option<Instant>,
    /// Knows the limits.
    steering: Option<Steering>,
    last_line: Instant,
    /// What each waiting row waits for.
    waiting: HashMap<RowId, Wait>,
    pause: Option<(String, Instant)>,
    /// Whether somebody has asked to send nothing.
    held: bool,
    /// Whether the bar has a second line now, and of how many columns.
    shows_wait: Option<usize>,
}

struct Wait {
    on: String,
    reason: WaitReason,
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
        bar.set_style(bar_style(None));
        let now = Instant::now();
        let state = State {
            rows: None,
            before: 0,
            pace: Pace::default(),
            answered: 0,
            in_vain: 0,
            latency: Duration::ZERO,
            last_left: None,
            steering: None,
            last_line: now,
            waiting: HashMap::new(),
            pause: None,
            held: false,
            shows_wait: None,
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

    /// Who knows the limits.
    pub(crate) fn steered_by(&self, steering: Steering) {
        self.state().steering = Some(steering);
    }

    /// Whether somebody has asked to send nothing.
    pub(crate) fn held(&self, held: bool) {
        self.state().held = held;
    }

    /// What is waited for, and how long; what somebody has asked for himself he knows.
    pub(crate) fn waits(&self) -> Option<String> {
        let state = self.state();
        match state.held {
            true => None,
            false => waiting(&state, usize::MAX),
        }
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
        self.look(&mut state);
        match self.0.style {
            Style::Bar => {
                let columns = output::columns();
                let text = self.text(&state, columns.saturating_sub(BAR + 1));
                let waiting = waiting(&state, columns.saturating_sub(1));
                let position = self.done() + state.before;
                let shows = waiting.as_ref().map(|_| columns);
                if state.shows_wait != shows {
                    state.shows_wait = shows;
                    self.0.bar.set_style(bar_style(shows));
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
                let (text, waiting) = (self.text(&state, usize::MAX), waiting(&state, usize::MAX));
                drop(state);
                let line: Vec<String> = std::iter::once(text).chain(waiting).collect();
                output::line(&line.join(" · "));
            }
            Style::Lines | Style::Quiet => {}
        }
    }

    /// Brings what is known of the pace up to date.
    fn look(&self, state: &mut State) {
        let is_paused = is_paused(state);
        state.pace.look(Instant::now(), self.done(), is_paused);
    }

    /// How long so many rows will take; `None` where nobody can tell yet.
    fn left(&self, state: &State, rows: u64) -> Option<Duration> {
        let (pause, in_flight) = (rest_of_pause(state), self.in_flight());
        // How many requests a row needs.
        let each = match state.answered {
            ENOUGH.. => {
                state.answered as f64 / state.answered.saturating_sub(state.in_vain).max(1) as f64
            }
            _ => 1.0,
        };
        let requests = (rows.saturating_sub(in_flight) as f64 * each).ceil() as u64;
        let since = state
            .last_left
            .map_or(Duration::ZERO, |last| last.elapsed());
        let steering = state.steering.as_ref();
        // How long an answer takes only answers tell.
        let is_known = state.answered > 0 || in_flight == 0;
        let steering = steering.filter(|_| is_known);
        let ahead = Ahead {
            rate: state.pace.rate(self.done()),
            sending: steering.and_then(|steering| steering.time_to_send(requests, pause)),
            latency: state.latency,
            rest: state.latency.saturating_sub(since),
            places: self.0.places.load(Ordering::Relaxed),
            requests,
            pause,
        };
        ahead.left(rows)
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

    /// As much as fits so many columns; without what is waited for, which has a line of its own. What the run costs is
    /// always there.
    fn text(&self, state: &State, columns: usize) -> String {
        let done = self.done();
        let mut parts = Vec::new();
        parts.push(Part::new(
            STAYS,
            match state.rows {
                Some(rows) => format!("{}/{rows}", done + state.before),
                None => format!("{} rows", done + state.before),
            },
        ));
        let failed = self.0.failed.load(Ordering::Relaxed);
        let worth = if failed > 0 { 7 } else { 4 };
        parts.push(Part::new(worth, format!("{failed} failed")));
        let places = self.0.places.load(Ordering::Relaxed);
        let in_flight = format!("{} in flight", self.in_flight());
        parts.push(match self.0.adapts.load(Ordering::Relaxed) {
            true => Part::new(3, format!("{in_flight} of {places} (auto)")).or(5, in_flight),
            false => Part::new(5, in_flight),
        });
        let rate = state.pace.rate(done);
        if let Some(rate) = rate {
            parts.push(Part::new(2, format!("{rate:.1} rows/s")));
        }
        let rows = state
            .rows
            .map(|rows| rows.saturating_sub(done + state.before));
        // How long somebody's pause lasts he alone knows.
        if let Some(rows) = rows.filter(|rows| *rows > 0 && !state.held)
            && let Some(left) = self.left(state, rows)
        {
            parts.push(Part::new(6, format!("{} left", duration(left))));
        }
        let tokens = short(self.0.tokens.load(Ordering::Relaxed));
        parts.push(Part::new(STAYS, format!("{tokens} tokens")));
        if self.0.offline {
            parts.push(Part::new(1, "offline".to_owned()));
        }
        fit::joined(parts, columns)
    }
}

/// Columns of the bar itself.
const BAR: usize = 8;

/// With a second line of so many columns, or without one.
fn bar_style(second: Option<usize>) -> ProgressStyle {
    let template = match second {
        Some(columns) => format!("{{bar:{BAR}}} {{wide_msg}}\n{{prefix:{columns}!}}"),
        None => format!("{{bar:{BAR}}} {{wide_msg}}"),
    };
    let style =
        ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("━╸ ")
}

/// Whether nothing may leave, whatever the limits say.
fn is_paused(state: &State) -> bool {
    let is_off = |wait: &Wait| {
        matches!(
            wait.reason,
            WaitReason::Pause | WaitReason::Away | WaitReason::Held
        )
    };
    state.held || !rest_of_pause(state).is_zero() || state.waiting.values().any(is_off)
}

fn rest_of_pause(state: &State) -> Duration {
    let until = state.pause.as_ref().map(|(_, until)| *until);
    let left = until.and_then(|until| until.checked_duration_since(Instant::now()));
    left.unwrap_or_default()
}

/// What most of the waiting rows wait for, in so many columns.
fn waiting(state: &State, columns: usize) -> Option<String> {
    if state.held {
        let text = "paused by `datagen ctl pause`; `datagen ctl resume` goes on";
        return Some(fit::between("", text, "", columns));
    }
    let rest = rest_of_pause(state);
    if let Some((message, _)) = state.pause.as_ref().filter(|_| !rest.is_zero()) {
        let before = format!("paused {}: ", duration(rest));
        return Some(fit::between(&before, message, "", columns));
    }
    let mut counts: HashMap<&str, (u64, Option<Instant>)> = HashMap::new();
    // A free slot is what everybody waits for when all is well, and a pause that was asked for is over.
    for wait in state
        .waiting
        .values()
        .filter(|wait| !matches!(wait.reason, WaitReason::Slot | WaitReason::Held))
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
    let rows = counted(rows, "row waits for ", "rows wait for ");
    Some(fit::between(&rows, on, &left, columns))
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
                state.pace = Pace::default();
                self.look(&mut state);
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
            Event::Sending { .. } => {
                inner.in_flight.fetch_add(1, Ordering::Relaxed);
                self.state().last_left = Some(Instant::now());
            }
            Event::Retrying { .. } => self.state().in_vain += 1,
            Event::Answered { latency, .. } => {
                inner.in_flight.fetch_sub(1, Ordering::Relaxed);
                let mut state = self.state();
                state.answered += 1;
                let weight = u32::try_from(state.answered).map_or(LATELY, |n| n.min(LATELY));
                state.latency = (state.latency * (weight - 1) + *latency) / weight;
            }
            Event::Spent {
                prompt_tokens,
                completion_tokens,
            } => {
                inner
                    .tokens
                    .fetch_add(prompt_tokens + completion_tokens, Ordering::Relaxed);
            }
            Event::Waiting {
                id,
                reason,
                on,
                at_most,
            } => {
                let until = at_most.map(|wait| Instant::now() + wait);
                self.state().waiting.insert(
                    *id,
                    Wait {
                        on: (*on).to_owned(),
                        reason: *reason,
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
mod foretold;
#[cfg(test)]
mod tests;

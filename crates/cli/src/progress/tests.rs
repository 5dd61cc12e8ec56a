use super::*;

#[test]
fn amounts_are_short_and_have_their_unit() {
    assert_eq!(
        [0, 9_999, 12_345, 1_234_567].map(short),
        ["0", "9999", "12.3k", "1.23M"]
    );
    let shown = [0, 59, 119, 121, 7199, 9000].map(|seconds| duration(Duration::from_secs(seconds)));
    assert_eq!(shown, ["0 s", "59 s", "119 s", "3 min", "120 min", "2.5 h"]);
}

#[test]
fn what_most_rows_wait_for_is_said_and_a_pause_before_all_else() {
    let screen = Screen::with_style(Style::Lines, true);
    let id = |digit: &str| RowId::from_hex(&digit.repeat(32)).unwrap();
    let wait = |id, reason, on| {
        screen.event(&Event::Waiting {
            id,
            reason,
            on,
            at_most: None,
        })
    };
    let said = || waiting(&screen.state(), 80);
    wait(id("1"), WaitReason::Slot, "a free slot");
    assert_eq!(said(), None, "waiting for a slot is no news");
    wait(id("2"), WaitReason::RequestLimit, "the rate limit");
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
        screen.text(&screen.state(), 80),
        "0 rows · 0 failed · 0 in flight · 0 tokens · offline"
    );
    screen.adapts(true);
    assert_eq!(
        screen.text(&screen.state(), 80),
        "0 rows · 0 failed · 0 in flight of 24 (auto) · 0 tokens · offline"
    );
    screen.adapts(false);
    assert_eq!(
        screen.text(&screen.state(), 80),
        "0 rows · 0 failed · 0 in flight · 0 tokens · offline"
    );
}

#[test]
fn at_eighty_columns_the_tokens_and_the_time_stay_and_nothing_is_cut() {
    let screen = Screen::with_style(Style::Bar, false);
    screen.adapts(true);
    screen.event(&Event::Places { places: 24 });
    screen.0.ok.store(1_200, Ordering::Relaxed);
    screen.0.in_flight.store(12, Ordering::Relaxed);
    screen.0.tokens.store(63_600, Ordering::Relaxed);
    let mut state = screen.state();
    state.rows = Some(5_000);
    let began = Instant::now();
    state.pace.look(began, 0, false);
    let now = began + Duration::from_secs(30);
    state.pace.look(now, 1_200, false);
    let whole =
        "1200/5000 · 0 failed · 12 in flight of 24 (auto) · 40.0 rows/s · 95 s left · 63.6k tokens";
    assert_eq!(screen.text(&state, 200), whole);
    assert_eq!(
        screen.text(&state, 80 - BAR - 1),
        "1200/5000 · 0 failed · 12 in flight · 95 s left · 63.6k tokens"
    );
    assert_eq!(screen.text(&state, 25), "1200/5000 · 63.6k tokens");
}

#[test]
fn a_pause_of_ones_own_is_called_so_and_nobody_guesses_how_long_it_lasts() {
    let screen = Screen::with_style(Style::Bar, false);
    let mut state = screen.state();
    state.rows = Some(100);
    let began = Instant::now();
    state.pace.look(began, 0, false);
    let now = began + Duration::from_secs(5);
    state.pace.look(now, 0, false);
    screen.0.ok.store(10, Ordering::Relaxed);
    assert!(screen.text(&state, 80).contains("45 s left"));
    drop(state);
    screen.held(true);
    assert_eq!(screen.waits(), None);
    let state = screen.state();
    assert!(!screen.text(&state, 80).contains("left"));
    assert_eq!(
        waiting(&state, 80).as_deref(),
        Some("paused by `datagen ctl pause`; `datagen ctl resume` goes on")
    );
}

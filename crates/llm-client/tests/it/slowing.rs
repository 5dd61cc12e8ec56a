//! An endpoint that allows less than is configured.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation_llm_client::{Answer, Event, LimitOptions};
use tokio::time::{Instant, sleep};

use crate::scripted::{Scripted, Watched, at_once, client, row, status, with_header};

const MINUTE: Duration = Duration::from_secs(60);
/// Requests a minute that it allows, until it allows more than anybody wants.
const ALLOWED: usize = 300;
const CONFIGURED: u32 = 600;
const MORE_AFTER: u32 = 20;

/// Requests of each minute, and how many of them were put off.
type Minutes = Arc<Mutex<Vec<(usize, usize)>>>;

fn strict(minutes: &Minutes) -> Arc<Scripted> {
    let (minutes, start) = (Arc::clone(minutes), Instant::now());
    let last: Mutex<VecDeque<Instant>> = Mutex::default();
    Scripted::slow(Duration::from_secs(1), move |_, _| {
        let now = Instant::now();
        let mut last = last.lock().unwrap();
        while last.front().is_some_and(|at| now - *at >= MINUTE) {
            last.pop_front();
        }
        let is_too_much = last.len() >= ALLOWED && now - start < MINUTE * MORE_AFTER;
        let mut minutes = minutes.lock().unwrap();
        let minute = (now - start).as_secs() as usize / 60;
        while minutes.len() <= minute {
            minutes.push((0, 0));
        }
        minutes[minute].0 += 1;
        minutes[minute].1 += usize::from(is_too_much);
        if is_too_much {
            return status(429, "");
        }
        last.push_back(now);
        Ok(Answer::text("good"))
    })
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_is_pushed_back_again_falls_and_comes_back_and_is_never_exceeded() {
    let minutes = Minutes::default();
    let model = strict(&minutes);
    let mut options = at_once(30);
    options.limits = LimitOptions::per_minute(CONFIGURED.try_into().ok());
    let client = client(&model, options);
    let call = Arc::new(Watched::default());
    for worker in 0..60 {
        let (client, call) = (Arc::clone(&client), Arc::clone(&call));
        tokio::spawn(async move { while client.ask_for(&row(worker), &*call).await.is_ok() {} });
    }
    sleep(MINUTE * 30).await;
    let minutes = minutes.lock().unwrap().clone();
    let sum = |minutes: &[(usize, usize)]| {
        minutes
            .iter()
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    let (requests, put_off) = sum(&minutes[5..20]);
    let good = (requests - put_off) as f64 / 15.0;
    assert!(put_off * 100 < requests, "{put_off} of {requests}");
    assert!(good > 0.85 * ALLOWED as f64, "{good} a minute: {minutes:?}");
    let (last, _) = sum(&minutes[28..30]);
    assert!(last > 2 * 590, "{minutes:?}");
    let most = minutes.iter().map(|(requests, _)| *requests).max();
    assert!(most <= Some(CONFIGURED as usize), "{minutes:?}");
    let events = call.events.lock().unwrap();
    let told = events.iter().filter_map(|event| match event {
        Event::Warned {
            class: "slowed_down",
            message,
        } => Some(message.as_str()),
        _ => None,
    });
    let told: Vec<&str> = told.collect();
    insta::assert_snapshot!(told.join("\n"), @"the endpoint pushes back although the limits are kept: requests leave at 48 % of the configured rate for now, and faster again where it lets them");
}

/// What an endpoint does with a request.
type Judge = Box<dyn FnMut(Instant) -> bool + Send>;

/// No more than so many in any minute.
fn at_most(mut allowed: impl FnMut(Instant) -> usize + Send + 'static) -> Judge {
    let mut last: VecDeque<Instant> = VecDeque::new();
    Box::new(move |now| {
        while last.front().is_some_and(|at| now - *at >= MINUTE) {
            last.pop_front();
        }
        let is_let_through = last.len() < allowed(now);
        if is_let_through {
            last.push_back(now);
        }
        is_let_through
    })
}

/// Refuses this share of them, whatever they are.
fn at_random(share: f64) -> Judge {
    let mut luck = fastrand::Rng::with_seed(11);
    Box::new(move |_| luck.f64() >= share)
}

/// Requests that were let through and that were refused, of each minute, where 600 are configured; with `hint` refusals
/// say when to come again. And how often everybody had to wait.
async fn minutes_at(judge: Judge, hint: bool, minutes: u32) -> (Vec<(usize, usize)>, usize) {
    let seen = Minutes::default();
    let (start, all) = (Instant::now(), Arc::clone(&seen));
    let judge = Mutex::new(judge);
    let model = Scripted::slow(Duration::from_millis(300), move |_, _| {
        let now = Instant::now();
        let is_let_through = (judge.lock().unwrap())(now);
        let mut all = all.lock().unwrap();
        let minute = (now - start).as_secs() as usize / 60;
        while all.len() <= minute {
            all.push((0, 0));
        }
        match is_let_through {
            true => all[minute].0 += 1,
            false => all[minute].1 += 1,
        }
        match (is_let_through, hint) {
            (true, _) => Ok(Answer::text("good")),
            (_, true) => with_header(429, "retry-after", "1"),
            (_, false) => status(429, ""),
        }
    });
    let mut options = at_once(30);
    options.retry.max_row_s = 1_000_000;
    options.limits = LimitOptions::per_minute(CONFIGURED.try_into().ok());
    let client = client(&model, options);
    let call = Arc::new(Watched::default());
    let workers: Vec<_> = (0..12)
        .map(|worker| {
            let (client, call) = (Arc::clone(&client), Arc::clone(&call));
            tokio::spawn(async move {
                loop {
                    drop(client.ask_for(&row(worker), &*call).await);
                }
            })
        })
        .collect();
    sleep(MINUTE * minutes).await;
    workers.iter().for_each(|worker| worker.abort());
    let events = call.events.lock().unwrap();
    let pauses = events
        .iter()
        .filter(|event| matches!(event, Event::Paused { .. }));
    (seen.lock().unwrap().clone(), pauses.count())
}

fn sum(minutes: &[(usize, usize)]) -> (f64, f64) {
    let (good, refused) = minutes
        .iter()
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    (good as f64, refused as f64)
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_lower_than_configured_is_found_and_used() {
    for (allowed, hint) in [(300, true), (300, false), (60, true), (540, false)] {
        let (minutes, _) = minutes_at(at_most(move |_| allowed), hint, 12).await;
        let (good, refused) = sum(&minutes[3..12]);
        let used = good / 9.0 / allowed as f64;
        let refused = refused / (good + refused);
        assert!(used >= 0.9, "{allowed}, {hint}: {used} used: {minutes:?}");
        assert!(
            refused < 0.03,
            "{allowed}, {hint}: {refused} refused: {minutes:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_that_have_nothing_to_do_with_the_rate_cost_no_more_than_their_pauses() {
    for share in [0.01, 0.03, 0.25] {
        let (minutes, pauses) = minutes_at(at_random(share), true, 8).await;
        let (good, _) = sum(&minutes);
        // Each stops everybody for a second or so, and the one after it goes alone.
        let lost = pauses as f64 * (1.05 + 0.3);
        let could = (8.0 * 60.0 - lost) * f64::from(CONFIGURED) / 60.0 * (1.0 - share);
        assert!(
            good >= 0.9 * could,
            "{share}: {good} of {could}: {minutes:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn somebody_else_who_uses_the_same_key_and_goes_again_is_made_room_for() {
    let start = Instant::now();
    let is_there = move |now: Instant| ((now - start).as_secs() / 600).is_multiple_of(2);
    let allowed = move |now| if is_there(now) { 300 } else { 600 };
    let (minutes, _) = minutes_at(at_most(allowed), false, 40).await;
    let (good, refused) = sum(&minutes);
    assert!(good > 0.8 * 40.0 * 450.0, "{good}: {minutes:?}");
    assert!(refused < 0.03 * good, "{refused}: {minutes:?}");
}

#[tokio::test(start_paused = true)]
async fn without_limits_of_its_own_nothing_is_slower() {
    let model = Scripted::of((0..9).map(|_| status(429, "")));
    let client = client(&model, at_once(1));
    let call = Watched::default();
    for n in 0..20 {
        client.ask_for(&row(n), &call).await.unwrap();
    }
    let events = call.events.lock().unwrap();
    let told = events
        .iter()
        .any(|event| matches!(event, Event::Warned { .. }));
    assert!(!told);
    let times = model.times();
    let apart = times[28] - times[27];
    assert_eq!(apart, Duration::from_millis(10));
}

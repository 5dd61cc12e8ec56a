//! An endpoint that allows less than is configured.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation_llm_client::{Answer, Event, LimitOptions};
use tokio::time::{Instant, sleep};

use crate::scripted::{Scripted, Watched, at_once, client, row, status};

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
    insta::assert_snapshot!(told.join("\n"), @"the endpoint pushes back although the limits are kept: requests leave at 80 % of the configured rate for now, and faster again where it lets them");
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

//! Short runs against an endpoint that goes away for a time, in as many ways as dice make: none stops, and none loses
//! a row that could have known better.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation_llm_client::Usage;
use data_generation_llm_client::{
    Answer, BoxError, Call, Client, ClientOptions, Error, ErrorKind, Model, Request,
    TransportError, TransportKind,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::cases::number;
use crate::scripted::{Outcome, row, status};

/// How a request ends while the endpoint is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Refused,
    ConnectTimeout,
    Dns,
    Closed,
    Status(u16),
    NotProcessed,
}

const HOWS: [How; 12] = [
    How::Refused,
    How::ConnectTimeout,
    How::Dns,
    How::Closed,
    How::Status(502),
    How::Status(503),
    How::Status(504),
    How::Status(520),
    How::Status(524),
    How::NotProcessed,
    How::Status(429),
    How::Status(529),
];

impl How {
    /// Whether it can be nobody's own fault.
    fn is_of_all(self) -> bool {
        !matches!(self, How::Closed | How::Status(500..=528))
    }

    fn outcome(self) -> Outcome {
        let lost = |kind| Err(TransportError::new(kind, "lost"));
        match self {
            How::Refused => lost(TransportKind::Connect),
            How::ConnectTimeout => lost(TransportKind::ConnectTimeout),
            How::Dns => lost(TransportKind::Dns),
            How::Closed => lost(TransportKind::Closed),
            How::NotProcessed => lost(TransportKind::NotProcessed),
            How::Status(code) => status(code, "<html>"),
        }
    }
}

/// One run: what its dice say.
#[derive(Debug, Clone)]
struct Lot {
    rows: usize,
    places: usize,
    /// Milliseconds.
    latency: (u64, u64),
    keeping: u64,
    from: u64,
    to: u64,
    hows: Vec<How>,
    base_delay_s: f64,
}

struct Dice {
    lot: Lot,
    start: Instant,
    luck: Mutex<fastrand::Rng>,
    log: Mutex<Vec<(u128, String, String)>>,
    first_good: AtomicU64,
}

impl Model for Dice {
    fn provider(&self) -> &str {
        "dice"
    }

    fn model(&self) -> &str {
        "dice-1"
    }

    fn ask<'a>(&'a self, request: &'a Request, attempt: u32) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let (latency, how) = {
                let mut luck = self.luck.lock().unwrap();
                let (from, to) = self.lot.latency;
                let how = self.lot.hows[luck.usize(..self.lot.hows.len())];
                (luck.u64(from..=to), how)
            };
            let sent = self.start.elapsed().as_millis() as u64;
            let away = |at: u64| (self.lot.from..self.lot.to).contains(&at);
            let outcome = match away(sent) {
                true => {
                    sleep(Duration::from_millis(latency.min(50))).await;
                    how.outcome()
                }
                false => {
                    sleep(Duration::from_millis(latency)).await;
                    let at = self.start.elapsed().as_millis() as u64;
                    match away(at) {
                        true => how.outcome(),
                        false => Ok(Answer::text("good")),
                    }
                }
            };
            let at = self.start.elapsed().as_millis();
            if outcome.as_ref().is_ok_and(|answer| answer.status == 200) {
                self.first_good.fetch_min(at as u64, Ordering::Relaxed);
            }
            let what = match &outcome {
                Ok(answer) => format!("{} (attempt {attempt}, sent {sent})", answer.status),
                Err(error) => format!("{:?} (attempt {attempt}, sent {sent})", error.kind()),
            };
            self.log
                .lock()
                .unwrap()
                .push((at, request.user.clone(), what));
            outcome
        })
    }
}

/// Keeps answers as slowly as a disk may.
struct Slow {
    attempts: AtomicU32,
    takes: Duration,
    stopping: CancellationToken,
}

impl Call for Slow {
    fn next_attempt(&self) -> u32 {
        self.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn paid<'a>(&'a self, _: &'a Answer, _: Usage, _: u32) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(async move {
            sleep(self.takes).await;
            Ok(())
        })
    }

    fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }
}

fn lot(luck: &mut fastrand::Rng) -> Lot {
    let places = luck.usize(2..=12);
    let rows = luck.usize(4..=20);
    let latency = match luck.u32(..4) {
        0 => (50, 50),
        1 => (1, 200),
        2 => (900, 1100),
        _ => (10, 5_000),
    };
    let rounds = rows.div_ceil(places) as u64;
    let end = rounds * latency.1;
    let from = match luck.u32(..4) {
        0 => luck.u64(0..=latency.0),
        1 => latency.0 + 1,
        2 => luck.u64(0..=end),
        _ => end.saturating_sub(luck.u64(0..=latency.1)),
    };
    let lasts = match luck.u32(..3) {
        0 => luck.u64(1_000..10_000),
        1 => luck.u64(10_000..60_000),
        _ => luck.u64(60_000..600_000),
    };
    let hows = match luck.bool() {
        true => vec![HOWS[luck.usize(..HOWS.len())]],
        false => (0..luck.usize(2..4))
            .map(|_| HOWS[luck.usize(..HOWS.len())])
            .collect(),
    };
    Lot {
        rows,
        places,
        latency,
        keeping: [0, 0, 5, 300][luck.usize(..4)],
        from,
        to: from + lasts,
        hows,
        base_delay_s: [1.0, 1.0, 0.0, 0.05][luck.usize(..4)],
    }
}

fn play(seed: u64) -> Result<(), String> {
    let mut luck = fastrand::Rng::with_seed(seed);
    let lot = lot(&mut luck);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let dice = Arc::new(Dice {
            lot: lot.clone(),
            start: Instant::now(),
            luck: Mutex::new(luck.fork()),
            log: Mutex::default(),
            first_good: AtomicU64::new(u64::MAX),
        });
        let mut options = ClientOptions {
            concurrency: lot.places.try_into().unwrap(),
            ..ClientOptions::default()
        };
        options.retry.base_delay_s = lot.base_delay_s;
        let client = Client::new(Arc::clone(&dice) as Arc<dyn Model>, options).seeded(seed);
        let client = &client;
        let asked = (0..lot.rows).map(|n| async move {
            let call = Slow {
                attempts: AtomicU32::new(0),
                takes: Duration::from_millis(lot.keeping),
                stopping: CancellationToken::new(),
            };
            client.ask_for(&row(n), &call).await
        });
        let results: Vec<Result<_, Error>> = futures::stream::iter(asked)
            .buffer_unordered(lot.places + lot.places.max(3))
            .collect()
            .await;
        let log = || -> String {
            let log = dice.log.lock().unwrap();
            let lines = log
                .iter()
                .map(|(at, row, what)| format!("  {at} {row}: {what}\n"));
            lines.collect()
        };
        let first_good = dice.first_good.load(Ordering::Relaxed);
        let stopped = results.iter().find_map(|result| match result {
            Err(error) if !matches!(error.kind(), ErrorKind::Row { .. }) => Some(error.to_string()),
            _ => None,
        });
        let failed = results.iter().filter(|result| result.is_err()).count();
        let lost = results.iter().find_map(|result| result.as_ref().err());
        // What never answered before is not waited for.
        if first_good >= lot.from {
            return Ok(());
        }
        if let Some(stopped) = stopped {
            return Err(format!("STOPPED: {stopped}\n{lot:?}\n{}", log()));
        }
        let known = lot.hows.iter().all(|how| how.is_of_all());
        // Of the last two behind a gateway nobody can tell.
        if failed > if known { 0 } else { 2 } {
            return Err(format!("{failed} LOST: {lost:?}\n{lot:?}\n{}", log()));
        }
        // Whatever they waited for when it came back.
        let took = dice.start.elapsed().as_millis() as u64;
        let most = lot.rows as u64 * (lot.latency.1 + lot.keeping) + 20_000;
        let puts_off = |how: &How| matches!(how, How::NotProcessed | How::Status(429 | 529));
        let most = if lot.hows.iter().any(puts_off) {
            most + 60_000
        } else {
            most
        };
        if took > lot.to + most {
            return Err(format!("LATE by {} ms\n{lot:?}\n{}", took - lot.to, log()));
        }
        Ok(())
    })
}

#[test]
fn a_short_run_outlives_an_endpoint_that_goes_away_for_a_time() {
    let seeds = match number("FUZZ_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..50 * number("FUZZ_TIMES").unwrap_or(1),
    };
    let played = seeds.filter_map(|seed| Some(format!("FUZZ_SEED={seed}: {}", play(seed).err()?)));
    let wrong: Vec<String> = played.take(5).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

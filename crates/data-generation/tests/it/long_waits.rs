//! A run that waits for long says in the log for what, who waits, and for how long.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Once;
use std::time::Duration;

use data_generation::llm::{Answer, Headers, Model, Request, TransportError};
use data_generation::{Builder, Steering, StopHandle};
use futures::future::BoxFuture;
use tokio::time::sleep;

use crate::harness::{Home, words};

/// A model that takes its time.
struct Slow(Duration, fn() -> Answer);

impl Model for Slow {
    fn provider(&self) -> &str {
        "test"
    }

    fn model(&self) -> &str {
        "test-1"
    }

    fn ask<'a>(&'a self, _: &'a Request, _: u32) -> BoxFuture<'a, Result<Answer, TransportError>> {
        Box::pin(async move {
            sleep(self.0).await;
            Ok((self.1)())
        })
    }
}

thread_local! {
    /// What is logged on the thread of a test that listens.
    static LOG: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

struct Log;

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| match log {
            Some(log) => log.write(text),
            None => Ok(text.len()),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One for all threads: those of single threads miss events whose first one comes on another at the same time.
fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(|| Log)
            .init();
    });
    LOG.set(Some(Vec::new()));
}

/// What the log of a run of three rows says of long waits, so many seconds after its beginning.
async fn logged(
    seconds: u64,
    steering: &Steering,
    model: Slow,
    settings: impl FnOnce(Builder) -> Builder,
) -> String {
    listen();
    let home = Home::new();
    let builder = settings(home.builder().own_model(model));
    let pipeline = builder.build().unwrap();
    let stop = StopHandle::new();
    let run = pipeline.run(words(&["a", "b", "c"]));
    let run = run.steering(steering).stop_handle(&stop);
    let (report, ()) = tokio::join!(run.into_future(), async {
        sleep(Duration::from_secs(seconds)).await;
        stop.interrupt_within(Duration::ZERO);
    });
    report.unwrap();
    let log = String::from_utf8(LOG.take().unwrap()).unwrap();
    let told = log.lines().filter(|line| line.contains("still waits"));
    let told: Vec<&str> = told.map(str::trim_start).collect();
    told.join("\n")
}

fn good() -> Answer {
    Answer::text("fine")
}

fn put_off(status: u16) -> Answer {
    let mut answer = Answer::from_body(status, "");
    answer.headers = Headers::from_pairs([("retry-after", "100")]);
    answer
}

#[tokio::test(start_paused = true)]
async fn for_whoever_asked_to_send_nothing() {
    let steering = Steering::new();
    steering.pause();
    let model = Slow(Duration::ZERO, good);
    let told = logged(65, &steering, model, |builder| builder).await;
    insta::assert_snapshot!(told, @r"
    INFO still waits for the end of the pause that was asked for row=85a54503d47a370c54dfba42304d410f waited_s=30 others=2
    INFO still waits for the end of the pause that was asked for row=85a54503d47a370c54dfba42304d410f waited_s=60 others=2
    ");
}

#[tokio::test(start_paused = true)]
async fn for_a_limit_that_is_named() {
    let model = Slow(Duration::ZERO, good);
    let told = logged(40, &Steering::new(), model, |builder| {
        builder.rate_limit(Some(1))
    })
    .await;
    insta::assert_snapshot!(told, @"INFO still waits for the limit of 1 request a minute row=a5b9516081e162b5ad7aaa61e6407cc7 waited_s=30 at_most_s=30 others=1");
}

#[tokio::test(start_paused = true)]
async fn for_limits_that_nobody_knows_yet() {
    let model = Slow(Duration::from_secs(100), good);
    let told = logged(40, &Steering::new(), model, |builder| {
        builder.set("model.rate_limit", "auto")
    })
    .await;
    insta::assert_snapshot!(told, @"INFO still waits for the endpoint's limits, which the first answer will tell row=a5b9516081e162b5ad7aaa61e6407cc7 waited_s=30 others=1");
}

#[tokio::test(start_paused = true)]
async fn for_a_pause_that_the_endpoint_wants() {
    let model = Slow(Duration::ZERO, || put_off(429));
    let told = logged(40, &Steering::new(), model, |builder| builder).await;
    insta::assert_snapshot!(told, @"INFO still waits for the endpoint: status 429 row=85a54503d47a370c54dfba42304d410f waited_s=30 at_most_s=70 others=2");
}

#[tokio::test(start_paused = true)]
async fn for_another_try() {
    let model = Slow(Duration::ZERO, || put_off(500));
    let told = logged(40, &Steering::new(), model, |builder| builder).await;
    insta::assert_snapshot!(told, @"INFO still waits for another try after server_error: status 500 row=85a54503d47a370c54dfba42304d410f waited_s=30 at_most_s=70 others=2");
}

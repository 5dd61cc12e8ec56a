//! A client that finds out by itself how many requests at the same time are best, when something else happens.

use std::sync::Arc;
use std::time::Duration;

use data_generation_llm_client::{Answer, Client, ClientOptions, TransportError, TransportKind};
use tokio::time::{Instant, sleep};

use crate::scripted::{Scripted, at_once, client, row};

const SECOND: Duration = Duration::from_secs(1);

fn adaptive(most: usize) -> ClientOptions {
    ClientOptions {
        adaptive: true,
        ..at_once(most)
    }
}

/// Many who ask for ever.
fn ask_for_ever(client: &Arc<Client>) {
    for n in 0..200 {
        let client = Arc::clone(client);
        tokio::spawn(async move { while client.ask(&row(n)).await.is_ok() {} });
    }
}

/// The levels of the next so many seconds.
async fn levels(client: &Client, seconds: usize) -> Vec<usize> {
    let mut levels = Vec::new();
    for _ in 0..seconds {
        sleep(SECOND).await;
        levels.extend(client.level());
    }
    levels
}

#[tokio::test(start_paused = true)]
async fn what_there_may_be_is_changed_while_it_adapts_and_back() {
    let model = Scripted::slow(SECOND, |_, _| Ok(Answer::text("good")));
    let client = client(&model, adaptive(32));
    let now = || (client.level(), client.places(), client.concurrency());
    assert_eq!(now(), (Some(8), 8, 32));
    ask_for_ever(&client);
    sleep(20 * SECOND).await;
    assert_eq!((now(), model.most_at_once()), ((Some(32), 32, 32), 32));
    client.set_adaptive(4.try_into().unwrap());
    sleep(5 * SECOND).await;
    assert_eq!((now(), client.in_flight()), ((Some(4), 4, 4), 4));
    client.set_concurrency(20.try_into().unwrap());
    sleep(60 * SECOND).await;
    assert_eq!((now(), client.in_flight()), ((None, 20, 20), 20));
    // It begins with what was there.
    client.set_adaptive(100.try_into().unwrap());
    assert_eq!(now(), (Some(20), 20, 100));
    assert_eq!(levels(&client, 60).await.iter().max(), Some(&100));
    assert!(model.most_at_once() == 100);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_restarted_is_no_reason_to_ask_less() {
    let start = Instant::now();
    let model = Scripted::slow(SECOND, move |_, _| {
        match (100..280).contains(&start.elapsed().as_secs()) {
            true => Err(TransportError::new(TransportKind::Connect, "refused")),
            false => Ok(Answer::text("good")),
        }
    });
    let client = client(&model, adaptive(64));
    ask_for_ever(&client);
    sleep(99 * SECOND).await;
    assert!(client.in_flight() >= 45);
    let away = levels(&client, 180).await;
    let back = levels(&client, 60).await;
    assert_eq!(back.iter().max(), Some(&64), "{away:?} {back:?}");
    assert!(back.iter().all(|level| *level >= 45), "{back:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_somebody_asked_for_is_no_reason_to_ask_less() {
    let model = Scripted::slow(SECOND, |_, _| Ok(Answer::text("good")));
    let client = client(&model, adaptive(64));
    ask_for_ever(&client);
    for _ in 0..3 {
        // In the middle of the climb as well.
        sleep(7 * SECOND).await;
        client.hold();
        sleep(SECOND).await;
        let before = model.hits();
        sleep(300 * SECOND).await;
        assert_eq!(model.hits(), before);
        client.go_on();
    }
    assert_eq!(levels(&client, 40).await.iter().max(), Some(&64));
}

//! Limits of a plan.

use std::time::Duration;

use data_generation_fault_server::{FaultServer, Got, Latency, Limit, Plan};

use tokio::time::Instant;

use crate::client::Line;

fn limit(requests: Option<u64>, tokens: Option<u64>, retry_after: bool) -> Limit {
    Limit {
        window: Duration::from_millis(600),
        requests,
        tokens,
        retry_after,
    }
}

/// The seconds of `Retry-After` in an answer.
fn retry_after(answer: &str) -> Option<f64> {
    let value = answer.split("retry-after: ").nth(1)?.lines().next()?;
    Some(value.parse().unwrap())
}

#[tokio::test]
async fn whoever_is_too_quick_is_told_how_long_to_wait_and_the_wait_is_true() {
    let server = FaultServer::start(Plan::good().limit(limit(Some(2), None, true))).unwrap();
    let mut line = Line::to(server.address()).await.unwrap();
    assert!(line.ask(1).await.starts_with("HTTP/1.1 200"));
    assert!(line.ask(2).await.starts_with("HTTP/1.1 200"));
    let asked = Instant::now();
    let refused = line.ask(3).await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    let wait = retry_after(&refused).unwrap();
    assert!(wait > 0.0 && wait <= 0.601, "{wait}");
    while line.ask(3).await.starts_with("HTTP/1.1 429") {}
    let waited = asked.elapsed().as_secs_f64();
    // Not earlier than was said, and not much later.
    assert!(
        waited > wait - 0.002 && waited < wait + 0.3,
        "{waited} for {wait}"
    );
    let seen = server.stop();
    let good = seen.requests.iter().filter(|asked| asked.got == Got::Good);
    assert_eq!(good.count(), 3);
    assert!(seen.by_answer()["limit reached"] > 1);
}

#[tokio::test]
async fn tokens_are_limited_too_and_the_wait_can_be_left_out() {
    // A question and its answer are ten tokens.
    let server = FaultServer::start(Plan::good().limit(limit(None, Some(19), false))).unwrap();
    let mut line = Line::to(server.address()).await.unwrap();
    assert!(line.ask(1).await.starts_with("HTTP/1.1 200"));
    let refused = line.ask(2).await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert_eq!(retry_after(&refused), None);
}

#[tokio::test]
async fn more_at_the_same_time_than_planned_are_refused_and_counted() {
    let slow = Latency::Fixed(Duration::from_millis(300));
    let server = FaultServer::start(Plan::good().latency(slow).concurrency(2)).unwrap();
    let mut lines = Vec::new();
    for row in 0..3 {
        let mut line = Line::to(server.address()).await.unwrap();
        line.send(row).await.unwrap();
        lines.push(line);
    }
    let mut statuses = Vec::new();
    for line in &mut lines {
        statuses.push(line.answer().await[9..12].to_owned());
    }
    statuses.sort();
    assert_eq!(statuses, ["200", "200", "429"]);
    assert_eq!(server.seen().at_once, 3);
}

#[tokio::test]
async fn what_more_at_the_same_time_get_may_be_another_status_and_comes_at_once() {
    let slow = Latency::Fixed(Duration::from_millis(300));
    let plan = Plan::good().latency(slow).concurrency(1);
    let server = FaultServer::start(plan.busy(503, "no slot available")).unwrap();
    let mut first = Line::to(server.address()).await.unwrap();
    first.send(0).await.unwrap();
    let mut second = Line::to(server.address()).await.unwrap();
    while server.seen().total() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let refused = second.ask(1).await;
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.ends_with("no slot available"),
        "{refused}"
    );
    assert!(first.answer().await.starts_with("HTTP/1.1 200"));
    assert!(second.ask(1).await.starts_with("HTTP/1.1 200"));
}

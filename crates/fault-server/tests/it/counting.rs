//! Who meets a fault, how often, and what is counted.

use std::time::Duration;

use data_generation_fault_server::{Down, FaultServer, Got, Plan, Times, Who};

use crate::client::{Line, fault};

/// The statuses that these rows get, one after another on one connection.
async fn statuses(plan: Plan, rows: &[u64]) -> (Vec<u16>, FaultServer) {
    let server = FaultServer::start(plan).unwrap();
    let mut line = Line::to(server.address()).await.unwrap();
    let mut statuses = Vec::new();
    for row in rows {
        let answer = line.ask(*row).await;
        statuses.push(answer[9..12].parse().unwrap());
    }
    (statuses, server)
}

fn teapot(who: Who, times: Times) -> Plan {
    Plan::good().fault(fault("teapot"), who, times)
}

#[tokio::test]
async fn a_fault_meets_its_rows_as_often_as_planned() {
    let rows = [4, 4, 6, 6, 4, 6];
    for (who, times, expected) in [
        (Who::FirstRow, Times::Once, [418, 200, 200, 200, 200, 200]),
        (Who::FirstRow, Times::Always, [418, 418, 200, 200, 418, 200]),
        (
            Who::Arrival(1),
            Times::First(2),
            [200, 200, 418, 418, 200, 200],
        ),
        (Who::Row(6), Times::Always, [200, 200, 418, 418, 200, 418]),
        (
            Who::EveryNth(3),
            Times::Once,
            [200, 200, 418, 200, 200, 200],
        ),
        (Who::Every, Times::Once, [418, 200, 418, 200, 200, 200]),
    ] {
        let name = format!("{who:?} {times:?}");
        let (got, _) = statuses(teapot(who, times), &rows).await;
        assert_eq!(got, expected, "{name}");
    }
}

#[tokio::test]
async fn of_several_rules_the_first_one_holds() {
    let plan = teapot(Who::Row(4), Times::Once).fault(fault("gone"), Who::Every, Times::Once);
    let (got, server) = statuses(plan, &[4, 4, 4, 5]).await;
    assert_eq!(got, [418, 410, 200, 410]);
    let answers: Vec<_> = server.seen().by_answer().into_iter().collect();
    let expected = [("gone", 2), ("good answer", 1), ("teapot", 1)];
    assert_eq!(
        answers,
        expected.map(|(name, times)| (name.to_owned(), times))
    );
}

#[tokio::test]
async fn everything_that_was_asked_is_remembered() {
    let (_, server) = statuses(Plan::good(), &[4, 6, 4]).await;
    let seen = server.seen();
    assert_eq!((seen.total(), seen.connections, seen.at_once), (3, 1, 1));
    assert_eq!(
        seen.by_row().into_iter().collect::<Vec<_>>(),
        [(4, 2), (6, 1)]
    );
    let rows: Vec<u64> = seen.times().iter().map(|(_, row)| *row).collect();
    assert_eq!(rows, [4, 6, 4]);
    assert!(seen.times().is_sorted_by_key(|(time, _)| *time));
    let last = seen.of_row(4).last().unwrap();
    assert_eq!((last.nth, last.got), (2, Got::Good));
    assert_eq!(last.header("x-test"), Some("yes"));
    assert_eq!(last.body["messages"][0]["content"], "row 4");
    assert!(last.until.is_none_or(|until| until >= last.at));
    assert_eq!(seen.most_within(Duration::from_secs(60)), 3);
    assert_eq!(seen.most_within(Duration::ZERO), 0);
    assert_eq!(server.stop().total(), 3);
}

#[tokio::test]
async fn the_answer_can_be_another_one() {
    let plan =
        Plan::good().answers(|question| format!("\"{}\" for the {}.", question.user, question.nth));
    let server = FaultServer::start(plan).unwrap();
    let mut line = Line::to(server.address()).await.unwrap();
    line.ask(4).await;
    let answer = line.ask(4).await;
    assert!(
        answer.contains(r#""content":"\"row 4\" for the 2.""#),
        "{answer}"
    );
}

#[tokio::test]
async fn a_status_can_stand_for_an_endpoint_that_is_down() {
    let hour = Duration::from_secs(3600);
    let plan = Plan::good().outage(Duration::ZERO, hour, Down::Status(503));
    let (got, server) = statuses(plan, &[1]).await;
    assert_eq!(
        (got, server.seen().requests[0].got),
        (vec![503], Got::Down(503))
    );
    let (got, _) = statuses(Plan::good().outage(hour, hour * 2, Down::Status(503)), &[1]).await;
    assert_eq!(got, [200]);
}

#[tokio::test]
async fn nobody_listens_in_the_time_that_is_planned_for_it() {
    let ms = Duration::from_millis;
    let plan = Plan::good().outage(ms(200), ms(500), Down::Refused);
    let server = FaultServer::start(plan).unwrap();
    let mut line = Line::to(server.address()).await.unwrap();
    line.ask(1).await;
    // It ends when the server goes away.
    while line.rest().await.1 == crate::client::End::Open {}
    assert!(Line::to(server.address()).await.is_err());
    let mut back = loop {
        match Line::to(server.address()).await {
            Ok(line) => break line,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert!(back.ask(2).await.contains("answer to row 2"));
    assert_eq!(server.stop().total(), 2);
}

#[test]
fn a_server_on_a_thread_of_its_own_ends_with_its_value() {
    use std::io::{Read, Write};
    let server = FaultServer::start_blocking(Plan::good()).unwrap();
    let address = server.address();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("fault-server-1"), "{answer}");
    assert_eq!(server.seen().total(), 0, "it is no question");
    drop(server);
    assert!(std::net::TcpStream::connect(address).is_err());
}

//! What each kind of play really does on the wire.

use std::io;
use std::time::Duration;

use data_generation_fault_server::{FaultServer, Plan, Times, Who};
use flate2::read::GzDecoder;
use tokio::time::Instant;

use crate::client::{End, Line, always, fault, on_the_wire};

fn text(body: &[u8]) -> &str {
    std::str::from_utf8(body).unwrap()
}

fn is_good(body: &[u8]) -> bool {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    body["choices"][0]["message"]["content"] == "<draft>answer to row 7</draft>"
}

#[tokio::test]
async fn an_answer_has_its_status_headers_and_body_and_the_connection_stays_open() {
    let (head, body, end) = on_the_wire("retry-after-date").await;
    assert!(
        head.starts_with("HTTP/1.1 429 Too Many Requests\r\n"),
        "{head}"
    );
    assert!(
        head.contains("\r\ndate: Wed, 21 Oct 2015 07:28:00 GMT\r\n"),
        "{head}"
    );
    assert!(
        head.contains("\r\nretry-after: Wed, 21 Oct 2015 07:28:01 GMT\r\n"),
        "{head}"
    );
    assert!(
        head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())),
        "{head}"
    );
    assert!(text(&body).contains("Rate limit reached"));
    assert_eq!(end, End::Open);
}

#[tokio::test]
async fn an_odd_answer_holds_the_answer_of_its_row() {
    let (_, body, _) = on_the_wire("good").await;
    assert!(is_good(&body));
    let (_, body, _) = on_the_wire("stream").await;
    assert!(text(&body).contains(r#"{"content":"<draft>answer to row 7</draft>"}"#));
    let (_, body, _) = on_the_wire("neighbour-deep").await;
    assert!(body.len() > 200_000 && text(&body).contains("answer to row 7"));
    let (_, body, _) = on_the_wire("invalid-utf8").await;
    assert!(std::str::from_utf8(&body).is_err());
}

#[tokio::test]
async fn a_status_that_has_no_body_has_no_length_either() {
    let (head, body, end) = on_the_wire("no-content").await;
    assert!(head.starts_with("HTTP/1.1 204") && !head.contains("content-length"));
    assert_eq!((body.len(), end), (0, End::Open));
}

#[tokio::test]
async fn a_compressed_answer_and_a_bomb_unpack_to_what_they_say() {
    let (head, body, _) = on_the_wire("compressed").await;
    assert!(head.contains("content-encoding: gzip"));
    assert!(is_good(
        io::read_to_string(GzDecoder::new(&*body))
            .unwrap()
            .as_bytes()
    ));
    let (head, body, end) = on_the_wire("gzip-bomb").await;
    assert!(head.contains("content-encoding: gzip"));
    assert!(body.len() < 4 << 20, "{} bytes", body.len());
    // What the trailer says, for nobody here wants to unpack it: a gigabyte.
    assert_eq!(body[body.len() - 4..], (1u32 << 30).to_le_bytes());
    assert_eq!(end, End::Open);
    let (head, body, _) = on_the_wire("bomb").await;
    assert!(head.contains("content-length: 104857600\r\n"), "{head}");
    assert_eq!(body.len(), 100 << 20);
}

#[tokio::test]
async fn chunks_are_whole_or_cut() {
    let (head, body, end) = on_the_wire("chunked").await;
    assert!(head.contains("transfer-encoding: chunked"));
    assert!(text(&body).starts_with("30\r\n{") && text(&body).ends_with("\r\n0\r\n\r\n"));
    assert_eq!(end, End::Open);
    let (_, body, end) = on_the_wire("cut-chunks").await;
    assert!(!text(&body).contains("\r\n0\r\n"));
    assert_eq!(end, End::Closed);
}

#[tokio::test]
async fn an_answer_may_end_with_its_connection() {
    let (head, body, end) = on_the_wire("until-close").await;
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n") && !head.contains("content-length"));
    assert!(is_good(&body) && end == End::Closed);
    let (head, body, end) = on_the_wire("close-after-answer").await;
    assert!(!head.contains("connection: close"), "nothing is said of it");
    assert!(is_good(&body) && end == End::Closed);
}

#[tokio::test]
async fn something_may_come_before_the_answer() {
    let (head, rest, end) = on_the_wire("early-hints-first").await;
    assert!(head.starts_with("HTTP/1.1 103 "));
    assert!(text(&rest).starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(end, End::Open);
    let (head, body, _) = on_the_wire("header-beyond-bounds").await;
    assert!(head.len() > 2 << 20 && is_good(&body));
}

#[tokio::test]
async fn what_is_cut_is_cut_where_it_should_be() {
    let (head, body, end) = on_the_wire("cut-head").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && !head.contains("\r\n\r\n"));
    assert_eq!((body.len(), end), (0, End::Closed));
    let (head, body, end) = on_the_wire("cut-body").await;
    assert!(head.ends_with("\r\n\r\n"));
    assert_eq!((body.len(), end), (40, End::Closed));
    let (head, body, end) = on_the_wire("cut-before-body").await;
    assert!(head.ends_with("\r\n\r\n"));
    assert_eq!((body.len(), end), (0, End::Closed));
    let (head, _, end) = on_the_wire("not-http").await;
    assert_eq!(
        (head.as_str(), end),
        ("SSH-2.0-OpenSSH_9.9\r\n", End::Closed)
    );
    let (head, body, end) = on_the_wire("length-too-small").await;
    assert!(head.contains("content-length: 21\r\n") && body.len() > 21);
    assert_eq!(end, End::Closed);
}

#[tokio::test]
async fn a_closed_and_a_reset_connection_are_two_things() {
    let (head, _, end) = on_the_wire("keep-alive-race").await;
    assert_eq!((head.as_str(), end), ("", End::Closed));
    let (head, _, end) = on_the_wire("reset-before-answer").await;
    assert_eq!((head.as_str(), end), ("", End::Reset));
    let server = FaultServer::start(always("reset-inside-answer")).unwrap();
    let mut line = Line::to(server.address()).await.unwrap();
    line.send(7).await.unwrap();
    // The bytes arrive before the reset does, which would take them away.
    assert!(line.some().await > 0);
    let mut end = line.rest().await.1;
    while end == End::Open {
        end = line.rest().await.1;
    }
    assert_eq!(end, End::Reset);
}

#[tokio::test]
async fn a_silent_server_says_nothing_and_a_stalled_one_nothing_more() {
    let (head, _, end) = on_the_wire("silent").await;
    assert_eq!((head.as_str(), end), ("", End::Open));
    let (head, body, end) = on_the_wire("stalled").await;
    assert!(head.ends_with("\r\n\r\n"));
    assert_eq!((body.len(), end), (40, End::Open));
}

#[tokio::test]
async fn a_drip_comes_byte_by_byte() {
    let plan = Plan::good()
        .hurried(100)
        .fault(fault("drip"), Who::Every, Times::Always);
    let server = FaultServer::start(plan).unwrap();
    let mut line = Line::to(server.address()).await.unwrap();
    line.send(7).await.unwrap();
    // The head comes at once, the first byte of the body perhaps with it.
    line.some().await;
    let start = Instant::now();
    let mut bytes = 0;
    for _ in 0..6 {
        bytes += line.some().await;
    }
    assert!(bytes < 20, "{bytes} bytes");
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn white_space_comes_for_a_while_before_the_answer() {
    let start = Instant::now();
    let plan = Plan::good().hurried(300);
    let plan = plan.fault(fault("blanks-before-the-json"), Who::Every, Times::Always);
    let server = FaultServer::start(plan).unwrap();
    let mut line = Line::to(server.address()).await.unwrap();
    let answer = line.ask(7).await;
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(body.starts_with(&" ".repeat(40)) && is_good(body.as_bytes()));
    assert!(start.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn a_server_that_dies_takes_all_connections_along_and_comes_back_on_the_same_port() {
    let plan = Plan::good().fault(fault("refused"), Who::Row(7), Times::Once);
    let server = FaultServer::start(plan).unwrap();
    let mut other = Line::to(server.address()).await.unwrap();
    assert!(other.ask(1).await.contains("answer to row 1"));
    let mut line = Line::to(server.address()).await.unwrap();
    line.send(7).await.unwrap();
    let died = Instant::now();
    assert_eq!(line.rest().await.1, End::Reset);
    assert_ne!(other.rest().await.1, End::Open);
    let refused = Line::to(server.address()).await.err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let mut back = loop {
        match Line::to(server.address()).await {
            Ok(line) => break line,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert!(died.elapsed() >= Duration::from_millis(250));
    assert!(back.ask(7).await.contains("answer to row 7"));
}

#[tokio::test]
async fn a_server_that_is_never_there_refuses_from_the_beginning() {
    let server = FaultServer::start(always("refused")).unwrap();
    for _ in 0..3 {
        let refused = Line::to(server.address()).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}

#[tokio::test]
async fn an_address_says_what_the_fault_needs() {
    let url = |name| FaultServer::start(always(name)).unwrap().url().to_owned();
    assert!(url("good").starts_with("http://127.0.0.1:"));
    assert!(url("no-such-host").contains(".invalid:"));
    assert!(url("not-tls").starts_with("https://127.0.0.1:"));
    assert!(url("bad-certificate").starts_with("https://127.0.0.1:"));
    assert!(url("http2-goaway").starts_with("https://localhost:"));
}

#[tokio::test]
async fn whoever_speaks_no_http_gets_an_answer_at_once() {
    let server = FaultServer::start(always("not-tls")).unwrap();
    let mut stream = tokio::net::TcpStream::connect(server.address())
        .await
        .unwrap();
    let hello = b"\x16\x03\x01\x00\x05hello";
    tokio::io::AsyncWriteExt::write_all(&mut stream, hello)
        .await
        .unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer)
        .await
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
}

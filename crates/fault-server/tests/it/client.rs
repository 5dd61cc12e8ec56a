//! A client that sees every byte.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use data_generation_fault_server::{Fault, FaultServer, Plan, Times, Who};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long nothing has to come until it is believed that nothing comes.
const QUIET: Duration = Duration::from_millis(150);

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The connection is open, and nothing more comes.
    Open,
    Closed,
    Reset,
}

/// A connection and what came over it.
pub(crate) struct Line {
    stream: TcpStream,
}

impl Line {
    pub(crate) async fn to(address: SocketAddr) -> io::Result<Line> {
        let stream = TcpStream::connect(address).await?;
        Ok(Line { stream })
    }

    pub(crate) async fn send(&mut self, row: u64) -> io::Result<()> {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"row {row}"}}]}}"#);
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-test: yes\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.stream.write_all((head + &body).as_bytes()).await
    }

    /// All bytes until there are no more, and why there are no more.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, End) {
        let mut bytes = Vec::new();
        loop {
            match timeout(QUIET, self.stream.read_buf(&mut bytes)).await {
                Err(_) => return (bytes, End::Open),
                Ok(Ok(0)) => return (bytes, End::Closed),
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return (bytes, End::Reset);
                }
                Ok(Err(error)) => panic!("{error}"),
            }
        }
    }

    /// The bytes that come next, as soon as there are any.
    pub(crate) async fn some(&mut self) -> usize {
        let mut bytes = Vec::new();
        self.stream.read_buf(&mut bytes).await.unwrap()
    }

    /// One whole answer of a known length, as text.
    pub(crate) async fn answer(&mut self) -> String {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.split("content-length: ").nth(1).unwrap();
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if body.len() >= length {
                    return text;
                }
            }
            assert!(
                self.stream.read_buf(&mut bytes).await.unwrap() > 0,
                "{text}"
            );
        }
    }

    pub(crate) async fn ask(&mut self, row: u64) -> String {
        self.send(row).await.unwrap();
        self.answer().await
    }
}

pub(crate) fn fault(name: &str) -> &'static Fault {
    Fault::named(name).unwrap_or_else(|| panic!("`{name}` is not in the table"))
}

/// A plan that plays one fault for everybody, for ever, stalling twenty times as fast as in life.
pub(crate) fn always(name: &str) -> Plan {
    Plan::good()
        .hurried(20)
        .fault(fault(name), Who::Every, Times::Always)
}

/// What a fault puts on the wire: head, body, end.
pub(crate) async fn on_the_wire(name: &str) -> (String, Vec<u8>, End) {
    let server = FaultServer::start(always(name)).unwrap();
    let mut line = Line::to(server.address()).await.unwrap();
    line.send(7).await.unwrap();
    let (bytes, end) = line.rest().await;
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let split = split.map_or(bytes.len(), |at| at + 4);
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    (head, bytes[split..].to_vec(), end)
}

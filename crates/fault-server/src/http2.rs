use std::collections::HashMap;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::server::TlsStream;

use crate::fault::Play;
use crate::http::Request;
use crate::play::{LIMITED, swallow};
use crate::shared::{Act, Shared};
use crate::table::GOOD;
use crate::tls;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Types and flags of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;

/// Just enough HTTP/2 to leave a request out: questions are answered one after another, their headers
/// are not read.
pub(crate) async fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let stream = tls::handshake(stream, &[b"h2"]).await?;
    let mut connection = Connection { stream, last: 0 };
    let mut preface = [0; PREFACE.len()];
    connection.stream.read_exact(&mut preface).await?;
    if preface != PREFACE {
        return Ok(());
    }
    connection.send(SETTINGS, 0, 0, &[]).await?;
    let mut bodies: HashMap<u32, Vec<u8>> = HashMap::new();
    loop {
        let frame = connection.receive().await?;
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => {
                connection.send(SETTINGS, ACK, 0, &[]).await?;
            }
            PING if frame.flags & ACK == 0 => {
                connection.send(PING, ACK, 0, &frame.payload).await?;
            }
            DATA if !frame.payload.is_empty() => {
                // What was read makes room for as much.
                let read = (frame.payload.len() as u32).to_be_bytes();
                connection.send(WINDOW_UPDATE, 0, 0, &read).await?;
                connection
                    .send(WINDOW_UPDATE, 0, frame.stream, &read)
                    .await?;
            }
            GOAWAY => return Ok(()),
            _ => {}
        }
        if !matches!(frame.kind, DATA | HEADERS) {
            continue;
        }
        let body = bodies.entry(frame.stream).or_default();
        if frame.kind == DATA {
            body.extend_from_slice(&frame.payload);
        }
        if frame.flags & END_STREAM == 0 {
            continue;
        }
        let body = bodies.remove(&frame.stream).unwrap_or_default();
        let ended = connection.answer(frame.stream, body, shared).await?;
        if ended == Ended::Yes {
            return connection.leave(frame.stream, bodies.into_keys()).await;
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Yes,
    No,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

struct Connection {
    stream: TlsStream<TcpStream>,
    /// The last request that was worked on.
    last: u32,
}

impl Connection {
    async fn answer(&mut self, id: u32, body: Vec<u8>, shared: &Shared) -> io::Result<Ended> {
        let request = Request {
            body,
            ..Request::default()
        };
        let turn = shared.arrive(request);
        sleep(turn.latency).await;
        let (status, body) = match turn.act {
            Act::Good => (200, turn.values.fill(GOOD)),
            Act::Limited(_) => (429, LIMITED.to_owned()),
            Act::Busy(status, words) => (status, words.to_owned()),
            Act::Status(status) => (status, String::new()),
            Act::Fault(fault) => match fault.play {
                Play::NotProcessed { goaway: true } => return Ok(Ended::Yes),
                Play::NotProcessed { goaway: false } => {
                    self.reset(id, REFUSED_STREAM).await?;
                    return Ok(Ended::No);
                }
                Play::Answer { status, body, .. } => (status, turn.values.fill(body)),
                _ => {
                    self.reset(id, INTERNAL_ERROR).await?;
                    return Ok(Ended::No);
                }
            },
        };
        self.last = self.last.max(id);
        // `:status` by its number in the table of names, its value as it is.
        let mut head = vec![0x48, 3];
        head.extend_from_slice(format!("{status:03}").as_bytes());
        self.send(HEADERS, END_HEADERS, id, &head).await?;
        self.send(DATA, END_STREAM, id, body.as_bytes()).await?;
        Ok(Ended::No)
    }

    /// Leaves the connection, with one request and all that are not there yet left out.
    async fn leave(mut self, id: u32, open: impl Iterator<Item = u32>) -> io::Result<()> {
        // `GOAWAY` names the last request that was worked on and speaks for those behind it alone. Bodies come in
        // any order: whoever is before it and was not worked on has to be told by itself.
        let last = self.last;
        for id in open.chain([id]).filter(|id| *id < last) {
            self.reset(id, REFUSED_STREAM).await?;
        }
        let mut payload = last.to_be_bytes().to_vec();
        // The reason: none.
        payload.extend_from_slice(&[0; 4]);
        self.send(GOAWAY, 0, 0, &payload).await?;
        self.stream.shutdown().await?;
        swallow(&mut self.stream).await
    }

    async fn reset(&mut self, id: u32, reason: u32) -> io::Result<()> {
        self.send(RST_STREAM, 0, id, &reason.to_be_bytes()).await
    }

    async fn receive(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).await?;
        Ok(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
            payload,
        })
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
        let mut frame = vec![a, b, c, kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await?;
        self.stream.flush().await
    }
}

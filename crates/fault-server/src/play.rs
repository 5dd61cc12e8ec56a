use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::bomb;
use crate::fault::Play;
use crate::http::{answer, answer_head};
use crate::shared::{Act, Shared, Turn, Values};
use crate::table::GOOD;

/// How long bytes may need to reach a reader before the reset that follows them.
const ARRIVAL: Duration = Duration::from_millis(150);

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Open,
    Close,
}

/// Does on the wire what was decided.
pub(crate) async fn play(
    stream: &mut TcpStream,
    turn: &Turn<'_>,
    shared: &Shared,
) -> io::Result<After> {
    match turn.act {
        Act::Good => good(stream, &turn.values).await,
        Act::Fault(fault) => one(stream, fault.play, &turn.values, shared).await,
        Act::Limited(wait) => {
            let seconds = wait.map(retry_after);
            let headers = seconds.iter().map(|seconds| ("retry-after", &**seconds));
            let headers: Vec<_> = headers.collect();
            whole(stream, &answer(429, &headers, LIMITED.as_bytes())).await
        }
        Act::Busy(status, words) => whole(stream, &answer(status, &[], words.as_bytes())).await,
        Act::Status(status) => whole(stream, &answer(status, &[], b"")).await,
    }
}

/// What is said to whoever exceeds a limit of the plan.
pub(crate) const LIMITED: &str =
    r#"{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}"#;

/// Seconds with three decimals, rounded up: whoever waits so long is not too early.
fn retry_after(wait: Duration) -> String {
    format!("{:.3}", wait.as_secs_f64() + 0.0005)
}

async fn one(
    stream: &mut TcpStream,
    play: Play,
    values: &Values,
    shared: &Shared,
) -> io::Result<After> {
    let text = values.fill(GOOD);
    let body = text.as_bytes();
    let hurry = shared.plan.hurry;
    match play {
        Play::Answer {
            status,
            headers,
            body,
        } => {
            let body = values.fill(body);
            whole(stream, &answer(status, headers, body.as_bytes())).await
        }
        Play::Bytes(bytes) => whole(stream, &answer(200, &[], bytes)).await,
        Play::Deep(depth) => {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            let body = format!("{{\"deep\":{open}{close},{}", &text[1..]);
            whole(stream, &answer(200, &[], body.as_bytes())).await
        }
        Play::Gzip => {
            let headers = [("content-encoding", "gzip")];
            whole(stream, &answer(200, &headers, &bomb::gzip(body)?)).await
        }
        Play::Bomb { bytes, gzip: true } => {
            let headers = [("content-encoding", "gzip")];
            whole(stream, &answer(200, &headers, &bomb::blanks(bytes)?)).await
        }
        Play::Bomb { bytes, gzip: false } => flood(stream, bytes).await,
        Play::Chunked { cut } => chunks(stream, body, cut).await,
        Play::UntilClose => {
            let head = "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n";
            part(stream, head.as_bytes()).await?;
            part(stream, body).await
        }
        Play::Before(bytes) => {
            part(stream, bytes.as_bytes()).await?;
            good(stream, values).await
        }
        Play::LongHeader(length) => {
            let value = "x".repeat(length);
            whole(stream, &answer(200, &[("x-long", &value)], body)).await
        }
        Play::Blanks { bytes, every } => {
            let head = answer_head(200, &[], bytes as usize + body.len());
            part(stream, head.as_bytes()).await?;
            for _ in 0..bytes {
                part(stream, b" ").await?;
                sleep(every / hurry).await;
            }
            whole(stream, body).await
        }
        Play::Drip { every } => {
            part(stream, answer_head(200, &[], body.len()).as_bytes()).await?;
            for byte in body {
                part(stream, &[*byte]).await?;
                sleep(every / hurry).await;
            }
            Ok(After::Open)
        }
        Play::CloseAfterAnswer => {
            good(stream, values).await?;
            Ok(After::Close)
        }
        Play::Raw(text) => part(stream, values.fill(text).as_bytes()).await,
        Play::CutHead => {
            let head = answer_head(200, &[], body.len());
            part(stream, &head.as_bytes()[..head.len() / 2]).await
        }
        Play::CutBody(bytes) => beginning(stream, body, bytes).await,
        Play::CloseAfterRequest => Ok(After::Close),
        Play::Reset(bytes) => {
            if let Some(bytes) = bytes {
                beginning(stream, body, bytes).await?;
                sleep(ARRIVAL).await;
            }
            stream.set_zero_linger()?;
            Ok(After::Close)
        }
        Play::Silent => {
            swallow(stream).await?;
            Ok(After::Close)
        }
        Play::Stall(bytes) => {
            beginning(stream, body, bytes).await?;
            swallow(stream).await?;
            Ok(After::Close)
        }
        Play::Refused(gone_for) => {
            stream.set_zero_linger()?;
            // The receiver breaks this connection off. Where there is none, the server is at its end.
            match shared.away.send(gone_for / hurry) {
                Ok(()) => std::future::pending().await,
                Err(_) => Ok(After::Close),
            }
        }
        // Whoever got here in spite of it has earned an answer.
        Play::NoSuchHost | Play::NotTls | Play::SilentTls | Play::SelfSigned => {
            good(stream, values).await
        }
        Play::NotProcessed { .. } => Ok(After::Close),
    }
}

async fn good(stream: &mut TcpStream, values: &Values) -> io::Result<After> {
    whole(stream, &answer(200, &[], values.fill(GOOD).as_bytes())).await
}

async fn whole(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<After> {
    stream.write_all(bytes).await?;
    Ok(After::Open)
}

async fn part(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<After> {
    stream.write_all(bytes).await?;
    Ok(After::Close)
}

/// The head of an answer and so much of its body.
async fn beginning(stream: &mut TcpStream, body: &[u8], bytes: usize) -> io::Result<After> {
    part(stream, answer_head(200, &[], body.len()).as_bytes()).await?;
    part(stream, &body[..bytes.min(body.len())]).await
}

async fn flood(stream: &mut TcpStream, bytes: u64) -> io::Result<After> {
    let blanks = [b' '; 64 << 10];
    let length = usize::try_from(bytes).unwrap_or(usize::MAX);
    part(stream, answer_head(200, &[], length).as_bytes()).await?;
    let mut left = length;
    while left > 0 {
        let now = left.min(blanks.len());
        stream.write_all(&blanks[..now]).await?;
        left -= now;
    }
    Ok(After::Open)
}

async fn chunks(stream: &mut TcpStream, body: &[u8], cut: bool) -> io::Result<After> {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    part(stream, head.as_bytes()).await?;
    let sent = if cut { &body[..body.len() / 2] } else { body };
    for chunk in sent.chunks(48) {
        part(stream, format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
        part(stream, chunk).await?;
        part(stream, b"\r\n").await?;
    }
    match cut {
        true => Ok(After::Close),
        false => whole(stream, b"0\r\n\r\n").await,
    }
}

/// Says nothing until the other side has had enough.
pub(crate) async fn swallow(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut nowhere = [0; 4096];
    while stream.read(&mut nowhere).await? > 0 {}
    Ok(())
}

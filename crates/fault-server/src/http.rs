use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of a head, at most.
const HEAD: usize = 64 << 10;
/// Bytes of a body, at most.
const BODY: usize = 256 << 20;

/// One request as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether somebody asks the model.
    pub(crate) fn is_question(&self) -> bool {
        self.method == "POST" && self.path.ends_with("/chat/completions")
    }
}

/// Reads requests from a connection, one after another.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    /// What came and is not used yet.
    bytes: Vec<u8>,
}

impl Incoming {
    /// The next request; `None` when the connection was closed instead.
    pub(crate) async fn next<S>(&mut self, stream: &mut S) -> io::Result<Option<Request>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let end = loop {
            if let Some(at) = find(&self.bytes, b"\r\n\r\n") {
                break at + 4;
            }
            // A TLS handshake never holds an empty line; whoever begins one must not wait for ever.
            if self
                .bytes
                .first()
                .is_some_and(|byte| !byte.is_ascii_uppercase())
            {
                return Err(invalid("this is no HTTP"));
            }
            if self.bytes.len() > HEAD {
                return Err(invalid("the head of a request is too long"));
            }
            if stream.read_buf(&mut self.bytes).await? == 0 {
                return Ok(None);
            }
        };
        let mut request = head(&self.bytes[..end])?;
        self.bytes.drain(..end);
        let length = match request.header("content-length") {
            Some(length) => length
                .parse()
                .map_err(|_| invalid("content-length is no number"))?,
            None if request.header("transfer-encoding").is_some() => {
                return Err(invalid("a request in chunks is not understood"));
            }
            None => 0,
        };
        if length > BODY {
            return Err(invalid("the body of a request is too long"));
        }
        if self.bytes.len() < length
            && request
                .header("expect")
                .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
        {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        while self.bytes.len() < length {
            if stream.read_buf(&mut self.bytes).await? == 0 {
                return Ok(None);
            }
        }
        request.body = self.bytes.drain(..length).collect();
        Ok(Some(request))
    }
}

fn head(bytes: &[u8]) -> io::Result<Request> {
    let text = std::str::from_utf8(bytes).map_err(|_| invalid("the head is no text"))?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(path), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return Err(invalid("this is no HTTP"));
    };
    if !version.starts_with("HTTP/1.") {
        return Err(invalid("this is no HTTP/1.1"));
    }
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()));
    Ok(Request {
        method: method.to_owned(),
        path: path.split('?').next().unwrap_or_default().to_owned(),
        headers: headers.collect(),
        body: Vec::new(),
    })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// The head of an answer, up to and with the empty line.
pub(crate) fn answer_head(status: u16, headers: &[(&str, &str)], length: usize) -> String {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
    {
        head.push_str("content-type: application/json\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    // These two never have a body, and a length beside them is a fault of its own.
    if !matches!(status, 204 | 304) {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    head.push_str("\r\n");
    head
}

/// A whole answer.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = answer_head(status, headers, body.len()).into_bytes();
    if !matches!(status, 204 | 304) {
        bytes.extend_from_slice(body);
    }
    bytes
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Said",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &str) -> io::Result<Vec<Request>> {
        let (mut client, mut server) = tokio::io::duplex(1 << 16);
        client.write_all(text.as_bytes()).await?;
        client.shutdown().await?;
        let mut incoming = Incoming::default();
        let mut requests = Vec::new();
        while let Some(request) = incoming.next(&mut server).await? {
            requests.push(request);
        }
        Ok(requests)
    }

    #[tokio::test]
    async fn requests_are_read_one_after_another() {
        let text = "POST /v1/chat/completions?x=1 HTTP/1.1\r\nContent-Length: 2\r\nX-A: b\r\n\r\n{}GET /health HTTP/1.1\r\n\r\n";
        let requests = read(text).await.unwrap();
        assert_eq!(requests.len(), 2);
        assert!(requests[0].is_question() && !requests[1].is_question());
        assert_eq!(requests[0].body, b"{}");
        assert_eq!(requests[0].header("x-a"), Some("b"));
        assert_eq!(requests[1].path, "/health");
    }

    #[tokio::test]
    async fn what_is_no_http_is_refused_and_a_half_request_is_none() {
        assert!(read("\x16\x03\x01 hello\r\n\r\n").await.is_err());
        assert!(read("PRI * HTTP/2.0\r\n\r\n").await.is_err());
        assert!(
            read("POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n")
                .await
                .is_err()
        );
        let half = "POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n{}";
        assert!(read(half).await.unwrap().is_empty());
        assert!(read("POST / HT").await.unwrap().is_empty());
    }
}

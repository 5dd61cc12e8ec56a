//! A server that speaks just enough HTTP to answer chat requests, faster than anybody asks.
//!
//! One thread and one loop over ready sockets: no task, no timer and no allocation for a request, so that what
//! is measured is the client. It also counts, by its own clock, and says so at `/stats`; `/reset` forgets.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::stats::{Stats, now_ns, own_cpu};
use crate::{output, reply};

const LISTENER: Token = Token(usize::MAX);
/// Connections that may wait to be accepted: thousands come in one moment.
const BACKLOG: i32 = 4096;

/// Serves until standard input ends; the first line on standard output is the address.
pub(crate) fn serve(latency: Duration) -> Result<(), String> {
    raise_files();
    let mut server = Server::bind(latency).map_err(|error| format!("could not listen: {error}"))?;
    output::line(&server.url());
    // Whoever started it may be killed: then nobody would stop it.
    std::thread::spawn(|| {
        drop(io::copy(&mut io::stdin(), &mut io::sink()));
        std::process::abort();
    });
    server
        .work()
        .map_err(|error| format!("the server broke: {error}"))
}

/// Each connection is an open file.
pub(crate) fn raise_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        output::note("bench: the limit of open files stays as it is");
    }
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    latency: Duration,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Answers that are not due yet, in order; every request waits equally long.
    due: VecDeque<Due>,
    next_serial: u64,
    answer: Vec<u8>,
    stats: Stats,
    cpu_before: Duration,
}

struct Due {
    at: Instant,
    connection: usize,
    serial: u64,
}

struct Connection {
    stream: TcpStream,
    /// Tells it from others that had its place.
    serial: u64,
    input: Vec<u8>,
    /// What the socket did not take yet.
    output: Vec<u8>,
    asked: bool,
}

/// What stands at the beginning of a connection's input.
#[derive(Debug, PartialEq)]
enum Request {
    /// More has to come.
    Part,
    /// A question that takes so many bytes.
    Question(usize),
    /// A word to the server itself, and its bytes.
    Control(String, usize),
}

impl Server {
    fn bind(latency: Duration) -> io::Result<Server> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Server {
            poll,
            listener,
            latency,
            connections: Vec::new(),
            free: Vec::new(),
            due: VecDeque::new(),
            next_serial: 0,
            answer: reply::on_the_wire(&reply::body()),
            stats: Stats::default(),
            cpu_before: Duration::ZERO,
        })
    }

    fn url(&self) -> String {
        self.listener
            .local_addr()
            .map_or_else(|_| String::new(), |at| format!("http://{at}"))
    }

    fn work(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut block = vec![0; 64 * 1024];
        loop {
            let wait = self
                .due
                .front()
                .map(|due| due.at.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other?,
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept()?;
                } else if event.is_readable() || event.is_read_closed() {
                    self.read(event.token().0, &mut block, event.is_read_closed());
                } else {
                    self.write(event.token().0, &[]);
                }
            }
            self.answer_due();
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let at = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut stream, Token(at), both)?;
            self.next_serial += 1;
            self.connections[at] = Some(Connection {
                stream,
                serial: self.next_serial,
                input: Vec::new(),
                output: Vec::new(),
                asked: false,
            });
        }
    }

    /// Reads until the socket has no more, and takes up what is whole.
    fn read(&mut self, at: usize, block: &mut [u8], closed: bool) {
        loop {
            let Some(connection) = self.connections[at].as_mut() else {
                return;
            };
            match connection.stream.read(block) {
                Ok(0) => return self.close(at),
                Ok(bytes) => {
                    connection.input.extend_from_slice(&block[..bytes]);
                    self.take(at);
                    // A socket that gave less than was asked for has no more, and tells when it has; but of its
                    // end it told already.
                    if bytes < block.len() && !closed {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.close(at),
            }
        }
    }

    fn take(&mut self, at: usize) {
        while let Some(connection) = self.connections[at].as_mut() {
            match request(&connection.input) {
                Request::Part => return,
                Request::Question(bytes) => {
                    connection.input.drain(..bytes);
                    if !std::mem::replace(&mut connection.asked, true) {
                        self.stats.connections += 1;
                    }
                    let serial = connection.serial;
                    self.question(at, serial);
                }
                Request::Control(word, bytes) => {
                    connection.input.drain(..bytes);
                    self.control(at, &word);
                }
            }
        }
    }

    fn question(&mut self, at: usize, serial: u64) {
        if self.stats.requests == 0 {
            self.stats.first_request_ns = now_ns();
        }
        self.stats.requests += 1;
        let in_flight = self.stats.requests - self.stats.answers;
        self.stats.most_in_flight = self.stats.most_in_flight.max(in_flight);
        let due = Due {
            at: Instant::now() + self.latency,
            connection: at,
            serial,
        };
        if self.latency.is_zero() {
            self.answer(&due, due.at);
        } else {
            self.due.push_back(due);
        }
    }

    fn answer_due(&mut self) {
        if self.due.is_empty() {
            return;
        }
        let now = Instant::now();
        while self.due.front().is_some_and(|due| due.at <= now) {
            if let Some(due) = self.due.pop_front() {
                self.answer(&due, now);
            }
        }
    }

    fn answer(&mut self, due: &Due, now: Instant) {
        self.stats.answers += 1;
        self.stats.late_us += now.saturating_duration_since(due.at).as_micros() as u64;
        let same = |connection: &Connection| connection.serial == due.serial;
        if self.connections[due.connection].as_ref().is_some_and(same) {
            let answer = std::mem::take(&mut self.answer);
            self.write(due.connection, &answer);
            self.answer = answer;
        }
        if self.stats.answers == self.stats.requests {
            self.stats.last_answer_ns = now_ns();
        }
    }

    fn control(&mut self, at: usize, word: &str) {
        if word == "/reset" {
            self.stats = Stats::default();
            self.cpu_before = own_cpu();
        }
        self.stats.cpu_us = (own_cpu() - self.cpu_before).as_micros() as u64;
        let body = serde_json::to_string(&self.stats).expect("numbers are JSON");
        self.write(at, &reply::on_the_wire(&body));
    }

    /// Writes what still waits and then `more`.
    fn write(&mut self, at: usize, more: &[u8]) {
        let Some(connection) = self.connections[at].as_mut() else {
            return;
        };
        let waiting = !connection.output.is_empty();
        if waiting {
            connection.output.extend_from_slice(more);
        }
        let all = if waiting {
            &connection.output[..]
        } else {
            more
        };
        let mut done = 0;
        while done < all.len() {
            match connection.stream.write(&all[done..]) {
                Ok(bytes) => done += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.close(at),
            }
        }
        if waiting {
            connection.output.drain(..done);
        } else {
            connection.output.extend_from_slice(&more[done..]);
        }
    }

    fn close(&mut self, at: usize) {
        if self.connections[at].take().is_some() {
            self.free.push(at);
        }
    }
}

/// Looks at the beginning of a connection's input.
fn request(input: &[u8]) -> Request {
    let Some(head) = memchr::memmem::find(input, b"\r\n\r\n") else {
        return Request::Part;
    };
    let bytes = head + 4 + content_length(&input[..head]);
    if input.len() < bytes {
        return Request::Part;
    }
    match input.strip_prefix(b"GET ") {
        None => Request::Question(bytes),
        Some(rest) => {
            let word = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
            Request::Control(String::from_utf8_lossy(word).into_owned(), bytes)
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    head.split(|byte| *byte == b'\n')
        .filter_map(|line| line.split_at_checked(b"content-length:".len()))
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"content-length:"))
        .find_map(|(_, value)| std::str::from_utf8(value).ok()?.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_up_when_its_last_byte_is_there() {
        let whole =
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nContent-Length: 4\r\n\r\n{\"\":";
        for part in 0..whole.len() {
            assert_eq!(request(&whole[..part]), Request::Part, "{part}");
        }
        assert_eq!(request(whole), Request::Question(whole.len()));
        let two = [&whole[..], b"GET /stats HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(request(&two), Request::Question(whole.len()));
        assert_eq!(
            request(&two[whole.len()..]),
            Request::Control("/stats".into(), 23)
        );
    }
}

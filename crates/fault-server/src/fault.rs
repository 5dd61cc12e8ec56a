use std::fmt;
use std::time::Duration;

use crate::table::FAULTS;

/// One thing that an endpoint does, and what must happen then.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Fault {
    /// What `--fault NAME` takes, in kebab case.
    pub name: &'static str,
    /// The part of the catalogue that it belongs to.
    pub section: Section,
    /// What the server does, in words.
    pub what: &'static str,
    /// Where it was seen; empty where it is known to everybody.
    pub seen_in: &'static str,
    /// What is done on the wire.
    pub play: Play,
    /// What must become of the request.
    pub disposition: Disposition,
    /// The class in `failures.jsonl`, in a retry or in the stop; for [`Disposition::Warned`] the mark in
    /// the record; empty where all is well.
    pub class: &'static str,
    /// How many requests it may cause.
    pub requests: Requests,
    /// What the endpoint asks to wait, where it does.
    pub hint: Option<Duration>,
    /// A piece that the message must hold: the cause. Empty where there is no message.
    pub message: &'static str,
    /// A piece of the message that names the cure; empty where nobody can do anything.
    pub cure: &'static str,
}

/// A part of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Section {
    /// 429 and the wait that the endpoint asks for.
    Limits,
    /// Nobody pays.
    Account,
    /// Key, address or model are wrong.
    Access,
    /// What concerns one row: its length, its content.
    Row,
    /// Faults that pass.
    Passing,
    /// An error in an answer of status 200.
    Inside,
    /// Answers that were paid for and hold no answer.
    Unusable,
    /// Answers that are odd and good.
    Odd,
    /// Connections that break, stall or flood.
    Connection,
    /// An endpoint that is not there, for anybody.
    Endpoint,
}

impl Section {
    /// The heading on the generated page.
    pub const fn title(self) -> &'static str {
        match self {
            Section::Limits => "Limits and overload",
            Section::Account => "Nobody pays",
            Section::Access => "Key, address, model, parameters",
            Section::Row => "One row only",
            Section::Passing => "Faults that pass",
            Section::Inside => "An error inside a 200",
            Section::Unusable => "Paid, but no answer",
            Section::Odd => "Odd, but an answer",
            Section::Connection => "The connection",
            Section::Endpoint => "The whole endpoint",
        }
    }
}

/// What must become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// The row is done.
    Ok,
    /// The row is done, with a mark in its record.
    Warned,
    /// Asked again; it costs the row an attempt.
    Retry,
    /// Nobody asks for a while, then it is asked again; it costs no attempt.
    Pause,
    /// This row fails, the others go on.
    FailRow,
    /// The run stops, and says what to change.
    StopRun,
    /// The run stops, and says when to come back.
    Later,
}

/// How many requests a fault may cause, with six attempts for a row and the other defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requests {
    /// For one row that always meets it.
    pub always: Always,
    /// For one row that meets it once and then a good answer, after others had good answers.
    pub once: u32,
    /// Where every request of every row meets it, from the first one on.
    pub every: Every,
}

/// The requests of one row that always meets a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Always {
    /// So many.
    Exactly(u32),
    /// One; a second one, alone, where the endpoint has given a good answer before.
    OneAndProbe,
    /// One after each pause, until the row is an hour old.
    UntilTooOld,
}

/// The end of a run in which every request meets a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// All rows are done, each with so many requests.
    AllRows(u32),
    /// Each row is given up when it is an hour old.
    UntilTooOld,
    /// The first answer stops the run: at most what was in flight and one more.
    InFlightPlusOne,
    /// The run stops when so many rows in a row have failed alike, each after so many requests.
    Breaker {
        /// Rows that failed.
        rows: u32,
        /// Requests of each.
        each: u32,
    },
    /// Nobody is there, and nobody ever was: the run stops when one row has been asked so often. Where
    /// rows had been done before, everybody waits for the endpoint to come back.
    Outage(u32),
}

/// What is done on the wire. `{row}` and `{text}` in what is sent become the row's number and its answer.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Play {
    /// A whole answer; the connection stays open.
    Answer {
        /// The status.
        status: u16,
        /// Headers beside `content-type` and `content-length`.
        headers: &'static [(&'static str, &'static str)],
        /// The body.
        body: &'static str,
    },
    /// A whole answer of status 200 whose body is no text.
    Bytes(&'static [u8]),
    /// A good answer beside a list that is nested so deep.
    Deep(usize),
    /// A good answer, compressed.
    Gzip,
    /// An answer of so many bytes of white space, as they are or compressed to a thousandth of it.
    Bomb {
        /// Bytes after unpacking.
        bytes: u64,
        /// Whether it is sent packed.
        gzip: bool,
    },
    /// A good answer in chunks; `cut`: without the last ones, then the connection is closed.
    Chunked {
        /// Whether it breaks off.
        cut: bool,
    },
    /// A good answer by HTTP/1.0, without a length: closing the connection ends it.
    UntilClose,
    /// These bytes, then a good answer.
    Before(&'static str),
    /// A good answer with a header of so many bytes.
    LongHeader(usize),
    /// The head of a good answer, white space one byte at a time, then the answer.
    Blanks {
        /// How many.
        bytes: u32,
        /// The time between two of them.
        every: Duration,
    },
    /// A good answer, one byte of it at a time.
    Drip {
        /// The time between two bytes.
        every: Duration,
    },
    /// A good answer after which the connection is closed without a word.
    CloseAfterAnswer,
    /// These bytes instead of an answer, then the connection is closed.
    Raw(&'static str),
    /// Half of the head of an answer, then the connection is closed.
    CutHead,
    /// So many bytes of the body of a good answer, then the connection is closed.
    CutBody(usize),
    /// The connection is closed as soon as the request has arrived.
    CloseAfterRequest,
    /// The connection is reset; `Some(n)`: after n bytes of the body of a good answer.
    Reset(Option<usize>),
    /// Not a byte, and the connection stays open.
    Silent,
    /// So many bytes of the body of a good answer, then not a byte more; the connection stays open.
    Stall(usize),
    /// The server dies as the request arrives: all connections are reset and the port refuses new ones
    /// for so long. Where it is played for every row and always, nobody ever listens.
    Refused(Duration),
    /// The address names a host that cannot exist. For everybody.
    NoSuchHost,
    /// The address says https, and the server speaks plain HTTP. For everybody.
    NotTls,
    /// The address says https, and the server never answers the handshake. For everybody.
    SilentTls,
    /// HTTPS with a certificate that nobody signed. For everybody.
    SelfSigned,
    /// HTTP/2 over TLS: the server says that it did not begin to work on the request. The certificate
    /// is the one of [`CERTIFICATE`](crate::CERTIFICATE); good answers go by HTTP/2 as well.
    NotProcessed {
        /// `GOAWAY` for the connection; else `REFUSED_STREAM` for the request.
        goaway: bool,
    },
}

impl Fault {
    /// The entry of this name.
    pub fn named(name: &str) -> Option<&'static Fault> {
        FAULTS.iter().find(|fault| fault.name == name)
    }

    /// Whether it concerns the address itself, so that no row can be spared from it.
    pub const fn is_of_the_address(&self) -> bool {
        matches!(
            self.play,
            Play::NoSuchHost | Play::NotTls | Play::SilentTls | Play::SelfSigned
        )
    }

    /// Whether no request ever arrives where everybody meets it always.
    pub const fn is_unseen(&self) -> bool {
        self.is_of_the_address() || matches!(self.play, Play::Refused(_))
    }

    /// Whether its client has to trust [`CERTIFICATE`](crate::CERTIFICATE).
    pub const fn needs_trust(&self) -> bool {
        matches!(self.play, Play::NotProcessed { .. })
    }

    /// Whether a whole answer of a 2xx status arrives, one that somebody pays for and that can be held.
    pub fn is_paid(&self) -> bool {
        match self.play {
            Play::Answer { status, .. } => (200..300).contains(&status),
            Play::Raw(text) => text.starts_with("HTTP/1.1 2"),
            Play::Chunked { cut } => !cut,
            // The long one is longer than clients read.
            Play::LongHeader(bytes) => bytes < 1 << 20,
            Play::Bytes(_)
            | Play::Deep(_)
            | Play::Gzip
            | Play::UntilClose
            | Play::Before(_)
            | Play::Blanks { .. }
            | Play::CloseAfterAnswer => true,
            _ => false,
        }
    }

    const fn of(
        name: &'static str,
        what: &'static str,
        play: Play,
        disposition: Disposition,
        class: &'static str,
        requests: Requests,
    ) -> Fault {
        Fault {
            name,
            // Set where the sections are joined.
            section: Section::Limits,
            what,
            seen_in: "",
            play,
            disposition,
            class,
            requests,
            hint: None,
            message: "",
            cure: "",
        }
    }

    pub(crate) const fn seen_in(mut self, thread: &'static str) -> Fault {
        self.seen_in = thread;
        self
    }

    pub(crate) const fn says(mut self, message: &'static str) -> Fault {
        self.message = message;
        self
    }

    pub(crate) const fn cure(mut self, cure: &'static str) -> Fault {
        self.cure = cure;
        self
    }

    pub(crate) const fn hint_ms(mut self, milliseconds: u64) -> Fault {
        self.hint = Some(Duration::from_millis(milliseconds));
        self
    }

    pub(crate) const fn always(mut self, always: Always) -> Fault {
        self.requests.always = always;
        self
    }

    pub(crate) const fn every(mut self, every: Every) -> Fault {
        self.requests.every = every;
        self
    }
}

/// Rows that fail alike before a run stops.
const BREAKER: u32 = 20;

pub(crate) const fn ok(name: &'static str, what: &'static str, play: Play) -> Fault {
    let requests = Requests {
        always: Always::Exactly(1),
        once: 1,
        every: Every::AllRows(1),
    };
    Fault::of(name, what, play, Disposition::Ok, "", requests)
}

pub(crate) const fn warned(
    name: &'static str,
    mark: &'static str,
    what: &'static str,
    play: Play,
) -> Fault {
    let requests = ok(name, what, play).requests;
    Fault::of(name, what, play, Disposition::Warned, mark, requests)
}

const fn repeated(
    name: &'static str,
    class: &'static str,
    what: &'static str,
    play: Play,
    attempts: u32,
) -> Fault {
    let requests = Requests {
        always: Always::Exactly(attempts),
        once: 2,
        every: Every::Breaker {
            rows: BREAKER,
            each: attempts,
        },
    };
    Fault::of(name, what, play, Disposition::Retry, class, requests)
}

/// A fault of server or network: six attempts.
pub(crate) const fn retry(
    name: &'static str,
    class: &'static str,
    what: &'static str,
    play: Play,
) -> Fault {
    repeated(name, class, what, play, 6)
}

/// A fault of the way to the endpoint: when it never worked, three attempts are enough.
pub(crate) const fn unreachable(
    name: &'static str,
    class: &'static str,
    what: &'static str,
    play: Play,
) -> Fault {
    repeated(name, class, what, play, 6).every(Every::Outage(3))
}

/// Paid for and not to be read: two more tries.
pub(crate) const fn unusable(
    name: &'static str,
    class: &'static str,
    what: &'static str,
    play: Play,
) -> Fault {
    repeated(name, class, what, play, 3)
}

/// Paid for and empty: one more try.
pub(crate) const fn empty(
    name: &'static str,
    class: &'static str,
    what: &'static str,
    play: Play,
) -> Fault {
    repeated(name, class, what, play, 2)
}

pub(crate) const fn pause(
    name: &'static str,
    class: &'static str,
    what: &'static str,
    play: Play,
) -> Fault {
    let requests = Requests {
        always: Always::UntilTooOld,
        once: 2,
        every: Every::UntilTooOld,
    };
    Fault::of(name, what, play, Disposition::Pause, class, requests)
}

pub(crate) const fn fail(
    name: &'static str,
    class: &'static str,
    what: &'static str,
    play: Play,
) -> Fault {
    let requests = Requests {
        always: Always::Exactly(1),
        once: 1,
        every: Every::Breaker {
            rows: BREAKER,
            each: 1,
        },
    };
    Fault::of(name, what, play, Disposition::FailRow, class, requests)
}

pub(crate) const fn stop(
    name: &'static str,
    class: &'static str,
    what: &'static str,
    play: Play,
) -> Fault {
    let requests = Requests {
        always: Always::OneAndProbe,
        once: 2,
        every: Every::InFlightPlusOne,
    };
    Fault::of(name, what, play, Disposition::StopRun, class, requests)
}

pub(crate) const fn later(name: &'static str, what: &'static str, play: Play) -> Fault {
    let requests = Requests {
        always: Always::Exactly(1),
        once: 1,
        every: Every::InFlightPlusOne,
    };
    Fault::of(name, what, play, Disposition::Later, "later", requests)
}

pub(crate) const fn answer(status: u16, body: &'static str) -> Play {
    with(status, &[], body)
}

pub(crate) const fn with(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
) -> Play {
    Play::Answer {
        status,
        headers,
        body,
    }
}

impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Disposition::Ok => "done",
            Disposition::Warned => "done, with a mark",
            Disposition::Retry => "asked again",
            Disposition::Pause => "everybody waits, then asked again",
            Disposition::FailRow => "the row fails",
            Disposition::StopRun => "the run stops",
            Disposition::Later => "the run stops until later",
        })
    }
}

impl fmt::Display for Always {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Always::Exactly(requests) => write!(f, "{requests}"),
            Always::OneAndProbe => f.write_str("1, and 1 as a probe"),
            Always::UntilTooOld => f.write_str("1 a pause, for an hour"),
        }
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Every::AllRows(1) => f.write_str("all done, 1 request each"),
            Every::AllRows(requests) => write!(f, "all done, {requests} requests each"),
            Every::UntilTooOld => f.write_str("rows fail when they are an hour old"),
            Every::InFlightPlusOne => f.write_str("stops at once: what is in flight, and 1"),
            Every::Breaker { rows, each: 1 } => write!(f, "stops when {rows} rows have failed"),
            Every::Breaker { rows, each } => {
                write!(
                    f,
                    "stops when {rows} rows have failed, {each} requests each"
                )
            }
            Every::Outage(requests) => write!(f, "stops after {requests} requests of one row"),
        }
    }
}

//! Connections that break, stall or flood.

use std::time::Duration;

use crate::fault::{Always, Every, Fault, Play, fail, retry};

const CLOSED: &str = "connection_closed";
const BROKEN_OFF: &str = "answer_broken_off";

pub(super) const FAULTS: &[Fault] = &[
    fail(
        "bomb",
        "answer_too_large",
        "200 with 100 MB of white space",
        Play::Bomb {
            bytes: 100 << 20,
            gzip: false,
        },
    )
    .says("is larger than 32 MiB"),
    fail(
        "gzip-bomb",
        "answer_too_large",
        "200 with a gigabyte in a megabyte of gzip",
        Play::Bomb {
            bytes: 1 << 30,
            gzip: true,
        },
    )
    .seen_in("colly #886")
    .says("is larger than 32 MiB"),
    retry("reset-before-answer", CLOSED, "the connection is reset before the answer", Play::Reset(None))
        .says("reset"),
    retry("reset-inside-answer", BROKEN_OFF, "the connection is reset inside the body", Play::Reset(Some(40)))
        .says("127.0.0.1"),
    retry(
        "keep-alive-race",
        CLOSED,
        "the connection is closed as the request arrives, as a server does that is tired of waiting",
        Play::CloseAfterRequest,
    )
    .seen_in("hyper #2136")
    .says("127.0.0.1"),
    retry("cut-head", CLOSED, "the connection is closed inside the head", Play::CutHead).says("127.0.0.1"),
    retry("cut-body", BROKEN_OFF, "the connection is closed inside the body", Play::CutBody(40))
        .says("127.0.0.1"),
    retry("cut-before-body", BROKEN_OFF, "the connection is closed between head and body", Play::CutBody(0))
        .says("127.0.0.1"),
    retry("cut-chunks", BROKEN_OFF, "the connection is closed between two chunks", Play::Chunked { cut: true })
        .says("127.0.0.1"),
    retry("not-http", CLOSED, "another protocol answers", Play::Raw("SSH-2.0-OpenSSH_9.9\r\n"))
        .says("127.0.0.1"),
    retry(
        "header-beyond-bounds",
        CLOSED,
        "a header of 2 MiB",
        Play::LongHeader(2 << 20),
    )
    .says("127.0.0.1"),
    retry("silent", "idle_timeout", "the request is accepted, and not a byte comes", Play::Silent)
        .seen_in("openai-python #3269")
        .says("sent nothing for"),
    retry("stalled", "idle_timeout", "half of the body comes, then not a byte more", Play::Stall(40))
        .says("sent nothing for"),
    retry(
        "drip",
        "total_timeout",
        "one byte every five seconds: only the total deadline ends it",
        Play::Drip {
            every: Duration::from_secs(5),
        },
    )
    .says("did not finish its answer within"),
    retry(
        "http2-goaway",
        "not_processed",
        "HTTP/2 `GOAWAY` that leaves the request out: sent again, and it counts nothing",
        Play::NotProcessed { goaway: true },
    )
    .seen_in("hyper #2500")
    .always(Always::UntilTooOld)
    .every(Every::UntilTooOld)
    .says("localhost"),
    retry(
        "http2-refused-stream",
        "not_processed",
        "HTTP/2 `REFUSED_STREAM`: sent again, and it counts nothing",
        Play::NotProcessed { goaway: false },
    )
    .always(Always::UntilTooOld)
    .every(Every::UntilTooOld)
    .says("localhost"),
];

//! An endpoint that is not there, for anybody, or that answers everybody alike.

use std::time::Duration;

use super::bodies::error;
use crate::fault::{Every, Fault, Play, answer, fail, stop, unreachable};

/// How long a server that dies on a request is away.
const AWAY: Duration = Duration::from_millis(300);

pub(super) const FAULTS: &[Fault] = &[
    stop(
        "no-such-host",
        "dns",
        "the host name has no address; once something has succeeded, it is asked again instead",
        Play::NoSuchHost,
    )
    .says("dns")
    .cure("model.base_url"),
    stop(
        "not-tls",
        "tls",
        "plain HTTP where https was expected; once something has succeeded, it is asked again instead",
        Play::NotTls,
    )
    .says("127.0.0.1")
    .cure("names an https endpoint"),
    stop(
        "bad-certificate",
        "bad_certificate",
        "a certificate that nobody signed",
        Play::SelfSigned,
    )
    .says("certificate")
    .cure("root certificates"),
    unreachable(
        "handshake-never-ends",
        "connect_timeout",
        "the TLS handshake is never answered",
        Play::SilentTls,
    )
    .says("127.0.0.1"),
    unreachable(
        "refused",
        "connect",
        "nobody listens; in the middle of a run everybody waits until somebody does",
        Play::Refused(AWAY),
    )
    .says("Connection refused"),
    fail(
        "same-fault-for-all",
        "bad_request",
        "400 with the same words, whatever the row: the run stops when 20 rows have failed alike",
        answer(
            400,
            error!("Jinja template error: roles must alternate", "invalid_request_error", "bad"),
        ),
    )
    .seen_in("DataDesigner #185")
    .every(Every::Breaker { rows: 20, each: 1 })
    .says("status 400: Jinja template error"),
];

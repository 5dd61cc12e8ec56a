use std::error::Error as StdError;
use std::fmt;
use std::future::ready;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Response, Url};
use tokio::time::{Instant, timeout_at};

use crate::connects::Connects;
use crate::secrets::Scrubber;
use crate::{Answer, Headers, Timeouts, TransportError, TransportKind};

/// No answer is larger than this, decompressed.
const LARGEST_BODY: usize = 32 << 20;
/// Few answers are larger than this.
const EXPECTED_BODY: u64 = 64 << 10;

/// HTTP/2's REFUSED_STREAM, and a GOAWAY without an error that leaves a request out, in the words of `h2`.
const NOT_PROCESSED: [&str; 2] = [
    "refused stream before processing any application logic",
    "connection error received: not a result of an error",
];

/// One HTTP exchange under async-openai: sent once, nothing repeated, everything kept.
#[derive(Clone)]
pub(crate) struct Transport {
    http: Arc<Http>,
    timeouts: Timeouts,
    /// `host:port`, for messages.
    address: Arc<str>,
    scrubber: Arc<Scrubber>,
}

/// Connections, which are timed from when somebody asks how long they take: each request copies the connector for that.
pub(crate) struct Http {
    connects: Connects,
    untimed: reqwest::Client,
    timed: OnceLock<reqwest::Client>,
    base: Url,
    timeouts: Timeouts,
    pool: usize,
}

impl Http {
    fn new(
        base: &Url,
        timeouts: Timeouts,
        pool: usize,
        is_timed: bool,
    ) -> Result<Http, reqwest::Error> {
        let connects = Connects::default();
        let first = is_timed.then(|| connects.clone());
        let first = http(base, timeouts, pool, first)?;
        let timed = OnceLock::new();
        if is_timed {
            timed.get_or_init(|| first.clone());
        }
        Ok(Http {
            connects,
            untimed: first,
            timed,
            base: base.clone(),
            timeouts,
            pool,
        })
    }

    pub(crate) fn client(&self) -> &reqwest::Client {
        self.timed.get().unwrap_or(&self.untimed)
    }

    /// How long the slowest connection took lately, of those that were made since this was first asked.
    pub(crate) fn slowest(&self) -> Duration {
        self.timed.get_or_init(|| {
            let connects = Some(self.connects.clone());
            // As the first one could be built, this one can.
            http(&self.base, self.timeouts, self.pool, connects)
                .unwrap_or_else(|_| self.untimed.clone())
        });
        self.connects.slowest()
    }
}

/// An exchange that is about to begin. It travels through async-openai as an error: so that crate neither reads the
/// body, nor repeats the request, nor logs either; and what it needs for these is not held while an answer is waited
/// for, by thousands of requests.
pub(crate) struct Exchange(Mutex<Sending>);

/// What a request comes to.
pub(crate) type Sending = Pin<Box<dyn Future<Output = Result<Answer, TransportError>> + Send>>;

impl Transport {
    pub(crate) fn new(
        base: &Url,
        timeouts: Timeouts,
        pool: usize,
        is_timed: bool,
        scrubber: Arc<Scrubber>,
    ) -> Result<Transport, reqwest::Error> {
        let port = base.port_or_known_default().unwrap_or_default();
        Ok(Transport {
            http: Arc::new(Http::new(base, timeouts, pool, is_timed)?),
            timeouts,
            address: format!("{}:{port}", base.host_str().unwrap_or_default()).into(),
            scrubber,
        })
    }

    pub(crate) fn http(&self) -> Arc<Http> {
        Arc::clone(&self.http)
    }

    pub(crate) fn address(&self) -> Arc<str> {
        Arc::clone(&self.address)
    }

    fn exchange(self, request: reqwest::Request) -> Sending {
        // The request is handed on before the wait, which would hold its place.
        let sending = self.http.client().execute(request);
        Box::pin(async move {
            let start = Instant::now();
            let total = start + self.timeouts.total;
            let response = self.within(total, sending).await?;
            // In a box of its own: it is large and soon over, and the wait for it is long.
            Box::pin(self.read(response, start, total)).await
        })
    }

    async fn read(
        &self,
        mut response: Response,
        start: Instant,
        total: Instant,
    ) -> Result<Answer, TransportError> {
        let announced = response.content_length().unwrap_or_default();
        // What is announced is believed up to here: a body of the usual size takes its room once.
        let mut body = Vec::with_capacity(announced.min(EXPECTED_BODY) as usize);
        let broken = |error: TransportError| match error.kind() {
            TransportKind::IdleTimeout | TransportKind::TotalTimeout => error,
            _ => TransportError::new(TransportKind::Body, error.message().to_owned()),
        };
        while let Some(chunk) = self.within(total, response.chunk()).await.map_err(broken)? {
            if body.len() + chunk.len() > LARGEST_BODY {
                let message = format!(
                    "the answer of {} is larger than {} MiB",
                    self.address,
                    LARGEST_BODY >> 20
                );
                return Err(TransportError::new(TransportKind::TooLarge, message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(self.answer(response, body, start.elapsed()))
    }

    fn answer(&self, mut response: Response, body: Vec<u8>, latency: Duration) -> Answer {
        let status = response.status();
        let body = match status.is_success() {
            true => self.scrubber.paid_body(body),
            false => self.scrubber.error_body(body),
        };
        let headers = self.scrubbed(std::mem::take(response.headers_mut()));
        Answer {
            status: status.as_u16(),
            headers,
            body,
            latency,
            at: SystemTime::now(),
        }
    }

    fn scrubbed(&self, mut headers: HeaderMap) -> Headers {
        for value in headers.values_mut() {
            if let Some(clean) = self.scrubber.header(value.as_bytes()) {
                *value = HeaderValue::from_bytes(&clean)
                    .unwrap_or(HeaderValue::from_static("[redacted]"));
            }
        }
        Headers::from_map(headers)
    }

    /// Waits for the next thing to arrive: not longer than the idle timeout, nor beyond the total one.
    async fn within<T>(
        &self,
        total: Instant,
        next: impl Future<Output = Result<T, reqwest::Error>>,
    ) -> Result<T, TransportError> {
        let idle = Instant::now() + self.timeouts.idle;
        match timeout_at(idle.min(total), next).await {
            Ok(result) => result.map_err(|error| self.lost(error)),
            Err(_) if idle < total => {
                let message = format!("{} sent nothing for {:?}", self.address, self.timeouts.idle);
                Err(TransportError::new(TransportKind::IdleTimeout, message))
            }
            Err(_) => {
                let message = format!(
                    "{} did not finish its answer within {:?}",
                    self.address, self.timeouts.total
                );
                Err(TransportError::new(TransportKind::TotalTimeout, message))
            }
        }
    }

    fn lost(&self, error: reqwest::Error) -> TransportError {
        let error = error.without_url();
        let kind = kind_of(&error);
        let what = match kind {
            TransportKind::Tls => "the TLS handshake failed: ",
            TransportKind::Closed if is_dead(&error) => "the connection is dead: ",
            _ => "",
        };
        let mut message = format!("{}: {what}{}", self.address, chain(&error));
        if kind == TransportKind::TooManyFiles {
            message = format!(
                "this process may not open more connections: raise `ulimit -n` or lower the concurrency ({message})"
            );
        }
        TransportError::new(kind, self.scrubber.error_text(&message))
    }
}

impl tower::Service<HttpRequestFactory> for Transport {
    type Response = Response;
    type Error = Exchange;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Exchange>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Exchange>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, factory: HttpRequestFactory) -> Self::Future {
        let transport = self.clone();
        Box::pin(async move {
            let sending = match factory.build().await {
                Ok(request) => transport.exchange(request),
                Err(error) => Box::pin(ready(Err(transport.not_built(&error)))),
            };
            Err(Exchange(Mutex::new(sending)))
        })
    }
}

impl Transport {
    fn not_built(&self, error: &OpenAIError) -> TransportError {
        let message = format!("the request could not be built: {}", chain(error));
        TransportError::new(TransportKind::Other, self.scrubber.error_text(&message))
    }
}

/// Takes the exchange out of async-openai's error again.
///
/// # Errors
/// When it is another error.
pub(crate) fn sending(error: OpenAIError) -> Result<Sending, TransportError> {
    let other = match error {
        OpenAIError::Boxed(boxed) => match boxed.downcast::<Exchange>() {
            Ok(exchange) => {
                return Ok((exchange.0.into_inner()).unwrap_or_else(PoisonError::into_inner));
            }
            Err(other) => other.to_string(),
        },
        other => other.to_string(),
    };
    Err(TransportError::new(TransportKind::Other, other))
}

impl From<Exchange> for OpenAIError {
    fn from(exchange: Exchange) -> OpenAIError {
        OpenAIError::Boxed(Box::new(exchange))
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request that is about to leave")
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

impl StdError for Exchange {}

/// How often an HTTP/2 connection with requests under way, over which nothing came, is asked whether it is alive.
const HTTP2_PING: Duration = Duration::from_secs(30);

/// How long it has to answer that. A server that is busy answers late.
const HTTP2_PONG: Duration = Duration::from_secs(20);

/// What hyper says where it did not.
const NO_PONG: &str = "keep-alive timed out";

fn http(
    base: &Url,
    timeouts: Timeouts,
    pool: usize,
    connects: Option<Connects>,
) -> Result<reqwest::Client, reqwest::Error> {
    // reqwest asks for a provider of the process. Where the program has installed one, that one is used.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have been quicker, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
    let builder = reqwest::Client::builder()
        .connect_timeout(timeouts.connect)
        .pool_max_idle_per_host(pool)
        .pool_idle_timeout(Duration::from_secs(60))
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        .http2_adaptive_window(true)
        // Many requests share such a connection, and so does whoever asks again. The system notices where nobody
        // is at its other end; where somebody is who hands nothing on, a dead one would take row after row with it.
        .http2_keep_alive_interval(HTTP2_PING)
        .http2_keep_alive_timeout(HTTP2_PONG)
        // A key goes to one origin only, and repeating is the business of somebody else.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .user_agent(concat!(
            env!("CARGO_PKG_NAME"),
            "/",
            env!("CARGO_PKG_VERSION")
        ));
    let builder = match connects {
        // With a layer the connector lies in a box, and each request copies that.
        Some(connects) => builder.connector_layer(connects),
        None => builder,
    };
    let local = is_loopback(base);
    let builder = if local { builder.no_proxy() } else { builder };
    match base.scheme() {
        // Reading the system's roots takes milliseconds, and nobody here needs them.
        "http" if local || !has_https_proxy() => builder.tls_certs_only([]).build(),
        _ => builder.build(),
    }
}

fn has_https_proxy() -> bool {
    let names = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
    let proxies = names.iter().filter_map(|name| std::env::var(name).ok());
    proxies.into_iter().any(|proxy| proxy.starts_with("https:"))
}

/// Whether what is sent there never leaves this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    match address {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn kind_of(error: &reqwest::Error) -> TransportKind {
    let mut causes = Causes(Some(error));
    if let Some(kind) = causes.find_map(kind_of_cause) {
        return kind;
    }
    let words = chain(error);
    match error {
        _ if error.is_connect() && error.is_timeout() => TransportKind::ConnectTimeout,
        _ if error.is_dns()
            || words.contains("dns error")
            || words.contains("invalid dns name") =>
        {
            TransportKind::Dns
        }
        _ if NOT_PROCESSED
            .iter()
            .any(|words_of| words.contains(words_of)) =>
        {
            TransportKind::NotProcessed
        }
        _ if error.is_connect() => TransportKind::Connect,
        // It is the connection that was silent, not the answer that was slow.
        _ if is_dead(error) => TransportKind::Closed,
        _ if error.is_timeout() => TransportKind::TotalTimeout,
        _ if error.is_request() => TransportKind::Closed,
        _ if error.is_body() || error.is_decode() => TransportKind::Body,
        _ => TransportKind::Other,
    }
}

/// Whether the system or a ping found that nobody is at the other end any more.
fn is_dead(error: &(dyn StdError + 'static)) -> bool {
    Causes(Some(error)).any(|cause| match cause.downcast_ref::<io::Error>() {
        Some(error) => error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_some(),
        None => cause.to_string().contains(NO_PONG),
    })
}

fn kind_of_cause(cause: &(dyn StdError + 'static)) -> Option<TransportKind> {
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(match error {
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                TransportKind::Certificate
            }
            _ => TransportKind::Tls,
        });
    }
    let error = cause.downcast_ref::<io::Error>()?;
    // EMFILE and ENFILE: it is this process that is short of something, not the endpoint.
    matches!(error.raw_os_error(), Some(23 | 24)).then_some(TransportKind::TooManyFiles)
}

/// An error and what caused it, down to the first cause.
struct Causes<'a>(Option<&'a (dyn StdError + 'static)>);

impl<'a> Iterator for Causes<'a> {
    type Item = &'a (dyn StdError + 'static);

    fn next(&mut self) -> Option<Self::Item> {
        let error = self.0?;
        // An io::Error hides what it wraps from `source`.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        self.0 = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
        Some(error)
    }
}

/// What is said of every request that was lost, and says nothing.
const SAYS_NOTHING: [&str; 3] = [
    "error sending request",
    "client error (Connect)",
    "client error (SendRequest)",
];

/// The whole chain of causes as one sentence, nothing said twice.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut sentence = String::new();
    for cause in Causes(Some(error)) {
        let words = cause.to_string();
        if sentence.contains(&words) || SAYS_NOTHING.contains(&words.as_str()) {
            continue;
        }
        if !sentence.is_empty() {
            sentence.push_str(": ");
        }
        sentence.push_str(&words);
    }
    if sentence.is_empty() {
        sentence = error.to_string();
    }
    crate::failure::one_line(&sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_the_system_gave_up_is_dead_and_a_slow_answer_is_not() {
        let given_up = if cfg!(target_os = "linux") { 110 } else { 60 };
        assert!(is_dead(&io::Error::other(io::Error::from_raw_os_error(
            given_up
        ))));
        assert!(!is_dead(&io::Error::from(io::ErrorKind::TimedOut)));
        assert!(!is_dead(&io::Error::from_raw_os_error(32)));
    }
}

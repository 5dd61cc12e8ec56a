use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::fault::Play;
use crate::http::{Incoming, Request, answer};
use crate::plan::{Down, Plan};
use crate::play::{self, After};
use crate::seen::Seen;
use crate::shared::Shared;
use crate::{http2, tls};

/// Connections that wait to be accepted, at most.
const BACKLOG: u32 = 1024;

/// An OpenAI-compatible endpoint on 127.0.0.1 that does what its [`Plan`] says and counts what it sees.
///
/// It ends when it is dropped. A row is known by the last whole number in the user message, so put one
/// into the prompt of a test.
///
/// ```
/// use data_generation_fault_server::{Fault, FaultServer, Plan, Times, Who};
///
/// let fault = Fault::named("retry-after-seconds").expect("it is in the table");
/// let server = FaultServer::start_blocking(Plan::good().fault(fault, Who::Row(7), Times::Once))?;
/// assert!(server.url().ends_with("/v1"));
/// // ... run something against it, then:
/// assert_eq!(server.seen().total(), 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct FaultServer {
    url: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    /// The server ends when this is dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FaultServer {
    /// Starts a server as a task of the runtime that this is called in.
    ///
    /// # Errors
    /// When the port is taken or the system has no more sockets.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(plan: Plan) -> io::Result<FaultServer> {
        let (server, serving) = FaultServer::bind(plan)?;
        // Whoever waits for the end of it does so through the channel, not through the handle.
        drop(tokio::spawn(serving));
        Ok(server)
    }

    /// Starts a server on a thread of its own, for tests that have no runtime.
    ///
    /// # Errors
    /// When the port is taken, or the system has no more sockets or threads.
    pub fn start_blocking(plan: Plan) -> io::Result<FaultServer> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (mut server, serving) = {
            let _inside = runtime.enter();
            FaultServer::bind(plan)?
        };
        let thread = std::thread::Builder::new().name("fault-server".into());
        server.thread = Some(thread.spawn(move || runtime.block_on(serving))?);
        Ok(server)
    }

    fn bind(plan: Plan) -> io::Result<(FaultServer, impl Future<Output = ()> + Send + 'static)> {
        let held = TcpSocket::new_v4()?;
        held.set_reuseaddr(true)?;
        held.bind((Ipv4Addr::LOCALHOST, plan.port).into())?;
        // Only now: another server at this port is refused, and whoever listens for this one is not.
        held.set_reuseport(true)?;
        let address = held.local_addr()?;
        let listener = match plan.is_never_there() {
            true => None,
            false => Some(listener(address)?),
        };
        let port = Port {
            address,
            listener,
            _held: held,
        };
        let (away, gone) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let url = url(&plan, address);
        let shared = Arc::new(Shared::new(plan, away));
        let serving = serve(port, Arc::clone(&shared), gone, stopped);
        let server = FaultServer {
            url,
            address,
            shared,
            stop: Some(stop),
            thread: None,
        };
        Ok((server, serving))
    }

    /// What `model.base_url` has to be.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it saw until now.
    pub fn seen(&self) -> Seen {
        self.shared.seen()
    }

    /// Ends it, and says what it saw.
    pub fn stop(mut self) -> Seen {
        self.end();
        self.seen()
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; here it concerns nobody.
            drop(thread.join());
        }
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.end();
    }
}

fn url(plan: &Plan, address: SocketAddr) -> String {
    let port = address.port();
    match plan.of_the_address().map(|fault| fault.play) {
        // No label of a name has more than 63 letters, so that nobody is asked for this one.
        Some(Play::NoSuchHost) => format!("http://{}.invalid:{port}/v1", "x".repeat(64)),
        Some(_) => format!("https://{address}/v1"),
        None if plan.speaks_http2() => format!("https://localhost:{port}/v1"),
        None => format!("http://{address}/v1"),
    }
}

/// The server's port, with or without somebody who listens. It is held by a socket of its own all the time, so that
/// no other server gets it while nobody listens: connecting to a bound port on which nobody listens is refused.
struct Port {
    address: SocketAddr,
    listener: Option<TcpListener>,
    _held: TcpSocket,
}

/// Listens at a port that is held.
fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn serve(
    mut port: Port,
    shared: Arc<Shared>,
    mut away: UnboundedReceiver<Duration>,
    mut stopped: oneshot::Receiver<()>,
) {
    let outages = shared.plan.outages.clone().into_iter();
    let outages = outages.filter(|outage| outage.how == Down::Refused);
    let mut outages = outages.peekable();
    loop {
        let gone_for = match port.listener.take() {
            None => FAR,
            Some(listener) => {
                let outage = outages
                    .peek()
                    .map(|outage| (shared.started + outage.from, outage.to - outage.from));
                let gone_for = tokio::select! {
                    _ = &mut stopped => return,
                    gone_for = listen(&listener, &shared, &mut away, outage) => gone_for,
                };
                outages.next_if(|outage| shared.started + outage.from <= Instant::now());
                gone_for
            }
        };
        tokio::select! {
            _ = &mut stopped => return,
            () = sleep(gone_for) => {}
        }
        // Others may have asked for the same while it was on its way.
        while away.try_recv().is_ok() {}
        let Ok(listener) = listener(port.address) else {
            return;
        };
        port.listener = Some(listener);
    }
}

/// Listens until it is time to be away; says for how long. What is under way then is broken off.
async fn listen(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    away: &mut UnboundedReceiver<Duration>,
    outage: Option<(Instant, Duration)>,
) -> Duration {
    let mut connections = JoinSet::new();
    loop {
        let (at, gone_for) = outage.unwrap_or((Instant::now() + FAR, FAR));
        tokio::select! {
            () = sleep_until(at) => return gone_for,
            Some(gone_for) = away.recv() => return gone_for,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let shared = Arc::clone(shared);
                    connections.spawn(async move {
                        // A client that leaves is no fault of ours.
                        drop(connection(stream, &shared).await);
                    });
                }
                // No more files: others have to end first.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Later than any test ends.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

async fn connection(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    shared.connected();
    stream.set_nodelay(true)?;
    match shared.plan.of_the_address().map(|fault| fault.play) {
        Some(Play::SilentTls) => return play::swallow(&mut stream).await,
        Some(Play::SelfSigned) => return tls::refuse(stream).await,
        _ if shared.plan.speaks_http2() => return http2::serve(stream, shared).await,
        _ => {}
    }
    let mut incoming = Incoming::default();
    loop {
        let request = match incoming.next(&mut stream).await {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) => {
                let words = format!("{error}\n");
                let headers = [("content-type", "text/plain"), ("connection", "close")];
                return stream
                    .write_all(&answer(400, &headers, words.as_bytes()))
                    .await;
            }
        };
        let close = request
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if !request.is_question() {
            stream.write_all(&about(&request)).await?;
        } else {
            let turn = shared.arrive(request);
            sleep(turn.latency).await;
            if let After::Close = play::play(&mut stream, &turn, shared).await? {
                return Ok(());
            }
        }
        if close {
            return Ok(());
        }
    }
}

/// What is asked beside questions.
fn about(request: &Request) -> Vec<u8> {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", path) if path.ends_with("/models") => answer(
            200,
            &[],
            br#"{"object":"list","data":[{"id":"fault-server-1","object":"model"}]}"#,
        ),
        ("GET", "/health") => answer(200, &[], br#"{"status":"ok"}"#),
        _ => answer(
            404,
            &[],
            br#"{"error":{"message":"questions go to POST /v1/chat/completions","code":404}}"#,
        ),
    }
}

//! A connection over which nothing comes any more, and nobody says so: a router that forgot it, a cable that was pulled.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use data_generation_fault_server::{CERTIFICATE, FAULTS, FaultServer, Plan, Times, Who, trial};
use data_generation_llm_client::{Model, OpenAi, OpenAiOptions, Request, TransportKind};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Hands on what two sides say, until the first connection goes dead: then it swallows that one's words.
struct Line {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    connections: AtomicU32,
    cut: Notify,
    swallowed: Notify,
}

impl Line {
    async fn to(server: SocketAddr) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(server).await.unwrap();
                let first = shared.connections.fetch_add(1, Ordering::SeqCst) == 0;
                tokio::spawn(hand_on(near, far, first.then(|| Arc::clone(&shared))));
            }
        });
        Line { address, state }
    }

    fn connections(&self) -> u32 {
        self.state.connections.load(Ordering::SeqCst)
    }
}

async fn hand_on(mut near: TcpStream, mut far: TcpStream, mortal: Option<Arc<State>>) {
    let Some(state) = mortal else {
        drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
        return;
    };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
        () = state.cut.notified() => {}
    }
    let mut swallowed = [0; 1024];
    while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut near, &mut swallowed).await {
        state.swallowed.notify_one();
    }
}

#[tokio::test]
async fn a_dead_http2_connection_is_left_long_before_its_answers_are_given_up() {
    if !trial::is_trusted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, CERTIFICATE).unwrap();
        return trial::alone(
            "dead_connection::a_dead_http2_connection_is_left_long_before_its_answers_are_given_up",
            trial::trusting(file.path()),
        )
        .await;
    }
    // With a fault of HTTP/2, which nobody meets here, the endpoint speaks HTTP/2.
    let fault = FAULTS.iter().find(|fault| fault.needs_trust()).unwrap();
    let plan = Plan::good().fault(fault, Who::Row(0), Times::Always);
    let server = FaultServer::start_blocking(plan).unwrap();
    let line = Line::to(server.address()).await;
    let ports = [server.address(), line.address].map(|address| format!(":{}", address.port()));
    let url = server.url().replace(&ports[0], &ports[1]);
    let model = Arc::new(OpenAi::new(OpenAiOptions::new(url, "m-1")).unwrap());

    model.ask(&Request::user("row 1"), 1).await.unwrap();
    line.state.cut.notify_one();
    let asking = tokio::spawn({
        let model = Arc::clone(&model);
        async move { model.ask(&Request::user("row 2"), 1).await }
    });
    line.state.swallowed.notified().await;
    tokio::time::pause();
    let start = Instant::now();
    let error = asking.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), TransportKind::Closed, "{error}");
    insta::assert_snapshot!(error.to_string().replace(&ports[1], ""), @"localhost: the connection is dead: http2 error: keep-alive timed out: operation timed out");
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
    tokio::time::resume();

    model.ask(&Request::user("row 3"), 1).await.unwrap();
    assert_eq!(line.connections(), 2);
}

//! One `ask` on the wire.

use std::sync::Arc;
use std::time::Duration;

use data_generation_fault_server::trial;
use data_generation_llm_client::{
    Answer, ErrorKind, Model, OpenAi, OpenAiOptions, Request, Timeouts, TransportError,
    TransportKind,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

use crate::server::{Act, Server, http};

const KEY: &str = "sk-test-0123456789-secret";
const GOOD: &str =
    r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}], "odd":1.50}"#;

fn options(base_url: impl Into<String>) -> OpenAiOptions {
    OpenAiOptions {
        api_key: Some(KEY.into()),
        ..OpenAiOptions::new(base_url, "m-1")
    }
}

fn question() -> Request {
    Request {
        system: Some("be brief".into()),
        user: "hello".into(),
    }
}

async fn ask(acts: Vec<Act>) -> (Result<Answer, TransportError>, Server) {
    let server = Server::start(acts).await;
    let mut options = options(server.base_url());
    let idle = Duration::from_millis(300);
    options.timeouts = Timeouts {
        connect: Duration::from_secs(5),
        idle,
        total: Duration::from_secs(60),
    };
    let model = OpenAi::new(options).unwrap();
    (model.ask(&question(), 1).await, server)
}

async fn lost(act: Act) -> TransportError {
    ask(vec![act]).await.0.unwrap_err()
}

#[tokio::test]
async fn status_headers_and_exact_bytes_of_every_answer_arrive() {
    for status in [200, 202, 302, 400, 401, 404, 429, 500, 503, 529] {
        for body in [
            GOOD,
            "",
            "<html>",
            r#"{"error":{"message":"no","code":7}}"#,
            "data: {\"a\":1}\n\n",
        ] {
            let act = Act::Raw(http(
                status,
                &[("Retry-After", "7"), ("x-request-id", "r-1")],
                body,
            ));
            let (answer, server) = ask(vec![act]).await;
            let answer = answer.unwrap();
            assert_eq!(
                (answer.status, answer.body.as_slice()),
                (status, body.as_bytes())
            );
            assert_eq!(answer.headers.get("retry-after"), Some("7"));
            assert_eq!(answer.headers.get("x-request-id"), Some("r-1"));
            assert!(answer.latency > Duration::ZERO);
            assert_eq!(server.hits(), 1, "status {status}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_utf8_arrives_as_it_is() {
    let (answer, _) = ask(vec![Act::Raw(http(200, &[], b"\xff\x00\xfe"))]).await;
    assert_eq!(answer.unwrap().body, b"\xff\x00\xfe");
}

#[tokio::test]
async fn a_compressed_body_is_decompressed() {
    // "hi\n" by gzip.
    let zipped = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0xc8, 0xe4, 2, 0, 0x7a, 0x7a, 0x6f, 0xed, 3, 0,
        0, 0,
    ];
    let (answer, server) = ask(vec![Act::Raw(http(
        200,
        &[("content-encoding", "gzip")],
        zipped,
    ))])
    .await;
    assert_eq!(answer.unwrap().body, b"hi\n");
    assert!(server.request(0).0.contains("accept-encoding: gzip"));
}

#[tokio::test]
async fn the_request_holds_every_field_and_nothing_else() {
    let server = Server::start(vec![Act::Raw(http(200, &[], GOOD))]).await;
    let mut options = options(format!("{}//", server.base_url()));
    options.temperature = Some(0.7);
    options.max_tokens = Some(16);
    options.headers = vec![("X-Title".into(), "mine".into())];
    let extra = json!({"top_k": 40, "seed": null, "stop": ["a", "b"], "chat_template_kwargs": {"enable_thinking": false}});
    options.extra = extra.as_object().unwrap().clone();
    let model = OpenAi::new(options).unwrap();
    model.ask(&question(), 1).await.unwrap();
    let (head, body) = server.request(0);
    assert!(
        head.starts_with("post /v1/chat/completions http/1.1"),
        "{head}"
    );
    let authorization = format!("authorization: bearer {KEY}");
    for header in [
        &*authorization,
        "x-title: mine",
        "content-type: application/json",
    ] {
        assert_eq!(head.matches(header).count(), 1, "{header} in {head}");
    }
    assert_eq!(body, model.body(&question()));
    assert_eq!(
        body.to_string(),
        r#"{"model":"m-1","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hello"}],"temperature":0.7,"max_tokens":16,"top_k":40,"seed":null,"stop":["a","b"],"chat_template_kwargs":{"enable_thinking":false}}"#,
    );
}

#[tokio::test]
async fn without_a_key_there_is_no_authorization_and_without_a_system_no_message() {
    let server = Server::start(vec![Act::Raw(http(200, &[], GOOD))]).await;
    for key in [None, Some("".into())] {
        let model = OpenAi::new(OpenAiOptions {
            api_key: key,
            ..options(server.base_url())
        })
        .unwrap();
        model.ask(&Request::user("hello"), 1).await.unwrap();
    }
    for n in 0..2 {
        let (head, body) = server.request(n);
        assert!(!head.contains("authorization"), "{head}");
        assert_eq!(
            body,
            json!({"model": "m-1", "messages": [{"role": "user", "content": "hello"}]})
        );
    }
}

#[tokio::test]
async fn connections_are_used_again_also_after_errors() {
    let server = Server::start(vec![
        Act::Raw(http(500, &[], "no")),
        Act::Raw(http(200, &[], GOOD)),
    ])
    .await;
    let model = OpenAi::new(options(server.base_url())).unwrap();
    assert_eq!(model.lateness(), Duration::ZERO);
    for _ in 0..20 {
        model.ask(&question(), 1).await.unwrap();
    }
    assert_eq!(
        (server.hits(), *server.connections.lock().unwrap()),
        (20, 1)
    );
    let lateness = model.lateness();
    assert!(
        lateness > Duration::ZERO && lateness < Duration::from_secs(5),
        "{lateness:?}"
    );
}

#[tokio::test]
async fn connections_are_timed_from_when_somebody_asks_how_long_they_take() {
    let server = Server::start(vec![Act::Raw(http(200, &[], GOOD))]).await;
    let mut options = options(server.base_url());
    options.times_connections = false;
    let model = OpenAi::new(options).unwrap();
    for _ in 0..3 {
        model.ask(&question(), 1).await.unwrap();
    }
    assert_eq!(model.lateness(), Duration::ZERO);
    for _ in 0..3 {
        model.ask(&question(), 1).await.unwrap();
    }
    assert!(model.lateness() > Duration::ZERO);
    let connections = *server.connections.lock().unwrap();
    assert_eq!((server.hits(), connections), (6, 2));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_never_followed() {
    let other = Server::start(vec![Act::Raw(http(200, &[], GOOD))]).await;
    let location = format!("{}/chat/completions", other.base_url());
    let (answer, _) = ask(vec![Act::Raw(http(307, &[("location", &location)], ""))]).await;
    assert_eq!((answer.unwrap().status, other.hits()), (307, 0));
}

#[tokio::test]
async fn what_breaks_on_the_way_has_its_kind() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"choices\":".to_vec();
    assert_eq!(
        lost(Act::Cut(Vec::new())).await.kind(),
        TransportKind::Closed
    );
    assert_eq!(
        lost(Act::Cut(half.clone())).await.kind(),
        TransportKind::Body
    );
    assert_eq!(
        lost(Act::Stall(Vec::new())).await.kind(),
        TransportKind::IdleTimeout
    );
    let stalled = lost(Act::Stall(half)).await;
    assert_eq!(stalled.kind(), TransportKind::IdleTimeout);
    assert!(
        stalled.message().ends_with("sent nothing for 300ms"),
        "{stalled}"
    );
    assert_eq!(
        lost(Act::Cut(b"SSH-2.0-OpenSSH_9\r\n".to_vec()))
            .await
            .kind(),
        TransportKind::Closed
    );
}

#[tokio::test]
async fn the_total_timeout_runs_though_bytes_keep_coming() {
    let server = Server::start(vec![Act::Stall(
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n".to_vec(),
    )])
    .await;
    let mut options = options(server.base_url());
    options.timeouts.total = Duration::from_millis(200);
    let error = OpenAi::new(options)
        .unwrap()
        .ask(&question(), 1)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TransportKind::TotalTimeout);
    assert!(
        error
            .message()
            .ends_with("did not finish its answer within 200ms"),
        "{error}"
    );
}

#[tokio::test]
async fn a_refused_connection_names_the_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let model = OpenAi::new(options(format!("http://{address}/v1"))).unwrap();
    let error = model.ask(&question(), 1).await.unwrap_err();
    assert_eq!(error.kind(), TransportKind::Connect);
    assert!(error.message().starts_with(&address.to_string()), "{error}");
    assert!(error.message().contains("Connection refused"), "{error}");
    assert!(!error.message().contains("/v1"), "{error}");
}

#[tokio::test]
async fn a_name_without_an_address_has_its_kind() {
    // A proxy of whoever runs the tests would do the looking up.
    if std::env::var("NO_PROXY").is_ok_and(|hosts| hosts == "*") {
        // No label is longer than 63 characters, so that nobody is asked for this one.
        let host = "x".repeat(64);
        for scheme in ["http", "https"] {
            let base_url = format!("{scheme}://{host}.invalid/v1");
            let model = OpenAi::new(OpenAiOptions::new(base_url, "m-1")).unwrap();
            let error = model.ask(&question(), 1).await.unwrap_err();
            assert_eq!(error.kind(), TransportKind::Dns, "{error}");
        }
        return;
    }
    trial::alone(
        "transport::a_name_without_an_address_has_its_kind",
        vec![("NO_PROXY", "*".into())],
    )
    .await;
}

#[tokio::test]
async fn a_server_without_tls_has_its_kind() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = http(400, &[], "this is plain http");
        tokio::io::AsyncWriteExt::write_all(&mut stream, &answer)
            .await
            .unwrap();
    });
    let model = OpenAi::new(options(format!("https://{address}/v1"))).unwrap();
    let error = model.ask(&question(), 1).await.unwrap_err();
    assert_eq!(error.kind(), TransportKind::Tls, "{error}");
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_a_connect_timeout() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = options(format!("https://{}/v1", listener.local_addr().unwrap()));
    options.timeouts.connect = Duration::from_millis(200);
    let error = OpenAi::new(options)
        .unwrap()
        .ask(&question(), 1)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TransportKind::ConnectTimeout, "{error}");
}

#[tokio::test]
async fn a_certificate_that_nobody_signed_has_its_kind() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let certificate =
            CertificateDer::from_pem_slice(include_bytes!("../fixtures/self-signed.pem")).unwrap();
        let key =
            PrivateKeyDer::from_pem_slice(include_bytes!("../fixtures/self-signed.pem")).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let mut connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        // The client breaks off, which is an error here.
        drop(connection.complete_io(&mut stream));
    });
    let model = OpenAi::new(options(format!("https://{address}/v1"))).unwrap();
    let error = model.ask(&question(), 1).await.unwrap_err();
    assert_eq!(error.kind(), TransportKind::Certificate, "{error}");
    serving.join().unwrap();
}

#[tokio::test]
async fn nothing_but_the_proxy_is_read_from_the_environment_and_that_not_for_loopback() {
    let proxy = Server::start(vec![Act::Raw(http(200, &[], GOOD))]).await;
    let variables = [
        ("HTTP_PROXY", format!("http://{}", proxy.address)),
        ("OPENAI_API_KEY", "sk-of-the-environment".into()),
        ("OPENAI_BASE_URL", "http://127.0.0.1:9/v1".into()),
        ("OPENAI_ORG_ID", "org-of-the-environment".into()),
    ];
    trial::alone(
        "transport::the_request_holds_every_field_and_nothing_else",
        variables.to_vec(),
    )
    .await;
    trial::alone(
        "transport::without_a_key_there_is_no_authorization_and_without_a_system_no_message",
        variables.to_vec(),
    )
    .await;
    assert_eq!(proxy.hits(), 0);
    trial::alone(
        "transport::an_address_elsewhere_goes_through_the_proxy_where_there_is_one",
        variables.to_vec(),
    )
    .await;
    assert_eq!(proxy.hits(), 1);
    assert!(
        proxy
            .request(0)
            .0
            .starts_with("post http://elsewhere.invalid/v1/chat/completions")
    );
}

#[tokio::test]
async fn an_address_elsewhere_goes_through_the_proxy_where_there_is_one() {
    // Its real run is the one that the test above starts.
    if std::env::var_os("OPENAI_ORG_ID").is_some_and(|org| org == "org-of-the-environment") {
        let model = OpenAi::new(OpenAiOptions::new("http://elsewhere.invalid/v1", "m-1")).unwrap();
        assert_eq!(model.ask(&question(), 1).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn an_answer_beyond_all_bounds_is_not_held() {
    let body = vec![b' '; (32 << 20) + 1];
    assert_eq!(
        lost(Act::Raw(http(200, &[], body))).await.kind(),
        TransportKind::TooLarge
    );
}

#[tokio::test]
async fn a_key_that_comes_back_is_blotted_out_of_everything() {
    for status in [200, 401] {
        let body = format!(r#"{{"error":{{"message":"bad key {KEY}"}},"choices":[]}}"#);
        let (answer, _) = ask(vec![Act::Raw(http(status, &[("x-echo", KEY)], body))]).await;
        let answer = answer.unwrap();
        let body = String::from_utf8(answer.body.clone()).unwrap();
        assert!(body.contains("bad key [redacted]"), "{body}");
        assert_eq!(answer.headers.get("x-echo"), Some("[redacted]"));
        assert!(!format!("{answer:?}").contains("0123456789"));
    }
    let masked = r#"{"error":{"message":"Incorrect API key provided: sk-test-****cret."}}"#;
    let (answer, _) = ask(vec![Act::Raw(http(401, &[], masked))]).await;
    assert!(
        !String::from_utf8(answer.unwrap().body)
            .unwrap()
            .contains("cret")
    );
}

#[test]
fn no_debug_shows_the_key() {
    let model = OpenAi::new(options("https://api.openai.com/v1")).unwrap();
    assert!(
        !format!("{model:?} {:?}", options("https://api.openai.com/v1")).contains("0123456789")
    );
}

#[test]
fn the_identity_leaves_out_the_token_maximum_and_the_order() {
    let identity = |change: fn(&mut OpenAiOptions)| {
        let mut options = options("https://api.openai.com/v1");
        change(&mut options);
        String::from_utf8(OpenAi::new(options).unwrap().identity(&question())).unwrap()
    };
    let plain = identity(|_| {});
    insta::assert_snapshot!(plain, @r#"{"messages":[{"content":"be brief","role":"system"},{"content":"hello","role":"user"}],"model":"m-1"}"#);
    assert_eq!(identity(|options| options.max_tokens = Some(9)), plain);
    assert_eq!(
        identity(|options| drop(
            options
                .extra
                .insert("max_completion_tokens".into(), 9.into())
        )),
        plain
    );
    assert_eq!(
        identity(|options| options.base_url = "http://127.0.0.1:1/v1".into()),
        plain
    );
    assert_ne!(identity(|options| options.temperature = Some(0.1)), plain);
    assert_ne!(
        identity(|options| drop(options.extra.insert("top_k".into(), 9.into()))),
        plain
    );
    let two = |names: [&'static str; 2]| {
        let mut options = options("https://api.openai.com/v1");
        options.extra = names
            .iter()
            .map(|name| ((*name).to_owned(), json!({"b": 1, "a": 2})))
            .collect();
        OpenAi::new(options).unwrap().identity(&question())
    };
    assert_eq!(two(["x", "y"]), two(["y", "x"]));
}

#[track_caller]
fn refused(change: impl FnOnce(&mut OpenAiOptions)) -> String {
    let mut options = options("https://api.openai.com/v1");
    change(&mut options);
    let error = OpenAi::new(options).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Options { .. }));
    let text = error.to_string();
    assert!(
        !text.contains("hunter2") && !text.contains("0123456789"),
        "{text}"
    );
    text
}

#[test]
fn a_base_url_that_cannot_work_or_holds_a_secret_is_refused_without_repeating_it() {
    let base = |url: &str| refused(|options| options.base_url = url.into());
    insta::assert_snapshot!(base("api.openai.com/v1?key=hunter2"), @"`base_url` is no URL (relative URL without a base); write it like `https://api.openai.com/v1`");
    insta::assert_snapshot!(base("ftp://x/v1"), @"`base_url` must begin with http:// or https://");
    insta::assert_snapshot!(base("https://me:hunter2@x.example/v1"), @"`base_url` holds a user name or password before `x.example`; use `api_key_env` or `headers`");
    insta::assert_snapshot!(base("https://hunt/er2@x.example/v1"), @"`base_url` holds an `@` behind the host; a key before a host goes into `api_key_env` or `headers`, any other `@` is written `%40`");
    insta::assert_snapshot!(base("https://x.example/v1?api_key=hunter2"), @"`base_url` holds a secret in its query (`api_key=`); use `api_key_env` or `headers`");
    insta::assert_snapshot!(base("https://x.example/v1#hunter2"), @"`base_url` holds a `#`, and what follows it is never sent; take it off");
    insta::assert_snapshot!(base(&format!("https://x.example/{KEY}/v1")), @"`base_url` holds the API key; take it out");
    insta::assert_snapshot!(base("https://x.example/v1/chat/completions/"), @"`base_url` ends in `/chat/completions`, which is added to it; take that off");
    insta::assert_snapshot!(base("http://x.example/v1"), @"`base_url` would send a secret unencrypted; use https, or set `allow_http: true`");
    for url in [
        "https://x.example/v1?token=hunter2",
        "https://x.example/?KEY=hunter2",
    ] {
        assert!(base(url).contains("secret in its query"));
    }
}

#[test]
fn plain_http_is_for_this_machine_or_for_whoever_has_no_secret() {
    for url in [
        "http://127.0.0.1:1/v1",
        "http://127.9.9.9/v1",
        "http://[::1]:8080/v1",
        "http://localhost/v1",
    ] {
        assert!(OpenAi::new(options(url)).is_ok(), "{url}");
    }
    let away = "http://10.0.0.7:8000/v1";
    assert!(OpenAi::new(OpenAiOptions::new(away, "m")).is_ok());
    assert!(
        OpenAi::new(OpenAiOptions {
            allow_http: true,
            ..options(away)
        })
        .is_ok()
    );
    for url in [
        "http://127.0.0.1.example.com/v1",
        "http://localhost.example.com/v1",
        away,
    ] {
        assert!(OpenAi::new(options(url)).is_err(), "{url}");
        let headers = vec![("x-token".into(), "hunter2".into())];
        assert!(
            OpenAi::new(OpenAiOptions {
                api_key: None,
                headers,
                ..options(url)
            })
            .is_err(),
            "{url}"
        );
    }
}

#[test]
fn a_key_or_header_that_http_cannot_carry_is_refused_without_a_panic() {
    let key = |key: &str| refused(|options| options.api_key = Some(key.into()));
    insta::assert_snapshot!(key("hunter2\n"), @"`api_key` begins or ends with white space (a newline at its end?)");
    insta::assert_snapshot!(key("hunter2\u{1}x"), @"`api_key` holds a character that no HTTP header may hold");
    let header = |name: &str, value: &str| {
        refused(|options| options.headers = vec![(name.into(), value.into())])
    };
    insta::assert_snapshot!(header("x y", "hunter2"), @"`headers` `x y` is no header name");
    insta::assert_snapshot!(header("x-y", "hunter2\n"), @"`headers` `x-y` has a value that no HTTP header may hold");
    insta::assert_snapshot!(header("Authorization", "hunter2"), @"`headers` `Authorization` is set twice");
    insta::assert_snapshot!(header("Content-Type", "hunter2"), @"`headers` `Content-Type` is set by the client itself");
}

#[test]
fn a_field_set_twice_is_refused() {
    let extra = |name: &str| {
        refused(|options| {
            options.temperature = Some(0.5);
            options.max_tokens = Some(5);
            drop(options.extra.insert(name.into(), json!(1)));
        })
    };
    insta::assert_snapshot!(extra("temperature"), @"`extra` holds `temperature`, which is also set beside it; take one of them out");
    insta::assert_snapshot!(extra("messages"), @"`extra` holds `messages`, which are made from the prompts");
    insta::assert_snapshot!(extra("stream"), @"`extra` holds `stream`; answers are always read whole");
    assert!(extra("model").contains("`model`") && extra("max_tokens").contains("`max_tokens`"));
    let mut options = options("https://api.openai.com/v1");
    options.extra.insert("temperature".into(), json!(1));
    assert!(OpenAi::new(options).is_ok());
}

//! An endpoint on 127.0.0.1 that answers by a script and keeps what it was sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// 0 for the first that came.
    pub(crate) nth: usize,
    /// Request line and headers.
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Asked {
    /// The last message.
    pub(crate) fn user(&self) -> &str {
        let messages = self.body["messages"].as_array().unwrap();
        messages.last().unwrap()["content"].as_str().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.trim())
    }
}

/// What the endpoint says.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    delay: Duration,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
            delay: Duration::ZERO,
        }
    }

    /// A good answer.
    pub(crate) fn good(text: &str) -> Answer {
        Answer::json(200, &completion(text))
    }

    /// A refusal in the words of OpenAI.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Answer {
        let error = json!({"message": message, "type": "invalid_request_error", "param": null, "code": code});
        Answer::json(status, &json!({"error": error}))
    }

    /// Text that is no JSON.
    pub(crate) fn page(status: u16, text: &str) -> Answer {
        Answer {
            body: text.as_bytes().to_vec(),
            ..Answer::json(status, &Value::Null)
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn after(mut self, delay: Duration) -> Answer {
        self.delay = delay;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} Said\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            self.status,
            self.body.len()
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

/// The body of a good answer.
pub(crate) fn completion(text: &str) -> Value {
    json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_795_000_000,
        "model": "tiny-2026",
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
    })
}

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

struct Shared {
    script: Box<Script>,
    asked: Mutex<Vec<Asked>>,
    at_work: AtomicUsize,
    most_at_work: AtomicUsize,
    closing: AtomicBool,
}

/// The endpoint; it is gone when it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    pub(crate) fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            asked: Mutex::new(Vec::new()),
            at_work: AtomicUsize::new(0),
            most_at_work: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.closing.load(Ordering::Relaxed) {
                    return;
                }
                let serving = Arc::clone(&serving);
                std::thread::spawn(move || serve(&serving, stream.unwrap()));
            }
        });
        Server { address, shared }
    }

    /// Answers every question with the question.
    pub(crate) fn echoing() -> Server {
        Server::start(|asked| Answer::good(&format!("You said: {}", asked.user())))
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What it was asked, in the order of arrival.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    pub(crate) fn hits(&self) -> usize {
        self.shared.asked.lock().unwrap().len()
    }

    /// The most requests that were under way at the same time.
    pub(crate) fn most_at_work(&self) -> usize {
        self.shared.most_at_work.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

/// Answers the requests of one connection until the other side has gone.
fn serve(shared: &Shared, stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream);
    while let Some((head, body)) = read_request(&mut reader) {
        let at_work = shared.at_work.fetch_add(1, Ordering::Relaxed) + 1;
        shared.most_at_work.fetch_max(at_work, Ordering::Relaxed);
        let asked = {
            let mut all = shared.asked.lock().unwrap();
            let asked = Asked {
                nth: all.len(),
                head,
                body,
            };
            all.push(asked.clone());
            asked
        };
        let answer = (shared.script)(&asked);
        std::thread::sleep(answer.delay);
        shared.at_work.fetch_sub(1, Ordering::Relaxed);
        if reader.get_mut().write_all(&answer.bytes()).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = vec![0; length?];
    reader.read_exact(&mut body).ok()?;
    Some((head, serde_json::from_slice(&body).ok()?))
}

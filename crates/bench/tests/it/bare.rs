//! The server and the bare loops.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_data-generation-bench");

struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(latency_ms: &str) -> Server {
        let mut child = Command::new(BENCH)
            .args(["serve", "--latency-ms", latency_ms])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut url)
            .unwrap();
        let url = url.trim().to_owned();
        Server { child, url }
    }

    fn stats(&self) -> Value {
        let mut stream = TcpStream::connect(&self.url["http://".len()..]).unwrap();
        stream
            .write_all(b"GET /stats HTTP/1.1\r\nhost: x\r\n\r\n")
            .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn rows(path: &Path, count: usize) {
    let rows: String = (0..count)
        .map(|n| format!("{{\"topic\":\"t{n}\",\"audience\":\"a\",\"notes\":\"n\"}}\n"))
        .collect();
    std::fs::write(path, rows).unwrap();
}

#[test]
fn a_bare_loop_asks_every_row_once_with_as_many_in_flight_as_wanted() {
    for library in ["reqwest", "async-openai"] {
        let dir = tempfile::tempdir().unwrap();
        rows(&dir.path().join("rows.jsonl"), 300);
        let server = Server::start("5");
        let status = Command::new(BENCH)
            .current_dir(dir.path())
            .args(["measure", "--account", "account.json", "--", BENCH])
            .args([
                "loop",
                library,
                "--url",
                &server.url,
                "--rows",
                "rows.jsonl",
            ])
            .args(["--out", "out.jsonl", "--in-flight", "16"])
            .status()
            .unwrap();
        assert!(status.success(), "{library}");

        let out = std::fs::read_to_string(dir.path().join("out.jsonl")).unwrap();
        let mut topics: Vec<String> = out
            .lines()
            .map(|line| {
                let line: Value = serde_json::from_str(line).unwrap();
                assert!(line["response"].as_str().unwrap().contains("tide"));
                line["input"]["topic"].to_string()
            })
            .collect();
        topics.sort();
        topics.dedup();
        assert_eq!(topics.len(), 300, "{library}");

        let stats = server.stats();
        assert_eq!(
            (&stats["requests"], &stats["answers"]),
            (&300.into(), &300.into())
        );
        assert_eq!(stats["most_in_flight"], 16, "{library}");
        assert!(
            stats["connections"].as_u64().unwrap() <= 17,
            "{library}: {stats}"
        );

        let account = std::fs::read_to_string(dir.path().join("account.json")).unwrap();
        let account: Value = serde_json::from_str(&account).unwrap();
        assert_eq!(account["code"], 0);
        assert!(account["peak_kib"].as_u64().unwrap() > 1000, "{account}");
        assert!(account["cpu_us"].as_u64().unwrap() > 0, "{account}");
        let ns = |value: &Value, name: &str| value[name].as_u64().unwrap();
        assert!(ns(&account, "started_ns") < ns(&stats, "first_request_ns"));
        assert!(ns(&stats, "last_answer_ns") < ns(&account, "ended_ns"));
    }
}

#[test]
fn a_server_whose_starter_is_gone_ends() {
    let mut server = Server::start("0");
    assert!(server.child.try_wait().unwrap().is_none());
    drop(server.child.stdin.take());
    assert!(!server.child.wait().unwrap().success());
}

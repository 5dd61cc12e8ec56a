use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// What a server saw until now.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Seen {
    /// Every question, in the order of arrival.
    pub requests: Vec<Asked>,
    /// Connections that were opened.
    pub connections: usize,
    /// Questions that were under way at the same time, at most.
    pub at_once: usize,
}

/// One question that arrived.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Asked {
    /// When its last byte arrived; time never runs backwards.
    pub at: Instant,
    /// When the last byte of the answer had left, or the connection was closed; `None`: not yet.
    pub until: Option<Instant>,
    /// Its row: the last whole number in the user message.
    pub row: u64,
    /// Its number among the requests of its row, from 1.
    pub nth: u32,
    /// What it got.
    pub got: Got,
    /// Tokens of the question and of its good answer, as limits count them.
    pub tokens: u64,
    /// The request's headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The request's body; `null` when it was no JSON.
    pub body: Value,
}

/// What a question got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Got {
    /// A good answer.
    Good,
    /// The fault of this name.
    Fault(&'static str),
    /// 429, because a limit of the plan was reached.
    Limited,
    /// The status of an outage of the plan.
    Down(u16),
}

impl Seen {
    /// How many questions arrived.
    pub fn total(&self) -> usize {
        self.requests.len()
    }

    /// How many questions of each row arrived.
    pub fn by_row(&self) -> BTreeMap<u64, usize> {
        let mut rows = BTreeMap::new();
        for asked in &self.requests {
            *rows.entry(asked.row).or_default() += 1;
        }
        rows
    }

    /// The questions of one row.
    pub fn of_row(&self, row: u64) -> impl Iterator<Item = &Asked> {
        self.requests.iter().filter(move |asked| asked.row == row)
    }

    /// When which row asked.
    pub fn times(&self) -> Vec<(Instant, u64)> {
        let times = self.requests.iter().map(|asked| (asked.at, asked.row));
        times.collect()
    }

    /// The most questions that arrived within any such stretch of time.
    pub fn most_within(&self, window: Duration) -> usize {
        let times: Vec<Instant> = self.requests.iter().map(|asked| asked.at).collect();
        let mut first = 0;
        let mut most = 0;
        for (n, time) in times.iter().enumerate() {
            while first <= n && *time - times[first] >= window {
                first += 1;
            }
            most = most.max(n + 1 - first);
        }
        most
    }

    /// How often each kind of answer was given.
    pub fn by_answer(&self) -> BTreeMap<String, usize> {
        let mut answers = BTreeMap::new();
        for asked in &self.requests {
            let name = match asked.got {
                Got::Good => "good answer".to_owned(),
                Got::Fault(name) => name.to_owned(),
                Got::Limited => "limit reached".to_owned(),
                Got::Down(status) => format!("down, status {status}"),
            };
            *answers.entry(name).or_default() += 1;
        }
        answers
    }
}

impl Asked {
    /// A header of the request, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

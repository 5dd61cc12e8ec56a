use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::http::Request;
use crate::plan::{Down, Latency, Plan, Window};
use crate::question::Question;
use crate::seen::{Asked, Got, Seen};

/// What all connections of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) started: Instant,
    /// Tells the server to be away for a while.
    pub(crate) away: UnboundedSender<Duration>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seen: Seen,
    /// For each row its place among all rows, and its requests.
    rows: HashMap<u64, (usize, u32)>,
    /// How often a row has met a rule, by the rule's place in the plan.
    met: HashMap<(usize, u64), u32>,
    under_way: usize,
    windows: Vec<Window>,
}

/// What is to be done with a question.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    Good,
    Fault(&'static Fault),
    /// 429, with the time to wait where it is told.
    Limited(Option<Duration>),
    /// More at the same time than planned, with a status and words of its own.
    Busy(u16, &'static str),
    Status(u16),
}

/// One question under way; when it is dropped, its answer has left.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    shared: &'a Shared,
    index: usize,
    pub(crate) act: Act,
    pub(crate) latency: Duration,
    pub(crate) values: Values,
}

/// What stands in the place of `{row}`, `{text}` and the tokens in what is sent.
#[derive(Debug, Clone)]
pub(crate) struct Values {
    row: u64,
    /// As it stands between the quotes of a JSON string.
    text: String,
    prompt: u64,
    completion: u64,
}

impl Shared {
    pub(crate) fn new(plan: Plan, away: UnboundedSender<Duration>) -> Shared {
        let windows = plan.limits.iter().copied().map(Window::new).collect();
        Shared {
            plan,
            started: Instant::now(),
            away,
            state: Mutex::new(State {
                windows,
                ..State::default()
            }),
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.lock().seen.clone()
    }

    pub(crate) fn connected(&self) {
        self.lock().seen.connections += 1;
    }

    /// Counts a question and decides what becomes of it.
    pub(crate) fn arrive(&self, request: Request) -> Turn<'_> {
        let now = Instant::now();
        let mut question = Question::of(&request.body);
        let mut state = self.lock();
        let rows = state.rows.len();
        let (arrival, nth) = {
            let row = state.rows.entry(question.row).or_insert((rows, 0));
            row.1 += 1;
            *row
        };
        question.nth = nth;
        let values = Values::of(&question, (self.plan.text)(&question));
        let act = self.act(&mut state, &question, arrival, &values, now);
        let latency = match (act, self.plan.fault_latency) {
            (Act::Fault(_), Some(latency)) => latency,
            // It has no slot for it to wait in.
            (Act::Busy(..), _) => Latency::None,
            _ => self.plan.latency,
        };
        state.under_way += 1;
        state.seen.at_once = state.seen.at_once.max(state.under_way);
        state.seen.requests.push(Asked {
            at: now,
            until: None,
            row: question.row,
            nth,
            got: match act {
                Act::Good => Got::Good,
                Act::Fault(fault) => Got::Fault(fault.name),
                Act::Limited(_) | Act::Busy(..) => Got::Limited,
                Act::Status(status) => Got::Down(status),
            },
            tokens: values.prompt + values.completion,
            headers: request.headers,
            body: question.body,
        });
        Turn {
            shared: self,
            index: state.seen.requests.len() - 1,
            act,
            latency: latency.of(self.plan.seed, question.row, nth),
            values,
        }
    }

    fn act(
        &self,
        state: &mut State,
        question: &Question,
        arrival: usize,
        values: &Values,
        now: Instant,
    ) -> Act {
        let age = now - self.started;
        for outage in &self.plan.outages {
            if let Down::Status(status) = outage.how
                && (outage.from..outage.to).contains(&age)
            {
                return Act::Status(status);
            }
        }
        if self
            .plan
            .concurrency
            .is_some_and(|most| state.under_way >= most)
        {
            return match self.plan.busy {
                Some((status, words)) => Act::Busy(status, words),
                None => Act::Limited(None),
            };
        }
        let tokens = values.prompt + values.completion;
        let mut full = state.windows.iter_mut().filter_map(|window| {
            let wait = window.wait(now, tokens);
            (!wait.is_zero()).then_some(window.says_when().then_some(wait))
        });
        if let Some(wait) = full.next() {
            return Act::Limited(wait);
        }
        drop(full);
        for window in &mut state.windows {
            window.take(now, tokens);
        }
        for (n, rule) in self.plan.rules.iter().enumerate() {
            let met = state.met.entry((n, question.row)).or_default();
            if rule.who.meets(question, arrival) && rule.times.again_after(*met) {
                *met += 1;
                return Act::Fault(rule.fault);
            }
        }
        Act::Good
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.under_way -= 1;
        state.seen.requests[self.index].until = Some(Instant::now());
    }
}

impl Values {
    fn of(question: &Question, text: String) -> Values {
        let completion = (text.len() as u64).div_ceil(4);
        let quoted = serde_json::Value::from(text).to_string();
        Values {
            row: question.row,
            text: quoted[1..quoted.len() - 1].to_owned(),
            prompt: question.tokens(),
            completion,
        }
    }

    /// The template with everything in its place.
    pub(crate) fn fill(&self, template: &str) -> String {
        template
            .replace("{row}", &self.row.to_string())
            .replace("{prompt}", &self.prompt.to_string())
            .replace("{completion}", &self.completion.to_string())
            .replace("{total}", &(self.prompt + self.completion).to_string())
            .replace("{text}", &self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::GOOD;

    #[test]
    fn a_good_answer_is_json_whatever_it_says() {
        let question = Question::of(br#"{"messages":[{"role":"user","content":"row 7"}]}"#);
        let text = "\"quoted\" \\ and\nmore {row} 人";
        let body = Values::of(&question, text.into()).fill(GOOD);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["choices"][0]["message"]["content"], text);
        assert_eq!(body["id"], "chatcmpl-7");
        let usage = &body["usage"];
        let sum =
            usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
        assert_eq!(usage["total_tokens"], sum);
    }
}

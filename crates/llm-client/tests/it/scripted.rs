//! A model that answers by a script, and a call that remembers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation_llm_client::Usage;
use data_generation_llm_client::{
    Answer, BoxError, Call, Client, ClientOptions, Event, Headers, Model, Request, TransportError,
};
use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) type Outcome = Result<Answer, TransportError>;
type Script = dyn Fn(usize, &Request) -> Outcome + Send + Sync;

/// Answers the n-th request (from 0) with what the script says, after some time.
pub(crate) struct Scripted {
    script: Box<Script>,
    latency: Duration,
    pub(crate) sent: Mutex<Vec<(Instant, String)>>,
    pub(crate) at_once: Mutex<(usize, usize)>,
}

impl Scripted {
    pub(crate) fn new(
        script: impl Fn(usize, &Request) -> Outcome + Send + Sync + 'static,
    ) -> Arc<Scripted> {
        Scripted::slow(Duration::from_millis(10), script)
    }

    pub(crate) fn slow(
        latency: Duration,
        script: impl Fn(usize, &Request) -> Outcome + Send + Sync + 'static,
    ) -> Arc<Scripted> {
        Arc::new(Scripted {
            script: Box::new(script),
            latency,
            sent: Mutex::default(),
            at_once: Mutex::default(),
        })
    }

    /// These outcomes one after another, then good answers.
    pub(crate) fn of(outcomes: impl IntoIterator<Item = Outcome>) -> Arc<Scripted> {
        let queue: Mutex<VecDeque<Outcome>> = Mutex::new(outcomes.into_iter().collect());
        Scripted::new(move |_, _| {
            queue
                .lock()
                .unwrap()
                .pop_front()
                .unwrap_or_else(|| Ok(Answer::text("good")))
        })
    }

    pub(crate) fn hits(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    pub(crate) fn times(&self) -> Vec<Instant> {
        self.sent
            .lock()
            .unwrap()
            .iter()
            .map(|(time, _)| *time)
            .collect()
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.at_once.lock().unwrap().1
    }
}

impl Model for Scripted {
    fn provider(&self) -> &str {
        "scripted"
    }

    fn model(&self) -> &str {
        "scripted-1"
    }

    fn ask<'a>(&'a self, request: &'a Request, _: u32) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let nth = {
                let mut sent = self.sent.lock().unwrap();
                sent.push((Instant::now(), request.user.clone()));
                let mut at_once = self.at_once.lock().unwrap();
                at_once.0 += 1;
                at_once.1 = at_once.1.max(at_once.0);
                sent.len() - 1
            };
            tokio::time::sleep(self.latency).await;
            self.at_once.lock().unwrap().0 -= 1;
            (self.script)(nth, request)
        })
    }
}

#[derive(Default)]
pub(crate) struct Watched {
    pub(crate) replays: Mutex<VecDeque<(Answer, u32)>>,
    pub(crate) paid: Mutex<Vec<(u16, u32)>>,
    pub(crate) events: Mutex<Vec<Event>>,
    pub(crate) stopping: CancellationToken,
    pub(crate) attempts: AtomicU32,
    pub(crate) paid_takes: Duration,
    pub(crate) paid_fails: bool,
}

impl Call for Watched {
    fn replay(&self) -> Option<(Answer, u32)> {
        self.replays.lock().unwrap().pop_front()
    }

    fn next_attempt(&self) -> u32 {
        self.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn paid<'a>(
        &'a self,
        answer: &'a Answer,
        _: Usage,
        attempt: u32,
    ) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(async move {
            tokio::time::sleep(self.paid_takes).await;
            self.paid.lock().unwrap().push((answer.status, attempt));
            if self.paid_fails {
                Err("disk full".into())
            } else {
                Ok(())
            }
        })
    }

    fn event(&self, event: &Event) {
        self.events.lock().unwrap().push(event.clone());
    }

    fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }
}

pub(crate) fn client(model: &Arc<Scripted>, options: ClientOptions) -> Arc<Client> {
    Arc::new(Client::new(Arc::clone(model) as Arc<dyn Model>, options).seeded(1))
}

pub(crate) fn at_once(concurrency: usize) -> ClientOptions {
    ClientOptions {
        concurrency: concurrency.try_into().unwrap(),
        ..ClientOptions::default()
    }
}

pub(crate) fn status(status: u16, body: &str) -> Outcome {
    Ok(Answer::from_body(status, body))
}

pub(crate) fn with_header(status: u16, name: &str, value: &str) -> Outcome {
    let mut answer = Answer::from_body(status, "");
    answer.headers = Headers::from_pairs([(name, value)]);
    Ok(answer)
}

pub(crate) fn row(n: usize) -> Request {
    Request::user(format!("row {n}"))
}

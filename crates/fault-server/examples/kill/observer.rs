use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use data_generation_fault_server::{FaultServer, Latency, Plan};

use crate::{Outcome, ROWS};

/// The endpoint, which is not killed and knows what it was asked.
pub(crate) struct Observer {
    server: FaultServer,
    asked: Arc<Mutex<HashSet<(u64, u32)>>>,
}

/// Rows whose first answer holds no draft: they fail, and are asked anew by a later life.
fn misses(row: u64, nth: u32) -> bool {
    row % 97 == 5 && row < 6_000 && nth == 1
}

/// What a row is answered the n-th time it asks: no two answers are the same.
pub(crate) fn answer(row: u64, nth: u32) -> String {
    let text = format!("answer {nth} to row {row}");
    match misses(row, nth) {
        true => text,
        false => format!("<draft>{text}</draft>"),
    }
}

impl Observer {
    pub(crate) fn start(seed: u64) -> Outcome<Observer> {
        let asked = Arc::new(Mutex::new(HashSet::new()));
        let heard = Arc::clone(&asked);
        let plan = Plan::good()
            .seed(seed)
            .latency(Latency::LogNormal {
                median: Duration::from_millis(120),
                sigma: 0.6,
            })
            .answers(move |question| {
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.insert((question.row, question.nth));
                answer(question.row, question.nth)
            });
        let server = FaultServer::start_blocking(plan)?;
        Ok(Observer { server, asked })
    }

    pub(crate) fn url(&self) -> &str {
        self.server.url()
    }

    /// Requests until now.
    pub(crate) fn asked(&self) -> usize {
        self.asked_ones().len()
    }

    /// Rows with the numbers of their requests.
    pub(crate) fn asked_ones(&self) -> MutexGuard<'_, HashSet<(u64, u32)>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows that may still fail in the next life, because their good answer is not asked for yet.
    pub(crate) fn may_miss(&self) -> usize {
        let asked = self.asked_ones();
        let rows = (0..ROWS as u64).filter(|row| misses(*row, 1));
        rows.filter(|row| !asked.contains(&(*row, 2))).count()
    }

    /// Waits for what a dead client has still on its way.
    pub(crate) fn settled(&self) {
        let mut quiet = 0;
        let mut before = self.asked();
        while quiet < 3 {
            std::thread::sleep(Duration::from_millis(4));
            let now = self.asked();
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
        }
    }
}

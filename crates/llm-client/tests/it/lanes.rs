//! What is sent again, beside what is new.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation_llm_client::{Answer, LimitOptions};
use futures::future::join_all;

use crate::scripted::{Scripted, at_once, client, row, status};

const ROWS: usize = 200;

/// All rows want to be asked at once, under a tight limit; the first requests of each fail, so many. Gives all requests
/// as they left: the row, and the number of its request.
async fn sent(fails: fn(&str) -> usize) -> Vec<(String, usize)> {
    let requests: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let model = Scripted::slow(Duration::from_secs(1), move |_, request| {
        let mut requests = requests.lock().unwrap();
        let nth = requests.entry(request.user.clone()).or_default();
        *nth += 1;
        match *nth <= fails(&request.user) {
            true => status(500, ""),
            false => Ok(Answer::text("good")),
        }
    });
    let mut options = at_once(8);
    options.limits = LimitOptions::per_minute(60.try_into().ok());
    let client = client(&model, options);
    let rows: Vec<_> = (0..ROWS).map(row).collect();
    let results = join_all(rows.iter().map(|row| client.ask(row))).await;
    assert!(results.iter().all(Result::is_ok));
    let mut seen = HashMap::new();
    let sent = model.sent.lock().unwrap();
    let number = |(_, row): &(_, String)| {
        let nth: &mut usize = seen.entry(row.clone()).or_default();
        *nth += 1;
        (row.clone(), *nth)
    };
    sent.iter().map(number).collect()
}

fn first_requests(sent: &[(String, usize)]) -> usize {
    sent.iter().filter(|(_, nth)| *nth == 1).count()
}

#[tokio::test(start_paused = true)]
async fn a_repeat_does_not_wait_for_all_that_is_new() {
    // Every other row.
    let sent = sent(|row| usize::from(row.ends_with(['0', '2', '4', '6', '8']))).await;
    assert_eq!(sent.len(), ROWS + ROWS / 2);
    for (at, (row, nth)) in sent.iter().enumerate() {
        let again = sent[at + 1..].iter().position(|(other, _)| other == row);
        // As long as the answer and the back-off take, and some who were there before.
        assert!(
            *nth == 2 || again.is_none_or(|behind| behind < 16),
            "{row} after {again:?} others"
        );
    }
    let at_the_end = &sent[sent.len() - 20..];
    assert!(first_requests(at_the_end) >= 10, "{at_the_end:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_new_does_not_wait_for_all_repeats() {
    let sent = sent(|_| 3).await;
    assert_eq!(sent.len(), ROWS * 4);
    let last_new = sent.iter().rposition(|(_, nth)| *nth == 1).unwrap();
    for (at, stretch) in sent[..last_new].chunks_exact(20).enumerate() {
        let new = first_requests(stretch);
        assert!(new >= 9, "{new} new ones of 20 after {}", at * 20);
    }
}

//! How many requests at the same time, where nobody says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_generation::Event;
use data_generation::llm::{Answer, Model, Request, TransportError};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::harness::Home;

/// Answers after a second, however many ask.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<(usize, usize)>>);

impl Model for Slow {
    fn provider(&self) -> &str {
        "slow"
    }

    fn model(&self) -> &str {
        "slow-1"
    }

    fn ask<'a>(&'a self, _: &'a Request, _: u32) -> BoxFuture<'a, Result<Answer, TransportError>> {
        Box::pin(async move {
            {
                let (now, most) = &mut *self.0.lock().unwrap();
                *now += 1;
                *most = (*most).max(*now);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.0.lock().unwrap().0 -= 1;
            Ok(Answer::text("fine"))
        })
    }
}

fn rows(count: usize) -> Vec<Value> {
    (0..count).map(|n| json!({"word": n})).collect()
}

#[tokio::test(start_paused = true)]
async fn with_auto_as_many_are_asked_at_once_as_it_pays_and_no_more_rows_are_held() {
    let (home, slow) = (Home::new(), Slow::default());
    let builder = home.builder().own_model(slow.clone()).concurrency_auto();
    let pipeline = builder.concurrency_max(40).build().unwrap();
    let told: Arc<Mutex<Vec<usize>>> = Arc::default();
    let held: Arc<Mutex<(usize, usize)>> = Arc::default();
    let observer = {
        let (told, held) = (Arc::clone(&told), Arc::clone(&held));
        move |event: &Event<'_>| match event {
            Event::Places { places } => told.lock().unwrap().push(*places),
            Event::RowStarted { .. } => {
                let (now, beyond) = &mut *held.lock().unwrap();
                *now += 1;
                let places = told.lock().unwrap().last().copied().unwrap();
                *beyond = (*beyond).max(now.saturating_sub(places));
            }
            Event::Finished { .. } => held.lock().unwrap().0 -= 1,
            _ => {}
        }
    };
    let run = pipeline.run(rows(600)).observer(observer);
    assert!(run.await.unwrap().is_complete());
    assert_eq!(told.lock().unwrap()[..4], [8, 16, 32, 40]);
    assert_eq!(slow.0.lock().unwrap().1, 40);
    assert_eq!(held.lock().unwrap().1, 0, "rows above the places");
    let manifest = std::fs::read_to_string(home.dir.path().join("demo/run.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let settings = &manifest["settings"];
    assert_eq!(settings["run.concurrency_limit"]["value"], "auto");
    assert_eq!(settings["run.concurrency_max"]["value"], 40);
}

#[tokio::test(start_paused = true)]
async fn one_run_may_find_out_by_itself_where_the_settings_have_a_number() {
    let (home, slow) = (Home::new(), Slow::default());
    let builder = home.builder().own_model(slow.clone()).concurrency_limit(3);
    let pipeline = builder.build().unwrap();
    pipeline.run(rows(100)).concurrency_auto(20).await.unwrap();
    assert_eq!(slow.0.lock().unwrap().1, 20);
    let manifest = std::fs::read_to_string(home.dir.path().join("demo/run.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let of_this_run = |value: Value| json!({"value": value, "origin": "for this run, in code"});
    let settings = &manifest["settings"];
    assert_eq!(
        settings["run.concurrency_limit"],
        of_this_run(json!("auto"))
    );
    assert_eq!(settings["run.concurrency_max"], of_this_run(json!(20)));
}

#[test]
fn a_word_that_is_not_auto_is_refused() {
    let home = Home::new();
    let file = home.file("config.yaml", "run: {concurrency_limit: automatic}\n");
    let error = home.builder().config_file(file).build().err().unwrap();
    let text = error.to_string();
    let (_, text) = text.rsplit_once(": `").unwrap();
    insta::assert_snapshot!(text, @"run.concurrency_limit`: found the string `automatic`, expected a whole number, 1 or more, or `auto`");
}

//! Rows that come one by one, from a database or a queue, and records that are used as soon as they are there.
//!
//! `cargo run --example stream_of_rows`; however many rows there are, only a few are held at a time.

use data_generation::{DataGenerationPipeline, Source, extract};
use futures::stream::{self, StreamExt};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let pipeline = DataGenerationPipeline::builder()
        .offline()
        .system_prompt(None)
        .user_prompt("What is special about the number {{number}}? Answer in <answer> tags.")
        .experiment_name("stream_of_rows")
        .build()?;

    // Anything that is a `Stream` of things that serialise to JSON objects. Each row is checked when it
    // comes; one that does not fit the prompt fails alone. `Source::iter` takes an iterator in the same way.
    let rows = stream::iter(1..=1000).map(|number| json!({"number": number}));

    let mut records = pipeline
        .run(Source::stream(rows))
        .concurrency_limit(20)
        .extractor(extract::tag("answer").first())
        .records();

    // A record comes when it is safe on the disk. The run goes on only while records are taken, so that
    // a slow reader slows it down and nothing piles up.
    let mut characters = 0;
    while let Some(record) = records.next().await {
        let record = record?;
        characters += record.response.chars().count();
        if record.index % 250 == 0 {
            println!("row {}: {}", record.index + 1, record.response);
        }
    }
    println!("{characters} characters in all");

    if let Some(report) = records.report() {
        println!("\n{report}");
    }
    Ok(())
}

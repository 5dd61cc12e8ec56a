//! A function of your own decides what of an answer goes into the dataset, and what is good enough.
//!
//! `cargo run --example own_extractor`; an answer that is too short is asked for once more, then its row fails.

use data_generation::extract::{self, Extract};
use data_generation::{DataGenerationPipeline, Event};
use serde_json::{Value, json};

/// Fewer words are no summary.
const LEAST_WORDS: usize = 4;

/// What is between the tags, with its length; an error says why it is not taken.
fn summary(answer: &str) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
    // The built-in extractors can be used inside one's own.
    let text = extract::tag("summary").first().extract(answer)?;
    let text = text.as_str().unwrap_or_default();
    let words = text.split_whitespace().count();
    if words < LEAST_WORDS {
        return Err(format!("{words} words, {LEAST_WORDS} are the least").into());
    }
    Ok(json!({"text": text, "words": words}))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let pipeline = DataGenerationPipeline::builder()
        .offline()
        // What the offline model answers; without it, it knows nothing of the tags of our function.
        .set("offline.reply", "<summary>In short: {{user}}</summary>")
        .system_prompt(None)
        .user_prompt("{{text}}")
        .experiment_name("own_extractor")
        .build()?;

    let rows = [
        json!({"text": "bees dance to tell where the flowers are"}),
        json!({"text": "the moon pulls the sea towards it"}),
        json!({"text": "hm"}),
    ];
    let report = pipeline
        .run(rows)
        // The name stands for the function in the run's manifest: change it when the function changes.
        .extractor(extract::from_fn("summary v1", summary))
        // Hears of every row; here of those that are done.
        .observer(|event: &Event<'_>| {
            if let Event::Finished { record } = event {
                println!("{}", record.extracted.as_ref().unwrap_or(&Value::Null));
            }
        })
        .await?;

    println!("\n{report}");
    Ok(())
}

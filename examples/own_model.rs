//! Something of your own answers: another protocol, a model in this process, or, as here, plain arithmetic.
//!
//! `cargo run --example own_model`; it has the same journal, retries, limits and dataset as every model.

use data_generation::llm::{Answer, Model, Request, TransportError};
use data_generation::{DataGenerationPipeline, extract};
use futures::future::BoxFuture;
use futures::stream::StreamExt;
use serde_json::json;

/// Adds and multiplies.
struct Calculator;

impl Model for Calculator {
    /// Who answers; a part of what makes two requests the same.
    fn provider(&self) -> &str {
        "calculator"
    }

    /// What stands in the records as the model's name.
    fn model(&self) -> &str {
        "calculator-1"
    }

    /// Asks once. Retries, limits and concurrency are not its business: the client around it sees to them.
    fn ask<'a>(
        &'a self,
        request: &'a Request,
        _attempt: u32,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        Box::pin(async move {
            Ok(match calculate(&request.user) {
                Some(result) => Answer::text(&format!("That is <result>{result}</result>.")),
                // An HTTP status, as from an endpoint: this one fails the row, and no other.
                None => Answer::from_body(422, r#"{"error": {"message": "I only know + and *"}}"#),
            })
        })
    }
}

fn calculate(question: &str) -> Option<i64> {
    let (left, operator, right) = {
        let mut words = question.split(' ');
        (words.next()?, words.next()?, words.next()?)
    };
    let (left, right): (i64, i64) = (left.parse().ok()?, right.parse().ok()?);
    match operator {
        "+" => left.checked_add(right),
        "*" => left.checked_mul(right),
        _ => None,
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let pipeline = DataGenerationPipeline::builder()
        .own_model(Calculator)
        .system_prompt(None)
        .user_prompt("{{a}} {{operator}} {{b}}")
        .experiment_name("own_model")
        .build()?;

    let rows = [
        json!({"a": 17, "operator": "+", "b": 25}),
        json!({"a": 12, "operator": "*", "b": 12}),
        json!({"a": 1, "operator": "/", "b": 0}),
    ];
    let mut records = pipeline
        .run(rows)
        .extractor(extract::tag("result").first())
        .records();
    while let Some(record) = records.next().await {
        let record = record?;
        let result = record.extracted.unwrap_or_default();
        println!("{} -> {result} ({})", record.input, record.model);
    }
    if let Some(report) = records.report() {
        println!("\n{report}");
    }
    Ok(())
}

//! Bare loops: what somebody writes who wants rows and answers and nothing else.
//!
//! One thread, as many requests under way as wanted, a line for each answer. No journal, no sync, no check, no
//! limit, no retry of their own, nothing to go on from: what they take is the floor that everything else stands on.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::sync::Arc;

use async_openai::config::OpenAIConfig;
use async_openai::types::chat::{
    ChatCompletionRequestSystemMessage, ChatCompletionRequestUserMessage,
    CreateChatCompletionRequestArgs,
};
use futures::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};

use crate::args::{Library, Loop};
use crate::config::{SYSTEM, user};
use crate::server::raise_files;

type Failed = Box<dyn std::error::Error>;

/// Runs one to its end.
pub(crate) fn run(bare: &Loop) -> Result<(), String> {
    raise_files();
    // reqwest asks for a provider of the process, also where nobody speaks TLS.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime
        .block_on(async {
            match bare.by {
                Library::Reqwest => by_reqwest(bare).await,
                Library::AsyncOpenai => by_async_openai(bare).await,
            }
        })
        .map_err(|error| format!("the bare loop: {error}"))
}

fn rows(bare: &Loop) -> Result<impl Stream<Item = Result<Value, Failed>>, Failed> {
    let lines = BufReader::new(File::open(&bare.rows)?).lines();
    Ok(stream::iter(lines.map(|line: io::Result<String>| {
        Ok(serde_json::from_str(&line?)?)
    })))
}

struct Answered {
    row: Value,
    text: String,
    model: String,
    tokens: u64,
}

/// Writes each answer when it comes.
async fn write(
    bare: &Loop,
    answers: impl Stream<Item = Result<Answered, Failed>>,
) -> Result<(), Failed> {
    let mut out = BufWriter::new(File::create(&bare.out)?);
    let mut answers = std::pin::pin!(answers);
    while let Some(answered) = answers.next().await {
        let Answered {
            row,
            text,
            model,
            tokens,
        } = answered?;
        let line = json!({"input": row, "response": text, "model": model, "tokens": tokens});
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

async fn by_reqwest(bare: &Loop) -> Result<(), Failed> {
    let client = reqwest::Client::new();
    let url: Arc<str> = format!("{}/v1/chat/completions", bare.url).into();
    let ask = |row: Result<Value, Failed>| {
        let (client, url) = (client.clone(), Arc::clone(&url));
        async move {
            let row = row?;
            let request = json!({
                "model": "bench-1",
                "messages": [
                    {"role": "system", "content": SYSTEM},
                    {"role": "user", "content": user(&row)},
                ],
            });
            let response = client
                .post(&*url)
                .header("content-type", "application/json")
                .body(serde_json::to_vec(&request)?)
                .send()
                .await?
                .error_for_status()?;
            let answer: Value = serde_json::from_slice(&response.bytes().await?)?;
            let text = &answer["choices"][0]["message"]["content"];
            Ok(Answered {
                row,
                text: text.as_str().ok_or("no text")?.to_owned(),
                model: answer["model"].as_str().unwrap_or_default().to_owned(),
                tokens: answer["usage"]["total_tokens"].as_u64().unwrap_or(0),
            })
        }
    };
    write(bare, rows(bare)?.map(ask).buffer_unordered(bare.in_flight)).await
}

async fn by_async_openai(bare: &Loop) -> Result<(), Failed> {
    let config = OpenAIConfig::new()
        .with_api_base(format!("{}/v1", bare.url))
        .with_api_key("bench");
    let client = async_openai::Client::with_config(config);
    let ask = |row: Result<Value, Failed>| {
        let client = client.clone();
        async move {
            let row = row?;
            let request = CreateChatCompletionRequestArgs::default()
                .model("bench-1")
                .messages([
                    ChatCompletionRequestSystemMessage::from(SYSTEM).into(),
                    ChatCompletionRequestUserMessage::from(user(&row)).into(),
                ])
                .build()?;
            let answer = client.chat().create(request).await?;
            let first = answer.choices.into_iter().next().ok_or("no choice")?;
            Ok(Answered {
                row,
                text: first.message.content.ok_or("no text")?,
                model: answer.model,
                tokens: answer
                    .usage
                    .map_or(0, |usage| u64::from(usage.total_tokens)),
            })
        }
    };
    write(bare, rows(bare)?.map(ask).buffer_unordered(bare.in_flight)).await
}

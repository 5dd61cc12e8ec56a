//! A folder of its own for each test, and a model that says what the test wants.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use data_generation::llm::{Answer, Model, Request, TransportError};
use data_generation::{Builder, DataGenerationPipeline};
use futures::future::BoxFuture;
use serde_json::Value;

type Saying = Arc<dyn Fn(&str, u32) -> Answer + Send + Sync>;

/// A model of the test's own.
#[derive(Clone)]
pub(crate) struct Says {
    saying: Saying,
    pub(crate) asked: Arc<AtomicU32>,
}

impl Says {
    /// Answers by user prompt and attempt.
    pub(crate) fn new(saying: impl Fn(&str, u32) -> Answer + Send + Sync + 'static) -> Says {
        Says {
            saying: Arc::new(saying),
            asked: Arc::default(),
        }
    }

    pub(crate) fn text(text: &'static str) -> Says {
        Says::new(move |_, _| Answer::text(text))
    }

    pub(crate) fn asked(&self) -> u32 {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

impl Model for Says {
    fn provider(&self) -> &str {
        "test"
    }

    fn model(&self) -> &str {
        "test-1"
    }

    fn ask<'a>(
        &'a self,
        request: &'a Request,
        attempt: u32,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = (self.saying)(&request.user, attempt);
        Box::pin(std::future::ready(Ok(answer)))
    }
}

pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Home {
        Home {
            dir: tempfile::tempdir().expect("a folder"),
        }
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// A builder that sees nothing of this machine.
    pub(crate) fn builder(&self) -> Builder {
        DataGenerationPipeline::builder()
            .environment(std::iter::empty())
            .system_prompt(None)
            .user_prompt("Say {{word}}.")
            .output_dir(self.dir.path().to_str().expect("a path that is text"))
            .experiment_name("demo")
            .need_time_stamp(false)
    }

    pub(crate) fn lines(&self, file: &str) -> Vec<Value> {
        let text =
            std::fs::read_to_string(self.dir.path().join("demo").join(file)).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a whole line"))
            .collect()
    }
}

pub(crate) fn words(words: &[&str]) -> Vec<BTreeMap<String, String>> {
    words
        .iter()
        .map(|word| BTreeMap::from([("word".to_owned(), (*word).to_owned())]))
        .collect()
}

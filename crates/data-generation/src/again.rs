//! The answers of a run, taken apart with another extractor.

use std::future::IntoFuture;
use std::path::PathBuf;
use std::sync::Arc;

use data_generation_extractors::{self as extractors, Extract};
use data_generation_llm_client::{
    Answer, Client, ClientOptions, Model, Request, TransportError, TransportKind,
};
use data_generation_pipeline_core::{Manifest, Rejudge, Rejudged, Setting, Workflow};
use data_generation_templating::Prompts;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::kept::Kept;
use crate::steering::Steering;
use crate::steps::{Ask, Take};
use crate::{DataGenerationPipeline, Error};

/// Makes the lines of a run again from its journal, with another extractor or with none, without a request;
/// `.await` it for what came of it. See [`DataGenerationPipeline::extract_again`].
#[must_use = "nothing is done until it is awaited"]
pub struct ExtractAgain {
    dir: PathBuf,
    extractor: Option<Arc<dyn Extract>>,
    command: Value,
    progress: Box<dyn FnMut(u64) + Send>,
}

impl DataGenerationPipeline {
    /// Makes `result.jsonl` and `failures.jsonl` of a run folder again from its journal, with the extractor that
    /// is named then ([`ExtractAgain::extractor`]; without one the answers themselves are the product). Nothing
    /// is sent, and no key or configuration is needed. A row whose answer the journal has lost is judged by the text in
    /// its line. The folder is from then on one of that extractor: a run
    /// with it goes on there.
    ///
    /// ```
    /// use data_generation::{DataGenerationPipeline, extract};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let dir = tempfile::tempdir().unwrap();
    /// let pipeline = DataGenerationPipeline::builder()
    ///     .offline()
    ///     .set("offline.reply", "<title>A</title><text>B</text>")
    ///     .system_prompt(None)
    ///     .user_prompt("Write about {{topic}}.")
    /// #   .output_dir(dir.path().to_str().unwrap())
    ///     .build()?;
    /// let rows = [serde_json::json!({"topic": "tides"})];
    /// let report = pipeline.run(rows).extractor(extract::tag("title")).await?;
    ///
    /// let again = DataGenerationPipeline::extract_again(&report.run_dir).extractor(extract::tag("text")).await?;
    /// assert_eq!((again.rows, again.ok), (1, 1));
    /// let result = std::fs::read_to_string(report.result_path()).unwrap();
    /// assert!(result.contains(r#""extracted":["B"]"#));
    /// # Ok::<(), data_generation::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn extract_again(dir: impl Into<PathBuf>) -> ExtractAgain {
        ExtractAgain {
            dir: dir.into(),
            extractor: None,
            command: json!("in code"),
            progress: Box::new(|_| {}),
        }
    }
}

impl ExtractAgain {
    /// What takes the value out of an answer.
    pub fn extractor(mut self, extractor: impl Extract + 'static) -> Self {
        self.extractor = Some(Arc::new(extractor));
        self
    }

    /// The same by its description, as `run.extract` has it: `none`, `tag:NAME`, `regex:PATTERN`, `json`.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn spec(mut self, spec: &str) -> Result<Self, Error> {
        self.extractor = extractors::parse(spec)?;
        Ok(self)
    }

    /// What was asked for, as the manifest will tell it.
    pub fn command(mut self, command: Value) -> Self {
        self.command = command;
        self
    }

    /// Hears every now and then how many rows are done, on the task that does them.
    pub fn progress(mut self, told: impl FnMut(u64) + Send + 'static) -> Self {
        self.progress = Box::new(told);
        self
    }

    async fn execute(mut self) -> Result<Rejudged, Error> {
        if let Some(extractor) = &self.extractor {
            extractor.check()?;
        }
        let name = self
            .extractor
            .as_ref()
            .map_or("none", |extractor| extractor.name())
            .to_owned();
        let run = Rejudge::open(&self.dir)?;
        let manifest = run.manifest();
        let kept = Kept { manifest };
        let workflow = workflow(&kept, kept.prompts(&self.dir)?, self.extractor);
        let settings = with_extractor(manifest, &name);
        let judged = run.judge(&workflow, &name, settings, self.command, &mut self.progress);
        Ok(judged.await?)
    }
}

impl IntoFuture for ExtractAgain {
    type Output = Result<Rejudged, Error>;
    type IntoFuture = BoxFuture<'static, Result<Rejudged, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.execute())
    }
}

/// The steps of a run, with a model that is never asked.
fn workflow(kept: &Kept<'_>, prompts: Prompts, extractor: Option<Arc<dyn Extract>>) -> Workflow {
    let provider = kept.model("provider").to_owned();
    let offline = provider == "offline";
    let model = Answered {
        provider,
        model: kept.model("model").to_owned(),
    };
    let options = ClientOptions {
        reasoning: kept.reasoning(),
        ..ClientOptions::default()
    };
    let ask = Ask {
        prompts,
        client: Arc::new(Client::new(Arc::new(model), options)),
        base_url: String::new(),
        offline,
        steering: Steering::new(),
    };
    let workflow = Workflow::new().then(ask);
    match extractor {
        Some(extractor) => workflow.then(Take { extractor }),
        None => workflow,
    }
}

fn with_extractor(manifest: &Manifest, name: &str) -> std::collections::BTreeMap<String, Setting> {
    let mut settings = manifest.settings.clone();
    let setting = Setting {
        value: json!(name),
        origin: "extracted again".to_owned(),
    };
    settings.insert("run.extract".to_owned(), setting);
    settings
}

/// A model that has said all that it will say.
struct Answered {
    provider: String,
    model: String,
}

impl Model for Answered {
    fn provider(&self) -> &str {
        &self.provider
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn ask<'a>(
        &'a self,
        _request: &'a Request,
        _attempt: u32,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        let refused = TransportError::new(TransportKind::Row, "nothing is asked here");
        Box::pin(std::future::ready(Err(refused)))
    }
}

//! A pipeline that is built: settings, prompts, extractor, and the way to the model.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use data_generation_config::{Loaded, Origin, Origins, Secrets};
use data_generation_extractors::{Extract, Tag, tag};
use data_generation_llm_client::{
    self as llm, Client, ClientOptions, ErrorKind, LimitOptions, Model, OpenAi, OpenAiOptions,
    Timeouts,
};
use data_generation_pipeline_core::{
    CheckedRows, Place, Resume, RunOptions, Setting, Source, Workflow, check_rows, first_rows, hash,
};
use data_generation_templating::{Prompt, Prompts};
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use crate::builder::Environment;
use crate::check::PromptCheck;
use crate::limits::Concurrency;
use crate::rows::IntoSource;
use crate::run::RunBuilder;
use crate::settings::{Provider, Settings};
use crate::steering::Steering;
use crate::steps::{Ask, Take};
use crate::{Builder, Error, credentials, limits, offline};

/// Rows and prompts in, a dataset out.
///
/// ```
/// use data_generation::{DataGenerationPipeline, Row, extract};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let dir = tempfile::tempdir().unwrap();
/// let pipeline = DataGenerationPipeline::builder()
///     .offline()
///     .system_prompt(None)
///     .user_prompt("Write about {{topic}}.")
/// #   .output_dir(dir.path().to_str().unwrap())
///     .build()?;
/// let report = pipeline.run([Row::new().user("topic", "tides")]).extractor(extract::tag("draft")).await?;
/// assert_eq!(report.counts.ok, 1);
/// # Ok::<(), data_generation::Error>(())
/// # }).unwrap();
/// ```
pub struct DataGenerationPipeline {
    settings: Settings,
    origins: Origins,
    secrets: Secrets,
    warnings: Vec<String>,
    prompts: Prompts,
    extractor: Option<Arc<dyn Extract>>,
    own_model: Option<Arc<dyn Model>>,
    environment: Environment,
}

/// Failures that say something about one answer of the model, and nothing about the endpoint.
const OF_ONE_ANSWER: [&str; 3] = ["content_filter", "refusal", "extraction_miss"];

/// The messages that a row becomes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Preview {
    /// The system message, where there is one.
    pub system: Option<String>,
    /// The user message.
    pub user: String,
}

impl DataGenerationPipeline {
    /// Begins a pipeline.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn assemble(
        loaded: Loaded<Settings>,
        prompts: Prompts,
        extractor: Option<Arc<dyn Extract>>,
        own_model: Option<Arc<dyn Model>>,
        environment: Environment,
    ) -> DataGenerationPipeline {
        let Loaded {
            value,
            origins,
            secrets,
            mut warnings,
            ..
        } = loaded;
        warnings.extend(credentials::warning(&value.model, &secrets, &origins));
        warnings.extend(limits::warning(&value, &origins));
        DataGenerationPipeline {
            settings: value,
            origins,
            secrets,
            warnings,
            prompts,
            extractor,
            own_model,
            environment,
        }
    }

    /// The effective settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where each value of the settings comes from: file and line, variable, flag, or code.
    ///
    /// ```
    /// # use data_generation::DataGenerationPipeline;
    /// let pipeline = DataGenerationPipeline::builder()
    ///     .environment([("DATAGEN_MODEL__PROVIDER".to_owned(), "offline".to_owned())])
    ///     .system_prompt(None)
    ///     .user_prompt("{{topic}}")
    ///     .build()?;
    /// let origin = pipeline.origins().of("model.provider");
    /// assert_eq!(origin.to_string(), "environment variable DATAGEN_MODEL__PROVIDER");
    /// # Ok::<(), data_generation::Error>(())
    /// ```
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// What is odd about the configuration and stops nothing.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The prompts.
    pub fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    /// The template's default extractor: what stands in all `<NAME>` tags of an answer, as a list; the same as
    /// [`extract::tag`](crate::extract::tag).
    ///
    /// ```
    /// use data_generation::{DataGenerationPipeline, extract::Extract};
    ///
    /// let draft = DataGenerationPipeline::make_default_extractor("draft");
    /// let answer = "<draft>One.</draft> <Draft> Two. </Draft>";
    /// assert_eq!(draft.extract(answer)?, serde_json::json!(["One.", "Two."]));
    /// # Ok::<(), data_generation::extract::Error>(())
    /// ```
    pub fn make_default_extractor(pattern_name: &str) -> Tag {
        tag(pattern_name)
    }

    /// The rows that the configuration names: `input_data.path`, `-` for standard input. The file is not
    /// opened yet.
    ///
    /// # Errors
    ///
    /// When it names none.
    pub fn input(&self) -> Result<Source, Error> {
        match &self.settings.input_data.path {
            Some(path) if path.as_os_str() == "-" => Ok(Source::stdin()),
            Some(path) => Ok(Source::jsonl(path)),
            None => Err(Error::Usage(
                "no rows are named: give `--data FILE` (JSON Lines, `-` for standard input) or set input_data.path".into(),
            )),
        }
    }

    /// Makes every row into a line of the dataset, or of the failures. What comes back says more of this one
    /// run; `.await` it for the [`Report`](crate::Report).
    pub fn run(&self, rows: impl IntoSource) -> RunBuilder<'_> {
        RunBuilder::new(self, rows.into_source())
    }

    /// Asks again for the failed rows of a run folder, those of these classes or, where none is named, all. The
    /// rows are those that the folder holds; its input, and whether the run as a whole is finished, stay what they
    /// were. [`Builder::of_run`] builds a pipeline that fits.
    ///
    /// ```
    /// use data_generation::DataGenerationPipeline;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let pipeline = DataGenerationPipeline::builder().offline().set("run.extract", "json").set("offline.reply", "no").system_prompt(None).user_prompt("{{n}}").output_dir(dir.path().to_str().unwrap()).build()?;
    /// let report = pipeline.run([serde_json::json!({"n": 1})]).await?;
    /// assert_eq!(report.counts.failed, 1);
    ///
    /// let pipeline = DataGenerationPipeline::builder().of_run(&report.run_dir)?.set("offline.reply", "[1]").build()?;
    /// let report = pipeline.retry(&report.run_dir, ["extraction_miss"]).await?;
    /// assert_eq!((report.counts.rows, report.counts.ok), (1, 1));
    /// # Ok::<(), data_generation::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn retry<S: Into<String>>(
        &self,
        dir: impl Into<PathBuf>,
        classes: impl IntoIterator<Item = S>,
    ) -> RunBuilder<'_> {
        self.run(Source::failed(classes))
            .resume(Resume::Dir(dir.into()))
    }

    /// Checks all rows against the prompts, as a run does before its first request. Blocks; nothing is sent
    /// and no folder is made.
    ///
    /// ```
    /// # use data_generation::DataGenerationPipeline;
    /// let pipeline = DataGenerationPipeline::builder().offline().system_prompt(None).user_prompt("{{topic}}").build()?;
    /// let checked = pipeline.check([serde_json::json!({"topc": "tides"})])?;
    /// assert_eq!(
    ///     checked.problems.first[0].to_string(),
    ///     "rows:1: `{{topic}}` (user prompt:1) is missing in the row; it has `topc`",
    /// );
    /// # Ok::<(), data_generation::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the rows cannot be read, or are a stream; what is wrong with them is in what it returns.
    pub fn check(&self, rows: impl IntoSource) -> Result<CheckedRows, Error> {
        let mut check = self.check_of_rows();
        Ok(check_rows(
            rows.into_source(),
            &mut check,
            self.settings.input_data.max_row_bytes,
        )?)
    }

    /// Whether the model could be asked: its address and key, without a request.
    ///
    /// # Errors
    ///
    /// When an address, a header or a key is missing or wrong.
    pub fn check_model(&self) -> Result<(), Error> {
        let (extractor, limits) = (self.extractor.as_ref(), LimitOptions::default());
        self.model(extractor, NonZeroUsize::MIN, &limits).map(drop)
    }

    /// The exact messages of the first rows, at most `count`. Blocks; nothing is sent.
    ///
    /// ```
    /// # use data_generation::DataGenerationPipeline;
    /// let pipeline = DataGenerationPipeline::builder().offline().system_prompt(None).user_prompt("Of {{topic}}.").build()?;
    /// let shown = pipeline.preview([serde_json::json!({"topic": "tides"})], 3)?;
    /// assert_eq!(shown[0].user, "Of tides.");
    /// # Ok::<(), data_generation::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the rows cannot be read, are a stream, or do not fit the prompts.
    pub fn preview(&self, rows: impl IntoSource, count: usize) -> Result<Vec<Preview>, Error> {
        first_rows(
            rows.into_source(),
            count,
            self.settings.input_data.max_row_bytes,
        )?
        .iter()
        .map(|row| {
            let messages = self.prompts.render_row(row)?;
            Ok(Preview {
                system: messages.system,
                user: messages.user,
            })
        })
        .collect()
    }

    pub(crate) fn extractor(&self) -> Option<Arc<dyn Extract>> {
        self.extractor.clone()
    }

    pub(crate) fn check_of_rows(&self) -> PromptCheck {
        let check = PromptCheck::new(&self.prompts);
        if self.is_offline() {
            // It keeps no limits.
            return check;
        }
        let Settings { model, limits, .. } = &self.settings;
        check.below(limits::options(model, limits))
    }

    pub(crate) fn place(&self) -> Place {
        let output = &self.settings.output_data;
        Place {
            output_dir: output.output_dir.clone(),
            experiment_name: output.experiment_name.clone(),
            need_time_stamp: output.need_time_stamp,
        }
    }

    pub(crate) fn run_options(&self, concurrency: NonZeroUsize) -> RunOptions {
        let Settings {
            run, input_data, ..
        } = &self.settings;
        RunOptions {
            concurrency,
            max_row_bytes: input_data.max_row_bytes,
            bytes_in_flight: run.bytes_in_flight,
            sync_every: run.sync_every(),
            durability: run.durability,
            skip_invalid: run.skip_invalid,
            stop_on_failures: run.stop_on_failures,
            of_one_answer: OF_ONE_ANSWER.map(str::to_owned).to_vec(),
            ..RunOptions::default()
        }
    }

    /// What makes this dataset one dataset.
    pub(crate) fn dataset(&self, extractor: Option<&dyn Extract>) -> Map<String, Value> {
        let Settings { model, prompts, .. } = &self.settings;
        let (provider, name) = match &self.own_model {
            Some(own) => (json!(own.provider()), own.model()),
            None => (json!(model.provider), model.model.as_str()),
        };
        let dataset = json!({
            "model": {
                "provider": provider,
                "model": name,
                "temperature": model.temperature,
                "extra": model.extra,
            },
            "prompts": {
                "syntax": prompts.syntax,
                "system": self.prompts.system().map(Prompt::source),
                "user": self.prompts.user().source(),
            },
            "extract": extractor.map_or("none", |extractor| extractor.name()),
        });
        let Value::Object(dataset) = dataset else {
            unreachable!("an object was written")
        };
        dataset
    }

    /// Hashes of the prompts, for the manifest.
    pub(crate) fn hashes(&self) -> BTreeMap<String, String> {
        let system = self
            .prompts
            .system()
            .map(|prompt| ("prompts.system", prompt));
        let all = system
            .into_iter()
            .chain([("prompts.user", self.prompts.user())]);
        all.map(|(name, prompt)| (name.to_owned(), hash(prompt.source())))
            .collect()
    }

    /// Every setting with where it came from, for the manifest; a run's own values win. Secrets are not
    /// among them.
    pub(crate) fn settings_with_origins(
        &self,
        of_this_run: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> BTreeMap<String, Setting> {
        let with_origin = |(key, value, origin): (&str, &Value, &Origin)| {
            let origin = origin.to_string();
            (
                key.to_owned(),
                Setting {
                    value: value.clone(),
                    origin,
                },
            )
        };
        let mut settings: BTreeMap<String, Setting> =
            self.origins.iter().map(with_origin).collect();
        for (key, value) in of_this_run {
            if settings
                .get(key)
                .is_none_or(|setting| setting.value != value)
            {
                settings.insert(
                    key.to_owned(),
                    Setting {
                        value,
                        origin: "for this run, in code".to_owned(),
                    },
                );
            }
        }
        settings
    }

    /// Whether no real model is asked: the provider is `offline`, and there is no model of your own.
    pub fn is_offline(&self) -> bool {
        self.own_model.is_none() && self.settings.model.provider == Provider::Offline
    }

    pub(crate) fn workflow(
        &self,
        extractor: Option<Arc<dyn Extract>>,
        concurrency: Concurrency,
        steering: &Steering,
    ) -> Result<Workflow, Error> {
        let limits = self.limits()?;
        let model = self.model(extractor.as_ref(), concurrency.ceiling, &limits)?;
        let run = &self.settings.run;
        let offline = self.is_offline();
        let options = ClientOptions {
            concurrency: concurrency.most(),
            adaptive: concurrency.is_auto(),
            limits: limits.clone(),
            retry: run.retry.clone(),
            max_outage: Duration::from_secs(run.outage_s),
            reasoning: run.reasoning,
        };
        let client = Arc::new(Client::new(model, options));
        steering.attach(Arc::clone(&client), limits, concurrency);
        let ask = Ask {
            prompts: self.prompts.clone(),
            client,
            base_url: self.settings.model.base_url.clone(),
            offline,
            steering: steering.clone(),
        };
        let workflow = Workflow::new().again_at_most(run.extract_retries).then(ask);
        Ok(match extractor {
            Some(extractor) => workflow.then(Take { extractor }),
            None => workflow,
        })
    }

    fn model(
        &self,
        extractor: Option<&Arc<dyn Extract>>,
        connections: NonZeroUsize,
        limits: &LimitOptions,
    ) -> Result<Arc<dyn Model>, Error> {
        if let Some(own) = &self.own_model {
            return Ok(Arc::clone(own));
        }
        match self.settings.model.provider {
            Provider::Offline => Ok(Arc::new(offline::model(
                &self.settings,
                extractor.cloned(),
            )?)),
            Provider::OpenAi => self.endpoint(connections, limits),
        }
    }

    /// Limits guard an endpoint; where there is none, there are no limits.
    fn limits(&self) -> Result<LimitOptions, Error> {
        if self.is_offline() {
            return Ok(LimitOptions::default());
        }
        let Settings { model, limits, .. } = &self.settings;
        let mut options = limits::options(model, limits);
        if limits.share {
            let variable = |name: &str| self.environment.get(name);
            let (endpoint, account) = match &self.own_model {
                Some(own) => (own.provider().to_owned(), None),
                None => {
                    let key = credentials::key(model, &self.secrets, &self.origins, variable)?;
                    (model.base_url.clone(), key)
                }
            };
            let account = account.as_ref().map_or("", |key| key.expose_secret());
            options.share = Some(limits::file(&endpoint, account, variable)?);
        }
        Ok(options)
    }

    fn endpoint(
        &self,
        connections: NonZeroUsize,
        limits: &LimitOptions,
    ) -> Result<Arc<dyn Model>, Error> {
        let model = &self.settings.model;
        let key = credentials::key(model, &self.secrets, &self.origins, |name| {
            self.environment.get(name)
        })?;
        let timeouts = &model.timeouts;
        let mut options = OpenAiOptions::new(model.base_url.as_str(), model.model.as_str());
        options.api_key = key;
        options.headers = self.secrets.under("model.headers");
        options.max_tokens = model.max_tokens;
        options.temperature = model.temperature;
        options.extra = model.extra.clone();
        options.allow_http = model.allow_http;
        options.timeouts = Timeouts {
            connect: Duration::from_secs_f64(timeouts.connect_s),
            idle: Duration::from_secs_f64(timeouts.idle_s),
            total: Duration::from_secs_f64(timeouts.total_s),
        };
        options.concurrency = connections.get();
        options.times_connections = times_connections(limits);
        let model = OpenAi::new(options).map_err(|error| self.named(error))?;
        Ok(Arc::new(model))
    }

    /// An option that the client refuses, by the key under which the user knows it and with its origin.
    fn named(&self, error: llm::Error) -> Error {
        let ErrorKind::Options { field, message } = error.kind() else {
            return error.into();
        };
        let key = format!("model.{field}");
        Error::Usage(format!("`{key}` ({}) {message}", self.origins.of(&key)))
    }
}

/// Limits look back further by what a connection takes; where there are none yet, to time them would be in vain.
fn times_connections(limits: &LimitOptions) -> bool {
    !limits.is_none() || limits.share.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_generation_pipeline_core::Durability;

    #[test]
    fn connections_are_timed_where_there_is_a_limit_of_whatever_kind() {
        let timed = |builder: crate::Builder| {
            let builder = builder.system_prompt(None).user_prompt("{{topic}}");
            let builder = builder.set("model.base_url", "http://127.0.0.1:1/v1");
            let pipeline = builder
                .environment([("HOME".into(), "/tmp".into())])
                .build();
            times_connections(&pipeline.unwrap().limits().unwrap())
        };
        let builder = DataGenerationPipeline::builder;
        assert!(!timed(builder()));
        for (key, value) in [
            ("model.rate_limit", serde_json::json!(60)),
            ("model.rate_limit", serde_json::json!("auto")),
            ("model.token_limit", serde_json::json!(6000)),
            ("limits.requests_per_second", serde_json::json!(5)),
            ("limits.tokens_per_day", serde_json::json!(5000)),
            ("limits.share", serde_json::json!(true)),
        ] {
            assert!(timed(builder().set(key, value)), "{key}");
        }
    }

    #[test]
    fn how_durable_answers_are_reaches_the_run() {
        let durability = |builder: crate::Builder| {
            let builder = builder.system_prompt(None).user_prompt("{{topic}}");
            let pipeline = builder.environment([]).offline().build().unwrap();
            let options = pipeline.run_options(NonZeroUsize::MIN);
            (options.durability, options.sync_every)
        };
        let builder = DataGenerationPipeline::builder;
        let usual = Duration::from_millis(200);
        assert_eq!(durability(builder()), (Durability::Group, usual));
        let each = builder().set("run.durability", "each");
        assert_eq!(durability(each), (Durability::Each, usual));
    }
}

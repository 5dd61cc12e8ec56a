//! Building a pipeline: layers of configuration, prompts, extractor, model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_generation_config::{Layers, Loaded, Origins, Secrets};
use data_generation_extractors::{self as extractors, Extract};
use data_generation_llm_client::{self as llm, ErrorKind, Model, OpenAi, OpenAiOptions};
use data_generation_pipeline_core::{Manifest, Place};
use data_generation_templating::{Prompt, Prompts, Syntax};
use serde::Serialize;
use serde_json::Value;

use crate::kept::{self, Kept};
use crate::settings::{OutputSettings, PromptSettings, Provider, Settings};
use crate::{DataGenerationPipeline, Error};

/// The prefix of environment variables that are configuration: `DATAGEN_MODEL__TEMPERATURE=0.2`.
pub const ENV_PREFIX: &str = "DATAGEN_";

/// Puts a pipeline together; see [`DataGenerationPipeline::builder`].
///
/// Every value of the configuration can be given here. A value for one key wins over a value for its
/// group, in whatever order they are given; both win over command line, environment and file. Of two calls
/// for the same key the later one counts. Nothing is read or judged before [`build`](Builder::build).
///
/// ```
/// use data_generation::DataGenerationPipeline;
/// use data_generation::settings::OutputSettings;
///
/// let pipeline = DataGenerationPipeline::builder()
///     .offline()
///     .user_prompt("Write about {{topic}}.")
///     .system_prompt(None)
///     .need_time_stamp(false)
///     .output_data(OutputSettings { experiment_name: "demo".into(), ..OutputSettings::default() })
///     .set("run.retry.max_attempts", 3)
///     .build()?;
/// let settings = pipeline.settings();
/// assert_eq!(settings.output_data.experiment_name, "demo");
/// assert!(!settings.output_data.need_time_stamp);
/// assert_eq!(settings.run.retry.max_attempts, 3);
/// # Ok::<(), data_generation::Error>(())
/// ```
#[must_use]
pub struct Builder {
    /// The run whose settings and prompts are the lowest layer.
    run: Option<(PathBuf, Manifest)>,
    file: Option<PathBuf>,
    environment: Environment,
    /// The layers above the environment, in the order in which they were given.
    above: Vec<Above>,
    system_prompt: Option<Option<String>>,
    user_prompt: Option<String>,
    extractor: Option<Arc<dyn Extract>>,
    model: Option<Arc<dyn Model>>,
}

/// Where variables are looked up.
pub(crate) enum Environment {
    OfTheProcess,
    Given(HashMap<String, String>),
}

impl Environment {
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        match self {
            Environment::OfTheProcess => std::env::var(name).ok(),
            Environment::Given(variables) => variables.get(name).cloned(),
        }
    }

    /// All that are text; one that is not cannot be one of ours.
    fn all(&self) -> Vec<(String, String)> {
        match self {
            Environment::OfTheProcess => std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            Environment::Given(variables) => variables.clone().into_iter().collect(),
        }
    }
}

enum Above {
    Assignment(String),
    Flag {
        key: String,
        flag: String,
        value: Value,
    },
    Group {
        key: String,
        value: Value,
    },
    Value {
        key: String,
        value: Value,
    },
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty => $key:literal;)*) => {
        $($(#[$doc])*
        pub fn $name(self, value: $type) -> Builder {
            self.set($key, value)
        })*
    };
}

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder {
            run: None,
            file: None,
            environment: Environment::OfTheProcess,
            above: Vec::new(),
            system_prompt: None,
            user_prompt: None,
            extractor: None,
            model: None,
        }
    }

    /// The YAML file, which must be there; without one the built-in defaults are the lowest layer. Paths in it
    /// are relative to the working directory.
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Builder {
        self.file = Some(path.into());
        self
    }

    /// The settings and prompts of a run, out of its `run.json`, as the lowest layer above the built-in defaults:
    /// to ask again for its failed rows ([`DataGenerationPipeline::retry`]) without the files that it was made
    /// from. Secrets are not among them. Of a [file](Builder::config_file) beside it counts what may differ between
    /// two commands on one dataset (key, address, limits, retries, log), and not prompts, model, temperature,
    /// extractor, rows and folder: the file may have changed since.
    ///
    /// # Errors
    ///
    /// When the folder is no run folder or its manifest cannot be read.
    pub fn of_run(mut self, dir: impl Into<PathBuf>) -> Result<Builder, Error> {
        let dir = dir.into();
        let manifest = Manifest::of_run(&dir)?;
        self.run = Some((dir, manifest));
        Ok(self)
    }

    /// The environment, instead of that of this process: both the variables that are configuration
    /// ([`ENV_PREFIX`]) and the one that holds the key. The proxy is looked up in the process's own all the
    /// same.
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Builder {
        self.environment = Environment::Given(variables.into_iter().collect());
        self
    }

    /// One value by its key, such as `run.retry.max_attempts`; [`Settings`] has them all. A key that is
    /// unknown, or a value of the wrong type, is an error of [`build`](Builder::build).
    ///
    /// ```
    /// # use data_generation::DataGenerationPipeline;
    /// let builder = DataGenerationPipeline::builder().offline().system_prompt(None).user_prompt("{{n}}");
    /// let error = builder.set("run.concurency_limit", 8).build().err().unwrap();
    /// assert!(error.to_string().contains("did you mean `run.concurrency_limit`?"), "{error}");
    /// ```
    pub fn set(mut self, key: &str, value: impl Serialize) -> Builder {
        self.above.push(Above::Value {
            key: key.to_owned(),
            value: to_value(value),
        });
        self
    }

    /// One value as a command line writes it: `model.temperature=0.2`. It wins over the environment, and any
    /// builder call for a value or a group wins over it.
    pub fn assignment(mut self, assignment: impl Into<String>) -> Builder {
        self.above.push(Above::Assignment(assignment.into()));
        self
    }

    /// One value that a flag of a command line stands for; messages name the flag. As strong as an
    /// [`assignment`](Builder::assignment).
    pub fn flag(mut self, key: &str, flag: &str, value: impl Serialize) -> Builder {
        self.above.push(Above::Flag {
            key: key.to_owned(),
            flag: flag.to_owned(),
            value: to_value(value),
        });
        self
    }

    settings! {
        /// `model.provider`.
        provider: Provider => "model.provider";
        /// `model.model`: the model's name.
        model: &str => "model.model";
        /// `model.base_url`: the endpoint, up to and without `/chat/completions`.
        base_url: &str => "model.base_url";
        /// `model.api_key`: a literal key. It is held as a secret, and goes to `model.base_url`.
        api_key: &str => "model.api_key";
        /// `model.api_key_env`: the environment variable that holds the key; `None` for no key.
        api_key_env: Option<&str> => "model.api_key_env";
        /// `model.rate_limit`: requests a minute, evenly spaced; `None` for no limit. For what the endpoint says,
        /// `set("model.rate_limit", "auto")`.
        rate_limit: Option<u32> => "model.rate_limit";
        /// `model.token_limit`: tokens a minute, prompts and answers; `None` for no limit.
        token_limit: Option<u32> => "model.token_limit";
        /// `model.max_tokens`: tokens of an answer at most. To send none, `set("model.max_tokens", None::<u32>)`.
        max_tokens: u32 => "model.max_tokens";
        /// `model.temperature`. To send none, `set("model.temperature", None::<f64>)`.
        temperature: f64 => "model.temperature";
        /// `prompts.system_prompt_path`: the system prompt's file.
        system_prompt_path: &str => "prompts.system_prompt_path";
        /// `prompts.user_prompt_path`: the user prompt's file.
        user_prompt_path: &str => "prompts.user_prompt_path";
        /// `prompts.syntax`: how both prompts are written, those given as text too.
        syntax: Syntax => "prompts.syntax";
        /// `output_data.output_dir`: the folder of all experiments.
        output_dir: &str => "output_data.output_dir";
        /// `output_data.experiment_name`: the folder in it; letters, digits, `.`, `_`, `-`.
        experiment_name: &str => "output_data.experiment_name";
        /// `output_data.need_time_stamp`: whether each run makes a folder of its own, or goes on with one.
        need_time_stamp: bool => "output_data.need_time_stamp";
        /// `run.concurrency_limit`: requests at the same time.
        concurrency_limit: usize => "run.concurrency_limit";
        /// `run.concurrency_max`: requests at the same time, at most, with
        /// [`concurrency_auto`](Builder::concurrency_auto).
        concurrency_max: usize => "run.concurrency_max";
    }

    /// `run.concurrency_limit: auto`: as many requests at the same time as give the most throughput, found out
    /// while the run works.
    pub fn concurrency_auto(self) -> Builder {
        self.set("run.concurrency_limit", "auto")
    }

    /// No network and no key: the offline model answers.
    pub fn offline(self) -> Builder {
        self.provider(Provider::Offline)
    }

    /// `model.extra.NAME`: a further field of the request body, sent as it is; for several, call it several
    /// times.
    pub fn extra(self, name: &str, value: impl Serialize) -> Builder {
        let field = serde_json::Map::from_iter([(name.to_owned(), to_value(value))]);
        self.group("model.extra", field)
    }

    /// All of `output_data`; a call for one of its values wins over this one.
    pub fn output_data(self, output: OutputSettings) -> Builder {
        self.group("output_data", output)
    }

    /// All of `prompts`; a call for one of its values wins over this one.
    pub fn prompts(self, prompts: PromptSettings) -> Builder {
        self.group("prompts", prompts)
    }

    fn group(mut self, key: &str, value: impl Serialize) -> Builder {
        self.above.push(Above::Group {
            key: key.to_owned(),
            value: to_value(value),
        });
        self
    }

    /// The system prompt as text, instead of a file; `None` for no system message.
    pub fn system_prompt(mut self, text: Option<&str>) -> Builder {
        self.system_prompt = Some(text.map(str::to_owned));
        self
    }

    /// The user prompt as text, instead of a file.
    pub fn user_prompt(mut self, text: &str) -> Builder {
        self.user_prompt = Some(text.to_owned());
        self
    }

    /// What takes the value out of an answer; wins over `run.extract`. One run may have another:
    /// [`RunBuilder::extractor`](crate::RunBuilder::extractor).
    pub fn extractor(mut self, extractor: impl Extract + 'static) -> Builder {
        self.extractor = Some(Arc::new(extractor));
        self
    }

    /// A model of your own, instead of the one that `model.provider` names. It asks once; limits, retries and
    /// the journal are as for every model.
    ///
    /// ```
    /// use data_generation::llm::{Answer, Model, Request, TransportError};
    /// use data_generation::DataGenerationPipeline;
    /// use futures::future::BoxFuture;
    ///
    /// struct Shout;
    ///
    /// impl Model for Shout {
    ///     fn provider(&self) -> &str { "shout" }
    ///     fn model(&self) -> &str { "shout-1" }
    ///     fn ask<'a>(&'a self, request: &'a Request, _attempt: u32) -> BoxFuture<'a, Result<Answer, TransportError>> {
    ///         Box::pin(async move { Ok(Answer::text(&request.user.to_uppercase())) })
    ///     }
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let dir = tempfile::tempdir().unwrap();
    /// let pipeline = DataGenerationPipeline::builder()
    ///     .own_model(Shout)
    ///     .system_prompt(None)
    ///     .user_prompt("Say {{word}}.")
    /// #   .output_dir(dir.path().to_str().unwrap())
    ///     .build()?;
    /// let report = pipeline.run([serde_json::json!({"word": "yes"})]).await?;
    /// let result = std::fs::read_to_string(report.result_path()).unwrap();
    /// assert!(result.contains(r#""response":"SAY YES.""#));
    /// # Ok::<(), data_generation::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn own_model(mut self, model: impl Model + 'static) -> Builder {
        self.model = Some(Arc::new(model));
        self
    }

    /// Reads configuration and prompts. No folder is made and nothing is sent.
    ///
    /// # Errors
    ///
    /// When the configuration has faults (all of them are told), a prompt cannot be read or compiled, or
    /// the extractor cannot work. A missing key is told when the model is first needed.
    pub fn build(self) -> Result<DataGenerationPipeline, Error> {
        let loaded = self.load()?;
        let settings = &loaded.value;
        if let Some((dir, manifest)) = &self.run {
            Kept { manifest }.refuse_what_is_missing(
                dir,
                &loaded,
                self.model.is_some(),
                self.extractor.is_some(),
            )?;
        }
        let prompts = self.load_prompts(&settings.prompts, &loaded.origins);
        let extractor = load_extractor(self.extractor, &settings.run.extract);
        let faults = faults(settings, &loaded.origins, &loaded.secrets);
        let (prompts, extractor) = match (prompts, extractor) {
            (Ok(prompts), Ok(extractor)) if faults.is_empty() => (prompts, extractor),
            (Err(error), Ok(_)) if faults.is_empty() => return Err(error),
            (Ok(_), Err(error)) if faults.is_empty() => return Err(error),
            (prompts, extractor) => {
                let others = [prompts.err(), extractor.err()].into_iter().flatten();
                let all = faults
                    .into_iter()
                    .chain(others.map(|error| whole_text(&error)));
                return Err(Error::Usage(all.collect::<Vec<_>>().join("\n")));
            }
        };
        Ok(DataGenerationPipeline::assemble(
            loaded,
            prompts,
            extractor,
            self.model,
            self.environment,
        ))
    }

    /// The built-in defaults, and what is special about some keys.
    fn defaults() -> Result<Layers, Error> {
        let layers = Layers::defaults(&Settings::default())?;
        Ok(layers
            .secret("model.api_key")
            .secret("model.headers.*")
            .free_form("model.extra"))
    }

    /// Whether the file says anything about `model.extra`. What is wrong with it is told when all is loaded.
    fn file_has_extra(file: &Path) -> Result<bool, Error> {
        let loaded = Builder::defaults()?.file(file).load::<Settings>();
        Ok(loaded.is_ok_and(|loaded| !loaded.origins.is_default("model.extra")))
    }

    fn load(&self) -> Result<Loaded<Settings>, Error> {
        let mut layers = Builder::defaults()?;
        // Its fields are merged one by one, and the sum of two files is what neither of them says.
        let has_extra = match (&self.run, &self.file) {
            (Some(_), Some(file)) => Builder::file_has_extra(file)?,
            _ => false,
        };
        if let Some((_, manifest)) = &self.run {
            layers = Kept { manifest }.layer(layers, has_extra)?;
        }
        if let Some(file) = &self.file {
            layers = layers.file(file);
            if let Some((_, manifest)) = &self.run {
                layers = Kept { manifest }.layer_of_dataset(layers, has_extra)?;
            }
        }
        layers = layers.env(ENV_PREFIX, self.environment.all());
        for above in &self.above {
            layers = match above {
                Above::Assignment(assignment) => layers.set(assignment),
                Above::Flag { key, flag, value } => layers.option(key, flag, value),
                Above::Group { key, value } => layers.code_group(key, value),
                Above::Value { key, value } => layers.code(key, value),
            };
        }
        Ok(layers.load()?)
    }

    fn load_prompts(&self, settings: &PromptSettings, origins: &Origins) -> Result<Prompts, Error> {
        let syntax = settings.syntax;
        // Where nobody names another file, the text that the run was made with counts.
        let kept = |role: &str| {
            let (_, manifest) = self.run.as_ref()?;
            let key = format!("prompts.{role}_prompt_path");
            let kept = Kept { manifest };
            kept.names(&origins.of(&key))
                .then(|| kept.prompt(role).map(str::to_owned))
        };
        let system = match (
            &self.system_prompt,
            kept("system"),
            &settings.system_prompt_path,
        ) {
            (Some(text), _, _) => text
                .as_ref()
                .map(|text| Prompt::from_text("system prompt", text, syntax))
                .transpose()?,
            (None, Some(text), _) => text
                .map(|text| Prompt::from_text(kept::SYSTEM, &text, syntax))
                .transpose()?,
            (None, None, Some(path)) => Some(Prompt::from_file(path, syntax)?),
            (None, None, None) => None,
        };
        let user = match (&self.user_prompt, kept("user").flatten()) {
            (Some(text), _) => Prompt::from_text("user prompt", text, syntax)?,
            (None, Some(text)) => Prompt::from_text(kept::USER, &text, syntax)?,
            (None, None) => Prompt::from_file(&settings.user_prompt_path, syntax)?,
        };
        Ok(Prompts::new(system, user))
    }
}

/// A value that cannot be JSON stays visible as what it is: the configuration then refuses it by its key.
fn to_value(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|error| Value::String(format!("no value: {error}")))
}

fn load_extractor(
    given: Option<Arc<dyn Extract>>,
    spec: &str,
) -> Result<Option<Arc<dyn Extract>>, Error> {
    let extractor = match given {
        Some(extractor) => Some(extractor),
        None => extractors::parse(spec)?,
    };
    if let Some(extractor) = &extractor {
        extractor.check()?;
    }
    Ok(extractor)
}

/// An error with what caused it, in one line.
fn whole_text(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// What the type of a value cannot tell: all of it, each with its key and where it comes from.
fn faults(settings: &Settings, origins: &Origins, secrets: &Secrets) -> Vec<String> {
    let Settings {
        model,
        output_data,
        run,
        offline,
        ..
    } = settings;
    let mut faults = Vec::new();
    let mut require = |key: &str, holds: bool, what: &str| {
        if !holds {
            faults.push(format!("`{key}` ({}) {what}", origins.of(key)));
        }
    };
    // Before anybody shows or keeps it: it may hold a key.
    let address = OpenAi::check_base_url(&model.base_url, secrets.get("model.api_key"));
    if let Err(ErrorKind::Options { message, .. }) = address.map_err(llm::Error::into_kind) {
        require("model.base_url", false, &message);
    }
    let mut asked = OpenAiOptions::new(model.base_url.as_str(), model.model.as_str());
    (asked.temperature, asked.max_tokens) = (model.temperature, model.max_tokens);
    asked.extra = model.extra.clone();
    if let Err(ErrorKind::Options { message, .. }) =
        OpenAi::check_fields(&asked).map_err(llm::Error::into_kind)
    {
        require("model.extra", false, &message);
    }
    for (key, seconds) in [
        ("model.timeouts.connect_s", model.timeouts.connect_s),
        ("model.timeouts.idle_s", model.timeouts.idle_s),
        ("model.timeouts.total_s", model.timeouts.total_s),
    ] {
        require(
            key,
            seconds > 0.0 && seconds <= DAY_S,
            "is a number of seconds above 0, at most a day",
        );
    }
    for (key, seconds) in [
        ("run.retry.base_delay_s", run.retry.base_delay_s),
        ("run.retry.max_delay_s", run.retry.max_delay_s),
    ] {
        require(
            key,
            (0.0..=DAY_S).contains(&seconds),
            "is a number of seconds from 0 to a day",
        );
    }
    require(
        "run.retry.max_attempts",
        run.retry.max_attempts > 0,
        "counts the first request too, so it is at least 1",
    );
    require(
        "run.sync_ms",
        run.sync_ms <= 500,
        "is at most 500: an answer is safe from a power loss within half a second",
    );
    require(
        "offline.error_rate",
        (0.0..=1.0).contains(&offline.error_rate),
        "is a share from 0 to 1",
    );
    let level = settings.logging.level.as_str();
    require(
        "logging.level",
        LOG_LEVELS.contains(&level),
        &format!("is `{level}`; it is one of {}", LOG_LEVELS.join(", ")),
    );
    if let Err(error) = Place::check_name(&output_data.experiment_name) {
        require(
            "output_data.experiment_name",
            false,
            &format!("cannot be used: {error}"),
        );
    }
    faults
}

const DAY_S: f64 = 86_400.0;
const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

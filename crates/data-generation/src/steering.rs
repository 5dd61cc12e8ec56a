//! Changing a run while it works.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use data_generation_llm_client::{Client, LimitOptions};
use serde_json::{Value, json};

use crate::limits;
use crate::limits::{Concurrency, LimitName, RateLimit};
use crate::look_back::Recall;
use crate::settings::ConcurrencyLimit;

/// Changes a run while it works: its limits, its concurrency, a pause. Every clone steers the same run; what
/// is said before the run has begun holds from its start. To end a run use its
/// [`StopHandle`](crate::StopHandle).
///
/// ```
/// # use data_generation::DataGenerationPipeline;
/// use data_generation::Steering;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let dir = tempfile::tempdir().unwrap();
/// # let pipeline = DataGenerationPipeline::builder().offline().system_prompt(None).user_prompt("{{n}}").output_dir(dir.path().to_str().unwrap()).build()?;
/// let steering = Steering::new();
/// let outside = steering.clone();
/// let run = pipeline.run([serde_json::json!({"n": 1})]).steering(&steering);
/// outside.pause();
/// // ... in another task, while the run works
/// outside.go_on();
/// assert_eq!(run.await?.counts.ok, 1);
/// # Ok::<(), data_generation::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Default)]
pub struct Steering(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    client: Option<Arc<Client>>,
    limits: LimitOptions,
    concurrency: Option<Concurrency>,
    changes: Changes,
    paused: bool,
    /// What was changed while the run worked, by the names of settings.
    changed: BTreeMap<String, Value>,
    /// How to find out what was sent before; `None` before the run has begun.
    recall: Option<Recall>,
}

/// What was said before there was anybody to say it to.
#[derive(Debug, Default)]
struct Changes {
    rate_limit: Option<Option<RateLimit>>,
    token_limit: Option<Option<NonZeroU32>>,
    limits: Vec<(LimitName, Option<NonZeroU64>)>,
    burst: Option<NonZeroU32>,
    concurrency: Option<ConcurrencyLimit>,
}

/// How a run is steered now.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Steered {
    /// Requests a minute, or what the endpoint says; `None` for no limit.
    pub rate_limit: Option<RateLimit>,
    /// Tokens a minute; `None` for no limit.
    pub token_limit: Option<NonZeroU64>,
    /// All limits that are kept, in words: also those in a second and a day, and what the endpoint announces.
    pub limits: Vec<String>,
    /// Requests that may leave at once after a quiet while; 1: they are evenly spaced.
    pub burst: NonZeroU32,
    /// The share of the rate, from 0 to 1, that is used at present: less than 1 where the endpoint pushes back
    /// although the limits are kept.
    pub rate_share: f64,
    /// Requests at the same time, or that this is found out; `None` before the run has begun.
    pub concurrency: Option<ConcurrencyLimit>,
    /// How many there may be at present, found out or not; 0 before the run has begun.
    pub places: usize,
    /// Whether nothing new is sent.
    pub paused: bool,
    /// Requests under way.
    pub in_flight: usize,
}

impl Steering {
    /// For one run.
    pub fn new() -> Steering {
        Steering::default()
    }

    /// Requests a minute from now on; `None` for no limit. The limits in a second and a day stay.
    pub fn set_rate_limit(&self, requests: Option<NonZeroU32>) {
        self.change_rate(requests.map(RateLimit::PerMinute));
    }

    /// From now on as many requests as the endpoint says in its headers; where it has not said anything yet, the next
    /// request goes alone. The limits in a second and a day stay.
    pub fn set_rate_limit_auto(&self) {
        self.change_rate(Some(RateLimit::Auto));
    }

    fn change_rate(&self, rate: Option<RateLimit>) {
        let mut state = self.lock();
        state.changes.rate_limit = Some(rate);
        state.apply();
    }

    /// One of the limits in a second or a day from now on; `None` for no limit.
    pub fn set_limit(&self, name: LimitName, amount: Option<NonZeroU64>) {
        let mut state = self.lock();
        state.changes.limits.push((name, amount));
        state.apply();
    }

    /// So many requests may leave at once after a quiet while from now on; 1: they are evenly spaced.
    pub fn set_burst(&self, requests: NonZeroU32) {
        let mut state = self.lock();
        state.changes.burst = Some(requests);
        state.apply();
    }

    /// Tokens a minute from now on; `None` for no limit. The limits in a second and a day stay.
    pub fn set_token_limit(&self, tokens: Option<NonZeroU32>) {
        let mut state = self.lock();
        state.changes.token_limit = Some(tokens);
        state.apply();
    }

    /// Requests at the same time from now on, or from now on as many as give the most throughput, up to
    /// `run.concurrency_max`; those that are under way go on. There are never more than
    /// [`concurrency_ceiling`](crate::RunBuilder::concurrency_ceiling) says.
    pub fn set_concurrency(&self, limit: ConcurrencyLimit) {
        let mut state = self.lock();
        state.changes.concurrency = Some(limit);
        state.apply();
    }

    /// Sends nothing new until [`go_on`](Steering::go_on); answers under way are waited for and kept.
    pub fn pause(&self) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.paused, true) {
            tracing::info!("paused: somebody asked to send nothing new");
        }
        state.apply();
    }

    /// Ends a [`pause`](Steering::pause).
    pub fn go_on(&self) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.paused, false) {
            tracing::info!("going on: the pause that somebody asked for is over");
        }
        state.apply();
    }

    /// How the run is steered now.
    pub fn steered(&self) -> Steered {
        let state = self.lock();
        let client = state.client.as_deref();
        Steered {
            rate_limit: match state.limits.auto {
                true => Some(RateLimit::Auto),
                // It came from such a number.
                false => state.limits.requests.a_minute.and_then(|requests| {
                    NonZeroU32::try_from(requests)
                        .ok()
                        .map(RateLimit::PerMinute)
                }),
            },
            token_limit: state.limits.tokens.a_minute,
            limits: client.map_or_else(Vec::new, |client| client.limits()),
            burst: state.limits.burst,
            rate_share: client.map_or(1.0, |client| client.rate_share()),
            concurrency: state
                .concurrency
                .map(|concurrency| match concurrency.limit {
                    ConcurrencyLimit::Fixed(_) => ConcurrencyLimit::Fixed(concurrency.most()),
                    ConcurrencyLimit::Auto => ConcurrencyLimit::Auto,
                }),
            places: client.map_or(0, |client| client.places()),
            paused: state.paused,
            in_flight: client.map_or(0, |client| client.in_flight()),
        }
    }

    /// How long until so many more requests have left, if none does before so much time has passed and each leaves as
    /// soon as the limits let it. `None` before the run has begun, where nothing is limited, or where nobody knows yet
    /// how many tokens a request costs.
    pub fn time_to_send(&self, requests: u64, after: Duration) -> Option<Duration> {
        let client = self.lock().client.clone()?;
        client.time_to_send(requests, after)
    }

    /// There is somebody to steer.
    pub(crate) fn attach(
        &self,
        client: Arc<Client>,
        limits: LimitOptions,
        concurrency: Concurrency,
    ) {
        let mut state = self.lock();
        state.limits = limits;
        state.concurrency = Some(concurrency);
        state.client = Some(client);
        state.apply();
    }

    /// The run's folder is open: what limits that are set from now on have to know stands in it.
    pub(crate) fn remember(&self, recall: Recall) {
        self.lock().recall = Some(recall);
    }

    /// The endpoint has told of limits: what was sent before counts for them too, before anything else leaves.
    pub(crate) fn limits_learnt(&self, at: SystemTime) {
        let state = self.lock();
        let (Some(client), Some(recall)) = (state.client.clone(), state.recall.clone()) else {
            return;
        };
        drop(state);
        // The one whose answer told of them is counted already.
        let under_way = client.in_flight().saturating_sub(1);
        recall.at_once(&client, at, under_way);
    }

    /// What was changed while the run worked, by the names of settings, each with the value that it has now. It ends with
    /// the run.
    pub fn changed(&self) -> BTreeMap<String, Value> {
        self.lock().changed.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self) {
        let Some(client) = &self.client else {
            return;
        };
        let Changes {
            rate_limit,
            token_limit,
            limits,
            burst,
            concurrency,
        } = std::mem::take(&mut self.changes);
        let is_changed =
            rate_limit.is_some() || token_limit.is_some() || !limits.is_empty() || burst.is_some();
        let mut note = |key: &str, value: Value| {
            // What is said before the run has begun is not a change of it.
            if self.recall.is_some() {
                self.changed.insert(key.to_owned(), value);
            }
        };
        if let Some(rate) = rate_limit {
            note("model.rate_limit", json!(rate));
            (self.limits.requests.a_minute, self.limits.auto) = limits::a_minute(rate);
        }
        if let Some(tokens) = token_limit {
            note("model.token_limit", json!(tokens));
            self.limits.tokens.a_minute = tokens.map(NonZeroU64::from);
        }
        for (name, amount) in limits {
            note(&format!("limits.{}", name.key()), json!(amount));
            *name.of(&mut self.limits) = amount;
        }
        if let Some(burst) = burst {
            note("limits.burst", json!(burst));
            self.limits.burst = burst;
        }
        if is_changed {
            let (now, under_way) = (SystemTime::now(), client.in_flight());
            // Nothing leaves by a limit that does not know what was sent before.
            let looking_back = client.looks_back();
            client.set_limits(&self.limits);
            match &self.recall {
                Some(recall) => recall.for_new_limits(client, looking_back, now, under_way),
                None => drop(looking_back),
            }
            tracing::info!("the limits were changed: {}", limits::in_words(client));
        }
        if let (Some(limit), Some(concurrency)) = (concurrency, &mut self.concurrency) {
            note("run.concurrency_limit", json!(limit));
            concurrency.limit = limit;
            let most = concurrency.most();
            match limit {
                ConcurrencyLimit::Fixed(_) => client.set_concurrency(most),
                ConcurrencyLimit::Auto => client.set_adaptive(most),
            }
            tracing::info!(%limit, most, "the concurrency was changed");
        }
        if self.paused {
            client.hold();
        } else {
            client.go_on();
        }
    }
}

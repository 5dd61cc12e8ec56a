use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::call::Plain;
use crate::crowd::Crowd;
use crate::estimate::Estimator;
use crate::gate::Gate;
use crate::hold::Hold;
use crate::limit::Limiter;
use crate::outage::Outage;
use crate::question::Question;
use crate::retry::Schedule;
use crate::watch::Waits;
use crate::{Call, ClientOptions, Error, LimitOptions, Model, Reply, Request, Usage};

/// Asks a [`Model`] for many tasks at once, and is the only one that waits and repeats.
///
/// Share it by reference or in an `Arc`. Its limits are those of the endpoint, so make one for each.
/// After an error that concerns every question ([`ErrorKind::Run`](crate::ErrorKind::Run),
/// [`ErrorKind::Later`](crate::ErrorKind::Later)) it sends nothing any more.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), data_generation_llm_client::Error> {
/// use data_generation_llm_client::{Client, ClientOptions, Offline, Request};
/// use std::sync::Arc;
///
/// let model = Offline::new(|request| Ok(format!("you said: {}", request.user)));
/// let client = Client::new(Arc::new(model), ClientOptions::default());
/// let reply = client.ask(&Request::user("hello")).await?;
/// assert_eq!(reply.text, "you said: hello");
/// # Ok(())
/// # }
/// ```
pub struct Client {
    pub(crate) model: Arc<dyn Model>,
    pub(crate) options: ClientOptions,
    pub(crate) schedule: Schedule,
    pub(crate) limiter: Limiter,
    pub(crate) estimator: Estimator,
    pub(crate) gate: Gate,
    pub(crate) outage: Outage,
    pub(crate) crowd: Crowd,
    /// Cancelled after the first error that concerns every question.
    pub(crate) halted: CancellationToken,
    /// Whether the endpoint ever gave a good answer.
    pub(crate) succeeded: AtomicBool,
    /// Whether it has been said that the endpoint counts tokens wrongly.
    pub(crate) miscounts: AtomicBool,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) waits: Waits,
    /// Whether somebody has asked to send nothing.
    pub(crate) held: Hold,
}

/// What was sent before is about to be counted, see [`Client::looks_back`].
#[derive(Debug)]
#[must_use]
pub struct LookingBack(Arc<Client>);

impl Drop for LookingBack {
    fn drop(&mut self) {
        self.0.limiter.has_looked_back();
    }
}

impl Client {
    /// A client of a model.
    pub fn new(model: Arc<dyn Model>, options: ClientOptions) -> Client {
        Client {
            schedule: Schedule::new(&options.retry, fastrand::Rng::new()),
            limiter: Limiter::new(&options.limits),
            estimator: Estimator::default(),
            gate: Gate::new(options.concurrency, options.adaptive),
            outage: Outage::default(),
            crowd: Crowd::default(),
            halted: CancellationToken::new(),
            succeeded: AtomicBool::new(false),
            miscounts: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            waits: Waits::default(),
            held: Hold::default(),
            model,
            options,
        }
    }

    /// The same client with waits that can be foretold, for tests.
    pub fn seeded(mut self, seed: u64) -> Client {
        self.schedule = Schedule::new(&self.options.retry, fastrand::Rng::with_seed(seed));
        self
    }

    /// Asks until there is a reply or a reason why there is none.
    ///
    /// # Errors
    /// See [`ErrorKind`](crate::ErrorKind): it says whom the failure concerns.
    pub async fn ask(&self, request: &Request) -> Result<Reply, Error> {
        self.ask_for(request, &Plain::default()).await
    }

    /// Asks like [`ask`](Client::ask), with a caller who keeps every answer, watches, and may stop.
    ///
    /// Dropping the future gives up whatever it held; a request that was under way may have been paid for.
    ///
    /// # Errors
    /// See [`ErrorKind`](crate::ErrorKind): it says whom the failure concerns.
    pub async fn ask_for(&self, request: &Request, call: &dyn Call) -> Result<Reply, Error> {
        Question::new(self, request, call).settle().await
    }

    /// The model that is asked.
    pub fn model(&self) -> &dyn Model {
        &*self.model
    }

    /// Requests that have left and whose answers are not yet safe.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Changes what may be sent in any stretch of time; with whom the limits are shared stays as it is.
    ///
    /// What was sent goes on to count as far as a limit of the same unit remembers it, also one that was taken away
    /// meanwhile. A limit over a longer time, and
    /// the first one of its unit, knows no more than that until it is told ([`knows_of`](Client::knows_of),
    /// [`sent_before`](Client::sent_before)).
    pub fn set_limits(&self, limits: &LimitOptions) {
        self.limiter.set(limits);
    }

    /// The limits that are kept, in words ("600 requests a minute"): those that are configured, lowered to what the
    /// endpoint says, and those that it says besides.
    pub fn limits(&self) -> Vec<String> {
        self.limiter.kept()
    }

    /// The share of the configured rate, from 0 to 1, that is used at present: less than 1 where the endpoint pushes
    /// back although the limits are kept.
    pub fn rate_share(&self) -> f64 {
        self.limiter.rate_share()
    }

    /// Sends nothing new until [`go_on`](Client::go_on); requests under way are waited for. The time until then makes no
    /// row older.
    pub fn hold(&self) {
        self.set_held(true);
    }

    /// Ends [`hold`](Client::hold).
    pub fn go_on(&self) {
        self.set_held(false);
    }

    fn set_held(&self, held: bool) {
        if self.held.set(held) {
            self.gate.interrupted();
        }
    }

    /// How many requests may be under way at the same time; with
    /// [`adaptive`](ClientOptions::adaptive), at most.
    pub fn concurrency(&self) -> usize {
        self.gate.limit()
    }

    /// How many requests may be under way at present, where the client finds out by itself
    /// ([`adaptive`](ClientOptions::adaptive), [`set_adaptive`](Client::set_adaptive)); `None`: a fixed number.
    pub fn level(&self) -> Option<usize> {
        self.gate.level()
    }

    /// How many requests may be under way at present, whether that is found out or not.
    pub fn places(&self) -> usize {
        self.level().unwrap_or_else(|| self.concurrency())
    }

    /// The longest stretch of time that a limit looks back on.
    pub fn longest_window(&self) -> Option<Duration> {
        self.limiter.longest_window()
    }

    /// Whether it is counted already what a source (a run's folder, for example) has sent before: by those who share
    /// the limits.
    pub fn knows_of(&self, source: &Path) -> bool {
        self.limiter.knows(number_of(source))
    }

    /// Counts what a source has sent before: how long ago each request left, and how many tokens it cost. What is
    /// counted already is not counted twice.
    pub fn sent_before(&self, source: &Path, sent: impl IntoIterator<Item = (Duration, u64)>) {
        self.limiter.look_back(number_of(source), sent.into_iter());
    }

    /// Somebody is about to tell what was [sent before](Client::sent_before): nothing for which there are limits leaves
    /// until what this returns is dropped. Who waits for that is told so.
    pub fn looks_back(self: &Arc<Self>) -> LookingBack {
        self.limiter.looks_back();
        LookingBack(Arc::clone(self))
    }

    /// Whether the limits are shared with other processes.
    pub fn is_sharing(&self) -> bool {
        self.limiter.is_shared()
    }

    /// The same as [`sent_before`](Client::sent_before) of what a source has sent without sharing its limits: all of it
    /// that may still count, each time. Those who share do not know of it, whatever they know of the source; they count
    /// it once.
    pub fn sent_apart(&self, source: &Path, sent: impl IntoIterator<Item = (Duration, u64)>) {
        let sent = sent.into_iter();
        self.limiter.look_back_apart(number_of(source), sent);
    }

    /// Learns from an answer to earlier requests of this kind how long answers are.
    pub fn learn_usage(&self, usage: Usage) {
        self.estimator.answered(usage.of_answer());
        self.limiter.learn_cost(usage.counted());
    }

    /// How long until so many more requests have left, if none does before so much time has passed and each leaves as
    /// soon as the limits let it. `None` where nothing is limited, or where nobody knows yet how many tokens a request
    /// costs.
    pub fn time_to_send(&self, requests: u64, after: Duration) -> Option<Duration> {
        self.limiter.time_to_send(requests, after)
    }

    /// The most tokens that a request of this model is likely to cost, of whose prompt this is a guess.
    pub fn expected_tokens(&self, prompt_tokens: u64) -> u64 {
        self.estimator
            .tokens(prompt_tokens, self.model.max_tokens())
    }

    /// So many requests may be under way at the same time from now on; those that are, go on. It is no longer found
    /// out which number is best, where it was.
    pub fn set_concurrency(&self, concurrency: NonZeroUsize) {
        self.gate.set_limit(concurrency);
    }

    /// From now on finds out by itself how many requests at the same time are best, up to so many. It begins with
    /// as many as there may be now.
    pub fn set_adaptive(&self, most: NonZeroUsize) {
        self.gate.set_adaptive(most);
    }

    pub(crate) fn has_succeeded(&self) -> bool {
        self.succeeded.load(Ordering::Relaxed)
    }

    /// Sends nothing any more and ends every wait.
    pub(crate) fn halt(&self) {
        self.gate.stop();
        self.halted.cancel();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("provider", &self.model.provider())
            .field("model", &self.model.model())
            .field("options", &self.options)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

fn number_of(source: &Path) -> u64 {
    let hash = blake3::hash(source.as_os_str().as_encoded_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(number)
}

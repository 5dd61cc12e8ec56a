//! What was sent before counts against the limits: by this run, and by others of its experiment.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_generation_llm_client::{Client, Usage};
use data_generation_pipeline_core::{JournaledAnswer, Manifest, Past};

/// From so many answers on the dearest of them says what one may cost.
const ENOUGH: usize = 8;
/// Two clocks are read one after the other.
const JUST_BEFORE: Duration = Duration::from_millis(2);

/// A look at what commands before this one have sent, as far as the limits look back.
pub(crate) struct LookBack<'a> {
    pub(crate) client: &'a Client,
    /// `model.base_url`, as manifests have it.
    pub(crate) base_url: &'a str,
    /// Tokens of a prompt.
    pub(crate) prompt_guess: u64,
    pub(crate) now: SystemTime,
    /// The longest one that there is a limit for.
    pub(crate) window: Duration,
    /// What this very command had under way at that time; `None` before its first request.
    pub(crate) at_work: Option<u64>,
}

/// All that a later look needs to know, for limits that are set while a run works.
#[derive(Debug, Clone)]
pub(crate) struct Recall {
    pub(crate) dir: PathBuf,
    pub(crate) base_url: String,
    pub(crate) prompt_guess: u64,
}

impl Recall {
    /// Looks back where limits that are in force since then do not know what was sent before. It reads files, so
    /// somebody else does it: whoever sets a limit does not wait, nor does the run.
    pub(crate) fn for_new_limits(&self, client: &Arc<Client>, now: SystemTime, under_way: usize) {
        let Some(window) = client.longest_window() else {
            return;
        };
        if client.knows_of(&source_of(&self.dir)) {
            return;
        }
        let (recall, client) = (self.clone(), Arc::clone(client));
        let look = move || {
            let look_back = LookBack {
                client: &client,
                base_url: &recall.base_url,
                prompt_guess: recall.prompt_guess,
                now,
                window,
                at_work: Some(under_way as u64),
            };
            match Past::so_far(recall.dir) {
                Ok(past) => look_back.at(&past),
                Err(error) => tracing::warn!(%error, "what was sent before could not be read"),
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(look)),
            Err(_) => drop(std::thread::spawn(look)),
        }
    }
}

/// What the client calls a run.
fn source_of(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}

impl LookBack<'_> {
    /// Counts what this run has sent, and what others of its experiment have sent to the same endpoint.
    pub(crate) fn at(&self, past: &Past<'_>) {
        past.assume_under_way(self.count(past, true));
        for other in past.others_since(self.since()) {
            if self.is_same_endpoint(&other.manifest) {
                // Nothing of it is written down: the other run says the same to whoever looks next.
                self.count(&other.past, false);
            }
        }
    }

    /// Counts what one run has sent. Returns how many requests were under way when its last command died.
    fn count(&self, past: &Past<'_>, is_own: bool) -> u64 {
        let (client, since) = (self.client, self.since());
        let source = source_of(past.dir());
        if client.knows_of(&source) {
            return 0;
        }
        let answers = match past.answers_since(since) {
            // What arrived later is among what was under way.
            Ok(mut answers) => {
                answers.retain(|answer| !is_own || self.at_work.is_none() || answer.at <= self.now);
                answers
            }
            // The next look at the run's own journal tells the user.
            Err(error) => {
                let dir = past.dir().display();
                tracing::warn!(%error, %dir, "what was sent before could not be read");
                return 0;
            }
        };
        let (mut sent, mut most_tokens) = (Vec::new(), 0);
        for answer in &answers {
            // Older versions did not keep what they guessed.
            let prompt = answer.prompt_guess.unwrap_or(self.prompt_guess);
            let usage = Usage::of_body(&answer.body, prompt);
            most_tokens = usage.counted().max(most_tokens);
            sent.push((answer.at - answer.latency, usage.counted()));
            // Another run may have had other prompts, and so answers of another length; what this command was answered
            // is known.
            if is_own && self.at_work.is_none() {
                client.learn_usage(usage);
            }
        }
        // A few answers say little of what the others would have cost.
        if answers.len() < ENOUGH {
            most_tokens = most_tokens.max(client.expected_tokens(self.prompt_guess));
        }
        let mut requests = answers.len() as u64;
        for lost in past.unjournaled_since(since) {
            let at = lost.at().unwrap_or(self.now);
            for (count, tokens) in [(lost.refused, 0), (lost.unanswered, most_tokens)] {
                requests += count;
                (0..count).for_each(|_| sent.push((at, tokens)));
            }
        }
        // What was under way when a command died nobody could write down.
        let died = past.died().filter(|died| *died > since);
        let under_way = match self.at_work {
            Some(under_way) if is_own => under_way,
            _ => died.map_or(0, |_| self.most_under_way(&answers) as u64),
        };
        let at = died.unwrap_or(self.now);
        (0..under_way).for_each(|_| sent.push((at, most_tokens)));
        client.sent_before(
            &source,
            sent.into_iter().map(|(at, tokens)| (self.ago(at), tokens)),
        );
        if requests + under_way > 0 {
            let dir = past.dir().display();
            tracing::info!(requests, under_way, %dir, "what was sent before counts against the limits");
        }
        under_way
    }

    /// How many requests a command may have had under way when it died: as many as this one may, or as its journal
    /// shows that there were. One that finds out by itself how many are best has at most twice as many as it had
    /// before.
    fn most_under_way(&self, answers: &[JournaledAnswer]) -> usize {
        let began = answers.iter().map(|answer| (answer.at - answer.latency, 1));
        let ended = answers.iter().map(|answer| (answer.at, -1));
        let mut moments: Vec<(SystemTime, isize)> = began.chain(ended).collect();
        moments.sort_unstable();
        let (mut now, mut at_once) = (0, 0);
        for (_, change) in moments {
            now += change;
            at_once = at_once.max(usize::try_from(now).unwrap_or(0));
        }
        let most = self.client.concurrency().max(at_once);
        match self.client.level() {
            Some(first) => first.max(2 * at_once).min(most),
            None => most,
        }
    }

    /// Whether another run asks whom this one asks.
    fn is_same_endpoint(&self, other: &Manifest) -> bool {
        let model = other.dataset.get("model");
        let provider = model.and_then(|model| model.get("provider")?.as_str());
        let base_url = other.settings.get("model.base_url");
        let base_url = base_url.and_then(|setting| setting.value.as_str());
        let address = |url: &str| url.trim().trim_end_matches('/').to_owned();
        provider == Some(self.client.model().provider())
            && base_url.map(address) == Some(address(self.base_url))
    }

    fn since(&self) -> SystemTime {
        let since = self.now.checked_sub(self.window);
        since.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// How long ago that was, by the clock as it is now: reading takes its time. A limit that is new counts what leaves
    /// from when it was set, and here only what left before.
    fn ago(&self, at: SystemTime) -> Duration {
        let at = match self.at_work {
            Some(_) => at.min(self.now - JUST_BEFORE),
            None => at,
        };
        SystemTime::now().duration_since(at).unwrap_or_default()
    }
}

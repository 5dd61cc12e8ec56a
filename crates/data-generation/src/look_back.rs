//! What was sent before counts against the limits: by this run, by others of its experiment, and by its forks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_generation_llm_client::{Client, LookingBack, OpenAi, Usage};
use data_generation_pipeline_core::{AHEAD, JournaledAnswer, Manifest, Past};
use serde_json::Value;

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
    /// somebody else does it: whoever sets a limit does not wait. What the limit is for does until then.
    pub(crate) fn for_new_limits(
        &self,
        client: &Arc<Client>,
        looking_back: LookingBack,
        now: SystemTime,
        under_way: usize,
    ) {
        if self.is_needed(client).is_none() {
            return;
        }
        let (recall, client) = (self.clone(), Arc::clone(client));
        let look = move || {
            recall.at_once(&client, now, under_way);
            drop(looking_back);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(look)),
            Err(_) => drop(std::thread::spawn(look)),
        }
    }

    /// The same before anything else happens: where the endpoint has just told what its limits are, others wait for just
    /// that.
    pub(crate) fn at_once(&self, client: &Client, now: SystemTime, under_way: usize) {
        let Some(window) = self.is_needed(client) else {
            return;
        };
        let look_back = LookBack {
            client,
            base_url: &self.base_url,
            prompt_guess: self.prompt_guess,
            now,
            window,
            at_work: Some(under_way as u64),
        };
        match Past::so_far(self.dir.clone()) {
            Ok(past) => look_back.at(&past),
            Err(error) => tracing::warn!(%error, "what was sent before could not be read"),
        }
    }

    /// How far the limits look back, where there is one that does not know what was sent before.
    fn is_needed(&self, client: &Client) -> Option<Duration> {
        let window = client.longest_window()?;
        (!client.knows_of(&source_of(&self.dir))).then_some(window)
    }
}

/// What the client calls a run.
fn source_of(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}

/// Whom the commands of a run asked, and whether those who share limits know of it.
struct Commands {
    base_urls: Vec<Value>,
    shares: Vec<Value>,
}

/// Who counts what a command has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Whoever looks back on the run.
    Run,
    /// The same, also where limits are shared: this command shared none.
    Apart,
    /// Another endpoint, or another look back.
    Others,
}

/// What was sent, and counts. The answers of a long time are many: only so much is kept of each.
#[derive(Default)]
struct Sent {
    answered: Vec<Answered>,
    /// When, how many tokens each, and how many.
    others: Vec<(SystemTime, u64, u64)>,
}

/// One request that was answered.
struct Answered {
    /// When the answer arrived, in microseconds of Unix time.
    at: u64,
    latency_ms: u32,
    tokens: u32,
}

impl Sent {
    /// When each left, and how many tokens it cost.
    fn requests(&self) -> impl Iterator<Item = (SystemTime, u64)> {
        let answered = self.answered.iter().map(|answered| {
            let left = Duration::from_micros(answered.left());
            (SystemTime::UNIX_EPOCH + left, answered.tokens.into())
        });
        let others = self.others.iter();
        answered.chain(others.flat_map(|(at, tokens, count)| (0..*count).map(|_| (*at, *tokens))))
    }
}

impl Answered {
    fn of(answer: &JournaledAnswer, usage: Usage) -> Answered {
        let at = answer.at.duration_since(SystemTime::UNIX_EPOCH);
        let at = at.unwrap_or_default().as_micros();
        Answered {
            at: u64::try_from(at).unwrap_or(u64::MAX),
            latency_ms: u32::try_from(answer.latency.as_millis()).unwrap_or(u32::MAX),
            tokens: u32::try_from(usage.counted()).unwrap_or(u32::MAX),
        }
    }

    /// When the request left, in microseconds of Unix time.
    fn left(&self) -> u64 {
        self.at.saturating_sub(u64::from(self.latency_ms) * 1_000)
    }
}

/// How many were under way at the same time, at most; what was answered at a moment was not under way with what left then.
fn most_at_once<'a>(answered: impl Iterator<Item = &'a Answered> + Clone) -> usize {
    let mut left: Vec<u64> = answered.clone().map(Answered::left).collect();
    let mut arrived: Vec<u64> = answered.map(|answered| answered.at).collect();
    left.sort_unstable();
    arrived.sort_unstable();
    let (mut gone, mut most) = (0, 0);
    for (number, at) in left.iter().enumerate() {
        gone += arrived[gone..].iter().take_while(|end| *end <= at).count();
        most = most.max((number + 1).saturating_sub(gone));
    }
    most
}

impl LookBack<'_> {
    /// Counts what this run has sent, and what others of its experiment and its forks have sent to the same endpoint.
    pub(crate) fn at(&self, past: &Past<'_>) {
        let mut ahead = 0;
        let under_way = self.count(past, true, &mut ahead);
        past.assume_under_way(under_way);
        for other in past.others_since(self.since()) {
            if self.is_same_provider(&other.manifest) {
                // Nothing of it is written down: the other run says the same to whoever looks next.
                self.count(&other.past, false, &mut ahead);
            }
        }
        if ahead > 0 {
            let message = format!(
                "{ahead} of the answers that were kept before have times that are still to come: the clock of this \
                 machine is behind, or was ahead when they came; they count as sent just now, so the limits may be \
                 waited for; that is over with the first answer of this command, if the clock is right now"
            );
            match self.at_work {
                None => past.warn(message),
                // Warnings are taken when a command begins.
                Some(_) => tracing::warn!("{message}"),
            }
        }
    }

    /// Counts what one run has sent. Returns how many requests were under way when its last command died.
    fn count(&self, past: &Past<'_>, is_own: bool, all_ahead: &mut usize) -> u64 {
        let (client, since) = (self.client, self.since());
        let source = source_of(past.dir());
        let commands = Commands {
            base_urls: past.setting_of_commands("model.base_url"),
            shares: past.setting_of_commands("limits.share"),
        };
        let is_known = client.knows_of(&source);
        let numbers = 0..past.commands().len();
        if is_known
            && !numbers
                .into_iter()
                .any(|n| self.whose(past, &commands, Some(n)) == Of::Apart)
        {
            return 0;
        }
        let (mut of_run, mut apart) = (Sent::default(), Sent::default());
        let (mut ahead, mut most_tokens) = (0, 0);
        // What arrived later is among what was under way.
        let is_at_work = is_own && self.at_work.is_some();
        let read = past.each_answer_since(since, |answer| {
            let is_ahead = answer.at > self.now + AHEAD;
            ahead += usize::from(is_ahead);
            if is_at_work && answer.at > self.now && !is_ahead {
                return;
            }
            let whose = self.whose(past, &commands, past.command_of(&answer));
            // Older versions did not keep what they guessed.
            let prompt = answer.prompt_guess.unwrap_or(self.prompt_guess);
            let usage = Usage::of_body(&answer.body, prompt);
            // Another run may have had other prompts, and so answers of another length; what this command was answered
            // is known.
            if is_own && self.at_work.is_none() {
                client.learn_usage(usage);
            }
            let sent = match whose {
                Of::Run => &mut of_run,
                Of::Apart => &mut apart,
                Of::Others => return,
            };
            most_tokens = usage.counted().max(most_tokens);
            sent.answered.push(Answered::of(&answer, usage));
        });
        // The next look at the run's own journal tells the user.
        if let Err(error) = read {
            let dir = past.dir().display();
            tracing::warn!(%error, %dir, "what was sent before could not be read");
            return 0;
        }
        *all_ahead += ahead;
        let answered = of_run.answered.len() + apart.answered.len();
        // A few answers say little of what the others would have cost.
        if answered < ENOUGH {
            most_tokens = most_tokens.max(client.expected_tokens(self.prompt_guess));
        }
        let mut requests = answered as u64;
        for (command, lost) in past.unjournaled_since(since) {
            let sent = match self.whose(past, &commands, Some(command)) {
                Of::Run => &mut of_run,
                Of::Apart => &mut apart,
                Of::Others => continue,
            };
            let at = lost.at().unwrap_or(self.now);
            for (count, tokens) in [(lost.refused, 0), (lost.unanswered, most_tokens)] {
                requests += count;
                sent.others.push((at, tokens, count));
            }
        }
        // What was under way when a command died nobody could write down.
        let died = past.died().filter(|died| *died > since);
        let whose = match past.died_as() {
            Some(number) => self.whose(past, &commands, Some(number)),
            None => Of::Run,
        };
        let under_way = match self.at_work {
            Some(under_way) if is_own => under_way,
            _ => died.map_or(0, |_| self.most_under_way([&of_run, &apart]) as u64),
        };
        let under_way = match whose {
            Of::Run if !is_known => under_way,
            Of::Apart => under_way,
            Of::Run | Of::Others => 0,
        };
        let at = died.unwrap_or(self.now);
        let sent = match whose {
            Of::Apart => &mut apart,
            Of::Run | Of::Others => &mut of_run,
        };
        sent.others.push((at, most_tokens, under_way));
        let ago = |(at, tokens)| (self.ago(at), tokens);
        if !is_known {
            client.sent_before(&source, of_run.requests().map(ago));
        }
        if client.is_sharing() {
            client.sent_apart(&source, apart.requests().map(ago));
        }
        if requests + under_way > 0 {
            let dir = past.dir().display();
            tracing::info!(requests, under_way, %dir, "what was sent before counts against the limits");
        }
        under_way
    }

    /// Who counts what a command of a run has sent; `None` for what none of its commands has.
    fn whose(&self, past: &Past<'_>, commands: &Commands, number: Option<usize>) -> Of {
        let Some(number) = number else {
            // The answers that a fork has from its source.
            return if past.has_source() {
                Of::Others
            } else {
                Of::Run
            };
        };
        let base_url = commands.base_urls.get(number).and_then(Value::as_str);
        if base_url.is_some_and(|asked| !OpenAi::is_same_base_url(asked, self.base_url)) {
            return Of::Others;
        }
        let shared = commands.shares.get(number) == Some(&Value::Bool(true));
        match self.client.is_sharing() && !shared {
            true => Of::Apart,
            false => Of::Run,
        }
    }

    /// How many requests a command may have had under way when it died: as many as this one may, or as its journal
    /// shows that there were. One that finds out by itself how many are best has at most twice as many as it had
    /// before.
    fn most_under_way(&self, sent: [&Sent; 2]) -> usize {
        let at_once = most_at_once(sent.iter().flat_map(|sent| &sent.answered));
        let most = self.client.concurrency().max(at_once);
        match self.client.level() {
            Some(first) => first.max(2 * at_once).min(most),
            None => most,
        }
    }

    /// Whether another run asks as this one does; at which address each of its commands may tell.
    fn is_same_provider(&self, other: &Manifest) -> bool {
        let model = other.dataset.get("model");
        let provider = model.and_then(|model| model.get("provider")?.as_str());
        provider == Some(self.client.model().provider())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_were_under_way_at_once_as_had_left_and_not_been_answered() {
        let most = |sent: &[(u64, u64)]| {
            let answered = sent.iter().map(|(left, at)| Answered {
                at: at * 1_000,
                latency_ms: u32::try_from(at - left).unwrap(),
                tokens: 1,
            });
            let answered: Vec<Answered> = answered.collect();
            most_at_once(answered.iter())
        };
        assert_eq!(most(&[]), 0);
        assert_eq!(most(&[(0, 10)]), 1);
        assert_eq!(most(&[(5, 15), (0, 10), (9, 11)]), 3);
        // What was answered makes room for the next one.
        assert_eq!(most(&[(0, 10), (10, 20), (20, 30)]), 1);
        assert_eq!(most(&[(0, 40), (10, 20), (20, 30), (30, 50)]), 2);
        // What took no time was not under way.
        assert_eq!(most(&[(0, 10), (5, 5), (5, 5), (5, 10)]), 2);
        assert_eq!(most(&[(3, 3), (3, 3)]), 0);
    }
}

//! Steering a run from another terminal: a socket in its folder, and both ends of it.
//!
//! Whoever asks sends one line of JSON and gets one line of JSON back.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::num::{NonZeroU32, NonZeroU64};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use data_generation::settings::{ConcurrencyLimit, LimitName, RateLimit};
use data_generation::{Steering, StopHandle, StopKind};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, unix::OwnedReadHalf, unix::OwnedWriteHalf};
use tokio::task::JoinSet;

use crate::files::Room;
use crate::output::{self, counted};
use crate::progress::Screen;

/// Private like everything else in a run's folder.
const SOCKET: &str = ".ctl.sock";
/// Longer paths are no name for a socket anywhere.
const LONGEST_PATH: usize = 100;
/// A line that is longer is no order.
const LONGEST_LINE: usize = 4096;
/// Whoever works on a run answers sooner.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Whoever has something to ask says it sooner.
const LISTENS: Duration = Duration::from_secs(2);
/// So often the run has its turn between a change and the reply: a wait that would be longer might outlast the run.
const TURNS: usize = 4;
/// So many may ask at the same time.
const TALKS: usize = 32;

/// What can be asked of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Order {
    /// Changes values; what is not named stays.
    Set(Values),
    /// Sends nothing new.
    Pause,
    /// Ends the pause.
    Resume,
    /// Sends nothing new, and ends when the answers under way are there.
    Drain,
    /// Says how the run is steered.
    Show,
}

/// Values that can be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Values {
    /// `Some(None)`: no limit.
    #[serde(skip_serializing_if = "Option::is_none", with = "given")]
    pub(crate) rate_limit: Option<Option<RateLimit>>,
    #[serde(skip_serializing_if = "Option::is_none", with = "given")]
    pub(crate) token_limit: Option<Option<NonZeroU32>>,
    /// Those below `limits`; null for no limit.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) limits: BTreeMap<LimitName, Option<NonZeroU64>>,
    /// `limits.burst`, which is always there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) burst: Option<NonZeroU32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) concurrency_limit: Option<ConcurrencyLimit>,
}

impl Values {
    /// The settings that they change, and to what, as they are typed.
    fn told(&self) -> Vec<(String, String)> {
        let rate = self
            .rate_limit
            .map(|rate| ("model.rate_limit".to_owned(), or_none(rate)));
        let tokens = self.token_limit;
        let tokens = tokens.map(|tokens| ("model.token_limit".to_owned(), or_none(tokens)));
        let limits = self.limits.iter();
        let limits =
            limits.map(|(name, amount)| (format!("limits.{}", name.key()), or_none(*amount)));
        let burst = self
            .burst
            .map(|burst| ("limits.burst".to_owned(), burst.to_string()));
        let concurrency = self.concurrency_limit;
        let concurrency =
            concurrency.map(|limit| ("run.concurrency_limit".to_owned(), limit.to_string()));
        let first = rate.into_iter().chain(tokens);
        first
            .chain(limits)
            .chain(burst)
            .chain(concurrency)
            .collect()
    }
}

/// A null that was written is told from one that was not.
mod given {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        T::deserialize(deserializer).map(Some)
    }
}

/// How a run is steered, or why it cannot be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// This is how it is now.
    Now {
        rate_limit: Option<RateLimit>,
        token_limit: Option<u64>,
        /// All that are kept, in words.
        limits: Vec<String>,
        /// Requests that may leave at once.
        burst: NonZeroU32,
        /// The share of the rate that is used.
        rate_share: f64,
        concurrency_limit: Option<ConcurrencyLimit>,
        /// Requests at the same time, as many as may be at present.
        places: usize,
        paused: bool,
        draining: bool,
        in_flight: usize,
        /// What the run waits for, and how long.
        waits: Option<String>,
        /// What is not as it was asked for, and why.
        but: Option<String>,
        /// How long what was set holds.
        keep: Option<String>,
    },
    /// What was sent is no order.
    Refused(String),
}

/// What orders are carried out on.
pub(crate) struct Wheel {
    pub(crate) steering: Steering,
    pub(crate) stop: StopHandle,
    pub(crate) screen: Screen,
    pub(crate) room: Room,
}

impl Wheel {
    async fn obey(&self, order: Order) -> Reply {
        let steering = &self.steering;
        let (mut but, mut keep) = (None, None);
        match order {
            Order::Set(values) => {
                let told = values.told();
                but = self.set(values);
                for (key, value) in &told {
                    let value = match key.as_str() {
                        "run.concurrency_limit" => or_none(steering.steered().concurrency),
                        _ => value.clone(),
                    };
                    self.screen
                        .note(&format!("`datagen ctl`: {key} is {value}"));
                }
                if let Some(but) = &but {
                    self.screen.note(but);
                }
                keep = how_to_keep(told);
                // Those who wait find out what they wait for now, and the reply tells it.
                for _ in 0..TURNS {
                    tokio::task::yield_now().await;
                }
            }
            Order::Pause | Order::Resume if self.stop.is_stopping() => {
                return Reply::Refused(ENDING.to_owned());
            }
            Order::Pause => {
                steering.pause();
                self.screen.held(true);
                self.screen
                    .note("`datagen ctl`: paused; `datagen ctl resume` goes on");
            }
            Order::Resume => {
                steering.go_on();
                self.screen.held(false);
                self.screen.note("`datagen ctl`: going on");
            }
            Order::Drain => {
                self.screen.note(&format!(
                    "`datagen ctl`: draining, {} under way",
                    counted(self.screen.in_flight(), "answer is", "answers are")
                ));
                let why = "`datagen ctl drain` ended it";
                self.stop.stop(StopKind::Interrupted, why);
            }
            Order::Show => {}
        }
        let now = steering.steered();
        Reply::Now {
            rate_limit: now.rate_limit,
            token_limit: now.token_limit.map(Into::into),
            limits: now.limits,
            burst: now.burst,
            rate_share: now.rate_share,
            concurrency_limit: now.concurrency,
            places: now.places,
            paused: now.paused,
            draining: self.stop.is_stopping(),
            in_flight: now.in_flight,
            // Who is ending waits for what is under way alone.
            waits: self.screen.waits().filter(|_| !self.stop.is_stopping()),
            but,
            keep,
        }
    }

    /// Says what is not as it was asked for.
    fn set(&self, values: Values) -> Option<String> {
        let steering = &self.steering;
        match values.rate_limit {
            Some(Some(RateLimit::Auto)) => steering.set_rate_limit_auto(),
            Some(Some(RateLimit::PerMinute(requests))) => steering.set_rate_limit(Some(requests)),
            Some(None) => steering.set_rate_limit(None),
            None => {}
        }
        for (name, amount) in values.limits {
            steering.set_limit(name, amount);
        }
        if let Some(burst) = values.burst {
            steering.set_burst(burst);
        }
        if let Some(tokens) = values.token_limit {
            steering.set_token_limit(tokens);
        }
        let limit = values.concurrency_limit?;
        steering.set_concurrency(limit);
        self.screen.adapts(limit == ConcurrencyLimit::Auto);
        match limit {
            ConcurrencyLimit::Fixed(wanted) => self.room.too_little_for(wanted.get()),
            ConcurrencyLimit::Auto => None,
        }
    }
}

/// Nothing of it can be paused, and nothing goes on.
const ENDING: &str = "the run is ending: nothing new is sent any more, so it can neither be paused nor go on; when it has \
                      ended it says which command goes on";

/// What was set ends with the command, and how it is kept.
fn how_to_keep(told: Vec<(String, String)>) -> Option<String> {
    let set: Vec<String> = told
        .into_iter()
        .map(|(key, value)| format!("--set {key}={value}"))
        .collect();
    (!set.is_empty()).then(|| {
        format!(
            "until this command ends; whoever goes on later keeps it with `{}`",
            set.join(" ")
        )
    })
}

/// What the two usual limits do not say: further ones, what the endpoint announces, that it is slowed down.
fn besides(
    rate_limit: Option<RateLimit>,
    token_limit: Option<u64>,
    limits: &[String],
    burst: NonZeroU32,
    rate_share: f64,
) -> Option<String> {
    let rate = match rate_limit {
        Some(RateLimit::PerMinute(requests)) => Some(u64::from(requests.get())),
        _ => None,
    };
    let rate = rate.map(|rate| format!("{} a minute", counted(rate, "request", "requests")));
    let tokens =
        token_limit.map(|tokens| format!("{} a minute", counted(tokens, "token", "tokens")));
    let said: Vec<String> = rate.into_iter().chain(tokens).collect();
    let mut parts = Vec::new();
    if limits != said || rate_limit == Some(RateLimit::Auto) {
        parts.push(match limits {
            [] => "no limits are kept".to_owned(),
            limits => format!("kept: {}", limits.join(", ")),
        });
    }
    if burst > NonZeroU32::MIN {
        parts.push(format!("burst {burst}"));
    }
    if rate_share < 1.0 {
        let percent = (rate_share * 100.0).round();
        parts.push(format!(
            "the endpoint pushes back: requests leave at {percent} % of the rate"
        ));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn or_none<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

/// Listens in the run's folder until it is dropped; where that cannot be, says so and waits for ever.
pub(crate) async fn serve(dir: PathBuf, wheel: Arc<Wheel>) -> std::convert::Infallible {
    let listening = short(&dir).and_then(|short| {
        // We hold the run's lock, so whoever listened here is dead.
        match std::fs::remove_file(short.path.join(SOCKET)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        UnixListener::bind(short.path.join(SOCKET))
    });
    let listener = match listening {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "no socket in the run's folder");
            let place = dir.display();
            let what = format!(
                "warning: `datagen ctl` cannot reach this run: no socket in {place}: {error}"
            );
            wheel.screen.note(&what);
            return std::future::pending().await;
        }
    };
    let _gone_at_the_end = Gone(dir.join(SOCKET));
    let mut talks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if talks.len() < TALKS => accepted,
            Some(_) = talks.join_next(), if !talks.is_empty() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let (read, write) = stream.into_split();
                let wheel = Arc::clone(&wheel);
                // Each by itself: whoever says nothing must not keep the others waiting.
                talks.spawn(async move {
                    let talk = tokio::time::timeout(LISTENS, talk(read, write, &wheel));
                    if !matches!(talk.await, Ok(Ok(()))) {
                        tracing::debug!("somebody opened the socket and left");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the socket in the run's folder");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

async fn talk(read: OwnedReadHalf, mut write: OwnedWriteHalf, wheel: &Wheel) -> io::Result<()> {
    use tokio::io::AsyncReadExt;
    let mut line = Vec::new();
    let mut limited = tokio::io::BufReader::new(read.take(LONGEST_LINE as u64));
    limited.read_until(b'\n', &mut line).await?;
    let reply = match serde_json::from_slice::<Order>(&line) {
        Ok(order) => wheel.obey(order).await,
        Err(error) => Reply::Refused(format!("this is no order: {error}")),
    };
    let mut text = serde_json::to_vec(&reply)?;
    text.push(b'\n');
    write.write_all(&text).await
}

struct Gone(PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(%error, "the socket was left behind");
        }
    }
}

/// Gives an order to whoever works on a run.
pub(crate) fn order(dir: &Path, order: &Order) -> io::Result<Reply> {
    let short = short(dir)?;
    let mut stream = UnixStream::connect(short.path.join(SOCKET))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_vec(order)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut reply = String::new();
    if BufReader::new(stream).read_line(&mut reply)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&reply)?)
}

/// A folder by a path that is short enough for the name of a socket.
struct Short {
    path: PathBuf,
    /// The path may go through it.
    _folder: Option<std::os::fd::OwnedFd>,
}

fn short(dir: &Path) -> io::Result<Short> {
    if dir.as_os_str().len() + SOCKET.len() < LONGEST_PATH || !cfg!(target_os = "linux") {
        return Ok(Short {
            path: dir.to_owned(),
            _folder: None,
        });
    }
    use std::os::fd::AsRawFd;
    let folder = rustix::fs::open(dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Short {
        path: PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())),
        _folder: Some(folder),
    })
}

/// The reply as people read it.
pub(crate) fn tell(reply: &Reply) {
    match reply {
        Reply::Now {
            rate_limit,
            token_limit,
            limits,
            burst,
            rate_share,
            concurrency_limit,
            places,
            paused,
            draining,
            in_flight,
            waits,
            but,
            keep,
        } => {
            let state = match (draining, paused) {
                (true, _) => "draining",
                (false, true) => "paused",
                (false, false) => "working",
            };
            let now = match concurrency_limit {
                Some(ConcurrencyLimit::Auto) => format!(" (now {places})"),
                _ => String::new(),
            };
            output::line(&format!(
                "{state}, {in_flight} in flight; rate_limit {}, token_limit {}, concurrency_limit {}{now}",
                or_none(*rate_limit),
                or_none(*token_limit),
                or_none(*concurrency_limit)
            ));
            let besides = besides(*rate_limit, *token_limit, limits, *burst, *rate_share);
            if let Some(besides) = besides {
                output::line(&besides);
            }
            for more in [waits, but, keep].into_iter().flatten() {
                output::line(more);
            }
        }
        Reply::Refused(why) => output::error_line(&format!("error: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_reads_back_as_it_was_given() {
        let values = Values {
            rate_limit: Some(None),
            token_limit: Some(NonZeroU32::new(5)),
            limits: [(LimitName::TokensPerDay, None)].into(),
            burst: NonZeroU32::new(3),
            concurrency_limit: None,
        };
        for order in [Order::Set(values), Order::Pause, Order::Show] {
            let text = serde_json::to_string(&order).unwrap();
            assert_eq!(
                serde_json::from_str::<Order>(&text).unwrap(),
                order,
                "{text}"
            );
        }
        assert!(serde_json::from_str::<Order>(r#"{"set":{"temperature":1}}"#).is_err());
    }
}

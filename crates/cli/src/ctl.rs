//! `datagen ctl`.

use std::collections::HashMap;
use std::io;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;
use std::process::ExitCode;

use data_generation::pipeline::Manifest;
use data_generation::settings::{LimitName, RateLimit};

use crate::args::{Ctl, CtlAction};
use crate::control::{self, Order, Reply, Values};
use crate::exit;
use crate::failure::Failure;
use crate::output::quoted;

pub(crate) fn run(ctl: &Ctl) -> Result<ExitCode, Failure> {
    let order = match &ctl.action {
        CtlAction::Set { values } => Order::Set(parse(values)?),
        CtlAction::Pause => Order::Pause,
        CtlAction::Resume => Order::Resume,
        CtlAction::Drain => Order::Drain,
        CtlAction::Show => Order::Show,
    };
    let reply = control::order(&ctl.run, &order).map_err(|error| unreachable(&ctl.run, &error))?;
    control::tell(&reply);
    Ok(match reply {
        Reply::Now { .. } => ExitCode::SUCCESS,
        Reply::Refused(_) => ExitCode::from(exit::USAGE),
    })
}

/// `rate_limit=600`, also by the whole key, `model.rate_limit=600`; each once.
fn parse(assignments: &[String]) -> Result<Values, Failure> {
    let mut values = Values::default();
    let mut given = HashMap::new();
    for assignment in assignments {
        let Some((key, value)) = assignment.split_once('=') else {
            return Err(Failure::usage(format!(
                "`{assignment}` is no KEY=VALUE such as rate_limit=600"
            )));
        };
        let small = || amount(key, value, u32::MAX.into());
        let small = || Ok::<_, Failure>(small()?.and_then(|n| NonZeroU32::try_from(n).ok()));
        let name = key.strip_prefix("limits.").unwrap_or(key);
        let limit = LimitName::ALL.into_iter().find(|limit| limit.key() == name);
        match key {
            "rate_limit" | "model.rate_limit" if value == "auto" => {
                values.rate_limit = Some(Some(RateLimit::Auto));
            }
            "rate_limit" | "model.rate_limit" => {
                values.rate_limit = Some(small()?.map(RateLimit::PerMinute));
            }
            "token_limit" | "model.token_limit" => values.token_limit = Some(small()?),
            "concurrency" | "concurrency_limit" | "run.concurrency_limit" => {
                let limit = value.parse().map_err(|()| {
                    Failure::usage(format!(
                        "{key}: `{value}` is neither a number above 0 nor `auto`"
                    ))
                })?;
                values.concurrency_limit = Some(limit);
            }
            "burst" | "limits.burst" => {
                let burst = value.parse().map_err(|_| {
                    Failure::usage(format!(
                        "{key}: `{value}` is no whole number from 1 to {}; with 1 requests leave evenly spaced",
                        u32::MAX
                    ))
                })?;
                values.burst = Some(burst);
            }
            "share" | "limits.share" => {
                return Err(Failure::usage(
                    "`limits.share` is fixed for a run: with whom it keeps its limits is known when it begins",
                )
                .hint("`datagen ctl drain` ends it; then go on with `--set limits.share=true` or `false`"));
            }
            other => {
                let Some(limit) = limit else {
                    let limits = LimitName::ALL.map(|limit| format!("limits.{}", limit.key()));
                    return Err(Failure::usage(format!(
                        "`{other}` cannot be changed while a run works; rate_limit, token_limit, {}, limits.burst and concurrency can",
                        limits.join(", ")
                    )));
                };
                values.limits.insert(limit, amount(key, value, u64::MAX)?);
            }
        }
        // All that got so far are known, and differ in their last part.
        let name = match key.rsplit('.').next().unwrap_or(key) {
            "concurrency" => "concurrency_limit",
            name => name,
        };
        if let Some(first) = given.insert(name, assignment) {
            return Err(Failure::usage(format!(
                "{name} is set twice, by `{first}` and by `{assignment}`: leave one of them out"
            )));
        }
    }
    Ok(values)
}

/// A number above 0, or null for no limit.
fn amount(key: &str, value: &str, most: u64) -> Result<Option<NonZeroU64>, Failure> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let refused = match value.parse::<u64>() {
        _ if value == "null" => return Ok(None),
        Ok(0) => "0 would let nothing leave; `datagen ctl pause` does that, and null takes the limit away".to_owned(),
        Ok(number) if number <= most => return Ok(NonZeroU64::new(number)),
        Ok(_) => format!("{value} is more than can be set, {most}; null takes the limit away"),
        Err(_) if digits => format!("{value} is more than can be set, {most}; null takes the limit away"),
        Err(_) => match key.ends_with("rate_limit") {
            true => format!("`{value}` is neither a whole number above 0, nor `auto`, nor null"),
            false => format!("`{value}` is neither a whole number above 0 nor null"),
        },
    };
    Err(Failure::usage(format!("{key}: {refused}")))
}

fn unreachable(dir: &Path, error: &io::Error) -> Failure {
    let place = dir.display();
    // Whoever names a folder above the runs hears which there are.
    if let Err(error) = Manifest::of_run(dir) {
        return data_generation::Error::from(error).into();
    }
    match error.kind() {
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::UnexpectedEof => {
            Failure::usage(format!("the run in {place} has just ended"))
        }
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Failure::usage(format!("no run is at work in {place}")).hint(format!(
                "`datagen status --run {}` tells how it stands and how to go on",
                quoted(&place.to_string())
            ))
        }
        // Whoever was stopped by Ctrl-Z, or has no time, reads it later.
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::later(format!(
            "the run in {place} did not answer within {} s; it may still do what it was told",
            control::PATIENCE.as_secs()
        ))
        .hint("if it was stopped with Ctrl-Z, `fg` in its terminal lets it go on"),
        _ => Failure::io(format!("could not reach the run in {place}"), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_named_shortly_or_by_their_whole_key() {
        let given = [
            "model.rate_limit=600",
            "token_limit=null",
            "concurrency_limit=9",
        ];
        let values = parse(&given.map(str::to_owned)).unwrap();
        let rate = RateLimit::PerMinute(600.try_into().unwrap());
        assert_eq!(values.rate_limit, Some(Some(rate)));
        assert_eq!(values.token_limit, Some(None));
        assert_eq!(values.concurrency_limit.unwrap().to_string(), "9");
        let values = parse(&["concurrency=auto".to_owned()]).unwrap();
        assert_eq!(values.concurrency_limit.unwrap().to_string(), "auto");
        let given = [
            "rate_limit=auto",
            "limits.tokens_per_day=9",
            "requests_per_second=null",
            "limits.burst=4",
        ];
        let values = parse(&given.map(str::to_owned)).unwrap();
        assert_eq!(values.rate_limit, Some(Some(RateLimit::Auto)));
        let day = (LimitName::TokensPerDay, 9.try_into().ok());
        let second = (LimitName::RequestsPerSecond, None);
        assert_eq!(values.limits, [day, second].into());
        assert_eq!(values.burst, NonZeroU32::new(4));
        for wrong in [
            "token_limit=auto",
            "rate_limit=4294967296",
            "limits.tokens_per_day=0",
            "limits.tokens_per_day=99999999999999999999",
            "limits.share=true",
            "burst=0",
            "burst=null",
            "limits.burst=4294967296",
            "rate_limit",
            "rate_limit=0",
            "rate_limit=fast",
            "concurrency=0",
            "concurrency=null",
            "temperature=1",
        ] {
            assert!(parse(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}

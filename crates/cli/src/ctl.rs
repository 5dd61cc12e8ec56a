//! `datagen ctl`.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use data_generation::pipeline::Manifest;

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

/// `rate_limit=600`, also by the whole key, `model.rate_limit=600`.
fn parse(assignments: &[String]) -> Result<Values, Failure> {
    let mut values = Values::default();
    for assignment in assignments {
        let Some((key, value)) = assignment.split_once('=') else {
            return Err(Failure::usage(format!(
                "`{assignment}` is no KEY=VALUE such as rate_limit=600"
            )));
        };
        let amount = || match value {
            "null" => Ok(None),
            number => number.parse().map(Some).map_err(|_| {
                Failure::usage(format!(
                    "{key}: `{value}` is neither a number above 0 nor null"
                ))
            }),
        };
        match key {
            "rate_limit" | "model.rate_limit" => values.rate_limit = Some(amount()?),
            "token_limit" | "model.token_limit" => values.token_limit = Some(amount()?),
            "concurrency" | "concurrency_limit" | "run.concurrency_limit" => {
                let limit = value.parse().map_err(|()| {
                    Failure::usage(format!(
                        "{key}: `{value}` is neither a number above 0 nor `auto`"
                    ))
                })?;
                values.concurrency_limit = Some(limit);
            }
            other => {
                return Err(Failure::usage(format!(
                    "`{other}` cannot be changed while a run works; rate_limit, token_limit and concurrency can"
                )));
            }
        }
    }
    Ok(values)
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
        assert_eq!(values.rate_limit.unwrap().unwrap().get(), 600);
        assert_eq!(values.token_limit, Some(None));
        assert_eq!(values.concurrency_limit.unwrap().to_string(), "9");
        let values = parse(&["concurrency=auto".to_owned()]).unwrap();
        assert_eq!(values.concurrency_limit.unwrap().to_string(), "auto");
        for wrong in [
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

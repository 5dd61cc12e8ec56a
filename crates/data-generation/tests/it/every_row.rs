//! Every entry of the table of faults, met by every row from the first one on: how such a run ends.

use std::time::Duration;

use data_generation::StopKind;
use data_generation_fault_server::trial::{self, Patience, expect, same};
use data_generation_fault_server::{Disposition, Every, Fault, Plan, Play, Times, Who};

use crate::matrix::{AT_ONCE, LONGEST, age, alike_before, says_what_and_why, waits_long};
use crate::played::{Fate, Played, Stage, entries};

/// Every row meets it, always.
pub(crate) async fn every_row(fault: &'static Fault, places: usize) -> Result<(), String> {
    let mut stage = Stage::new(fault);
    (stage.places, stage.rows) = (places, 8);
    if is_breaker(fault) {
        // No answer is worth a wait here, and twenty rows would wait six times each.
        let short = Duration::from_millis(50);
        stage.patience = Patience::for_fault(fault, short, stage.patience.total);
        stage.rows = 30;
        if is_bomb(fault) {
            stage = stage.set("run.stop_on_failures", BOMBS);
        }
    }
    if fault.requests.every == Every::UntilTooOld {
        stage.rows = if places == 1 { 2 } else { 4 };
        stage = stage
            .set("run.retry.base_delay_s", 0.05)
            .set("run.retry.max_delay_s", 0.1)
            .set("run.retry.max_row_s", age(fault));
    }
    let plan = Plan::good().fault(fault, Who::Every, Times::Always);
    let played = stage.play(plan).await?;
    let wrong = |wrong: String| {
        let (requests, stopped) = (played.seen.by_row(), played.stopped());
        format!("{wrong} (requests {requests:?}; {stopped})")
    };
    // Whoever has no patience may be gone before the request has come.
    let unseen = fault.is_unseen() || fault.needs_trust() || stage.is_impatient();
    played.laws(unseen).map_err(wrong)?;
    the_end(fault, &stage, &played).map_err(wrong)?;
    if played.report.stopped.is_some() {
        stage.finish(&played).await.map_err(wrong)?;
    }
    Ok(())
}

/// What the table says of the end of a run in which every row meets the fault.
fn the_end(fault: &Fault, stage: &Stage, played: &Played) -> Result<(), String> {
    let counts = played.report.counts;
    let ends = (counts.ok, counts.failed, counts.pending);
    let kind = played.report.stopped.as_ref().map(|reason| reason.kind);
    let most = (1..=stage.rows).map(|row| played.sent_of(row)).max();
    match fault.requests.every {
        Every::AllRows(each) => {
            same(
                "rows that are ok, failed, pending",
                (stage.rows, 0, 0),
                ends,
            )?;
            same("stopped", None, kind)?;
            same(
                "requests",
                stage.rows * u64::from(each),
                played.report.requests,
            )
        }
        Every::UntilTooOld => {
            same(
                "rows that are ok, failed, pending",
                (0, stage.rows, 0),
                ends,
            )?;
            same("stopped", None, kind)?;
            expect("asked again after a pause", most >= Some(2), most)?;
            (1..=stage.rows).try_for_each(|row| played.failed(row, fault))
        }
        Every::InFlightPlusOne => {
            let expected = match fault.disposition {
                Disposition::Later => StopKind::Later,
                _ => StopKind::Refused,
            };
            same(
                "rows that are ok, failed, pending",
                (0, 0, stage.rows),
                ends,
            )?;
            same("stopped", Some(expected), kind)?;
            let sent = played.report.requests as usize;
            let bound = if stage.places == 1 {
                1
            } else {
                stage.places + 1
            };
            expect("what is in flight, and one", sent <= bound, sent)?;
            says_what_and_why(fault, played)
        }
        Every::Outage(attempts) => {
            same(
                "rows that are ok, failed, pending",
                (0, 0, stage.rows),
                ends,
            )?;
            same("stopped", Some(StopKind::Refused), kind)?;
            same("requests of a row, at most", Some(attempts as usize), most)?;
            says_what_and_why(fault, played)?;
            let message = played.stopped();
            expect(
                "the address is named",
                message.contains("127.0.0.1:"),
                message,
            )
        }
        Every::Breaker { rows, each } => {
            same("stopped", Some(StopKind::Refused), kind)?;
            // Rows that wait leave their places to others, and those at work at the end may still fail.
            let at_work = if each == 1 {
                stage.places
            } else {
                2 * stage.places
            };
            let rows = if is_bomb(fault) { BOMBS } else { rows };
            let rows = u64::from(rows)..u64::from(rows) + at_work as u64;
            expect("so many rows failed", rows.contains(&counts.failed), counts)?;
            same("rows that are ok", 0, counts.ok)?;
            for (row, fate) in &played.fates {
                let (sent, each) = (played.sent_of(*row), each as usize);
                match fate {
                    Fate::Failed(_) => same("requests of a row", each, sent)?,
                    _ => expect("requests of a row that is pending", sent <= each, sent)?,
                }
            }
            let asked = played
                .fates
                .values()
                .filter(|fate| !fate.is_pending())
                .count();
            let pending = played.report.requests as usize - asked * each as usize;
            expect(
                "requests of rows at work",
                pending < at_work * each as usize,
                pending,
            )?;
            let failed = played.fates.iter().find(|(_, fate)| !fate.is_pending());
            failed.map_or(Ok(()), |(row, _)| played.failed(*row, fault))?;
            let message = played.stopped();
            let said = format!("failed alike: {}:", fault.class);
            expect("the class is named", message.contains(&said), message)?;
            says_what_and_why(fault, played)
        }
    }
}

/// So many are enough: each takes as long as all that others send.
const BOMBS: u32 = 4;

fn is_bomb(fault: &Fault) -> bool {
    matches!(fault.play, Play::Bomb { .. })
}

fn is_breaker(fault: &Fault) -> bool {
    matches!(fault.requests.every, Every::Breaker { .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_in_which_every_row_meets_a_fault_ends_as_the_table_says() {
    every_row_of(|fault| !is_breaker(fault)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_in_which_every_row_fails_alike_stops_after_twenty() {
    every_row_of(is_breaker).await;
}

async fn every_row_of(such: impl Fn(&Fault) -> bool) {
    let faults = entries(false).filter(|fault| such(fault) && !waits_long(fault));
    let cases = faults.flat_map(|fault| {
        let costly =
            is_bomb(fault) || matches!(fault.requests.every, Every::Breaker { each: 6.., .. });
        let places: &[usize] = match alike_before(fault) {
            _ if costly => &[1],
            0 => &[1, 4],
            nth if nth % 2 == 0 => &[1],
            _ => &[4],
        };
        places.iter().map(move |places| {
            let name = format!("{}, {places} at work", fault.name);
            (name, every_row(fault, *places))
        })
    });
    trial::all(cases, AT_ONCE, LONGEST).await;
}

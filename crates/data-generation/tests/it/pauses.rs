//! What an endpoint asks for when it puts everybody off: nobody undercuts it, and an interrupt ends it.

use std::time::Duration;

use data_generation::{StopHandle, StopKind};
use data_generation_fault_server::trial::{self, expect, same};
use data_generation_fault_server::{Disposition, Fault, FaultServer, Latency, Plan, Times, Who};
use tokio::time::Instant;

use crate::matrix::{AT_ONCE, Case, LONGEST, MIDDLE, waits_long};
use crate::played::{Played, Stage, Told, entries};

/// A pause of minutes: nothing is sent, and an interrupt ends it at once.
async fn interrupted_in_a_pause(case: Case) -> Result<(), String> {
    let mut stage = Stage::new(case.fault);
    stage.places = case.places;
    let who = match case.row {
        0 => Who::Every,
        row => Who::Row(row),
    };
    let plan = Plan::good().fault(case.fault, who, case.times);
    let server = FaultServer::start(plan).map_err(|error| error.to_string())?;
    let stop = StopHandle::new();
    // Longer than a repeat without a pause would take, and shorter than the one that was asked for.
    let interrupt = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        stop.interrupt();
        Instant::now()
    };
    let (played, interrupted) = tokio::join!(stage.play_on(server, &stop), interrupt);
    let played = played?;
    played.laws(false)?;
    expect(
        "at once",
        interrupted.elapsed() < Duration::from_secs(20),
        interrupted.elapsed(),
    )?;
    let kind = played.report.stopped.as_ref().map(|reason| reason.kind);
    same("stopped", Some(StopKind::Interrupted), kind)?;
    let twice = played
        .seen
        .by_row()
        .into_iter()
        .find(|(_, requests)| *requests > 1);
    same("rows that were asked during the pause", None, twice)?;
    nobody_sends_in_a_pause(case.fault, &played)?;
    same("failed rows", 0, played.report.counts.failed)?;
    stage.finish(&played).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_ends_a_long_pause_at_once_and_nothing_is_sent_in_it() {
    let cases = entries(false)
        .filter(|fault| waits_long(fault))
        .flat_map(|fault| {
            let rows = [0, 1, MIDDLE].into_iter();
            rows.flat_map(move |row| {
                [1, 4].map(|places| Case {
                    fault,
                    row,
                    times: Times::Always,
                    places,
                })
            })
        });
    let cases = cases.map(|case| (case.name(), interrupted_in_a_pause(case)));
    trial::all(cases, AT_ONCE, LONGEST).await;
}

/// Between the answer that asks for a pause and its end nothing leaves, and then one request alone.
fn nobody_sends_in_a_pause(fault: &Fault, played: &Played) -> Result<(), String> {
    let hint = fault.hint.unwrap_or_default();
    let paused = played
        .told
        .iter()
        .position(|(_, told)| matches!(told, Told::Paused(_)));
    let at = paused.ok_or("nobody was told of a pause")?;
    let (since, _) = played.told[at];
    let mut sent = played.told[at..]
        .iter()
        .filter(|(_, told)| matches!(told, Told::Sending(_) | Told::Answered(_)))
        // What was under way when the endpoint asked for the pause is answered in it.
        .skip_while(|(_, told)| matches!(told, Told::Answered(_)));
    if let (Some((first, _)), Some((_, second))) = (sent.next(), sent.next()) {
        let waited = *first - since;
        expect("a wait as long as the hint", waited >= hint, waited)?;
        let alone = matches!(second, Told::Answered(_));
        expect("one request alone after the pause", alone, second)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_hint_is_undercut_and_a_pause_holds_for_everybody() {
    let short = |fault: &&Fault| {
        let repeated = matches!(fault.disposition, Disposition::Pause | Disposition::Retry);
        repeated && fault.hint.is_some() && !waits_long(fault)
    };
    let cases = entries(false).filter(short).map(|fault| {
        let case = async move {
            let mut stage = Stage::new(fault);
            (stage.places, stage.rows) = (4, 16);
            let plan = Plan::good()
                .fault(fault, Who::Row(MIDDLE), Times::Once)
                .latency(Latency::Fixed(Duration::from_millis(20)))
                .fault_latency(Latency::None);
            let played = stage.play(plan).await?;
            played.laws(false)?;
            let times: Vec<Instant> = played.seen.of_row(MIDDLE).map(|asked| asked.at).collect();
            let [first, second] = times[..] else {
                return Err(format!("asked {} times", times.len()));
            };
            let (waited, hint) = (second - first, fault.hint.unwrap_or_default());
            expect(
                "by the server's clock a wait as long as the hint",
                waited >= hint,
                waited,
            )?;
            let meanwhile = played.seen.times();
            let meanwhile = meanwhile
                .iter()
                .filter(|(at, _)| *at > first && *at < first + hint);
            let others = meanwhile.count();
            match fault.disposition {
                Disposition::Pause => {
                    nobody_sends_in_a_pause(fault, &played)?;
                    expect(
                        "only what was under way arrives in a pause",
                        others <= 6,
                        others,
                    )
                }
                // A wait of one row is no matter of the others.
                _ => expect("the others went on", others > 6, others),
            }
        };
        (fault.name.to_owned(), case)
    });
    trial::all(cases, AT_ONCE, LONGEST).await;
}

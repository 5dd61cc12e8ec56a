//! Every entry of the table of faults, met by the first row and by one in the middle of a whole run, and all kinds of
//! them in one.

use std::time::Duration;

use data_generation::StopKind;
use data_generation_fault_server::trial::{self, expect, same};
use data_generation_fault_server::{
    Always, CERTIFICATE, Disposition, Every, FAULTS, Fault, Latency, Plan, Play, Section, Times,
    Who,
};

use crate::every_row::every_row;
use crate::played::{Fate, Played, Stage, Told, entries};

/// Runs at the same time.
pub(crate) const AT_ONCE: usize = 32;
/// No run takes as long, whatever else the machine does meanwhile.
pub(crate) const LONGEST: Duration = Duration::from_secs(150);
/// An endpoint counts as away once nothing has succeeded for so long ...
const SILENCE: Duration = Duration::from_secs(10);
/// ... and seconds for which it is then waited for, where the last row may kill it again and again.
const OUTAGE: u64 = 20;
/// The row in the middle, of eight.
pub(crate) const MIDDLE: u64 = 5;

/// Who meets a fault, how often, and how many rows are at work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) fault: &'static Fault,
    pub(crate) row: u64,
    pub(crate) times: Times,
    pub(crate) places: usize,
}

/// Longer than any run sits through: those entries are played by a test of their own.
pub(crate) fn waits_long(fault: &Fault) -> bool {
    fault.disposition == Disposition::Pause && fault.hint > Some(Duration::from_secs(2))
}

pub(crate) fn is_refused(fault: &Fault) -> bool {
    matches!(fault.play, Play::Refused(_))
}

/// After so many seconds a row that is put off again and again is too old, where a test says so: there is time
/// for one more request after a hint, and for a handshake.
pub(crate) fn age(fault: &Fault) -> u64 {
    match fault.needs_trust() {
        true => 4,
        // A hint of a second is waited for twice, and where the machine is busy a first answer takes long.
        false => 3,
    }
}

/// Whether two answers differ in nothing but their words: what is made of the words is another layer's to show.
fn alike(one: &Fault, other: &Fault) -> bool {
    let is_answer = |fault: &Fault| matches!(fault.play, Play::Answer { .. });
    let of = |fault: &Fault| {
        let row = fault.disposition;
        (
            row,
            fault.class,
            fault.requests,
            fault.hint,
            fault.is_paid(),
        )
    };
    is_answer(one) && is_answer(other) && of(one) == of(other)
}

/// How many entries that are alike stand before this one in the table; none for `.ci/fuzz`, which tries all of them in
/// every way.
pub(crate) fn alike_before(fault: &Fault) -> usize {
    if std::env::var_os("FUZZ_TIMES").is_some() {
        return 0;
    }
    let before = FAULTS.iter().take_while(|other| other.name != fault.name);
    before.filter(|other| alike(other, fault)).count()
}

impl Case {
    /// Every way in which one row can meet the faults, but for those that are the same as another: of entries that
    /// are [`alike`] the first is met in all ways, and each of the others in one, not all in the same.
    fn all(faults: impl Iterator<Item = &'static Fault>) -> impl Iterator<Item = Case> {
        let faults = faults.filter(|fault| !fault.is_of_the_address() && !waits_long(fault));
        faults.flat_map(|fault| {
            let cases = [1, MIDDLE].into_iter().flat_map(move |row| {
                [1, 4].into_iter().flat_map(move |places| {
                    [Times::Always, Times::Once].map(|times| Case {
                        fault,
                        row,
                        times,
                        places,
                    })
                })
            });
            let once = fault.requests.always == Always::Exactly(1);
            // Nobody waits for an answer that is good: first and alone, or in the middle of several.
            let good = fault.requests.every == Every::AllRows(1);
            // Before anything has succeeded, a refusal says that nobody is there: that is every row's matter.
            let nobody = is_refused(fault);
            let cases = cases.filter(move |case| {
                let is_twice = once && case.times == Times::Once
                    || good && case.is_first() != (case.places == 1);
                !is_twice && (!nobody || !case.is_first())
            });
            let cases: Vec<Case> = cases.collect();
            match alike_before(fault) {
                0 => cases,
                nth => vec![cases[(nth - 1) % cases.len()]],
            }
        })
    }

    pub(crate) fn name(&self) -> String {
        let Case {
            fault,
            row,
            times,
            places,
        } = self;
        format!("{}, row {row}, {times:?}, {places} at work", fault.name)
    }

    fn is_first(&self) -> bool {
        self.row == 1
    }

    fn always(&self) -> bool {
        self.times == Times::Always
    }

    /// Whoever is under way when a server dies, or when it leaves a connection with all that is on it, has to be
    /// sent again.
    fn touches_others(&self) -> bool {
        is_refused(self.fault) || self.fault.needs_trust()
    }

    /// Whether the run has to stop, and how.
    fn stops(&self) -> Option<StopKind> {
        match self.fault.disposition {
            Disposition::Later => Some(StopKind::Later),
            Disposition::StopRun if self.is_first() || self.always() => Some(StopKind::Refused),
            _ => None,
        }
    }

    fn stage(&self) -> Stage {
        let mut stage = Stage::new(self.fault);
        stage.places = self.places;
        let seconds = age(self.fault);
        match self.fault.requests.always {
            // Asked until it is too old; in between waits like those of a real run, only shorter.
            Always::UntilTooOld if self.always() => stage
                .set("run.retry.base_delay_s", 0.05)
                .set("run.retry.max_delay_s", 0.1)
                .set("run.retry.max_row_s", seconds),
            // A server that is started again needs a moment.
            _ if is_refused(self.fault) => stage
                .set("run.retry.base_delay_s", 0.05)
                .set("run.retry.max_delay_s", 0.1)
                .set("run.outage_s", if self.always() { OUTAGE } else { 900 }),
            _ => stage,
        }
    }

    fn plan(&self) -> Plan {
        let plan = Plan::good().fault(self.fault, Who::Row(self.row), self.times);
        // With several at work it matters which answer comes first.
        match self.fault.disposition {
            _ if !self.is_first() || self.places == 1 => plan,
            // The bad news comes before anything has succeeded.
            Disposition::StopRun | Disposition::Later => plan
                .latency(Latency::Fixed(Duration::from_millis(1500)))
                .fault_latency(Latency::None),
            // Others succeed before this row has asked in vain for the third time.
            _ if matches!(self.fault.requests.every, Every::Outage(_)) => {
                plan.fault_latency(Latency::Fixed(Duration::from_millis(150)))
            }
            _ => plan,
        }
    }

    async fn try_it(self) -> Result<(), String> {
        let (mut stage, mut played) = self.played().await?;
        for _ in 0..2 {
            if self.was_too_slow(&played) {
                (stage, played) = self.played().await?;
            }
        }
        // As much of it as says where to look.
        let wrong = |wrong: String| {
            let (requests, stopped) = (played.seen.by_row(), played.stopped());
            format!("{wrong} (requests {requests:?}; {stopped})")
        };
        played.laws(self.touches_others()).map_err(wrong)?;
        self.the_row(&played).map_err(wrong)?;
        self.the_others(&played).map_err(wrong)?;
        self.the_stop(&played).map_err(wrong)?;
        let all_done = played
            .fates
            .values()
            .all(|fate| matches!(fate, Fate::Done(_)));
        if !all_done && (self.places == 1 || self.is_first() && self.stops().is_some()) {
            stage.finish(&played).await.map_err(wrong)?;
        }
        Ok(())
    }

    async fn played(&self) -> Result<(Stage, Played), String> {
        let stage = self.stage();
        let played = stage.play(self.plan()).await?;
        Ok((stage, played))
    }

    /// Whether the machine did so much else that the last row's tries took as long as an endpoint must be silent to
    /// count as away, and not a moment less. Then it is something else that was tried, and the case is played again.
    fn was_too_slow(&self, played: &Played) -> bool {
        let first = |such: Told| {
            let mut told = played.told.iter();
            told.find(|(_, told)| *told == such).map(|(at, _)| *at)
        };
        let (sent, stopped) = (first(Told::Sending(self.row)), first(Told::Stopping));
        let took = sent.zip(stopped).map(|(sent, stopped)| stopped - sent);
        is_refused(self.fault)
            && self.always()
            && played.stopped().contains("the endpoint has been away")
            && took > Some(SILENCE + Duration::from_secs(OUTAGE))
    }

    /// What became of the row that met the fault, and what it cost.
    fn the_row(&self, played: &Played) -> Result<(), String> {
        let Case { fault, row, .. } = *self;
        let requests = played.requests_of(row);
        let fate = &played.fates[&row];
        if self.stops().is_some() {
            let expected = match fault.requests.always {
                Always::OneAndProbe if !self.is_first() => 2,
                _ => 1,
            };
            expect("pending", fate.is_pending(), fate)?;
            return same("requests of the row", expected, requests);
        }
        let lost = matches!(fault.disposition, Disposition::Retry | Disposition::Pause)
            && self.always()
            || fault.disposition == Disposition::FailRow;
        if lost && is_refused(fault) {
            // It never comes to the refusal: each request is the one that the server dies of.
            expect("failed", matches!(fate, Fate::Failed(_)), fate)?;
        } else if lost {
            played.failed(row, fault)?;
        } else {
            expect("done", matches!(fate, Fate::Done(_)), fate)?;
        }
        let warnings = match fault.disposition {
            Disposition::Warned => serde_json::json!([fault.class]),
            _ => serde_json::Value::Null,
        };
        same("warnings", &warnings, &fate.line()["warnings"])?;
        if is_refused(fault) {
            return expect("asked again", requests >= 2, requests);
        }
        match (self.always(), fault.requests.always) {
            (false, _) => same("requests of the row", fault.requests.once, requests),
            // Beside others that are answered it may be one too many, and is asked once more for it.
            (true, Always::Exactly(expected))
                if fault.class == "unavailable" && self.places > 1 =>
            {
                expect(
                    "requests of the row",
                    (expected..=expected + 1).contains(&requests),
                    requests,
                )
            }
            (true, Always::Exactly(expected)) => same("requests of the row", expected, requests),
            // After three seconds with a hint of one the row is too old for a fourth.
            (true, _) if fault.hint == Some(Duration::from_secs(1)) => expect(
                "asked again after each pause",
                (2..=3).contains(&requests),
                requests,
            ),
            (true, _) => expect("asked again after a pause", requests >= 2, requests),
        }
    }

    /// A bad row touches exactly one row.
    fn the_others(&self, played: &Played) -> Result<(), String> {
        for (row, fate) in played.fates.iter().filter(|(row, _)| **row != self.row) {
            let requests = played.requests_of(*row);
            let right = match fate {
                Fate::Done(_) => requests == 1 || self.touches_others(),
                Fate::Pending => requests == 0 && self.stops().is_some(),
                Fate::Failed(_) => false,
            };
            expect(
                "another row is done with one request, or not asked",
                right,
                (row, requests, fate),
            )?;
        }
        Ok(())
    }

    fn the_stop(&self, played: &Played) -> Result<(), String> {
        let kind = played.report.stopped.as_ref().map(|reason| reason.kind);
        same("why the run stops", self.stops(), kind)?;
        if kind.is_some() {
            says_what_and_why(self.fault, played)?;
            if self.is_first() {
                let total = played.seen.total();
                expect(
                    "requests in flight and one",
                    total <= self.places + 1,
                    total,
                )?;
            }
        }
        self.no_other_row_starts(played)
    }

    /// From the answer that would stop the run until its probe is answered, nobody else sends.
    fn no_other_row_starts(&self, played: &Played) -> Result<(), String> {
        if !matches!(
            self.fault.disposition,
            Disposition::StopRun | Disposition::Later
        ) {
            return Ok(());
        }
        // What was paid for goes to the journal first; others may be sent meanwhile.
        let decided = match self.fault.is_paid() {
            true => Told::Retrying(self.row),
            false => Told::Answered(self.row),
        };
        let mut after = played.told.iter().map(|(_, told)| told);
        after.by_ref().find(|told| **told == decided);
        let mut until = after.take_while(|told| **told != Told::Answered(self.row));
        let other = until.find(|told| matches!(told, Told::Sending(row) if *row != self.row));
        expect(
            "no other row is asked after the fatal answer",
            other.is_none(),
            other,
        )
    }
}

/// The message that stops a run names cause and cure.
pub(crate) fn says_what_and_why(fault: &Fault, played: &Played) -> Result<(), String> {
    let message = played.stopped();
    expect(fault.message, message.contains(fault.message), message)?;
    expect(fault.cure, message.contains(fault.cure), message)
}

async fn one_row(such: impl Fn(&Case) -> bool) {
    let mut cases: Vec<Case> = Case::all(entries(false)).filter(such).collect();
    // Those that wait for a timeout again and again come first, so that nobody waits for them in the end.
    cases.sort_by_key(|case| case.fault.section != Section::Connection);
    let cases = cases.into_iter().map(|case| (case.name(), case.try_it()));
    trial::all(cases, AT_ONCE, LONGEST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_of_the_first_row_touches_that_row_alone_or_stops_the_run() {
    one_row(Case::is_first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_of_a_row_in_the_middle_touches_that_row_alone_or_stops_the_run_after_a_probe() {
    one_row(|case| !case.is_first()).await;
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_http2_that_leave_a_request_out_cost_nothing_but_time() {
    if trial::is_trusted() {
        let cases = Case::all(entries(true)).map(|case| (case.name(), case.try_it()));
        trial::all(cases, AT_ONCE, LONGEST).await;
        let every = entries(true).flat_map(|fault| {
            [1, 4].map(|places| {
                let name = format!("{}, {places} at work", fault.name);
                (name, every_row(fault, places))
            })
        });
        trial::all(every, AT_ONCE, LONGEST).await;
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, CERTIFICATE).unwrap();
    trial::alone(
        "matrix::faults_of_http2_that_leave_a_request_out_cost_nothing_but_time",
        trial::trusting(file.path()),
    )
    .await;
}

/// What a row of the mixed run meets, and how often.
fn lot(luck: &mut fastrand::Rng) -> (&'static Fault, Times) {
    let playable = |fault: &&Fault| {
        let short = fault
            .hint
            .is_none_or(|hint| hint < Duration::from_millis(500));
        let quick = !matches!(
            fault.play,
            Play::Silent
                | Play::Stall(_)
                | Play::Drip { .. }
                | Play::Bomb { .. }
                | Play::Refused(_)
        );
        let goes_on = fault.disposition != Disposition::Later && !fault.is_of_the_address();
        short && quick && goes_on
    };
    let faults: Vec<&Fault> = entries(false).filter(playable).collect();
    let fault = faults[luck.usize(..faults.len())];
    let ends = matches!(fault.requests.always, Always::Exactly(_));
    let always = ends && luck.bool();
    (fault, if always { Times::Always } else { Times::Once })
}

/// Every tenth of many rows meets something else, and one near the end an endpoint that wants to be left alone.
async fn mixed(seed: u64) -> Result<(), String> {
    let mut luck = fastrand::Rng::with_seed(seed);
    let later = Fault::named("daily-limit").ok_or("no such entry")?;
    let mut stage = Stage::new(later);
    (stage.places, stage.rows) = (4, 410);
    let mut lots: Vec<(u64, &Fault, Times)> = Vec::new();
    for row in (10..=270).step_by(10) {
        let (fault, times) = lot(&mut luck);
        lots.push((row, fault, times));
    }
    lots.push((400, later, Times::Always));
    let plan = lots.iter().fold(Plan::good(), |plan, (row, fault, times)| {
        plan.fault(fault, Who::Row(*row), *times)
    });
    let played = stage.play(plan).await?;
    played.laws(false)?;
    for (row, fault, times) in &lots {
        let case = Case {
            fault,
            row: *row,
            times: *times,
            places: 4,
        };
        case.the_row(&played)
            .map_err(|wrong| format!("{}: {wrong}", case.name()))?;
    }
    let met = |row: &u64| lots.iter().any(|(other, ..)| other == row);
    for (row, fate) in played.fates.iter().filter(|(row, _)| !met(row)) {
        let right = match fate {
            Fate::Done(_) => played.requests_of(*row) == 1,
            // Who waited for a slot when the end came.
            Fate::Pending => *row > 390 && played.requests_of(*row) == 0,
            Fate::Failed(_) => false,
        };
        expect("a row that met nothing", right, (row, fate))?;
    }
    let kind = played.report.stopped.as_ref().map(|reason| reason.kind);
    same("stopped", Some(StopKind::Later), kind)?;
    stage.finish(&played).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_meets_everything_at_once_does_right_by_every_row() {
    let cases = (0..6).map(|seed| (format!("seed {seed}"), mixed(seed)));
    trial::all(cases, AT_ONCE, LONGEST).await;
}

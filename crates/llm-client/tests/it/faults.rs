//! Every entry of the table of faults, played over the real transport.

use std::sync::Arc;
use std::time::Duration;

use data_generation_fault_server::trial::{self, Patience, expect, same};
use data_generation_fault_server::{
    Always, CERTIFICATE, Disposition, Every, FAULTS, Fault, FaultServer, Plan, Seen, Times, Who,
};
use data_generation_llm_client::{
    ClassifyOptions, Client, ClientOptions, Error, ErrorKind, Model, OpenAi, OpenAiOptions, Reply,
    Request, RetryOptions, Timeouts, TransportKind, Verdict, classify,
};

/// The row that meets the fault.
const ROW: u64 = 7;
/// So much quicker than in life do plays stall.
const HURRY: u32 = 200;

/// No entry takes longer; one that is asked for ever fails the test instead of stopping it.
const LONGEST: Duration = Duration::from_secs(60);

fn plan(fault: &'static Fault, who: Who, times: Times) -> Plan {
    Plan::good().hurried(HURRY).fault(fault, who, times)
}

/// A model with the one short timeout that an entry needs to come to its end.
fn model(server: &FaultServer, fault: &Fault) -> OpenAi {
    let (short, long) = (Duration::from_millis(1500), Duration::from_secs(30));
    let patience = Patience::for_fault(fault, short, long);
    let timeouts = Timeouts {
        connect: patience.connect,
        idle: patience.idle,
        total: patience.total,
    };
    let options = OpenAiOptions::new(server.url(), "m-1");
    OpenAi::new(OpenAiOptions {
        timeouts,
        ..options
    })
    .unwrap()
}

fn client(model: OpenAi) -> Client {
    let retry = RetryOptions {
        base_delay_s: 0.0,
        max_delay_s: 0.0,
        ..RetryOptions::default()
    };
    let options = ClientOptions {
        retry,
        ..ClientOptions::default()
    };
    Client::new(Arc::new(model), options).seeded(1)
}

fn row(n: u64) -> Request {
    Request::user(format!("row {n}"))
}

/// Tries something with every entry that is such. Endpoints that speak HTTP/2 over TLS need a client that
/// trusts their certificate, and so a process of its own: they have a test below.
async fn all<F>(such: impl Fn(&Fault) -> bool, attempt: impl Fn(&'static Fault) -> F)
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let faults = FAULTS
        .iter()
        .filter(|fault| such(fault) && !fault.needs_trust());
    let cases = faults.map(|fault| (fault.name.to_owned(), attempt(fault)));
    trial::all(cases, 24, LONGEST).await;
}

/// Disposition, class, hint, cause and cure of a verdict.
fn judge(fault: &Fault, verdict: &Verdict) -> Result<(), String> {
    let (disposition, class, message, cure, hint) = match verdict {
        Verdict::Usable(reply) => {
            expect(
                "the answer of the row",
                reply.text.contains("answer to row 7"),
                &reply.text,
            )?;
            let mark = reply.warnings.first().copied();
            let disposition = match mark {
                Some(_) => Disposition::Warned,
                None => Disposition::Ok,
            };
            (disposition, mark.unwrap_or_default(), "", "", None)
        }
        Verdict::Retry {
            class,
            message,
            hint,
            ..
        } => (Disposition::Retry, *class, message.as_str(), "", *hint),
        Verdict::Pause {
            class,
            message,
            hint,
        } => (Disposition::Pause, *class, message.as_str(), "", *hint),
        // The message of a row holds its cure.
        Verdict::FailRow { class, message, .. } => (
            Disposition::FailRow,
            *class,
            message.as_str(),
            message.as_str(),
            None,
        ),
        Verdict::StopRun {
            class,
            message,
            cure,
        } => (
            Disposition::StopRun,
            *class,
            message.as_str(),
            cure.as_str(),
            None,
        ),
        Verdict::Later { message, wait } => {
            (Disposition::Later, "later", message.as_str(), "", *wait)
        }
        other => return Err(format!("an unknown verdict {other:?}")),
    };
    same("disposition", fault.disposition, disposition)?;
    same("class", fault.class, class).map_err(|wrong| format!("{wrong} ({message})"))?;
    same("hint", fault.hint, hint)?;
    expect(fault.message, message.contains(fault.message), message)?;
    expect(fault.cure, cure.contains(fault.cure), cure)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_has_its_disposition_class_cause_and_cure() {
    all(
        |_| true,
        |fault| async move {
            let server = FaultServer::start(plan(fault, Who::Every, Times::Always)).unwrap();
            let outcome = model(&server, fault).ask(&row(ROW), 1).await;
            judge(fault, &classify(&outcome, &ClassifyOptions::default()))?;
            let on_the_wire = usize::from(!fault.is_unseen());
            same("requests", on_the_wire, server.seen().total())
        },
    )
    .await;
}

/// What the row got, and what the server saw of it.
async fn middle(fault: &'static Fault, times: Times) -> (Result<Reply, Error>, Seen) {
    let server = FaultServer::start(plan(fault, Who::Row(ROW), times)).unwrap();
    let client = client(model(&server, fault));
    client.ask(&row(1)).await.unwrap();
    let result = client.ask(&row(ROW)).await;
    drop(client);
    (result, server.stop())
}

fn requests(seen: &Seen) -> u32 {
    seen.of_row(ROW).count() as u32
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_always_meets_a_fault_costs_what_the_table_says() {
    let ends = |fault: &Fault| fault.requests.always != Always::UntilTooOld && !fault.is_unseen();
    all(ends, |fault| async move {
        let (result, seen) = middle(fault, Times::Always).await;
        let expected = match fault.requests.always {
            Always::Exactly(requests) => requests,
            Always::OneAndProbe => 2,
            other => return Err(format!("no end: {other:?}")),
        };
        same("requests", expected, requests(&seen))?;
        let error = match (result, fault.disposition) {
            (Ok(_), Disposition::Ok | Disposition::Warned) => return Ok(()),
            (Ok(reply), _) => return Err(format!("a reply: {reply:?}")),
            (Err(error), _) => error,
        };
        let concerns_the_run = matches!(
            error.kind(),
            ErrorKind::Run { .. } | ErrorKind::Later { .. }
        );
        let stops = matches!(fault.disposition, Disposition::StopRun | Disposition::Later);
        same("the run stops", stops, concerns_the_run)?;
        same("class", fault.class, error.class())?;
        let message = error.to_string();
        expect(fault.message, message.contains(fault.message), &message)?;
        expect(fault.cure, message.contains(fault.cure), &message)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_meets_a_fault_once_costs_what_the_table_says_and_no_hint_is_undercut() {
    let longest = Some(Duration::from_secs(2));
    let short = |fault: &Fault| {
        let waits = fault.disposition == Disposition::Pause && fault.hint > longest;
        !fault.is_unseen() && !waits
    };
    all(short, |fault| async move {
        let (result, seen) = middle(fault, Times::Once).await;
        same("requests", fault.requests.once, requests(&seen))?;
        let lost = matches!(fault.disposition, Disposition::FailRow | Disposition::Later);
        same("done", !lost, result.is_ok())?;
        if let (Some(hint), [first, second]) =
            (fault.hint, seen.of_row(ROW).collect::<Vec<_>>().as_slice())
        {
            let waited = second.at - first.until.unwrap();
            expect("a wait as long as the hint", waited >= hint, waited)?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_never_had_an_answer_stops_where_the_table_says() {
    let stops = |fault: &Fault| {
        matches!(
            fault.requests.every,
            Every::InFlightPlusOne | Every::Outage(_)
        )
    };
    all(stops, |fault| async move {
        let server = FaultServer::start(plan(fault, Who::Every, Times::Always)).unwrap();
        let client = client(model(&server, fault));
        let error = client.ask(&row(ROW)).await.unwrap_err();
        let concerns_the_run = matches!(
            error.kind(),
            ErrorKind::Run { .. } | ErrorKind::Later { .. }
        );
        expect("the run stops", concerns_the_run, &error)?;
        let attempts = match fault.requests.every {
            Every::Outage(attempts) => attempts,
            _ => 1,
        };
        same("attempts", attempts, error.attempts())?;
        if !fault.is_unseen() {
            same("requests", attempts, requests(&server.seen()))?;
        }
        let message = error.to_string();
        expect(fault.message, message.contains(fault.message), &message)?;
        expect(fault.cure, message.contains(fault.cure), &message)?;
        let after = client.ask(&row(8)).await;
        expect("nothing more", after.is_err(), after)
    })
    .await;
}

#[tokio::test]
async fn tokens_that_nobody_counted_are_estimated_and_marked() {
    let names = ["absent", "null", "text", "part", "zero", "total"];
    let names = names.map(|name| format!("usage-{name}"));
    for fault in FAULTS
        .iter()
        .filter(|fault| fault.name.starts_with("usage-"))
    {
        let (result, _) = middle(fault, Times::Always).await;
        let usage = result.unwrap().usage;
        assert_eq!(
            usage.estimated,
            names.iter().any(|name| name == fault.name),
            "{}",
            fault.name
        );
        assert!(usage.total_tokens > 1, "{}", fault.name);
    }
}

#[tokio::test]
async fn a_server_that_comes_back_costs_no_row() {
    let fault = Fault::named("refused").unwrap();
    let (result, seen) = middle(fault, Times::Once).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(requests(&seen), 2);
}

#[tokio::test]
async fn what_http2_leaves_out_is_sent_again_and_counts_nothing() {
    if trial::is_trusted() {
        for fault in FAULTS.iter().filter(|fault| fault.needs_trust()) {
            let server = FaultServer::start(plan(fault, Who::Every, Times::Always)).unwrap();
            let outcome = model(&server, fault).ask(&row(ROW), 1).await;
            let verdict = classify(&outcome, &ClassifyOptions::default());
            judge(fault, &verdict).unwrap_or_else(|wrong| panic!("{}: {wrong}", fault.name));
            // Nine times: more than the attempts of a row.
            let (result, seen) = middle(fault, Times::First(9)).await;
            assert!(result.is_ok(), "{}: {result:?}", fault.name);
            assert_eq!(requests(&seen), 10, "{}", fault.name);
            for _ in 0..3 {
                others_on_the_connection(fault).await;
            }
        }
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, CERTIFICATE).unwrap();
    trial::alone(
        "faults::what_http2_leaves_out_is_sent_again_and_counts_nothing",
        trial::trusting(file.path()),
    )
    .await;
}

/// Whoever shares the connection has an answer or is left out as well, whatever had come of the request by then.
async fn others_on_the_connection(fault: &'static Fault) {
    let server = FaultServer::start(plan(fault, Who::Row(ROW), Times::Always)).unwrap();
    let model = model(&server, fault);
    let asking = |n: u64| {
        let model = &model;
        async move {
            // Bodies of many frames, so that one that began early may end late.
            let text = format!("{} row {n}", "x".repeat((n as usize * 7_919) % 60_000));
            let mut lost = Vec::new();
            for _ in 0..3 {
                let outcome = model.ask(&Request::user(text.clone()), 1).await;
                lost.extend(outcome.err());
            }
            lost
        }
    };
    let lost = futures::future::join_all((1..=20).map(asking)).await;
    for error in lost.into_iter().flatten() {
        assert_eq!(error.kind(), TransportKind::NotProcessed, "{error}");
    }
}

//! One rehearsal: the server, until Ctrl-C.

use std::io;
use std::time::Duration;

use data_generation_fault_server::{
    CERTIFICATE, Down, FAULTS, FaultServer, Latency, Limit, Plan, Play, Seen, page,
};

use crate::args::Arguments;
use crate::output::{data, line};

pub(crate) fn run(arguments: &Arguments) -> io::Result<()> {
    if arguments.page {
        return data(&page());
    }
    if arguments.list {
        return data(&list());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(arguments))
}

async fn serve(arguments: &Arguments) -> io::Result<()> {
    let port = arguments.port;
    let server = FaultServer::start(plan(arguments)).map_err(|error| {
        let cure = "another --port may be free";
        io::Error::other(format!("port {port} cannot be had ({error}); {cure}"))
    })?;
    for fault in &arguments.fault {
        line(&format!("playing {}: {}", fault.name, fault.what));
        line(&format!("a run should make of it: {}", fault.disposition));
        if matches!(fault.play, Play::NotProcessed { .. }) {
            line("the client has to trust this certificate (SSL_CERT_FILE):");
            line(
                CERTIFICATE
                    .split_inclusive("-----END CERTIFICATE-----")
                    .next()
                    .unwrap_or_default(),
            );
        }
    }
    line(&format!(
        "listening; Ctrl-C ends it. model.base_url: {}",
        server.url()
    ));
    tokio::signal::ctrl_c().await?;
    data(&summary(&server.stop()))
}

fn plan(arguments: &Arguments) -> Plan {
    let median = Duration::from_millis(arguments.latency_ms);
    let latency = match arguments.spread > 0.0 {
        true => Latency::LogNormal {
            median,
            sigma: arguments.spread,
        },
        false => Latency::Fixed(median),
    };
    let mut plan = Plan::good()
        .seed(arguments.seed)
        .port(arguments.port)
        .latency(latency);
    for fault in &arguments.fault {
        plan = plan.fault(fault, arguments.rows.who(), arguments.times);
    }
    if arguments.rpm.is_some() || arguments.tpm.is_some() {
        plan = plan.limit(Limit {
            window: Duration::from_secs(60),
            requests: arguments.rpm,
            tokens: arguments.tpm,
            retry_after: true,
        });
    }
    if let Some(most) = arguments.concurrency {
        plan = plan.concurrency(most);
    }
    if let Some(status) = arguments.busy_status {
        plan = plan.busy(status, "");
    }
    for (from, to) in &arguments.down {
        plan = plan.outage(*from, *to, Down::Refused);
    }
    plan
}

fn list() -> String {
    let width = FAULTS.iter().map(|fault| fault.name.len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    let mut section = None;
    for fault in FAULTS {
        if section != Some(fault.section) {
            section = Some(fault.section);
            text.push_str(&format!("\n{}\n", fault.section.title()));
        }
        let (name, what, disposition) = (fault.name, fault.what, fault.disposition);
        text.push_str(&format!("  {name:width$}  {what} [{disposition}]\n"));
    }
    text
}

fn summary(seen: &Seen) -> String {
    let rows = seen.by_row();
    let most = rows.values().max().copied().unwrap_or_default();
    let minute = seen.most_within(Duration::from_secs(60));
    let mut text = format!(
        "\n{} requests of {} rows, at most {most} of one row\n{} connections, at most {} requests at once, at most {minute} within a minute\n",
        seen.total(),
        rows.len(),
        seen.connections,
        seen.at_once,
    );
    for (answer, times) in seen.by_answer() {
        text.push_str(&format!("  {times:6}  {answer}\n"));
    }
    text
}

//! Whether limits hold as the endpoint sees them: the real program against this crate's server, for minutes.
//!
//! `just limits` plays 60, 600, 6,000 and 60,000 requests a minute at the same time, each from a fresh start, killed
//! and started again in the middle, and once more after a quiet minute; and tokens a minute: with answers of many
//! lengths; with one prompt in ten and one answer in ten, not of the same rows, 20 times as long as the others
//! (`mixed`); and the same from an endpoint that does not tell what an answer cost (`untold`). The server counts by its
//! own clock and refuses what is too much. It prints what it saw beside what it
//! should be; it fails where a window was exceeded. How much is used and how evenly depends on what else the machine
//! does: that is said, and fails nothing. `DATAGEN=path` says which program; `requests=600 mixed=60000` play these
//! alone.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use data_generation_fault_server::{
    Asked, Fault, FaultServer, Got, Latency, Limit, Plan, Question, Seen, Times, Who,
};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// How long the first two lives last.
const LIFE: Duration = Duration::from_secs(75);
/// How long the life after the quiet minute lasts.
const SHORT_LIFE: Duration = Duration::from_secs(20);

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What is tried.
#[derive(Clone, Copy)]
enum Trial {
    Requests(u64),
    Tokens(u64, Sizes),
}

/// What prompts and answers are like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sizes {
    /// Prompts all alike, answers of many lengths.
    Even,
    /// One in ten is 20 times as long as the others.
    Mixed,
    /// The same, and no answer says what it cost.
    Untold,
}

const ALL: [&str; 10] = [
    "requests=60",
    "requests=600",
    "requests=6000",
    "requests=60000",
    "tokens=60000",
    "tokens=600000",
    "mixed=60000",
    "mixed=600000",
    "untold=60000",
    "untold=600000",
];

fn trial(name: &str) -> Option<Trial> {
    let (what, amount) = name.split_once('=')?;
    let amount = amount.parse().ok()?;
    match what {
        "requests" => Some(Trial::Requests(amount)),
        "tokens" => Some(Trial::Tokens(amount, Sizes::Even)),
        "mixed" => Some(Trial::Tokens(amount, Sizes::Mixed)),
        "untold" => Some(Trial::Tokens(amount, Sizes::Untold)),
        _ => None,
    }
}

fn main() -> ExitCode {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    if names.is_empty() {
        names.extend(ALL.map(str::to_owned));
    }
    let Some(trials) = names
        .iter()
        .map(|name| trial(name))
        .collect::<Option<Vec<Trial>>>()
    else {
        say(&format!(
            "what is to be tried is named like {}",
            ALL.join(" ")
        ));
        return ExitCode::from(2);
    };
    let lines: Vec<Outcome<String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = trials
            .into_iter()
            .map(|trial| scope.spawn(move || play(trial).map_err(|e| e.to_string())))
            .collect();
        let ended = threads.into_iter().map(|thread| match thread.join() {
            Ok(line) => line.map_err(Into::into),
            Err(_) => Err("a trial panicked".into()),
        });
        ended.collect()
    });
    let mut code = ExitCode::SUCCESS;
    say(
        "a minute               requests  most in a minute  most in a second (should be)  refused  used, second 10 to 70 (should be)",
    );
    for line in lines {
        match line {
            Ok(line) => say(&line),
            Err(error) => {
                say(&format!("FAILED: {error}"));
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// The only place that prints.
fn say(text: &str) {
    // Whoever does not listen any more still wants the verdict, which is the exit code.
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

fn play(trial: Trial) -> Outcome<String> {
    let program =
        PathBuf::from(std::env::var_os("DATAGEN").ok_or("DATAGEN must say which program")?);
    let place = tempfile::Builder::new().prefix("limits.").tempdir()?;
    let (limit, setting) = match trial {
        Trial::Requests(amount) => (
            counting(Some(amount), None),
            format!("model.rate_limit={amount}"),
        ),
        Trial::Tokens(amount, _) => (
            counting(None, Some(amount)),
            format!("model.token_limit={amount}"),
        ),
    };
    let latency = Latency::LogNormal {
        median: Duration::from_millis(300),
        sigma: 0.5,
    };
    let mut plan = Plan::good().latency(latency).limit(limit);
    plan = match trial {
        Trial::Requests(_) | Trial::Tokens(_, Sizes::Even) => plan.answers(of_many_lengths),
        Trial::Tokens(_, Sizes::Mixed | Sizes::Untold) => plan.answers(short_or_long),
    };
    if let Trial::Tokens(_, Sizes::Untold) = trial {
        let fault =
            Fault::named("usage-absent").ok_or("the table has no answer without `usage`")?;
        plan = plan.fault(fault, Who::Every, Times::Always);
    }
    let server = FaultServer::start_blocking(plan)?;
    inputs(place.path(), &server, trial)?;
    let mut first_minute = 0.0;
    for (number, life) in [LIFE, LIFE, SHORT_LIFE].into_iter().enumerate() {
        let mut child = start(&program, place.path(), &setting)?;
        std::thread::sleep(life);
        child.kill()?;
        child.wait()?;
        if number == 0 {
            first_minute = used(&server.seen(), trial);
        }
        if number == 1 {
            std::thread::sleep(MINUTE);
        }
    }
    judge(trial, &server.stop(), first_minute)
}

fn of_many_lengths(question: &Question) -> String {
    "word ".repeat(20 + (question.row * 7919 % 180) as usize)
}

/// Nobody can tell from a prompt how long its answer will be.
fn short_or_long(question: &Question) -> String {
    let is_long = (question.row * 7919 % 997).is_multiple_of(10);
    "word ".repeat(if is_long { 20 * 20 } else { 20 })
}

fn counting(requests: Option<u64>, tokens: Option<u64>) -> Limit {
    Limit {
        window: MINUTE,
        requests,
        tokens,
        retry_after: true,
    }
}

fn inputs(place: &Path, server: &FaultServer, trial: Trial) -> Outcome<()> {
    let rows = match trial {
        Trial::Requests(amount) => amount * 4 + 1_000,
        Trial::Tokens(amount, _) => amount / 20 + 1_000,
    };
    let is_mixed = matches!(trial, Trial::Tokens(_, Sizes::Mixed | Sizes::Untold));
    let about = |n: u64| match is_mixed && n % 10 == 9 {
        true => "Write about the sea. ".repeat(20),
        false => "Write about the sea. ".to_owned(),
    };
    let rows: String = (0..rows)
        .map(|n| format!("{{\"n\":{n},\"about\":\"{}\"}}\n", about(n)))
        .collect();
    std::fs::write(place.join("rows.jsonl"), rows)?;
    std::fs::write(place.join("user.txt"), "{{about}}Row {{n}}")?;
    let most = if is_mixed { 1_000 } else { 400 };
    let config = format!(
        "model: {{base_url: '{}', api_key_env: null, model: m-1, max_tokens: {most}}}\n\
         prompts: {{system_prompt_path: null, user_prompt_path: user.txt}}\n\
         input_data: {{path: rows.jsonl}}\n\
         output_data: {{experiment_name: limits, need_time_stamp: false}}\n\
         run: {{concurrency_limit: 512}}\n\
         logging: {{dir: null}}\n",
        server.url()
    );
    std::fs::write(place.join("config.yaml"), config)?;
    Ok(())
}

fn start(program: &Path, place: &Path, setting: &str) -> Outcome<Child> {
    let child = Command::new(program)
        .args(["run", "--quiet", "--set", setting])
        .current_dir(place)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    Ok(child)
}

/// How much of the limit was used from ten seconds after the first request on, for a minute.
fn used(seen: &Seen, trial: Trial) -> f64 {
    let Some(first) = seen.requests.first() else {
        return 0.0;
    };
    let (from, to) = (Duration::from_secs(10), Duration::from_secs(70));
    let counted = seen
        .requests
        .iter()
        .filter(|asked| asked.got != Got::Limited && (from..to).contains(&(asked.at - first.at)));
    match trial {
        // By the time from the first of them to the last: of sixty a minute, sixty seconds show 59 or 60.
        Trial::Requests(amount) => {
            let times: Vec<_> = counted.map(|asked| asked.at).collect();
            let (Some(first), Some(last)) = (times.first(), times.last()) else {
                return 0.0;
            };
            let a_second = (times.len() - 1) as f64 / (*last - *first).as_secs_f64();
            a_second * MINUTE.as_secs_f64() / amount as f64
        }
        Trial::Tokens(amount, _) => {
            counted.map(|asked| asked.tokens).sum::<u64>() as f64 / amount as f64
        }
    }
}

fn judge(trial: Trial, seen: &Seen, first_minute: f64) -> Outcome<String> {
    let refused = seen
        .requests
        .iter()
        .filter(|asked| asked.got == Got::Limited)
        .count();
    let (minute, second) = match trial {
        Trial::Requests(_) => (
            seen.most_within(MINUTE) as u64,
            seen.most_within(SECOND) as u64,
        ),
        Trial::Tokens(..) => (most_tokens(seen, MINUTE), most_tokens(seen, SECOND)),
    };
    let name = match trial {
        Trial::Requests(amount) => format!("{amount} requests"),
        Trial::Tokens(amount, Sizes::Even) => format!("{amount} tokens"),
        Trial::Tokens(amount, Sizes::Mixed) => format!("{amount} tokens, mixed"),
        Trial::Tokens(amount, Sizes::Untold) => format!("{amount} tokens, untold"),
    };
    let (even, used) = match trial {
        // The even share, one more, and two in a hundred.
        Trial::Requests(amount) => (
            format!("at most {:.0}", (amount as f64 / 60.0 * 1.02 + 1.0).floor()),
            99,
        ),
        // A guess counts as a fifth more, and ten tokens for each request: a quarter of what such rows cost.
        Trial::Tokens(_, Sizes::Untold) => ("-".to_owned(), 70),
        Trial::Tokens(..) => ("-".to_owned(), 90),
    };
    let line = format!(
        "{name:22} {:8}  {minute:16}  {second:16} ({even:12})  {refused:7}  {:20.1} % (at least {used} %)",
        seen.total(),
        100.0 * first_minute
    );
    let (Trial::Requests(amount) | Trial::Tokens(amount, _)) = trial;
    if minute > amount || refused > 0 {
        return Err(format!("a window was exceeded: {line}").into());
    }
    Ok(line)
}

/// The most tokens that were counted within any such stretch of time.
fn most_tokens(seen: &Seen, window: Duration) -> u64 {
    let counted = |asked: &&Asked| asked.got != Got::Limited;
    let counted: Vec<&Asked> = seen.requests.iter().filter(counted).collect();
    let (mut first, mut sum, mut most) = (0, 0, 0);
    for asked in &counted {
        sum += asked.tokens;
        while asked.at - counted[first].at >= window {
            sum -= counted[first].tokens;
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

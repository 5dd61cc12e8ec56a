//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Makes datasets from prompts and rows with large language models.
#[derive(Debug, Parser)]
#[command(
    name = "datagen",
    version,
    about,
    max_term_width = 100,
    after_help = "\
To begin: `datagen init demo && cd demo && datagen run` makes a dataset offline, without a key.

Exit codes:
  0    all rows are in the dataset
  1    unexpected: a defect of this program
  2    something to change in command, configuration, prompts or rows; nothing was sent
  3    finished, some rows failed (after a retry: or are pending)
  4    the provider refused in a way that no retry cures
  74   the operating system refused a read or a write
  75   try again later
  130  interrupted"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Writes a working configuration (offline), prompts and rows to start from.
    Init(Init),
    /// Shows the configuration with where each value comes from, the prompts, and checks every row.
    /// Sends nothing.
    Check(Check),
    /// Shows the exact messages of the first rows. Sends nothing.
    Preview(Preview),
    /// Makes the dataset; the same command again goes on where it stopped.
    Run(Box<Run>),
    /// Changes a run while it works, from another terminal.
    Ctl(Ctl),
    /// Makes the dataset of a run again from the answers that it holds, with another extractor. Sends nothing.
    Extract(Extract),
    /// Asks again for the failed rows of a run, all of them or those of some classes.
    Retry(Retry),
    /// Tells how a run stands, what failed and why, what it cost, where the time went and how to go on. Only reads.
    Status(Status),
}

#[derive(Debug, Args)]
pub(crate) struct Ctl {
    /// The folder of the run, which `datagen run` names when it begins.
    #[arg(long, value_name = "DIR")]
    pub(crate) run: PathBuf,
    #[command(subcommand)]
    pub(crate) action: CtlAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CtlAction {
    /// Changes limits: rate_limit=600 (requests a minute, `auto` for what the endpoint says), token_limit=90000,
    /// limits.requests_per_second and the others below `limits`, null for no limit; limits.burst=5 (requests that may
    /// leave at once); concurrency=16 (requests at the same time), `auto` for as many as give the most throughput.
    Set {
        /// What to change.
        #[arg(value_name = "KEY=VALUE", required = true)]
        values: Vec<String>,
    },
    /// Sends nothing new; answers under way are waited for and kept.
    Pause,
    /// Ends a pause.
    Resume,
    /// Sends nothing new, and ends the run when the answers under way are there; it then says how to go on.
    Drain,
    /// Shows the limits of the moment.
    Show,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder to write to; it may exist, files in it are never overwritten.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
}

/// What every command but `init` needs.
#[derive(Debug, Args)]
pub(crate) struct Inputs {
    /// The configuration; without it config/config.yaml or config.yaml, where one exists.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The rows, one JSON object a line; `-` for standard input. Overrides input_data.path.
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,
    /// One value of the configuration, such as model.temperature=0.2; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    /// What to take out of each answer: none, tag:NAME[:all|first|last], regex:PATTERN or json.
    #[arg(long, value_name = "SPEC")]
    pub(crate) extract: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Preview {
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    /// How many rows.
    #[arg(short = 'n', value_name = "ROWS", default_value_t = 3)]
    pub(crate) count: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Extract {
    /// The run's folder: the one that holds run.json.
    #[arg(long, value_name = "DIR")]
    pub(crate) run: PathBuf,
    /// What to take out of each answer: none, tag:NAME[:all|first|last], regex:PATTERN or json.
    #[arg(long, value_name = "SPEC")]
    pub(crate) extract: String,
    /// Prints the summary as one line of JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// Prints nothing but errors.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// The run's folder: the one that holds run.json.
    #[arg(long, value_name = "DIR")]
    pub(crate) run: PathBuf,
    /// Only failed rows of this class, such as server_error; may be repeated.
    #[arg(long = "class", value_name = "CLASS")]
    pub(crate) classes: Vec<String>,
    /// A configuration for a key, another address, other limits. Prompts, model, temperature, extractor, rows and
    /// folder stay those of the run; model.extra must be that of the run, where the file has it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One value of the configuration, such as model.rate_limit=60; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Requests at the same time, or `auto` for as many as give the most throughput. Overrides
    /// run.concurrency_limit.
    #[arg(long, value_name = "N|auto")]
    pub(crate) concurrency: Option<String>,
    /// Prints the summary as one line of JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// Prints nothing but errors.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The run's folder: the one that holds run.json.
    #[arg(long, value_name = "DIR")]
    pub(crate) run: PathBuf,
    /// Prints it as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    /// What to take out of each answer: none, tag:NAME[:all|first|last], regex:PATTERN or json.
    #[arg(long, value_name = "SPEC")]
    pub(crate) extract: Option<String>,
    /// Requests at the same time, or `auto` for as many as give the most throughput. Overrides
    /// run.concurrency_limit.
    #[arg(long, value_name = "N|auto")]
    pub(crate) concurrency: Option<String>,
    /// Only the first N rows of the input, done or not.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Goes on with an old run: its folder, or `latest` for the one that was started last.
    #[arg(long, value_name = "DIR|latest", num_args = 0..=1, default_missing_value = "latest", conflicts_with = "new")]
    pub(crate) resume: Option<PathBuf>,
    /// Begins afresh. Nothing is deleted: an old folder in the way is moved aside.
    #[arg(long, conflicts_with = "fork")]
    pub(crate) new: bool,
    /// Works on a copy called NAME that keeps every answer whose request is unchanged.
    #[arg(long, value_name = "NAME")]
    pub(crate) fork: Option<String>,
    /// Adds these rows to a run that has none of them.
    #[arg(long)]
    pub(crate) add: bool,
    /// Moves damaged lines of the run's files aside (to .damaged-TIME.jsonl) and makes their rows again, from
    /// the journal where it still has their answers.
    #[arg(long)]
    pub(crate) repair: bool,
    /// Rows that do not fit the prompts fail alone, instead of stopping everything before the first request.
    #[arg(long)]
    pub(crate) skip_invalid: bool,
    /// Prints the summary as one line of JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// Prints nothing but errors.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

//! `haul run`, as it was said.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use haul_types::{
    ArraySpec, ByteSize, Cpus, OnDisconnect, Priority, RetryPolicy, TargetName, parse_duration,
};

use super::RetryOnName;

/// Run a script, or any program, in a copy of its directory
#[derive(Clone, Debug, Default, Args)]
#[command(
    override_usage = "haul run [OPTIONS] SCRIPT [ARGS]...\n       haul run [OPTIONS] -- PROGRAM [ARGS]...",
    after_help = "Use --help for what is sent, where it runs, and what the exit codes mean.",
    after_long_help = "\
What is sent:
  The script's directory, or --dir; for a PROGRAM the current one. Not what .haulignore leaves
  out (or else .amlignore, or else the .gitignore files), nor .git, nor virtual environments.
  What was sent before is not sent again.

Where it runs:
  In a fresh copy of that directory. A .py file is run by the environment's Python; another
  script by itself if it is executable, else by the interpreter that its first line names. The
  environment is made from what lies beside the script (requirements.txt, or pyproject.toml with
  uv.lock), unless --python PATH, --requirements, --project or --no-env say otherwise. What the
  script leaves in ./outputs is kept: see --fetch-outputs.

  On any machine that takes work, or with --target on the nodes of that name; where --cpus and
  --memory are free. Jobs of a higher --priority go first, then those that came first; a large
  job has a node kept free for it, so that small ones do not overtake it for ever.

What goes wrong:
  An attempt that certainly never started is made up for, twice unless --retries says how often.
  One that was lost after it started, with its machine or supervisor, is repeated only if --retries
  is given; the script's own failure only with --retry-on any as well. A job whose attempts take
  agents or supervisors down three times is quarantined: nothing more of it is started.

Ctrl-C asks whether to stop the job or to leave it running; a second one leaves it running at
once. Without a terminal, SIGINT and SIGTERM stop the job and wait for its end; a second one
leaves at once. A closed terminal or a closed standard output leaves the job running.

Exit codes:
  the script's own; 128 + N if signal N ended it
  2    something in the command is wrong; there is no job
  3    detached: the job goes on
  124  the job ran longer than --timeout, or waited longer than --queue-timeout
  125  the job could not be prepared, was lost or quarantined, or Haul itself failed
  126  the program could not be started
  130  the job was canceled
  141  standard output was closed; the job goes on
  For an array: 0 if every task succeeded, else the code of the first task that did not.

Examples:
  haul run train.py --epochs 5
  haul run --fetch-outputs train.py           bring ./outputs back when it succeeds
  haul run --python 3.11 --requirements dev.txt train.py
  haul run --timeout 2h --env WANDB_API_KEY train.py
  haul run --array 1-100%8 sweep.py           a hundred tasks, eight at a time; see HAUL_TASK_INDEX
  haul run --target gpu --cpus 4 --memory 16GB train.py
  haul run -d train.py                        print the job's id and leave
  haul run -- make -j8 check"
)]
pub struct RunArgs {
    /// The directory to send and to run in [default: the script's; the current one for a PROGRAM]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// A name for people [default: the script's]
    #[arg(long)]
    pub name: Option<String>,
    /// Set a variable, or pass on one of yours; may be repeated
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,
    /// Stop the job when it has run this long, as in 90s, 1h30m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    pub timeout: Option<Duration>,
    /// The time it gets to end by itself when it is stopped, before it is killed
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = parse_duration,
        default_value = "10s",
        allow_hyphen_values = true
    )]
    pub grace: Duration,
    /// Run many tasks: FIRST-LAST, or FIRST-LAST%PARALLEL to run at most so many at a time
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub array: Option<ArraySpec>,
    /// Leave the job running and print its id
    #[arg(long, short)]
    pub detach: bool,
    /// When it has succeeded, bring ./outputs back into DIR [default: ./outputs]
    #[arg(
        long,
        short = 'o',
        value_name = "DIR",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "outputs",
        conflicts_with_all = ["detach", "array"],
        value_hint = ValueHint::DirPath
    )]
    pub fetch_outputs: Option<PathBuf>,
    /// Refuse to send a directory larger than this, as in 500MB
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub max_snapshot: Option<ByteSize>,
    /// An interpreter to use as it is (a path), or the Python to build an environment on (a version)
    #[arg(long, value_name = "PATH|VERSION", help_heading = "Environment")]
    pub python: Option<String>,
    /// Build the environment from this requirements file
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["project", "no_env"],
        help_heading = "Environment",
        value_hint = ValueHint::FilePath
    )]
    pub requirements: Option<PathBuf>,
    /// Build the environment from this pyproject.toml, and from uv.lock beside it
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "no_env",
        help_heading = "Environment",
        value_hint = ValueHint::FilePath
    )]
    pub project: Option<PathBuf>,
    /// Build no environment: run with what the machine has
    #[arg(long, help_heading = "Environment")]
    pub no_env: bool,
    /// Where to run: a target (`haul target ls`), or a node by its name [default: anywhere]
    #[arg(long, value_name = "NAME", help_heading = "Scheduling")]
    pub target: Option<TargetName>,
    /// Processors for each task, as in 4 or 0.5
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Scheduling")]
    pub cpus: Cpus,
    /// Memory for each task, as in 16GB [default: nothing is asked]
    #[arg(long, value_name = "SIZE", help_heading = "Scheduling")]
    pub memory: Option<ByteSize>,
    /// Who goes first: -100 to 100, higher before lower
    #[arg(
        long,
        value_name = "N",
        default_value = "0",
        allow_negative_numbers = true,
        help_heading = "Scheduling"
    )]
    pub priority: Priority,
    /// How often a task is tried again [default: 2, only if it certainly never started]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(..=i64::from(RetryPolicy::MAX)),
        help_heading = "Scheduling"
    )]
    pub retries: Option<u32>,
    /// After what it is tried again
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "WHAT",
        requires = "retries",
        help_heading = "Scheduling"
    )]
    pub retry_on: RetryOnName,
    /// Give up when no node has taken it within this time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Scheduling")]
    pub queue_timeout: Option<Duration>,
    /// When its node cannot be reached: wait for it, or `replace[:DURATION]` to start elsewhere after a time (10m)
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "wait",
        help_heading = "Scheduling"
    )]
    pub on_disconnect: OnDisconnect,
    /// The script or program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "SCRIPT",
        value_hint = ValueHint::CommandWithArguments
    )]
    pub command: Vec<OsString>,
}

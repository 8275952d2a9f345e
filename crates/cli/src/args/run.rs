//! `haul run`, as it was said.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use haul_types::{ArraySpec, ByteSize, parse_duration};

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

Ctrl-C asks whether to stop the job or to leave it running; a second one leaves it running at
once. Without a terminal, SIGINT and SIGTERM stop the job and wait for its end; a second one
leaves at once. A closed terminal or a closed standard output leaves the job running.

Exit codes:
  the script's own; 128 + N if signal N ended it
  2    something in the command is wrong; there is no job
  3    detached: the job goes on
  124  the job ran longer than --timeout
  125  the job could not be prepared or was lost, or Haul itself failed
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
    /// The script or program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "SCRIPT",
        value_hint = ValueHint::CommandWithArguments
    )]
    pub command: Vec<OsString>,
}

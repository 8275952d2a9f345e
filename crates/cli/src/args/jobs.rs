//! The commands about jobs that are there, as they were said.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use haul_types::{Attempt, ByteSize, StreamKind, TaskIndex, TaskState, parse_duration};

/// A job, or one task of it, as users name it: an id, the beginning of one, or `last`; then perhaps `.` and an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobTask {
    /// The job.
    pub job: String,
    /// The task.
    pub task: Option<TaskIndex>,
}

/// Text that names no job.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} does not name a job: write its id or the beginning of it, `last`, and for a task .INDEX after that"
)]
pub struct NotAJobTask(String);

impl FromStr for JobTask {
    type Err = NotAJobTask;

    fn from_str(text: &str) -> Result<Self, NotAJobTask> {
        let bad = || NotAJobTask(text.to_owned());
        let (job, task) = match text.split_once('.') {
            Some((job, index)) => (job, Some(index.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        let plain =
            !job.is_empty() && job.len() <= 12 && job.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if plain {
            Ok(Self {
                job: job.to_ascii_lowercase(),
                task,
            })
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for JobTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.job)?;
        self.task.map_or(Ok(()), |task| write!(f, ".{task}"))
    }
}

/// A job's state, as users type it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StateName {
    /// Waits for a slot
    Queued,
    /// Its directory and environment are being made
    Preparing,
    /// Runs
    Running,
    /// Its outputs are being collected
    Finalizing,
    /// Ended with exit code 0
    Succeeded,
    /// Ended in any other way that nobody asked for
    Failed,
    /// Ended because somebody asked for it
    Canceled,
}

impl From<StateName> for TaskState {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Queued => Self::Queued,
            StateName::Preparing => Self::Preparing,
            StateName::Running => Self::Running,
            StateName::Finalizing => Self::Finalizing,
            StateName::Succeeded => Self::Succeeded,
            StateName::Failed => Self::Failed,
            StateName::Canceled => Self::Canceled,
        }
    }
}

/// List jobs, newest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  haul jobs
  haul jobs --state running --state queued
  haul jobs --all --json | jq -r '.jobs[].id'")]
pub struct JobsArgs {
    /// Only jobs in this state; may be repeated
    #[arg(long, value_enum, value_name = "STATE")]
    pub state: Vec<StateName>,
    /// At most so many
    #[arg(
        long,
        short = 'n',
        default_value_t = 20,
        value_name = "N",
        conflicts_with = "all"
    )]
    pub limit: u32,
    /// All of them
    #[arg(long, short)]
    pub all: bool,
}

/// Show what happened to a job, and when
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  haul show last
  haul show 4f               any unique beginning of an id
  haul show last.17          one task of an array")]
pub struct ShowArgs {
    /// The job, or JOB.TASK
    #[arg(value_name = "JOB[.TASK]", default_value = "last")]
    pub job: JobTask,
}

/// Print what a job wrote
#[derive(Debug, Args)]
#[command(after_help = "\
Standard output goes to standard output and standard error to standard error, byte by byte as the job wrote
them; each stream in its own order. An array's first task is shown unless a task is named.

Lines carry no times. --since therefore decides by attempts: one that ended before the time is left out, any
other is printed whole.

Examples:
  haul logs last
  haul logs -f last                      go on until the job ends
  haul logs --tail 20 --stream stderr 4f
  haul logs last.17 --stream setup       how its environment was built")]
pub struct LogsArgs {
    /// The job, or JOB.TASK
    #[arg(value_name = "JOB[.TASK]", default_value = "last")]
    pub job: JobTask,
    /// Go on as the job writes, until it ends
    #[arg(long, short)]
    pub follow: bool,
    /// Nothing of attempts that ended before this: a time (2026-01-31T12:00:00) or so long ago (2h)
    #[arg(long, value_name = "TIME|DURATION")]
    pub since: Option<String>,
    /// Only this stream: setup, stdout or stderr; may be repeated [default: stdout and stderr]
    #[arg(long, short, value_name = "STREAM")]
    pub stream: Vec<StreamKind>,
    /// Only the last lines of each stream
    #[arg(long, short = 'n', value_name = "LINES")]
    pub tail: Option<u64>,
    /// The attempt [default: the newest]
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    pub attempt: Option<Attempt>,
}

/// Wait for a job's end, and exit as it did
#[derive(Debug, Args)]
#[command(after_help = "\
The exit codes are those of `haul run`; with --timeout, 3 says that the job has not ended yet.

Examples:
  haul wait last
  haul wait --timeout 1h 4f")]
pub struct WaitArgs {
    /// The job, or JOB.TASK
    #[arg(value_name = "JOB[.TASK]", default_value = "last")]
    pub job: JobTask,
    /// Wait no longer than this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

/// Stop a job
#[derive(Debug, Args)]
#[command(after_help = "\
The job gets SIGTERM, and SIGKILL once its grace is over. What it left in ./outputs is kept.

Examples:
  haul cancel last
  haul cancel 4f.17            one task of an array")]
pub struct CancelArgs {
    /// The jobs, or JOB.TASK
    #[arg(value_name = "JOB[.TASK]", required = true)]
    pub jobs: Vec<JobTask>,
}

/// List or bring back what a job left in ./outputs
#[derive(Debug, Args)]
pub struct OutputsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: OutputsCommand,
}

/// What to do with outputs.
#[derive(Debug, Subcommand)]
pub enum OutputsCommand {
    /// List them
    Ls {
        /// The job, or JOB.TASK
        #[arg(value_name = "JOB[.TASK]", default_value = "last")]
        job: JobTask,
    },
    /// Bring them back
    #[command(after_help = "\
Nothing is written if a file is there already, unless --force is given.

Examples:
  haul outputs get last                  into ./outputs
  haul outputs get 4f --to results/4f
  haul outputs get last --logs           what it left in ./logs, instead")]
    Get {
        /// The job, or JOB.TASK
        #[arg(value_name = "JOB[.TASK]", default_value = "last")]
        job: JobTask,
        /// The directory to write into [default: ./outputs, or ./logs]
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        to: Option<PathBuf>,
        /// Replace files that are there
        #[arg(long, short)]
        force: bool,
        /// Bring back ./logs rather than ./outputs
        #[arg(long)]
        logs: bool,
    },
}

/// Run a job again, exactly as it was submitted
#[derive(Debug, Args)]
#[command(after_help = "\
The directory is the one that was sent then, whatever has happened to it since.

Examples:
  haul rerun last
  haul rerun -d 4f")]
pub struct RerunArgs {
    /// The job
    #[arg(value_name = "JOB", default_value = "last")]
    pub job: JobTask,
    /// Leave the job running and print its id
    #[arg(long, short)]
    pub detach: bool,
}

/// Forget jobs that have ended, with their logs and outputs
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  haul rm 4f 7k")]
pub struct RemoveArgs {
    /// The jobs
    #[arg(value_name = "JOB", required = true)]
    pub jobs: Vec<JobTask>,
}

/// List or remove the environments that were built for jobs
#[derive(Debug, Args)]
pub struct EnvArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: EnvCommand,
}

/// What to do with environments.
#[derive(Debug, Subcommand)]
pub enum EnvCommand {
    /// List them, with sizes and last use
    Ls,
    /// Remove some
    Rm {
        /// Their keys, or the beginnings of them
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Remove those that no job uses
    #[command(after_help = "\
Examples:
  haul env prune                         all that no job uses now, and uv's cache
  haul env prune --unused-for 30d
  haul env prune --keep 20GB             uv's cache, then the least recently used, until the rest takes no more than this")]
    Prune {
        /// Only those unused for so long
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        unused_for: Option<Duration>,
        /// Stop when the rest takes no more than this
        #[arg(long, value_name = "SIZE")]
        keep: Option<ByteSize>,
    },
}

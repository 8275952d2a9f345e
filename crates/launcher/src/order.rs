//! What the agent asks for, and what it is told at the end.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use haul_types::{AttemptId, ByteSize, ExitStatus};
use serde::{Deserialize, Serialize};

use crate::octets;

/// One attempt, ready to be started. Nothing is inherited from the agent: the environment, the directory and the
/// files are all here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptOrder {
    /// Which attempt. Its parts are put into the environment as `HAUL_JOB_ID`, `HAUL_TASK_INDEX` and `HAUL_ATTEMPT`,
    /// whatever `env` says: lost processes are recognised by them.
    pub attempt: AttemptId,
    /// The program: a name to look up in the `PATH` of `env`, or a path, which is relative to `cwd`.
    #[serde(with = "octets::one")]
    pub program: OsString,
    /// Its arguments, without the program's name.
    #[serde(with = "octets::list")]
    pub args: Vec<OsString>,
    /// The directory it starts in.
    #[serde(with = "octets::one")]
    pub cwd: PathBuf,
    /// The whole environment.
    #[serde(with = "octets::pairs")]
    pub env: Vec<(OsString, OsString)>,
    /// Where its standard output is appended to; made with mode 0600 when it is not there. An absolute path.
    #[serde(with = "octets::one")]
    pub stdout: PathBuf,
    /// The same for its standard error.
    #[serde(with = "octets::one")]
    pub stderr: PathBuf,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// How long it has to end by itself between `SIGTERM` and `SIGKILL`, at a timeout or a cancel.
    pub grace: Duration,
    /// What it may use.
    pub limits: Limits,
}

/// What an attempt may use, all of its processes together; each is enforced where the node allows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Time on processors.
    pub cpus: Option<MilliCpus>,
    /// Memory, without a way around it through swap. At least [`Limits::MEMORY_AT_LEAST`].
    pub memory: Option<ByteSize>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

impl Limits {
    /// Less memory than this would not let a process be made.
    pub const MEMORY_AT_LEAST: ByteSize = ByteSize(4 << 20);

    /// Whether nothing is limited.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.cpus.is_none() && self.memory.is_none() && self.pids.is_none()
    }
}

/// Thousandths of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MilliCpus(pub u32);

/// Why an attempt is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// Somebody canceled it.
    Canceled,
}

/// Why an attempt was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stopped {
    /// It reached its time limit.
    TimedOut,
    /// Somebody canceled it.
    Canceled,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The main process ended so.
    Exited(ExitStatus),
    /// There never was a process.
    StartFailed {
        /// What could not be done.
        step: StartStep,
        /// With which path, program or directory; cut to what fits the journal.
        subject: String,
        /// The error's number, 0 where there is none.
        errno: i32,
        /// The error in words.
        message: String,
    },
    /// There never was a process. `stopped` says that it was canceled before it was started; if it does not, somebody
    /// killed the idle supervisor that the order was on its way to, and the same attempt may be ordered once more.
    NotStarted,
    /// The supervisor was killed or the machine went down under it: nobody knows how far it came. No process of it
    /// is left.
    Lost(Boot),
}

/// What starting an attempt consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartStep {
    /// Holding it to its limits.
    Limit,
    /// Opening the file of its standard output.
    OpenStdout,
    /// Opening the file of its standard error.
    OpenStderr,
    /// Entering its directory.
    EnterDirectory,
    /// Looking the program up in the order's `PATH`.
    FindProgram,
    /// Making the process and loading the program.
    Execute,
}

/// Whether the machine was started again since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Boot {
    /// It was not: the supervisor was killed.
    Same,
    /// It was: nothing of the attempt can run any more.
    Other,
}

/// What the processes of an attempt used, those that were waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Time on processors, user and system, of all of its processes together.
    pub cpu: Duration,
    /// The largest resident size of a single process, in bytes. `None` when it is not known, which means that no
    /// process was larger than one of an earlier short attempt of the same supervisor.
    pub max_rss_bytes: Option<u64>,
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Which attempt.
    pub attempt: AttemptId,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it was stopped, and why. The outcome still says what the main process made of it.
    pub stopped: Option<Stopped>,
    /// Processes that were left when the main process had ended by itself, or when the grace was over, and were ended.
    pub killed_leftovers: u32,
    /// Processes of it that the kernel killed for want of memory, where that is counted.
    pub oom_kills: u32,
    /// When it was started, in milliseconds since 1970; for display only.
    pub started_unix_ms: u64,
    /// How long it ran, until no process was left, by the monotonic clock.
    pub duration: Duration,
    /// What it used.
    pub usage: Usage,
}

impl ExitRecord {
    /// The record of an attempt whose end nobody saw.
    #[must_use]
    pub fn lost(attempt: AttemptId, boot: Boot, started_unix_ms: u64) -> Self {
        Self {
            attempt,
            outcome: Outcome::Lost(boot),
            stopped: None,
            killed_leftovers: 0,
            oom_kills: 0,
            started_unix_ms,
            duration: Duration::ZERO,
            usage: Usage::default(),
        }
    }
}

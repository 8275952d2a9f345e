//! States of a task, and why it is in them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a task stands. The first four are in progress; the last three are terminal and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum TaskState {
    /// Stored; waits for a slot.
    Queued = 1,
    /// On a node: its directory and environment are being made.
    Preparing = 2,
    /// The script runs.
    Running = 3,
    /// The script ended; its outputs are being collected.
    Finalizing = 4,
    /// Ended with exit code 0.
    Succeeded = 5,
    /// Ended in any other way that nobody asked for.
    Failed = 6,
    /// Ended because somebody asked for it.
    Canceled = 7,
}

impl TaskState {
    /// Every state, in order.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Preparing,
        Self::Running,
        Self::Finalizing,
        Self::Succeeded,
        Self::Failed,
        Self::Canceled,
    ];

    /// Whether the state never changes again.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }

    /// The name, as printed and stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Finalizing => "finalizing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a task came into its state: a word for programs. The sentence for people travels beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Reason {
    /// The user submitted it.
    Submitted = 1,
    /// A node has a free slot for it.
    Assigned = 2,
    /// The directory and the environment are ready; the script was started.
    Started = 3,
    /// The script ended by itself; the exit status says how.
    Exited = 4,
    /// Somebody canceled it.
    CanceledByUser = 5,
    /// It ran longer than its time limit.
    TimedOut = 6,
    /// The environment could not be made; the setup stream says why.
    EnvironmentFailed = 7,
    /// The snapshot could not be unpacked on the node.
    SnapshotFailed = 8,
    /// The program could not be started (not found, not executable).
    StartFailed = 9,
    /// The outputs could not be collected; the script itself may have succeeded.
    OutputsFailed = 10,
    /// The machine or the job's supervisor went down under it, and nobody knows how far it came.
    Lost = 11,
    /// An earlier attempt was lost; this one waits for a slot.
    Retried = 12,
    /// It failed, and the kernel had killed processes of it for want of memory.
    OomKilled = 13,
    /// It waited for a node longer than its limit.
    QueueTimedOut = 14,
    /// Its attempts took agents or supervisors down again and again: nothing more of it is started.
    Quarantined = 15,
    /// Its node could not be reached for as long as its policy allows: the attempt there is given up, and another one
    /// waits.
    Replaced = 16,
}

impl Reason {
    /// Every reason, in order of number.
    pub const ALL: [Self; 16] = [
        Self::Submitted,
        Self::Assigned,
        Self::Started,
        Self::Exited,
        Self::CanceledByUser,
        Self::TimedOut,
        Self::EnvironmentFailed,
        Self::SnapshotFailed,
        Self::StartFailed,
        Self::OutputsFailed,
        Self::Lost,
        Self::Retried,
        Self::OomKilled,
        Self::QueueTimedOut,
        Self::Quarantined,
        Self::Replaced,
    ];

    /// The word, as printed and stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Assigned => "assigned",
            Self::Started => "started",
            Self::Exited => "exited",
            Self::CanceledByUser => "canceled_by_user",
            Self::TimedOut => "timed_out",
            Self::EnvironmentFailed => "environment_failed",
            Self::SnapshotFailed => "snapshot_failed",
            Self::StartFailed => "start_failed",
            Self::OutputsFailed => "outputs_failed",
            Self::Lost => "lost",
            Self::Retried => "retried",
            Self::OomKilled => "oom_killed",
            Self::QueueTimedOut => "queue_timed_out",
            Self::Quarantined => "quarantined",
            Self::Replaced => "replaced",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitStatus {
    /// It returned this code, 0 to 255.
    Code(u8),
    /// A signal of this number ended it.
    Signal(u8),
}

impl ExitStatus {
    /// The code a shell would show: the code itself, or 128 + the signal's number.
    #[must_use]
    pub const fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128u8.saturating_add(signal),
        }
    }

    /// Whether it is exit code 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// One line of a task's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// The state entered.
    pub state: TaskState,
    /// Why.
    pub reason: Reason,
    /// A sentence for people; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The attempt it belongs to; 0 before the first.
    pub attempt: u32,
    /// When, by the controller's clock, in milliseconds since 1970; for display only.
    pub at_unix_ms: u64,
}

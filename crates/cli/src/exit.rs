//! Exit codes: how a job's end becomes the command's. Told to users in `haul run --help`.

use std::process::ExitCode;

use haul_client::Task;
use haul_types::{ExitStatus, Reason, TaskState};

/// Something in the command is wrong; nothing was done.
pub const USAGE: u8 = 2;
/// Detached, or waited long enough: the job goes on.
pub const GOES_ON: u8 = 3;
/// A time limit of the job ended it: its own, or that of its waiting.
pub const TIMED_OUT: u8 = 124;
/// The job could not be prepared, was lost, or Haul failed.
pub const INFRASTRUCTURE: u8 = 125;
/// The program could not be started.
pub const NOT_STARTED: u8 = 126;
/// Somebody canceled the job.
pub const CANCELED: u8 = 130;
/// Nobody reads standard output any more: 128 + SIGPIPE, as a shell shows it.
pub const BROKEN_PIPE: u8 = 141;

/// How a command ends when nothing went wrong with the command itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// All is well.
    pub const SUCCESS: Self = Self(0);

    /// As the task ended.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        Self(code_of(
            task.state,
            task.last().map(|last| last.reason),
            task.exit,
        ))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

fn code_of(state: TaskState, reason: Option<Reason>, exit: Option<ExitStatus>) -> u8 {
    match (state, reason) {
        (TaskState::Succeeded, _) => 0,
        (TaskState::Canceled, _) => CANCELED,
        (TaskState::Failed, Some(Reason::TimedOut | Reason::QueueTimedOut)) => TIMED_OUT,
        (TaskState::Failed, Some(Reason::StartFailed)) => NOT_STARTED,
        (TaskState::Failed, Some(Reason::Exited) | None) => {
            // A failure without an exit status, or with a good one, is none of the script's.
            exit.map(ExitStatus::shell_code)
                .filter(|&code| code != 0)
                .unwrap_or(INFRASTRUCTURE)
        }
        // The script's own failure is told rather than that its outputs were not collected.
        (TaskState::Failed, Some(Reason::OutputsFailed)) => exit
            .map(ExitStatus::shell_code)
            .filter(|&code| code != 0)
            .unwrap_or(INFRASTRUCTURE),
        (TaskState::Failed, Some(_)) => INFRASTRUCTURE,
        (TaskState::Queued | TaskState::Preparing | TaskState::Running | TaskState::Finalizing, _) => GOES_ON,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_code() {
        let failed = |reason, exit| code_of(TaskState::Failed, Some(reason), exit);
        assert_eq!(
            code_of(
                TaskState::Succeeded,
                Some(Reason::Exited),
                Some(ExitStatus::Code(0))
            ),
            0
        );
        assert_eq!(failed(Reason::Exited, Some(ExitStatus::Code(7))), 7);
        assert_eq!(failed(Reason::Exited, Some(ExitStatus::Signal(9))), 137);
        assert_eq!(failed(Reason::TimedOut, Some(ExitStatus::Signal(15))), TIMED_OUT);
        assert_eq!(failed(Reason::EnvironmentFailed, None), INFRASTRUCTURE);
        assert_eq!(failed(Reason::QueueTimedOut, None), TIMED_OUT);
        assert_eq!(failed(Reason::Lost, None), INFRASTRUCTURE);
        assert_eq!(failed(Reason::Quarantined, None), INFRASTRUCTURE);
        assert_eq!(failed(Reason::StartFailed, None), NOT_STARTED);
        assert_eq!(
            failed(Reason::OutputsFailed, Some(ExitStatus::Code(0))),
            INFRASTRUCTURE
        );
        assert_eq!(failed(Reason::OutputsFailed, Some(ExitStatus::Code(4))), 4);
        assert_eq!(
            code_of(
                TaskState::Canceled,
                Some(Reason::CanceledByUser),
                Some(ExitStatus::Code(0))
            ),
            CANCELED
        );
        assert_eq!(code_of(TaskState::Running, Some(Reason::Started), None), GOES_ON);
    }
}

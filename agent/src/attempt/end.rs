//! How an attempt ended, and what that means for its task.

use std::fmt::Write as _;

use haul_launcher::{Boot, ExitRecord, Outcome, Stopped};
use haul_types::{Digest, ExitStatus, JobSpec, Reason, TaskState};

/// How an attempt ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) state: TaskState,
    pub(super) reason: Reason,
    pub(super) detail: String,
    pub(super) exit: Option<ExitStatus>,
    pub(super) outputs: Option<Digest>,
    pub(super) logs: Option<Digest>,
}

impl End {
    pub(super) fn failed(reason: Reason, detail: String) -> Self {
        Self {
            state: TaskState::Failed,
            reason,
            detail,
            exit: None,
            outputs: None,
            logs: None,
        }
    }

    pub(super) fn canceled(detail: &str) -> Self {
        let (state, reason) = (TaskState::Canceled, Reason::CanceledByUser);
        Self {
            state,
            reason,
            detail: detail.to_owned(),
            exit: None,
            outputs: None,
            logs: None,
        }
    }
}

/// An error with its causes, in one line.
pub(super) fn words(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(
        || error.to_string(),
        |source| format!("{error}: {}", words(source)),
    )
}

/// What goes between two remarks.
pub(super) fn separator(before: &str) -> &'static str {
    if before.is_empty() { "" } else { "; " }
}

/// What an exit record means for the task.
pub(super) fn judge(record: &ExitRecord, spec: &JobSpec) -> End {
    let mut end = match (&record.outcome, record.stopped) {
        (Outcome::Exited(exit), Some(Stopped::TimedOut)) => {
            let limit = spec.timeout.unwrap_or_default();
            End {
                exit: Some(*exit),
                ..End::failed(
                    Reason::TimedOut,
                    format!("it ran longer than its limit of {limit:?}"),
                )
            }
        }
        (Outcome::Exited(exit), Some(Stopped::Canceled)) => End {
            exit: Some(*exit),
            ..End::canceled("")
        },
        (Outcome::Exited(exit), None) => {
            let state = if exit.is_success() {
                TaskState::Succeeded
            } else {
                TaskState::Failed
            };
            End {
                state,
                exit: Some(*exit),
                ..End::failed(Reason::Exited, exit.to_string())
            }
        }
        (Outcome::StartFailed { subject, message, .. }, _) => {
            End::failed(Reason::StartFailed, format!("{subject}: {message}"))
        }
        (Outcome::NotStarted, _) => End::canceled("canceled before it started"),
        (Outcome::Lost(boot), _) => End::failed(
            Reason::Lost,
            match boot {
                Boot::Same => "its supervisor was killed; how far it came is unknown".to_owned(),
                Boot::Other => "the machine was started again; how far it came is unknown".to_owned(),
            },
        ),
    };
    if record.oom_kills > 0 {
        let many = record.oom_kills;
        let what = if many == 1 {
            "process was"
        } else {
            "processes were"
        };
        let why = format!("{many} {what} killed for want of memory");
        let before = std::mem::take(&mut end.detail);
        end.detail = format!("{why}{}{before}", separator(&before));
        // A job that can do without a process it lost has not failed.
        if end.state == TaskState::Failed && end.reason == Reason::Exited {
            end.reason = Reason::OomKilled;
        }
    }
    if record.killed_leftovers > 0 {
        let many = record.killed_leftovers;
        let what = if many == 1 {
            "process it left behind was"
        } else {
            "processes it left behind were"
        };
        let _ = write!(end.detail, "{}{many} {what} ended", separator(&end.detail));
    }
    end
}

//! Errors as gRPC statuses: the one place that decides which code an error has.

use haul_proto::BadMessage;
use haul_store::{AppendError, CommitError, FinishError, LoadError, ReadError};
use tonic::{Code, Status};

use crate::engine::StepError;
use crate::logs::LogError;
use crate::snapshots::SnapshotError;

/// An error with its causes, in one line.
fn message(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The status of an error.
pub(crate) trait IntoStatus {
    fn into_status(self) -> Status;
}

impl IntoStatus for BadMessage {
    fn into_status(self) -> Status {
        Status::invalid_argument(self.to_string())
    }
}

impl IntoStatus for ReadError {
    fn into_status(self) -> Status {
        Status::internal(message(&self))
    }
}

impl IntoStatus for CommitError {
    fn into_status(self) -> Status {
        let code = match self {
            CommitError::NoSpace(_) | CommitError::ReadOnly(_) => Code::ResourceExhausted,
            CommitError::Busy => Code::Unavailable,
            _ => Code::Internal,
        };
        Status::new(code, message(&self))
    }
}

impl IntoStatus for StepError {
    fn into_status(self) -> Status {
        match self {
            Self::Refused(haul_lifecycle::Refused::DuplicateJob(_)) => {
                Status::already_exists(self.to_string())
            }
            Self::Refused(_) => Status::not_found(self.to_string()),
            Self::Storage(Some(error)) => error.into_status(),
            Self::Storage(None) => Status::resource_exhausted(self.to_string()),
            Self::Leaving => Status::unavailable(self.to_string()),
        }
    }
}

impl IntoStatus for LoadError {
    fn into_status(self) -> Status {
        let code = match self {
            Self::Unknown(_) => Code::NotFound,
            Self::Damaged { .. } => Code::DataLoss,
            _ => Code::Internal,
        };
        Status::new(code, message(&self))
    }
}

impl IntoStatus for AppendError {
    fn into_status(self) -> Status {
        let code = if self.is_out_of_space() {
            Code::ResourceExhausted
        } else {
            Code::Internal
        };
        Status::new(code, message(&self))
    }
}

impl IntoStatus for FinishError {
    fn into_status(self) -> Status {
        let code = if self.is_out_of_space() {
            Code::ResourceExhausted
        } else {
            Code::Internal
        };
        Status::new(code, message(&self))
    }
}

impl IntoStatus for SnapshotError {
    fn into_status(self) -> Status {
        match self {
            Self::Incomplete(_) => Status::failed_precondition(self.to_string()),
            Self::Malformed { .. } => Status::invalid_argument(message(&self)),
            Self::Packs(error) => error.into_status(),
        }
    }
}

impl IntoStatus for LogError {
    fn into_status(self) -> Status {
        Status::internal(message(&self))
    }
}

/// A task of ours died; it has said why in the log.
pub(crate) fn panicked(_: tokio::task::JoinError) -> Status {
    Status::internal("an internal task failed; the controller's log says why")
}

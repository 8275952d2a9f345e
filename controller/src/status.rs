//! Errors as gRPC statuses: the one place that decides which code an error has.

use haul_identity::{AuthorityError, date};
use haul_lifecycle::Refused;
use haul_proto::BadMessage;
use haul_store::{AppendError, CommitError, FinishError, IdentityRefusal, LoadError, ReadError};
use tonic::{Code, Status};

use crate::engine::StepError;
use crate::identity::IdentityError;
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
        if let CommitError::Identity(refusal) = self {
            return refusal.into_status();
        }
        let code = match self {
            CommitError::NoSpace(_) | CommitError::ReadOnly(_) => Code::ResourceExhausted,
            CommitError::Busy => Code::Unavailable,
            _ => Code::Internal,
        };
        Status::new(code, message(&self))
    }
}

/// The time of a record, for people.
fn when(unix_ms: u64) -> String {
    date(std::time::UNIX_EPOCH + std::time::Duration::from_millis(unix_ms))
}

/// Each with what to do about it: whoever joins has nobody else to ask.
impl IntoStatus for IdentityRefusal {
    fn into_status(self) -> Status {
        let another = "ask an admin for another one (`haul token create --role agent`)";
        match self {
            Self::UnknownToken => Status::unauthenticated(format!(
                "{self}: it was made by another controller, or has been forgotten since it ended; {another}"
            )),
            Self::TokenRevoked => Status::unauthenticated(format!("{self}; ask an admin for another one")),
            Self::TokenUsed(used) => Status::unauthenticated(format!(
                "{self}, and this one did at {}; {another}",
                when(used.at_unix_ms)
            )),
            Self::TokenExpired { expired_unix_ms } => Status::unauthenticated(format!(
                "{self} at {}, and the controller's clock says {}; ask an admin for another one",
                when(expired_unix_ms),
                date(std::time::SystemTime::now())
            )),
            Self::NotAJoinToken(_) => Status::permission_denied(format!("{self}; {another}")),
            Self::OtherName(ref name) => {
                Status::invalid_argument(format!("{self}: join with `--name {name}`, or {another}"))
            }
            Self::NameTaken(ref name) => Status::already_exists(format!(
                "{self}: give this machine another name (`--name`), or if it takes that one's place, ask an admin for a \
                 token that says so (`haul token create --role agent --replace {name}`)"
            )),
            Self::UnknownNode(_) => Status::not_found(self.to_string()),
        }
    }
}

impl IntoStatus for IdentityError {
    fn into_status(self) -> Status {
        match self {
            Self::Refused(refusal) => refusal.into_status(),
            Self::Revoked(_) => Status::permission_denied(format!(
                "{self}: if it is to run jobs again, join it with a new token (`haul-agent join`)"
            )),
            Self::BadOrder(_) => Status::invalid_argument(self.to_string()),
            Self::Commit(error) => error.into_status(),
            Self::Read(error) => error.into_status(),
            Self::Authority(AuthorityError::Refused(refused)) => {
                Status::failed_precondition(refused.to_string())
            }
            Self::Authority(error) => Status::internal(message(&error)),
            Self::Issue(error) => Status::internal(message(&error)),
            Self::Unusable(error) => Status::internal(message(&error)),
            Self::Randomness(error) => Status::internal(message(&error)),
        }
    }
}

impl IntoStatus for StepError {
    fn into_status(self) -> Status {
        match self {
            Self::Refused(refused) => Status::new(code_of(&refused), refused.to_string()),
            Self::Storage(Some(error)) => error.into_status(),
            Self::Storage(None) => Status::resource_exhausted(self.to_string()),
            Self::Leaving => Status::unavailable(self.to_string()),
        }
    }
}

const fn code_of(refused: &Refused) -> Code {
    match refused {
        Refused::DuplicateJob(_) | Refused::DuplicateTarget(_) | Refused::NameTaken { .. } => {
            Code::AlreadyExists
        }
        Refused::NodeConnected(_) => Code::FailedPrecondition,
        // Of a job: what is wrong is the spec.
        Refused::UnknownTarget { .. } => Code::InvalidArgument,
        Refused::UnknownJob(_) | Refused::UnknownTask(_) | Refused::UnknownNode(_) => Code::NotFound,
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

//! What can go wrong with a call: the one place that reads gRPC statuses.

use std::error::Error;

use haul_proto::BadMessage;
use tonic::{Code, Status};

use crate::DialError;

/// Why a call to the controller gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The id, or whatever was named, is unknown.
    #[error("{0}")]
    NotFound(String),
    /// Something in the request is wrong; the text names the field.
    #[error("the controller refused the request: {0}")]
    Invalid(String),
    /// The thing is not in a state for this.
    #[error("{0}")]
    Precondition(String),
    /// The controller's disk is full, or a stated limit is reached.
    #[error("the controller has no room: {0}")]
    Full(String),
    /// This user may not.
    #[error("not allowed: {0}")]
    Denied(String),
    /// The controller was not reached, several times.
    #[error("the controller cannot be reached")]
    Unreachable(#[source] Box<Status>),
    /// The controller answered, but cannot do it at the moment (a node it needs is away).
    #[error("{0}")]
    Unavailable(String),
    /// Trying again is pointless: the dialler said so.
    #[error(transparent)]
    Hopeless(std::sync::Arc<dyn Error + Send + Sync>),
    /// No connection, at the first try.
    #[error("the controller cannot be reached")]
    Dial(#[source] DialError),
    /// The answer breaks the contract; a controller of another version, perhaps.
    #[error("the controller's answer cannot be read")]
    BadAnswer(#[from] BadMessage),
    /// A fault inside the controller.
    #[error("the controller failed: {0}")]
    Internal(String),
}

impl CallError {
    /// Whether the same call may succeed later: the controller could not be reached, or has no room for the moment.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::Unavailable(_) | Self::Dial(_) | Self::Full(_)
        )
    }
}

impl From<DialError> for CallError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Hopeless(why) => Self::Hopeless(why),
            other => Self::Dial(other),
        }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        if let Some(hopeless) = hopeless(&status) {
            return Self::Hopeless(hopeless);
        }
        if status.source().is_some() {
            return Self::Unreachable(Box::new(status));
        }
        let message = status.message().to_owned();
        match status.code() {
            Code::NotFound => Self::NotFound(message),
            Code::InvalidArgument | Code::OutOfRange => Self::Invalid(message),
            Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => Self::Precondition(message),
            Code::ResourceExhausted => Self::Full(message),
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied(message),
            Code::Unavailable => Self::Unavailable(message),
            _ => Self::Internal(message),
        }
    }
}

/// Whether the same call may succeed when made again. A status that came over the wire has no source; one that the
/// transport made has.
pub(crate) fn may_be_repeated(status: &Status) -> bool {
    hopeless(status).is_none() && (status.source().is_some() || status.code() == Code::Unavailable)
}

fn hopeless(status: &Status) -> Option<std::sync::Arc<dyn Error + Send + Sync>> {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(DialError::Hopeless(why)) = error.downcast_ref() {
            return Some(why.clone());
        }
        cause = error.source();
    }
    None
}

//! Why something about identity was not done.

use haul_identity::{AuthorityError, IssueError, NoRandomness};
use haul_store::{CommitError, IdentityRefusal, ReadError};
use haul_types::NodeName;

/// Why something about identity was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// A token or a node is not what it would have to be.
    #[error(transparent)]
    Refused(#[from] IdentityRefusal),
    /// The node was shut out, or was never let in.
    #[error("node {0} was revoked, or is not enrolled here")]
    Revoked(NodeName),
    /// A token that makes no sense.
    #[error("{0}")]
    BadOrder(&'static str),
    /// It could not be stored.
    #[error(transparent)]
    Commit(CommitError),
    /// What is stored could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The authority refuses, or cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// No certificate could be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// What was made cannot be used.
    #[error(transparent)]
    Unusable(#[from] haul_identity::IdentityError),
    /// The system has no randomness to give.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

impl From<CommitError> for IdentityError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Identity(refusal) => Self::Refused(refusal),
            other => Self::Commit(other),
        }
    }
}

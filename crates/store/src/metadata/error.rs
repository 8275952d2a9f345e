//! How a commit or a read fails.

use std::path::PathBuf;

use haul_types::JobId;

use super::identity::IdentityRefusal;
use crate::database::{DatabaseError, Fault};

/// Why a submission was not stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// The job is there already. Whoever submitted it twice finds the first one by its id.
    #[error("job {0} exists already")]
    JobExists(JobId),
    /// There is no such job: it was never stored, or has been removed.
    #[error("there is no job {0}")]
    UnknownJob(JobId),
    /// A token or a node is not what the change needs. Nothing was stored.
    #[error(transparent)]
    Identity(#[from] IdentityRefusal),
    /// A row that the change rests on is damaged.
    #[error("the stored {row} is damaged: {problem}")]
    Damaged {
        /// Which row: its kind and its id.
        row: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The disk is full. Reads work, and commits will again when there is room.
    #[error("the disk that holds the metadata is full")]
    NoSpace(#[source] DatabaseError),
    /// The file system is mounted read-only, or the file's mode forbids writing.
    #[error("the metadata cannot be written")]
    ReadOnly(#[source] DatabaseError),
    /// The file is damaged.
    #[error("the metadata is damaged; restore a copy")]
    Corrupt(#[source] DatabaseError),
    /// More submissions wait than the queue holds; the disk does not keep up. Nothing was stored.
    #[error("too many changes wait for the disk; try again")]
    Busy,
    /// A row cannot be put into its stored form.
    #[error("the specification of job {job} cannot be stored")]
    Unstorable {
        /// The job.
        job: JobId,
        /// The reason.
        #[source]
        source: std::sync::Arc<serde_json::Error>,
    },
    /// The same of a node or a target.
    #[error("{what} cannot be stored")]
    UnstorableFleet {
        /// Which.
        what: String,
        /// The reason.
        #[source]
        source: std::sync::Arc<serde_json::Error>,
    },
    /// The writer's thread has died; the controller has to be started again.
    #[error("the writer of the metadata has died")]
    Closed,
    /// Anything else.
    #[error("cannot commit to the metadata")]
    Other(#[source] DatabaseError),
}

impl From<DatabaseError> for CommitError {
    fn from(error: DatabaseError) -> Self {
        match error.fault() {
            Fault::NoSpace => Self::NoSpace(error),
            Fault::ReadOnly => Self::ReadOnly(error),
            Fault::Corrupt => Self::Corrupt(error),
            Fault::Constraint | Fault::Other => Self::Other(error),
        }
    }
}

impl From<rusqlite::Error> for CommitError {
    fn from(error: rusqlite::Error) -> Self {
        DatabaseError::from(error).into()
    }
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database could not be opened or queried.
    #[error("cannot read {what} from {}", path.display())]
    Database {
        /// What was asked for.
        what: &'static str,
        /// The database file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: DatabaseError,
    },
    /// A row is there but does not say what this version understands.
    #[error("the stored {row} is damaged: {problem}")]
    Damaged {
        /// Which row: its kind and its id.
        row: String,
        /// What is wrong with it.
        problem: String,
    },
}

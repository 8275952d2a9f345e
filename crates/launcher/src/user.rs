//! As whom a job runs, and where the files are that it writes to.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Said by the launcher to a supervisor, never by the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobUser {
    /// Never 0.
    pub(crate) uid: u32,
    /// Never 0.
    pub(crate) gid: u32,
    /// The files of its streams are beneath this directory, and are there already.
    pub(crate) streams: PathBuf,
    /// Whose those files are.
    pub(crate) owner: u32,
}

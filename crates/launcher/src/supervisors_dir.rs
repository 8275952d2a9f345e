//! The names in a state directory.
//!
//! ```text
//! <state>/launcher.lock            held by the agent
//! <state>/supervisors/<id>/journal held by the supervisor
//!                          control  the socket of an adopted supervisor
//!                          groups  the control groups of its last attempt that had any
//!                          log      what a supervisor said on standard error; empty, if all is well
//! ```

use std::path::{Path, PathBuf};

/// The agent's lock.
pub(crate) const LOCK: &str = "launcher.lock";
/// The directory of supervisors.
pub(crate) const SUPERVISORS: &str = "supervisors";
/// The socket's name; short, because a socket's path is at most 107 bytes: it is bound and reached from within.
pub(crate) const CONTROL: &str = "control";
/// The name of the file that says which control groups there are, a line for each.
pub(crate) const GROUPS: &str = "groups";
/// The log's name.
pub(crate) const LOG: &str = "log";

/// The directory of one supervisor.
pub(crate) fn of(state_dir: &Path, id: &str) -> PathBuf {
    state_dir.join(SUPERVISORS).join(id)
}

//! The launcher as a process of its own: it has the rights, and the agent, which talks to the network, has none.
//!
//! ```text
//!   agent, as haul-agent ──Unix socket──► launcher, as root ──► supervisors ──► jobs, each as a user of its own
//! ```
//!
//! It is the same [`Launcher`](crate::Launcher) as within an agent, behind a socket. It believes nothing that it is told:
//!
//! - who connects is the agent's user, by the kernel's word;
//! - where a job runs and what it writes to lies beneath the agent's directories ([`check`]);
//! - a job runs as a user that no other job has at the time ([`users`]), never as root;
//! - a directory is handed over, and taken back, file by file, by owner ([`ownership`]).
//!
//! So whoever holds the agent can start what he likes as a job's user, and nothing more. Both sides may restart: an
//! attempt's end is kept until it is acknowledged, and is told again to whoever connects.

mod check;
mod connection;
mod ownership;
mod peers;
mod requests;
mod service;
mod table;
mod users;

use std::ops::RangeInclusive;
use std::path::PathBuf;

pub use self::service::{ServeError, Service};
#[cfg(test)]
pub(crate) use self::table::Table;
pub use self::users::{Account, JobUsers, NoAccount, NotJobUsers, group_named};
use crate::launcher::LauncherConfig;

/// What a launcher of its own needs to know.
#[derive(Clone, Debug)]
pub struct PrivilegedConfig {
    /// Where it keeps supervisors; nobody else may look.
    pub state_dir: PathBuf,
    /// The socket it listens on.
    pub socket: PathBuf,
    /// The agent's user: who may connect, and whose files are handed over.
    pub agent_uid: u32,
    /// The agent's group: it is given the socket.
    pub agent_gid: u32,
    /// The agent's state directory: `work/<number>` and `jobs/` in it are what orders may name.
    pub agent_dir: PathBuf,
    /// As whom jobs run.
    pub users: JobUsers,
    /// Processes and threads that an attempt may have at most, whatever its order says.
    pub pids_limit: u32,
    /// How the engine works.
    pub launcher: LauncherConfig,
}

/// The directory of working directories, in the agent's state directory.
const WORK: &str = "work";
/// The directory of streams, in the agent's state directory.
const STREAMS: &str = "jobs";
/// What is handed over of a working directory.
pub(crate) const HANDED_OVER: [&str; 2] = ["tree", "home"];

/// Ids that stand for nobody, or for everybody.
fn is_ordinary(id: u32) -> bool {
    id != 0 && id != u32::MAX && id != 65_534
}

/// All of them are.
fn are_ordinary(ids: &RangeInclusive<u32>) -> bool {
    *ids.start() != 0 && !ids.contains(&65_534) && *ids.end() != u32::MAX
}

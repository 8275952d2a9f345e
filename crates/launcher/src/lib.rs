//! Starts, adopts and stops the processes of jobs.
//!
//! Two halves that never share a process:
//!
//! * the **supervisor** ([`supervisor`]), a small process without threads or an async runtime. It is the parent of
//!   the job's process and outlives the agent, so that no job ends because an agent did. It keeps the time limit,
//!   sees to it that no process is left when an attempt has ended, and writes the end down durably;
//! * the **launcher** ([`launcher`]), in the agent. It keeps supervisors warm, hands each one attempt at a time, and
//!   finds those that an earlier agent left behind.
//!
//! ```text
//!            order, stop                 spawn, TERM, KILL
//!   agent ───────────────▶ supervisor ───────────────────▶ the job's processes
//!         ◀───────────────     │      ◀───────────────────
//!          started, ended      ▼        SIGCHLD (subreaper)
//!                           journal
//! ```
//!
//! The halves share a socket pair while the agent that started the supervisor lives. After that agent's death, the
//! next one learns from `supervisors/<id>/journal` what became of the attempt, from the lock on that file whether its
//! supervisor lives, and talks to it through `supervisors/<id>/control`.
//!
//! What this crate promises: one order starts at most one process; each attempt ends in exactly one [`ExitRecord`],
//! which says openly when the end is unknown ([`Outcome::Lost`]); when the record is seen, no process of the attempt
//! is left and its output files have their final length; an order's limits are kept where the node allows it. Attempts run as
//! the launcher's own user, or, by a launcher that is a process of its own ([`privileged`]), as users that have no rights.

mod beneath;
mod cgroup;
mod frame;
mod handle;
mod journal;
pub mod launcher;
mod lost;
mod message;
mod octets;
pub mod order;
pub mod privileged;
mod process_table;
mod process_tree;
mod protocol;
mod reader;
mod remote;
pub mod supervisor;
mod supervisors_dir;
mod user;

pub use cgroup::{Enforced, Means, enforced_here};
pub use handle::{AttemptHandle, LauncherHandle, TakeBackError};
pub use launcher::{
    AcknowledgeError, AdoptedAttempt, Found, Launcher, LauncherConfig, OpenError, Placement, RunningAttempt,
    Scope, StartError, Stopper, SupervisorProgram, SyncError,
};
pub use order::{
    AttemptOrder, Boot, ExitRecord, Limits, MilliCpus, Outcome, StartStep, StopReason, Stopped, Usage,
};
pub use remote::{ConnectError, Looked, Remote, RemoteAttempt, look};

/// An error with its causes, in one line.
fn words(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(
        || error.to_string(),
        |source| format!("{error}: {}", words(source)),
    )
}

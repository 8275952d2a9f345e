//! Control groups: what holds an attempt to its limits, and ends it as a whole.
//!
//! A [`Site`] is where this process may make groups, in each hierarchy of the kernel: one of version 2, or several of
//! version 1, or both at once. An [`AttemptGroup`] is one group in each of them. The main process is made within, so
//! that not one instruction of it runs outside: the supervisor, which has one thread, enters, makes it, and leaves
//! again.
//!
//! Nothing here is needed to find or end an attempt's processes; where there is no control group, the supervisor's walk
//! does it. With one, a kill is a single write (version 2), or meets processes that cannot fork any more (version 1).

mod group;
mod mounts;
mod site;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use self::group::{AttemptGroup, kill_left, remove_left};
pub(crate) use self::site::{Ground, Site};

/// What may be limited on this node, and by what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforced {
    /// By what; `None` where nothing is.
    pub by: Option<Means>,
    /// Time on processors.
    pub cpu: bool,
    /// Memory; deaths for want of it are told apart, too.
    pub memory: bool,
    /// The number of processes and threads.
    pub pids: bool,
    /// Whether supervisors are in scopes of systemd.
    pub in_scope: bool,
}

/// Which interface of the kernel limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Means {
    /// Control groups, version 1.
    CgroupV1,
    /// Control groups, version 2.
    CgroupV2,
}

impl std::fmt::Display for Enforced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(by) = self.by else {
            return f.write_str("no limit is enforced: no control group can be made here");
        };
        let named = [("cpu", self.cpu), ("memory", self.memory), ("pids", self.pids)];
        let list = |wanted: bool| {
            let of: Vec<&str> = named.iter().filter(|it| it.1 == wanted).map(|it| it.0).collect();
            of.join(", ")
        };
        let version = match by {
            Means::CgroupV1 => 1,
            Means::CgroupV2 => 2,
        };
        write!(f, "{} enforced by cgroup version {version}", list(true))?;
        if self.in_scope {
            f.write_str(", in scopes of systemd")?;
        }
        let missing = list(false);
        if !missing.is_empty() {
            write!(f, "; not enforced: {missing}")?;
        }
        Ok(())
    }
}

/// What a launcher within this process, or one like it, could limit.
#[must_use]
pub fn enforced_here() -> Enforced {
    Site::find(&Ground::Own).enforced()
}

/// A limit that could not be set.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub(crate) struct LimitError {
    pub(crate) path: PathBuf,
    #[source]
    pub(crate) source: io::Error,
}

impl LimitError {
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self { path, source }
    }
}

/// Writes to a control file, which exists.
fn set(path: &Path, value: &str) -> Result<(), LimitError> {
    std::fs::write(path, value).map_err(LimitError::at(path))
}

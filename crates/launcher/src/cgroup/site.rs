//! Where groups may be made.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

use haul_types::AttemptId;
use rustix::fs::{Access, access};

use super::group::AttemptGroup;
use super::mounts::{Hierarchy, hierarchies};
use super::{Enforced, LimitError, Means};
use crate::order::Limits;

/// The group that a supervisor moves to in a hierarchy of version 2: there, a group with groups in it has no processes.
const SUPERVISOR: &str = "supervisor";
/// The controllers that matter.
const WANTED: [&str; 3] = ["cpu", "memory", "pids"];

/// Where groups may be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ground {
    /// In the group that this process is in, beside others perhaps. In a hierarchy of version 2 that is of use in the
    /// topmost group only: below it, a group with processes cannot limit groups within.
    #[default]
    Own,
    /// In the group that this process is in, alone and by right. In a hierarchy of version 2 it moves to a group within.
    Delegated,
    /// In this directory of a hierarchy of version 2.
    At(PathBuf),
}

/// What stands for [`Ground::Delegated`] as an argument; no absolute path.
const DELEGATED: &str = "delegated";

impl Ground {
    /// As an argument of a supervisor; none for the default.
    pub(crate) fn to_argument(&self) -> Option<OsString> {
        match self {
            Self::Own => None,
            Self::Delegated => Some(DELEGATED.into()),
            Self::At(path) => Some(path.into()),
        }
    }

    /// The reverse.
    pub(crate) fn from_argument(argument: Option<OsString>) -> Self {
        match argument {
            None => Self::Own,
            Some(word) if word == DELEGATED => Self::Delegated,
            Some(path) => Self::At(path.into()),
        }
    }
}

/// One hierarchy in which groups may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Groups of attempts are made in here.
    pub(super) base: PathBuf,
    /// Where this process is itself.
    pub(super) home: PathBuf,
    pub(super) version2: bool,
    /// Of [`WANTED`], in that order.
    pub(super) controls: [bool; 3],
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Site {
    parts: Vec<Part>,
}

impl Site {
    /// Finds out where groups may be made.
    pub(crate) fn find(ground: &Ground) -> Self {
        let found = match ground {
            Ground::At(base) => vec![Hierarchy {
                own: base.clone(),
                controllers: None,
            }],
            Ground::Own | Ground::Delegated => {
                let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
                let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
                hierarchies(&membership, &mountinfo)
            }
        };
        let parts = found
            .into_iter()
            .filter(|hierarchy| access(&hierarchy.own, Access::WRITE_OK | Access::EXEC_OK).is_ok())
            .filter_map(|hierarchy| Part::of(hierarchy, ground))
            .collect();
        Self { parts }
    }

    /// What can be limited here.
    pub(crate) fn enforced(&self) -> Enforced {
        let has = |which: usize| self.parts.iter().any(|part| part.controls[which]);
        let by = self.parts.iter().find(|part| part.controls.contains(&true));
        Enforced {
            by: by.map(|part| {
                if part.version2 {
                    Means::CgroupV2
                } else {
                    Means::CgroupV1
                }
            }),
            cpu: has(0),
            memory: has(1),
            pids: has(2),
            in_scope: false,
        }
    }

    /// The directories of the attempt's groups, made or not.
    pub(crate) fn directories(&self, attempt: AttemptId) -> Vec<PathBuf> {
        let name = format!("haul-{attempt}");
        self.parts.iter().map(|part| part.base.join(&name)).collect()
    }

    /// Makes the attempt's groups and sets their limits; limits that nothing enforces here are passed over.
    pub(crate) fn make(&self, attempt: AttemptId, limits: &Limits) -> Result<AttemptGroup, LimitError> {
        let parts = self.parts.iter().cloned().zip(self.directories(attempt));
        AttemptGroup::make(parts.collect(), limits)
    }
}

impl Part {
    fn of(hierarchy: Hierarchy, ground: &Ground) -> Option<Self> {
        let base = hierarchy.own;
        match hierarchy.controllers {
            Some(names) => {
                let controls = WANTED.map(|wanted| names.iter().any(|name| name == wanted));
                controls.contains(&true).then(|| Self {
                    home: base.clone(),
                    base,
                    version2: false,
                    controls,
                })
            }
            None => Self::of_version2(base, ground),
        }
    }

    fn of_version2(base: PathBuf, ground: &Ground) -> Option<Self> {
        let home = match ground {
            Ground::Own => base.clone(),
            Ground::Delegated => {
                let home = base.join(SUPERVISOR);
                match fs::create_dir(&home) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return None,
                    _ => {}
                }
                fs::write(home.join("cgroup.procs"), "0").ok()?;
                home
            }
            // This process stays where it is, and comes back to there.
            Ground::At(_) => {
                let mountinfo = fs::read_to_string("/proc/self/mountinfo").ok()?;
                let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
                let found = hierarchies(&membership, &mountinfo);
                found.into_iter().find(|it| it.controllers.is_none())?.own
            }
        };
        let available = fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
        let switch = base.join("cgroup.subtree_control");
        // One by one: that one cannot be had does not say that the others cannot.
        let controls = WANTED.map(|wanted| {
            available.split_ascii_whitespace().any(|name| name == wanted)
                && fs::write(&switch, format!("+{wanted}")).is_ok()
        });
        Some(Self {
            base,
            home,
            version2: true,
            controls,
        })
    }
}

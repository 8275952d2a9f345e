//! Where an attempt's process is made: in groups that hold it to its limits, and as which user.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{report, spawn};
use crate::cgroup::{AttemptGroup, Ground, Site};
use crate::order::{AttemptOrder, Limits, Outcome, StartStep};
use crate::supervisors_dir::GROUPS;
use crate::user::JobUser;

/// What a supervisor knows about confining.
pub(super) struct Confinement {
    ground: Ground,
    /// Found when it is first needed: most attempts on a user's own machine have no limits.
    site: Option<Site>,
}

/// A process that was made.
pub(super) struct Started {
    pub(super) main: i32,
    pub(super) group: Option<AttemptGroup>,
}

impl Confinement {
    pub(super) const fn new(ground: Ground) -> Self {
        Self { ground, site: None }
    }

    /// Makes the process. With limits, or for another user, it and all that it makes are in groups of their own.
    pub(super) fn start(&mut self, order: &AttemptOrder, user: Option<&JobUser>) -> Result<Started, Outcome> {
        if user.is_some() {
            renounce();
        }
        if order.limits.is_none() && user.is_none() {
            let main = spawn::spawn(order, None)?;
            return Ok(Started { main, group: None });
        }
        let group = self.group(order)?;
        let made = match group.enter() {
            Ok(()) => spawn::spawn(order, user),
            Err(error) => Err(unlimited(&error.path, &error.source)),
        };
        if let Err(error) = group.leave() {
            report(&error);
        }
        match made {
            Ok(main) => Ok(Started {
                main,
                group: Some(group),
            }),
            Err(outcome) => {
                group.remove();
                Err(outcome)
            }
        }
    }

    fn group(&mut self, order: &AttemptOrder) -> Result<AttemptGroup, Outcome> {
        if order
            .limits
            .memory
            .is_some_and(|memory| memory < Limits::MEMORY_AT_LEAST)
        {
            let words = format!("no process fits in less than {}", Limits::MEMORY_AT_LEAST);
            return Err(unlimited(Path::new("memory"), &std::io::Error::other(words)));
        }
        let site = self.site.get_or_insert_with(|| Site::find(&self.ground));
        note(&site.directories(order.attempt));
        site.make(order.attempt, &order.limits)
            .map_err(|error| unlimited(&error.path, &error.source))
    }
}

/// Gives up, for this process and all that it makes, what a program could gain by being executed (setuid, capabilities
/// of files), and the habits of whoever started it. It is still the superuser, which it stays until it becomes another.
fn renounce() {
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        report(&std::io::Error::from(error));
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
}

/// Writes down where the attempt's groups are, for whoever has to end it when this process was killed.
fn note(directories: &[PathBuf]) {
    let mut lines = Vec::new();
    for directory in directories {
        lines.extend_from_slice(directory.as_os_str().as_bytes());
        lines.push(b'\n');
    }
    // The supervisor is in its directory. Only a help, as the record of the start is.
    if let Err(error) = std::fs::write(GROUPS, lines) {
        report(&error);
    }
}

fn unlimited(path: &Path, error: &std::io::Error) -> Outcome {
    spawn::failed(StartStep::Limit, path.as_os_str(), error)
}

//! Where supervisors are made. In scopes of systemd's that is beside the launcher's own unit, so that what becomes of that unit does nothing to
//! them, and with control groups that systemd leaves to them.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{LauncherConfig, SupervisorProgram};
use crate::cgroup::{Enforced, Ground, Site};
use crate::supervisor::PROBE_ARGUMENT;

/// Distinguishes the scopes of one process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Where supervisors and the control groups of attempts belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In the launcher's own control group.
    Own,
    /// Supervisors in the launcher's own; the groups in this directory, in a hierarchy of version 2.
    At(PathBuf),
    /// Each supervisor in a scope of systemd's, which the groups are made in.
    Scope(Scope),
}

/// How scopes are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The slice that they belong to.
    slice: String,
    /// Variables by which the user's own systemd is reached; none for the machine's.
    user: Vec<(OsString, OsString)>,
}

impl Scope {
    /// Scopes of the machine's systemd, if that is what runs it.
    #[must_use]
    pub fn of_machine(slice: &str) -> Option<Self> {
        // What sd_booted(3) looks at.
        Path::new("/run/systemd/system").is_dir().then(|| Self {
            slice: slice.to_owned(),
            user: Vec::new(),
        })
    }

    /// A command that becomes `program` in a scope of its own, with the same process id; arguments are to follow.
    pub(super) fn command(&self, program: &SupervisorProgram) -> Command {
        let own = std::process::id();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut command = Command::new("systemd-run");
        command.env_clear().envs(self.user.iter().cloned());
        if !self.user.is_empty() {
            command.arg("--user");
        }
        command
            .args(["--scope", "--quiet", "--collect", "--property=Delegate=yes"])
            // At a shutdown the machine's systemd would ask jobs to end, and their ends would be told as their own
            // doing; killed together with its supervisor, a job is told as what it is: lost with its machine.
            .args(["--property=KillSignal=SIGKILL", "--property=SendSIGHUP=no"])
            .arg(format!("--slice={}", self.slice))
            .arg(format!("--unit=haul-supervisor-{own}-{number}"))
            .arg("--")
            .arg(real_path(program));
        command
    }
}

/// `/proc/self` would be systemd-run itself.
fn real_path(program: &SupervisorProgram) -> PathBuf {
    let path = Path::new(&program.0);
    path.strip_prefix("/proc/self").map_or_else(
        |_| path.to_owned(),
        |rest| Path::new("/proc").join(std::process::id().to_string()).join(rest),
    )
}

impl Placement {
    /// What supervisors that are placed so make of their control groups.
    pub(super) fn ground(&self) -> Ground {
        match self {
            Self::Own => Ground::Own,
            Self::At(groups) => Ground::At(groups.clone()),
            Self::Scope(_) => Ground::Delegated,
        }
    }
}

/// What can be limited in supervisors that are made so.
pub(super) fn enforced(config: &LauncherConfig) -> Enforced {
    match &config.placement {
        Placement::Scope(scope) => probe(scope.command(&config.program)).unwrap_or_default(),
        placement => Site::find(&placement.ground()).enforced(),
    }
}

/// Has a process look from within a scope.
fn probe(mut command: Command) -> Option<Enforced> {
    let output = command
        .arg(PROBE_ARGUMENT)
        .process_group(0)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .ok()?;
    let enforced: Enforced = postcard::from_bytes(&output.stdout).ok()?;
    Some(Enforced {
        in_scope: true,
        ..enforced
    })
}

//! Making the process of a supervisor.

use std::fs::{DirBuilder, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::books::SupervisorNumber;
use super::{LauncherConfig, Placement, StartError};
use crate::supervisor::ARGUMENT;
use crate::supervisors_dir::LOG;

/// How much of a failed supervisor's log goes into the error.
const LOG_TAIL: usize = 1000;

/// Makes the directory and starts the process; returns this side of its channel.
pub(super) fn spawn(
    config: &LauncherConfig,
    state_dir: &Path,
    number: SupervisorNumber,
    directory: &Path,
) -> Result<(StdStream, Child), StartError> {
    let prepare = |path: &Path| {
        let path = path.to_owned();
        |source| StartError::Prepare { path, source }
    };
    DirBuilder::new()
        .mode(0o700)
        .create(directory)
        .map_err(prepare(directory))?;
    let log = directory.join(LOG);
    let log_file = File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&log)
        .map_err(prepare(&log))?;
    let (ours, theirs) = StdStream::pair().map_err(prepare(directory))?;
    let mut command = match &config.placement {
        Placement::Scope(scope) => scope.command(&config.program),
        Placement::Own | Placement::At(_) => {
            let mut command = Command::new(&config.program.0);
            command.arg0("haul-supervisor").env_clear();
            command
        }
    };
    command.arg(ARGUMENT).arg(state_dir).arg(number.to_string());
    command.args(config.placement.ground().to_argument());
    let child = command
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(log_file)
        .spawn()
        .map_err(|source| StartError::Spawn {
            program: (&config.program.0).into(),
            source,
        })?;
    Ok((ours, child))
}

/// The end of what the supervisor said.
pub(super) fn log_tail(directory: &Path) -> String {
    let text = std::fs::read_to_string(directory.join(LOG)).unwrap_or_default();
    let text = text.trim_end();
    let start = text.ceil_char_boundary(text.len().saturating_sub(LOG_TAIL));
    if text.is_empty() {
        "without a word".to_owned()
    } else {
        text[start..].to_owned()
    }
}

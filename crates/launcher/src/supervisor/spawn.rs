//! Making the process of an attempt.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FileType, OFlags};

use crate::order::{AttemptOrder, Outcome, StartStep};
use crate::process_table::{MARK_NAMES, marks};
use crate::user::JobUser;

/// Where programs are looked for when the order has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Bytes of a subject or message that fit a journal's record.
const MAX_SUBJECT: usize = 240;
const MAX_MESSAGE: usize = 96;

/// Starts the process, as that user if one is given, and returns its id, or how that failed.
pub(super) fn spawn(order: &AttemptOrder, user: Option<&JobUser>) -> Result<i32, Outcome> {
    let open = |path: &Path| match user {
        None => open_output(path),
        Some(user) => open_output_beneath(user, path),
    };
    let stdout =
        open(&order.stdout).map_err(|e| failed(StartStep::OpenStdout, order.stdout.as_os_str(), &e))?;
    let stderr =
        open(&order.stderr).map_err(|e| failed(StartStep::OpenStderr, order.stderr.as_os_str(), &e))?;
    let program = find_program(order)?;
    // The full path keeps the standard library on its fast way (posix_spawn); it would fork and search `PATH` itself.
    let mut command = Command::new(&program);
    command
        .arg0(&order.program)
        .args(&order.args)
        .current_dir(&order.cwd)
        .env_clear()
        .envs(order.env.iter().map(|(name, value)| (name, value)))
        .envs(MARK_NAMES.iter().zip(marks(order.attempt)))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr))
        .process_group(0);
    if let Some(user) = user {
        // Supplementary groups are dropped with it. The directory is entered as the new user.
        command.uid(user.uid).gid(user.gid);
    }
    match command.spawn() {
        Ok(child) => Ok(child.id().cast_signed()),
        Err(error) if !order.cwd.is_dir() => {
            Err(failed(StartStep::EnterDirectory, order.cwd.as_os_str(), &error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && program.exists() => {
            let missing = io::Error::new(io::ErrorKind::NotFound, "its interpreter does not exist");
            let mut outcome = failed(StartStep::Execute, program.as_os_str(), &missing);
            if let Outcome::StartFailed { errno, .. } = &mut outcome {
                *errno = error.raw_os_error().unwrap_or_default();
            }
            Err(outcome)
        }
        Err(error) => Err(failed(StartStep::Execute, program.as_os_str(), &error)),
    }
}

fn open_output(path: &Path) -> io::Result<File> {
    // O_CLOEXEC is the standard library's own doing.
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// The file is somebody else's, who might put a link or another file in its place: the kernel resolves the path beneath
/// the one directory, and only a plain file of the owner with this one name is taken.
fn open_output_beneath(user: &JobUser, path: &Path) -> io::Result<File> {
    let relative = path
        .strip_prefix(&user.streams)
        .map_err(|_| io::Error::from(rustix::io::Errno::XDEV))?;
    let file = crate::beneath::open_dir(&user.streams)
        .and_then(|root| crate::beneath::open_at(&root, relative, OFlags::WRONLY | OFlags::APPEND))?;
    let found = rustix::fs::fstat(&file)?;
    let plain = FileType::from_raw_mode(found.st_mode).is_file();
    if !plain || found.st_uid != user.owner || found.st_nlink != 1 {
        return Err(rustix::io::Errno::PERM.into());
    }
    Ok(file.into())
}

/// The program's absolute path.
fn find_program(order: &AttemptOrder) -> Result<PathBuf, Outcome> {
    let name = Path::new(&order.program);
    if order.program.as_bytes().contains(&b'/') {
        return Ok(order.cwd.join(name));
    }
    let path = order
        .env
        .iter()
        .rev()
        .find(|(name, _)| name == "PATH")
        .map(|(_, value)| value.as_os_str());
    let mut refused = None;
    for directory in std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        let candidate = order.cwd.join(directory).join(name);
        match candidate.metadata() {
            Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => return Ok(candidate),
            Ok(found) if found.is_file() => {
                refused.get_or_insert((candidate, io::Error::from(rustix::io::Errno::ACCESS)));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                refused.get_or_insert((candidate, error));
            }
            Err(_) => {}
        }
    }
    Err(match refused {
        Some((candidate, error)) => failed(StartStep::FindProgram, candidate.as_os_str(), &error),
        None => failed(
            StartStep::FindProgram,
            &order.program,
            &rustix::io::Errno::NOENT.into(),
        ),
    })
}

pub(super) fn failed(step: StartStep, subject: &OsStr, error: &io::Error) -> Outcome {
    let subject = String::from_utf8_lossy(&subject.to_owned().into_vec()).into_owned();
    Outcome::StartFailed {
        step,
        subject: clipped(subject, MAX_SUBJECT),
        errno: error.raw_os_error().unwrap_or_default(),
        message: clipped(error.to_string(), MAX_MESSAGE),
    }
}

/// At most `limit` bytes of `text`, with a mark where something was cut.
fn clipped(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{ExitRecord, Stopped, Usage};
    use haul_types::{AttemptId, JobId};
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn every_failure_fits_the_journal(subject in "\\PC{0,600}", message in "\\PC{0,300}") {
            let outcome = failed(StartStep::OpenStdout, OsStr::new(&subject), &io::Error::other(message));
            let record = ExitRecord {
                attempt: AttemptId::new(JobId::random(), u32::MAX, u32::MAX),
                outcome,
                stopped: Some(Stopped::Canceled),
                killed_leftovers: u32::MAX,
                oom_kills: u32::MAX,
                started_unix_ms: u64::MAX,
                duration: Duration::MAX,
                usage: Usage { cpu: Duration::MAX, max_rss_bytes: Some(u64::MAX) },
            };
            let directory = tempfile::tempdir().unwrap();
            let file = File::options().read(true).write(true).create_new(true).open(directory.path().join("j")).unwrap();
            let mut journal = crate::journal::Journal::create(file).unwrap();
            journal.append(&crate::journal::Record::Ended(record)).unwrap();
        }
    }
}

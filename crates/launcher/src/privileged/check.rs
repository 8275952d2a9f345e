//! What an agent may ask for.
//!
//! Names are checked here, by the kernel where links could be in the way. What could change afterwards is opened again,
//! in the same manner, by whoever uses it: the supervisor its files, the job's user its directory.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{PrivilegedConfig, STREAMS, WORK};
use crate::beneath::{open_at, open_dir};
use crate::order::AttemptOrder;

/// Arguments and variables together; Linux takes 2 MiB by default.
const MAX_TEXT_BYTES: usize = 2 << 20;
/// Arguments and variables, counted.
const MAX_TEXTS: usize = 65_536;

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{} is not one of the agent's working directories", .0.display())]
    Workdir(PathBuf),
    #[error("{} does not lead to a directory within the working directory", .0.display())]
    Cwd(PathBuf),
    #[error("{} does not lead to one of the agent's stream files", .0.display())]
    Stream(PathBuf),
    #[error("attempts are counted from 1")]
    Attempt,
    #[error("no program is named")]
    Program,
    #[error("arguments and variables are too long, or too many")]
    TooLong,
    #[error("an argument or variable is not well-formed")]
    Malformed,
    #[error("every user for jobs is taken; this launcher has {0}")]
    NoUser(u32),
    #[error("an attempt has the directory")]
    InUse,
    #[error(transparent)]
    Change(#[from] super::ownership::ChangeError),
    #[error(transparent)]
    Start(#[from] crate::StartError),
}

/// The working directory's handle, if it is one of the agent's.
pub(super) fn workdir(config: &PrivilegedConfig, path: &Path) -> Result<OwnedFd, Refusal> {
    let refused = || Refusal::Workdir(path.to_owned());
    let root = config.agent_dir.join(WORK);
    let name = path.strip_prefix(&root).map_err(|_| refused())?.as_os_str();
    let is_number = !name.is_empty() && name.len() <= 20 && name.as_bytes().iter().all(u8::is_ascii_digit);
    if !is_number || root.join(name) != path {
        return Err(refused());
    }
    let opened =
        open_dir(&root).and_then(|root| open_at(root, Path::new(name), OFlags::PATH | OFlags::DIRECTORY));
    let opened = opened.map_err(|_| refused())?;
    let owner = rustix::fs::fstat(&opened).map_err(|_| refused())?.st_uid;
    (owner == config.agent_uid).then_some(opened).ok_or_else(refused)
}

/// Whether the order may be given, in the working directory of that handle.
pub(super) fn order(
    config: &PrivilegedConfig,
    order: &AttemptOrder,
    workdir_path: &Path,
    workdir: &OwnedFd,
) -> Result<(), Refusal> {
    if order.attempt.attempt == 0 {
        return Err(Refusal::Attempt);
    }
    if order.program.is_empty() {
        return Err(Refusal::Program);
    }
    texts(order)?;
    let cwd = || Refusal::Cwd(order.cwd.clone());
    let within = order.cwd.strip_prefix(workdir_path).map_err(|_| cwd())?;
    let plain = within
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !plain || !within.starts_with("tree") {
        return Err(cwd());
    }
    open_at(workdir, within, OFlags::PATH | OFlags::DIRECTORY).map_err(|_| cwd())?;
    let streams = config.agent_dir.join(STREAMS);
    for path in [&order.stdout, &order.stderr] {
        stream(config, &streams, path).map_err(|_| Refusal::Stream(path.clone()))?;
    }
    Ok(())
}

fn stream(config: &PrivilegedConfig, streams: &Path, path: &Path) -> Result<(), Errno> {
    let within = path.strip_prefix(streams).map_err(|_| Errno::XDEV)?;
    let found = rustix::fs::fstat(open_at(open_dir(streams)?, within, OFlags::PATH)?)?;
    let plain = rustix::fs::FileType::from_raw_mode(found.st_mode).is_file();
    (plain && found.st_uid == config.agent_uid)
        .then_some(())
        .ok_or(Errno::PERM)
}

fn texts(order: &AttemptOrder) -> Result<(), Refusal> {
    let variables = order.env.iter().flat_map(|(name, value)| [name, value]);
    let all: Vec<&OsString> = [&order.program]
        .into_iter()
        .chain(&order.args)
        .chain(variables)
        .collect();
    let bytes: usize = all.iter().map(|text| text.len() + 1).sum();
    if all.len() > MAX_TEXTS || bytes > MAX_TEXT_BYTES {
        return Err(Refusal::TooLong);
    }
    let has = |text: &OsStr, byte: u8| text.as_bytes().contains(&byte);
    let bad_name = order
        .env
        .iter()
        .any(|(name, _)| name.is_empty() || has(name, b'='));
    let paths = [&order.cwd, &order.stdout, &order.stderr];
    let bad_text = all.iter().any(|text| has(text, 0)) || paths.iter().any(|path| has(path.as_os_str(), 0));
    if bad_name || bad_text {
        return Err(Refusal::Malformed);
    }
    Ok(())
}

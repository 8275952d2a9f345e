//! Whose a state directory is: looked at before anything in it is touched. Root that is to make something in it becomes that
//! user first.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Gid, Uid};

/// A state directory that this user cannot use.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// It is another user's.
    #[error(
        "{} belongs to the user with the number {owner}, and this is user {own}: run as that user, or give \
         another --state-dir", path.display()
    )]
    Other {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        own: u32,
    },
    /// It is where this user may not look.
    #[error("cannot look at {}: run as the user whose it is, or give another --state-dir", path.display())]
    Hidden {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Looks whether `state_dir` is this user's, if it is there. Root may use everybody's.
pub fn ensure_own(state_dir: &Path) -> Result<(), OwnerError> {
    ensure_owned_by(rustix::process::geteuid().as_raw(), state_dir)
}

fn ensure_owned_by(own: u32, state_dir: &Path) -> Result<(), OwnerError> {
    let path = state_dir.to_owned();
    match std::fs::metadata(state_dir) {
        Ok(found) if own != 0 && found.uid() != own => Err(OwnerError::Other {
            path,
            owner: found.uid(),
            own,
        }),
        Err(source) if source.kind() == ErrorKind::PermissionDenied => {
            Err(OwnerError::Hidden { path, source })
        }
        // What else is wrong with it is told by whoever opens it.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// What root has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acting {
    /// The user that the directory belongs to, or whoever this was: what is made will be read by the same user.
    AsOwner,
    /// Root still: the directory is root's, or will be.
    AsRoot,
}

/// Root becomes the user that `directory` belongs to, for good; anybody else stays who he is. So what root makes there
/// belongs to the daemon that will read it, and a directory of somebody else's leads root nowhere.
///
/// To be called before this process has another thread: each has users of its own.
pub fn become_owner(directory: &Path) -> io::Result<Acting> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Acting::AsOwner);
    }
    let owner = match std::fs::metadata(directory) {
        Ok(found) if found.uid() != 0 => found,
        Ok(_) => return Ok(Acting::AsRoot),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Acting::AsRoot),
        Err(error) => return Err(error),
    };
    let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    rustix::thread::set_thread_groups(&[gid])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(Acting::AsOwner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_users_directory_is_refused_and_a_missing_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let owner = std::fs::metadata(directory.path()).unwrap().uid();
        assert!(ensure_owned_by(owner, directory.path()).is_ok());
        assert!(ensure_owned_by(0, directory.path()).is_ok());
        assert!(ensure_owned_by(owner + 1, &directory.path().join("none")).is_ok());
        let error = ensure_owned_by(owner + 1, directory.path()).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&directory.path().display().to_string()), "{said}");
        assert!(said.contains("--state-dir"), "{said}");
    }
}

//! Handing a directory over, from one owner to another.
//!
//! Whoever owns the tree may change it while it is walked: rename directories, put links where files were. So nothing
//! is done by path. Each thing is opened beneath its directory's handle, without following a link; the handle is asked
//! what it is and whose; and the same handle is given away. What belongs to anybody else than the one owner stays as it
//! is, whatever name it has here; so a link in the tree to somebody's file, of either kind, gives nothing away.
//!
//! The kernel takes the bits from a file that would let it run as its owner.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Uid};
use rustix::io::Errno;

use crate::beneath::open_at;

/// Room for the names of one `getdents64` call.
const LIST_BUFFER: usize = 32 << 10;
/// Directories within directories, at most: each takes a handle.
const MAX_DEPTH: usize = 256;

/// From whom to whom.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// Owners whose things are given away.
    pub(super) from: RangeInclusive<u32>,
    pub(super) to: u32,
    pub(super) group: u32,
    /// Whether files that have other names are given away too. Not when the other name may be where the new owner is
    /// not to reach; those that a job makes are its own wherever they are.
    pub(super) several_names: bool,
}

/// Why a directory could not be handed over; part of it may be.
#[derive(Debug, thiserror::Error)]
#[error("handing over {path}")]
pub(crate) struct ChangeError {
    path: String,
    #[source]
    source: io::Error,
}

impl ChangeError {
    /// Whether there is nothing of that name.
    pub(super) fn is_absence(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Gives `name` in `parent` and all that is in it away. The directory itself is closed to all but its owner.
pub(super) fn change(parent: BorrowedFd<'_>, name: &Path, change: &Change) -> Result<(), ChangeError> {
    let failed = |errno: Errno| ChangeError {
        path: name.display().to_string(),
        source: errno.into(),
    };
    let top = open_at(parent, name, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
    let found = rustix::fs::fstat(&top).map_err(failed)?;
    if found.st_uid != change.to && !change.from.contains(&found.st_uid) {
        return Err(failed(Errno::PERM));
    }
    rustix::fs::fchmod(&top, Mode::RWXU).map_err(failed)?;
    change.give(top.as_fd(), &found).map_err(failed)?;
    change.walk(top, name)
}

impl Change {
    /// Goes through all directories, one handle for each level.
    fn walk(&self, top: OwnedFd, name: &Path) -> Result<(), ChangeError> {
        let mut levels = vec![Level::list(top, name.display().to_string())?];
        while let Some(level) = levels.last_mut() {
            let Some((entry, kind)) = level.entries.pop() else {
                levels.pop();
                continue;
            };
            let path = format!("{}/{}", level.path, String::from_utf8_lossy(&entry));
            let inner = self
                .visit(level.dir.as_fd(), &entry, kind)
                .map_err(|errno| ChangeError {
                    path: path.clone(),
                    source: errno.into(),
                })?;
            if let Some(inner) = inner {
                if levels.len() >= MAX_DEPTH {
                    let source = Errno::NAMETOOLONG.into();
                    return Err(ChangeError { path, source });
                }
                levels.push(Level::list(inner, path)?);
            }
        }
        Ok(())
    }

    /// Gives one thing away; a directory is returned, to be gone through.
    fn visit(&self, dir: BorrowedFd<'_>, name: &[u8], kind: FileType) -> Result<Option<OwnedFd>, Errno> {
        if !matches!(
            kind,
            FileType::RegularFile | FileType::Directory | FileType::Symlink | FileType::Unknown
        ) {
            return Ok(None);
        }
        // A link is opened as such.
        let handle = match open_at(dir, Path::new(OsStr::from_bytes(name)), OFlags::PATH) {
            // Gone, or on its way elsewhere.
            Err(Errno::NOENT) => return Ok(None),
            opened => opened?,
        };
        let found = rustix::fs::fstat(&handle)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                if !self.from.contains(&found.st_uid) && found.st_uid != self.to {
                    return Ok(None);
                }
                self.give(handle.as_fd(), &found)?;
                open_at(&handle, Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY).map(Some)
            }
            FileType::RegularFile | FileType::Symlink if found.st_nlink == 1 || self.several_names => {
                self.give(handle.as_fd(), &found).map(|()| None)
            }
            _ => Ok(None),
        }
    }

    fn give(&self, handle: BorrowedFd<'_>, found: &Stat) -> Result<(), Errno> {
        if !self.from.contains(&found.st_uid) {
            return Ok(());
        }
        rustix::fs::chownat(
            handle,
            "",
            Some(Uid::from_raw(self.to)),
            Some(Gid::from_raw(self.group)),
            AtFlags::EMPTY_PATH,
        )
    }
}

/// A directory that is being gone through.
struct Level {
    dir: OwnedFd,
    path: String,
    entries: Vec<(Vec<u8>, FileType)>,
}

impl Level {
    fn list(dir: OwnedFd, path: String) -> Result<Self, ChangeError> {
        let mut entries = Vec::new();
        let mut buffer = vec![MaybeUninit::uninit(); LIST_BUFFER];
        let mut listing = RawDir::new(&dir, &mut buffer);
        while let Some(entry) = listing.next() {
            match entry {
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Ok(entry) => entries.push((entry.file_name().to_bytes().to_vec(), entry.file_type())),
                Err(errno) => {
                    let source = errno.into();
                    return Err(ChangeError { path, source });
                }
            }
        }
        Ok(Self { dir, path, entries })
    }
}

#[cfg(test)]
mod tests;

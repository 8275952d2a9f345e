//! Removes trees in whatever state a job left them.
//!
//! Links are removed, never followed. Directories that may not be read or written are made so first. Memory, stack and
//! open files stay bounded however deep the tree is: below [`MAX_OPEN`] levels, directories are moved up to the top
//! and removed from there.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{UnpackError, root_error};
use crate::beneath::{self, Beneath, LIST_BUFFER};

/// Levels of directories that are open at once.
const MAX_OPEN: usize = 32;

/// Removes `dir` and all that is in it. That it is gone already is fine.
pub fn remove_tree(dir: &Path) -> Result<(), UnpackError> {
    let root = match open_any(dir) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(root_error(dir, errno)),
    };
    let failed = |(path, errno): (Vec<u8>, Errno)| UnpackError::Io {
        dir: dir.to_owned(),
        action: "remove",
        path: path.into(),
        source: errno.into(),
    };
    Remover::new(root.fd()).empty(root.fd(), 0).map_err(failed)?;
    std::fs::remove_dir(dir).map_err(|source| UnpackError::Root {
        dir: dir.to_owned(),
        source,
    })
}

/// Opens a root that may have lost its permissions.
pub(super) fn open_any(dir: &Path) -> Result<Beneath, Errno> {
    match Beneath::open_itself(dir) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmod(dir, Mode::RWXU)?;
            Beneath::open_itself(dir)
        }
        Ok(root) => {
            if rustix::fs::fstat(root.fd())?.st_mode & 0o700 != 0o700 {
                rustix::fs::fchmod(root.fd(), Mode::RWXU)?;
            }
            Ok(root)
        }
        Err(errno) => Err(errno),
    }
}

/// Lets the owner use the directory `name`, which nobody else changes meanwhile.
pub(super) fn unlock(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty())
}

/// Removes things beneath one top directory.
pub(super) struct Remover<'a> {
    top: BorrowedFd<'a>,
    /// Directories moved up so far, for their names.
    moved: u64,
    pending: Vec<Vec<u8>>,
}

type Failed = (Vec<u8>, Errno);

impl<'a> Remover<'a> {
    pub(super) fn new(top: BorrowedFd<'a>) -> Self {
        Self {
            top,
            moved: 0,
            pending: Vec::new(),
        }
    }

    /// Removes `name` in `dir`, whatever it is.
    pub(super) fn remove(&mut self, dir: BorrowedFd<'_>, name: &[u8], is_dir: bool) -> Result<(), Failed> {
        self.remove_at(dir, name, is_dir, 0)?;
        self.settle()
    }

    /// Removes all that is in `dir`.
    pub(super) fn empty(&mut self, dir: BorrowedFd<'_>, depth: usize) -> Result<(), Failed> {
        self.empty_at(dir, depth)?;
        self.settle()
    }

    fn settle(&mut self) -> Result<(), Failed> {
        while let Some(name) = self.pending.pop() {
            self.remove_at(self.top, &name, true, 0)?;
        }
        Ok(())
    }

    fn empty_at(&mut self, dir: BorrowedFd<'_>, depth: usize) -> Result<(), Failed> {
        let mut buffer = vec![MaybeUninit::uninit(); LIST_BUFFER];
        let names = beneath::list(dir, &mut buffer).map_err(|errno| (b".".to_vec(), errno))?;
        drop(buffer);
        for listed in names {
            self.remove_at(dir, &listed.name, listed.kind.is_dir(), depth)?;
        }
        Ok(())
    }

    fn remove_at(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        is_dir: bool,
        depth: usize,
    ) -> Result<(), Failed> {
        let failed = |errno| (name.to_vec(), errno);
        if !is_dir {
            return rustix::fs::unlinkat(dir, name, AtFlags::empty()).map_err(failed);
        }
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            removed => return removed.map_err(failed),
        }
        let stamp = beneath::stamp_at(dir, name).map_err(failed)?;
        if stamp.raw_mode & 0o700 != 0o700 {
            unlock(dir, name).map_err(failed)?;
        }
        if depth >= MAX_OPEN {
            return self.move_up(dir, name).map_err(failed);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(failed)?;
        self.empty_at(inner.as_fd(), depth + 1)?;
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            // On some file systems a listing misses names while others are removed: once more.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                self.empty_at(inner.as_fd(), depth + 1)?;
                rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).map_err(failed)
            }
            removed => removed.map_err(failed),
        }
    }

    /// Moves a deep directory to the top, to be removed from there.
    fn move_up(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        loop {
            let to = format!(".haul-removing-{}", self.moved).into_bytes();
            self.moved += 1;
            match rustix::fs::renameat_with(dir, name, self.top, to.as_slice(), RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                Ok(()) => {
                    self.pending.push(to);
                    return Ok(());
                }
                Err(errno) => return Err(errno),
            }
        }
    }
}

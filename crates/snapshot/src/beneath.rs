//! System calls on what is beneath one directory, and never outside it.
//!
//! Every path is resolved by the kernel with `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)`, so neither `..` nor a
//! symbolic link that somebody puts in the way leads out. Linux 5.6 or later.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use crate::stamp::Stamp;

/// Room for the names of one `getdents64` call.
pub(crate) const LIST_BUFFER: usize = 32 << 10;

/// A handle on the directory that bounds everything.
#[derive(Debug)]
pub(crate) struct Beneath(OwnedFd);

/// One name in a directory.
pub(crate) struct Listed {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: FileType,
}

impl Beneath {
    /// Opens the bounding directory itself; the path to it may go through links.
    pub(crate) fn open(root: &Path) -> Result<Self, Errno> {
        rustix::fs::open(
            root,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map(Self)
    }

    fn openat(&self, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        rustix::fs::openat2(
            &self.0,
            path,
            flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            mode,
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )
    }

    /// Opens a directory; the empty path is the root.
    pub(crate) fn dir(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.openat(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// Opens a file for reading. It does not block on a FIFO; the caller checks what it got.
    pub(crate) fn read(&self, path: &[u8]) -> Result<File, Errno> {
        self.openat(
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
            Mode::empty(),
        )
        .map(File::from)
    }

    /// The root's own handle.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Lists a directory, without `.` and `..`. File systems that do not tell kinds are asked by stat.
pub(crate) fn list(dir: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> Result<Vec<Listed>, Errno> {
    let mut names = Vec::new();
    let mut entries = RawDir::new(dir, buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            kind = FileType::from_raw_mode(stat.st_mode);
        }
        names.push(Listed {
            name: name.to_vec(),
            kind,
        });
    }
    Ok(names)
}

/// What is at `name` in `dir`, links not followed.
pub(crate) fn stamp_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Stamp, Errno> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| Stamp::from(&stat))
}

/// What an open file is.
pub(crate) fn stamp_of(fd: impl AsFd) -> Result<Stamp, Errno> {
    rustix::fs::fstat(fd).map(|stat| Stamp::from(&stat))
}

/// `name` within `dir`.
pub(crate) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    if !dir.is_empty() {
        path.extend_from_slice(dir);
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

impl Beneath {
    /// Opens the bounding directory; the last component of the path may not be a link.
    pub(crate) fn open_itself(root: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::open(root, flags, Mode::empty()).map(Self)
    }

    /// Creates a file that must not exist. The umask may take bits from its mode.
    pub(crate) fn make_file(&self, path: &[u8], mode: u16) -> Result<File, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        self.openat(path, flags, Mode::from_raw_mode(mode.into()))
            .map(File::from)
    }

    /// Opens an existing file for writing.
    pub(crate) fn write(&self, path: &[u8]) -> Result<File, Errno> {
        self.openat(
            path,
            OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
            Mode::empty(),
        )
        .map(File::from)
    }

    /// A handle on the directory that holds `path`, and the name in it.
    pub(crate) fn parent<'a>(&self, path: &'a [u8]) -> Result<(OwnedFd, &'a [u8]), Errno> {
        let (dir, name): (&[u8], _) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (b"", path),
        };
        Ok((self.dir(dir)?, name))
    }

    /// Makes a directory that only its owner may use.
    pub(crate) fn make_dir(&self, path: &[u8]) -> Result<(), Errno> {
        let (parent, name) = self.parent(path)?;
        rustix::fs::mkdirat(parent, name, Mode::RWXU)
    }

    /// Removes what is no directory.
    pub(crate) fn unlink(&self, path: &[u8]) -> Result<(), Errno> {
        let (parent, name) = self.parent(path)?;
        rustix::fs::unlinkat(parent, name, AtFlags::empty())
    }

    /// What is at `path`, links not followed; the directories on the way may not be links.
    pub(crate) fn stamp(&self, path: &[u8]) -> Result<Stamp, Errno> {
        let (parent, name) = self.parent(path)?;
        stamp_at(parent.as_fd(), name)
    }
}

//! Makes a tree that a job used pristine again, without writing what it did not touch.
//!
//! All the job's processes are gone, so nothing changes meanwhile. The directory is walked once. What the new manifest
//! does not hold is removed. A file stays if its [stamp](crate::stamp) is the recorded one and so proves that nobody
//! changed it (content, mode, owner, attributes and links all move the ctime, which nobody without root can set); if
//! the recorded ctime is too near the moment of handing over to prove anything, the file is read and hashed. Every
//! other file is removed and written anew, as a new file: what the job may have linked elsewhere is not written to.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use haul_types::Digest;
use rustix::fs::Mode;
use rustix::io::Errno;

use super::remove::{Remover, open_any, unlock};
use super::state::{Recorded, content_digest};
use super::{Materializer, TreeState, UnpackError, root_error};
use crate::MAX_CHUNK;
use crate::beneath::{self, Beneath, LIST_BUFFER, Listed};
use crate::manifest::{Chunk, EntryKind, Manifest, path_order};
use crate::stamp::Stamp;
use crate::workers::work_off;

/// Threads of a reset: it is bound by system calls that different directories do not share locks for.
const THREADS: usize = 2;

/// A tree on its way back to a manifest.
#[derive(Debug)]
pub struct ResetPlan {
    /// Writes what is missing; [`Materializer::finish`] at once if nothing is.
    pub materializer: Materializer,
    /// Entries that stayed.
    pub kept: usize,
    /// Things removed at the top of what was removed: a directory with all that is in it counts once.
    pub removed: usize,
    /// Files that had to be read, because their times proved nothing.
    pub hashed: usize,
}

/// What the walk found.
#[derive(Default)]
struct Part {
    kept: Vec<(usize, Stamp)>,
    removed: usize,
    hashed: usize,
    error: Option<(&'static str, Vec<u8>, Errno)>,
}

struct Reset<'a> {
    root: &'a Beneath,
    manifest: &'a Manifest,
    /// Entries of the manifest by path.
    index: HashMap<&'a [u8], usize>,
    /// What is recorded, by entry of the manifest.
    recorded: Vec<Option<&'a Recorded>>,
    state: &'a TreeState,
    extra: HashSet<&'a [u8]>,
}

/// Makes `dir` hold `manifest` and the empty directories `extra_dirs` (plain names), as far as that needs no content.
/// `state` is what [`Materializer::finish`] said of the tree, for this manifest or another.
pub fn reset(
    dir: &Path,
    state: &TreeState,
    manifest: &Manifest,
    extra_dirs: &[&str],
) -> Result<ResetPlan, UnpackError> {
    for name in extra_dirs {
        let plain = !matches!(*name, "" | "." | "..") && !name.contains(['/', '\0']);
        if !plain || manifest.get(name.as_bytes()).is_some() {
            return Err(UnpackError::ExtraDir {
                name: (*name).to_owned(),
            });
        }
    }
    let root = open_any(dir).map_err(|errno| root_error(dir, errno))?;
    let reset = Reset {
        root: &root,
        manifest,
        index: manifest
            .entries()
            .iter()
            .enumerate()
            .map(|(index, entry)| (entry.path.as_slice(), index))
            .collect(),
        recorded: join(manifest, state),
        state,
        extra: extra_dirs.iter().map(|name| name.as_bytes()).collect(),
    };
    let parts = work_off(THREADS, Vec::new(), |path: Vec<u8>, more, part: &mut Part| {
        if part.error.is_none()
            && let Err((action, path, errno)) = reset.visit(&path, more, part)
        {
            part.error = Some((action, path, errno));
        }
    });
    let mut kept = vec![None; manifest.entries().len()];
    let (mut removed, mut hashed, mut count) = (0, 0, 0);
    for part in parts {
        if let Some((action, path, errno)) = part.error {
            return Err(io_error(dir, action, path, errno));
        }
        removed += part.removed;
        hashed += part.hashed;
        count += part.kept.len();
        for (index, stamp) in part.kept {
            kept[index] = Some(stamp);
        }
    }
    for name in extra_dirs {
        match rustix::fs::mkdirat(root.fd(), *name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(io_error(dir, "make directory", name.as_bytes().to_vec(), errno)),
        }
    }
    Ok(ResetPlan {
        materializer: Materializer::prepare(dir, root, manifest, kept, false)?,
        kept: count,
        removed,
        hashed,
    })
}

fn io_error(dir: &Path, action: &'static str, path: Vec<u8>, errno: Errno) -> UnpackError {
    UnpackError::Io {
        dir: dir.to_owned(),
        action,
        path: path.into(),
        source: errno.into(),
    }
}

/// What the state knows of each entry of the manifest; both are in the same order.
fn join<'a>(manifest: &Manifest, state: &'a TreeState) -> Vec<Option<&'a Recorded>> {
    let mut known = state.entries.iter().peekable();
    manifest
        .entries()
        .iter()
        .map(|entry| {
            while known
                .next_if(|known| path_order(&known.path, &entry.path).is_lt())
                .is_some()
            {}
            known.next_if(|known| known.path == entry.path)
        })
        .collect()
}

type Failed = (&'static str, Vec<u8>, Errno);

impl Reset<'_> {
    /// Looks at everything in one directory.
    fn visit(&self, path: &[u8], more: &mut Vec<Vec<u8>>, part: &mut Part) -> Result<(), Failed> {
        let failed = |errno| ("list", path.to_vec(), errno);
        let dir = self.root.dir(path).map_err(failed)?;
        let mut buffer = vec![MaybeUninit::uninit(); LIST_BUFFER];
        for listed in beneath::list(dir.as_fd(), &mut buffer).map_err(failed)? {
            let inner = beneath::join(path, &listed.name);
            let failed = |errno| ("look at", inner.clone(), errno);
            let is_dir = listed.kind.is_dir();
            if is_dir && path.is_empty() && self.extra.contains(listed.name.as_slice()) {
                self.empty_extra(dir.as_fd(), &listed.name)
                    .map_err(|(path, errno)| ("empty", path, errno))?;
                continue;
            }
            match self.index.get(inner.as_slice()) {
                Some(&index) if self.stays(dir.as_fd(), &listed, index, part).map_err(failed)? => {
                    if is_dir {
                        more.push(inner);
                    }
                }
                _ => {
                    part.removed += 1;
                    Remover::new(dir.as_fd())
                        .remove(dir.as_fd(), &listed.name, is_dir)
                        .map_err(|(name, errno)| ("remove", beneath::join(path, &name), errno))?;
                }
            }
        }
        Ok(())
    }

    /// Whether what is there is what the manifest's entry says; notes it as kept if so.
    fn stays(
        &self,
        dir: BorrowedFd<'_>,
        listed: &Listed,
        index: usize,
        part: &mut Part,
    ) -> Result<bool, Errno> {
        let entry = &self.manifest.entries()[index];
        let stamp = beneath::stamp_at(dir, &listed.name)?;
        let same = match &entry.kind {
            EntryKind::Dir { .. } if stamp.kind().is_dir() => {
                if stamp.raw_mode & 0o700 != 0o700 {
                    unlock(dir, &listed.name)?;
                }
                true
            }
            EntryKind::Symlink { target } if stamp.kind().is_symlink() => {
                rustix::fs::readlinkat(dir, listed.name.as_slice(), Vec::new())?.as_bytes() == target
            }
            EntryKind::File { mode, chunks, .. } if stamp.kind().is_file() => {
                let as_recorded = self.recorded[index].is_some_and(|recorded| {
                    recorded.stamp == stamp && recorded.content == content_digest(entry)
                });
                if !as_recorded || stamp.raw_mode & 0o7777 != u32::from(*mode) {
                    false
                } else if stamp.proves_since(self.state.handed_over()) {
                    true
                } else {
                    part.hashed += 1;
                    self.holds(&entry.path, chunks)?
                }
            }
            _ => false,
        };
        if same {
            part.kept.push((index, stamp));
        }
        Ok(same)
    }

    /// Whether the file holds exactly these chunks.
    fn holds(&self, path: &[u8], chunks: &[Chunk]) -> Result<bool, Errno> {
        let mut file = self.root.read(path)?;
        let mut buffer =
            Vec::with_capacity(MAX_CHUNK.min(chunks.first().map_or(0, |chunk| chunk.len as usize)));
        for chunk in chunks {
            buffer.clear();
            let read = Read::by_ref(&mut file)
                .take(chunk.len.into())
                .read_to_end(&mut buffer);
            match read {
                Ok(_) if Digest::of(&buffer) == chunk.digest => {}
                Ok(_) => return Ok(false),
                Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
        }
        Ok(true)
    }

    /// Empties an extra directory; its inode stays.
    fn empty_extra(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), (Vec<u8>, Errno)> {
        let failed = |errno| (name.to_vec(), errno);
        let stamp = beneath::stamp_at(dir, name).map_err(failed)?;
        if stamp.raw_mode & 0o7777 != 0o755 {
            rustix::fs::chmodat(
                dir,
                name,
                Mode::from_raw_mode(0o755),
                rustix::fs::AtFlags::empty(),
            )
            .map_err(failed)?;
        }
        let inner = self.root.dir(name).map_err(failed)?;
        Remover::new(inner.as_fd()).empty(inner.as_fd(), 0)
    }
}

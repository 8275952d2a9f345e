//! Writes chunks to where they belong.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use haul_types::Digest;
use rustix::io::Errno;

use super::state::{Recorded, TreeState, content_digest};
use super::{NAMED, UnpackError};
use crate::beneath::{Beneath, stamp_at, stamp_of};
use crate::bundle::DecodedFrame;
use crate::manifest::{Chunk, EntryKind, Manifest};
use crate::stamp::Stamp;

/// A tree in the making. [`Self::accept`] may be called from several threads at once; each chunk is written once,
/// wherever it is wanted, and a file gets its final mode with its last chunk. Directories get theirs at the end.
#[derive(Debug)]
pub struct Materializer {
    dir: PathBuf,
    root: Beneath,
    manifest: Manifest,
    /// Whether a file in the way is replaced.
    replace: bool,
    /// By entry: what is finished.
    done: Vec<OnceLock<Stamp>>,
    /// By entry: chunks a large file still waits for.
    waiting: Vec<AtomicUsize>,
    wanted: HashMap<Digest, Wanted>,
    missing: AtomicUsize,
}

/// A chunk that is needed.
#[derive(Debug)]
struct Wanted {
    len: u32,
    /// The entries and offsets it belongs to.
    places: Vec<(usize, u64)>,
    taken: AtomicBool,
}

impl Materializer {
    /// Makes everything that needs no content. `kept` says, by entry, what is there already; shorter means nothing is.
    pub(super) fn prepare(
        dir: &Path,
        root: Beneath,
        manifest: &Manifest,
        kept: Vec<Option<Stamp>>,
        replace: bool,
    ) -> Result<Self, UnpackError> {
        let count = manifest.entries().len();
        let mut done: Vec<OnceLock<Stamp>> = kept
            .into_iter()
            .map(|stamp| stamp.map_or_else(OnceLock::new, OnceLock::from))
            .collect();
        done.resize_with(count, OnceLock::new);
        let mut tree = Self {
            dir: dir.to_owned(),
            root,
            manifest: manifest.clone(),
            replace,
            done,
            waiting: (0..count).map(|_| AtomicUsize::new(0)).collect(),
            wanted: HashMap::new(),
            missing: AtomicUsize::new(0),
        };
        for index in 0..count {
            if tree.done[index].get().is_none() {
                tree.begin(index)?;
            }
        }
        tree.missing = AtomicUsize::new(tree.wanted.len());
        Ok(tree)
    }

    fn begin(&mut self, index: usize) -> Result<(), UnpackError> {
        let entry = &self.manifest.entries()[index];
        match &entry.kind {
            EntryKind::Dir { .. } => self
                .root
                .make_dir(&entry.path)
                .map_err(|errno| self.error("make directory", index, errno))?,
            EntryKind::Symlink { target } => {
                let stamp = self.make_link(index, &entry.path, target)?;
                let _ = self.done[index].set(stamp);
            }
            EntryKind::File { size, mode, chunks } => {
                match chunks.len() {
                    0 => {
                        let file = self.make_file(index, *mode)?;
                        self.complete(index, &file, *mode)?;
                    }
                    1 => {}
                    _ => {
                        let file = self.make_file(index, 0o600)?;
                        file.set_len(*size)
                            .map_err(|source| self.io("make room for", index, source))?;
                    }
                }
                *self.waiting[index].get_mut() = chunks.len();
                let mut offset = 0;
                for chunk in chunks {
                    let wanted = self.wanted.entry(chunk.digest).or_insert_with(|| Wanted {
                        len: chunk.len,
                        places: Vec::new(),
                        taken: AtomicBool::new(false),
                    });
                    if wanted.len != chunk.len {
                        return Err(UnpackError::Length {
                            digest: chunk.digest,
                            expected: wanted.len,
                            found: chunk.len as usize,
                        });
                    }
                    wanted.places.push((index, offset));
                    offset += u64::from(chunk.len);
                }
            }
        }
        Ok(())
    }

    /// The chunks that are needed and have not come yet, each once, in no order.
    pub fn needed(&self) -> impl Iterator<Item = Chunk> {
        self.wanted
            .iter()
            .filter(|(_, wanted)| !wanted.taken.load(Ordering::Relaxed))
            .map(|(&digest, wanted)| Chunk {
                digest,
                len: wanted.len,
            })
    }

    /// How many chunks have not come yet.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.missing.load(Ordering::Relaxed)
    }

    /// Writes the chunks of a frame that are needed; others are passed over.
    pub fn accept(&self, frame: &DecodedFrame) -> Result<(), UnpackError> {
        for (digest, content) in frame.iter() {
            self.write(digest, content)?;
        }
        Ok(())
    }

    /// Writes one chunk, which must have been verified, wherever it is needed.
    fn write(&self, digest: Digest, content: &[u8]) -> Result<(), UnpackError> {
        let Some(wanted) = self.wanted.get(&digest) else {
            return Ok(());
        };
        if content.len() != wanted.len as usize {
            return Err(UnpackError::Length {
                digest,
                expected: wanted.len,
                found: content.len(),
            });
        }
        if wanted.taken.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        for &(index, offset) in &wanted.places {
            let entry = &self.manifest.entries()[index];
            let EntryKind::File { mode, chunks, .. } = &entry.kind else {
                continue;
            };
            let file = if chunks.len() == 1 {
                self.make_file(index, *mode)?
            } else {
                self.root
                    .write(&entry.path)
                    .map_err(|errno| self.error("open", index, errno))?
            };
            file.write_all_at(content, offset)
                .map_err(|source| self.io("write", index, source))?;
            if self.waiting[index].fetch_sub(1, Ordering::AcqRel) == 1 {
                self.complete(index, &file, *mode)?;
            }
        }
        self.missing.fetch_sub(1, Ordering::AcqRel);
        Ok(())
    }

    /// Ends the tree: fails if a chunk is missing, sets the directories' modes, and says what the tree is now.
    pub fn finish(self) -> Result<TreeState, UnpackError> {
        let count = self.missing();
        if count > 0 {
            return Err(UnpackError::Missing {
                some: self.needed().take(NAMED).map(|chunk| chunk.digest).collect(),
                count,
            });
        }
        let mut recorded = Vec::with_capacity(self.done.len());
        // From the leaves up: a directory that may not be entered any more is done with.
        for (index, entry) in self.manifest.entries().iter().enumerate().rev() {
            let stamp = match (&entry.kind, self.done[index].get()) {
                (EntryKind::Dir { mode }, _) => self.finish_dir(index, *mode)?,
                (_, Some(stamp)) => *stamp,
                // Kept by a restore that does not touch what exists: nothing is known of it.
                (_, None) => continue,
            };
            recorded.push(Recorded {
                path: entry.path.clone(),
                stamp,
                content: content_digest(entry),
            });
        }
        recorded.reverse();
        Ok(TreeState::new(self.manifest.id(), recorded))
    }

    fn finish_dir(&self, index: usize, mode: u16) -> Result<Stamp, UnpackError> {
        let path = &self.manifest.entries()[index].path;
        let finish = || {
            let dir = self.root.dir(path)?;
            let stamp = stamp_of(&dir)?;
            if stamp.raw_mode & 0o7777 == u32::from(mode) {
                return Ok(stamp);
            }
            rustix::fs::fchmod(&dir, rustix::fs::Mode::from_raw_mode(mode.into()))?;
            stamp_of(&dir)
        };
        finish().map_err(|errno| self.error("set the mode of", index, errno))
    }

    /// Sets a written file's mode, unless creating it did, and notes its stamp.
    fn complete(&self, index: usize, file: &File, mode: u16) -> Result<(), UnpackError> {
        let complete = || {
            let stamp = stamp_of(file)?;
            if stamp.raw_mode & 0o7777 == u32::from(mode) {
                return Ok(stamp);
            }
            // The umask took bits away, or a large file had its provisional mode.
            rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(mode.into()))?;
            stamp_of(file)
        };
        let stamp = complete().map_err(|errno| self.error("set the mode of", index, errno))?;
        let _ = self.done[index].set(stamp);
        Ok(())
    }

    fn make_file(&self, index: usize, mode: u16) -> Result<File, UnpackError> {
        let path = &self.manifest.entries()[index].path;
        let made = match self.root.make_file(path, mode) {
            Err(Errno::EXIST) if self.replace => self
                .root
                .unlink(path)
                .and_then(|()| self.root.make_file(path, mode)),
            made => made,
        };
        made.map_err(|errno| self.error("create", index, errno))
    }

    fn make_link(&self, index: usize, path: &[u8], target: &[u8]) -> Result<Stamp, UnpackError> {
        let make = || {
            let (parent, name) = self.root.parent(path)?;
            match rustix::fs::symlinkat(target, &parent, name) {
                Err(Errno::EXIST) if self.replace => {
                    rustix::fs::unlinkat(&parent, name, rustix::fs::AtFlags::empty())?;
                    rustix::fs::symlinkat(target, &parent, name)?;
                }
                made => made?,
            }
            stamp_at(std::os::fd::AsFd::as_fd(&parent), name)
        };
        make().map_err(|errno| self.error("link", index, errno))
    }

    fn error(&self, action: &'static str, index: usize, errno: Errno) -> UnpackError {
        self.io(action, index, errno.into())
    }

    fn io(&self, action: &'static str, index: usize, source: std::io::Error) -> UnpackError {
        UnpackError::Io {
            dir: self.dir.clone(),
            action,
            path: self.manifest.entries()[index].path.clone().into(),
            source,
        }
    }
}

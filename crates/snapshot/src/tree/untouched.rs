//! Whether a job left a tree as it found it, by a look that changes nothing.
//!
//! Most short jobs do, and then there is nothing to reset. The look costs no more than the manifest has entries: it ends
//! at the first thing that differs or cannot be proved by its times, and leaves that to [`reset`](super::reset()).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::io::Errno;

use super::TreeState;
use super::remove::open_any;
use super::state::content_digest;
use crate::beneath::{self, Listed};
use crate::manifest::{EntryKind, Manifest, path_order};

/// Bytes of a list of names taken at once; on the stack, because small trees are what this is for.
const BUFFER: usize = 4096;

/// Whether `dir` holds exactly `manifest` and the empty directories `extra_dirs`, so that a [`reset`](super::reset()) would
/// change nothing. `state` is what is known of the tree. `false` also where nothing can be proved, or read.
#[must_use]
pub fn is_untouched(dir: &Path, state: &TreeState, manifest: &Manifest, extra_dirs: &[&str]) -> bool {
    state.manifest() == manifest.id() && look(dir, state, manifest, extra_dirs).unwrap_or(false)
}

fn look(dir: &Path, state: &TreeState, manifest: &Manifest, extra_dirs: &[&str]) -> Result<bool, Errno> {
    let root = open_any(dir)?;
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut waiting = vec![Vec::new()];
    let (mut entries, mut extra) = (0, 0);
    while let Some(path) = waiting.pop() {
        let dir = root.dir(&path)?;
        for listed in beneath::list(dir.as_fd(), &mut buffer)? {
            if path.is_empty() && extra_dirs.iter().any(|name| name.as_bytes() == listed.name) {
                let stamp = beneath::stamp_at(dir.as_fd(), &listed.name)?;
                if !stamp.kind().is_dir() || stamp.raw_mode & 0o7777 != 0o755 {
                    return Ok(false);
                }
                let inner = root.dir(&listed.name)?;
                if !beneath::list(inner.as_fd(), &mut buffer)?.is_empty() {
                    return Ok(false);
                }
                extra += 1;
                continue;
            }
            let inner = beneath::join(&path, &listed.name);
            if !is_as_recorded(dir.as_fd(), &listed, &inner, state, manifest)? {
                return Ok(false);
            }
            entries += 1;
            if listed.kind.is_dir() {
                waiting.push(inner);
            }
        }
    }
    Ok(entries == manifest.entries().len() && extra == extra_dirs.len())
}

/// Whether this one thing is what the manifest says, as far as its times prove it.
fn is_as_recorded(
    dir: BorrowedFd<'_>,
    listed: &Listed,
    path: &[u8],
    state: &TreeState,
    manifest: &Manifest,
) -> Result<bool, Errno> {
    let Some(entry) = manifest.get(path) else {
        return Ok(false);
    };
    let stamp = beneath::stamp_at(dir, &listed.name)?;
    let has_mode = |mode: u16| stamp.raw_mode & 0o7777 == u32::from(mode);
    Ok(match &entry.kind {
        // What is in it is looked at by itself.
        EntryKind::Dir { mode } => stamp.kind().is_dir() && has_mode(*mode),
        EntryKind::Symlink { target } => {
            stamp.kind().is_symlink()
                && rustix::fs::readlinkat(dir, listed.name.as_slice(), Vec::new())?.as_bytes() == target
        }
        EntryKind::File { mode, .. } => {
            let known = state
                .entries
                .binary_search_by(|known| path_order(&known.path, path))
                .ok()
                .map(|index| &state.entries[index]);
            stamp.kind().is_file()
                && has_mode(*mode)
                && known.is_some_and(|known| known.stamp == stamp && known.content == content_digest(entry))
                && stamp.proves_since(state.handed_over())
        }
    })
}

//! Writes a manifest into a directory that somebody uses.

use std::path::Path;

use rustix::io::Errno;

use super::{Materializer, NAMED, UnpackError, open_new};
use crate::manifest::{EntryKind, Manifest};

/// What happens to files that exist already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Nothing is written if anything is in the way.
    Refuse,
    /// Files and links are replaced; a directory never is.
    Replace,
    /// They stay as they are.
    Keep,
}

/// Begins restoring `manifest` into `dir`, which is made if need be and may hold other things. Directories that exist
/// are used; one that stands where a file belongs, or the other way round, is an error under every policy but
/// [`Overwrite::Replace`], which replaces the file. Everything is checked before anything is written.
pub fn restore(dir: &Path, manifest: &Manifest, overwrite: Overwrite) -> Result<Materializer, UnpackError> {
    let root = open_new(dir)?;
    let mut kept = Vec::with_capacity(manifest.entries().len());
    let mut in_the_way = Vec::new();
    let mut replaced = Vec::new();
    for entry in manifest.entries() {
        let there = match root.stamp(&entry.path) {
            Ok(stamp) => Some(stamp),
            // ENOTDIR, ELOOP: what should be its directory is in the way itself, and was noted.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            Err(errno) => {
                return Err(UnpackError::Io {
                    dir: dir.to_owned(),
                    action: "look at",
                    path: entry.path.clone().into(),
                    source: errno.into(),
                });
            }
        };
        let wants_dir = matches!(entry.kind, EntryKind::Dir { .. });
        kept.push(match there {
            None => None,
            Some(stamp) if wants_dir && stamp.kind().is_dir() => Some(stamp),
            Some(stamp) if !wants_dir && !stamp.kind().is_dir() && overwrite == Overwrite::Keep => {
                Some(stamp)
            }
            Some(stamp) if !stamp.kind().is_dir() && overwrite == Overwrite::Replace => {
                if wants_dir {
                    replaced.push(&entry.path);
                }
                None
            }
            Some(_) => {
                in_the_way.push(&entry.path);
                None
            }
        });
    }
    if !in_the_way.is_empty() {
        return Err(UnpackError::Exists {
            dir: dir.to_owned(),
            count: in_the_way.len(),
            paths: in_the_way
                .into_iter()
                .take(NAMED)
                .map(|path| path.clone().into())
                .collect(),
        });
    }
    for path in replaced {
        root.unlink(path).map_err(|errno| UnpackError::Io {
            dir: dir.to_owned(),
            action: "replace",
            path: path.clone().into(),
            source: errno.into(),
        })?;
    }
    Materializer::prepare(dir, root, manifest, kept, overwrite == Overwrite::Replace)
}

//! The rules a list of entries keeps.

use std::cmp::Ordering;

use super::{DecodeError, Entry, EntryKind, links};
use crate::MAX_CHUNK;

/// The longest path, in bytes; Linux's own limit.
pub const MAX_PATH: usize = 4096;
/// The longest component of a path, in bytes; Linux's own limit.
pub const MAX_COMPONENT: usize = 255;
/// The most components a path has.
pub const MAX_DEPTH: usize = 256;
/// Files up to this many bytes are one chunk.
pub const WHOLE_FILE: u64 = 512 << 10;
/// The most chunks of one file: as many as fit a page that is itself one chunk. About 130 GB at the usual chunk size.
pub const MAX_FILE_CHUNKS: usize = 110_000;

/// Orders paths component by component: a directory, then all that is in it, then its next sibling.
#[must_use]
pub fn path_order(a: &[u8], b: &[u8]) -> Ordering {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    // No name holds NUL, so the separator can stand in for it as the lowest byte.
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    match (a.get(same), b.get(same)) {
        (Some(&a), Some(&b)) => rank(a).cmp(&rank(b)),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// The path of the directory that holds `path`; empty for the root.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    path.iter()
        .rposition(|&byte| byte == b'/')
        .map_or(&[], |slash| &path[..slash])
}

/// Checks `path` alone.
fn check_path(path: &[u8]) -> Result<(), DecodeError> {
    let bad = |rule: &'static str| DecodeError::Path {
        path: path.to_vec().into(),
        rule,
    };
    if path.is_empty() {
        return Err(bad("is empty"));
    }
    if path.len() > MAX_PATH {
        return Err(bad("is longer than 4096 bytes"));
    }
    if path.contains(&0) {
        return Err(bad("holds a NUL byte"));
    }
    for (depth, component) in path.split(|&byte| byte == b'/').enumerate() {
        if depth >= MAX_DEPTH {
            return Err(bad("is deeper than 256 directories"));
        }
        match component {
            b"" => return Err(bad("is absolute or has an empty component")),
            b"." | b".." => return Err(bad("has a component `.` or `..`")),
            long if long.len() > MAX_COMPONENT => return Err(bad("has a component longer than 255 bytes")),
            _ => {}
        }
    }
    Ok(())
}

/// Checks one entry alone.
pub(super) fn check_entry(entry: &Entry) -> Result<(), DecodeError> {
    check_path(&entry.path)?;
    let bad = |rule: &'static str| DecodeError::Entry {
        path: entry.path.clone().into(),
        rule,
    };
    match &entry.kind {
        EntryKind::Dir { mode } if *mode > 0o777 => Err(bad("has more than permission bits in its mode")),
        EntryKind::Dir { .. } => Ok(()),
        EntryKind::Symlink { target } => {
            links::check_alone(&entry.path, target).map_err(|problem| DecodeError::Link {
                path: entry.path.clone().into(),
                target: target.clone().into(),
                problem,
            })
        }
        EntryKind::File { size, mode, chunks } => {
            if *mode > 0o777 {
                return Err(bad("has more than permission bits in its mode"));
            }
            if chunks.len() > MAX_FILE_CHUNKS {
                return Err(bad("has too many chunks"));
            }
            if *size > 0 && *size <= WHOLE_FILE && chunks.len() != 1 {
                return Err(bad("is small and yet not one chunk"));
            }
            if chunks
                .iter()
                .any(|chunk| chunk.len == 0 || chunk.len as usize > MAX_CHUNK)
            {
                return Err(bad("has an empty or an oversized chunk"));
            }
            let sum: u64 = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
            if sum != *size {
                return Err(bad("has chunks that do not add up to its size"));
            }
            Ok(())
        }
    }
}

/// Checks entries as they come: each by itself, their order, and that each one's directory came before it.
#[derive(Default)]
pub(super) struct Sequence {
    previous: Vec<u8>,
    /// The directories on the way to the last entry; what is not here can no longer get children.
    open: Vec<Vec<u8>>,
}

impl Sequence {
    pub(super) fn push(&mut self, entry: &Entry) -> Result<(), DecodeError> {
        check_entry(entry)?;
        if !self.previous.is_empty() && path_order(&self.previous, &entry.path) != Ordering::Less {
            return Err(DecodeError::Order {
                path: entry.path.clone().into(),
                after: self.previous.clone().into(),
            });
        }
        let parent = parent(&entry.path);
        if parent.is_empty() {
            self.open.clear();
        } else {
            while self.open.last().is_some_and(|open| open != parent) {
                self.open.pop();
            }
            if self.open.is_empty() {
                return Err(DecodeError::Orphan {
                    path: entry.path.clone().into(),
                });
            }
        }
        if matches!(entry.kind, EntryKind::Dir { .. }) {
            self.open.push(entry.path.clone());
        }
        self.previous.clone_from(&entry.path);
        Ok(())
    }
}

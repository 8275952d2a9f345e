//! Remembers the digests of files by their stamps.
//!
//! One file: the BLAKE3 hash of the rest, a version byte, then postcard. It is an optimisation only: one that is
//! missing, torn, of another version or damaged is as good as empty. It is replaced by renaming, so that two scans at
//! once each leave a whole one. Only stamps that [prove](Stamp::proves_since) something are kept.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use haul_types::Digest;
use serde::{Deserialize, Serialize};

use super::hash::Content;
use super::{Found, FoundKind};
use crate::manifest::{Chunk, path_order};
use crate::stamp::Stamp;

const VERSION: u8 = 1;
const HASH: usize = 32;

/// What an earlier scan left, as bytes.
pub(super) struct Cache {
    bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Remembered<'a> {
    path: &'a [u8],
    stamp: Stamp,
    chunks: Vec<([u8; 32], u32)>,
}

impl Cache {
    /// Reads the file; whatever is wrong with it makes an empty cache.
    pub(super) fn load(path: &Path) -> Self {
        Self {
            bytes: fs::read(path).unwrap_or_default(),
        }
    }

    /// The entries, in the order of paths.
    fn entries(&self) -> Vec<Remembered<'_>> {
        let Some((hash, body)) = self.bytes.split_at_checked(HASH) else {
            return Vec::new();
        };
        match body.split_first() {
            Some((&VERSION, rest)) if Digest::of(body).as_bytes() == hash => {
                postcard::from_bytes(rest).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// The contents of the files among `found` (in the order of paths) whose stamps prove them, and whether that is
    /// all there is in the cache.
    pub(super) fn look_up(&self, found: &[Found], started: SystemTime) -> (Vec<Option<Content>>, bool) {
        let known = self.entries();
        let all = known.len();
        let mut known = known.into_iter().peekable();
        let contents: Vec<_> = found
            .iter()
            .map(|found| {
                let FoundKind::File(stamp) = &found.what else {
                    return None;
                };
                while known
                    .next_if(|known| path_order(known.path, &found.path).is_lt())
                    .is_some()
                {}
                let hit = known.next_if(|known| known.path == found.path)?;
                (hit.stamp == *stamp && stamp.proves_since(started)).then(|| Content {
                    stamp: *stamp,
                    chunks: hit
                        .chunks
                        .into_iter()
                        .map(|(digest, len)| Chunk {
                            digest: Digest::from_bytes(digest),
                            len,
                        })
                        .collect(),
                    proven: true,
                })
            })
            .collect();
        let used = contents.iter().flatten().count();
        (contents, used == all)
    }

    /// Writes what is known now, unless that is what was known before.
    pub(super) fn update(
        &self,
        path: &Path,
        found: &[Found],
        contents: &[Option<Content>],
    ) -> io::Result<()> {
        let now: Vec<Remembered<'_>> = found
            .iter()
            .zip(contents)
            .filter_map(|(found, content)| {
                let content = content.as_ref().filter(|content| content.proven)?;
                Some(Remembered {
                    path: &found.path,
                    stamp: content.stamp,
                    chunks: content
                        .chunks
                        .iter()
                        .map(|chunk| (*chunk.digest.as_bytes(), chunk.len))
                        .collect(),
                })
            })
            .collect();
        let body = postcard::to_extend(&now, vec![VERSION]).map_err(io::Error::other)?;
        let mut bytes = Digest::of(&body).as_bytes().to_vec();
        if self.bytes.get(..HASH) == Some(&bytes[..]) {
            return Ok(());
        }
        bytes.extend_from_slice(&body);
        replace(path, &bytes)
    }
}

/// Puts `bytes` at `path`, whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut temporary = path.as_os_str().to_owned();
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    temporary.push(format!(".{}.{serial}", std::process::id()));
    fs::write(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_| {
            // What is left of it helps nobody; the write's error is the one to report.
            let _ = fs::remove_file(&temporary);
        })
}

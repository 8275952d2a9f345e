//! What is known of a tree that was made.

use std::time::SystemTime;

use haul_types::Digest;
use serde::{Deserialize, Serialize};

use crate::manifest::{Entry, EntryKind};
use crate::stamp::Stamp;

const VERSION: u8 = 1;
const HASH: usize = 32;

/// One entry as it was when the tree was finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recorded {
    pub(super) path: Vec<u8>,
    pub(super) stamp: Stamp,
    /// See [`content_digest`].
    pub(super) content: [u8; 32],
}

/// What a tree was when it was finished: enough to tell later, by stat alone, what a job did to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeState {
    manifest: [u8; 32],
    /// In the order of the manifest.
    pub(super) entries: Vec<Recorded>,
    /// When somebody else could first write to the tree.
    handed_over: SystemTime,
}

/// Bytes that are no tree state.
#[derive(Debug, thiserror::Error)]
#[error("the tree's state is damaged or of another version; make the tree anew")]
pub struct StateError;

impl TreeState {
    pub(super) fn new(manifest: Digest, entries: Vec<Recorded>) -> Self {
        Self {
            manifest: *manifest.as_bytes(),
            entries,
            handed_over: SystemTime::now(),
        }
    }

    /// The manifest the tree was made of.
    #[must_use]
    pub fn manifest(&self) -> Digest {
        Digest::from_bytes(self.manifest)
    }

    /// When the tree was handed to a job: at first, when it was finished.
    #[must_use]
    pub fn handed_over(&self) -> SystemTime {
        self.handed_over
    }

    /// Notes that the tree is handed to a job now. The later, the fewer files have to be read again at the reset: those
    /// that were written within 20 ms before this moment prove nothing by their times.
    pub fn hand_over(&mut self) {
        self.handed_over = SystemTime::now();
    }

    /// The bytes to keep in a file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let body = postcard::to_extend(self, vec![VERSION]).expect("a vector takes every byte");
        let mut bytes = Digest::of(&body).as_bytes().to_vec();
        bytes.extend_from_slice(&body);
        bytes
    }

    /// What [`Self::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let (hash, body) = bytes.split_at_checked(HASH).ok_or(StateError)?;
        match body.split_first() {
            Some((&VERSION, rest)) if Digest::of(body).as_bytes() == hash => {
                postcard::from_bytes(rest).map_err(|_| StateError)
            }
            _ => Err(StateError),
        }
    }
}

/// What stands for an entry's content: a file's chunks, a link's target.
pub(super) fn content_digest(entry: &Entry) -> [u8; 32] {
    match &entry.kind {
        EntryKind::File { chunks, .. } => match chunks.as_slice() {
            [one] => *one.digest.as_bytes(),
            many => {
                let mut hasher = blake3::Hasher::new();
                for chunk in many {
                    hasher.update(chunk.digest.as_bytes());
                }
                *hasher.finalize().as_bytes()
            }
        },
        EntryKind::Symlink { target } => *blake3::hash(target).as_bytes(),
        EntryKind::Dir { .. } => [0; 32],
    }
}

//! The bytes of pages and root objects: a version byte, then [postcard](https://postcard.jamesmunns.com/wire-format).
//!
//! Decoding is bounded (no input makes it allocate more than a small multiple of its own length) and strict: what does
//! not encode to the very same bytes again is refused, so that content and digest determine each other.

use haul_types::Digest;
use serde::{Deserialize, Serialize};

use super::{Chunk, Entry, EntryKind, LinkProblem, Totals, check};
use crate::MAX_CHUNK;
use crate::name::Name;

/// The version this code reads and writes.
const VERSION: u8 = 1;

/// Why something is not a manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The version byte is not ours.
    #[error("manifest format {found} is not known here (this is format {VERSION}); is the other side newer?")]
    Version {
        /// The byte found.
        found: u8,
    },
    /// Not an encoding at all.
    #[error("the manifest's {object} cannot be decoded")]
    Malformed {
        /// "page" or "root object".
        object: &'static str,
        /// What postcard says.
        #[source]
        source: postcard::Error,
    },
    /// An encoding, but not the one this content has.
    #[error("the manifest's {object} is not in canonical form")]
    NotCanonical {
        /// "page" or "root object".
        object: &'static str,
    },
    /// Larger than a chunk can be.
    #[error("the manifest's {object} is larger than {MAX_CHUNK} bytes")]
    TooLarge {
        /// "page" or "root object".
        object: &'static str,
    },
    /// A path that no snapshot may hold.
    #[error("path {path} {rule}")]
    Path {
        /// The path.
        path: Name,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// An entry whose parts contradict each other.
    #[error("{path} {rule}")]
    Entry {
        /// The path.
        path: Name,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// A symbolic link that leads out.
    #[error("symbolic link {path} -> {target} is refused: {problem}")]
    Link {
        /// The link.
        path: Name,
        /// Its target.
        target: Name,
        /// Why.
        problem: LinkProblem,
    },
    /// Not sorted, or twice the same.
    #[error("{path} comes after {after}: not in order")]
    Order {
        /// The path.
        path: Name,
        /// The one before it.
        after: Name,
    },
    /// What should hold it is not listed as a directory.
    #[error("{path} is in something that is not listed as a directory")]
    Orphan {
        /// The path.
        path: Name,
    },
    /// The sizes' sum does not fit 64 bits.
    #[error("the files' sizes do not add up to a 64-bit number")]
    TotalsOverflow,
    /// The root object says otherwise.
    #[error("the root object promises {promised:?}, the pages hold {found:?}")]
    Totals {
        /// What the root object says.
        promised: Totals,
        /// What the pages hold.
        found: Totals,
    },
    /// A page whose bytes are not those its digest stands for.
    #[error("expected the page {expected}, got other bytes")]
    WrongPage {
        /// The digest that was wanted.
        expected: Digest,
    },
    /// Fewer pages came than the root object names.
    #[error("page {missing} is missing")]
    MissingPage {
        /// The first page that did not come.
        missing: Digest,
    },
    /// More pages came than the root object names.
    #[error("there is no further page in this manifest")]
    ExtraPage,
}

/// The root object: what a snapshot's id is the digest of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The pages' digests, in order.
    pub pages: Vec<Digest>,
    /// What the pages hold together.
    pub totals: Totals,
}

#[derive(Serialize, Deserialize)]
struct WireRoot {
    pages: Vec<[u8; 32]>,
    files: u64,
    dirs: u64,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct WireEntry<'a> {
    path: &'a [u8],
    #[serde(borrow)]
    kind: WireKind<'a>,
}

#[derive(Serialize, Deserialize)]
enum WireKind<'a> {
    File {
        size: u64,
        mode: u16,
        chunks: Vec<([u8; 32], u32)>,
    },
    Dir {
        mode: u16,
    },
    Symlink {
        target: &'a [u8],
    },
}

impl Root {
    /// The encoding.
    pub fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        let encoded = encode(&WireRoot {
            pages: self.pages.iter().map(|digest| *digest.as_bytes()).collect(),
            files: self.totals.files,
            dirs: self.totals.dirs,
            bytes: self.totals.bytes,
        });
        if encoded.len() > MAX_CHUNK {
            return Err(DecodeError::TooLarge {
                object: "root object",
            });
        }
        Ok(encoded)
    }

    /// Decodes a root object. Its id is the digest of `bytes`, which the caller compares.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire: WireRoot = decode("root object", bytes)?;
        let root = Self {
            pages: wire.pages.into_iter().map(Digest::from_bytes).collect(),
            totals: Totals {
                files: wire.files,
                dirs: wire.dirs,
                bytes: wire.bytes,
            },
        };
        if root.encode()? == bytes {
            Ok(root)
        } else {
            Err(DecodeError::NotCanonical {
                object: "root object",
            })
        }
    }
}

/// Encodes entries that were checked.
pub(super) fn encode_page(entries: &[Entry]) -> Vec<u8> {
    let wire: Vec<WireEntry<'_>> = entries
        .iter()
        .map(|entry| WireEntry {
            path: &entry.path,
            kind: match &entry.kind {
                EntryKind::File { size, mode, chunks } => WireKind::File {
                    size: *size,
                    mode: *mode,
                    chunks: chunks
                        .iter()
                        .map(|chunk| (*chunk.digest.as_bytes(), chunk.len))
                        .collect(),
                },
                EntryKind::Dir { mode } => WireKind::Dir { mode: *mode },
                EntryKind::Symlink { target } => WireKind::Symlink { target },
            },
        })
        .collect();
    encode(&wire)
}

/// Decodes one page and checks each entry by itself. Order, parents, cuts and links need the whole manifest:
/// [`ManifestReader`](super::ManifestReader) and [`Manifest::decode`](super::Manifest::decode) check those.
pub fn decode_page(bytes: &[u8]) -> Result<Vec<Entry>, DecodeError> {
    let wire: Vec<WireEntry<'_>> = decode("page", bytes)?;
    let mut entries = Vec::with_capacity(wire.len());
    for entry in wire {
        let entry = Entry {
            path: entry.path.to_vec(),
            kind: match entry.kind {
                WireKind::File { size, mode, chunks } => EntryKind::File {
                    size,
                    mode,
                    chunks: chunks
                        .into_iter()
                        .map(|(digest, len)| Chunk {
                            digest: Digest::from_bytes(digest),
                            len,
                        })
                        .collect(),
                },
                WireKind::Dir { mode } => EntryKind::Dir { mode },
                WireKind::Symlink { target } => EntryKind::Symlink {
                    target: target.to_vec(),
                },
            },
        };
        check::check_entry(&entry)?;
        entries.push(entry);
    }
    if entries.is_empty() || encode_page(&entries) != bytes {
        return Err(DecodeError::NotCanonical { object: "page" });
    }
    Ok(entries)
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).expect("a vector takes every byte")
}

fn decode<'a, T: Deserialize<'a>>(object: &'static str, bytes: &'a [u8]) -> Result<T, DecodeError> {
    if bytes.len() > MAX_CHUNK {
        return Err(DecodeError::TooLarge { object });
    }
    match bytes.split_first() {
        Some((&VERSION, body)) => {
            postcard::from_bytes(body).map_err(|source| DecodeError::Malformed { object, source })
        }
        Some((&found, _)) => Err(DecodeError::Version { found }),
        None => Err(DecodeError::Malformed {
            object,
            source: postcard::Error::DeserializeUnexpectedEnd,
        }),
    }
}

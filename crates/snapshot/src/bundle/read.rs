//! Reads frames that anybody may have made.

use std::collections::HashSet;

use haul_types::Digest;

use super::{BLOCK, FrameChunk, MAX_FRAME_RAW, header};
use crate::MAX_CHUNK;

/// A frame, decompressed and verified: each chunk's content has the digest it is named by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedFrame {
    /// The decompressed tar entries.
    pub raw: Vec<u8>,
    /// The chunks in it, in order.
    pub chunks: Vec<FrameChunk>,
}

impl DecodedFrame {
    /// The content of one of [`Self::chunks`].
    #[must_use]
    pub fn content(&self, chunk: &FrameChunk) -> &[u8] {
        &self.raw[chunk.offset as usize..][..chunk.len as usize]
    }

    /// The chunks with their contents.
    pub fn iter(&self) -> impl Iterator<Item = (Digest, &[u8])> {
        self.chunks
            .iter()
            .map(|chunk| (chunk.digest, self.content(chunk)))
    }
}

/// Why bytes are not a frame. Places are in the decompressed bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No zstd frame with its content's size in the header.
    #[error("not a zstd frame that says its size")]
    NotAFrame,
    /// It would decompress to more than any frame holds.
    #[error("a frame of {claimed} bytes is over the limit of {MAX_FRAME_RAW}")]
    TooLarge {
        /// The size in the header.
        claimed: u64,
    },
    /// Bytes follow the frame.
    #[error("{extra} bytes follow the frame")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// zstd failed on it.
    #[error("the frame cannot be decompressed")]
    Zstd(#[source] std::io::Error),
    /// It holds no chunk.
    #[error("the frame is empty")]
    Empty,
    /// It is the frame that ends a bundle.
    #[error("this frame ends the bundle: it holds no chunks")]
    EndOfBundle,
    /// Not a header that a chunk can have: another kind of entry, name, owner, mode or time.
    #[error("at byte {offset}: not the tar entry of a chunk")]
    NotAChunk {
        /// Where.
        offset: usize,
    },
    /// An entry is longer than the frame.
    #[error("at byte {offset}: the entry is cut short")]
    Short {
        /// Where.
        offset: usize,
    },
    /// The padding after an entry is not zero.
    #[error("at byte {offset}: something is hidden in the padding")]
    Padding {
        /// Where.
        offset: usize,
    },
    /// The content is not what the name says.
    #[error("chunk {digest} holds other content")]
    Corrupt {
        /// The name.
        digest: Digest,
    },
    /// The same chunk twice.
    #[error("chunk {digest} is there twice")]
    Duplicate {
        /// The chunk.
        digest: Digest,
    },
}

/// Decompresses a frame, with a cap that is checked before a byte is decompressed, and verifies every chunk in it.
pub fn read_frame(bytes: &[u8]) -> Result<DecodedFrame, FrameError> {
    let raw = decompress(bytes)?;
    if raw.is_empty() {
        return Err(FrameError::Empty);
    }
    if raw.iter().all(|&byte| byte == 0) {
        return Err(FrameError::EndOfBundle);
    }
    let mut chunks = Vec::new();
    let mut seen = HashSet::new();
    let mut at = 0;
    while at < raw.len() {
        let chunk = read_entry(&raw, at)?;
        if !seen.insert(chunk.digest) {
            return Err(FrameError::Duplicate { digest: chunk.digest });
        }
        chunks.push(chunk);
        at = (chunk.offset as usize + chunk.len as usize).next_multiple_of(BLOCK);
    }
    Ok(DecodedFrame { raw, chunks })
}

fn decompress(bytes: &[u8]) -> Result<Vec<u8>, FrameError> {
    let claimed = zstd::zstd_safe::get_frame_content_size(bytes)
        .ok()
        .flatten()
        .ok_or(FrameError::NotAFrame)?;
    if claimed > MAX_FRAME_RAW as u64 {
        return Err(FrameError::TooLarge { claimed });
    }
    let length = zstd::zstd_safe::find_frame_compressed_size(bytes).map_err(|_| FrameError::NotAFrame)?;
    if length < bytes.len() {
        return Err(FrameError::Trailing {
            extra: bytes.len() - length,
        });
    }
    zstd::bulk::decompress(bytes, claimed as usize).map_err(FrameError::Zstd)
}

/// Reads and verifies the entry at `offset`.
fn read_entry(raw: &[u8], offset: usize) -> Result<FrameChunk, FrameError> {
    let not_a_chunk = || FrameError::NotAChunk { offset };
    let block = raw
        .get(offset..offset + BLOCK)
        .ok_or(FrameError::Short { offset })?;
    let found = tar::Header::from_byte_slice(block);
    let digest: Digest = std::str::from_utf8(&found.path_bytes())
        .ok()
        .and_then(|name| name.parse().ok())
        .ok_or_else(not_a_chunk)?;
    let len = found
        .entry_size()
        .ok()
        .and_then(|len| usize::try_from(len).ok())
        .filter(|&len| len <= MAX_CHUNK)
        .ok_or_else(not_a_chunk)?;
    // Whatever else a header can say (links, devices, owners, times, other spellings) shows as a difference here.
    if header(digest, len).as_bytes().as_slice() != block {
        return Err(not_a_chunk());
    }
    let start = offset + BLOCK;
    let content = raw.get(start..start + len).ok_or(FrameError::Short { offset })?;
    let padding = raw
        .get(start + len..(start + len).next_multiple_of(BLOCK))
        .ok_or(FrameError::Short { offset })?;
    if padding.iter().any(|&byte| byte != 0) {
        return Err(FrameError::Padding { offset: start + len });
    }
    if Digest::of(content) != digest {
        return Err(FrameError::Corrupt { digest });
    }
    Ok(FrameChunk {
        digest,
        offset: start as u32,
        len: len as u32,
    })
}

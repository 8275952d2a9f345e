//! Chunks on the move: `.tar.zst` made of frames that stand on their own.
//!
//! A bundle is a sequence of zstd frames; each decompresses to whole tar entries, one per chunk, named by the chunk's
//! 64 hexadecimal digits. So a frame can be sent as one message, stored as it came, and read without the others; and
//! all of them, followed by [`end_frame`], are a file that `tar --zstd -tf` lists. Frames are filled to about
//! [`FRAME_TARGET`]; a bigger chunk has a frame to itself or shares it with what was already there.
//!
//! A frame is canonical: [`read_frame`] takes only headers that [`FrameBuilder`] would have written.

use std::collections::HashSet;

use haul_types::Digest;

mod read;
#[cfg(test)]
mod tests;

pub use read::{DecodedFrame, FrameError, read_frame};

use crate::MAX_CHUNK;

/// A frame is closed once it holds this many bytes before compression.
pub const FRAME_TARGET: usize = 1 << 20;
/// The most bytes a frame holds before compression; what claims more is refused unread.
pub const MAX_FRAME_RAW: usize = 8 << 20;
/// The zstd level of a bundle unless there is a reason for another. Every chunk of a new snapshot is compressed once and
/// decompressed twice before its job can start, and at level 1 that was a third of all the work: its entropy coding of
/// literals is the dear part, which negative levels leave out. That makes packs a tenth (data) to a third (tables of
/// digits) larger, and leaves content that hardly compresses as it is.
pub const DEFAULT_LEVEL: i32 = -1;

/// Tar's unit: headers and padded contents are multiples of it.
const BLOCK: usize = 512;

/// Where a chunk is in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameChunk {
    /// The chunk.
    pub digest: Digest,
    /// Where its content begins in the decompressed frame.
    pub offset: u32,
    /// Its length in bytes.
    pub len: u32,
}

/// A finished frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The compressed bytes.
    pub bytes: Vec<u8>,
    /// What it holds, in order.
    pub chunks: Vec<FrameChunk>,
    /// Its length before compression.
    pub raw_len: u32,
}

/// Packs chunks into frames.
pub struct FrameBuilder {
    compressor: zstd::bulk::Compressor<'static>,
    raw: Vec<u8>,
    chunks: Vec<FrameChunk>,
    present: HashSet<Digest>,
}

impl FrameBuilder {
    /// A builder compressing at this zstd level.
    ///
    /// # Panics
    /// If there is no memory for zstd's context.
    #[must_use]
    pub fn new(level: i32) -> Self {
        Self {
            compressor: zstd::bulk::Compressor::new(level).expect("a context can be allocated"),
            raw: Vec::new(),
            chunks: Vec::new(),
            present: HashSet::new(),
        }
    }

    /// Adds a chunk, whose digest the caller vouches for; a frame if that filled one. A chunk that is in the current
    /// frame already is not added again.
    ///
    /// # Panics
    /// If the chunk is longer than [`MAX_CHUNK`]: no manifest could have named it.
    pub fn push(&mut self, digest: Digest, content: &[u8]) -> Option<Frame> {
        assert!(content.len() <= MAX_CHUNK, "a chunk of {} bytes", content.len());
        if !self.present.insert(digest) {
            return None;
        }
        self.raw
            .extend_from_slice(header(digest, content.len()).as_bytes());
        self.chunks.push(FrameChunk {
            digest,
            offset: self.raw.len() as u32,
            len: content.len() as u32,
        });
        self.raw.extend_from_slice(content);
        self.raw.resize(self.raw.len().next_multiple_of(BLOCK), 0);
        if self.raw.len() >= FRAME_TARGET {
            self.finish()
        } else {
            None
        }
    }

    /// The frame begun, if it holds anything. The builder can be used on.
    pub fn finish(&mut self) -> Option<Frame> {
        if self.chunks.is_empty() {
            return None;
        }
        let bytes = self
            .compressor
            .compress(&self.raw)
            .expect("the output buffer has room for the worst case");
        let frame = Frame {
            bytes,
            chunks: std::mem::take(&mut self.chunks),
            raw_len: self.raw.len() as u32,
        };
        self.raw.clear();
        self.present.clear();
        Some(frame)
    }
}

/// The frame that ends a bundle kept as one file: tar's two empty blocks.
#[must_use]
pub fn end_frame() -> Vec<u8> {
    zstd::bulk::compress(&[0; 2 * BLOCK], DEFAULT_LEVEL).expect("a kilobyte of zeros compresses")
}

/// The one tar header a chunk has.
fn header(digest: Digest, len: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header
        .set_path(digest.to_string())
        .expect("64 digits fit a tar name");
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(len as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    header
}

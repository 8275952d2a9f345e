//! The block: the unit that is compressed, checked and read.
//!
//! A header of 44 bytes, little-endian, then the payload:
//!
//! | at | bytes | what |
//! |---:|---:|---|
//! | 0 | 3 | `HSB` |
//! | 3 | 1 | version, 1 |
//! | 4 | 1 | kind of stream ([`StreamKind`]'s number) |
//! | 5 | 1 | flags: bit 0, the payload is a zstd frame |
//! | 6 | 2 | zero |
//! | 8 | 4 | task |
//! | 12 | 4 | attempt |
//! | 16 | 8 | offset in the stream of the first byte |
//! | 24 | 4 | raw length |
//! | 28 | 4 | stored length of the payload |
//! | 32 | 4 | bytes of this segment that were durable when the block was written |
//! | 36 | 4 | CRC-32 of the stored payload |
//! | 40 | 4 | CRC-32 of the 40 bytes before |
//!
//! The header is checked alone, so that a damaged payload does not hide the blocks behind it. The durable mark tells
//! recovery a torn tail (past the last mark: cut it, the sender still has it) from damage (before it: keep what
//! follows and report the hole).

use std::io;

use haul_types::{StreamKey, StreamKind};

/// Bytes of a block's header.
pub const HEADER_BYTES: usize = 44;
/// The most raw bytes a block may hold; a header that claims more is damaged.
pub const MAX_BLOCK_BYTES: usize = 16 << 20;
/// What every block begins with: the name and the version.
pub(crate) const MAGIC: [u8; 4] = *b"HSB\x01";
/// Flag: the payload is a zstd frame.
const COMPRESSED: u8 = 1;
/// Below this a zstd frame's own overhead eats what it saves.
const WORTH_COMPRESSING: usize = 96;

/// A parsed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The stream.
    pub key: StreamKey,
    /// Whether the payload is a zstd frame.
    pub compressed: bool,
    /// The offset in the stream of the first byte.
    pub offset: u64,
    /// Bytes of the stream.
    pub raw_bytes: u32,
    /// Bytes of the payload in the file.
    pub stored_bytes: u32,
    /// Bytes of the segment that were durable when the block was written.
    pub durable: u32,
    /// CRC-32 of the payload as stored.
    pub payload_crc: u32,
}

impl Header {
    /// The header of these bytes, or `None` when they are not a whole, undamaged header of a version known here.
    #[must_use]
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        if bytes[..4] != MAGIC || crc32fast::hash(&bytes[..40]) != word(bytes, 40) {
            return None;
        }
        let header = Self {
            key: StreamKey {
                task: word(bytes, 8),
                attempt: word(bytes, 12),
                kind: StreamKind::try_from(bytes[4]).ok()?,
            },
            compressed: bytes[5] & COMPRESSED != 0,
            offset: u64::from(word(bytes, 16)) | u64::from(word(bytes, 20)) << 32,
            raw_bytes: word(bytes, 24),
            stored_bytes: word(bytes, 28),
            durable: word(bytes, 32),
            payload_crc: word(bytes, 36),
        };
        let sound = header.raw_bytes > 0
            && header.raw_bytes as usize <= MAX_BLOCK_BYTES
            && header.stored_bytes <= header.raw_bytes
            && (header.compressed || header.stored_bytes == header.raw_bytes)
            && header.offset.checked_add(header.raw_bytes.into()).is_some();
        sound.then_some(header)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[self.key.kind as u8, u8::from(self.compressed), 0, 0]);
        out.extend_from_slice(&self.key.task.to_le_bytes());
        out.extend_from_slice(&self.key.attempt.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        for number in [self.raw_bytes, self.stored_bytes, self.durable, self.payload_crc] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// Bytes of the whole block in the file.
    #[must_use]
    pub fn block_bytes(&self) -> u32 {
        self.stored_bytes + HEADER_BYTES as u32
    }

    /// The offset just past the block.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.raw_bytes)
    }
}

/// Why a block's payload cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BadPayload {
    /// The checksum differs.
    #[error("its checksum does not match")]
    Checksum,
    /// The checksum matches and zstd still refuses: the writer was at fault.
    #[error("its compressed data cannot be read")]
    Frame(#[source] io::Error),
    /// It decodes to fewer bytes than the header says.
    #[error("it holds {actual} bytes where its header says {expected}")]
    Length {
        /// What the header says.
        expected: u32,
        /// What came out.
        actual: usize,
    },
}

/// Makes blocks. Holds zstd's tables, so that they are made once.
pub(crate) struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
    scratch: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(level: i32) -> io::Result<Self> {
        Ok(Self {
            zstd: zstd::bulk::Compressor::new(level)?,
            scratch: Vec::new(),
        })
    }

    /// Appends the block of `raw` (at most [`MAX_BLOCK_BYTES`]) to `out` and says what it is.
    pub(crate) fn encode(
        &mut self,
        key: StreamKey,
        offset: u64,
        raw: &[u8],
        durable: u32,
        out: &mut Vec<u8>,
    ) -> Header {
        debug_assert!(!raw.is_empty() && raw.len() <= MAX_BLOCK_BYTES);
        let compressed = raw.len() >= WORTH_COMPRESSING && self.compress(raw);
        let payload = if compressed { &self.scratch[..] } else { raw };
        let header = Header {
            key,
            compressed,
            offset,
            raw_bytes: raw.len() as u32,
            stored_bytes: payload.len() as u32,
            durable,
            payload_crc: crc32fast::hash(payload),
        };
        out.reserve(HEADER_BYTES + payload.len());
        header.write(out);
        out.extend_from_slice(payload);
        header
    }

    /// Compresses into the scratch buffer; false when that saves less than a sixteenth.
    fn compress(&mut self, raw: &[u8]) -> bool {
        let worth = raw.len() - raw.len() / 16;
        self.scratch.clear();
        self.scratch.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        matches!(self.zstd.compress_to_buffer(raw, &mut self.scratch), Ok(bytes) if bytes < worth)
    }
}

/// Reads payloads. Holds zstd's tables, so that they are made once for many small blocks.
#[derive(Default)]
pub(crate) struct Decoder {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    scratch: Vec<u8>,
}

impl Decoder {
    /// Checks `payload` and appends the raw bytes to `out`; `out` is as it was when that fails.
    pub(crate) fn decode(
        &mut self,
        header: &Header,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), BadPayload> {
        if crc32fast::hash(payload) != header.payload_crc {
            return Err(BadPayload::Checksum);
        }
        if !header.compressed {
            out.extend_from_slice(payload);
            return Ok(());
        }
        let expected = header.raw_bytes as usize;
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Decompressor::new().map_err(BadPayload::Frame)?),
        };
        // Straight into the caller's buffer when it is empty, which it is for all but runs of small blocks.
        let direct = out.is_empty();
        let target = if direct { &mut *out } else { &mut self.scratch };
        target.clear();
        target.reserve(expected);
        let outcome = match zstd.decompress_to_buffer(payload, target) {
            Ok(actual) if actual == expected => Ok(()),
            Ok(actual) => Err(BadPayload::Length {
                expected: header.raw_bytes,
                actual,
            }),
            Err(source) => Err(BadPayload::Frame(source)),
        };
        match (&outcome, direct) {
            (Ok(()), true) => {}
            (Ok(()), false) => out.extend_from_slice(&self.scratch),
            (Err(_), true) => out.clear(),
            (Err(_), false) => {}
        }
        outcome
    }
}

fn word(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

//! Segment files: their names, and the index a sealed one ends with.
//!
//! A segment is blocks, one after the other. A sealed one ends with its index and a trailer of 24 bytes, little-endian:
//! `HSI` and the version 1, bytes of the index, where the index begins, CRC-32 of the index, blocks in the segment,
//! CRC-32 of the 20 bytes before. The index is the number of streams, then for each its kind (1 byte), task, attempt
//! and number of extents, and for each extent its offset (8), position, raw bytes and stored bytes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use haul_types::{StreamKey, StreamKind};

use crate::index::Extent;

const TRAILER_BYTES: usize = 24;
const MAGIC: [u8; 4] = *b"HSI\x01";
/// Bytes of a stream and of an extent in the index.
const STREAM_BYTES: usize = 13;
const EXTENT_BYTES: usize = 20;

/// The file of segment `number` in `dir`.
pub(crate) fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.seg"))
}

/// Where segment `number` is rewritten before it takes its place.
pub(crate) fn draft_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.draft"))
}

/// The numbers of the segments in `dir` in order, and what unfinished rewriting left. None when there is no `dir`.
pub(crate) fn list(dir: &Path) -> io::Result<(Vec<u32>, Vec<PathBuf>)> {
    let (mut numbers, mut drafts) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((numbers, drafts)),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(number) = name.strip_suffix(".seg").and_then(|n| n.parse().ok()) {
            numbers.push(number);
        } else if name.ends_with(".draft") {
            drafts.push(dir.join(name));
        }
    }
    numbers.sort_unstable();
    Ok((numbers, drafts))
}

/// A sealed segment's index.
pub(crate) struct Footer {
    pub(crate) extents: Vec<(StreamKey, Vec<Extent>)>,
    /// Where the blocks end.
    pub(crate) blocks_end: u64,
}

/// The index and trailer to write where the blocks end.
pub(crate) fn footer(extents: &[(StreamKey, Vec<Extent>)], blocks: u32, blocks_end: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(
        4 + extents
            .iter()
            .map(|(_, e)| STREAM_BYTES + e.len() * EXTENT_BYTES)
            .sum::<usize>()
            + TRAILER_BYTES,
    );
    bytes.extend((extents.len() as u32).to_le_bytes());
    for (key, extents) in extents {
        bytes.push(key.kind as u8);
        for number in [key.task, key.attempt, extents.len() as u32] {
            bytes.extend(number.to_le_bytes());
        }
        for extent in extents {
            bytes.extend(extent.offset.to_le_bytes());
            for number in [extent.position, extent.raw, extent.stored] {
                bytes.extend(number.to_le_bytes());
            }
        }
    }
    let (length, crc) = (bytes.len() as u32, crc32fast::hash(&bytes));
    let trailer = bytes.len();
    bytes.extend(MAGIC);
    for number in [length, blocks_end, crc, blocks] {
        bytes.extend(number.to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes[trailer..]);
    bytes.extend(crc.to_le_bytes());
    bytes
}

/// The index of segment `number`, or `None` when it is not sealed (or its index is damaged: then its blocks tell).
pub(crate) fn read_footer(file: &File, number: u32) -> io::Result<Option<Footer>> {
    let length = file.metadata()?.len();
    let Some(at) = length.checked_sub(TRAILER_BYTES as u64) else {
        return Ok(None);
    };
    let mut trailer = [0; TRAILER_BYTES];
    file.read_exact_at(&mut trailer, at)?;
    let mut words = trailer
        .chunks_exact(4)
        .skip(1)
        .map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
    let (Some(bytes), Some(blocks_end), Some(crc), Some(_), Some(trailer_crc)) = (
        words.next(),
        words.next(),
        words.next(),
        words.next(),
        words.next(),
    ) else {
        return Ok(None);
    };
    let sound = trailer[..4] == MAGIC
        && crc32fast::hash(&trailer[..20]) == trailer_crc
        && u64::from(blocks_end) + u64::from(bytes) == at;
    if !sound {
        return Ok(None);
    }
    let mut index = vec![0; bytes as usize];
    file.read_exact_at(&mut index, blocks_end.into())?;
    if crc32fast::hash(&index) != crc {
        return Ok(None);
    }
    Ok(parse(&index, number).map(|extents| Footer {
        extents,
        blocks_end: blocks_end.into(),
    }))
}

fn parse(index: &[u8], segment: u32) -> Option<Vec<(StreamKey, Vec<Extent>)>> {
    let mut bytes = index;
    let mut streams = Vec::new();
    for _ in 0..take(&mut bytes).map(u32::from_le_bytes)? {
        let [kind] = take(&mut bytes)?;
        let kind = StreamKind::try_from(kind).ok()?;
        let task = u32::from_le_bytes(take(&mut bytes)?);
        let attempt = u32::from_le_bytes(take(&mut bytes)?);
        let count = u32::from_le_bytes(take(&mut bytes)?) as usize;
        let mut extents = Vec::with_capacity(count.min(bytes.len() / EXTENT_BYTES));
        for _ in 0..count {
            extents.push(Extent {
                offset: u64::from_le_bytes(take(&mut bytes)?),
                segment,
                position: u32::from_le_bytes(take(&mut bytes)?),
                raw: u32::from_le_bytes(take(&mut bytes)?),
                stored: u32::from_le_bytes(take(&mut bytes)?),
            });
        }
        streams.push((StreamKey { task, attempt, kind }, extents));
    }
    bytes.is_empty().then_some(streams)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

//! Chunks and frames out of packs. Nothing leaves that has not been verified: a frame by the hash of its stored bytes,
//! a chunk by its own name.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use haul_snapshot::bundle::{DEFAULT_LEVEL, DecodedFrame, FrameBuilder, FrameChunk, FrameError, read_frame};
use haul_types::Digest;

use super::error::{FileError, LoadError};
use super::file::{self, Epoch};
use super::index::{self, FramePlace};
use super::{Inner, locked};

/// Tar's unit: a chunk takes a header of one block and whole blocks of content.
const BLOCK: u64 = 512;

/// The frame read last, decoded: a manifest's chunks are asked for one by one and lie in a row.
pub(super) type LastFrame = Option<((u64, u64), Arc<DecodedFrame>)>;

/// Reads frames, keeping the pack open that it read last.
pub(super) struct FrameReader<'a> {
    inner: &'a Inner,
    open: Option<(u64, PathBuf, File)>,
    /// Keeps the files that the index named when this reader was made.
    _epoch: Arc<Epoch>,
}

impl<'a> FrameReader<'a> {
    /// A reader for places that are looked up after this.
    pub(super) fn new(inner: &'a Inner) -> Self {
        Self {
            inner,
            open: None,
            _epoch: Arc::clone(&locked(&inner.epoch)),
        }
    }

    /// A frame as stored, for the sake of `chunk`.
    pub(super) fn stored(&mut self, place: &FramePlace, chunk: Digest) -> Result<Vec<u8>, LoadError> {
        let failed = |source| LoadError::File { chunk, source };
        if self.open.as_ref().is_none_or(|(pack, ..)| *pack != place.pack) {
            let path = file::path(&self.inner.directory, place.pack);
            let file = File::open(&path)
                .map_err(FileError::new("open", &path))
                .map_err(failed)?;
            self.open = Some((place.pack, path, file));
        }
        let (_, path, file) = self.open.as_ref().expect("one was just opened");
        let bytes = file::read(file, path, place.start, place.length).map_err(failed)?;
        if Digest::of(&bytes) == place.hash {
            Ok(bytes)
        } else {
            Err(self.damaged(place, chunk, None))
        }
    }

    /// A frame decompressed and verified, for the sake of `chunk`.
    pub(super) fn decoded(&mut self, place: &FramePlace, chunk: Digest) -> Result<DecodedFrame, LoadError> {
        let bytes = self.stored(place, chunk)?;
        read_frame(&bytes).map_err(|error| self.damaged(place, chunk, Some(error)))
    }

    pub(super) fn damaged(&self, place: &FramePlace, chunk: Digest, source: Option<FrameError>) -> LoadError {
        LoadError::Damaged {
            pack: file::path(&self.inner.directory, place.pack),
            start: place.start,
            chunk,
            source,
        }
    }
}

/// The content of one chunk.
pub(super) fn read_chunk(inner: &Inner, digest: Digest) -> Result<Vec<u8>, LoadError> {
    let mut reader = FrameReader::new(inner);
    let connection = inner.pool.get()?;
    let (place, chunk) = index::find(&connection, digest)?.ok_or(LoadError::Unknown(digest))?;
    drop(connection);
    let key = (place.pack, place.start);
    let last = locked(&inner.last_frame)
        .as_ref()
        .filter(|(last, _)| *last == key)
        .map(|(_, frame)| Arc::clone(frame));
    let frame = match last {
        Some(frame) => frame,
        None => {
            let frame = Arc::new(reader.decoded(&place, digest)?);
            *locked(&inner.last_frame) = Some((key, Arc::clone(&frame)));
            frame
        }
    };
    content(&frame, &chunk)
        .map(<[u8]>::to_vec)
        .ok_or_else(|| reader.damaged(&place, digest, None))
}

/// The content of a chunk that the index says is in a frame, if it is. The frame's own list was verified; the index
/// might be wrong.
pub(super) fn content<'f>(frame: &'f DecodedFrame, chunk: &FrameChunk) -> Option<&'f [u8]> {
    let place = frame
        .chunks
        .binary_search_by_key(&chunk.offset, |found| found.offset)
        .ok()?;
    (frame.chunks[place] == *chunk).then(|| frame.content(chunk))
}

/// What the chunk takes of its frame before compression.
pub(super) fn raw_bytes(chunk: &FrameChunk) -> u64 {
    BLOCK + u64::from(chunk.len).next_multiple_of(BLOCK)
}

/// What may travel in a frame beside the chunks that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extras {
    /// Chunks that lie in the same frame: a frame leaves as it is stored, if most of it is wanted.
    Allowed,
    /// Nothing: whoever asks may not see what else came in the same upload.
    Never,
}

/// Sends every frame that holds a wanted chunk, in the order of packs and of places in them.
pub(super) fn frames(
    inner: &Inner,
    wanted: &[Digest],
    extras: Extras,
    sink: &mut dyn FnMut(Vec<u8>) -> bool,
) -> Result<(), LoadError> {
    let mut reader = FrameReader::new(inner);
    let mut parts: HashMap<FramePlace, Vec<FrameChunk>> = HashMap::new();
    {
        let connection = inner.pool.get()?;
        let transaction = connection.unchecked_transaction()?;
        for &digest in wanted {
            let (place, chunk) = index::find(&transaction, digest)?.ok_or(LoadError::Unknown(digest))?;
            parts.entry(place).or_default().push(chunk);
        }
    }
    let mut parts: Vec<_> = parts.into_iter().collect();
    parts.sort_unstable_by_key(|(place, _)| (place.pack, place.start));
    // One builder for all frames of which little is wanted: what it makes is filled like any other frame.
    let mut rest = FrameBuilder::new(DEFAULT_LEVEL);
    for (place, mut chunks) in parts {
        chunks.sort_unstable_by_key(|chunk| chunk.offset);
        chunks.dedup();
        let wanted_bytes: u64 = chunks.iter().map(raw_bytes).sum();
        let raw_length = u64::from(place.raw_length);
        let as_stored = match extras {
            Extras::Allowed => wanted_bytes * 2 >= raw_length,
            Extras::Never => wanted_bytes >= raw_length,
        };
        if as_stored {
            if !sink(reader.stored(&place, chunks[0].digest)?) {
                return Ok(());
            }
            continue;
        }
        let frame = reader.decoded(&place, chunks[0].digest)?;
        for chunk in &chunks {
            let content = content(&frame, chunk).ok_or_else(|| reader.damaged(&place, chunk.digest, None))?;
            if let Some(full) = rest.push(chunk.digest, content)
                && !sink(full.bytes)
            {
                return Ok(());
            }
        }
    }
    if let Some(last) = rest.finish() {
        sink(last.bytes);
    }
    Ok(())
}

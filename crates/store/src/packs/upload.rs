//! One upload: frames go to a pack as they come and count once it is finished.

use std::sync::Arc;

use haul_snapshot::bundle::{self, FrameChunk, FrameError};
use haul_types::Digest;
use rusqlite::TransactionBehavior;

use super::error::{AppendError, FileError, FinishError};
use super::file::{self, PackFile};
use super::index::{self, FramePlace};
use super::{Inner, PACK_TARGET, locked};

/// A frame whose chunks have the content that they are named by.
///
/// Making one is the expensive part of an upload, and needs no writer: several threads can verify the frames of one
/// upload at a time.
#[derive(Debug)]
pub struct VerifiedFrame<B> {
    bytes: B,
    chunks: Vec<FrameChunk>,
    raw_length: u32,
    hash: Digest,
}

impl<B: AsRef<[u8]>> VerifiedFrame<B> {
    /// Decompresses (with a cap) and verifies a frame as received.
    pub fn verify(bytes: B) -> Result<Self, FrameError> {
        let decoded = bundle::read_frame(bytes.as_ref())?;
        Ok(Self {
            hash: Digest::of(bytes.as_ref()),
            // A frame's size is capped far below 4 GiB before it is decompressed.
            raw_length: decoded.raw.len() as u32,
            chunks: decoded.chunks,
            bytes,
        })
    }

    /// What it holds, in order.
    pub fn chunks(&self) -> impl ExactSizeIterator<Item = Digest> {
        self.chunks.iter().map(|chunk| chunk.digest)
    }
}

/// What an upload came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackStats {
    /// Pack files it made.
    pub packs: u32,
    /// Frames in them.
    pub frames: u64,
    /// Bytes of them.
    pub stored_bytes: u64,
    /// Chunks that were not here before.
    pub new_chunks: u64,
}

/// Takes the frames of one upload. Dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct PackWriter {
    inner: Arc<Inner>,
    /// The packs of this upload; the last one is being written to.
    packs: Vec<PackFile>,
    frames: Vec<(FramePlace, Vec<FrameChunk>)>,
}

impl PackWriter {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            packs: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// Verifies a frame and takes it; says which chunks it held.
    pub fn append(&mut self, frame: &[u8]) -> Result<Vec<Digest>, AppendError> {
        let frame = VerifiedFrame::verify(frame)?;
        let chunks = frame.chunks().collect();
        self.append_verified(frame)?;
        Ok(chunks)
    }

    /// Takes a frame. After an error nothing of it counts, and the next may be tried.
    pub fn append_verified<B: AsRef<[u8]>>(&mut self, frame: VerifiedFrame<B>) -> Result<(), AppendError> {
        let VerifiedFrame {
            bytes,
            chunks,
            raw_length,
            hash,
        } = frame;
        self.put(bytes.as_ref(), chunks, raw_length, hash)?;
        Ok(())
    }

    /// Writes a frame that is known to be sound.
    pub(super) fn put(
        &mut self,
        bytes: &[u8],
        chunks: Vec<FrameChunk>,
        raw_length: u32,
        hash: Digest,
    ) -> Result<(), FileError> {
        if self.packs.last().is_none_or(|pack| pack.length >= PACK_TARGET) {
            if let Some(full) = self.packs.last_mut() {
                // Here rather than at the end, so that finishing a large upload does not wait for all of it.
                full.sync()?;
            }
            self.packs.push(self.inner.create_pack()?);
        }
        let pack = self.packs.last_mut().expect("one was just pushed");
        let start = pack.append(bytes)?;
        let place = FramePlace {
            pack: pack.id,
            start,
            // The capped raw length bounds the compressed one.
            length: bytes.len() as u32,
            raw_length,
            hash,
        };
        self.frames.push((place, chunks));
        Ok(())
    }

    /// Makes everything durable and visible, in this order, all at once.
    pub fn finish(mut self) -> Result<PackStats, FinishError> {
        self.write_out()?;
        let inner = Arc::clone(&self.inner);
        // A collection decides between two uploads' ends, not during one.
        let _gate = inner
            .gate
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let uploaded = self.frames.iter().flat_map(|(_, chunks)| chunks);
        locked(&inner.promises).add(uploaded.map(|chunk| chunk.digest));
        let mut connection = locked(&inner.index);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let new_chunks = self.insert_into(&transaction, |connection, frame, chunk| {
            index::insert_chunk(connection, frame, chunk)
        })?;
        self.keep();
        transaction.commit()?;
        inner.after_commit(&connection);
        Ok(self.stats(new_chunks))
    }

    /// Ends the packs and waits until they are on the disk.
    pub(super) fn write_out(&mut self) -> Result<(), FileError> {
        let end = bundle::end_frame();
        for pack in &mut self.packs {
            pack.append(&end)?;
            pack.sync()?;
        }
        if self.packs.is_empty() {
            return Ok(());
        }
        file::sync_directory(&self.inner.directory)
    }

    /// Adds the packs and frames to the index, and each chunk by `add`; how many of those said it was new.
    pub(super) fn insert_into(
        &self,
        connection: &rusqlite::Connection,
        mut add: impl FnMut(&rusqlite::Connection, i64, &FrameChunk) -> rusqlite::Result<bool>,
    ) -> rusqlite::Result<u64> {
        for pack in &self.packs {
            index::insert_pack(connection, pack.id, pack.length)?;
        }
        let mut new_chunks = 0;
        for (place, chunks) in &self.frames {
            let frame = index::insert_frame(connection, place)?;
            for chunk in chunks {
                new_chunks += u64::from(add(connection, frame, chunk)?);
            }
        }
        Ok(new_chunks)
    }

    /// Leaves the files where they are. Called before the commit: if that fails, nobody knows whether a crash would
    /// still bring it about, so that only the next opening can tell whether they are needed.
    pub(super) fn keep(&mut self) {
        self.packs.iter_mut().for_each(PackFile::keep);
    }

    /// Bytes written so far.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.packs.iter().map(|pack| pack.length).sum()
    }

    fn stats(&self, new_chunks: u64) -> PackStats {
        PackStats {
            packs: self.packs.len() as u32,
            frames: self.frames.len() as u64,
            stored_bytes: self.stored_bytes(),
            new_chunks,
        }
    }
}

//! What one job wrote, on the controller's disk.
//!
//! ```text
//!   append ──▶ tails (memory, < one block each) ──block full or sync──▶ active segment ──64 MiB──▶ sealed segments
//!                                                                        (blocks)                  (blocks + index)
//! ```
//!
//! One directory per job holds segment files, `00000001.seg` and on; only the last may be unsealed. All streams of all
//! tasks and attempts share them, so that an array of 10,000 tasks is a few files. Nothing is made before the first
//! byte arrives.
//!
//! # Invariants
//!
//! - A stream is its blocks in order of offset, without gap or overlap, then its tail. Contents at an offset never
//!   change, so a resend is recognised by its offset alone.
//! - After [`JobSpool::sync`] returns, everything appended before it was called survives any crash. What was not synced
//!   may be gone after one, from its end backwards: [`JobSpool::length`] then says what to send again.
//! - A segment is durable and sealed before the next one is begun.
//! - Failing writes change nothing. A failing `fdatasync` leaves unknown what is on the disk (the kernel may have
//!   dropped the pages), so the spool then refuses further work until it is opened again, which writes what it finds
//!   past the last durable mark anew.
//!
//! Live logs come in small pieces, each synced: blocks of a line or two. Sealing a segment rewrites it when merging
//! such blocks would at least halve their number.
//!
//! One process owns a spool; share it in an [`Arc`](std::sync::Arc). Appends are serialised; a sync waits for the disk
//! without holding them up; readers hold the index only to look a place up.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use haul_types::StreamKey;

use crate::block::MAX_BLOCK_BYTES;
use crate::error::{AppendError, ReadError, SpoolError, SyncError, WriteError};
use crate::index::Index;
use crate::segment;

mod open;
mod reader;
mod seal;
#[cfg(test)]
mod tests;
mod writer;

use reader::ReadCache;
use writer::Writer;

/// How a spool is kept.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Bytes after which a segment is sealed and the next one begun; at most 1 GiB.
    pub segment_bytes: u32,
    /// The most bytes of a stream that are compressed (and so read) as one; at most 16 MiB.
    pub block_bytes: u32,
    /// The level of zstd as data arrives. Negative levels are faster.
    pub level: i32,
    /// The level of zstd when the small blocks of a segment are merged as it is sealed.
    pub merge_level: i32,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            block_bytes: 256 << 10,
            level: 1,
            merge_level: 3,
        }
    }
}

impl SpoolOptions {
    /// The options with every number in its range.
    fn clamped(&self) -> Self {
        Self {
            segment_bytes: self.segment_bytes.clamp(1, 1 << 30),
            block_bytes: self.block_bytes.clamp(1, MAX_BLOCK_BYTES as u32),
            ..self.clone()
        }
    }
}

/// All streams of one job: see the [module](self).
pub struct JobSpool {
    dir: PathBuf,
    options: SpoolOptions,
    /// Taken before `writer` by whoever syncs or seals: the number of the last append that is durable.
    syncing: Mutex<u64>,
    writer: Mutex<Writer>,
    /// Changed only while `writer` is held.
    index: RwLock<Index>,
    cache: Mutex<ReadCache>,
    /// How many appends were accepted; changed only while `writer` is held.
    appended: AtomicU64,
}

impl JobSpool {
    /// Opens the spool in `dir`, which need not exist: reads the indexes of sealed segments, walks the blocks of the last
    /// one, cuts a torn tail off.
    ///
    /// # Errors
    ///
    /// When files cannot be read. Damage is none: it shows when the damaged place is read, and in [`check`](crate::check()).
    pub fn open(dir: &Path, options: &SpoolOptions) -> Result<Self, SpoolError> {
        let options = options.clamped();
        let (index, active, next_number) = open::load(dir, &options)?;
        let unsure = (active.is_none() && next_number > 1).then(|| segment::path(dir, next_number - 1));
        let writer =
            Writer::new(&options, active, next_number, unsure).map_err(|source| SpoolError::Level {
                level: options.level,
                source,
            })?;
        Ok(Self {
            dir: dir.to_owned(),
            options,
            syncing: Mutex::new(0),
            writer: Mutex::new(writer),
            index: RwLock::new(index),
            cache: Mutex::default(),
            // One ahead of what is durable: the first sync after opening covers what an earlier process wrote.
            appended: AtomicU64::new(1),
        })
    }

    /// Appends `data`, which begins at `offset` of the stream, and returns the stream's new length. Bytes that are held
    /// already are skipped. Nothing is durable before a [`sync`](Self::sync).
    ///
    /// # Errors
    ///
    /// [`AppendError::Gap`] when bytes before `offset` are missing. When the disk is full or fails, a beginning of `data` may
    /// have been taken, as [`length`](Self::length) tells; to append the same again is right in any case.
    pub fn append(&self, key: StreamKey, offset: u64, data: &[u8]) -> Result<u64, AppendError> {
        let end = offset
            .checked_add(data.len() as u64)
            .ok_or(AppendError::TooLong {
                offset,
                length: data.len(),
            })?;
        let mut writer = self.writer();
        loop {
            let held = self.length(key);
            if offset > held {
                return Err(AppendError::Gap { key, held, offset });
            }
            if end <= held {
                return Ok(held);
            }
            if self.must_seal(&writer) {
                drop(writer);
                self.seal_full()?;
                writer = self.writer();
                continue;
            }
            let rest = &data[(held - offset) as usize..];
            self.accept(&mut writer, key, held, rest)?;
            self.appended.fetch_add(1, Ordering::Release);
        }
    }

    /// Makes everything that was appended before the call durable. Callers that come while another's sync runs share the
    /// next one.
    ///
    /// # Errors
    ///
    /// Nothing since the last good sync may be acknowledged. After [`SyncError::NoSpace`] the data is still held, here, unless
    /// the next call says [`SyncError::Broken`].
    pub fn sync(&self) -> Result<(), SyncError> {
        let wanted = self.appended.load(Ordering::Acquire);
        let mut durable = lock(&self.syncing);
        if *durable < wanted {
            *durable = self.sync_now()?;
        }
        Ok(())
    }

    /// Seals the last segment, so that opening the spool reads an index only: for a job that has ended. Syncs. A later append
    /// begins another segment.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync).
    pub fn seal(&self) -> Result<(), SyncError> {
        let mut durable = lock(&self.syncing);
        *durable = self.sync_now()?;
        self.seal_active(&mut self.writer())?;
        Ok(())
    }

    /// Bytes of the stream that are held, synced or not; 0 for a stream nobody wrote.
    #[must_use]
    pub fn length(&self, key: StreamKey) -> u64 {
        self.index().length(key)
    }

    /// Up to `max` bytes of the stream from `offset` on: at least one, except at the end. Ends at a block's end, so that it
    /// costs one block's memory at most and often no copy.
    ///
    /// # Errors
    ///
    /// [`ReadError::Damaged`] and [`ReadError::Lost`] say where the stream goes on behind the damage.
    pub fn read(&self, key: StreamKey, offset: u64, max: usize) -> Result<Bytes, ReadError> {
        self.read_at(key, offset, max)
    }

    /// Every stream and its length, in order.
    #[must_use]
    pub fn streams(&self) -> Vec<(StreamKey, u64)> {
        let index = self.index();
        let mut streams: Vec<_> = index
            .streams
            .keys()
            .chain(index.tails.keys().filter(|key| !index.streams.contains_key(key)))
            .map(|&key| (key, index.length(key)))
            .collect();
        streams.sort_unstable();
        streams
    }

    /// Bytes of the segment files.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.index().disk_bytes
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes what is in memory, waits for the disk and returns the number of the last append it covers. Holds `syncing`.
    fn sync_now(&self) -> Result<u64, WriteError> {
        let mut writer = self.writer();
        if self.must_seal(&writer) {
            self.seal_active(&mut writer)?;
        }
        writer.settle(&self.dir)?;
        let covers = self.appended.load(Ordering::Acquire);
        self.flush(&mut writer)?;
        let pending = writer.begin_sync();
        drop(writer);
        let outcome = pending.run(&self.dir);
        self.writer().end_sync(&pending, outcome)?;
        Ok(covers)
    }

    /// Seals the active segment if that is still due.
    fn seal_full(&self) -> Result<(), WriteError> {
        let _syncing = lock(&self.syncing);
        let mut writer = self.writer();
        if self.must_seal(&writer) {
            self.seal_active(&mut writer)?;
        }
        Ok(())
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        lock(&self.writer)
    }

    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for JobSpool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobSpool")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// Locks; a panic of another thread leaves nothing half done that a later call would trust: files are written before the
/// index says so.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

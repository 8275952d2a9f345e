//! Appending: tails, blocks, the active segment and its durability.

use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use haul_types::StreamKey;

use super::{JobSpool, SpoolOptions};
use crate::block::Encoder;
use crate::error::WriteError;
use crate::index::Extent;
use crate::segment;

/// Encoded bytes that are written at once.
const WRITE_BYTES: usize = 1 << 20;
/// Bytes that may wait in tails, all streams together, before they are written without a sync.
const TAIL_BYTES: usize = 8 << 20;
/// Extents after which a segment is sealed however few bytes it has: bounds the index of a segment of tiny blocks.
const SEGMENT_EXTENTS: usize = 1 << 18;

/// The segment being written.
pub(super) struct Active {
    pub(super) number: u32,
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    /// Where the next block goes. The file may be longer after a write failed; what is past here counts for nothing.
    pub(super) end: u32,
    /// Bytes known to be durable.
    pub(super) durable: u32,
    pub(super) blocks: u32,
    pub(super) extents: usize,
}

/// Everything that only the appending side knows.
pub(super) struct Writer {
    pub(super) active: Option<Active>,
    pub(super) next_number: u32,
    encoder: Encoder,
    /// Encoded blocks that are not written yet, and what they are.
    out: Vec<u8>,
    batch: Vec<(StreamKey, Extent)>,
    /// Bytes in all tails.
    tail_bytes: usize,
    /// A file was made whose name is not durable yet.
    new_name: bool,
    /// The last segment, sealed by an earlier process that may have died before it was durable.
    unsure: Option<PathBuf>,
    /// A sync failed.
    broken: bool,
}

/// What a sync has to wait for.
pub(super) struct PendingSync {
    file: Option<(u32, PathBuf, Arc<File>, u32)>,
    new_name: bool,
}

impl Writer {
    pub(super) fn new(
        options: &SpoolOptions,
        active: Option<Active>,
        next_number: u32,
        unsure: Option<PathBuf>,
    ) -> io::Result<Self> {
        Ok(Self {
            // A process that died may have made names that are not durable.
            new_name: active.is_some(),
            active,
            next_number,
            encoder: Encoder::new(options.level)?,
            out: Vec::new(),
            batch: Vec::new(),
            tail_bytes: 0,
            unsure,
            broken: false,
        })
    }

    pub(super) fn begin_sync(&mut self) -> PendingSync {
        PendingSync {
            file: self
                .active
                .as_ref()
                .filter(|active| active.durable < active.end)
                .map(|active| {
                    (
                        active.number,
                        active.path.clone(),
                        Arc::clone(&active.file),
                        active.end,
                    )
                }),
            new_name: mem::take(&mut self.new_name),
        }
    }

    pub(super) fn end_sync(
        &mut self,
        pending: &PendingSync,
        outcome: Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        match (outcome, &pending.file) {
            (Err(error), _) => {
                self.broken = true;
                return Err(error);
            }
            (Ok(()), Some((number, _, _, end))) => {
                if let Some(active) = self.active.as_mut().filter(|active| active.number == *number) {
                    active.durable = active.durable.max(*end);
                }
            }
            (Ok(()), None) => {}
        }
        Ok(())
    }

    /// After a sync of the active segment failed elsewhere.
    pub(super) fn set_broken(&mut self) {
        self.broken = true;
    }

    /// Makes durable what an earlier process sealed.
    pub(super) fn settle(&mut self, dir: &Path) -> Result<(), WriteError> {
        if let Some(path) = self.unsure.take() {
            File::open(&path)
                .and_then(|file| file.sync_data())
                .map_err(|source| WriteError::new(&path, source))
                .and_then(|()| sync_names(dir))
                .inspect_err(|_| self.broken = true)?;
        }
        Ok(())
    }

    fn durable(&self) -> u32 {
        self.active.as_ref().map_or(0, |active| active.durable)
    }

    /// Encodes a block into the batch.
    fn encode(&mut self, key: StreamKey, offset: u64, raw: &[u8]) {
        let position = self.out.len() as u32;
        let durable = self.durable();
        let header = self.encoder.encode(key, offset, raw, durable, &mut self.out);
        // The segment and the place in it are known when the batch is written.
        self.batch.push((key, Extent::of(&header, 0, position)));
    }
}

impl PendingSync {
    /// Waits for the disk.
    pub(super) fn run(&self, dir: &Path) -> Result<(), WriteError> {
        if let Some((_, path, file, _)) = &self.file {
            file.sync_data().map_err(|source| WriteError::new(path, source))?;
        }
        if self.new_name {
            sync_names(dir)?;
        }
        Ok(())
    }
}

/// Makes the names in `dir`, and `dir`'s own, durable.
pub(super) fn sync_names(dir: &Path) -> Result<(), WriteError> {
    for dir in [
        Some(dir),
        dir.parent().filter(|parent| !parent.as_os_str().is_empty()),
    ]
    .into_iter()
    .flatten()
    {
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|source| WriteError::new(dir, source))?;
    }
    Ok(())
}

impl JobSpool {
    pub(super) fn must_seal(&self, writer: &Writer) -> bool {
        writer.active.as_ref().is_some_and(|active| {
            active.end >= self.options.segment_bytes || active.extents >= SEGMENT_EXTENTS
        })
    }

    /// Takes a beginning of `data`, whose first byte belongs at `held`, the stream's end.
    pub(super) fn accept(
        &self,
        writer: &mut Writer,
        key: StreamKey,
        held: u64,
        data: &[u8],
    ) -> Result<(), WriteError> {
        self.refuse_broken(writer)?;
        let block = self.options.block_bytes as usize;
        let tail = self.index().tails.get(&key).map_or(0, Vec::len);
        let room = block - tail;
        if data.len() < room {
            if writer.tail_bytes + data.len() > TAIL_BYTES {
                self.flush(writer)?;
            }
            self.index_mut()
                .tails
                .entry(key)
                .or_default()
                .extend_from_slice(data);
            writer.tail_bytes += data.len();
            return Ok(());
        }
        if tail > 0 {
            // Fill the block up; when it cannot be written, the tail is what it was.
            let mut full = self.index().tails.get(&key).cloned().unwrap_or_default();
            full.extend_from_slice(&data[..room]);
            writer.encode(key, held - tail as u64, &full);
            return self.commit(writer);
        }
        // Whole blocks go straight from the caller's memory.
        for (number, piece) in data.chunks_exact(block).enumerate() {
            writer.encode(key, held + (number * block) as u64, piece);
            if writer.out.len() >= WRITE_BYTES {
                break;
            }
        }
        self.commit(writer)
    }

    /// Writes all tails as blocks. What fails stays in its tail.
    pub(super) fn flush(&self, writer: &mut Writer) -> Result<(), WriteError> {
        self.refuse_broken(writer)?;
        let mut keys: Vec<_> = self.index().tails.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            let index = self.index();
            if let Some(tail) = index.tails.get(&key) {
                writer.encode(key, index.written(key), tail);
            }
            drop(index);
            if writer.out.len() >= WRITE_BYTES {
                self.commit(writer)?;
            }
        }
        self.commit(writer)
    }

    /// Writes the batch to the active segment and tells the index; or forgets it and fails.
    fn commit(&self, writer: &mut Writer) -> Result<(), WriteError> {
        if writer.batch.is_empty() {
            return Ok(());
        }
        let outcome = self.write_batch(writer);
        if outcome.is_ok() {
            let Writer {
                active: Some(active),
                batch,
                out,
                tail_bytes,
                ..
            } = writer
            else {
                return outcome;
            };
            let mut index = self.index_mut();
            for (key, extent) in batch.iter() {
                let extent = Extent {
                    segment: active.number,
                    position: active.end + extent.position,
                    ..*extent
                };
                if let Some(tail) = index.tails.remove(key) {
                    *tail_bytes -= tail.len();
                }
                active.extents += usize::from(index.push(*key, extent, self.options.block_bytes));
            }
            active.blocks += batch.len() as u32;
            active.end += out.len() as u32;
            index.disk_bytes += out.len() as u64;
        }
        writer.out.clear();
        writer.batch.clear();
        outcome
    }

    fn write_batch(&self, writer: &mut Writer) -> Result<(), WriteError> {
        if writer.active.is_none() {
            writer.settle(&self.dir)?;
            let active = create(&self.dir, writer.next_number)?;
            self.index_mut().active = Some((active.number, Arc::clone(&active.file)));
            writer.next_number += 1;
            writer.new_name = true;
            writer.active = Some(active);
        }
        let Some(active) = &writer.active else {
            return Ok(());
        };
        active
            .file
            .write_all_at(&writer.out, active.end.into())
            .map_err(|source| {
                // Give the partial write's room back. Should that fail too: the next write covers it, and so does recovery.
                let _ = active.file.set_len(active.end.into());
                WriteError::new(&active.path, source)
            })
    }

    pub(super) fn refuse_broken(&self, writer: &Writer) -> Result<(), WriteError> {
        if writer.broken {
            return Err(WriteError::Broken {
                path: self.dir.clone(),
            });
        }
        Ok(())
    }
}

fn create(dir: &Path, number: u32) -> Result<Active, WriteError> {
    let path = segment::path(dir, number);
    fs::create_dir_all(dir).map_err(|source| WriteError::new(dir, source))?;
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(|source| WriteError::new(&path, source))?;
    Ok(Active {
        number,
        path,
        file: Arc::new(file),
        end: 0,
        durable: 0,
        blocks: 0,
        extents: 0,
    })
}

//! Sealing a segment: its index is written, and first its small blocks are merged where that is worth it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use haul_types::StreamKey;

use super::JobSpool;
use super::reader::{Unreadable, decode};
use super::writer::{Active, Writer, sync_names};
use crate::block::{Decoder, Encoder};
use crate::error::WriteError;
use crate::index::Extent;
use crate::segment;

/// Fewer blocks than this are not worth a rewrite.
const FEW_BLOCKS: u32 = 16;

/// The extents of a segment, by stream.
type Extents = Vec<(StreamKey, Vec<Extent>)>;

impl JobSpool {
    /// Seals the active segment, if there is one, and makes it durable. The caller holds `syncing`.
    pub(super) fn seal_active(&self, writer: &mut Writer) -> Result<(), WriteError> {
        self.refuse_broken(writer)?;
        let Some(active) = &writer.active else {
            return Ok(());
        };
        let extents = self.index().in_segment(active.number);
        let merged = if self.worth_merging(active, &extents) {
            // A disk too full for a second copy, or a damaged block, is no reason not to seal what there is.
            self.merge(active, &extents).ok()
        } else {
            None
        };
        let (extents, bytes) = match merged {
            Some((extents, bytes)) => (Some(extents), bytes),
            None => {
                let footer = segment::footer(&extents, active.blocks, active.end);
                if let Err(source) = active.file.write_all_at(&footer, active.end.into()) {
                    let _ = active.file.set_len(active.end.into());
                    return Err(WriteError::new(&active.path, source));
                }
                let synced = active
                    .file
                    .sync_data()
                    .map_err(|source| WriteError::new(&active.path, source))
                    .and_then(|()| sync_names(&self.dir));
                if let Err(error) = synced {
                    writer.set_broken();
                    return Err(error);
                }
                (None, u64::from(active.end) + footer.len() as u64)
            }
        };
        let (number, end) = (active.number, active.end);
        let mut index = self.index_mut();
        if let Some(extents) = extents {
            // Readers open files under the index's lock: they see the old file with the old extents or the new with the new.
            let path = segment::path(&self.dir, number);
            fs::rename(segment::draft_path(&self.dir, number), &path)
                .map_err(|source| WriteError::new(&path, source))?;
            index.replace_newest(number, extents);
        }
        index.active = None;
        index.disk_bytes = index.disk_bytes - u64::from(end) + bytes;
        drop(index);
        writer.active = None;
        sync_names(&self.dir).inspect_err(|_| writer.set_broken())
    }

    fn worth_merging(&self, active: &Active, extents: &Extents) -> bool {
        let block = u64::from(self.options.block_bytes);
        let ideal: u64 = extents
            .iter()
            .map(|(_, extents)| {
                extents
                    .iter()
                    .map(|e| u64::from(e.raw))
                    .sum::<u64>()
                    .div_ceil(block)
            })
            .sum();
        active.blocks >= FEW_BLOCKS && u64::from(active.blocks) >= 2 * ideal
    }

    /// Writes the segment anew beside itself, each stream's blocks together and as large as they may be, durable. Returns
    /// the new extents and the file's length.
    fn merge(&self, active: &Active, extents: &Extents) -> io::Result<(Extents, u64)> {
        let path = segment::draft_path(&self.dir, active.number);
        self.write_merged(&path, active, extents).inspect_err(|_| {
            // Opening the spool removes what stays here.
            let _ = fs::remove_file(&path);
        })
    }

    fn write_merged(&self, path: &Path, active: &Active, extents: &Extents) -> io::Result<(Extents, u64)> {
        let mut draft = Draft {
            out: BufWriter::with_capacity(1 << 20, File::create(path)?),
            encoder: Encoder::new(self.options.merge_level)?,
            encoded: Vec::new(),
            block: self.options.block_bytes as usize,
            segment: active.number,
            position: 0,
            blocks: 0,
        };
        let mut decoder = Decoder::default();
        let mut merged = Vec::with_capacity(extents.len());
        for (key, extents) in extents {
            let mut stretch = Stretch::default();
            for extent in extents {
                let bytes = whole(&mut decoder, &active.file, *key, extent)?;
                if stretch.start + stretch.raw.len() as u64 != extent.offset {
                    // The segment's first piece of the stream, or one behind a hole that damage left.
                    draft.place(*key, &mut stretch, true)?;
                    stretch.start = extent.offset;
                }
                stretch.raw.extend_from_slice(&bytes);
                draft.place(*key, &mut stretch, false)?;
            }
            draft.place(*key, &mut stretch, true)?;
            merged.push((*key, stretch.placed));
        }
        let footer = segment::footer(&merged, draft.blocks, draft.position);
        draft.out.write_all(&footer)?;
        let file = draft.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok((merged, u64::from(draft.position) + footer.len() as u64))
    }
}

/// All of an extent; damage is an error.
fn whole(decoder: &mut Decoder, file: &File, key: StreamKey, extent: &Extent) -> io::Result<Vec<u8>> {
    match decode(decoder, file, key, extent, extent.offset) {
        Ok((from, bytes)) if from == extent.offset && bytes.len() == extent.raw as usize => Ok(bytes),
        Err(Unreadable::Io(error)) => Err(error),
        Ok(_) | Err(Unreadable::Damaged { .. }) => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A segment being written anew.
struct Draft {
    out: BufWriter<File>,
    encoder: Encoder,
    encoded: Vec<u8>,
    block: usize,
    segment: u32,
    position: u32,
    blocks: u32,
}

/// A stretch of one stream on its way into a draft.
#[derive(Default)]
struct Stretch {
    start: u64,
    raw: Vec<u8>,
    placed: Vec<Extent>,
}

impl Draft {
    /// Writes the stretch as full blocks, and what remains too when `all`.
    fn place(&mut self, key: StreamKey, stretch: &mut Stretch, all: bool) -> io::Result<()> {
        let mut taken = 0;
        while stretch.raw.len() - taken >= self.block || (all && taken < stretch.raw.len()) {
            let piece = &stretch.raw[taken..stretch.raw.len().min(taken + self.block)];
            self.encoded.clear();
            let header = self
                .encoder
                .encode(key, stretch.start, piece, 0, &mut self.encoded);
            self.out.write_all(&self.encoded)?;
            stretch
                .placed
                .push(Extent::of(&header, self.segment, self.position));
            self.position += header.block_bytes();
            self.blocks += 1;
            taken += piece.len();
            stretch.start = header.end();
        }
        stretch.raw.drain(..taken);
        Ok(())
    }
}

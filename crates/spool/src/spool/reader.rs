//! Reading at an offset.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use haul_types::StreamKey;

use super::{JobSpool, lock};
use crate::block::{BadPayload, Decoder, HEADER_BYTES, Header};
use crate::error::ReadError;
use crate::index::{Extent, Index, Place};
use crate::segment;

/// What the last read left: the file it read and the piece it decoded.
#[derive(Default)]
pub(super) struct ReadCache {
    file: Option<(u32, Arc<File>)>,
    piece: Option<(StreamKey, u64, Bytes)>,
}

impl ReadCache {
    fn get(&self, key: StreamKey, offset: u64, max: usize) -> Option<Bytes> {
        let (held, start, bytes) = self.piece.as_ref()?;
        let from = usize::try_from(offset.checked_sub(*start)?).ok()?;
        (*held == key && from < bytes.len())
            .then(|| bytes.slice(from..bytes.len().min(from.saturating_add(max))))
    }
}

/// Why an extent cannot be decoded.
pub(super) enum Unreadable {
    Io(io::Error),
    Damaged {
        /// In the segment.
        position: u64,
        /// In the stream.
        resumes: u64,
        source: Option<BadPayload>,
    },
}

/// Decodes `extent` from the block with `offset` on; returns where in the stream that begins, and the bytes. A damaged
/// block ends them, and is an error when it is the first.
pub(super) fn decode(
    decoder: &mut Decoder,
    file: &File,
    key: StreamKey,
    extent: &Extent,
    offset: u64,
) -> Result<(u64, Vec<u8>), Unreadable> {
    let mut stored = vec![0; extent.stored as usize];
    file.read_exact_at(&mut stored, extent.position.into())
        .map_err(Unreadable::Io)?;
    let mut out = Vec::new();
    let (mut at, mut start) = (0, offset);
    while at < stored.len() {
        let damaged = |resumes, source| Unreadable::Damaged {
            position: u64::from(extent.position) + at as u64,
            resumes,
            source,
        };
        let header = stored[at..]
            .first_chunk()
            .and_then(Header::parse)
            .filter(|header| header.key == key && at + header.block_bytes() as usize <= stored.len());
        let Some(header) = header else {
            return if out.is_empty() {
                Err(damaged(extent.end(), None))
            } else {
                Ok((start, out))
            };
        };
        let payload = &stored[at + HEADER_BYTES..][..header.stored_bytes as usize];
        if header.end() > offset {
            if out.is_empty() {
                start = header.offset;
                out.reserve_exact((extent.end().saturating_sub(start)) as usize);
            }
            match decoder.decode(&header, payload, &mut out) {
                Ok(()) => {}
                Err(source) if out.is_empty() => return Err(damaged(header.end(), Some(source))),
                Err(_) => return Ok((start, out)),
            }
        }
        at += header.block_bytes() as usize;
    }
    Ok((start, out))
}

impl JobSpool {
    pub(super) fn read_at(&self, key: StreamKey, offset: u64, max: usize) -> Result<Bytes, ReadError> {
        if max == 0 {
            return Ok(Bytes::new());
        }
        if let Some(bytes) = lock(&self.cache).get(key, offset, max) {
            return Ok(bytes);
        }
        let (extent, path, file) = {
            let index = self.index();
            let extent = match index.locate(key, offset) {
                Place::Extent(extent) => extent,
                Place::Tail(from) => {
                    let tail = &index.tails[&key][from..];
                    return Ok(Bytes::copy_from_slice(&tail[..tail.len().min(max)]));
                }
                Place::Hole(resumes) => {
                    return Err(ReadError::Lost { key, offset, resumes });
                }
                Place::End => return Ok(Bytes::new()),
            };
            let path = segment::path(&self.dir, extent.segment);
            // Opened before the index is let go: a segment may be rewritten, and the extent fits one version of it.
            let file = self.segment_file(&index, &extent, &path)?;
            (extent, path, file)
        };
        let outcome = decode(&mut Decoder::default(), &file, key, &extent, offset);
        let (start, bytes) = outcome.map_err(|error| match error {
            Unreadable::Io(source) => ReadError::Io { path, source },
            Unreadable::Damaged {
                position,
                resumes,
                source,
            } => ReadError::Damaged {
                key,
                offset,
                path,
                position,
                resumes,
                source,
            },
        })?;
        let mut cache = lock(&self.cache);
        cache.piece = Some((key, start, Bytes::from(bytes)));
        // Headers that are sound and yet do not hold the offset are damage too.
        cache.get(key, offset, max).ok_or(ReadError::Lost {
            key,
            offset,
            resumes: extent.end(),
        })
    }

    fn segment_file(&self, index: &Index, extent: &Extent, path: &PathBuf) -> Result<Arc<File>, ReadError> {
        if let Some((_, file)) = index
            .active
            .as_ref()
            .filter(|(number, _)| *number == extent.segment)
        {
            return Ok(Arc::clone(file));
        }
        let mut cache = lock(&self.cache);
        if let Some((_, file)) = cache
            .file
            .as_ref()
            .filter(|(number, _)| *number == extent.segment)
        {
            return Ok(Arc::clone(file));
        }
        let file = File::open(path).map(Arc::new).map_err(|source| ReadError::Io {
            path: path.clone(),
            source,
        })?;
        cache.file = Some((extent.segment, Arc::clone(&file)));
        Ok(file)
    }
}

//! Where every byte of every stream lies, in memory.
//!
//! An extent is a run of blocks of one stream that lie side by side in one segment: many small blocks make one extent,
//! so that the index stays small whatever the sizes of the appends were. It decodes to one piece of at most a block's
//! raw size.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use haul_types::StreamKey;

use crate::block::Header;

/// A run of neighbouring blocks of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Offset in the stream.
    pub(crate) offset: u64,
    /// Which segment.
    pub(crate) segment: u32,
    /// Where in the segment the first block's header lies.
    pub(crate) position: u32,
    /// Bytes of the stream.
    pub(crate) raw: u32,
    /// Bytes in the file, headers included.
    pub(crate) stored: u32,
}

impl Extent {
    /// The block of `header`, which lies at `position` of `segment`.
    pub(crate) fn of(header: &Header, segment: u32, position: u32) -> Self {
        Self {
            offset: header.offset,
            segment,
            position,
            raw: header.raw_bytes,
            stored: header.block_bytes(),
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.offset + u64::from(self.raw)
    }

    /// Takes `next` in when it directly follows, in the stream and in the file, and the run stays small.
    fn absorb(&mut self, next: &Self, limit: u32) -> bool {
        let follows = self.segment == next.segment
            && self.position + self.stored == next.position
            && self.end() == next.offset
            && self.raw + next.raw <= limit
            && self.stored + next.stored <= 2 * limit;
        if follows {
            self.raw += next.raw;
            self.stored += next.stored;
        }
        follows
    }
}

/// One stream's extents, by offset; gaps are damage.
#[derive(Default)]
pub(crate) struct Stream {
    extents: Vec<Extent>,
}

impl Stream {
    /// Bytes that are in files.
    pub(crate) fn written(&self) -> u64 {
        self.extents.last().map_or(0, Extent::end)
    }

    /// Appends, merging runs of up to `limit` bytes. True when an extent was added.
    fn push(&mut self, extent: Extent, limit: u32) -> bool {
        if self
            .extents
            .last_mut()
            .is_some_and(|last| last.absorb(&extent, limit))
        {
            return false;
        }
        if self.extents.is_empty() {
            // Most streams of a large array are one extent for ever: do not reserve for four.
            self.extents.reserve_exact(1);
        }
        self.extents.push(extent);
        true
    }

    /// The extent with the byte at `offset`, or else the offset at which the stream goes on.
    fn at(&self, offset: u64) -> Result<Extent, u64> {
        let next = self.extents.partition_point(|extent| extent.end() <= offset);
        match self.extents.get(next) {
            Some(extent) if extent.offset <= offset => Ok(*extent),
            Some(extent) => Err(extent.offset),
            None => Err(self.written()),
        }
    }
}

/// Where a byte is.
pub(crate) enum Place {
    /// In a file.
    Extent(Extent),
    /// In memory, from this index of the stream's tail on.
    Tail(usize),
    /// Nowhere: damage lost it, and the stream goes on at this offset.
    Hole(u64),
    /// Past the end.
    End,
}

/// All streams of a job.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) streams: HashMap<StreamKey, Stream>,
    /// What was appended and is in no file yet. Small: a sync or a full block empties it.
    pub(crate) tails: HashMap<StreamKey, Vec<u8>>,
    /// The segment being written.
    pub(crate) active: Option<(u32, Arc<File>)>,
    /// Bytes of all segment files.
    pub(crate) disk_bytes: u64,
}

impl Index {
    pub(crate) fn written(&self, key: StreamKey) -> u64 {
        self.streams.get(&key).map_or(0, Stream::written)
    }

    pub(crate) fn length(&self, key: StreamKey) -> u64 {
        self.written(key) + self.tails.get(&key).map_or(0, Vec::len) as u64
    }

    pub(crate) fn push(&mut self, key: StreamKey, extent: Extent, limit: u32) -> bool {
        self.streams.entry(key).or_default().push(extent, limit)
    }

    pub(crate) fn locate(&self, key: StreamKey, offset: u64) -> Place {
        let written = self.written(key);
        if offset < written {
            return match self.streams.get(&key).map(|stream| stream.at(offset)) {
                Some(Ok(extent)) => Place::Extent(extent),
                Some(Err(resumes)) => Place::Hole(resumes),
                None => Place::End,
            };
        }
        match usize::try_from(offset - written) {
            Ok(at) if self.tails.get(&key).is_some_and(|tail| at < tail.len()) => Place::Tail(at),
            _ => Place::End,
        }
    }

    /// The extents that lie in `segment`, by stream, streams in order.
    pub(crate) fn in_segment(&self, segment: u32) -> Vec<(StreamKey, Vec<Extent>)> {
        let mut found: Vec<_> = self
            .streams
            .iter()
            .filter_map(|(&key, stream)| {
                let inside = &stream.extents[stream.extents.partition_point(|e| e.segment < segment)..];
                let inside: Vec<_> = inside
                    .iter()
                    .take_while(|e| e.segment == segment)
                    .copied()
                    .collect();
                (!inside.is_empty()).then_some((key, inside))
            })
            .collect();
        found.sort_unstable_by_key(|&(key, _)| key);
        found
    }

    /// Puts `extents` in the place of all extents of `segment`, the newest one.
    pub(crate) fn replace_newest(&mut self, segment: u32, extents: Vec<(StreamKey, Vec<Extent>)>) {
        for (key, extents) in extents {
            let stream = self.streams.entry(key).or_default();
            stream
                .extents
                .truncate(stream.extents.partition_point(|e| e.segment < segment));
            stream.extents.reserve_exact(extents.len());
            stream.extents.extend(extents);
        }
    }
}

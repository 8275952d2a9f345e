//! Opening: indexes of sealed segments, recovery of the last one.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::SpoolOptions;
use super::writer::Active;
use crate::error::SpoolError;
use crate::index::{Extent, Index};
use crate::scan::{Found, durable_mark, scan};
use crate::segment;

/// Bytes that are copied at once.
const COPY_BYTES: u64 = 1 << 20;

/// Reads the spool in `dir`: its index, the segment to go on writing, the number of the next one.
pub(super) fn load(dir: &Path, options: &SpoolOptions) -> Result<(Index, Option<Active>, u32), SpoolError> {
    let list_error = |source| SpoolError::List {
        path: dir.to_owned(),
        source,
    };
    let (numbers, drafts) = segment::list(dir).map_err(list_error)?;
    for draft in drafts {
        fs::remove_file(&draft).map_err(list_error)?;
    }
    let mut index = Index::default();
    let mut active = None;
    for &number in &numbers {
        let path = segment::path(dir, number);
        let last = numbers.last() == Some(&number);
        let loaded = load_segment(&mut index, &path, number, last, options);
        active = loaded.map_err(|source| SpoolError::Segment { path, source })?;
    }
    Ok((index, active, numbers.last().map_or(1, |last| last + 1)))
}

fn load_segment(
    index: &mut Index,
    path: &Path,
    number: u32,
    last: bool,
    options: &SpoolOptions,
) -> io::Result<Option<Active>> {
    let file = File::options().read(true).write(last).open(path)?;
    let length = file.metadata()?.len();
    index.disk_bytes += length;
    if let Some(footer) = segment::read_footer(&file, number)? {
        for (key, extents) in footer.extents {
            for extent in extents {
                // A run is as long as the writer's options allowed; never longer by these.
                index.push(key, extent, 0);
            }
        }
        return Ok(None);
    }
    let walked = walk(index, &file, number, length, last, options.block_bytes)?;
    if !last {
        return Ok(None);
    }
    if walked.end < length {
        file.set_len(walked.end)?;
        index.disk_bytes -= length - walked.end;
    }
    rewrite(&file, walked.durable, walked.end)?;
    let file = Arc::new(file);
    index.active = Some((number, Arc::clone(&file)));
    Ok(Some(Active {
        number,
        path: path.to_owned(),
        file,
        end: u32::try_from(walked.end).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?,
        durable: walked.durable as u32,
        blocks: walked.blocks,
        extents: walked.extents,
    }))
}

struct Walked {
    /// Where what counts ends.
    end: u64,
    /// Bytes known to be durable.
    durable: u64,
    blocks: u32,
    extents: usize,
}

/// Indexes a segment by its blocks. What is unsound before the durable mark is damage, and what follows it is kept; in
/// the last segment, what is unsound after the mark is a torn tail, and the segment ends there.
fn walk(
    index: &mut Index,
    file: &File,
    number: u32,
    length: u64,
    last: bool,
    limit: u32,
) -> io::Result<Walked> {
    let mut mark = (!last).then_some(u64::MAX);
    let mut walked = Walked {
        end: length,
        durable: 0,
        blocks: 0,
        extents: 0,
    };
    scan(file, 0, length, |found| {
        let (position, sound) = match &found {
            Found::Block {
                header,
                position,
                sound,
            } => (*position, *sound && header.offset == index.written(header.key)),
            Found::Unreadable { from, .. } => (*from, false),
        };
        if !sound {
            let mark = match mark {
                Some(mark) => mark,
                None => *mark.insert(durable_mark(file, position, length)?.max(walked.durable)),
            };
            if position >= mark {
                walked.end = position;
                return Ok(ControlFlow::Break(()));
            }
        }
        if let Found::Block { header, position, .. } = found {
            walked.durable = walked.durable.max(header.durable.into());
            walked.blocks += 1;
            // Within u32: a segment ends soon after `segment_bytes`, 1 GiB at most.
            if header.offset >= index.written(header.key)
                && let Ok(position) = u32::try_from(position)
            {
                let added = index.push(header.key, Extent::of(&header, number, position), limit);
                walked.extents += usize::from(added);
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    walked.durable = walked.durable.min(walked.end);
    Ok(walked)
}

/// Writes `from..end` over itself: after a failed sync the kernel holds pages that are not on the disk and that it believes
/// clean, which the next sync would skip.
fn rewrite(file: &File, from: u64, end: u64) -> io::Result<()> {
    let mut buffer = Vec::new();
    let mut at = from;
    while at < end {
        buffer.resize((end - at).min(COPY_BYTES) as usize, 0);
        file.read_exact_at(&mut buffer, at)?;
        file.write_all_at(&buffer, at)?;
        at += buffer.len() as u64;
    }
    Ok(())
}

//! Reading a whole spool to find damage.

use std::collections::HashMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use haul_types::StreamKey;

use crate::error::CheckError;
use crate::scan::{Found, scan};
use crate::segment;

/// What a spool holds and what is wrong with it.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Segment files.
    pub segments: usize,
    /// Blocks whose header is sound.
    pub blocks: u64,
    /// Bytes of all streams.
    pub raw_bytes: u64,
    /// Bytes of all segment files.
    pub disk_bytes: u64,
    /// Every stream and its length, in order.
    pub streams: Vec<(StreamKey, u64)>,
    /// What is wrong, in order of place.
    pub damage: Vec<Damage>,
}

/// One damaged place.
#[derive(Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// Where in it.
    pub position: u64,
    /// What is wrong there.
    pub kind: DamageKind,
}

/// What can be wrong.
#[derive(Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// A block's payload does not match its checksum.
    Payload {
        /// The stream.
        key: StreamKey,
        /// The offset in the stream of the block's first byte.
        offset: u64,
        /// How many bytes of the stream it holds.
        bytes: u32,
    },
    /// Bytes without a sound block: damaged headers, or at the end of the last segment a torn tail, which opening the
    /// spool cuts off.
    Unreadable {
        /// How many bytes of the file.
        bytes: u64,
    },
    /// A block that does not begin where its stream ended.
    Discontinuous {
        /// The stream.
        key: StreamKey,
        /// Where the stream ended.
        expected: u64,
        /// Where the block begins.
        offset: u64,
    },
    /// A segment that is not the last one has no readable index. Its blocks are found without it.
    NoIndex,
    /// A segment is missing between others.
    MissingSegment,
}

/// Reads every block in `dir` and checks it, changing nothing.
///
/// # Errors
///
/// When files cannot be listed or read. Damage is reported, not an error.
pub fn check(dir: &Path) -> Result<CheckReport, CheckError> {
    let (numbers, _) = segment::list(dir).map_err(|source| CheckError::List {
        path: dir.to_owned(),
        source,
    })?;
    let mut report = CheckReport::default();
    let mut ends = HashMap::new();
    let mut expected = 1;
    for &number in &numbers {
        for missing in expected..number {
            report.damage.push(Damage {
                path: segment::path(dir, missing),
                position: 0,
                kind: DamageKind::MissingSegment,
            });
        }
        expected = number.saturating_add(1);
        let last = numbers.last() == Some(&number);
        let path = segment::path(dir, number);
        check_segment(&path, number, last, &mut ends, &mut report)
            .map_err(|source| CheckError::Segment { path, source })?;
    }
    report.streams = ends.into_iter().collect();
    report.streams.sort_unstable();
    Ok(report)
}

fn check_segment(
    path: &Path,
    number: u32,
    last: bool,
    ends: &mut HashMap<StreamKey, u64>,
    report: &mut CheckReport,
) -> std::io::Result<()> {
    let damage = |position, kind| Damage {
        path: path.to_owned(),
        position,
        kind,
    };
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    report.segments += 1;
    report.disk_bytes += length;
    let end = match segment::read_footer(&file, number)? {
        Some(footer) => footer.blocks_end,
        None => {
            if !last {
                report.damage.push(damage(length, DamageKind::NoIndex));
            }
            length
        }
    };
    scan(&file, 0, end, |found| {
        match found {
            Found::Unreadable { from, to } => {
                report
                    .damage
                    .push(damage(from, DamageKind::Unreadable { bytes: to - from }));
            }
            Found::Block {
                header,
                position,
                sound,
            } => {
                report.blocks += 1;
                report.raw_bytes += u64::from(header.raw_bytes);
                if !sound {
                    let kind = DamageKind::Payload {
                        key: header.key,
                        offset: header.offset,
                        bytes: header.raw_bytes,
                    };
                    report.damage.push(damage(position, kind));
                }
                let expected = ends.insert(header.key, header.end()).unwrap_or(0);
                if expected != header.offset {
                    let kind = DamageKind::Discontinuous {
                        key: header.key,
                        expected,
                        offset: header.offset,
                    };
                    report.damage.push(damage(position, kind));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

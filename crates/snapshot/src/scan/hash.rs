//! Reads and hashes the files that the cache does not know.

use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use haul_types::{ByteSize, Digest};

use super::cache::Cache;
use super::{Found, FoundKind, Refusal, ScanProgress};
use crate::MAX_CHUNK;
use crate::beneath::{Beneath, stamp_of};
use crate::manifest::{Chunk, MAX_FILE_CHUNKS, WHOLE_FILE};
use crate::stamp::Stamp;

/// How often a file that changes while it is read is read again.
const TRIES: usize = 3;
/// FastCDC's smallest and average chunk; the largest is [`MAX_CHUNK`].
const MIN_CHUNK: usize = 256 << 10;
const AVG_CHUNK: usize = 1 << 20;
/// What a thread reads into for a large file: the largest chunk, and as much again so that moving what is left over to
/// the front is rare.
const WINDOW: usize = 2 * MAX_CHUNK;

/// What a file holds.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) stamp: Stamp,
    pub(super) chunks: Vec<Chunk>,
    /// Whether the stamp proves this content from now on.
    pub(super) proven: bool,
}

/// The contents, in the order of the entries; `None` for what is no file or was refused.
pub(super) struct Hashed {
    pub(super) contents: Vec<Option<Content>>,
    pub(super) refusals: Vec<Refusal>,
    pub(super) files: u64,
    /// Whether the cache held exactly this.
    pub(super) as_cached: bool,
}

pub(super) fn hash_all(
    root: &Beneath,
    found: &[Found],
    cache: Option<&Cache>,
    started: SystemTime,
    threads: usize,
    progress: &dyn ScanProgress,
) -> Hashed {
    let (mut contents, all_used) =
        cache.map_or_else(|| (vec![None; found.len()], false), |c| c.look_up(found, started));
    let mut unknown: Vec<(u64, usize)> = found
        .iter()
        .enumerate()
        .filter_map(|(index, found)| match &found.what {
            FoundKind::File(stamp) if contents[index].is_none() => Some((stamp.size, index)),
            _ => None,
        })
        .collect();
    // The largest first, so that no thread is left alone with one at the end; equal ones in the order of the walk.
    unknown.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let next = AtomicUsize::new(0);
    let files = AtomicU64::new(0);
    let results = Mutex::new((Vec::new(), Vec::new()));
    let work = || {
        let mut buffer = Vec::new();
        let mut done = Vec::new();
        let mut refused = Vec::new();
        while let Some(&(_, index)) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
            match read_file(root, &found[index].path, &mut buffer) {
                Ok(content) => {
                    progress.on_hashed(1, content.stamp.size);
                    done.push((index, content));
                }
                Err(refusal) => refused.push(refusal),
            }
            files.fetch_add(1, Ordering::Relaxed);
        }
        let mut results = results
            .lock()
            .expect("no worker panics while it holds the results");
        results.0.extend(done);
        results.1.extend(refused);
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(unknown.len()) {
            scope.spawn(work);
        }
        if !unknown.is_empty() {
            work();
        }
    });
    let (done, refusals) = results
        .into_inner()
        .expect("no worker panics while it holds the results");
    for (index, content) in done {
        contents[index] = Some(content);
    }
    let files = files.into_inner();
    Hashed {
        contents,
        refusals,
        files,
        as_cached: all_used && files == 0,
    }
}

/// Reads one file, again if it changes meanwhile.
fn read_file(root: &Beneath, path: &[u8], buffer: &mut Vec<u8>) -> Result<Content, Refusal> {
    let unreadable = |source: std::io::Error| Refusal::Unreadable {
        path: path.into(),
        source,
    };
    for _ in 0..TRIES {
        let known = SystemTime::now();
        let mut file = match root.read(path) {
            Ok(file) => file,
            // It was there a moment ago: replaced by a link or directory, or gone.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => continue,
            Err(errno) => return Err(unreadable(errno.into())),
        };
        let before = stamp_of(&file).map_err(|errno| unreadable(errno.into()))?;
        if !before.kind().is_file() {
            continue;
        }
        let Some(chunks) = cut(&mut file, before.size, buffer).map_err(unreadable)? else {
            continue;
        };
        if chunks.len() > MAX_FILE_CHUNKS {
            return Err(Refusal::TooLarge {
                path: path.into(),
                size: ByteSize(before.size),
            });
        }
        let after = stamp_of(&file).map_err(|errno| unreadable(errno.into()))?;
        if after == before {
            return Ok(Content {
                stamp: after,
                chunks,
                proven: after.proves_since(known),
            });
        }
    }
    Err(Refusal::Changing { path: path.into() })
}

/// Cuts `size` bytes into chunks; `None` if there are more or fewer.
fn cut(file: &mut impl Read, size: u64, buffer: &mut Vec<u8>) -> std::io::Result<Option<Vec<Chunk>>> {
    let window = if size <= WHOLE_FILE {
        size as usize + 1
    } else {
        WINDOW
    };
    if buffer.len() < window {
        buffer.resize(window, 0);
    }
    let mut chunks = Vec::new();
    let (mut start, mut end, mut total) = (0, 0, 0u64);
    let mut ended = false;
    loop {
        if !ended && end - start < MAX_CHUNK.min(window) {
            buffer.copy_within(start..end, 0);
            (start, end) = (0, end - start);
            while end < window {
                let read = match file.read(&mut buffer[end..window]) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    read => read?,
                };
                if read == 0 {
                    ended = true;
                    break;
                }
                end += read;
            }
        }
        if start == end {
            return Ok((total == size).then_some(chunks));
        }
        let rest = &buffer[start..end];
        let len = if size <= WHOLE_FILE {
            rest.len()
        } else {
            fastcdc::v2020::FastCDC::new(rest, MIN_CHUNK, AVG_CHUNK, MAX_CHUNK)
                .cut(0, rest.len())
                .1
        };
        total += len as u64;
        if total > size {
            return Ok(None);
        }
        chunks.push(Chunk {
            digest: Digest::of(&rest[..len]),
            len: len as u32,
        });
        start += len;
    }
}

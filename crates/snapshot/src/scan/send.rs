//! Reads wanted chunks again and packs them into frames.

use std::collections::HashSet;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::Sender;
use haul_types::Digest;

use super::{Scan, ScanProgress};
use crate::bundle::{DEFAULT_LEVEL, Frame, FrameBuilder};
use crate::manifest::Chunk;
use crate::name::Name;

/// Chunks of one large file that one thread reads in a row.
const RUN: usize = 4;

/// Why a bundle could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError<E> {
    /// A file is not what was scanned any more: scan again.
    #[error("{path} changed since it was scanned")]
    Changed {
        /// The file.
        path: Name,
    },
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: Name,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Somebody wants what this snapshot does not hold.
    #[error("chunk {digest} is wanted, but is not in this snapshot")]
    Unknown {
        /// The chunk.
        digest: Digest,
    },
    /// The frames' receiver failed.
    #[error("the bundle could not be sent")]
    Sink(#[source] E),
}

/// Why a worker stopped.
enum Stop {
    Changed(Name),
    Read(Name, std::io::Error),
}

/// Something to put into frames.
enum Task<'a> {
    Object(Digest, &'a [u8]),
    File(&'a [u8], Vec<(u64, Chunk)>),
}

pub(super) fn write_bundle<E>(
    scan: &Scan,
    wanted: &HashSet<Digest>,
    threads: usize,
    sink: &mut dyn FnMut(Frame) -> Result<(), E>,
    progress: &dyn ScanProgress,
) -> Result<(), BundleError<E>> {
    let tasks = plan(scan, wanted).map_err(|digest| BundleError::Unknown { digest })?;
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Two frames per thread keep the threads busy while the sink waits for the network; more would only take memory.
        let (frames, finished) = crossbeam_channel::bounded(2 * threads);
        for _ in 0..threads.min(tasks.len()) {
            let frames = frames.clone();
            let (tasks, next, stop) = (&tasks, &next, &stop);
            scope.spawn(move || {
                if let Err(why) = pack(scan, tasks, next, stop, &frames) {
                    stop.store(true, Ordering::Relaxed);
                    // If nobody listens any more, there is an error already.
                    let _ = frames.send(Err(why));
                }
            });
        }
        drop(frames);
        for frame in finished {
            let result = match frame {
                Ok(frame) => {
                    let bytes = frame.chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
                    let chunks = frame.chunks.len() as u64;
                    sink(frame)
                        .map(|()| progress.on_sent(chunks, bytes))
                        .map_err(BundleError::Sink)
                }
                Err(Stop::Changed(path)) => Err(BundleError::Changed { path }),
                Err(Stop::Read(path, source)) => Err(BundleError::Read { path, source }),
            };
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
                return result;
            }
        }
        Ok(())
    })
}

/// Which chunks are read from where: each wanted one once.
fn plan<'a>(scan: &'a Scan, wanted: &HashSet<Digest>) -> Result<Vec<Task<'a>>, Digest> {
    let mut open = wanted.clone();
    let mut tasks = Vec::new();
    if open.remove(&scan.id()) {
        tasks.push(Task::Object(scan.id(), scan.root_object()));
    }
    for page in scan.pages() {
        if open.remove(&page.digest()) {
            tasks.push(Task::Object(page.digest(), page.encoded()));
        }
    }
    for entry in scan.manifest.entries() {
        let mut offset = 0;
        let mut run = Vec::new();
        for chunk in entry.chunks() {
            if open.remove(&chunk.digest) {
                run.push((offset, *chunk));
                if run.len() == RUN {
                    tasks.push(Task::File(&entry.path, std::mem::take(&mut run)));
                }
            }
            offset += u64::from(chunk.len);
        }
        if !run.is_empty() {
            tasks.push(Task::File(&entry.path, run));
        }
    }
    match open.into_iter().next() {
        Some(digest) => Err(digest),
        None => Ok(tasks),
    }
}

/// One thread's work: packs tasks until there are none, or nobody wants the frames.
fn pack(
    scan: &Scan,
    tasks: &[Task<'_>],
    next: &AtomicUsize,
    stop: &AtomicBool,
    frames: &Sender<Result<Frame, Stop>>,
) -> Result<(), Stop> {
    let mut builder = FrameBuilder::new(DEFAULT_LEVEL);
    let mut buffer = Vec::new();
    let mut alive = true;
    let mut emit = |frame: Option<Frame>| {
        if let Some(frame) = frame {
            alive &= frames.send(Ok(frame)).is_ok();
        }
        alive && !stop.load(Ordering::Relaxed)
    };
    while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
        match task {
            Task::Object(digest, bytes) => {
                if !emit(builder.push(*digest, bytes)) {
                    return Ok(());
                }
            }
            Task::File(path, chunks) => {
                let file = scan.root.read(path).map_err(|errno| match errno {
                    rustix::io::Errno::NOENT | rustix::io::Errno::LOOP => Stop::Changed((*path).into()),
                    errno => Stop::Read((*path).into(), errno.into()),
                })?;
                for (offset, chunk) in chunks {
                    let len = chunk.len as usize;
                    if buffer.len() < len {
                        buffer.resize(len, 0);
                    }
                    let content = &mut buffer[..len];
                    file.read_exact_at(content, *offset)
                        .map_err(|error| match error.kind() {
                            std::io::ErrorKind::UnexpectedEof => Stop::Changed((*path).into()),
                            _ => Stop::Read((*path).into(), error),
                        })?;
                    if Digest::of(content) != chunk.digest {
                        return Err(Stop::Changed((*path).into()));
                    }
                    if !emit(builder.push(chunk.digest, content)) {
                        return Ok(());
                    }
                }
            }
        }
    }
    emit(builder.finish());
    Ok(())
}

//! Packs: chunks known by their content, kept as they came.
//!
//! ```text
//!   upload ─▶ verify frame ─▶ append to a pack of its own … finish: sync packs ─▶ one index transaction ─▶ visible
//!   missing(digests)          the index alone
//!   frames(wanted)            whole frames as stored; of a frame mostly unwanted, just the wanted chunks
//!   collect(live)             packs without a live chunk go, mostly dead ones are rewritten, small ones put together
//! ```
//!
//! A pack is a file of zstd frames as `haul-snapshot` makes them, exactly as received, and the frame that ends a bundle:
//! `tar --zstd -tf` lists it. The index, in SQLite, says which chunk lies in which frame, and is the truth: a file it
//! does not name is removed when the store is opened.
//!
//! Invariants:
//! - A chunk is visible only when its pack and its row are on the disk.
//! - Nothing is given out that has not been verified on the way.
//! - One process has the directory at a time.
//!
//! It does not know snapshots: which chunks are live, and whether a snapshot is complete, is the caller's business.

mod check;
mod collect;
mod error;
mod file;
mod index;
mod load;
mod promises;
mod upload;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use haul_types::Digest;
use rusqlite::Connection;

pub use check::{CheckReport, Damage};
pub use collect::CollectStats;
pub use error::{AppendError, CollectError, FileError, FinishError, LoadError};
pub use load::Extras;
pub use upload::{PackStats, PackWriter, VerifiedFrame};

use crate::database::{self, CHECKPOINT_PAGES, OpenError, ReadPool, Schema};
use crate::lock::DirectoryLock;
use file::{Epoch, PackFile};
use promises::Promises;

/// The index's name within the directory.
const INDEX_NAME: &str = "index.db";
/// An upload goes on in another pack past this length, so that rewriting one is never a large affair.
const PACK_TARGET: u64 = 512 << 20;
/// Every version of the index's schema.
pub(crate) const SCHEMA: Schema = Schema {
    migrations: &[include_str!("packs/schema/0001.sql")],
};

/// How much is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Pack files.
    pub packs: u64,
    /// Bytes of them.
    pub stored_bytes: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Bytes of those before compression.
    pub chunk_bytes: u64,
}

/// The chunk store. Clones share it.
#[derive(Clone, Debug)]
pub struct Packs {
    inner: Arc<Inner>,
}

/// Locks are taken in the order of the fields: `collecting`, `gate`, then one of the others at a time, except that
/// `promises` is let go before `index` is taken.
#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    /// Held by a collection or a check, of which there is one at a time.
    collecting: Mutex<()>,
    /// Held for reading while somebody is told what is here, for writing while something ceases to be.
    gate: RwLock<()>,
    promises: Mutex<Promises>,
    last_frame: Mutex<load::LastFrame>,
    epoch: Mutex<Arc<Epoch>>,
    next_pack: AtomicU64,
    pool: ReadPool,
    /// The connection that writes.
    index: Mutex<Connection>,
    _lock: DirectoryLock,
}

impl Packs {
    /// Opens the store in `directory`: creates what is missing, takes the directory for this process, brings the index
    /// to the newest version and removes what uploads cut off by a crash have left.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let lock = DirectoryLock::take(directory)?;
        let file = directory.join(INDEX_NAME);
        let index = database::open_writer(&file, &SCHEMA)?;
        let known = index::pack_ids(&index).map_err(|source| OpenError::Database {
            path: file.clone(),
            attempt: "read",
            source: source.into(),
        })?;
        let removed = file::remove_leftovers(directory, &known).map_err(|error| OpenError::Directory {
            path: error.path,
            attempt: error.attempt,
            source: error.source,
        })?;
        if removed > 0 {
            tracing::info!(removed, directory = %directory.display(), "removed packs of unfinished uploads");
        }
        Ok(Self {
            inner: Arc::new(Inner {
                directory: directory.to_owned(),
                collecting: Mutex::new(()),
                gate: RwLock::new(()),
                promises: Mutex::new(Promises::new(Instant::now())),
                last_frame: Mutex::new(None),
                epoch: Mutex::default(),
                next_pack: AtomicU64::new(known.into_iter().max().unwrap_or(0) + 1),
                pool: ReadPool::new(file),
                index: Mutex::new(index),
                _lock: lock,
            }),
        })
    }

    /// Which of `digests` are not stored, in their order. The others stay stored for the grace that
    /// [`Self::collect`] is given, live or not: whoever asks is about to rely on them.
    pub fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, LoadError> {
        let connection = self.inner.pool.get()?;
        let _gate = self.inner.gate.read().unwrap_or_else(PoisonError::into_inner);
        let (here, missing) = index::partition(&connection, digests)?;
        locked(&self.inner.promises).add(here);
        Ok(missing)
    }

    /// Begins an upload. Its file is made when the first frame comes.
    #[must_use]
    pub fn writer(&self) -> PackWriter {
        PackWriter::new(Arc::clone(&self.inner))
    }

    /// A chunk's content, verified.
    pub fn read_chunk(&self, digest: Digest) -> Result<Vec<u8>, LoadError> {
        load::read_chunk(&self.inner, digest)
    }

    /// Sends frames that hold all the `wanted` chunks to `sink`, until it returns false: each frame as stored and once,
    /// in the order they are stored in; of those of which less than half is wanted, just the wanted chunks, in new
    /// frames. With [`Extras::Never`] a frame leaves as stored only if all of it is wanted. Fails before the first frame if
    /// one of the chunks is not here.
    pub fn frames(
        &self,
        wanted: &[Digest],
        extras: Extras,
        sink: &mut dyn FnMut(Vec<u8>) -> bool,
    ) -> Result<(), LoadError> {
        load::frames(&self.inner, wanted, extras, sink)
    }

    /// Frees what chunks take that are not live and that nobody was told of within `grace`, which should be longer than
    /// a client takes from asking what is missing to naming its snapshot. Packs without a live chunk go; packs less
    /// than half live are rewritten; small packs are put together. Uploads and reads go on beside it; see the module
    /// for why that is safe.
    ///
    /// `is_live` is asked more than once for a chunk. A set or a Bloom filter will do: a false yes costs space only.
    pub fn collect(
        &self,
        is_live: &dyn Fn(Digest) -> bool,
        grace: Duration,
    ) -> Result<CollectStats, CollectError> {
        collect::collect(&self.inner, is_live, grace)
    }

    /// Reads and verifies every chunk.
    pub fn check(&self) -> Result<CheckReport, LoadError> {
        check::check(&self.inner)
    }

    /// How much is stored. Reads the whole index.
    pub fn usage(&self) -> Result<Usage, LoadError> {
        Ok(index::usage(&*self.inner.pool.get()?)?)
    }
}

impl Inner {
    /// A new pack, unknown to the index.
    fn create_pack(&self) -> Result<PackFile, FileError> {
        PackFile::create(&self.directory, self.next_pack.fetch_add(1, Ordering::Relaxed))
    }

    /// Copies the index's log back when it has become long.
    fn after_commit(&self, connection: &Connection) {
        let long = database::log_state(connection).map(|log| log.pages >= CHECKPOINT_PAGES);
        if let Err(error) = long.and_then(|long| {
            if long {
                database::checkpoint(connection).map(drop)
            } else {
                Ok(())
            }
        }) {
            // Nothing is lost: the log holds it. The next commit tries again.
            tracing::warn!(%error, "the log of the chunks' index cannot be copied into it");
        }
    }
}

/// What a lock guards here is consistent after every statement, so that a panic elsewhere spoils nothing.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

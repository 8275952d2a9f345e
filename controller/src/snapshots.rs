//! Chunks, and which snapshots are whole.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use haul_snapshot::manifest::{DecodeError, Entry, ManifestReader};
use haul_store::{LoadError, Metadata, Packs};
use haul_types::Digest;

use crate::engine::lock;

/// Snapshots known to be whole are remembered, up to so many; checking one again costs milliseconds.
const REMEMBERED: usize = 4096;
/// The same for pages, of which a large snapshot has hundreds.
const REMEMBERED_PAGES: usize = 1 << 16;

/// Snapshots whose chunks are listed in memory, for nodes that fetch them: about 6 MB for one of 100,000 files.
const LISTED: usize = 8;

/// Chunks that came within this time stay, although no job names them yet: outputs are sent before the end that names
/// them, and that may have to wait for a connection.
const GRACE: Duration = Duration::from_secs(24 * 3600);

/// The controller's snapshots.
pub(crate) struct Snapshots {
    pub(crate) packs: Packs,
    metadata: Metadata,
    whole: Mutex<Whole>,
    /// The lists of the snapshots that were fetched last, newest first.
    listed: Mutex<VecDeque<(Digest, Arc<HashSet<Digest>>)>>,
    /// Held for reading by whoever adds or names chunks, for writing by whoever throws them away.
    pub(crate) collecting: Arc<tokio::sync::RwLock<()>>,
}

/// What is known to be whole, until something is thrown away. Two sets: a page is no snapshot, though its chunks are here.
#[derive(Default)]
struct Whole {
    snapshots: HashSet<Digest>,
    /// Pages of those: every chunk that they name is here.
    pages: HashSet<Digest>,
}

impl Whole {
    fn remember(&mut self, id: Digest, pages: Vec<Digest>) {
        if self.snapshots.len() >= REMEMBERED {
            self.snapshots.clear();
        }
        if self.pages.len() >= REMEMBERED_PAGES {
            self.pages.clear();
        }
        self.snapshots.insert(id);
        self.pages.extend(pages.into_iter().take(REMEMBERED_PAGES));
    }
}

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("snapshot {0} is not here in full: send it first")]
    Incomplete(Digest),
    #[error("snapshot {id} is malformed")]
    Malformed { id: Digest, source: DecodeError },
    #[error(transparent)]
    Packs(#[from] LoadError),
}

impl Snapshots {
    pub(crate) fn new(packs: Packs, metadata: Metadata) -> Self {
        Self {
            packs,
            metadata,
            whole: Mutex::default(),
            listed: Mutex::default(),
            collecting: Arc::default(),
        }
    }

    /// Whether the snapshot was found to be whole before.
    pub(crate) fn is_known_whole(&self, id: Digest) -> bool {
        lock(&self.whole).snapshots.contains(&id)
    }

    /// Makes sure that all of a snapshot is here and well-formed.
    pub(crate) fn ensure_whole(&self, id: Digest) -> Result<(), SnapshotError> {
        if self.is_known_whole(id) {
            return Ok(());
        }
        let (mut pages, mut chunks) = (Vec::new(), HashSet::new());
        self.walk(id, &mut |page, entries| {
            pages.push(page);
            // Of a snapshot that is like an earlier one, few pages are new.
            if !lock(&self.whole).pages.contains(&page) {
                chunks.extend(chunks_of(entries));
            }
        })?;
        let chunks: Vec<Digest> = chunks.into_iter().collect();
        if !self.packs.missing(&chunks)?.is_empty() {
            return Err(SnapshotError::Incomplete(id));
        }
        lock(&self.whole).remember(id, pages);
        Ok(())
    }

    /// All that a snapshot is made of: what somebody may have who may have the snapshot.
    pub(crate) fn members(&self, id: Digest) -> Result<Arc<HashSet<Digest>>, SnapshotError> {
        let known = lock(&self.listed)
            .iter()
            .find(|(listed, _)| *listed == id)
            .map(|(_, members)| Arc::clone(members));
        if let Some(members) = known {
            return Ok(members);
        }
        let mut members = HashSet::new();
        self.list(id, &mut members)?;
        let members = Arc::new(members);
        let mut listed = lock(&self.listed);
        listed.push_front((id, Arc::clone(&members)));
        listed.truncate(LISTED);
        Ok(members)
    }

    /// Lists everything that a snapshot is made of: its root object, its pages, the chunks of its files. What could be read
    /// is listed on failure too.
    fn list(&self, id: Digest, members: &mut HashSet<Digest>) -> Result<(), SnapshotError> {
        members.insert(id);
        self.walk(id, &mut |page, entries| {
            members.insert(page);
            members.extend(chunks_of(entries));
        })
    }

    /// Visits the pages of a snapshot, whose root object is here too.
    fn walk(&self, id: Digest, visit: &mut dyn FnMut(Digest, &[Entry])) -> Result<(), SnapshotError> {
        let read = |digest: Digest| -> Result<Vec<u8>, SnapshotError> {
            if self.packs.missing(&[digest])?.is_empty() {
                Ok(self.packs.read_chunk(digest)?)
            } else {
                Err(SnapshotError::Incomplete(id))
            }
        };
        let malformed = |source| SnapshotError::Malformed { id, source };
        let mut reader = ManifestReader::new(&read(id)?).map_err(malformed)?;
        while let Some(page) = reader.wanted() {
            visit(page, &reader.push(&read(page)?).map_err(malformed)?);
        }
        reader.finish().map_err(malformed)?;
        Ok(())
    }

    /// Throws away the chunks that no job needs. Call when nothing is being added: see `collecting`.
    pub(crate) fn collect(&self, now_unix_ms: u64) -> Result<(), CollectError> {
        let mut live = HashSet::new();
        for id in self.metadata.live_snapshots(now_unix_ms)? {
            match self.list(id, &mut live) {
                // A job may name a snapshot that was damaged; what is left of it is kept.
                Err(SnapshotError::Incomplete(_) | SnapshotError::Malformed { .. }) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        *lock(&self.whole) = Whole::default();
        let stats = self.packs.collect(&|digest| live.contains(&digest), GRACE)?;
        tracing::debug!(?stats, "threw chunks away");
        Ok(())
    }
}

fn chunks_of(entries: &[Entry]) -> impl Iterator<Item = Digest> {
    entries.iter().flat_map(Entry::chunks).map(|chunk| chunk.digest)
}

/// Why nothing was thrown away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    #[error(transparent)]
    Read(#[from] haul_store::ReadError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Collect(#[from] haul_store::CollectError),
}

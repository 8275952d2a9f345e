//! Chunks, and which snapshots are whole.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use haul_snapshot::manifest::{DecodeError, ManifestReader};
use haul_store::{LoadError, Metadata, Packs};
use haul_types::Digest;

use crate::engine::lock;

/// Snapshots known to be whole are remembered, up to so many; checking one again costs milliseconds.
const REMEMBERED: usize = 4096;

/// Snapshots whose chunks are listed in memory, for nodes that fetch them: about 6 MB for one of 100,000 files.
const LISTED: usize = 8;

/// Chunks that came within this time stay, although no job names them yet: outputs are sent before the end that names
/// them, and that may have to wait for a connection.
const GRACE: Duration = Duration::from_secs(24 * 3600);

/// The controller's snapshots.
pub(crate) struct Snapshots {
    pub(crate) packs: Packs,
    metadata: Metadata,
    whole: Mutex<HashSet<Digest>>,
    /// The lists of the snapshots that were fetched last, newest first.
    listed: Mutex<VecDeque<(Digest, Arc<HashSet<Digest>>)>>,
    /// Held for reading by whoever adds or names chunks, for writing by whoever throws them away.
    pub(crate) collecting: Arc<tokio::sync::RwLock<()>>,
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
        lock(&self.whole).contains(&id)
    }

    /// Makes sure that all of a snapshot is here and well-formed.
    pub(crate) fn ensure_whole(&self, id: Digest) -> Result<(), SnapshotError> {
        if self.is_known_whole(id) {
            return Ok(());
        }
        let mut chunks = HashSet::new();
        self.walk(id, &mut |chunk| {
            chunks.insert(chunk);
        })?;
        let chunks: Vec<Digest> = chunks.into_iter().collect();
        if !self.packs.missing(&chunks)?.is_empty() {
            return Err(SnapshotError::Incomplete(id));
        }
        let mut whole = lock(&self.whole);
        if whole.len() >= REMEMBERED {
            whole.clear();
        }
        whole.insert(id);
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
        self.walk(id, &mut |chunk| {
            members.insert(chunk);
        })?;
        let members = Arc::new(members);
        let mut listed = lock(&self.listed);
        listed.push_front((id, Arc::clone(&members)));
        listed.truncate(LISTED);
        Ok(members)
    }

    /// Visits everything that a snapshot is made of: its root object, its pages, the chunks of its files.
    fn walk(&self, id: Digest, visit: &mut dyn FnMut(Digest)) -> Result<(), SnapshotError> {
        let read = |digest: Digest| -> Result<Vec<u8>, SnapshotError> {
            if self.packs.missing(&[digest])?.is_empty() {
                Ok(self.packs.read_chunk(digest)?)
            } else {
                Err(SnapshotError::Incomplete(id))
            }
        };
        let malformed = |source| SnapshotError::Malformed { id, source };
        visit(id);
        let mut reader = ManifestReader::new(&read(id)?).map_err(malformed)?;
        while let Some(page) = reader.wanted() {
            visit(page);
            for entry in reader.push(&read(page)?).map_err(malformed)? {
                entry.chunks().iter().for_each(|chunk| visit(chunk.digest));
            }
        }
        reader.finish().map_err(malformed)?;
        Ok(())
    }

    /// Throws away the chunks that no job needs. Call when nothing is being added: see `collecting`.
    pub(crate) fn collect(&self, now_unix_ms: u64) -> Result<(), CollectError> {
        let mut live = HashSet::new();
        for id in self.metadata.live_snapshots(now_unix_ms)? {
            match self.walk(id, &mut |chunk| {
                live.insert(chunk);
            }) {
                // A job may name a snapshot that was damaged; what is left of it is kept.
                Err(SnapshotError::Incomplete(_) | SnapshotError::Malformed { .. }) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        lock(&self.whole).clear();
        let stats = self.packs.collect(&|digest| live.contains(&digest), GRACE)?;
        tracing::debug!(?stats, "threw chunks away");
        Ok(())
    }
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

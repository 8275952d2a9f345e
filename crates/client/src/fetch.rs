//! Brings a snapshot here: its root object, its pages, and then the chunks that the directory lacks.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use haul_proto::{client, digests_to_bytes, v1};
use haul_snapshot::bundle::{FrameError, read_frame};
use haul_snapshot::tree::{Materializer, Overwrite, TreeState, UnpackError, restore};
use haul_snapshot::{DecodeError, Manifest, Root, Totals};
use haul_types::Digest;
use tokio::task::JoinSet;
use tonic::{Status, Streaming};

use crate::call::blocking;
use crate::error::may_be_repeated;
use crate::{Backoff, CallError, Client};

/// The most digests in one request, as the contract has it.
pub(crate) const DIGESTS_PER_CALL: usize = 100_000;
/// Frames that are decompressed and written at a time, each about a megabyte.
const FRAMES_AT_WORK: usize = 4;

/// What was brought here.
#[derive(Clone, Copy, Debug)]
pub struct Fetched {
    /// What the snapshot lists.
    pub totals: Totals,
    /// Bytes that came over the connection.
    pub wire: u64,
}

/// Why a snapshot was not brought here.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A frame that came is none.
    #[error("the controller sent a damaged frame")]
    Frame(#[from] FrameError),
    /// The snapshot's list cannot be read.
    #[error("the snapshot's list cannot be read")]
    Manifest(#[from] DecodeError),
    /// The controller does not have it whole.
    #[error("the controller no longer has {0} of the snapshot")]
    Missing(Digest),
    /// It could not be written here.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

impl FetchError {
    /// Whether the same may succeed later: the controller could not be reached.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_passing())
    }
}

impl Client {
    /// The list of what a snapshot holds. Pages that a list in `known` has too are taken from there: of a large directory
    /// in which one file changed, one page comes.
    pub async fn manifest(&self, snapshot: Digest, known: &[Arc<Manifest>]) -> Result<Manifest, FetchError> {
        let mut found = self.objects(vec![snapshot]).await?;
        let root_object = found.remove(&snapshot).ok_or(FetchError::Missing(snapshot))?;
        let mut wanted: HashSet<Digest> = Root::decode(&root_object)?.pages.into_iter().collect();
        let mut pages: HashMap<Digest, Vec<u8>> = known
            .iter()
            .flat_map(|manifest| manifest.pages())
            .filter(|page| wanted.remove(&page.digest()))
            .map(|page| (page.digest(), page.encoded().to_vec()))
            .collect();
        pages.extend(self.objects(wanted.into_iter().collect()).await?);
        blocking(move || {
            Manifest::decode(&root_object, |digest| {
                pages.remove(&digest).ok_or(FetchError::Missing(digest))
            })
        })
        .await
    }

    /// Writes a snapshot into a directory, which is made if need be.
    pub async fn fetch(
        &self,
        manifest: &Arc<Manifest>,
        dir: PathBuf,
        overwrite: Overwrite,
    ) -> Result<Fetched, FetchError> {
        let listed = manifest.clone();
        let tree = blocking(move || restore(&dir, &listed, overwrite)).await?;
        let (_, wire) = self.materialize(tree).await?;
        Ok(Fetched {
            totals: manifest.totals(),
            wire,
        })
    }

    /// Brings what a tree lacks, and finishes it. Also says how many bytes came over the connection.
    pub async fn materialize(&self, tree: Materializer) -> Result<(TreeState, u64), FetchError> {
        let mut wire = 0;
        let mut backoff = Backoff::brief();
        let tree = Arc::new(tree);
        loop {
            let wanted: Vec<Digest> = tree.needed().map(|chunk| chunk.digest).collect();
            if wanted.is_empty() {
                break;
            }
            let before = wanted.len();
            match self.fill(&tree, wanted, &mut wire).await {
                Ok(()) if tree.missing() < before => {}
                Ok(()) => break,
                Err(FillError::Other(error)) => return Err(error),
                Err(FillError::Status(status)) => match backoff.next_wait() {
                    Some(wait) if may_be_repeated(&status) => tokio::time::sleep(wait).await,
                    _ => return Err(CallError::from(*status).into()),
                },
            }
        }
        let tree = Arc::into_inner(tree).expect("every task that wrote into it was joined");
        Ok((blocking(move || tree.finish()).await?, wire))
    }

    /// Fetches chunks and writes them, a few frames at a time.
    async fn fill(
        &self,
        tree: &Arc<Materializer>,
        wanted: Vec<Digest>,
        wire: &mut u64,
    ) -> Result<(), FillError> {
        let mut frames = Frames::new(self.clone(), wanted);
        let mut at_work: JoinSet<Result<(), FetchError>> = JoinSet::new();
        let mut outcome = Ok(());
        while outcome.is_ok() {
            match frames.next().await {
                Ok(Some(frame)) => {
                    *wire += frame.len() as u64;
                    if at_work.len() >= FRAMES_AT_WORK {
                        outcome = joined(at_work.join_next().await);
                    }
                    let tree = tree.clone();
                    at_work.spawn_blocking(move || Ok(tree.accept(&read_frame(&frame)?)?));
                }
                Ok(None) => break,
                Err(status) => outcome = Err(status.into()),
            }
        }
        // Joined on failure too: nobody may write into the tree after this.
        while let Some(done) = at_work.join_next().await {
            outcome = outcome.and(joined(Some(done)));
        }
        outcome
    }

    /// Chunks of the list itself, held in memory.
    async fn objects(&self, wanted: Vec<Digest>) -> Result<HashMap<Digest, Vec<u8>>, FetchError> {
        let mut backoff = Backoff::brief();
        let named: HashSet<Digest> = wanted.iter().copied().collect();
        'again: loop {
            let mut found = HashMap::with_capacity(wanted.len());
            let mut frames = Frames::new(self.clone(), wanted.clone());
            loop {
                match frames.next().await {
                    Ok(Some(frame)) => {
                        let decoded = read_frame(&frame)?;
                        for (digest, content) in decoded.iter() {
                            if named.contains(&digest) {
                                found.insert(digest, content.to_vec());
                            }
                        }
                    }
                    Ok(None) => return Ok(found),
                    Err(status) => match backoff.next_wait() {
                        Some(wait) if may_be_repeated(&status) => {
                            tokio::time::sleep(wait).await;
                            continue 'again;
                        }
                        _ => return Err(CallError::from(status).into()),
                    },
                }
            }
        }
    }
}

/// Why filling stopped.
enum FillError {
    Status(Box<Status>),
    Other(FetchError),
}

impl From<Status> for FillError {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// The outcome of a frame's task; its panic is ours.
fn joined(done: Option<Result<Result<(), FetchError>, tokio::task::JoinError>>) -> Result<(), FillError> {
    match done {
        None => Ok(()),
        Some(Ok(outcome)) => outcome.map_err(FillError::Other),
        Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Frames on their way; they may hold chunks that were not asked for.
struct Frames {
    client: Client,
    wanted: Vec<Digest>,
    asked: usize,
    messages: Option<Streaming<v1::FetchResponse>>,
}

impl Frames {
    fn new(client: Client, wanted: Vec<Digest>) -> Self {
        Self {
            client,
            wanted,
            asked: 0,
            messages: None,
        }
    }

    /// The next frame; none after the last.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(messages) = &mut self.messages
                && let Some(message) = messages.message().await?
            {
                return Ok(Some(message.frame));
            }
            let rest = &self.wanted[self.asked..];
            if rest.is_empty() {
                return Ok(None);
            }
            let some = &rest[..rest.len().min(DIGESTS_PER_CALL)];
            let request = v1::FetchRequest {
                digests: digests_to_bytes(some),
            };
            self.asked += some.len();
            let answer = client::snapshots(self.client.calls()).fetch(request).await?;
            self.messages = Some(answer.into_inner());
        }
    }
}

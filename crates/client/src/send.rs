//! Sends a directory's snapshot: asks what is missing, and streams just that.
//!
//! The order on the wire carries a promise: chunks of files first, pages of the manifest after them, the root object
//! last. So whatever is cut off, a controller that has a page has had what the page names.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use haul_proto::{client, digests_from_bytes, digests_to_bytes, v1};
use haul_snapshot::scan::BundleError;
use haul_snapshot::{Entry, Scan, ScanError, ScanProgress};
use haul_types::{ByteSize, Digest, JobId, JobSpec};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::call::{blocking, repeated};
use crate::error::may_be_repeated;
use crate::fetch::DIGESTS_PER_CALL;
use crate::{Backoff, CallError, Client, SubmitError, Submitted};

/// Frames between the threads that make them and the connection: about a megabyte each, so a few hide the network's
/// jitter and more would only be memory.
const FRAMES_AHEAD: usize = 4;
/// How often a directory that changes while it is sent is read again.
const RESCANS: u32 = 3;

/// Told how sending comes along, from several threads.
pub trait SendProgress: ScanProgress + Send + 'static {
    /// So many chunks, and bytes in them, will be sent.
    fn on_missing(&self, chunks: u64, bytes: u64) {
        let _ = (chunks, bytes);
    }
}

impl SendProgress for () {}

/// What was sent of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Chunks that the controller lacked.
    pub chunks: u64,
    /// Bytes in them.
    pub content: ByteSize,
    /// Bytes that went over the connection for them.
    pub wire: ByteSize,
}

/// Why a snapshot was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The directory could not be read again.
    #[error(transparent)]
    Scan(#[from] Box<ScanError>),
    /// A file could not be read, or was another each time.
    #[error("the directory could not be read while it was sent")]
    Read(#[source] BundleError<Gone>),
    /// The call failed.
    #[error("the snapshot could not be sent")]
    Call(#[from] CallError),
    /// Everything was sent, and the controller still misses something.
    #[error("the controller took snapshot {0} and then missed parts of it")]
    Incomplete(Digest),
}

/// The connection went away under an upload.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection went away")]
pub struct Gone;

/// How much the controller is believed when it has a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// It has what the page names: the pages alone are asked for.
    None,
    /// It said that something is missing though it has every page: everything is asked for.
    Pages,
}

/// What a controller lacks of a snapshot, in the order of sending.
#[derive(Default)]
struct Missing {
    contents: HashSet<Digest>,
    objects: HashSet<Digest>,
    bytes: u64,
}

impl Client {
    /// Submits a job together with its directory. The job goes first: if the controller has the whole snapshot, as it
    /// has of a directory that did not change, that one call is all. Else what it lacks is sent and the job submitted
    /// again. A file that changes under the sending makes `rescan` read the directory anew, on a blocking thread.
    ///
    /// `spec.snapshot` is set to what was submitted in the end.
    pub async fn submit_directory(
        &self,
        id: JobId,
        spec: &mut JobSpec,
        scan: Arc<Scan>,
        rescan: impl Fn() -> Result<Scan, ScanError> + Send + Sync + 'static,
        progress: Arc<dyn SendProgress>,
    ) -> Result<(Submitted, Sent), SubmitError> {
        let rescan = Arc::new(rescan);
        let mut scan = scan;
        let mut sent = Sent::default();
        for doubt in [None, Some(Doubt::None), Some(Doubt::Pages)] {
            if let Some(doubt) = doubt {
                scan = self
                    .send_until_steady(scan, doubt, &rescan, &progress, &mut sent)
                    .await?;
            }
            spec.snapshot = scan.id();
            match self.submit(id, spec).await {
                Err(SubmitError::SnapshotMissing) => {}
                answer => return answer.map(|submitted| (submitted, sent)),
            }
        }
        Err(SendError::Incomplete(spec.snapshot).into())
    }

    /// Sends what the controller lacks of a snapshot. Fails when a file is no longer what was scanned.
    pub async fn send_snapshot(
        &self,
        scan: Arc<Scan>,
        progress: Arc<dyn SendProgress>,
    ) -> Result<Sent, SendError> {
        self.send(scan, Doubt::None, progress).await
    }

    async fn send_until_steady<R>(
        &self,
        mut scan: Arc<Scan>,
        doubt: Doubt,
        rescan: &Arc<R>,
        progress: &Arc<dyn SendProgress>,
        total: &mut Sent,
    ) -> Result<Arc<Scan>, SendError>
    where
        R: Fn() -> Result<Scan, ScanError> + Send + Sync + 'static,
    {
        let mut rescans = 0;
        loop {
            match self.send(scan.clone(), doubt, progress.clone()).await {
                Ok(sent) => {
                    total.chunks += sent.chunks;
                    total.content.0 += sent.content.0;
                    total.wire.0 += sent.wire.0;
                    return Ok(scan);
                }
                Err(SendError::Read(BundleError::Changed { path })) if rescans < RESCANS => {
                    tracing::debug!(%path, "changed while it was sent; reading the directory again");
                    rescans += 1;
                    let rescan = rescan.clone();
                    scan = Arc::new(blocking(move || rescan()).await.map_err(Box::new)?);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn send(
        &self,
        scan: Arc<Scan>,
        doubt: Doubt,
        progress: Arc<dyn SendProgress>,
    ) -> Result<Sent, SendError> {
        let missing = self.find_missing_of(&scan, doubt).await?;
        let chunks = (missing.contents.len() + missing.objects.len()) as u64;
        if chunks == 0 {
            return Ok(Sent::default());
        }
        progress.on_missing(chunks, missing.bytes);
        let content = ByteSize(missing.bytes);
        let missing = Arc::new(missing);
        let mut backoff = Backoff::brief();
        loop {
            match self.upload(&scan, &missing, &progress).await {
                Ok(wire) => {
                    return Ok(Sent {
                        chunks,
                        content,
                        wire,
                    });
                }
                Err(UploadError::Read(error)) => return Err(SendError::Read(error)),
                Err(UploadError::Status(status)) => match backoff.next_wait() {
                    Some(wait) if may_be_repeated(&status) => tokio::time::sleep(wait).await,
                    _ => return Err(SendError::Call((*status).into())),
                },
            }
        }
    }

    /// Which of these the controller lacks.
    pub async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, CallError> {
        let mut missing = Vec::new();
        for some in digests.chunks(DIGESTS_PER_CALL) {
            let request = v1::FindMissingRequest {
                digests: digests_to_bytes(some),
            };
            let answer = repeated(|| {
                let (channel, request) = (self.calls(), request.clone());
                async move { client::snapshots(channel).find_missing(request).await }
            })
            .await?;
            missing.extend(digests_from_bytes(&answer.into_inner().digests)?);
        }
        Ok(missing)
    }

    async fn find_missing_of(&self, scan: &Scan, doubt: Doubt) -> Result<Missing, CallError> {
        let mut objects = vec![scan.id()];
        objects.extend(scan.pages().map(|page| page.digest()));
        let objects: HashSet<Digest> = self.find_missing(&objects).await?.into_iter().collect();
        let mut seen = HashSet::new();
        let (mut named, mut lengths) = (Vec::new(), Vec::new());
        let pages = scan
            .pages()
            .filter(|page| doubt == Doubt::Pages || objects.contains(&page.digest()));
        for chunk in pages.flat_map(|page| page.entries()).flat_map(Entry::chunks) {
            if seen.insert(chunk.digest) {
                named.push(chunk.digest);
                lengths.push(u64::from(chunk.len));
            }
        }
        let contents: HashSet<Digest> = self.find_missing(&named).await?.into_iter().collect();
        let in_files: u64 = named
            .iter()
            .zip(lengths)
            .filter(|(digest, _)| contents.contains(digest))
            .map(|(_, length)| length)
            .sum();
        let in_pages: u64 = scan
            .pages()
            .filter(|page| objects.contains(&page.digest()))
            .map(|page| page.encoded().len() as u64)
            .sum();
        let root = if objects.contains(&scan.id()) {
            scan.root_object().len() as u64
        } else {
            0
        };
        Ok(Missing {
            contents,
            objects,
            bytes: in_files + in_pages + root,
        })
    }

    /// One upload of everything missing; the bytes that went over the connection.
    async fn upload(
        &self,
        scan: &Arc<Scan>,
        missing: &Arc<Missing>,
        progress: &Arc<dyn SendProgress>,
    ) -> Result<ByteSize, UploadError> {
        let (frames, outgoing) = mpsc::channel(FRAMES_AHEAD);
        // Keeps the stream open until the writer is known to have sent everything.
        let open = frames.clone();
        let writing = {
            let (scan, missing, progress) = (scan.clone(), missing.clone(), progress.clone());
            blocking(move || write_frames(&scan, &missing, &frames, &*progress))
        };
        let call = async {
            client::snapshots(self.calls())
                .upload(ReceiverStream::new(outgoing))
                .await
        };
        tokio::pin!(call, writing);
        let wire = tokio::select! {
            written = &mut writing => match written {
                Ok(wire) => wire,
                // The connection ended first: the call's own answer says why.
                Err(BundleError::Sink(Gone)) => {
                    drop(open);
                    return match call.await {
                        Err(status) => Err(status.into()),
                        Ok(_) => Err(tonic::Status::internal("the upload was answered before its end").into()),
                    };
                }
                Err(error) => return Err(UploadError::Read(error)),
            },
            answer = &mut call => {
                // Not before its end: nobody else closes it. The writer notices that nobody takes its frames.
                let early = answer.err();
                return Err(early
                    .unwrap_or_else(|| tonic::Status::internal("the upload was answered before its end"))
                    .into());
            }
        };
        drop(open);
        call.await?;
        Ok(ByteSize(wire))
    }
}

/// Why one upload failed.
enum UploadError {
    Read(BundleError<Gone>),
    Status(Box<tonic::Status>),
}

impl From<tonic::Status> for UploadError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

fn write_frames(
    scan: &Scan,
    missing: &Missing,
    frames: &mpsc::Sender<v1::UploadRequest>,
    progress: &dyn SendProgress,
) -> Result<u64, BundleError<Gone>> {
    let mut wire = 0;
    let mut sink = |frame: haul_snapshot::bundle::Frame| {
        wire += frame.bytes.len() as u64;
        let frame = Bytes::from(frame.bytes);
        frames
            .blocking_send(v1::UploadRequest { frame })
            .map_err(|_| Gone)
    };
    for wanted in [&missing.contents, &missing.objects] {
        if !wanted.is_empty() {
            scan.write_bundle(wanted, 0, &mut sink, progress)?;
        }
    }
    Ok(wire)
}

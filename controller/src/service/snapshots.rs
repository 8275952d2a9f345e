//! Snapshots: which chunks are missing, taking them, giving them out.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::StreamExt;
use haul_proto::server::SnapshotService;
use haul_proto::{self as proto, v1};
use haul_store::{Extras, VerifiedFrame};
use haul_types::Digest;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::follow::Stream;
use super::reach::Reach;
use crate::engine::Engine;
use crate::snapshots::Snapshots;
use crate::status::{IntoStatus, panicked};

/// The most digests in one call.
const MAX_DIGESTS: usize = 100_000;
/// Frames of an upload that are verified at the same time, and that wait on their way out.
const FRAMES_AHEAD: usize = 4;

pub(super) struct SnapshotCalls {
    pub(super) engine: Arc<Engine>,
    pub(super) snapshots: Arc<Snapshots>,
}

fn digests(bytes: &[u8]) -> Result<Vec<Digest>, Status> {
    let digests = proto::digests_from_bytes(bytes).map_err(IntoStatus::into_status)?;
    if digests.len() > MAX_DIGESTS {
        return Err(Status::invalid_argument(format!(
            "digests: more than {MAX_DIGESTS} in one call"
        )));
    }
    Ok(digests)
}

#[tonic::async_trait]
impl SnapshotService for SnapshotCalls {
    async fn find_missing(
        &self,
        request: Request<v1::FindMissingRequest>,
    ) -> Result<Response<v1::FindMissingResponse>, Status> {
        let _call = self.engine.call();
        Reach::of(&self.engine, &request)?;
        let asked = digests(&request.get_ref().digests)?;
        let packs = self.snapshots.packs.clone();
        let missing = tokio::task::spawn_blocking(move || packs.missing(&asked)).await;
        let missing = missing.map_err(panicked)?.map_err(IntoStatus::into_status)?;
        Ok(Response::new(v1::FindMissingResponse {
            digests: proto::digests_to_bytes(&missing),
        }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        let _call = self.engine.call();
        Reach::of(&self.engine, &request)?;
        let _kept = self.snapshots.collecting.read().await;
        let verified = request.into_inner().map(|message| async move {
            let frame = message?.frame;
            // Decompressing and hashing is the work; it is done on several threads at once.
            let verified = tokio::task::spawn_blocking(move || VerifiedFrame::verify(frame)).await;
            verified
                .map_err(panicked)?
                .map_err(|error| Status::data_loss(error.to_string()))
        });
        let mut verified = std::pin::pin!(verified.buffered(FRAMES_AHEAD));
        let mut writer = self.snapshots.packs.writer();
        while let Some(frame) = verified.next().await {
            let frame = frame?;
            let appended =
                tokio::task::spawn_blocking(move || writer.append_verified(frame).map(|()| writer)).await;
            writer = appended.map_err(panicked)?.map_err(IntoStatus::into_status)?;
        }
        let finished = tokio::task::spawn_blocking(move || writer.finish()).await;
        let stats = finished.map_err(panicked)?.map_err(IntoStatus::into_status)?;
        Ok(Response::new(v1::UploadResponse {
            chunks: stats.new_chunks,
            bytes: stats.stored_bytes,
        }))
    }

    type FetchStream = Stream<v1::FetchResponse>;

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let call = self.engine.call();
        let reach = Reach::of(&self.engine, &request)?;
        let wanted = digests(&request.get_ref().digests)?;
        let extras = match reach {
            Reach::Everything => Extras::Allowed,
            Reach::Attempt { snapshot } => {
                let snapshots = Arc::clone(&self.snapshots);
                let members = tokio::task::spawn_blocking(move || snapshots.members(snapshot)).await;
                let members = members.map_err(panicked)?.map_err(IntoStatus::into_status)?;
                if let Some(stranger) = wanted.iter().find(|digest| !members.contains(digest)) {
                    return Err(Status::permission_denied(format!(
                        "chunk {stranger} is not part of the attempt's snapshot"
                    )));
                }
                Extras::Never
            }
        };
        let packs = self.snapshots.packs.clone();
        let (sender, receiver) = mpsc::channel(FRAMES_AHEAD);
        tokio::task::spawn_blocking(move || {
            let _call = call;
            let outcome = packs.frames(&wanted, extras, &mut |frame: Vec<u8>| {
                sender
                    .blocking_send(Ok(v1::FetchResponse {
                        frame: Bytes::from(frame),
                    }))
                    .is_ok()
            });
            if let Err(error) = outcome {
                let _ = sender.blocking_send(Err(error.into_status()));
            }
        });
        Ok(Response::new(Stream::new(receiver)))
    }
}

//! What an attempt left, as its node names it: taken only if it is here.
//!
//! Whether the node sent it itself is not asked: of content that is here already nothing is sent twice.

use std::sync::Arc;

use haul_lifecycle::Update;
use haul_types::{Digest, Reason, TaskState};
use tonic::Status;

use crate::snapshots::{SnapshotError, Snapshots};
use crate::status::{IntoStatus, panicked};

/// Turns ends that name what is not here, or is no snapshot, into failures that say so: nobody could ever fetch it.
pub(super) async fn take_what_is_here(
    snapshots: &Arc<Snapshots>,
    updates: Vec<Update>,
) -> Result<Vec<Update>, Status> {
    let unknown = |digest: &Digest| !snapshots.is_known_whole(*digest);
    if !updates.iter().flat_map(named).any(|digest| unknown(&digest)) {
        return Ok(updates);
    }
    let snapshots = Arc::clone(snapshots);
    let checked = tokio::task::spawn_blocking(move || {
        let checked = updates.into_iter().map(|update| check(&snapshots, update));
        checked.collect::<Result<_, SnapshotError>>()
    });
    checked.await.map_err(panicked)?.map_err(IntoStatus::into_status)
}

fn named(update: &Update) -> impl Iterator<Item = Digest> {
    update.outputs.into_iter().chain(update.logs)
}

fn check(snapshots: &Snapshots, update: Update) -> Result<Update, SnapshotError> {
    for digest in named(&update) {
        match snapshots.ensure_whole(digest) {
            Ok(()) => {}
            Err(error @ SnapshotError::Packs(_)) => return Err(error),
            Err(error @ (SnapshotError::Incomplete(_) | SnapshotError::Malformed { .. })) => {
                tracing::warn!(attempt = %update.attempt, %error, "a node names what it did not send");
                return Ok(Update {
                    state: TaskState::Failed,
                    reason: Reason::OutputsFailed,
                    detail: "its node names outputs that it did not send".to_owned(),
                    outputs: None,
                    logs: None,
                    ..update
                });
            }
        }
    }
    Ok(update)
}

//! How far a caller reaches into snapshots: users see all, a node what belongs to an attempt of its own.

use haul_proto::ATTEMPT_METADATA;
use haul_types::{AttemptId, Digest};
use tonic::{Request, Status};

use crate::engine::Engine;
use crate::principal::Principal;
use crate::status::IntoStatus;

/// What a call on chunks may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Every chunk.
    Everything,
    /// To read: what this snapshot is made of. To send: what the attempt leaves.
    Attempt {
        /// The snapshot of the attempt's job.
        snapshot: Digest,
    },
}

impl Reach {
    /// How far whoever makes this call reaches. A node names the attempt that it acts for; one that is not its current
    /// one is refused, whoever had it before.
    pub(super) fn of<T>(engine: &Engine, request: &Request<T>) -> Result<Self, Status> {
        let Principal::Node { name, .. } = Principal::of(request) else {
            return Ok(Self::Everything);
        };
        let named = request
            .metadata()
            .get(ATTEMPT_METADATA)
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| {
                Status::invalid_argument(format!(
                    "{ATTEMPT_METADATA}: a node names the attempt that it acts for"
                ))
            })?;
        let attempt: AttemptId = named
            .parse()
            .map_err(|error| Status::invalid_argument(format!("{ATTEMPT_METADATA}: {error}")))?;
        if !engine.is_current(&name, attempt) {
            return Err(Status::permission_denied(format!(
                "attempt {attempt} is not one of node {name}, or not any more"
            )));
        }
        let job = engine.job(attempt.task.job).map_err(IntoStatus::into_status)?;
        let job = job.ok_or_else(|| Status::not_found(format!("job {} was removed", attempt.task.job)))?;
        Ok(Self::Attempt {
            snapshot: job.spec.snapshot,
        })
    }
}

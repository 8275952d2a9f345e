//! Submitting a job: first the job, and only if the controller says so, its directory.

use haul_proto::{client, v1};
use haul_types::{JobId, JobSpec};
use tonic::{Code, Response};

use crate::call::repeated;
use crate::{CallError, Client, SendError};

/// The name of the metadata in which a controller says which build it is.
const BUILD: &str = "haul-build";

/// A job that is stored.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The job.
    pub id: JobId,
    /// When it was first stored, by the controller's clock, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// Which build the controller is, if it said.
    pub build: Option<String>,
    /// Why no node that is known could ever run it; none when one could.
    pub unplaceable: Option<String>,
}

/// Why a job was not submitted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// Its snapshot is not complete on the controller: send it and submit again.
    #[error("the controller lacks parts of the snapshot")]
    SnapshotMissing,
    /// The snapshot could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Client {
    /// Stores a job. With the same id it may be repeated.
    pub async fn submit(&self, id: JobId, spec: &JobSpec) -> Result<Submitted, SubmitError> {
        let request = v1::SubmitJobRequest {
            id: id.to_string(),
            spec: Some(spec.into()),
        };
        let answer = repeated(|| {
            let (channel, request) = (self.calls(), request.clone());
            async move {
                match client::jobs(channel).submit_job(request).await {
                    Ok(answer) => Ok(answer.map(Some)),
                    Err(status) if status.code() == Code::FailedPrecondition => Ok(Response::new(None)),
                    Err(status) => Err(status),
                }
            }
        })
        .await?;
        let build = answer
            .metadata()
            .get(BUILD)
            .and_then(|build| build.to_str().ok())
            .map(str::to_owned);
        let stored = answer.into_inner().ok_or(SubmitError::SnapshotMissing)?;
        Ok(Submitted {
            id,
            created_unix_ms: stored.created_unix_ms,
            build,
            unplaceable: Some(stored.unplaceable).filter(|why| !why.is_empty()),
        })
    }
}

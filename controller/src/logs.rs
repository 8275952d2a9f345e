//! What jobs write: one spool for each job, open while the job is in progress.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use haul_spool::{AppendError, JobSpool, SpoolError, SpoolOptions, SyncError};
use haul_types::{AttemptId, JobId, StreamKey, StreamKind};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::engine::lock;

/// All that jobs wrote.
pub(crate) struct Logs {
    root: PathBuf,
    options: SpoolOptions,
    open: Mutex<HashMap<JobId, Arc<JobSpool>>>,
}

/// Why bytes were not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error(transparent)]
    Open(#[from] SpoolError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Sync(#[from] SyncError),
}

impl Logs {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            root,
            options: SpoolOptions::default(),
            open: Mutex::default(),
        }
    }

    /// The spool of a job, opened if need be and kept open until the job ends.
    pub(crate) fn spool(&self, job: JobId) -> Result<Arc<JobSpool>, SpoolError> {
        let mut open = lock(&self.open);
        if let Some(spool) = open.get(&job) {
            return Ok(Arc::clone(spool));
        }
        let spool = Arc::new(JobSpool::open(&self.root.join(job.to_string()), &self.options)?);
        open.insert(job, Arc::clone(&spool));
        Ok(spool)
    }

    /// The spool of a job that is being written to.
    pub(crate) fn open(&self, job: JobId) -> Option<Arc<JobSpool>> {
        lock(&self.open).get(&job).map(Arc::clone)
    }

    /// The spool of a job for reading, which is not kept open: it shows what is there now.
    pub(crate) fn reader(&self, job: JobId) -> Result<Arc<JobSpool>, SpoolError> {
        if let Some(spool) = self.open(job) {
            return Ok(spool);
        }
        Ok(Arc::new(JobSpool::open(
            &self.root.join(job.to_string()),
            &self.options,
        )?))
    }

    /// Appends to a stream; the length it has then. Durable only after [`JobSpool::sync`].
    pub(crate) fn append(
        &self,
        attempt: AttemptId,
        kind: StreamKind,
        offset: u64,
        data: &Bytes,
    ) -> Result<u64, LogError> {
        let key = StreamKey {
            task: attempt.task.index,
            attempt: attempt.attempt,
            kind,
        };
        Ok(self.spool(attempt.task.job)?.append(key, offset, data)?)
    }

    /// Nothing more will be written: the last segment is sealed in the background.
    pub(crate) fn on_job_ended(self: &Arc<Self>, job: JobId, tasks: &TaskTracker, runtime: &Handle) {
        if !lock(&self.open).contains_key(&job) {
            return;
        }
        let logs = Arc::clone(self);
        let seal = move || {
            let spool = lock(&logs.open).get(&job).map(Arc::clone);
            if let Some(spool) = spool
                && let Err(error) = spool.seal()
            {
                // It stays as it is: complete, and sealed when it is opened again.
                tracing::warn!(%job, %error, "cannot seal a job's log");
            }
            lock(&logs.open).remove(&job);
        };
        tasks.spawn_blocking_on(seal, runtime);
    }

    /// Removes all that a job wrote.
    pub(crate) fn remove(&self, job: JobId) -> std::io::Result<()> {
        lock(&self.open).remove(&job);
        match std::fs::remove_dir_all(self.root.join(job.to_string())) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes what jobs wrote that `known` does not know: left by a crash in the middle of a removal.
    pub(crate) fn sweep(&self, known: impl Fn(JobId) -> bool) {
        if let Err(error) = haul_spool::sweep(&self.root, known) {
            tracing::warn!(%error, "cannot sweep the logs of removed jobs");
        }
    }
}

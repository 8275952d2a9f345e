//! What is thrown away, and when: jobs past their time, logs of removed jobs, chunks that nothing needs.

use std::sync::Arc;
use std::time::Duration;

use haul_store::{JobFilter, Op};
use haul_types::{JobId, TaskState};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{Engine, now_unix_ms};
use crate::snapshots::Snapshots;

/// The time between two rounds; the first comes soon after the start, but not in anybody's way.
const ROUND: Duration = Duration::from_secs(3600);
const FIRST: Duration = Duration::from_secs(60);
/// Jobs looked at in one go.
const PAGE: usize = 500;

/// Starts the rounds.
pub(crate) fn start(
    tasks: &TaskTracker,
    engine: &Arc<Engine>,
    snapshots: &Arc<Snapshots>,
    keep_jobs_for: Option<Duration>,
    shutdown: &CancellationToken,
) {
    let (engine, snapshots, shutdown) = (Arc::clone(engine), Arc::clone(snapshots), shutdown.clone());
    tasks.spawn(async move {
        let mut wait = FIRST;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = ROUND,
                () = shutdown.cancelled() => return,
            }
            if let Err(error) = round(&engine, &snapshots, keep_jobs_for).await {
                tracing::warn!(%error, "cannot tidy up");
            }
        }
    });
}

async fn round(
    engine: &Arc<Engine>,
    snapshots: &Arc<Snapshots>,
    keep_jobs_for: Option<Duration>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let now = now_unix_ms();
    if let Some(keep) = keep_jobs_for {
        let horizon = now.saturating_sub(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
        for job in ended_before(engine, horizon)? {
            remove_job(engine, job).await?;
        }
    }
    let metadata = engine.metadata().clone();
    let (logs, snapshots) = (Arc::clone(&engine.logs), Arc::clone(snapshots));
    let quiet = Arc::clone(&snapshots.collecting).write_owned().await;
    tokio::task::spawn_blocking(move || {
        let _quiet = quiet;
        logs.sweep(|job| !matches!(metadata.job(job), Ok(None)));
        snapshots.collect(now)
    })
    .await??;
    Ok(())
}

/// Jobs that ended before `horizon`.
fn ended_before(engine: &Engine, horizon: u64) -> Result<Vec<JobId>, haul_store::ReadError> {
    let terminal = TaskState::ALL
        .into_iter()
        .filter(|state| state.is_terminal())
        .collect();
    let mut filter = JobFilter {
        states: terminal,
        limit: PAGE,
        before: None,
    };
    let mut found = Vec::new();
    loop {
        let page = engine.metadata().jobs(&filter)?;
        found.extend(
            page.iter()
                .filter(|job| job.ended_unix_ms.is_some_and(|ended| ended < horizon))
                .map(|job| job.id),
        );
        match page.last() {
            Some(last) if page.len() == PAGE => filter.before = Some(last.cursor),
            _ => return Ok(found),
        }
    }
}

/// Forgets a job that has ended. Its record goes first: a crash in between leaves logs that the next round sweeps.
pub(crate) async fn remove_job(engine: &Arc<Engine>, job: JobId) -> Result<(), haul_store::CommitError> {
    let (done, is_done) = tokio::sync::oneshot::channel();
    engine
        .metadata()
        .commit(vec![Op::RemoveJob(job)], move |outcome| drop(done.send(outcome)));
    if let Ok(outcome) = is_done.await {
        outcome?;
    }
    let logs = Arc::clone(&engine.logs);
    let removed = tokio::task::spawn_blocking(move || logs.remove(job)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%job, %error, "cannot remove a job's log");
    }
    Ok(())
}

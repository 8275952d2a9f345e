//! Takes up what an earlier agent left: attempts that run, that have ended meanwhile, or that are lost.

use std::sync::Arc;

use haul_launcher::{AttemptHandle, ExitRecord, Found, StopReason};
use haul_types::AttemptId;

use crate::{Agent, attempt};

impl Agent {
    /// Goes on with each attempt that is found; directories of all others are free again.
    pub(crate) async fn adopt(self: &Arc<Self>, found: Vec<Found<AttemptHandle>>) {
        let ids: Vec<AttemptId> = found.iter().map(attempt_of).collect();
        self.take_back_directories(&found).await;
        let mut workdirs = match self.workdirs.take_up(|attempt| ids.contains(&attempt)) {
            Ok(workdirs) => workdirs,
            Err(error) => {
                tracing::error!(%error, "cannot read the working directories");
                return;
            }
        };
        self.jobs
            .sweep(|job| ids.iter().any(|attempt| attempt.task.job == job));
        for found in found {
            let id = attempt_of(&found);
            let job = match self.jobs.find(id.task.job) {
                Ok(job) => job,
                Err(error) => {
                    // Without its spec nothing can be said of it but to the launcher; the controller finds it missing.
                    tracing::error!(attempt = %id, %error, "an earlier agent's attempt has no spec");
                    if !matches!(found, Found::Running(_))
                        && let Err(error) = self.launcher.acknowledge(id)
                    {
                        tracing::warn!(attempt = %id, %error, "cannot give the exit record up");
                    }
                    continue;
                }
            };
            let Some(stop) = self.held.take(id) else { continue };
            let share = self.config.share_of(job.spec.scheduling.resources);
            let place = self.places.keep(share);
            let workdir = workdirs.remove(&id);
            tracing::info!(attempt = %id, ?found, "adopted");
            let agent = Arc::clone(self);
            self.tasks.spawn(async move {
                let _place = place;
                let ended = async move {
                    match found {
                        Found::Ended(record) => record,
                        Found::Lost {
                            attempt,
                            boot,
                            killed_leftovers,
                        } => ExitRecord {
                            killed_leftovers,
                            ..ExitRecord::lost(attempt, boot, 0)
                        },
                        Found::Running(mut running) => {
                            tokio::select! {
                                record = running.ended() => return record,
                                () = stop.cancelled() => {}
                            }
                            running.stop(StopReason::Canceled);
                            running.ended().await
                        }
                    }
                };
                attempt::resume(agent, job, id, workdir, ended).await;
            });
        }
        self.keep_environments(&ids);
    }

    /// Directories that an earlier agent has not taken back from users of jobs, except those that are in use.
    async fn take_back_directories(&self, found: &[Found<AttemptHandle>]) {
        let running = |attempt| {
            let mut all = found.iter();
            all.any(|it| matches!(it, Found::Running(_)) && attempt_of(it) == attempt)
        };
        for directory in self.workdirs.handed_over(running) {
            if let Err(error) = self.launcher.take_back(&directory).await {
                tracing::warn!(directory = %directory.display(), %error, "cannot be used any more");
            }
        }
    }

    /// Environments stay protected for the jobs that are still here, and only for those.
    fn keep_environments(self: &Arc<Self>, ids: &[AttemptId]) {
        let jobs: Vec<String> = ids.iter().map(|attempt| attempt.task.job.to_string()).collect();
        let agent = Arc::clone(self);
        self.tasks.spawn(async move {
            let kept = agent
                .environments
                .forget_holders(move |holder| jobs.iter().any(|job| job == holder))
                .await;
            if let Err(error) = kept {
                tracing::warn!(%error, "cannot free the environments of jobs that are gone");
            }
        });
    }
}

fn attempt_of(found: &Found<AttemptHandle>) -> AttemptId {
    match found {
        Found::Running(running) => running.attempt(),
        Found::Ended(record) => record.attempt,
        Found::Lost { attempt, .. } => *attempt,
    }
}

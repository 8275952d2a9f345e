//! The life of one attempt, from assignment to end.
//!
//! ```text
//!   wait for a place ─► working directory ─► environment ─► launch ─► ship logs ─► ended ─► collect ─► say the end
//!          │                   │                  │            │                                          ▲
//!          └───────────────────┴── stop, failure ─┴────────────┴──────────────────────────────────────────┘
//! ```
//!
//! Whatever happens, an attempt ends with exactly one update of a terminal state, which is said until it is stored.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use haul_client::Backoff;
use haul_launcher::{AttemptHandle, ExitRecord, StopReason};
use haul_proto::v1;
use haul_types::{AttemptId, Reason, TaskState};
use tokio_util::sync::CancellationToken;

use self::end::{End, judge, separator, words};
use self::prepare::{order, prepare_environment};

use crate::held::Urgency;
use crate::job::Job;
use crate::shipper::{self, Finished};
use crate::workdirs::Workdir;
use crate::{Agent, outputs};

mod end;
mod prepare;

/// An attempt that is over within so long is not followed while it runs: its log and the news of its start travel with
/// its end.
const BEFORE_FOLLOWING: Duration = Duration::from_millis(2);
/// The end of one task among many may wait so long for others to be made durable with it; the end of a job is waited
/// for.
const FOR_OTHERS: Duration = Duration::from_millis(4);

/// Lives one attempt.
pub(crate) async fn run(agent: Arc<Agent>, job: Arc<Job>, id: AttemptId, stop: CancellationToken) {
    let end = live(&agent, &job, id, &stop).await;
    say_end(&agent, &job, id, end).await;
}

/// Goes on with an attempt that an earlier agent started.
pub(crate) async fn resume(
    agent: Arc<Agent>,
    job: Arc<Job>,
    id: AttemptId,
    workdir: Option<Workdir>,
    ended: impl Future<Output = ExitRecord>,
) {
    agent.shipper.watch(id, job.files(id)).await;
    let record = ended.await;
    let end = finalize(&agent, &job, id, workdir, &record).await;
    say_end(&agent, &job, id, end).await;
}

/// Tells the end, once it is durable and the controller has all but a short tail of the log.
async fn say_end(agent: &Agent, job: &Job, id: AttemptId, end: End) {
    let at = Instant::now();
    if agent.shipper.watches(id) {
        // Its log may take its time.
        agent.held.press(id, Urgency::Soon);
    }
    let patience = if job.spec.array.is_some() {
        FOR_OTHERS
    } else {
        Duration::ZERO
    };
    let (durable, finished) = tokio::join!(agent.launcher.durable(id, patience), finish_logs(agent, job, id));
    if let Err(error) = durable {
        // The controller stores it; until then a power cut may make it unknown.
        tracing::error!(attempt = %id, error = %words(&error), "an end is not known to be durable");
    }
    let finished = finished.unwrap_or_else(|error| {
        tracing::error!(attempt = %id, %error, "the log is incomplete");
        Finished::default()
    });
    let update = v1::TaskUpdate {
        exit: end.exit.map(Into::into),
        outputs: end
            .outputs
            .map_or_else(Vec::new, |digest| digest.as_bytes().to_vec()),
        logs: end
            .logs
            .map_or_else(Vec::new, |digest| digest.as_bytes().to_vec()),
        stream_lengths: finished.lengths.to_vec(),
        tail: finished.tail,
        ..update(id, end.state, end.reason, end.detail)
    };
    // Those that were made durable together are all said before the first is sent.
    agent.held.say(id, update, at, Urgency::Now);
}

async fn finish_logs(agent: &Agent, job: &Job, id: AttemptId) -> std::io::Result<Finished> {
    let files = job.files(id);
    if !agent.shipper.watches(id)
        && let Some(finished) = shipper::read_short(&files)?
    {
        return Ok(finished);
    }
    agent.shipper.finish(id, files).await
}

fn update(id: AttemptId, state: TaskState, reason: Reason, detail: String) -> v1::TaskUpdate {
    v1::TaskUpdate {
        attempt: Some(id.into()),
        state: state as i32,
        reason: reason as i32,
        detail,
        ..v1::TaskUpdate::default()
    }
}

fn say(agent: &Agent, id: AttemptId, state: TaskState, reason: Reason, detail: &str, urgency: Urgency) {
    let update = update(id, state, reason, detail.to_owned());
    agent.held.say(id, update, Instant::now(), urgency);
}

async fn live(agent: &Arc<Agent>, job: &Arc<Job>, id: AttemptId, stop: &CancellationToken) -> End {
    const BEFORE_START: &str = "canceled before it started";
    let share = agent.config.share_of(job.spec.scheduling.resources);
    let Some(place) = stop.run_until_cancelled(agent.places.take(share)).await else {
        return End::canceled(BEFORE_START);
    };
    let Some(workdir) = stop.run_until_cancelled(prepare_workdir(agent, job, id)).await else {
        return End::canceled(BEFORE_START);
    };
    let workdir = match workdir {
        Ok(workdir) => workdir,
        Err(error) => return End::failed(Reason::SnapshotFailed, words(&error)),
    };
    let environment = match prepare_environment(agent, job, id, &workdir.tree(), stop).await {
        Ok(environment) => environment,
        Err(end) => {
            agent.workdirs.give_back(workdir);
            return end;
        }
    };
    let order = match order(agent, job, id, &workdir, &environment) {
        Ok(order) => order,
        Err(end) => {
            agent.workdirs.give_back(workdir);
            return end;
        }
    };
    agent.jobs.provide_files(&job.files(id));
    // Not to be given up half-way: whether it was started would be unknown.
    let running = match agent.launcher.start(order, workdir.dir()).await {
        Ok(running) => running,
        Err(error) => {
            agent.workdirs.give_back(workdir);
            return End::failed(Reason::StartFailed, words(&error));
        }
    };
    let record = watch(agent, job, id, running, stop).await;
    drop(environment);
    let end = finalize(agent, job, id, Some(workdir), &record).await;
    drop(place);
    end
}

async fn prepare_workdir(
    agent: &Agent,
    job: &Job,
    id: AttemptId,
) -> Result<Workdir, crate::workdirs::WorkdirError> {
    let mut backoff = Backoff::lasting();
    loop {
        match agent
            .workdirs
            .take(&agent.client.for_attempt(id), job.spec.snapshot, id)
            .await
        {
            Err(error) if error.is_passing() => {
                tracing::info!(attempt = %id, error = %words(&error), "the snapshot waits for the controller");
                tokio::time::sleep(backoff.next_wait().unwrap_or_default()).await;
            }
            other => return other,
        }
    }
}

/// Follows a running attempt to its end.
async fn watch(
    agent: &Agent,
    job: &Job,
    id: AttemptId,
    mut running: AttemptHandle,
    stop: &CancellationToken,
) -> ExitRecord {
    say(
        agent,
        id,
        TaskState::Running,
        Reason::Started,
        "",
        Urgency::Withheld,
    );
    let stopper = running.stopper();
    let mut stopping = false;
    let mut following = false;
    let patience = tokio::time::sleep(BEFORE_FOLLOWING);
    tokio::pin!(patience);
    let ended = running.ended();
    tokio::pin!(ended);
    loop {
        tokio::select! {
            record = &mut ended => return record,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                stopper(StopReason::Canceled);
            }
            () = &mut patience, if !following => {
                following = true;
                agent.held.press(id, Urgency::Soon);
                agent.shipper.watch(id, job.files(id)).await;
            }
        }
    }
}

/// No process is left: what the job leaves is collected, and its directory is free.
async fn finalize(
    agent: &Agent,
    job: &Job,
    id: AttemptId,
    workdir: Option<Workdir>,
    record: &ExitRecord,
) -> End {
    let mut end = judge(record, &job.spec);
    if end.reason == Reason::Lost || end.exit.is_some() {
        say(
            agent,
            id,
            TaskState::Finalizing,
            end.reason,
            "",
            Urgency::Withheld,
        );
    }
    let Some(workdir) = workdir else { return end };
    if let Err(error) = agent.launcher.take_back(workdir.dir()).await {
        // What cannot be read will be said below.
        tracing::warn!(attempt = %id, %error, "collecting what can be read");
    }
    let tree = workdir.tree();
    for name in ["outputs", "logs"] {
        if !outputs::anything(&tree.join(name)) {
            continue;
        }
        // That may take its time.
        agent.held.press(id, Urgency::Soon);
        match outputs::collect(&agent.client.for_attempt(id), &tree.join(name)).await {
            Ok((digest, skipped)) => {
                if name == "outputs" {
                    end.outputs = Some(digest);
                } else {
                    end.logs = Some(digest);
                }
                if !skipped.is_empty() {
                    let _ = write!(
                        end.detail,
                        "{}not collected: {}",
                        separator(&end.detail),
                        skipped.join(", ")
                    );
                }
            }
            Err(error) => {
                let _ = write!(
                    end.detail,
                    "{}./{name}: {}",
                    separator(&end.detail),
                    words(&error)
                );
                if end.state == TaskState::Succeeded {
                    end.state = TaskState::Failed;
                    end.reason = Reason::OutputsFailed;
                }
            }
        }
    }
    agent.workdirs.give_back(workdir);
    end
}

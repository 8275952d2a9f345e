//! The life of one attempt, from assignment to end.
//!
//! ```text
//!   wait for a slot ─► working directory ─► environment ─► launch ─► ship logs ─► ended ─► collect ─► say the end
//!          │                  │                  │            │                                          ▲
//!          └──────────────────┴── stop, failure ─┴────────────┴──────────────────────────────────────────┘
//! ```
//!
//! Whatever happens, an attempt ends with exactly one update of a terminal state, which is said until it is stored.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use haul_client::Backoff;
use haul_environment::{Ready, SetupSink};
use haul_launcher::{AttemptOrder, ExitRecord, Outcome, RunningAttempt, StopReason, Stopped};
use haul_proto::v1;
use haul_types::{AttemptId, Digest, EnvironmentSpec, ExitStatus, JobSpec, Reason, TaskState};
use tokio_util::sync::CancellationToken;

use crate::job::Job;
use crate::shipper::{self, Finished};
use crate::workdirs::Workdir;
use crate::{Agent, outputs};

/// An attempt that is over within so long is not followed while it runs: its log travels with its end.
const BEFORE_FOLLOWING: Duration = Duration::from_millis(2);

/// How an attempt ended.
#[derive(Debug)]
struct End {
    state: TaskState,
    reason: Reason,
    detail: String,
    exit: Option<ExitStatus>,
    outputs: Option<Digest>,
    logs: Option<Digest>,
}

impl End {
    fn failed(reason: Reason, detail: String) -> Self {
        Self {
            state: TaskState::Failed,
            reason,
            detail,
            exit: None,
            outputs: None,
            logs: None,
        }
    }

    fn canceled(detail: &str) -> Self {
        let (state, reason) = (TaskState::Canceled, Reason::CanceledByUser);
        Self {
            state,
            reason,
            detail: detail.to_owned(),
            exit: None,
            outputs: None,
            logs: None,
        }
    }
}

/// An error with its causes, in one line.
fn words(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(
        || error.to_string(),
        |source| format!("{error}: {}", words(source)),
    )
}

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

async fn say_end(agent: &Agent, job: &Job, id: AttemptId, end: End) {
    let finished = match finish_logs(agent, job, id).await {
        Ok(finished) => finished,
        Err(error) => {
            tracing::error!(attempt = %id, %error, "the log is incomplete");
            Finished::default()
        }
    };
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
    agent.held.say(id, update, urgency(job));
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

/// The end of one task among many can wait for others to travel with it; the end of a job is waited for.
fn urgency(job: &Job) -> crate::held::Urgency {
    if job.spec.array.is_some() {
        crate::held::Urgency::Soon
    } else {
        crate::held::Urgency::Now
    }
}

fn say(agent: &Agent, id: AttemptId, state: TaskState, reason: Reason, detail: &str) {
    agent.held.say(
        id,
        update(id, state, reason, detail.to_owned()),
        crate::held::Urgency::Soon,
    );
}

async fn live(agent: &Arc<Agent>, job: &Arc<Job>, id: AttemptId, stop: &CancellationToken) -> End {
    const BEFORE_START: &str = "canceled before it started";
    let slot = tokio::select! {
        biased;
        () = stop.cancelled() => return End::canceled(BEFORE_START),
        slot = Arc::clone(&agent.slots).acquire_owned() => slot,
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
    let order = match order(agent, job, id, &workdir.tree(), &environment) {
        Ok(order) => order,
        Err(end) => {
            agent.workdirs.give_back(workdir);
            return end;
        }
    };
    // Not to be given up half-way: whether it was started would be unknown.
    let running = match agent.launcher.start(order).await {
        Ok(running) => running,
        Err(error) => {
            agent.workdirs.give_back(workdir);
            return End::failed(Reason::StartFailed, words(&error));
        }
    };
    let record = watch(agent, job, id, running, stop).await;
    drop(environment);
    let end = finalize(agent, job, id, Some(workdir), &record).await;
    drop(slot);
    end
}

async fn prepare_workdir(
    agent: &Agent,
    job: &Job,
    id: AttemptId,
) -> Result<Workdir, crate::workdirs::WorkdirError> {
    let mut backoff = Backoff::lasting();
    loop {
        match agent.workdirs.take(&agent.client, job.spec.snapshot, id).await {
            Err(error) if error.is_passing() => {
                tracing::info!(attempt = %id, error = %words(&error), "the snapshot waits for the controller");
                tokio::time::sleep(backoff.next_wait().unwrap_or_default()).await;
            }
            other => return other,
        }
    }
}

/// The setup stream of an attempt: a file, made when something is said.
struct SetupFile {
    path: std::path::PathBuf,
    agent: std::sync::Weak<Agent>,
    id: AttemptId,
    files: shipper::Files,
}

impl SetupSink for SetupFile {
    fn write(&self, bytes: &[u8]) {
        let first = !self.path.exists();
        let written = std::fs::File::options()
            .append(true)
            .create(true)
            .open(&self.path)
            .and_then(|mut file| file.write_all(bytes));
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "cannot write the setup stream");
        }
        if first && let Some(agent) = self.agent.upgrade() {
            let (id, files) = (self.id, self.files.clone());
            agent
                .clone()
                .tasks
                .spawn(async move { agent.shipper.watch(id, files).await });
        }
    }
}

async fn prepare_environment(
    agent: &Arc<Agent>,
    job: &Job,
    id: AttemptId,
    tree: &Path,
    stop: &CancellationToken,
) -> Result<Arc<Ready>, End> {
    if matches!(job.spec.environment, EnvironmentSpec::Venv { .. }) && job.environment.get().is_none() {
        say(
            agent,
            id,
            TaskState::Preparing,
            Reason::Assigned,
            "making the environment",
        );
    }
    match job
        .environment
        .get_or_try_init(|| make_environment(agent, job, id, tree, stop))
        .await
    {
        Ok(Ok(ready)) => Ok(Arc::clone(ready)),
        Ok(Err(words)) => Err(End::failed(Reason::EnvironmentFailed, words.clone())),
        Err(Withdrawn) => Err(End::canceled("canceled while its environment was made")),
    }
}

/// The attempt that was making the environment is canceled: another one makes it, or nobody.
struct Withdrawn;

/// Makes the environment for all attempts at the job; an error in words is what all of them are told.
async fn make_environment(
    agent: &Arc<Agent>,
    job: &Job,
    id: AttemptId,
    tree: &Path,
    stop: &CancellationToken,
) -> Result<Result<Arc<Ready>, String>, Withdrawn> {
    let files = job.files(id);
    let path = files[0].1.clone();
    let setup: Arc<dyn SetupSink> = Arc::new(SetupFile {
        path,
        agent: Arc::downgrade(agent),
        id,
        files,
    });
    let made = agent
        .environments
        .ensure(&job.spec.environment, tree, Arc::clone(&setup), stop.clone())
        .await;
    match made {
        Ok(mut ready) => {
            if let Err(error) = ready.lease.assign(&id.task.job.to_string()) {
                tracing::warn!(%error, "the environment is not protected if this agent dies");
            }
            Ok(Ok(Arc::new(ready)))
        }
        Err(haul_environment::EnvironmentError::Canceled) => Err(Withdrawn),
        Err(error) => {
            let words = words(&error);
            setup.write(format!("error: {words}\n").as_bytes());
            Ok(Err(words))
        }
    }
}

/// What is to be started.
fn order(
    agent: &Agent,
    job: &Job,
    id: AttemptId,
    tree: &Path,
    environment: &Ready,
) -> Result<AttemptOrder, End> {
    let JobSpec {
        command,
        working_dir,
        timeout,
        grace,
        ..
    } = &job.spec;
    let [program, args @ ..] = command.as_slice() else {
        return Err(End::failed(
            Reason::StartFailed,
            "the command is empty".to_owned(),
        ));
    };
    let program = if program == JobSpec::PYTHON {
        let missing = || {
            let detail = "this node has no python3: install it, or name an interpreter with --python";
            End::failed(Reason::StartFailed, detail.to_owned())
        };
        environment.python.clone().ok_or_else(missing)?.into_os_string()
    } else {
        OsString::from(program)
    };
    let [_, (_, stdout), (_, stderr)] = job.files(id);
    Ok(AttemptOrder {
        attempt: id,
        program,
        args: args.iter().map(OsString::from).collect(),
        cwd: tree.join(working_dir),
        env: variables(agent, job, id, tree, environment),
        stdout,
        stderr,
        timeout: *timeout,
        grace: *grace,
    })
}

/// The job's environment: the node's, the environment's, Haul's own, and last what the user asked for.
fn variables(
    agent: &Agent,
    job: &Job,
    id: AttemptId,
    tree: &Path,
    environment: &Ready,
) -> Vec<(OsString, OsString)> {
    let outputs = tree.join("outputs").into_os_string();
    let job_id = OsString::from(job.id.to_string());
    let own: [(&str, OsString); 8] = [
        ("HAUL_JOB_ID", job_id.clone()),
        ("HAUL_ATTEMPT", id.attempt.to_string().into()),
        ("HAUL_TASK_INDEX", id.task.index.to_string().into()),
        ("HAUL_OUTPUT_DIR", outputs.clone()),
        ("PYTHONUNBUFFERED", "1".into()),
        // The names that scripts written for Azure ML read.
        ("AZUREML_RUN_ID", job_id),
        ("AZUREML_TARGET_TYPE", "local".into()),
        ("AZUREML_OUTPUT_DIRECTORY", outputs),
    ];
    let mut variables: std::collections::BTreeMap<OsString, OsString> =
        agent.config.node_env.iter().cloned().collect();
    variables.extend(environment.env.iter().cloned());
    variables.extend(own.into_iter().map(|(name, value)| (name.into(), value)));
    variables.extend(
        job.spec
            .env
            .iter()
            .map(|(name, value)| (name.into(), value.into())),
    );
    variables.into_iter().collect()
}

/// Follows a running attempt to its end.
async fn watch(
    agent: &Agent,
    job: &Job,
    id: AttemptId,
    mut running: RunningAttempt,
    stop: &CancellationToken,
) -> ExitRecord {
    say(agent, id, TaskState::Running, Reason::Started, "");
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
                stopper.stop(StopReason::Canceled);
            }
            () = &mut patience, if !following => {
                following = true;
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
        say(agent, id, TaskState::Finalizing, end.reason, "");
    }
    let Some(workdir) = workdir else { return end };
    let tree = workdir.tree();
    for name in ["outputs", "logs"] {
        match outputs::collect(&agent.client, &tree.join(name)).await {
            Ok((digest, skipped)) => {
                if name == "outputs" {
                    end.outputs = digest
                } else {
                    end.logs = digest
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

fn separator(before: &str) -> &'static str {
    if before.is_empty() { "" } else { "; " }
}

/// What an exit record means for the task.
fn judge(record: &ExitRecord, spec: &JobSpec) -> End {
    let mut end = match (&record.outcome, record.stopped) {
        (Outcome::Exited(exit), Some(Stopped::TimedOut)) => {
            let limit = spec.timeout.unwrap_or_default();
            End {
                exit: Some(*exit),
                ..End::failed(
                    Reason::TimedOut,
                    format!("it ran longer than its limit of {limit:?}"),
                )
            }
        }
        (Outcome::Exited(exit), Some(Stopped::Canceled)) => End {
            exit: Some(*exit),
            ..End::canceled("")
        },
        (Outcome::Exited(exit), None) => {
            let state = if exit.is_success() {
                TaskState::Succeeded
            } else {
                TaskState::Failed
            };
            End {
                state,
                exit: Some(*exit),
                ..End::failed(Reason::Exited, exit.to_string())
            }
        }
        (Outcome::StartFailed { subject, message, .. }, _) => {
            End::failed(Reason::StartFailed, format!("{subject}: {message}"))
        }
        (Outcome::NotStarted, _) => End::canceled("canceled before it started"),
        (Outcome::Lost(boot), _) => End::failed(
            Reason::Lost,
            match boot {
                haul_launcher::Boot::Same => {
                    "its supervisor was killed; how far it came is unknown".to_owned()
                }
                haul_launcher::Boot::Other => {
                    "the machine was started again; how far it came is unknown".to_owned()
                }
            },
        ),
    };
    if record.killed_leftovers > 0 {
        let many = record.killed_leftovers;
        let what = if many == 1 {
            "process it left behind was"
        } else {
            "processes it left behind were"
        };
        let _ = write!(end.detail, "{}{many} {what} ended", separator(&end.detail));
    }
    end
}

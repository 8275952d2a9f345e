//! What an attempt needs before it can start: its environment, and the order for the launcher.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use haul_environment::{EnvironmentError, Ready, SetupSink};
use haul_launcher::{AttemptOrder, Limits, MilliCpus};
use haul_types::{AttemptId, Cpus, EnvironmentSpec, JobSpec, Reason, Resources, TaskState};
use tokio_util::sync::CancellationToken;

use super::end::{End, words};
use super::say;
use crate::Agent;
use crate::held::Urgency;
use crate::job::Job;
use crate::workdirs::Workdir;
use crate::{sharing, shipper};

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

pub(super) async fn prepare_environment(
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
            Urgency::Soon,
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
        Err(EnvironmentError::Canceled) => Err(Withdrawn),
        Err(error) => {
            let words = words(&error);
            // What the tool said stands there already.
            let shown = match &error {
                EnvironmentError::BuildFailed { .. } => words.lines().next().unwrap_or_default(),
                _ => &words,
            };
            setup.write(format!("error: {shown}\n").as_bytes());
            Ok(Err(words))
        }
    }
}

/// What was asked for is what there is. A job that asks for no processors is counted as one, and not held to it: most
/// programs take what the machine has.
fn limits(spec: &JobSpec) -> Limits {
    let Resources { cpus, memory } = spec.scheduling.resources;
    Limits {
        cpus: (cpus != Cpus::ONE).then_some(MilliCpus(cpus.millis())),
        memory: (memory.0 > 0).then_some(memory.max(Limits::MEMORY_AT_LEAST)),
        pids: None,
    }
}

/// What is to be started.
pub(super) fn order(
    agent: &Agent,
    job: &Job,
    id: AttemptId,
    workdir: &Workdir,
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
        cwd: workdir.tree().join(working_dir),
        env: variables(agent, job, id, workdir, environment),
        stdout,
        stderr,
        timeout: *timeout,
        grace: *grace,
        limits: limits(&job.spec),
    })
}

/// The job's environment: the node's, the environment's, Haul's own, and last what the user asked for.
fn variables(
    agent: &Agent,
    job: &Job,
    id: AttemptId,
    workdir: &Workdir,
    environment: &Ready,
) -> Vec<(OsString, OsString)> {
    let outputs = workdir.tree().join("outputs").into_os_string();
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
    if agent.config.launcher.is_some() {
        variables.retain(|name, _| sharing::is_passed_on(name));
        variables.extend(sharing::variables(workdir.dir()));
    }
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

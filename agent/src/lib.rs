//! The agent: runs jobs on one machine, for a controller that it dials.
//!
//! ```text
//!   session ──assignments──► attempt (one task each) ──► workdirs, environments, launcher
//!      ▲                         │            └──────► shipper ──ShipLogs──► controller
//!      └────updates──── held ◄───┘
//! ```
//!
//! - [`session`]: the one stream to the controller, for ever reconnecting.
//! - [`inventory`]: what the node has, and who the agent is.
//! - [`held`]: the attempts that this agent answers for, until the controller has stored their ends.
//! - [`attempt`]: the life of one attempt, from assignment to end.
//! - [`job`]: what the attempts at one job share.
//! - [`places`]: how many may run at a time.
//! - [`sharing`]: what changes when jobs run as users of their own.
//! - [`workdirs`]: the directories jobs run in, kept and made clean again between jobs.
//! - [`mod@check`]: whether all that it needs is there.
//! - [`mod@join`]: becoming a node of a controller elsewhere; [`renewal`]: staying one.
//! - [`shipper`]: what attempts write, on its way to the controller.
//!
//! Invariant: an agent's death harms no job. Processes belong to supervisors, which outlive it; logs are files; the next
//! agent finds both and goes on.

mod adoption;
mod attempt;
mod check;
mod environments;
mod file;
mod held;
mod inventory;
mod job;
mod join;
mod outputs;
mod places;
mod renewal;
mod session;
mod sharing;
mod shipper;
mod workdirs;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use haul_client::{Client, Endpoint};
use haul_environment::{Environments, EnvironmentsConfig};
use haul_launcher::{
    AttemptHandle, Found, Launcher, LauncherConfig, LauncherHandle, Remote, SupervisorProgram,
};
use haul_types::{ByteSize, Labels, NodeName, Resources};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::check::{Check, check};
pub use crate::file::{AgentFile, CONFIG_FILE};
pub use crate::join::{JoinError, JoinOrder, identity_dir, join};
pub use crate::renewal::{NodeIdentity, RenewError};

use crate::held::Held;
use crate::inventory::Identity;
use crate::job::Jobs;
use crate::places::Places;
use crate::shipper::Shipper;
use crate::workdirs::Workdirs;

/// What an agent needs to know.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Where it keeps jobs in progress; one agent at a time.
    pub state_dir: PathBuf,
    /// Where it keeps environments.
    pub cache_dir: PathBuf,
    /// Where its controller is.
    pub controller: Endpoint,
    /// The node's name.
    pub node: NodeName,
    /// Processors that tasks may take together, one for each task that asks for nothing else.
    pub slots: u32,
    /// Memory that tasks may take together; the machine's when absent.
    pub memory: Option<ByteSize>,
    /// Words for choosing this node.
    pub labels: Labels,
    /// Whether it serves a user's private controller: it then leaves when that has gone and nothing is left to do.
    pub private: bool,
    /// Starts the private controller again, if jobs are left when it is gone.
    pub restart_controller: Option<Vec<OsString>>,
    /// The most that environments may take.
    pub environment_budget: Option<ByteSize>,
    /// The uv to use.
    pub uv: Option<PathBuf>,
    /// The program to run as supervisor; this program itself when absent.
    pub supervisor: Option<PathBuf>,
    /// The socket of a launcher of its own, which starts jobs as users that have no rights; without one, jobs run as the
    /// agent's own user.
    pub launcher: Option<PathBuf>,
    /// The variables that jobs and builders get: usually this process's own.
    pub node_env: Vec<(OsString, OsString)>,
}

impl AgentConfig {
    /// Its processors in thousandths.
    const fn millis(&self) -> u32 {
        haul_types::Cpus::whole(self.slots).millis()
    }

    /// The thousandths of processors that a task takes here: never more than there are, or it would never run.
    pub(crate) fn share_of(&self, request: Resources) -> u32 {
        request.cpus.millis().min(self.millis())
    }
}

/// Why an agent could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another agent has this state directory.
    #[error("another agent uses {}: stop it first, or give this one a directory of its own", .0.display())]
    AlreadyRunning(PathBuf),
    /// The state directory cannot be used.
    #[error("cannot use the agent's directory {}", path.display())]
    StateDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Supervisors cannot be found or started.
    #[error("cannot take up the jobs that were running")]
    Launcher(#[source] haul_launcher::OpenError),
    /// There is no launcher to talk to.
    #[error("cannot take up the jobs that were running")]
    Connect(#[source] haul_launcher::ConnectError),
    /// Environments cannot be kept.
    #[error("cannot open the environments")]
    Environments(#[source] haul_environment::OpenError),
    /// Logs cannot be followed.
    #[error("cannot follow log files")]
    Follow(#[source] haul_spool::WatchError),
}

impl RunError {
    /// The exit code of a daemon that ends so. 75 tells a private controller that the agent of an earlier one is there.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        if let Self::AlreadyRunning(_) = self { 75 } else { 1 }
    }
}

/// Everything that the parts of an agent share.
struct Agent {
    config: AgentConfig,
    client: Client,
    launcher: LauncherHandle,
    environments: Environments,
    workdirs: Workdirs,
    jobs: Jobs,
    held: Arc<Held>,
    shipper: Shipper,
    identity: Identity,
    places: Places,
    tasks: TaskTracker,
}

/// How long attempts that are being prepared may take to notice that the agent goes.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs an agent until `shutdown`, or until a private one is of no more use. Jobs go on without it. `node` is who it is to
/// a controller that it joined; its certificate is kept renewed.
pub async fn run(
    config: AgentConfig,
    node: Option<NodeIdentity>,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let state_error = |path: PathBuf| move |source| RunError::StateDir { path, source };
    std::fs::create_dir_all(&config.state_dir).map_err(state_error(config.state_dir.clone()))?;
    let lock = std::fs::File::create(config.state_dir.join("agent.lock"))
        .map_err(state_error(config.state_dir.join("agent.lock")))?;
    if lock.try_lock().is_err() {
        return Err(RunError::AlreadyRunning(config.state_dir));
    }
    let identity = Identity::of(&config.state_dir).map_err(state_error(config.state_dir.join("instance")))?;
    let (launcher, found) = open_launcher(&config).await?;
    let sharing = config.launcher.is_some();
    if sharing {
        sharing::open_up(&config).map_err(state_error(config.state_dir.clone()))?;
    }
    let mut environments = EnvironmentsConfig::new(config.cache_dir.clone(), config.node_env.clone());
    environments.disk_budget = config.environment_budget;
    environments.uv.clone_from(&config.uv);
    let environments = Environments::open(environments).map_err(RunError::Environments)?;
    let workdirs = Workdirs::open(config.state_dir.join("work"), sharing)
        .map_err(state_error(config.state_dir.join("work")))?;
    let jobs =
        Jobs::open(config.state_dir.join("jobs")).map_err(state_error(config.state_dir.join("jobs")))?;
    let (shipper, shipping) = Shipper::new().map_err(RunError::Follow)?;
    let client = Client::lazy(config.controller.dial());
    let tasks = TaskTracker::new();
    tasks.spawn(shipping);
    if let Some(node) = node {
        tasks.spawn(node.keep_renewed(client.clone(), shutdown.clone()));
    }
    let agent = Arc::new(Agent {
        places: Places::new(config.millis(), launcher.slots()),
        config,
        client,
        launcher,
        environments,
        workdirs,
        jobs,
        held: Arc::default(),
        shipper,
        identity,
        tasks: tasks.clone(),
    });
    agent.adopt(found).await;
    session::run(&agent, &shutdown).await;
    drop(agent);
    tasks.close();
    let _ = tokio::time::timeout(DRAIN, tasks.wait()).await;
    drop(lock);
    Ok(())
}

/// The launcher in this process, or the one of its own.
async fn open_launcher(
    config: &AgentConfig,
) -> Result<(LauncherHandle, Vec<Found<AttemptHandle>>), RunError> {
    let opened = if let Some(socket) = &config.launcher {
        LauncherHandle::there(Remote::connect(socket).await.map_err(RunError::Connect)?)
    } else {
        let program = config
            .supervisor
            .as_ref()
            .map_or_else(SupervisorProgram::this_one, SupervisorProgram::at);
        let launcher_config = LauncherConfig {
            spare: config.slots.min(2) as usize,
            ..LauncherConfig::new(program)
        };
        let opened = Launcher::open(&config.state_dir.join("launcher"), launcher_config);
        LauncherHandle::here(opened.map_err(RunError::Launcher)?)
    };
    if let Some(slots) = opened.0.slots()
        && slots < config.slots
    {
        tracing::warn!(
            users = slots,
            processors = config.slots,
            "the launcher has fewer users for jobs than there are processors: start it with more --job-uids"
        );
    }
    tracing::info!(limits = %opened.0.enforced(), "the launcher is there");
    Ok(opened)
}

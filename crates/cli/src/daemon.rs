//! Being the private controller, or its agent: `haul __daemon controller`, `haul __daemon agent`.
//!
//! Both leave the session they were started in. What they say goes to their standard error, which is the log in the
//! state directory; `HAUL_LOG` sets how much (`info` unless set). The controller tells whoever started it by one line
//! on standard output that it serves, or else why not.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::num::NonZero;
use std::process::ExitCode;
use std::time::Duration;

use haul_agent::AgentConfig;
use haul_client::Endpoint;
use haul_controller::{ControllerConfig, PrivateConfig};
use haul_types::{Labels, NodeName, parse_duration};

use crate::local::Local;

/// The first argument of a daemon.
pub const DAEMON: &str = "__daemon";
/// The second: which one.
pub const CONTROLLER: &str = "controller";
/// The other.
pub const AGENT: &str = "agent";
/// The controller's word that it serves.
pub const READY: &str = "ready";

/// How long a private controller stays when nothing needs it.
const IDLE: Duration = Duration::from_secs(600);
/// Threads of the controller: one serves while the other stores.
const CONTROLLER_THREADS: usize = 2;

/// Why a daemon could not run.
#[derive(Debug, thiserror::Error)]
enum DaemonError {
    #[error("unknown daemon {0:?}")]
    Unknown(Option<OsString>),
    #[error("{name} is {value:?}: {problem}")]
    Setting {
        name: &'static str,
        value: OsString,
        problem: String,
    },
    #[error(transparent)]
    Local(#[from] crate::local::LocalError),
    #[error("another controller of yours has {}", .0.display())]
    Locked(std::path::PathBuf, #[source] io::Error),
    #[error("cannot set up the process")]
    Process(#[source] io::Error),
    #[error(transparent)]
    Controller(#[from] haul_controller::RunError),
    #[error(transparent)]
    Agent(#[from] haul_agent::RunError),
}

impl DaemonError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Agent(error) => error.exit_code(),
            _ => 1,
        }
    }
}

/// Turns this process into a daemon if it was started as one. `None`: it was not, go on.
#[must_use]
pub fn main_if_asked() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != DAEMON {
        return None;
    }
    let which = words.next();
    Some(match run(which) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = haul_daemon::with_causes(&error);
            tracing::error!("{text}");
            // Whoever started it reads this; if that is over, the log has it.
            let _ = writeln!(io::stdout(), "{text}");
            ExitCode::from(error.exit_code())
        }
    })
}

fn run(which: Option<OsString>) -> Result<(), DaemonError> {
    // Already the leader of a session, when started by hand from one: as good.
    let _ = rustix::process::setsid();
    std::env::set_current_dir("/").map_err(DaemonError::Process)?;
    haul_daemon::log_to_stderr();
    match which.as_deref().and_then(|which| which.to_str()) {
        Some(CONTROLLER) => run_controller(),
        Some(AGENT) => run_agent(),
        _ => Err(DaemonError::Unknown(which)),
    }
}

fn run_controller() -> Result<(), DaemonError> {
    let local = Local::from_environment()?;
    local.make_directories()?;
    let state_dir = local.controller_state();
    let lock = local
        .lock_controller()
        .map_err(|error| DaemonError::Locked(state_dir.clone(), error))?;
    let idle_timeout = match std::env::var_os("HAUL_IDLE_TIMEOUT") {
        None => IDLE,
        Some(value) => setting("HAUL_IDLE_TIMEOUT", value, parse_duration)?,
    };
    let config = ControllerConfig {
        state_dir,
        socket: local.socket().to_owned(),
        shared: None,
        private: Some(PrivateConfig {
            idle_timeout,
            agent_command: command(AGENT)?,
        }),
        keep_jobs_for: None,
        build: crate::checks::version::BUILD.to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROLLER_THREADS)
        .enable_all()
        .build()
        .map_err(DaemonError::Process)?;
    runtime.block_on(async {
        let shutdown = haul_daemon::shutdown_on_signals().map_err(DaemonError::Process)?;
        haul_controller::run(config, Box::new(say_ready), shutdown).await?;
        Ok::<_, DaemonError>(())
    })?;
    drop(lock);
    Ok(())
}

fn run_agent() -> Result<(), DaemonError> {
    let local = Local::from_environment()?;
    local.make_directories()?;
    let slots = match std::env::var_os("HAUL_SLOTS") {
        None => u32::try_from(std::thread::available_parallelism().map_or(1, NonZero::get)).unwrap_or(1),
        Some(value) => setting("HAUL_SLOTS", value, str::parse::<NonZero<u32>>)?.get(),
    };
    let config = AgentConfig {
        state_dir: local.agent_state(),
        cache_dir: local.cache().to_owned(),
        controller: Endpoint::Unix(local.socket().to_owned()),
        node: node_name(),
        slots,
        memory: None,
        labels: Labels::new(),
        private: true,
        restart_controller: Some(command(CONTROLLER)?),
        environment_budget: match std::env::var_os("HAUL_ENV_BUDGET") {
            None => None,
            Some(value) => Some(setting("HAUL_ENV_BUDGET", value, str::parse)?),
        },
        uv: std::env::var_os("HAUL_UV").map(Into::into),
        supervisor: None,
        launcher: None,
        node_env: std::env::vars_os().collect(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DaemonError::Process)?;
    let outcome = runtime.block_on(async {
        let shutdown = haul_daemon::shutdown_on_signals().map_err(DaemonError::Process)?;
        haul_agent::run(config, None, shutdown).await?;
        Ok::<_, DaemonError>(())
    });
    runtime.shutdown_background();
    outcome
}

/// The command that makes a daemon of this very program.
fn command(which: &str) -> Result<Vec<OsString>, DaemonError> {
    let program = std::env::current_exe().map_err(DaemonError::Process)?;
    Ok(vec![program.into(), DAEMON.into(), which.into()])
}

/// A setting of the environment, read as its kind.
fn setting<T, E: std::fmt::Display>(
    name: &'static str,
    value: OsString,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, DaemonError> {
    let problem = match value.to_str() {
        None => "is not UTF-8".to_owned(),
        Some(text) => match read(text.trim()) {
            Ok(setting) => return Ok(setting),
            Err(error) => error.to_string(),
        },
    };
    Err(DaemonError::Setting { name, value, problem })
}

/// The machine's name, or `local` if it cannot name a node.
fn node_name() -> NodeName {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    NodeName::try_from(name)
        .or_else(|_| NodeName::try_from("local".to_owned()))
        .expect("`local` can name a node")
}

/// Tells whoever started us that we serve, and lets go of the pipe to them.
fn say_ready() {
    // They may be gone already; there is nobody else to tell.
    let _ = writeln!(io::stdout(), "{READY}");
    if let Err(error) = rustix::stdio::dup2_stdout(io::stderr()) {
        tracing::warn!(%error, "cannot let go of standard output");
    }
}

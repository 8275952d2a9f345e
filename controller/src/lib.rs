//! The controller: takes jobs, hands them to agents, keeps what they write.
//!
//! ```text
//!   client ──► service/jobs ──┐                    ┌──► store (metadata, chunks)
//!   client ──► service/snapshots ──► store         │
//!   agent  ──► service/agents ┴──► Engine ── step ─┤
//!                  ▲                  │            └──► followers are told
//!                  └── messages, once what they rest on is durable
//! ```
//!
//! - [`engine`]: the one place where an event meets [`haul_lifecycle::Dispatch`] and the store.
//! - [`logs`]: what jobs write.
//! - [`snapshots`]: chunks, and which snapshots are whole.
//! - [`service`]: the gRPC services, each a thin layer over those three.
//! - [`authorize`]: who may make which call; [`callers`]: who calls.
//! - [`identity`]: the authority, the tokens and the enrolled nodes; [`mod@file`]: the configuration file.
//! - [`private`]: what only a user's private controller does: it keeps an agent, and goes when idle.
//! - [`maintenance`]: what is thrown away, and when.

mod authorize;
mod callers;
mod engine;
mod file;
mod identity;
mod listen;
mod logs;
mod maintenance;
mod principal;
mod private;
mod revocable;
mod service;
mod snapshots;
mod status;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use haul_store::{Metadata, Packs};
use haul_transport::Limits;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::file::{CONFIG_FILE, ControllerFile, NowhereToListen};
pub use crate::identity::{IdentityConfig, InitError, init};

use crate::callers::Callers;
use crate::engine::Engine;
use crate::identity::Identity;
use crate::logs::Logs;
use crate::snapshots::Snapshots;

/// What a controller needs to know.
#[derive(Clone, Debug)]
pub struct ControllerConfig {
    /// Where it keeps everything; one controller at a time.
    pub state_dir: PathBuf,
    /// The Unix socket it listens on; only processes of its own user are served.
    pub socket: PathBuf,
    /// Set for a controller that others than its own user reach: its authority was made by [`init`].
    pub shared: Option<SharedConfig>,
    /// Set for a user's private controller.
    pub private: Option<PrivateConfig>,
    /// Jobs that ended longer ago are removed with all they left; `None` keeps them until somebody removes them.
    pub keep_jobs_for: Option<Duration>,
    /// What tells this build of the program from another.
    pub build: String,
}

/// What a controller of many machines needs to know besides.
#[derive(Clone, Debug)]
pub struct SharedConfig {
    /// Its authority, certificates and tokens.
    pub identity: IdentityConfig,
    /// Where it listens on the network: everything is on one port.
    pub listen: SocketAddr,
    /// How many may come.
    pub limits: Limits,
}

/// What a private controller needs to know besides.
#[derive(Clone, Debug)]
pub struct PrivateConfig {
    /// It ends when nothing has needed it for so long.
    pub idle_timeout: Duration,
    /// Starts its agent.
    pub agent_command: Vec<OsString>,
}

/// Why a controller could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The metadata cannot be used.
    #[error("cannot open the controller's metadata")]
    Metadata(#[source] haul_store::OpenError),
    /// The authority, the tokens or the nodes cannot be used.
    #[error("cannot take up the controller's identity")]
    Identity(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The chunks cannot be used.
    #[error("cannot open the controller's chunks")]
    Packs(#[source] haul_store::OpenError),
    /// What is stored cannot be read.
    #[error("cannot read the jobs that were in progress")]
    Restore(#[source] haul_store::ReadError),
    /// The socket cannot be listened on.
    #[error("cannot listen on {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {}",
        if source.kind() == std::io::ErrorKind::AddrInUse {
            "another program has the port; stop it, or choose another one"
        } else {
            "is it an address of this machine, and may this user take the port?"
        }
    )]
    ListenRemote {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The server failed.
    #[error("the gRPC server failed")]
    Serve(#[source] tonic::transport::Error),
}

/// How long open calls may take to end once the controller is told to go.
const DRAIN: Duration = Duration::from_secs(3);

/// Runs a controller until `shutdown`, or until a private one is idle. `ready` is called once it serves.
pub async fn run(
    config: ControllerConfig,
    ready: Box<dyn FnOnce() + Send>,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let metadata = Metadata::open(&config.state_dir.join("metadata")).map_err(RunError::Metadata)?;
    let packs = Packs::open(&config.state_dir.join("chunks")).map_err(RunError::Packs)?;
    let callers = Arc::new(Callers::new(metadata.clone()));
    let identity = config
        .shared
        .as_ref()
        .map(|shared| Identity::open(shared.identity.clone(), metadata.clone(), Arc::clone(&callers)))
        .transpose()
        .map_err(|error| RunError::Identity(error.into()))?;
    let logs = Arc::new(Logs::new(config.state_dir.join("logs")));
    let snapshots = Arc::new(Snapshots::new(packs, metadata.clone()));
    let tasks = TaskTracker::new();
    let engine = Engine::restore(metadata, Arc::clone(&logs), tasks.clone()).map_err(RunError::Restore)?;
    let incoming = listen::unix(&config.socket).map_err(|source| RunError::Listen {
        path: config.socket.clone(),
        source,
    })?;

    let remote = match config.shared.as_ref().zip(identity.as_ref()) {
        Some((shared, identity)) => {
            Some(
                listen::remote(shared, identity, &tasks).map_err(|source| RunError::ListenRemote {
                    address: shared.listen,
                    source,
                })?,
            )
        }
        None => None,
    };
    let incoming = listen::both(incoming, remote);

    if config.shared.is_none() && config.private.is_none() {
        tracing::warn!(
            state_dir = %config.state_dir.display(),
            "no authority was made there: only this user is served, on the socket; `haul-controller init` makes one for \
             many machines"
        );
    }
    if let Some(private) = &config.private {
        private::keep_agent(
            &tasks,
            Arc::clone(&engine),
            private.agent_command.clone(),
            shutdown.clone(),
        );
        private::leave_when_idle(
            &tasks,
            Arc::clone(&engine),
            private.idle_timeout,
            shutdown.clone(),
        );
    }
    tasks.spawn(Arc::clone(&engine).keep_time(shutdown.clone()));
    maintenance::start(&tasks, &engine, &snapshots, config.keep_jobs_for, &shutdown);
    if let Some(identity) = &identity {
        identity.keep_fresh(&tasks, shutdown.clone());
    }
    let server = service::router(&config, &engine, &snapshots, identity, callers, &shutdown);
    tracing::info!(
        socket = %config.socket.display(),
        address = ?config.shared.as_ref().map(|shared| shared.listen),
        "serving"
    );
    ready();

    let drained = tokio::time::sleep(Duration::MAX);
    tokio::pin!(drained);
    let serve = server.serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
    tokio::pin!(serve);
    let outcome = loop {
        tokio::select! {
            outcome = &mut serve => break outcome.map_err(RunError::Serve),
            () = shutdown.cancelled(), if !engine.is_leaving() => {
                engine.leave();
                drained.as_mut().reset(tokio::time::Instant::now() + DRAIN);
            }
            () = &mut drained => break Ok(()),
        }
    };
    tasks.close();
    let _ = tokio::time::timeout(DRAIN, tasks.wait()).await;
    outcome
}

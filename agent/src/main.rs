//! `haul-agent`: runs jobs on this machine, for a controller.
//!
//! Exit codes: 0 after SIGINT or SIGTERM (jobs go on), 1 when it cannot run, 2 for arguments that make no sense, 75
//! when another agent uses the state directory.

use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use haul_agent::{AgentConfig, RunError};
use haul_client::Endpoint;
use haul_types::{ByteSize, NodeName};

/// Runs jobs on this machine, for a controller.
#[derive(Debug, Parser)]
#[command(
    name = "haul-agent",
    version,
    after_help = "Example:\n  haul-agent --state-dir /var/lib/haul-agent --cache-dir /var/cache/haul \\\n      --socket /run/haul/controller.sock --node gpu-box"
)]
struct Arguments {
    /// Where it keeps jobs in progress; one agent at a time.
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// Where it keeps environments.
    #[arg(long, value_name = "DIR")]
    cache_dir: PathBuf,
    /// The controller's Unix socket.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// This node's name.
    #[arg(long, value_name = "NAME", value_parser = |name: &str| NodeName::try_from(name.to_owned()))]
    node: NodeName,
    /// Processors that tasks may take together [default: all there are].
    #[arg(long)]
    slots: Option<NonZero<u32>>,
    /// Memory that tasks may take together, as in 64GB [default: the machine's].
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// A word for choosing this node; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = haul_types::node::parse_label)]
    labels: Vec<(String, String)>,
    /// The most that environments may take, as in 20GB.
    #[arg(long, value_name = "SIZE")]
    environment_budget: Option<ByteSize>,
    /// The uv to build environments with [default: the one found, or fetched].
    #[arg(long, value_name = "PATH")]
    uv: Option<PathBuf>,
    /// The socket of haul-launcher, which runs jobs as users that have no rights [default: jobs run as this user].
    #[arg(long, value_name = "PATH")]
    launcher: Option<PathBuf>,
}

fn main() -> ExitCode {
    // Supervisors are this program too, and must not have a thread or a runtime: they come first.
    if let Some(code) = haul_launcher::supervisor::main_if_asked() {
        return code;
    }
    let arguments = Arguments::parse();
    haul_daemon::log_to_stderr();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", haul_daemon::with_causes(&*error));
            let code = error.downcast_ref::<RunError>().map_or(1, RunError::exit_code);
            ExitCode::from(code)
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let config = AgentConfig {
        state_dir: arguments.state_dir,
        cache_dir: arguments.cache_dir,
        controller: Endpoint::Unix(arguments.socket),
        node: arguments.node,
        slots: arguments
            .slots
            .map_or_else(|| u32::try_from(processors).unwrap_or(1), NonZero::get),
        memory: arguments.memory,
        labels: arguments.labels.into_iter().collect(),
        private: false,
        restart_controller: None,
        environment_budget: arguments.environment_budget,
        uv: arguments.uv,
        supervisor: None,
        launcher: arguments.launcher,
        node_env: std::env::vars_os().collect(),
    };
    let shutdown = haul_daemon::shutdown_on_signals()?;
    haul_agent::run(config, shutdown).await?;
    Ok(())
}

//! `haul-controller`: takes jobs and hands them to agents.
//!
//! Exit codes: 0 after SIGINT or SIGTERM, 1 when it cannot run, 2 for arguments that make no sense.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use haul_controller::{ControllerConfig, RunError};

/// Takes jobs, hands them to agents, keeps what they write.
#[derive(Debug, Parser)]
#[command(
    name = "haul-controller",
    version,
    after_help = "Example:\n  haul-controller --state-dir /var/lib/haul --socket /run/haul/controller.sock"
)]
struct Arguments {
    /// Where it keeps everything; one controller at a time.
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// The Unix socket to listen on; only processes of this user are served.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Remove jobs that ended longer ago, with all they left (as in 30d); without it they stay until removed.
    #[arg(long, value_name = "DURATION", value_parser = haul_types::parse_duration)]
    keep_jobs_for: Option<Duration>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    haul_daemon::log_to_stderr();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", haul_daemon::with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let config = ControllerConfig {
        state_dir: arguments.state_dir,
        socket: arguments.socket,
        private: None,
        keep_jobs_for: arguments.keep_jobs_for,
        build: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let shutdown = haul_daemon::shutdown_on_signals()?;
    haul_controller::run(config, Box::new(|| ()), shutdown)
        .await
        .map_err(|error: RunError| error.into())
}

//! `haul-controller`: takes jobs and hands them to agents.
//!
//! Exit codes: 0 after SIGINT or SIGTERM, 1 when it cannot run, 2 for arguments that make no sense.

use std::error::Error;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand};
use haul_controller::{CONFIG_FILE, ControllerConfig, ControllerFile};
use haul_daemon::Acting;
use haul_identity::Address;

/// Takes jobs, hands them to agents, keeps what they write.
#[derive(Debug, Parser)]
#[command(
    name = "haul-controller",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  haul-controller init --state-dir /var/lib/haul --address haul.example.org:7070\n  \
                  haul-controller --state-dir /var/lib/haul"
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a controller for many machines: its authority, its configuration, and the first admin's token, which is
    /// printed once.
    Init(Init),
}

#[derive(Debug, Args)]
struct Init {
    /// Where it will keep everything.
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// Where agents and users will reach it; several times for several ways, the best first.
    #[arg(long = "address", value_name = "HOST:PORT", required = true)]
    addresses: Vec<Address>,
}

#[derive(Debug, Args)]
struct Serve {
    /// The configuration file; flags go over what it says [default: controller.toml in the state directory].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where it keeps everything; one controller at a time.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The Unix socket to listen on; only processes of this user are served [default: controller.sock in the state
    /// directory].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Listen there for agents and users on the network [default: every address, at the port of the first of `addresses`].
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Remove jobs that ended longer ago, with all they left (as in 30d); without it they stay until removed.
    #[arg(long, value_name = "DURATION", value_parser = haul_types::parse_duration)]
    keep_jobs_for: Option<Duration>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    haul_daemon::log_to_stderr();
    let outcome = match arguments.command {
        Some(Command::Init(init)) => make(&init),
        None => match settings(arguments.serve) {
            Ok(config) => run(config),
            Err(error) => {
                tracing::error!("{}", haul_daemon::with_causes(&*error));
                return ExitCode::from(2);
            }
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", haul_daemon::with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Root makes it as whoever the state directory belongs to: the controller's own user. The token alone goes to standard
/// output.
fn make(init: &Init) -> Result<(), Box<dyn Error>> {
    let acting = haul_daemon::become_owner(&init.state_dir)
        .map_err(|error| format!("cannot become the owner of {}: {error}", init.state_dir.display()))?;
    let token = haul_controller::init(&init.state_dir, &init.addresses, SystemTime::now())?;
    let mut stderr = std::io::stderr();
    let place = init.state_dir.display();
    writeln!(
        stderr,
        "The controller in {place} is made. Start it with\n  haul-controller --state-dir {place}\nor, if that is the \
         service's directory, with\n  systemctl enable --now haul-controller"
    )?;
    if acting == Acting::AsRoot {
        writeln!(
            stderr,
            "{place} belongs to root. systemd gives it to the service's user when it starts the service; to run the \
             controller as a user without it, first\n  chown -R USER {place}"
        )?;
    }
    writeln!(stderr, "The first admin's token, which is shown this once:")?;
    writeln!(std::io::stdout(), "{}", token.reveal())?;
    Ok(())
}

/// What the flags and the file say together.
fn settings(flags: Serve) -> Result<ControllerConfig, Box<dyn Error>> {
    if let Some(state_dir) = &flags.state_dir {
        haul_daemon::ensure_own(state_dir)?;
    }
    let file: ControllerFile = match (&flags.config, &flags.state_dir) {
        (Some(file), _) => haul_daemon::read_config(file)?,
        (None, Some(state_dir)) => haul_daemon::read_config_if_there(&state_dir.join(CONFIG_FILE))?,
        (None, None) => ControllerFile::default(),
    };
    let state_dir = flags
        .state_dir
        .or_else(|| file.state_dir.clone())
        .ok_or("no state directory: give --state-dir, or a --config that says state_dir")?;
    haul_daemon::ensure_own(&state_dir)?;
    let socket = flags
        .socket
        .or_else(|| file.socket.clone())
        .unwrap_or_else(|| state_dir.join("controller.sock"));
    Ok(ControllerConfig {
        shared: file.shared(&state_dir, flags.listen)?,
        socket,
        private: None,
        keep_jobs_for: flags.keep_jobs_for.or(file.keep_jobs_for),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        state_dir,
    })
}

#[tokio::main(worker_threads = 2)]
async fn run(config: ControllerConfig) -> Result<(), Box<dyn Error>> {
    let files = haul_daemon::raise_open_files();
    tracing::info!(?files, "may open files");
    let shutdown = haul_daemon::shutdown_on_signals()?;
    Ok(haul_controller::run(config, Box::new(|| ()), shutdown).await?)
}

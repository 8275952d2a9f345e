//! `haul-launcher`: starts jobs as users that have no rights, for an agent that has none either.
//!
//! It runs as root and listens on one Unix socket; it knows nothing of the network. What it does and refuses is
//! `haul_launcher::privileged`; here is its command line alone.
//!
//! Exit codes: 0 after SIGINT or SIGTERM (jobs go on), 1 when it cannot run, 2 for arguments that make no sense.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use haul_launcher::privileged::{Account, JobUsers, PrivilegedConfig, Service, group_named};
use haul_launcher::{LauncherConfig, Placement, Scope, SupervisorProgram};

/// Starts jobs as users that have no rights, for an agent that has none either.
#[derive(Debug, Parser)]
#[command(
    name = "haul-launcher",
    version,
    after_help = "Example:\n  haul-launcher --state-dir /var/lib/haul-launcher --socket /run/haul-launcher/launcher.sock \\\n      --agent-user haul-agent --agent-dir /var/lib/haul-agent --job-uids 60800-60863 --job-group haul-jobs"
)]
struct Arguments {
    /// Where it keeps what it knows of attempts in progress; one launcher at a time.
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// The Unix socket to listen on.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The user that the agent runs as; nobody else is served.
    #[arg(long, value_name = "NAME")]
    agent_user: String,
    /// The agent's state directory: jobs run and write in there, and nowhere else.
    #[arg(long, value_name = "DIR")]
    agent_dir: PathBuf,
    /// The users that jobs run as, one for each attempt at a time.
    #[arg(long, value_name = "FIRST-LAST", value_parser = parse_uids)]
    job_uids: RangeInclusive<u32>,
    /// The group that jobs run with.
    #[arg(long, value_name = "NAME")]
    job_group: String,
    /// Processes and threads that an attempt may have.
    #[arg(long, value_name = "NUMBER", default_value_t = 4096)]
    pids_limit: u32,
    /// The slice of systemd that jobs are put into, where systemd runs the machine.
    #[arg(long, value_name = "NAME", default_value = "haul-jobs.slice")]
    slice: String,
    /// Where to make control groups, in a hierarchy of version 2, where systemd does not run the machine.
    #[arg(long, value_name = "DIR")]
    cgroup_dir: Option<PathBuf>,
}

/// `60800-60863`, or one number.
fn parse_uids(text: &str) -> Result<RangeInclusive<u32>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u32>().map_err(|error| error.to_string());
    Ok(number(first)?..=number(last)?)
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
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let agent = Account::named(&arguments.agent_user)?;
    let users = JobUsers::new(arguments.job_uids, group_named(&arguments.job_group)?, agent.uid)?;
    let placement = match (arguments.cgroup_dir, Scope::of_machine(&arguments.slice)) {
        (Some(directory), _) => Placement::At(directory),
        (None, Some(scope)) => Placement::Scope(scope),
        (None, None) => Placement::Own,
    };
    let config = PrivilegedConfig {
        state_dir: arguments.state_dir,
        socket: arguments.socket,
        agent_uid: agent.uid,
        agent_gid: agent.gid,
        agent_dir: arguments.agent_dir,
        users,
        pids_limit: arguments.pids_limit,
        launcher: LauncherConfig {
            placement,
            ..LauncherConfig::new(SupervisorProgram::this_one())
        },
    };
    let shutdown = haul_daemon::shutdown_on_signals()?;
    Service::open(config)?.serve(shutdown).await;
    Ok(())
}

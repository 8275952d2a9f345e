//! `haul-agent`: runs jobs on this machine, for a controller.
//!
//! Exit codes: 0 after SIGINT or SIGTERM (jobs go on), 1 when it cannot run or join, or `check` finds something, 2 for
//! arguments that make no sense or a machine that has not joined, 75 when another agent uses the state directory.

mod arguments;

use std::error::Error;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use haul_agent::{AgentConfig, AgentFile, CONFIG_FILE, Check, JoinOrder, NodeIdentity, RunError};
use haul_client::{Client, Endpoint};
use haul_daemon::Acting;
use haul_identity::{NodeCertificate, Token, Trust, agent_config, client_config, controller_name};
use haul_transport::{Dialer, Proxy};
use haul_types::NodeName;

use crate::arguments::{Arguments, Command, Join, Serve};

fn main() -> ExitCode {
    // Supervisors are this program too, and must not have a thread or a runtime: they come first.
    if let Some(code) = haul_launcher::supervisor::main_if_asked() {
        return code;
    }
    let arguments = Arguments::parse();
    haul_daemon::log_to_stderr();
    let outcome = match arguments.command {
        Some(Command::Join(join)) => join_controller(join),
        Some(Command::Check(serve)) => match check(serve) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        None => match settings(arguments.serve) {
            Ok((config, node)) => run(config, node),
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
            let code = error.downcast_ref::<RunError>().map_or(1, RunError::exit_code);
            ExitCode::from(code)
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(config: AgentConfig, node: Option<NodeIdentity>) -> Result<(), Box<dyn Error>> {
    let shutdown = haul_daemon::shutdown_on_signals()?;
    haul_agent::run(config, node, shutdown).await?;
    Ok(())
}

/// Prints what was looked at, and whether all is well. Root looks as the agent's own user, whom alone the launcher serves.
fn check(flags: Serve) -> Result<bool, Box<dyn Error>> {
    let state_dir = flags.state_dir.clone().map_or_else(usual_state_dir, Ok)?;
    haul_daemon::become_owner(&state_dir)
        .map_err(|error| format!("cannot become the owner of {}: {error}", state_dir.display()))?;
    // Who root was still decides where that is.
    let flags = Serve {
        state_dir: Some(state_dir),
        ..flags
    };
    let (config, node) = settings(flags)?;
    let checks = look(&config, node.as_ref());
    for check in &checks {
        let (word, found) = match &check.found {
            Ok(found) => ("ok", found),
            Err(found) => ("bad", found),
        };
        println!("{word:<3} {:<12} {found}", check.name);
        if let Some(help) = &check.help {
            println!("{:17}help: {help}", "");
        }
    }
    Ok(checks.iter().all(|check| check.found.is_ok()))
}

#[tokio::main(flavor = "current_thread")]
async fn look(config: &AgentConfig, node: Option<&NodeIdentity>) -> Vec<Check> {
    haul_agent::check(config, node).await
}

/// Root joins as whoever the state directory belongs to: the agent's own user, who reads what is kept.
fn join_controller(join: Join) -> Result<(), Box<dyn Error>> {
    let state_dir = join.state_dir.clone().map_or_else(usual_state_dir, Ok)?;
    let acting = haul_daemon::become_owner(&state_dir)
        .map_err(|error| format!("cannot become the owner of {}: {error}", state_dir.display()))?;
    let certificate = join_as_owner(join, &state_dir)?;
    let place = state_dir.display();
    println!(
        "This machine is node {} now. Start its agent with\n  haul-agent --state-dir {place}\nor, under systemd, with\n  \
         systemctl enable --now haul-agent",
        certificate.name,
    );
    if acting == Acting::AsRoot {
        println!(
            "{place} belongs to root. systemd gives it to the service's user when it starts the service; to run the \
             agent as a user without it, first\n  chown -R USER {place}"
        );
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn join_as_owner(join: Join, state_dir: &Path) -> Result<NodeCertificate, Box<dyn Error>> {
    let token: Token = if join.token == "-" {
        std::io::read_to_string(std::io::stdin())?.parse()?
    } else {
        join.token.parse()?
    };
    let order = JoinOrder {
        node: join.node.map_or_else(this_host, Ok)?,
        labels: join.labels.into_iter().collect(),
        state_dir: state_dir.to_owned(),
        token,
    };
    let tls = Arc::new(client_config(Trust::Pin(order.token.pin()))?);
    let dialer = dialer(order.token.addresses(), tls)?;
    let client = Client::connect(Arc::new(dialer)).await?;
    Ok(haul_agent::join(order, &client).await?)
}

fn dialer(
    addresses: &[haul_identity::Address],
    tls: impl Into<haul_transport::ClientTlsSource>,
) -> Result<Dialer, Box<dyn Error>> {
    let addresses = addresses
        .iter()
        .map(|address| address.to_string().parse())
        .collect::<Result<Vec<haul_transport::Address>, _>>()?;
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(Dialer::new(
        addresses,
        tls,
        controller_name(),
        Proxy::from_variables(variables)?,
    ))
}

/// What the flags and the file say together, and who this node is if it has joined a controller.
fn settings(flags: Serve) -> Result<(AgentConfig, Option<NodeIdentity>), Box<dyn Error>> {
    let file: AgentFile = match &flags.config {
        Some(file) => haul_daemon::read_config(file)?,
        None => {
            let state_dir = flags.state_dir.clone().map_or_else(usual_state_dir, Ok)?;
            haul_daemon::ensure_own(&state_dir)?;
            haul_daemon::read_config_if_there(&state_dir.join(CONFIG_FILE))?
        }
    };
    let state_dir = match flags.state_dir.or_else(|| file.state_dir.clone()) {
        Some(named) => named,
        None => usual_state_dir()?,
    };
    haul_daemon::ensure_own(&state_dir)?;
    let cache_dir = flags
        .cache_dir
        .or(file.cache_dir)
        .unwrap_or_else(|| state_dir.join("cache"));
    let named = flags.node.or(file.node);
    let socket = flags.socket.or(file.socket);
    let (controller, node, identity) = if let Some(socket) = socket {
        (Endpoint::Unix(socket), named.map_or_else(this_host, Ok)?, None)
    } else {
        let identity = NodeIdentity::open(&state_dir)?;
        let dialer = dialer(identity.addresses(), Arc::new(agent_config(identity.current())))?;
        let name = identity.current().get().certificate().name.clone();
        if named.as_ref().is_some_and(|named| *named != name) {
            return Err(format!(
                "this machine joined as {name}: leave the other name out, or join again with it"
            )
            .into());
        }
        (Endpoint::Remote(dialer), name, Some(identity))
    };
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut labels = file.labels;
    labels.extend(flags.labels);
    let config = AgentConfig {
        state_dir,
        cache_dir,
        controller,
        node,
        slots: flags
            .slots
            .or(file.slots)
            .map_or_else(|| u32::try_from(processors).unwrap_or(1), NonZero::get),
        memory: flags.memory.or(file.memory),
        labels,
        private: false,
        restart_controller: None,
        environment_budget: flags.environment_budget.or(file.environment_budget),
        uv: flags.uv.or(file.uv),
        supervisor: None,
        launcher: flags.launcher.or(file.launcher),
        node_env: std::env::vars_os().collect(),
    };
    Ok((config, identity))
}

/// Where an agent keeps everything if nobody says where: the system's place for root, else the user's.
fn usual_state_dir() -> Result<PathBuf, Box<dyn Error>> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/haul-agent"));
    }
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|path| path.join("haul-agent"))
        .ok_or_else(|| "no state directory: give --state-dir, or set HOME".into())
}

/// A node is called after its host.
fn this_host() -> Result<NodeName, Box<dyn Error>> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().into_owned();
    NodeName::try_from(name).map_err(|error| format!("{error}; name the node yourself, by --name").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_did_not_join_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let arguments = Arguments::parse_from([
            "haul-agent",
            "--state-dir",
            &directory.path().display().to_string(),
        ]);
        let error = settings(arguments.serve).unwrap_err();
        assert!(error.to_string().contains("join"), "{error}");
    }

    #[test]
    fn flags_go_over_the_file_and_unknown_keys_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().display().to_string();
        let file = |text: &str| std::fs::write(Path::new(&state).join(CONFIG_FILE), text).unwrap();
        let read = |more: &[&str]| {
            let words = ["haul-agent", "--state-dir", &state, "--socket", "/s"];
            settings(Arguments::parse_from(words.iter().chain(more)).serve)
        };
        file("slots = 3\nmemory = \"2GB\"\nlabels = { gpu = \"a100\" }\n");
        let (config, _) = read(&["--slots", "5", "--label", "rack=7", "--node", "box"]).unwrap();
        assert_eq!((config.slots, config.labels.len()), (5, 2));
        assert_eq!(config.memory, Some(haul_types::ByteSize(2_000_000_000)));
        file("slotz = 3\n");
        assert!(read(&[]).unwrap_err().to_string().contains("slotz"));
    }
}

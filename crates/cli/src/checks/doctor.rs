//! `haul doctor`: whether everything that jobs need is there, here and at the controller that commands go to.

use haul_agent::Check;
use haul_types::NodeState;

use super::shared;
use super::version::BUILD;
use crate::context::Context;
use crate::contexts::Chosen;
use crate::exit::{self, Exit};
use crate::failure::Failure;
use crate::local::{Local, LocalError};
use crate::output::DoctorReport;
use crate::run::find_on_path;

const HELP_FOR_SPACE: &str = "free some space: `haul rm JOB`, `haul env prune`";

pub(crate) async fn doctor(context: &mut Context) -> Result<Exit, Failure> {
    let local = context.local()?;
    let chosen = context.chosen();
    let mut checks = vec![directories(&local)];
    let usable = checks.iter().all(|check| check.found.is_ok());
    if usable {
        checks.push(Check::space("state", local.state(), HELP_FOR_SPACE));
        checks.push(Check::space("cache", local.cache(), HELP_FOR_SPACE));
    }
    // Jobs run on this machine only if the controller is the private one.
    let is_local = matches!(chosen, Ok(Chosen::Local));
    match chosen {
        Ok(Chosen::Local) if usable => checks.extend(controller(&local).await),
        Ok(Chosen::Local) => {}
        Ok(Chosen::Shared {
            name,
            addresses,
            trust,
            secret,
            ..
        }) => {
            let named = format!("{name}, at {}", addresses.join(", "));
            checks.push(Check::good("context", named));
            checks.extend(shared::controller(&addresses, trust, &secret).await);
        }
        Err(failure) => checks.push(Check::bad(
            "context",
            failure.what(),
            failure.advice().map(str::to_owned),
        )),
    }
    checks.push(program(
        "python3",
        "install Python 3, or name one by --python",
        is_local,
    ));
    checks.push(program(
        "uv",
        "none is needed here: Haul fetches uv itself when an environment is built",
        false,
    ));
    checks.push(Check {
        name: "limits",
        found: Ok(haul_launcher::enforced_here().to_string()),
        help: None,
    });
    context.output.report(&DoctorReport(&checks));
    let good = checks.iter().all(|check| check.found.is_ok());
    Ok(if good {
        Exit::SUCCESS
    } else {
        Exit(exit::INFRASTRUCTURE)
    })
}

fn directories(local: &Local) -> Check {
    let made = local.make_directories();
    Check {
        name: "directories",
        help: made
            .as_ref()
            .err()
            .and_then(LocalError::advice)
            .map(str::to_owned),
        found: match made {
            Ok(()) => Ok(local.state().display().to_string()),
            Err(error) => Err(with_source(&error)),
        },
    }
}

async fn controller(local: &Local) -> Vec<Check> {
    let broken = |name, found: String| Check {
        name,
        found: Err(found),
        help: Some(format!("its log is {}", local.log().display())),
    };
    let client = match local.connect().await {
        Ok(client) => client,
        Err(error) => return vec![broken("controller", with_source(&error))],
    };
    let mut checks = Vec::new();
    checks.push(match client.controller().await {
        Ok(it) if it.build == BUILD => Check {
            name: "controller",
            found: Ok(format!("process {}, version {}", it.pid, it.version)),
            help: None,
        },
        Ok(it) => Check {
            name: "controller",
            found: Ok(format!(
                "process {}, version {}, of another build than this program",
                it.pid, it.version
            )),
            help: Some("`haul local stop`; the next command starts this one's".to_owned()),
        },
        Err(error) => broken("controller", with_source(&error)),
    });
    checks.push(match client.nodes().await {
        Ok(nodes) if nodes.iter().any(is_connected) => Check {
            name: "agent",
            found: Ok(nodes
                .iter()
                .filter(|node| is_connected(node))
                .map(|node| node.name.clone())
                .collect::<Vec<_>>()
                .join(", ")),
            help: None,
        },
        Ok(_) => broken(
            "agent",
            "none is connected; one that was just started may need a moment".to_owned(),
        ),
        Err(error) => broken("agent", with_source(&error)),
    });
    checks
}

pub(super) fn is_connected(node: &haul_client::Node) -> bool {
    node.state != NodeState::Unreachable
}

fn program(name: &'static str, help: &str, needed: bool) -> Check {
    match find_on_path(name) {
        Some(path) => Check {
            name,
            found: Ok(path.display().to_string()),
            help: None,
        },
        None => Check {
            name,
            found: if needed {
                Err("not on the PATH".to_owned())
            } else {
                Ok("not on the PATH".to_owned())
            },
            help: Some(help.to_owned()),
        },
    }
}

pub(super) fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

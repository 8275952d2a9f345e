//! `haul doctor`: whether everything that jobs need is there.

use std::path::Path;

use haul_types::{ByteSize, NodeState};

use super::version::BUILD;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::failure::Failure;
use crate::local::{Local, LocalError};
use crate::output::{Check, DoctorReport};
use crate::run::find_on_path;

/// Less free space than this, and something will fail soon.
const LITTLE: u64 = 1 << 30;

pub(crate) async fn doctor(context: &mut Context) -> Result<Exit, Failure> {
    let local = context.local()?;
    let mut checks = vec![directories(&local)];
    if checks.iter().all(|check| check.found.is_ok()) {
        checks.push(space("state", local.state()));
        checks.push(space("cache", local.cache()));
        checks.extend(controller(&local).await);
    }
    checks.push(program(
        "python3",
        "install Python 3, or name one by --python",
        true,
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

fn space(name: &'static str, path: &Path) -> Check {
    let found = match rustix::fs::statvfs(path) {
        Ok(system) => {
            let free = system.f_bavail.saturating_mul(system.f_frsize);
            let text = format!("{} free at {}", ByteSize(free), path.display());
            if free < LITTLE { Err(text) } else { Ok(text) }
        }
        Err(error) => Err(format!("{}: {error}", path.display())),
    };
    let help = found
        .is_err()
        .then(|| "free some space: `haul rm JOB`, `haul env prune`".to_owned());
    Check { name, found, help }
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

fn is_connected(node: &haul_client::Node) -> bool {
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

fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

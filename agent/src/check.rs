//! Whether all that an agent needs is there: who it is, its controller, its launcher, room on the disk.
//!
//! It looks, and changes nothing: an agent that runs goes on as before.

use std::path::Path;
use std::time::SystemTime;

use haul_client::{Client, Endpoint, UnixSocket};
use haul_identity::{TlsProblem, Validity, date};
use haul_types::{ByteSize, Role};

use crate::{AgentConfig, NodeIdentity};

/// Less free space than this, and something will fail soon.
const LITTLE: u64 = 1 << 30;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it is; an error when jobs would suffer.
    pub found: Result<String, String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Check {
    /// It is as it should be.
    #[must_use]
    pub fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            found: Ok(found.into()),
            help: None,
        }
    }

    /// Jobs would suffer.
    #[must_use]
    pub fn bad(name: &'static str, found: impl Into<String>, help: Option<String>) -> Self {
        Self {
            name,
            found: Err(found.into()),
            help,
        }
    }

    /// Whether there is room at `path`; `help` says how to make some.
    #[must_use]
    pub fn space(name: &'static str, path: &Path, help: &str) -> Self {
        let found = match rustix::fs::statvfs(path) {
            Ok(system) => {
                let free = system.f_bavail.saturating_mul(system.f_frsize);
                let text = format!("{} free at {}", ByteSize(free), path.display());
                if free < LITTLE { Err(text) } else { Ok(text) }
            }
            Err(error) => Err(format!("{}: {error}", path.display())),
        };
        let help = found.is_err().then(|| help.to_owned());
        Self { name, found, help }
    }
}

/// Looks at everything that the agent of this configuration needs.
pub async fn check(config: &AgentConfig, node: Option<&NodeIdentity>) -> Vec<Check> {
    let now = SystemTime::now();
    let validity = node.map(|node| node.current().get().certificate().validity);
    let mut checks = Vec::new();
    if let Some(validity) = validity {
        checks.push(certificate(config, validity, now));
    }
    checks.extend(controller(config, validity, now).await);
    checks.push(launcher(config).await);
    const HELP: &str = "free some space: `haul rm JOB`, `haul env prune`";
    checks.push(Check::space("state", &config.state_dir, HELP));
    // It is made by the first environment.
    if config.cache_dir.exists() {
        checks.push(Check::space("cache", &config.cache_dir, HELP));
    }
    checks
}

fn certificate(config: &AgentConfig, validity: Validity, now: SystemTime) -> Check {
    let found = format!("node {}, {validity}", config.node);
    if validity.has_expired(now) {
        let help = "the agent renews it, if the controller still lets it: start it. If it does not, have the node join again";
        let found = format!("{found}; the clock of this machine says {}", date(now));
        return Check::bad("certificate", found, Some(help.to_owned()));
    }
    Check::good(
        "certificate",
        format!("{found}, to be renewed from {} on", date(validity.half_life())),
    )
}

/// How the controller is reached, and whom it takes this node for.
async fn controller(config: &AgentConfig, own: Option<Validity>, now: SystemTime) -> Vec<Check> {
    let (reached, client) = match &config.controller {
        Endpoint::Unix(path) => match UnixSocket::open(path).await {
            Ok(stream) => {
                let client = Client::over(stream, config.controller.dial());
                (path.display().to_string(), client)
            }
            Err(error) => {
                let help = "start the controller, or name another socket".to_owned();
                return vec![Check::bad(
                    "controller",
                    haul_daemon::with_causes(&error),
                    Some(help),
                )];
            }
        },
        Endpoint::Remote(dialer) => match dialer.dial().await {
            Ok(dialed) => {
                let reached = format!("{}, {}", dialed.address, dialed.way);
                (reached, Client::over(dialed.stream, config.controller.dial()))
            }
            Err(error) => {
                let mut tried = error.tried.iter();
                let problem = tried.find_map(|tried| TlsProblem::of(&tried.failure, own, now));
                let (found, help) = match problem {
                    Some(problem) => (problem.to_string(), None),
                    None => (
                        error.to_string(),
                        Some(
                            "is the controller running, and its port open? HTTPS_PROXY names a proxy"
                                .to_owned(),
                        ),
                    ),
                };
                return vec![Check::bad("controller", found, help)];
            }
        },
    };
    let taken_for = match client.caller().await {
        Ok(caller) if own.is_some() && caller.role == Role::Agent => {
            Check::good("identity", format!("the controller knows node {}", caller.name))
        }
        Ok(_) if own.is_none() => Check::good("identity", "the controller's own user"),
        Ok(caller) => Check::bad(
            "identity",
            format!(
                "the controller takes this node for {}, a {}",
                caller.name, caller.role
            ),
            None,
        ),
        Err(error) => Check::bad("identity", haul_daemon::with_causes(&error), None),
    };
    vec![Check::good("controller", reached), taken_for]
}

/// What runs the jobs, and what it holds them to.
async fn launcher(config: &AgentConfig) -> Check {
    let Some(socket) = &config.launcher else {
        let limits = haul_launcher::enforced_here();
        return Check::good(
            "launcher",
            format!("jobs run as the agent's user; limits: {limits}"),
        );
    };
    match haul_launcher::look(socket).await {
        Ok(looked) => Check::good(
            "launcher",
            format!("jobs run as {} users; limits: {}", looked.users, looked.enforced),
        ),
        Err(error) => Check::bad(
            "launcher",
            haul_daemon::with_causes(&error),
            Some("systemctl status haul-launcher".to_owned()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_told_and_its_lack_says_what_to_do() {
        assert_eq!(
            Check::space("state", Path::new("/proc"), "sell").help.as_deref(),
            Some("sell")
        );
        let absent = Check::space("state", Path::new("/nowhere/at/all"), "make it");
        assert!(absent.found.unwrap_err().contains("/nowhere/at/all"));
    }
}

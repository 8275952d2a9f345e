//! Whether a shared controller can be reached and used: by which way, over which TLS, as whom, and with how many nodes.

use std::sync::Arc;
use std::time::SystemTime;

use haul_agent::Check;
use haul_client::Client;
use haul_identity::{Secret, TlsProblem, Trust};

use super::doctor::{is_connected, with_source};
use crate::contexts;

/// Looks at the controller at these addresses.
pub(super) async fn controller(addresses: &[String], trust: Trust, secret: &Secret) -> Vec<Check> {
    let trusted = match &trust {
        Trust::Pin(pin) => format!("the authority is {pin}, as the token says"),
        Trust::Bundle(_) => "the authority is one that this context trusts".to_owned(),
    };
    let dialer = match contexts::dialer(addresses, trust) {
        Ok(dialer) => Arc::new(dialer),
        Err(failure) => {
            let help = failure.advice().map(str::to_owned);
            return vec![Check::bad("network", failure.what(), help)];
        }
    };
    let dialed = match haul_transport::Dialer::dial(&dialer).await {
        Ok(dialed) => dialed,
        Err(error) => return unreachable(&error),
    };
    let mut checks = vec![
        Check::good("network", format!("reached {} {}", dialed.address, dialed.way)),
        Check::good("tls", trusted),
    ];
    match Client::over(dialed.stream, dialer).with_token(&secret.reveal()) {
        Ok(client) => checks.extend(served(&client).await),
        Err(error) => checks.push(Check::bad("token", error.to_string(), None)),
    }
    checks
}

/// What stood in the way, told by what it was: the way, or the other end.
fn unreachable(error: &haul_transport::DialError) -> Vec<Check> {
    let now = SystemTime::now();
    let problem = error.tried.iter().find_map(|tried| {
        let problem = TlsProblem::of(&tried.failure, None, now)?;
        Some((format!("reached {} {}", tried.address, tried.way), problem))
    });
    match problem {
        Some((reached, problem)) => vec![
            Check::good("network", reached),
            Check::bad("tls", problem.to_string(), None),
        ],
        None => vec![Check::bad(
            "network",
            error.to_string(),
            Some("is the controller running, and its port open? HTTPS_PROXY names a proxy".to_owned()),
        )],
    }
}

/// Who we are there, what it is, and what it has.
async fn served(client: &Client) -> Vec<Check> {
    let token = match client.caller().await {
        Ok(caller) => {
            let target = caller
                .target
                .map_or_else(String::new, |name| format!(", for target {name} alone"));
            Check::good("token", format!("{} is a {}{target}", caller.name, caller.role))
        }
        Err(error) => {
            return vec![Check::bad(
                "token",
                with_source(&error),
                Some("have an admin make another: haul token create --role submitter".to_owned()),
            )];
        }
    };
    let controller = match client.controller().await {
        Ok(it) => Check::good("controller", format!("version {}", it.version)),
        Err(error) => Check::bad("controller", with_source(&error), None),
    };
    let nodes = match client.nodes().await {
        Ok(nodes) => {
            let connected = nodes.iter().filter(|node| is_connected(node)).count();
            let found = format!("{connected} of {} connected", nodes.len());
            if connected == 0 {
                let help = "on a machine that is to run jobs: haul-agent join TOKEN; `haul-agent check` says what is wrong there";
                Check::bad("nodes", found, Some(help.to_owned()))
            } else {
                Check::good("nodes", found)
            }
        }
        Err(error) => Check::bad("nodes", with_source(&error), None),
    };
    vec![token, controller, nodes]
}

//! Several machines: a controller, boxes that join it, users, and a proxy in between, each with an address of its own.
//!
//! - [`page`]: `docs/several-machines.md`, command by command, as written.
//! - [`faults`]: cables that are pulled and controllers that are restarted in the middle of a job.
//! - [`clocks`]: machines whose clock is wrong, or that slept.
//! - [`refusals`]: what is wrong between machines, and whether what is said of it helps.
//!
//! They need root, for the machines are network namespaces; elsewhere a test says so and passes.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod clocks;
mod faults;
mod page;
mod refusals;
mod wheels;

use haul_tests::{Ended, Machine, Network, Running, Side};

/// A network, or the reason why there is none, which is then told.
fn network(machines: &[(&str, Side)]) -> Option<Network> {
    match Network::new(machines) {
        Ok(network) => Some(network),
        Err(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

/// A line of shell on a machine, to its end.
fn shell(machine: &Machine, line: &str) -> Ended {
    machine.command(["bash", "-c", line]).run()
}

/// The token that a line of shell prints.
fn token(machine: &Machine, line: &str) -> String {
    shell(machine, line).ok().out().trim().to_owned()
}

/// A controller that serves at `hub:7070`, and the first admin's token.
fn controller(hub: &Machine) -> (Running, String) {
    let admin = token(hub, "haul-controller init --state-dir haul --address hub:7070");
    (serve(hub), admin)
}

fn serve(hub: &Machine) -> Running {
    let serving = hub.command(["haul-controller", "--state-dir", "haul"]).start();
    serving.wait_for_stderr("serving");
    serving
}

/// A box that has joined and whose agent is connected.
fn join(machine: &Machine, token: &str) -> Running {
    machine.command(["haul-agent", "join", token]).run().ok();
    let agent = machine.command(["haul-agent"]).start();
    agent.wait_for_stderr("connected");
    agent
}

/// Logs in on a machine.
fn log_in(machine: &Machine, token: &str) {
    shell(machine, &format!("haul login --name hub <<< {token}")).ok();
}

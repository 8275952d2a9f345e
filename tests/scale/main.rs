//! A controller with many agents, jobs and followers at once: the small edition of `bench/scale.py`, with the same parts.
//!
//! The controller is the real one, over TLS on an address that only this process uses; the agents are simulated, each
//! with a certificate and a connection of its own ([`agents`]).

#![allow(
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "what a test sets up may panic; shared with the benchmark, which needs more of it"
)]

mod agents;
mod controller;
mod deployment;
mod followers;
mod load;

use std::time::Duration;

use haul_types::NodeState;
use tokio_util::task::TaskTracker;

use agents::Agents;
use controller::Controller;

const AGENTS: usize = 50;
const JOBS: usize = 2_000;
const CLIENTS: usize = 8;
const FOLLOWERS: usize = 10;
const LINES: usize = 5_000;
/// Whatever is waited for; all of it takes a few seconds.
const LIMIT: Duration = Duration::from_secs(120);

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what)
        .await
        .expect("it takes too long")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_agents_come_back_to_a_controller_that_was_killed_and_nothing_runs_twice() {
    let mut controller = Controller::new();
    let deployment = controller.deployment();
    let tasks = TaskTracker::new();
    let agents = in_time(Agents::join(&deployment, controller.directory(), AGENTS))
        .await
        .unwrap();
    agents.connect(&tasks);
    in_time(agents.until(|tally| tally.connected == AGENTS)).await;

    let spec = in_time(deployment.any_job(controller.directory())).await.unwrap();
    let load = in_time(load::submit(&deployment, spec, JOBS, CLIENTS))
        .await
        .unwrap();
    assert_eq!(load.submit.count(), JOBS);
    assert!(load.list.count() > 0);
    in_time(agents.until(|tally| tally.held == AGENTS)).await;

    controller.kill_and_start();
    in_time(agents.until(|tally| tally.connected == AGENTS && tally.sessions == 2)).await;
    let nodes = deployment.admin().unwrap().nodes().await.unwrap();
    assert_eq!(nodes.len(), AGENTS);
    for node in &nodes {
        assert_eq!(
            (node.state, node.attempts),
            (NodeState::Ready, 1),
            "{}",
            node.name
        );
    }
    let (states, _) = load::count(&deployment).await.unwrap();
    assert_eq!(states.iter().sum::<usize>(), JOBS);

    agents.end_all([0; 3]);
    let tally = in_time(agents.until(|tally| tally.held == 0 && tally.started == JOBS)).await;
    assert_eq!((tally.started_twice, tally.unwanted), (0, 0));
    let (states, _) = load::count(&deployment).await.unwrap();
    assert_eq!(states, [0, 0, 0, 0, JOBS, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_followers_of_one_log_all_get_every_byte() {
    let controller = Controller::new();
    let deployment = controller.deployment();
    let agents = in_time(Agents::join(&deployment, controller.directory(), 1))
        .await
        .unwrap();
    agents.connect(&TaskTracker::new());
    let spec = in_time(deployment.any_job(controller.directory())).await.unwrap();
    in_time(load::submit(&deployment, spec, 1, 1)).await.unwrap();
    in_time(agents.until(|tally| tally.held == 1)).await;
    let end = |bytes| agents.end_all([0, bytes, 0]);
    let held = agents.any_held().unwrap();
    let followed = followers::follow(&deployment, held, FOLLOWERS, LINES, LINES, end);
    let followed = in_time(followed).await.unwrap();
    assert_eq!(
        (followed.whole, followed.delays.count()),
        (FOLLOWERS, FOLLOWERS * LINES)
    );
}

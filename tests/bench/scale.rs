//! What `scale.py` drives: everybody who talks to a controller in a measurement of many, in one process. It is told what
//! to do by lines on standard input, and answers each by a line of JSON:
//!
//! | line | what | answer |
//! |---|---|---|
//! | `join N` | joins N machines, and connects them | how they stand |
//! | `connected SESSIONS` | waits until each is connected and has had as many sessions | likewise, and the time |
//! | `held N` | waits until they hold as many attempts | likewise |
//! | `submit JOBS CLIENTS` | submits, while others list and ask | milliseconds |
//! | `count` | lists all jobs | how many are in each state; milliseconds for a page |
//! | `fleet` | lists the nodes | how many are connected, and their attempts |
//! | `end`, `hold` | what is held succeeds, from now on; or is held again | how they stand |
//! | `follow FOLLOWERS LINES PER_SECOND` | an agent's log is followed | bytes, delays in milliseconds |
//! | `root` | whom to believe the controller by | the authority's certificate in hexadecimal |
//!
//! Arguments: the admin's token, and a directory for what the machines keep.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "shared with tests, and may panic as they do"
)]

#[path = "../scale/agents.rs"]
mod agents;
#[path = "../scale/deployment.rs"]
mod deployment;
#[path = "../scale/followers.rs"]
mod followers;
#[path = "../scale/load.rs"]
mod load;

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use haul_types::NodeState;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use agents::{Agents, Tally};
use deployment::{Deployment, Outcome};
use load::Times;

/// Everybody.
struct World {
    deployment: Deployment,
    scratch: PathBuf,
    agents: Option<Agents>,
    tasks: TaskTracker,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(token), Some(scratch)) = (arguments.next(), arguments.next()) else {
        return Err("give an admin's token and a directory".into());
    };
    let mut world = World {
        deployment: Deployment::new(&token)?,
        scratch: scratch.into(),
        agents: None,
        tasks: TaskTracker::new(),
    };
    loop {
        let line = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map(|_| line)
        });
        let line = line.await??;
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((command, numbers)) = words.split_first() else {
            return Ok(());
        };
        let numbers = numbers
            .iter()
            .map(|word| word.parse())
            .collect::<Result<Vec<usize>, _>>()?;
        let answer = world.obey(command, &numbers).await?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{answer}")?;
        stdout.flush()?;
    }
}

impl World {
    async fn obey(&mut self, command: &str, numbers: &[usize]) -> Outcome<Value> {
        match (command, numbers) {
            ("join", &[count]) => {
                let agents = Agents::join(&self.deployment, &self.scratch, count).await?;
                agents.connect(&self.tasks);
                let tally = agents.until(|tally| tally.connected == count).await;
                self.agents = Some(agents);
                Ok(standing(tally))
            }
            ("connected", &[sessions]) => {
                let agents = self.agents()?;
                let all = agents.count();
                let wished = |tally: &Tally| tally.connected == all && tally.sessions as usize >= sessions;
                Ok(standing(agents.until(wished).await))
            }
            ("held", &[count]) => Ok(standing(self.agents()?.until(|tally| tally.held == count).await)),
            ("end", []) => {
                self.agents()?.end_all([0; 3]);
                Ok(standing(self.agents()?.tally()))
            }
            ("hold", []) => {
                self.agents()?.hold();
                Ok(standing(self.agents()?.tally()))
            }
            ("submit", &[count, clients]) => {
                let spec = self.deployment.any_job(&self.scratch).await?;
                let mut load = load::submit(&self.deployment, spec, count, clients).await?;
                Ok(json!({
                    "seconds": load.took.as_secs_f64(),
                    "submit": times(&mut load.submit),
                    "list": times(&mut load.list),
                    "get": times(&mut load.get),
                    "waiting_for": load.waiting_for,
                }))
            }
            ("count", []) => {
                let (counts, mut pages) = load::count(&self.deployment).await?;
                Ok(json!({ "states": counts, "page": times(&mut pages) }))
            }
            ("fleet", []) => {
                let nodes = self.deployment.admin()?.nodes().await?;
                let connected = nodes.iter().filter(|node| node.state != NodeState::Unreachable);
                let attempts: u32 = nodes.iter().map(|node| node.attempts).sum();
                Ok(json!({ "nodes": nodes.len(), "connected": connected.count(), "attempts": attempts }))
            }
            ("follow", &[followers, lines, per_second]) => {
                let agents = self.agents()?;
                let held = agents.any_held().ok_or("no agent holds an attempt")?;
                let end = |bytes| agents.end_all([0, bytes, 0]);
                let followed = followers::follow(&self.deployment, held, followers, lines, per_second, end);
                let mut followed = followed.await?;
                Ok(json!({
                    "seconds": followed.took.as_secs_f64(),
                    "bytes": followed.bytes,
                    "whole": followed.whole,
                    "delay": times(&mut followed.delays),
                }))
            }
            ("root", []) => {
                let authorities = self.deployment.admin()?.authorities().await?;
                let first = authorities.list.first().ok_or("there is no authority")?;
                let root: String = first
                    .certificate
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                Ok(json!({ "root": root }))
            }
            _ => Err(format!("there is no command {command} of {numbers:?}").into()),
        }
    }

    fn agents(&self) -> Outcome<&Agents> {
        self.agents.as_ref().ok_or_else(|| "nobody has joined".into())
    }
}

fn standing(tally: Tally) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "at": now.as_secs_f64(),
        "connected": tally.connected,
        "sessions": tally.sessions,
        "held": tally.held,
        "started": tally.started,
        "started_twice": tally.started_twice,
        "repeated": tally.repeated,
        "unwanted": tally.unwanted,
    })
}

fn times(times: &mut Times) -> Value {
    json!({
        "count": times.count(),
        "p50": times.within(0.5),
        "p99": times.within(0.99),
        "longest": times.within(1.0),
    })
}

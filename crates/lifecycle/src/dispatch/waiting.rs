//! Why a job waits, in words that name what would have to change.

use std::fmt::Write as _;

use haul_types::{Admission, JobId, NodeState, Resources, TaskState};

use super::Dispatch;
use crate::clock::Now;
use crate::job::ActiveJob;
use crate::placement::fleet::Node;

/// Things named in one sentence.
const NAMED: usize = 3;

impl Dispatch {
    /// Why a job waits: what would have to change. `None` when none of its tasks waits.
    #[must_use]
    pub fn waiting_for(&self, id: JobId, now: Now) -> Option<String> {
        let job = self.jobs.get(&id)?;
        if job.record.counts.of(TaskState::Queued) == 0 || job.record.cancel_requested {
            return None;
        }
        if job.assignable() == 0 {
            return Some(format!(
                "the job's own limit of {} tasks at a time is reached",
                job.assigned
            ));
        }
        Some(
            self.unplaceable(job)
                .or_else(|| self.nobody_takes_work(job, now))
                .unwrap_or_else(|| self.taken(job)),
        )
    }

    /// Why no node that is known could ever take a task of this job, if that is so.
    #[must_use]
    pub fn why_never(&self, id: JobId) -> Option<String> {
        self.unplaceable(self.jobs.get(&id)?)
    }

    fn members(&self, job: &ActiveJob) -> Vec<&Node> {
        let pool = self.fleet.pool(job.class.pool);
        pool.members
            .iter()
            .filter_map(|&key| self.fleet.node(key))
            .collect()
    }

    /// The pool, as the beginning of a sentence goes on: "target gpu", "node box1", "any node".
    fn pool_name(&self, job: &ActiveJob) -> String {
        match &self.fleet.pool(job.class.pool).name {
            None => "any node".to_owned(),
            Some(name) if self.fleet.targets().contains_key(name) => format!("target {name}"),
            Some(name) => format!("node {name}"),
        }
    }

    fn unplaceable(&self, job: &ActiveJob) -> Option<String> {
        let members = self.members(job);
        let name = &self.fleet.pool(job.class.pool).name;
        if members.is_empty() {
            return name.as_ref().map(|name| match self.fleet.targets().get(name) {
                Some(_) => format!(
                    "target {name} has no node yet: enroll one with its labels, or declare it with one"
                ),
                None => format!("there is no target or node {name} any more: `haul target create {name}`"),
            });
        }
        let demand = job.class.demand;
        if members
            .iter()
            .any(|node| node.record.inventory.capacity.covers(demand))
        {
            return None;
        }
        let among = match name {
            None => "the largest node".to_owned(),
            Some(name) if self.fleet.targets().contains_key(name) => {
                format!("the largest node of target {name}")
            }
            Some(_) => "node".to_owned(),
        };
        let by_cpus = members
            .iter()
            .max_by_key(|node| node.record.inventory.capacity.cpus)?;
        let most = by_cpus.record.inventory.capacity.cpus;
        if most < demand.cpus {
            return Some(format!(
                "needs {}; {among} {} has {most}",
                cpus(demand),
                by_cpus.record.name
            ));
        }
        let by_memory = members
            .iter()
            .max_by_key(|node| node.record.inventory.capacity.memory)?;
        let most = by_memory.record.inventory.capacity.memory;
        if most < demand.memory {
            return Some(format!(
                "needs {} of memory; {among} {} has {}",
                demand.memory,
                by_memory.record.name,
                if most.0 == 0 {
                    "not told how much it has".to_owned()
                } else {
                    most.to_string()
                }
            ));
        }
        Some(format!(
            "needs {} and {} of memory on one node; {} has the CPUs and {} the memory, none has both",
            cpus(demand),
            demand.memory,
            by_cpus.record.name,
            by_memory.record.name
        ))
    }

    /// Nodes would have room enough, but none of them is there and takes work.
    fn nobody_takes_work(&self, job: &ActiveJob, now: Now) -> Option<String> {
        let demand = job.class.demand;
        let fit = |node: &&&Node| node.record.inventory.capacity.covers(demand);
        let members = self.members(job);
        if members.is_empty() {
            return Some(
                "no agent is connected: start one, or see why the one there is cannot connect".to_owned(),
            );
        }
        let fitting: Vec<&Node> = members.iter().filter(fit).copied().collect();
        if fitting.iter().any(|node| node.is_open()) {
            return None;
        }
        let mut why = fitting.iter().take(NAMED).map(|node| {
            let name = &node.record.name;
            match (node.state(), node.record.admission) {
                (NodeState::Unreachable, admission) => {
                    let ago = ago(now.unix_ms.saturating_sub(node.record.last_seen_unix_ms));
                    let also = if admission == Admission::Open {
                        ""
                    } else {
                        ", and is cordoned"
                    };
                    format!("{name} was last seen {ago} ago{also}")
                }
                (NodeState::Draining, _) => format!("{name} is draining: `haul node uncordon {name}`"),
                _ => format!("{name} is cordoned: `haul node uncordon {name}`"),
            }
        });
        let first = why.next()?;
        let mut words = match &self.fleet.pool(job.class.pool).name {
            None => format!("no node that is large enough takes work: {first}"),
            Some(_) => format!(
                "{} has no connected node that takes work: {first}",
                self.pool_name(job)
            ),
        };
        for more in why {
            let _ = write!(words, "; {more}");
        }
        name_the_rest(&mut words, fitting.len(), "nodes");
        Some(words)
    }

    /// All that would do is taken: what is missing where it lacks least, and who has it.
    fn taken(&self, job: &ActiveJob) -> String {
        let demand = job.class.demand;
        let kept = self
            .fleet
            .pool(job.class.pool)
            .kept
            .and_then(|key| self.fleet.node(key));
        let open = || {
            let members = self.members(job).into_iter();
            members
                .filter(|node| node.is_open() && node.record.inventory.capacity.covers(demand))
                .max_by_key(|node| node.free())
        };
        let Some(node) = kept
            .filter(|node| node.record.inventory.capacity.covers(demand))
            .or_else(open)
        else {
            return format!("waits for room on {}", self.pool_name(job));
        };
        let name = &node.record.name;
        let id = job.record.id;
        let kept_for = node.kept_for.filter(|&other| other != id);
        if node.free().covers(demand) {
            return match kept_for {
                Some(other) => format!("{name} is kept free for job {other}, which goes first"),
                None => format!("it is about to go to {name}"),
            };
        }
        let mut others: Vec<JobId> = node.shares.keys().copied().filter(|&other| other != id).collect();
        others.sort_by_key(|other| self.jobs.get(other).map(|job| job.age));
        let mut words = format!("waits for {} on {name}", missing(demand, node.free()));
        if others.is_empty() {
            words.push_str(", taken by its own tasks");
        } else {
            let names: Vec<String> = others
                .iter()
                .take(NAMED)
                .map(|other| format!("job {other}"))
                .collect();
            let _ = write!(words, ", taken by {}", names.join(", "));
            name_the_rest(&mut words, others.len(), "jobs");
        }
        if let Some(first) = self.line.first(job.class).filter(|first| first.job != id) {
            let _ = write!(words, "; job {} goes first", first.job);
        }
        words
    }
}

fn name_the_rest(words: &mut String, all: usize, what: &str) {
    if all > NAMED {
        let _ = write!(words, " and {} more {what}", all - NAMED);
    }
}

fn cpus(demand: Resources) -> String {
    let plural = if demand.cpus.millis() == 1000 { "" } else { "s" };
    format!("{} CPU{plural}", demand.cpus)
}

/// What of `demand` is not in `free`.
fn missing(demand: Resources, free: Resources) -> String {
    let memory = demand.memory > free.memory;
    match (demand.cpus > free.cpus, memory) {
        (true, true) => format!("{} and {} of memory", cpus(demand), demand.memory),
        (false, true) => format!("{} of memory", demand.memory),
        _ => cpus(demand),
    }
}

fn ago(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

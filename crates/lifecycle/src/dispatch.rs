//! The controller's mind: jobs that have not ended, nodes, and who gets what.
//!
//! ```text
//!   event ──► step ──► records to store ──(durable)──► messages to nodes, news to followers
//! ```
//!
//! Invariants:
//! - what is in [`Effects::messages`] may be sent only once [`Effects::jobs`] and [`Effects::tasks`] are durable:
//!   an attempt's number is on disk before any node hears of it, so no number is ever used twice;
//! - a task has at most one attempt that is not over and not given up;
//! - a node that cannot be reached keeps its attempts: nothing is taken from it but by its own word, by a job's own
//!   policy ([`haul_types::OnDisconnect::Replace`]), or by somebody who says that it is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use haul_types::{
    AttemptId, JobId, JobRecord, JobSpec, NodeName, NodeRecord, NodeState, OnDisconnect, Reason, Resources,
    TargetRecord, TaskCounts, TaskId, TaskIndex, TaskRecord, TaskState,
};

pub use self::event::{Effects, Event, FleetChange, Held, Hello, Message, Refused};
use self::timers::Timers;
use crate::clock::Now;
use crate::job::ActiveJob;
use crate::placement::fleet::{Fleet, NodeKey};
use crate::placement::line::{ClassKey, Line};
use crate::task;

mod event;
mod losses;
mod nodes;
mod targets;
mod timers;
mod turns;
mod waiting;

/// A node, for show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// What is stored of it.
    pub record: NodeRecord,
    /// How it stands.
    pub state: NodeState,
    /// What is placed on it.
    pub used: Resources,
    /// Attempts that it has.
    pub attempts: u32,
}

/// The controller's mind.
#[derive(Debug, Default)]
pub struct Dispatch {
    jobs: HashMap<JobId, ActiveJob>,
    next_age: u64,
    fleet: Fleet,
    /// Jobs that have a task to hand out.
    line: Line,
    timers: Timers,
}

/// What one step changed; records are kept once.
#[derive(Default)]
struct Changes {
    jobs: BTreeMap<JobId, JobRecord>,
    tasks: BTreeMap<TaskId, TaskRecord>,
    fleet: Vec<FleetChange>,
    news: BTreeSet<JobId>,
    messages: Vec<Message>,
    acknowledged: Vec<AttemptId>,
    /// Nodes that have just spoken: there, tasks can be sent ahead.
    spoke: Vec<NodeKey>,
}

impl Dispatch {
    /// Takes up nodes and targets from the store, when a controller starts: before any job.
    pub fn restore_fleet(&mut self, nodes: Vec<NodeRecord>, targets: Vec<TargetRecord>, now: Now) {
        for target in targets {
            self.fleet.put_target(target);
        }
        for record in nodes {
            let key = self.fleet.insert(record);
            if let Some(node) = self.fleet.node_mut(key) {
                node.away_since = now.monotonic;
            }
        }
    }

    /// Takes up a job from the store, when a controller starts: its record, the tasks in progress, and the indices
    /// that have no record. Call in order of submission.
    pub fn restore(
        &mut self,
        record: JobRecord,
        tasks: Vec<TaskRecord>,
        untouched: Vec<Range<TaskIndex>>,
        now: Now,
    ) {
        let class = self.class_of(&record.spec);
        let on_nodes = tasks.iter().filter(|task| task.state != TaskState::Queued);
        for task in on_nodes {
            if let Some(name) = task.node.clone().and_then(|name| NodeName::try_from(name).ok()) {
                let attempt = AttemptId {
                    task: task.id,
                    attempt: task.attempt,
                };
                let key = self.fleet.ensure(&name);
                self.fleet.hold(key, attempt, class.demand, false);
                if let OnDisconnect::Replace { after } = record.spec.scheduling.on_disconnect {
                    self.timers.add_away(now.monotonic + after, key);
                }
            }
        }
        let id = record.id;
        let mut job = ActiveJob::new(record, tasks, untouched.into_iter(), class, self.next_age);
        self.timers.restore(&mut job, now);
        self.insert(id, job);
    }

    /// Takes one event.
    pub fn step(&mut self, event: Event, now: Now) -> Result<Effects, Refused> {
        let mut changes = Changes::default();
        match event {
            Event::Submit { id, owner, spec } => self.on_submit(id, owner, spec, now, &mut changes)?,
            Event::Cancel { job, task } => self.on_cancel(job, task, now, &mut changes)?,
            Event::Connected(hello) => self.on_connected(*hello, now, &mut changes)?,
            Event::Disconnected { node, session } => {
                self.on_disconnected(&node, session, now, &mut changes);
            }
            Event::Updates { node, updates } => self.on_updates(&node, &updates, now, &mut changes),
            Event::Admit { node, admission } => self.on_admit(&node, admission, &mut changes)?,
            Event::RemoveNode { node, connected } => {
                self.on_remove_node(&node, connected, now, &mut changes)?;
            }
            Event::PutTarget(target) => self.on_put_target(target, &mut changes)?,
            Event::Enlist { target, node } => self.on_enlist(target, node, &mut changes),
            Event::RemoveTarget(name) => self.on_remove_target(name, &mut changes)?,
            Event::Tick => {}
        }
        self.on_time(now, &mut changes);
        self.place(now, &mut changes);
        for id in changes.jobs.keys() {
            changes.news.remove(id);
        }
        Ok(Effects {
            jobs: changes.jobs.into_values().collect(),
            tasks: changes.tasks.into_values().collect(),
            fleet: changes.fleet,
            news: changes.news.into_iter().collect(),
            messages: changes.messages,
        })
    }

    /// Takes a job back whose submission could not be stored: nobody has heard of it.
    pub fn retract(&mut self, id: JobId) {
        self.unqueue(id);
        let Some(job) = self.jobs.remove(&id) else { return };
        for task in job.tasks.values() {
            let node = task.node.clone().and_then(|name| NodeName::try_from(name).ok());
            if let Some(key) = node.and_then(|name| self.fleet.key(&name)) {
                let attempt = AttemptId {
                    task: task.id,
                    attempt: task.attempt,
                };
                self.fleet.release(key, attempt);
            }
        }
    }

    /// The job, if it has not ended.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<&JobRecord> {
        self.jobs.get(&id).map(|job| &job.record)
    }

    /// The task, if its job has not ended and something has happened to it and it has not ended itself.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<&TaskRecord> {
        self.jobs.get(&id.job)?.tasks.get(&id.index)
    }

    /// How many jobs have not ended.
    #[must_use]
    pub fn active_jobs(&self) -> usize {
        self.jobs.len()
    }

    /// The nodes, in order of name.
    pub fn nodes(&self) -> impl Iterator<Item = NodeStatus> + '_ {
        self.fleet.nodes().map(|node| NodeStatus {
            record: node.record.clone(),
            state: node.state(),
            used: node.used(),
            attempts: u32::try_from(node.attempts.len()).unwrap_or(u32::MAX),
        })
    }

    /// The attempts that a node has, in order.
    #[must_use]
    pub fn attempts_on(&self, node: &NodeName) -> Vec<AttemptId> {
        let node = self.fleet.named(node);
        node.map_or_else(Vec::new, |node| node.attempts.iter().copied().collect())
    }

    /// Whether a node of this name cannot be reached.
    #[must_use]
    pub fn is_unreachable(&self, node: &str) -> bool {
        self.fleet
            .named_as(node)
            .is_some_and(|node| node.session.is_none())
    }

    /// What is stored of a node.
    #[must_use]
    pub fn node_record(&self, name: &NodeName) -> Option<&NodeRecord> {
        self.fleet.named(name).map(|node| &node.record)
    }

    /// Whether `node` may speak for `attempt`: it is the current one and was given to this node.
    #[must_use]
    pub fn is_current(&self, node: &NodeName, attempt: AttemptId) -> bool {
        self.fleet
            .named(node)
            .is_some_and(|node| node.attempts.contains(&attempt))
    }

    fn on_submit(
        &mut self,
        id: JobId,
        owner: Option<String>,
        spec: Arc<JobSpec>,
        now: Now,
        changes: &mut Changes,
    ) -> Result<(), Refused> {
        if self.jobs.contains_key(&id) {
            return Err(Refused::DuplicateJob(id));
        }
        self.ensure_target_known(spec.scheduling.target.as_ref())?;
        let (first, many) = spec.array.map_or((0, 1), |array| (array.first, array.len()));
        let mut counts = TaskCounts::default();
        counts.0[TaskState::Queued as usize - 1] = many;
        let class = self.class_of(&spec);
        let record = JobRecord {
            id,
            owner,
            spec,
            created_unix_ms: now.unix_ms,
            ended_unix_ms: None,
            state: TaskState::Queued,
            counts,
            cancel_requested: false,
            given_up: None,
        };
        changes.jobs.insert(id, record.clone());
        let untouched = std::iter::once(first..first + many);
        let mut job = ActiveJob::new(record, Vec::new(), untouched, class, self.next_age);
        self.timers.restore(&mut job, now);
        self.insert(id, job);
        Ok(())
    }

    fn on_cancel(
        &mut self,
        id: JobId,
        index: Option<TaskIndex>,
        now: Now,
        changes: &mut Changes,
    ) -> Result<(), Refused> {
        let job = self.jobs.get_mut(&id).ok_or(Refused::UnknownJob(id))?;
        let chosen: Vec<TaskIndex> = match index {
            Some(index) => {
                let known = job.tasks.contains_key(&index);
                if !known && !job.touch(index) {
                    return Err(Refused::UnknownTask(TaskId { job: id, index }));
                }
                if !known {
                    let task = task::queued(TaskId { job: id, index }, job.record.created_unix_ms);
                    job.tasks.insert(index, task);
                }
                vec![index]
            }
            None => {
                job.record.cancel_requested = true;
                job.drop_untouched_as(TaskState::Canceled);
                job.tasks.keys().copied().collect()
            }
        };
        for index in chosen {
            let Some(task) = job.tasks.get_mut(&index) else {
                continue;
            };
            let again = std::mem::replace(&mut task.cancel_requested, true);
            if task.state == TaskState::Queued {
                task::end(
                    task,
                    TaskState::Canceled,
                    Reason::CanceledByUser,
                    "canceled before it started",
                    now.unix_ms,
                );
                job.record.counts.shift(TaskState::Queued, TaskState::Canceled, 1);
                changes.tasks.insert(task.id, task.clone());
                job.tasks.remove(&index);
            } else if !again {
                let attempt = AttemptId {
                    task: task.id,
                    attempt: task.attempt,
                };
                changes.tasks.insert(task.id, task.clone());
                if let Some(node) = task.node.clone().and_then(|name| NodeName::try_from(name).ok()) {
                    changes.messages.push(Message::Stop { node, attempt });
                }
            }
        }
        self.settle(id, now, changes);
        Ok(())
    }

    /// Brings the job's own record up to date after its tasks changed, and lets it go when it has ended.
    fn settle(&mut self, id: JobId, now: Now, changes: &mut Changes) {
        self.unqueue(id);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.record.state = job.record.counts.summary();
        if job.record.state.is_terminal() {
            job.record.ended_unix_ms = Some(now.unix_ms.max(job.record.created_unix_ms));
        }
        changes.jobs.insert(id, job.record.clone());
        if job.record.state.is_terminal() {
            self.jobs.remove(&id);
        } else {
            self.enqueue(id);
        }
    }

    fn insert(&mut self, id: JobId, job: ActiveJob) {
        self.jobs.insert(id, job);
        self.next_age += 1;
        self.enqueue(id);
    }

    /// What the tasks of a job ask for.
    fn class_of(&mut self, spec: &JobSpec) -> ClassKey {
        ClassKey {
            pool: self.fleet.pool_of(spec.scheduling.target.as_ref()),
            demand: spec.scheduling.resources,
        }
    }
}

#[cfg(test)]
mod tests;

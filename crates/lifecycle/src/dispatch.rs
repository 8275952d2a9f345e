//! The controller's mind: jobs that have not ended, nodes, and who gets what.
//!
//! ```text
//!   event ──► step ──► records to store ──(durable)──► messages to nodes, news to followers
//! ```
//!
//! Invariants:
//! - what is in [`Effects::messages`] may be sent only once [`Effects::jobs`] and [`Effects::tasks`] are durable:
//!   an attempt's number is on disk before any node hears of it, so no number is ever used twice;
//! - a task has at most one attempt that is not over;
//! - a node that cannot be reached keeps its attempts: nothing is taken from it but by its own word.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use haul_types::{
    AttemptId, JobId, JobRecord, JobSpec, NodeName, Reason, TaskCounts, TaskId, TaskIndex, TaskRecord,
    TaskState,
};

pub use self::event::{Effects, Event, Held, Message, Refused};
use crate::job::ActiveJob;
use crate::task;

mod event;
mod nodes;
mod turns;

#[derive(Debug)]
struct Node {
    session: Option<u64>,
    slots: u32,
    attempts: BTreeSet<AttemptId>,
}

/// A node, for show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its name.
    pub name: NodeName,
    /// Tasks that it runs at a time.
    pub slots: u32,
    /// Attempts that it has.
    pub busy: u32,
    /// Whether its agent is connected.
    pub connected: bool,
}

/// The controller's mind.
#[derive(Debug, Default)]
pub struct Dispatch {
    jobs: HashMap<JobId, ActiveJob>,
    /// Jobs that have a task to hand out, in order of turn.
    turns: BTreeSet<(u32, u64, JobId)>,
    /// Age: the order of submission.
    ages: HashMap<JobId, u64>,
    next_age: u64,
    nodes: BTreeMap<NodeName, Node>,
}

/// Records changed by one step, each kept once.
#[derive(Default)]
struct Changes {
    jobs: BTreeMap<JobId, JobRecord>,
    tasks: BTreeMap<TaskId, TaskRecord>,
    messages: Vec<Message>,
    acknowledged: Vec<AttemptId>,
}

impl Dispatch {
    /// Takes up a job from the store, when a controller starts: its record, the tasks in progress, and the indices
    /// that have no record. Call in order of submission.
    pub fn restore(&mut self, record: JobRecord, tasks: Vec<TaskRecord>, untouched: Vec<Range<TaskIndex>>) {
        let id = record.id;
        for task in tasks.iter().filter(|task| task.state != TaskState::Queued) {
            if let Some(node) = task.node.clone().and_then(|name| NodeName::try_from(name).ok()) {
                let attempt = AttemptId {
                    task: task.id,
                    attempt: task.attempt,
                };
                let absent = Node {
                    session: None,
                    slots: 0,
                    attempts: BTreeSet::new(),
                };
                self.nodes.entry(node).or_insert(absent).attempts.insert(attempt);
            }
        }
        self.insert(id, ActiveJob::new(record, tasks, untouched.into_iter()));
    }

    /// Takes one event. `now_unix_ms` is the wall clock, for the timeline alone.
    pub fn step(&mut self, event: Event, now_unix_ms: u64) -> Result<Effects, Refused> {
        let mut changes = Changes::default();
        match event {
            Event::Submit { id, spec } => self.on_submit(id, spec, now_unix_ms, &mut changes)?,
            Event::Cancel { job, task } => self.on_cancel(job, task, now_unix_ms, &mut changes)?,
            Event::Connected {
                node,
                session,
                slots,
                held,
            } => {
                self.on_connected(&node, session, slots, &held, now_unix_ms, &mut changes);
            }
            Event::Disconnected { node, session } => {
                if let Some(node) = self
                    .nodes
                    .get_mut(&node)
                    .filter(|node| node.session == Some(session))
                {
                    node.session = None;
                }
            }
            Event::Updates { node, updates } => self.on_updates(&node, &updates, now_unix_ms, &mut changes),
        }
        self.place(now_unix_ms, &mut changes);
        Ok(Effects {
            jobs: changes.jobs.into_values().collect(),
            tasks: changes.tasks.into_values().collect(),
            messages: changes.messages,
        })
    }

    /// Takes a job back whose submission could not be stored: nobody has heard of it.
    pub fn retract(&mut self, id: JobId) {
        self.unqueue(id);
        self.jobs.remove(&id);
        self.ages.remove(&id);
        for node in self.nodes.values_mut() {
            node.attempts.retain(|attempt| attempt.task.job != id);
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
        self.nodes.iter().map(|(name, node)| NodeStatus {
            name: name.clone(),
            slots: node.slots,
            busy: u32::try_from(node.attempts.len()).unwrap_or(u32::MAX),
            connected: node.session.is_some(),
        })
    }

    /// Whether `node` may speak for `attempt`: it is the current one and was given to this node.
    #[must_use]
    pub fn is_current(&self, node: &NodeName, attempt: AttemptId) -> bool {
        self.nodes
            .get(node)
            .is_some_and(|node| node.attempts.contains(&attempt))
    }

    /// Why a job waits: what would have to change. `None` when none of its tasks waits.
    #[must_use]
    pub fn waiting_for(&self, id: JobId) -> Option<String> {
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
        let connected: Vec<&Node> = self
            .nodes
            .values()
            .filter(|node| node.session.is_some())
            .collect();
        if connected.is_empty() {
            return Some(
                "no agent is connected: start one, or see why the one there is cannot connect".to_owned(),
            );
        }
        let slots: u32 = connected.iter().map(|node| node.slots).sum();
        Some(format!(
            "all {slots} slots are taken: it gets the next one that becomes free"
        ))
    }

    fn on_submit(
        &mut self,
        id: JobId,
        spec: Arc<JobSpec>,
        now: u64,
        changes: &mut Changes,
    ) -> Result<(), Refused> {
        if self.jobs.contains_key(&id) {
            return Err(Refused::DuplicateJob(id));
        }
        let (first, many) = spec.array.map_or((0, 1), |array| (array.first, array.len()));
        let mut counts = TaskCounts::default();
        counts.0[TaskState::Queued as usize - 1] = many;
        let record = JobRecord {
            id,
            spec,
            created_unix_ms: now,
            ended_unix_ms: None,
            state: TaskState::Queued,
            counts,
            cancel_requested: false,
        };
        changes.jobs.insert(id, record.clone());
        self.insert(
            id,
            ActiveJob::new(record, Vec::new(), std::iter::once(first..first + many)),
        );
        Ok(())
    }

    fn on_cancel(
        &mut self,
        id: JobId,
        index: Option<TaskIndex>,
        now: u64,
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
                let untouched = job.drop_untouched();
                if job.record.spec.array.is_none() && untouched == 1 {
                    // The one task of a plain job gets its record, so that its timeline says what happened.
                    let task = task::queued(TaskId { job: id, index: 0 }, job.record.created_unix_ms);
                    job.tasks.insert(0, task);
                } else {
                    job.record
                        .counts
                        .shift(TaskState::Queued, TaskState::Canceled, untouched);
                }
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
                    now,
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
    fn settle(&mut self, id: JobId, now: u64, changes: &mut Changes) {
        self.unqueue(id);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.record.state = job.record.counts.summary();
        if job.record.state.is_terminal() {
            job.record.ended_unix_ms = Some(now.max(job.record.created_unix_ms));
        }
        changes.jobs.insert(id, job.record.clone());
        if job.record.state.is_terminal() {
            self.jobs.remove(&id);
            self.ages.remove(&id);
        } else {
            self.enqueue(id);
        }
    }
    fn insert(&mut self, id: JobId, job: ActiveJob) {
        self.jobs.insert(id, job);
        self.ages.insert(id, self.next_age);
        self.next_age += 1;
        self.enqueue(id);
    }
}

#[cfg(test)]
mod tests;

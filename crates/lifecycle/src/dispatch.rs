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
use std::time::Duration;

use haul_types::{
    Attempt, AttemptId, JobId, JobRecord, JobSpec, NodeName, Reason, TaskCounts, TaskId, TaskIndex,
    TaskRecord, TaskState,
};

use crate::job::ActiveJob;
use crate::placement;
use crate::task::{self, Update, UpdateEffect};

/// What happens to a controller.
#[derive(Clone, Debug)]
pub enum Event {
    /// A user submits a job.
    Submit {
        /// Its id, new.
        id: JobId,
        /// What to run.
        spec: Arc<JobSpec>,
    },
    /// A user wants a job, or one task of it, to stop.
    Cancel {
        /// The job.
        job: JobId,
        /// The task; all of them when absent.
        task: Option<TaskIndex>,
    },
    /// An agent said hello.
    Connected {
        /// Its node.
        node: NodeName,
        /// Tells this session from the ones before.
        session: u64,
        /// Tasks that it runs at a time.
        slots: u32,
        /// What it holds.
        held: Vec<Held>,
    },
    /// An agent's session ended.
    Disconnected {
        /// Its node.
        node: NodeName,
        /// The session.
        session: u64,
    },
    /// A node says how its attempts stand.
    Updates {
        /// The node.
        node: NodeName,
        /// In order of time.
        updates: Vec<Update>,
    },
}

/// An attempt that a node holds when it says hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The attempt.
    pub attempt: AttemptId,
    /// Whether the store knows that it has ended, which this crate cannot.
    pub stored_as_ended: bool,
}

/// What is to be sent, once the records are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Run these tasks of one job.
    Assign {
        /// To whom.
        node: NodeName,
        /// The job.
        job: JobId,
        /// What to run.
        spec: Arc<JobSpec>,
        /// Which tasks, and which attempt at each.
        tasks: Vec<(TaskIndex, Attempt)>,
    },
    /// Stop this attempt.
    Stop {
        /// To whom.
        node: NodeName,
        /// Which.
        attempt: AttemptId,
    },
    /// The end is stored.
    Acknowledge {
        /// To whom.
        node: NodeName,
        /// Which.
        attempts: Vec<AttemptId>,
    },
    /// The hello is taken.
    Welcome {
        /// To whom.
        node: NodeName,
        /// What the node holds and nobody wants.
        unwanted: Vec<AttemptId>,
    },
}

/// What a step asks for.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Jobs as they are now, each once.
    pub jobs: Vec<JobRecord>,
    /// Tasks as they are now, each once.
    pub tasks: Vec<TaskRecord>,
    /// To be sent when those are durable, in order.
    pub messages: Vec<Message>,
}

/// Why an event was refused; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The job is not among those that have not ended.
    #[error("no job {0} is in progress")]
    UnknownJob(JobId),
    /// The job has no such task, or it has ended.
    #[error("task {0} is not in progress")]
    UnknownTask(TaskId),
    /// A job of this id is in progress already.
    #[error("job {0} is there already")]
    DuplicateJob(JobId),
}

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
        self.insert(id, ActiveJob::new(record, tasks, untouched));
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
                self.on_connected(node, session, slots, &held, now_unix_ms, &mut changes);
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
        self.insert(id, ActiveJob::new(record, Vec::new(), vec![first..first + many]));
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

    fn on_connected(
        &mut self,
        name: NodeName,
        session: u64,
        slots: u32,
        held: &[Held],
        now: u64,
        changes: &mut Changes,
    ) {
        let node = self.nodes.entry(name.clone()).or_insert(Node {
            session: None,
            slots,
            attempts: BTreeSet::new(),
        });
        node.session = Some(session);
        node.slots = slots;
        let holds: BTreeSet<AttemptId> = held.iter().map(|held| held.attempt).collect();
        let missing: Vec<AttemptId> = node.attempts.difference(&holds).copied().collect();
        let (known, unknown): (Vec<&Held>, Vec<&Held>) = held
            .iter()
            .partition(|held| node.attempts.contains(&held.attempt));
        let (ended, unwanted): (Vec<&Held>, Vec<&Held>) =
            unknown.iter().partition(|held| held.stored_as_ended);
        let attempts = |held: &[&Held]| held.iter().map(|held| held.attempt).collect::<Vec<_>>();
        changes.messages.push(Message::Welcome {
            node: name.clone(),
            unwanted: attempts(&unwanted),
        });
        if !ended.is_empty() {
            changes.messages.push(Message::Acknowledge {
                node: name.clone(),
                attempts: attempts(&ended),
            });
        }
        for held in known {
            // A stop that was lost with the connection is said again.
            if self
                .task(held.attempt.task)
                .is_some_and(|task| task.cancel_requested)
                || self
                    .job(held.attempt.task.job)
                    .is_some_and(|job| job.cancel_requested)
            {
                changes.messages.push(Message::Stop {
                    node: name.clone(),
                    attempt: held.attempt,
                });
            }
        }
        for attempt in missing {
            self.on_missing(&name, attempt, now, changes);
        }
    }

    /// A node that should have this attempt does not. If its script had not started as far as is known, the
    /// assignment was lost on the way, or all trace of it in a power cut: another attempt is safe, because the node
    /// says that nothing of this one is left. If it had started, it is lost, and says so.
    fn on_missing(&mut self, node: &NodeName, attempt: AttemptId, now: u64, changes: &mut Changes) {
        self.release(node, attempt);
        let Some(job) = self.jobs.get_mut(&attempt.task.job) else {
            return;
        };
        let Some(task) = job.tasks.get_mut(&attempt.task.index) else {
            return;
        };
        let before = task.state;
        if task.cancel_requested || job.record.cancel_requested {
            task::end(task, TaskState::Canceled, Reason::CanceledByUser, "canceled", now);
        } else if before == TaskState::Preparing {
            task::retry(task, &format!("the assignment did not reach {node}"), now);
        } else {
            let detail = format!("{node} came back without it; how far it came is unknown");
            task::end(task, TaskState::Failed, Reason::Lost, &detail, now);
        }
        let (after, record) = (task.state, task.clone());
        job.record.counts.shift(before, after, 1);
        changes.tasks.insert(record.id, record);
        if after.is_terminal() {
            job.tasks.remove(&attempt.task.index);
        }
        self.settle(attempt.task.job, now, changes);
    }

    fn on_updates(&mut self, node: &NodeName, updates: &[Update], now: u64, changes: &mut Changes) {
        let mut touched = BTreeSet::new();
        for update in updates {
            let AttemptId { task: id, .. } = update.attempt;
            let current = self.is_current(node, update.attempt);
            let Some(job) = self.jobs.get_mut(&id.job).filter(|_| current) else {
                // Its end is stored already, or nobody wants it: either way the node may forget it.
                if update.state.is_terminal() {
                    changes.acknowledged.push(update.attempt);
                }
                continue;
            };
            let Some(task) = job.tasks.get_mut(&id.index) else {
                continue;
            };
            let before = task.state;
            if task::apply(task, update, now) != UpdateEffect::Moved {
                continue;
            }
            let after = task.state;
            job.record.counts.shift(before, after, 1);
            if after.is_terminal() {
                let ended = task.timeline.last().map_or(now, |last| last.at_unix_ms);
                let begun = task
                    .timeline
                    .iter()
                    .rev()
                    .find(|step| step.state == TaskState::Running);
                let took = begun.map(|begun| Duration::from_millis(ended.saturating_sub(begun.at_unix_ms)));
                took.into_iter().for_each(|took| job.observe_task_time(took));
            }
            // Looked up again: observing borrowed the job.
            if let Some(task) = job.tasks.get(&id.index) {
                changes.tasks.insert(id, task.clone());
            }
            if after.is_terminal() {
                job.tasks.remove(&id.index);
                self.release(node, update.attempt);
                changes.acknowledged.push(update.attempt);
            }
            touched.insert(id.job);
        }
        for job in touched {
            self.settle(job, now, changes);
        }
        let acknowledged = std::mem::take(&mut changes.acknowledged);
        if !acknowledged.is_empty() {
            changes.messages.push(Message::Acknowledge {
                node: node.clone(),
                attempts: acknowledged,
            });
        }
    }

    /// The attempt no longer takes a place on its node.
    fn release(&mut self, node: &NodeName, attempt: AttemptId) {
        if self
            .nodes
            .get_mut(node)
            .is_some_and(|node| node.attempts.remove(&attempt))
        {
            self.unqueue(attempt.task.job);
            if let Some(job) = self.jobs.get_mut(&attempt.task.job) {
                job.assigned = job.assigned.saturating_sub(1);
            }
            self.enqueue(attempt.task.job);
        }
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

    /// Hands out what can be handed out.
    fn place(&mut self, now: u64, changes: &mut Changes) {
        let mut assigned: Vec<(NodeName, JobId, TaskIndex, Attempt)> = Vec::new();
        while let Some(turn) = self.turns.pop_first() {
            let id = turn.2;
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            let room = |node: &Node| {
                placement::capacity(node.slots, job.task_time).saturating_sub(node.attempts.len() as u32)
            };
            let best = self
                .nodes
                .iter_mut()
                .filter(|(_, node)| node.session.is_some() && room(node) > 0)
                .max_by_key(|(_, node)| room(node));
            let Some((name, node)) = best else {
                // Whoever's turn it is gets the next slot. Nothing is sent ahead past it, or it might wait for ever.
                self.turns.insert(turn);
                break;
            };
            let Some(index) = job.next_queued() else { continue };
            let created = job.record.created_unix_ms;
            let task = job
                .tasks
                .entry(index)
                .or_insert_with(|| task::queued(TaskId { job: id, index }, created));
            let attempt = task::assign(task, name.as_str(), now);
            changes.tasks.insert(task.id, task.clone());
            node.attempts.insert(AttemptId {
                task: task.id,
                attempt,
            });
            job.record
                .counts
                .shift(TaskState::Queued, TaskState::Preparing, 1);
            job.record.state = job.record.counts.summary();
            job.assigned += 1;
            changes.jobs.insert(id, job.record.clone());
            assigned.push((name.clone(), id, index, attempt));
            self.enqueue(id);
        }
        for (node, id, index, attempt) in assigned {
            if let Some(Message::Assign {
                node: last,
                job,
                tasks,
                ..
            }) = changes.messages.last_mut()
                && *last == node
                && *job == id
            {
                tasks.push((index, attempt));
                continue;
            }
            let Some(job) = self.jobs.get(&id) else { continue };
            let spec = Arc::clone(&job.record.spec);
            changes.messages.push(Message::Assign {
                node,
                job: id,
                spec,
                tasks: vec![(index, attempt)],
            });
        }
    }

    fn insert(&mut self, id: JobId, job: ActiveJob) {
        self.jobs.insert(id, job);
        self.ages.insert(id, self.next_age);
        self.next_age += 1;
        self.enqueue(id);
    }

    /// Puts the job in line, if it has a task to hand out.
    fn enqueue(&mut self, id: JobId) {
        if let (Some(job), Some(&age)) = (self.jobs.get(&id), self.ages.get(&id))
            && job.assignable() > 0
        {
            self.turns.insert((job.assigned, age, id));
        }
    }

    /// Takes the job out of line; call before its count of assigned tasks changes.
    fn unqueue(&mut self, id: JobId) {
        if let (Some(job), Some(&age)) = (self.jobs.get(&id), self.ages.get(&id)) {
            self.turns.remove(&(job.assigned, age, id));
        }
    }
}

#[cfg(test)]
mod tests;

//! What nodes say: hello, how attempts stand, and what is missing.

use std::collections::BTreeSet;
use std::time::Duration;

use haul_types::{AttemptId, NodeName, Reason, TaskState};

use super::{Changes, Dispatch, Held, Message, Node};
use crate::task::{self, Update, UpdateEffect};

impl Dispatch {
    pub(super) fn on_connected(
        &mut self,
        name: &NodeName,
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
            self.on_missing(name, attempt, now, changes);
        }
    }

    /// A node that should have this attempt does not. If its script had not started as far as is known, the
    /// assignment was lost on the way, or all trace of it in a power cut: another attempt is safe, because the node
    /// says that nothing of this one is left. If it had started, it is lost, and says so.
    pub(super) fn on_missing(
        &mut self,
        node: &NodeName,
        attempt: AttemptId,
        now: u64,
        changes: &mut Changes,
    ) {
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

    pub(super) fn on_updates(
        &mut self,
        node: &NodeName,
        updates: &[Update],
        now: u64,
        changes: &mut Changes,
    ) {
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
    pub(super) fn release(&mut self, node: &NodeName, attempt: AttemptId) {
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
}

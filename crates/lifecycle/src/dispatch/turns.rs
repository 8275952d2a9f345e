//! Handing out: jobs in line, and the next task to the node with the most room.

use std::sync::Arc;

use haul_types::{Attempt, AttemptId, JobId, NodeName, TaskId, TaskIndex, TaskState};

use super::{Changes, Dispatch, Message, Node};
use crate::{placement, task};

impl Dispatch {
    /// Hands out what can be handed out.
    pub(super) fn place(&mut self, now: u64, changes: &mut Changes) {
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

    /// Puts the job in line, if it has a task to hand out.
    pub(super) fn enqueue(&mut self, id: JobId) {
        if let (Some(job), Some(&age)) = (self.jobs.get(&id), self.ages.get(&id))
            && job.assignable() > 0
        {
            self.turns.insert((job.assigned, age, id));
        }
    }

    /// Takes the job out of line; call before its count of assigned tasks changes.
    pub(super) fn unqueue(&mut self, id: JobId) {
        if let (Some(job), Some(&age)) = (self.jobs.get(&id), self.ages.get(&id)) {
            self.turns.remove(&(job.assigned, age, id));
        }
    }
}

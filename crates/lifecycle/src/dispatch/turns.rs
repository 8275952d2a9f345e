//! Handing out: whose turn it is, and where. The rules are in [`crate::placement`].

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use haul_types::{Attempt, AttemptId, JobId, TaskId, TaskIndex, TaskState};

use super::{Changes, Dispatch, Message};
use crate::clock::Now;
use crate::placement::fleet::{Node, NodeKey, PoolId};
use crate::placement::line::{ClassKey, Turn};
use crate::{placement, task};

/// Jobs at the head of a class whose short tasks may be sent ahead.
const AHEAD_JOBS: usize = 4;

/// What was handed out, in order.
type Assigned = Vec<(NodeKey, JobId, TaskIndex, Attempt)>;

impl Dispatch {
    /// Hands out what can be handed out.
    pub(super) fn place(&mut self, now: Now, changes: &mut Changes) {
        let mut assigned = Assigned::new();
        if self.line.becomes_mixed() {
            // Whoever has just come must not slip past those that wait already.
            self.keep_nodes();
        }
        loop {
            let roomier = self.fleet.take_roomier();
            if !roomier.is_empty() {
                self.line.unblock(&roomier);
            }
            let (listed, emptied) = self.line.take_listed();
            if listed.is_empty() && !emptied {
                break;
            }
            let mut turns: BinaryHeap<Reverse<(Turn, ClassKey)>> = listed.into_iter().map(Reverse).collect();
            while let Some(Reverse((turn, class))) = turns.pop() {
                let found = self
                    .fleet
                    .choose(class.pool, class.demand, |node| self.may_use(node, &turn));
                match found {
                    Some(node) => self.assign(turn.job, node, false, now, changes, &mut assigned),
                    None => {
                        self.send_ahead(class, now, changes, &mut assigned);
                        self.line.block(class);
                        continue;
                    }
                }
                if let Some(next) = self.line.first(class) {
                    turns.push(Reverse((next, class)));
                }
            }
            // What was put in line again by all this has been seen to.
            self.keep_nodes();
        }
        self.send(assigned, changes);
    }

    /// Whether the job of this turn may be placed on the node: it is not kept for somebody who goes before it.
    fn may_use(&self, node: &Node, turn: &Turn) -> bool {
        node.kept_for.is_none_or(|job| {
            job == turn.job || self.jobs.get(&job).is_none_or(|kept_for| kept_for.turn() > *turn)
        })
    }

    /// Sends short tasks of the first jobs of a class ahead, to the nodes that have just spoken and where the jobs have
    /// a place. Nobody behind passes one that has no place there.
    fn send_ahead(&mut self, class: ClassKey, now: Now, changes: &mut Changes, assigned: &mut Assigned) {
        // A node lets tasks that wait there begin as processors become free; it does not count memory.
        if class.demand.memory.0 > 0 {
            return;
        }
        for place in 0..changes.spoke.len() {
            let key = changes.spoke[place];
            for turn in self.line.first_few(class, AHEAD_JOBS) {
                let task_time = self.jobs.get(&turn.job).and_then(|job| job.task_time);
                let ahead = placement::ahead(task_time);
                let room = |dispatch: &Self| {
                    let node = dispatch.fleet.node(key)?;
                    let share = node.shares.get(&turn.job)?;
                    let usable = node.is_open() && dispatch.may_use(node, &turn);
                    let places = share.placed.min(node.holds(class.demand));
                    let limit = places.saturating_mul(ahead + 1);
                    Some(if usable {
                        limit.saturating_sub(share.total)
                    } else {
                        0
                    })
                };
                let Some(many) = room(self) else { break };
                for _ in 0..many {
                    if self.jobs.get(&turn.job).is_none_or(|job| job.assignable() == 0) {
                        break;
                    }
                    self.assign(turn.job, key, true, now, changes, assigned);
                }
            }
        }
    }

    fn assign(
        &mut self,
        id: JobId,
        key: NodeKey,
        ahead: bool,
        now: Now,
        changes: &mut Changes,
        assigned: &mut Assigned,
    ) {
        self.unqueue(id);
        let (Some(job), Some(node)) = (self.jobs.get_mut(&id), self.fleet.node(key)) else {
            return;
        };
        let Some(index) = job.next_queued() else { return };
        let created = job.record.created_unix_ms;
        let task = job
            .tasks
            .entry(index)
            .or_insert_with(|| task::queued(TaskId { job: id, index }, created));
        let attempt = task::assign(task, node.record.name.as_str(), now.unix_ms);
        changes.tasks.insert(task.id, task.clone());
        job.record
            .counts
            .shift(TaskState::Queued, TaskState::Preparing, 1);
        job.record.state = job.record.counts.summary();
        job.assigned += 1;
        job.requeued.remove(&index);
        if job.losses > 0 {
            job.handed_out_after.insert(index, job.losses);
        }
        changes.jobs.insert(id, job.record.clone());
        let demand = job.class.demand;
        self.fleet
            .hold(key, AttemptId::new(id, index, attempt), demand, ahead);
        assigned.push((key, id, index, attempt));
        self.enqueue(id);
    }

    /// Keeps a node for the first job of each pool that fits nowhere now and would fit somewhere; see
    /// [`crate::placement`].
    fn keep_nodes(&mut self) {
        let mut kept: BTreeSet<PoolId> = BTreeSet::new();
        let mut nodes: BTreeSet<NodeKey> = BTreeSet::new();
        // Where all that wait ask for the same, nobody can slip past the first.
        let blocked = if self.line.is_mixed() {
            self.line.blocked()
        } else {
            Vec::new()
        };
        for (turn, class) in blocked {
            if kept.contains(&class.pool) {
                continue;
            }
            let may_keep = |key: NodeKey| !nodes.contains(&key);
            let Some(key) = self.fleet.choose_to_keep(class.pool, class.demand, may_keep) else {
                continue;
            };
            kept.insert(class.pool);
            nodes.insert(key);
            self.fleet.keep(key, Some(turn.job));
            if let Some(before) = self.fleet.set_kept(class.pool, Some(key))
                && before != key
                && !nodes.contains(&before)
            {
                self.fleet.keep(before, None);
            }
        }
        let idle: Vec<(PoolId, NodeKey)> = self
            .fleet
            .keeping()
            .filter(|(pool, _)| !kept.contains(pool))
            .collect();
        for (pool, key) in idle {
            self.fleet.set_kept(pool, None);
            if !nodes.contains(&key) {
                self.fleet.keep(key, None);
            }
        }
    }

    /// Tells nodes of what was handed out; tasks of one job that go to one node together.
    fn send(&self, assigned: Assigned, changes: &mut Changes) {
        let mut last: Option<(NodeKey, JobId)> = None;
        for (key, id, index, attempt) in assigned {
            if last == Some((key, id))
                && let Some(Message::Assign { tasks, .. }) = changes.messages.last_mut()
            {
                tasks.push((index, attempt));
                continue;
            }
            let (Some(job), Some(node)) = (self.jobs.get(&id), self.fleet.node(key)) else {
                continue;
            };
            changes.messages.push(Message::Assign {
                node: node.record.name.clone(),
                job: id,
                spec: Arc::clone(&job.record.spec),
                tasks: vec![(index, attempt)],
            });
            last = Some((key, id));
        }
    }

    /// Puts the job in line, if it has a task to hand out.
    pub(super) fn enqueue(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get(&id)
            && job.assignable() > 0
        {
            self.line.insert(job.class, job.turn());
        }
    }

    /// Takes the job out of line; call before its count of assigned tasks changes.
    pub(super) fn unqueue(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get(&id) {
            self.line.remove(job.class, &job.turn());
        }
    }
}

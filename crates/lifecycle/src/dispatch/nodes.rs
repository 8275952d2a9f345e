//! What nodes say: hello, how attempts stand, and what is missing.

use std::collections::BTreeSet;
use std::time::Duration;

use haul_types::{
    AttemptId, JobRecord, Loss, NodeName, OnDisconnect, Reason, RetryPolicy, TaskRecord, TaskState,
};

use super::losses::QUARANTINE_AFTER;
use super::{Changes, Dispatch, FleetChange, Held, Hello, Message, Refused};
use crate::clock::Now;
use crate::placement::fleet::NodeKey;
use crate::task::{self, Update, UpdateEffect};

impl Dispatch {
    pub(super) fn on_connected(
        &mut self,
        hello: Hello,
        now: Now,
        changes: &mut Changes,
    ) -> Result<(), Refused> {
        let Hello {
            node: name,
            session,
            instance,
            inventory,
            held,
        } = hello;
        if let Some(known) = self.fleet.named(&name) {
            let other = !instance.is_empty() && !known.record.instance.is_empty();
            // Nothing is taken from an agent but by its own word, and this is not its word.
            if other && known.record.instance != instance && !known.attempts.is_empty() {
                let attempts = known.attempts.len();
                return Err(Refused::NameTaken { node: name, attempts });
            }
        }
        let key = self.fleet.ensure(&name);
        if let Some(node) = self.fleet.node_mut(key) {
            node.session = Some(session);
            if !instance.is_empty() {
                node.record.instance = instance;
            }
            node.record.inventory = inventory;
            node.record.last_seen_unix_ms = now.unix_ms;
            changes.fleet.push(FleetChange::PutNode(node.record.clone()));
            changes.news.extend(node.shares.keys());
        }
        self.fleet.regroup_node(key);
        changes.spoke.push(key);
        self.reconcile(key, &name, &held, now, changes);
        Ok(())
    }

    pub(super) fn on_disconnected(&mut self, name: &NodeName, session: u64, now: Now, changes: &mut Changes) {
        let Some(key) = self.fleet.key(name) else { return };
        let Some(node) = self
            .fleet
            .node_mut(key)
            .filter(|node| node.session == Some(session))
        else {
            return;
        };
        node.session = None;
        node.away_since = now.monotonic;
        node.record.last_seen_unix_ms = now.unix_ms;
        changes.fleet.push(FleetChange::PutNode(node.record.clone()));
        changes.news.extend(node.shares.keys());
        for job in node.shares.keys() {
            let policy = self
                .jobs
                .get(job)
                .map(|job| job.record.spec.scheduling.on_disconnect);
            if let Some(OnDisconnect::Replace { after }) = policy {
                self.timers.add_away(now.monotonic + after, key);
            }
        }
        self.fleet.reindex(key);
    }

    /// What a node holds, and what it should hold.
    fn reconcile(&mut self, key: NodeKey, name: &NodeName, held: &[Held], now: Now, changes: &mut Changes) {
        let Some(node) = self.fleet.node(key) else { return };
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
            self.on_missing(key, name, attempt, now, changes);
        }
    }

    /// A node that should have this attempt does not. If its script had not started as far as is known, the
    /// assignment was lost on the way, or all trace of it in a power cut: another attempt is safe, because the node
    /// says that nothing of this one is left. If it had started, it is lost.
    fn on_missing(
        &mut self,
        key: NodeKey,
        node: &NodeName,
        attempt: AttemptId,
        now: Now,
        changes: &mut Changes,
    ) {
        self.release(key, attempt, changes);
        let preparing = self
            .task(attempt.task)
            .is_some_and(|task| task.state == TaskState::Preparing);
        if preparing {
            let detail = format!("the assignment did not reach {node}");
            self.lose(attempt, Loss::Unstarted, &detail, now, changes);
        } else {
            let detail = format!("{node} came back without it; how far it came is unknown");
            self.lose(attempt, Loss::Lost, &detail, now, changes);
        }
    }

    pub(super) fn on_updates(
        &mut self,
        node: &NodeName,
        updates: &[Update],
        now: Now,
        changes: &mut Changes,
    ) {
        let Some(key) = self.fleet.key(node) else { return };
        changes.spoke.push(key);
        let mut touched = BTreeSet::new();
        for update in updates {
            let AttemptId { task: id, .. } = update.attempt;
            let current = self
                .fleet
                .node(key)
                .is_some_and(|node| node.attempts.contains(&update.attempt));
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
            let failed = update.state == TaskState::Failed;
            let verdict = if failed {
                verdict(job_policy(&job.record), task, update)
            } else {
                Verdict::Taken
            };
            if let Verdict::Again(detail) = verdict {
                self.release(key, update.attempt, changes);
                changes.acknowledged.push(update.attempt);
                self.requeue(id, Reason::Retried, &detail, now, changes);
                self.strike(id, update.reason == Reason::Lost, now, changes);
                touched.insert(id.job);
                continue;
            }
            let poison = (verdict == Verdict::Poison).then(|| Update {
                reason: Reason::Quarantined,
                detail: format!("{}; {QUARANTINE_AFTER} of its attempts ended so", update.detail),
                ..update.clone()
            });
            let strikes = failed && update.reason == Reason::Lost;
            let update = poison.as_ref().unwrap_or(update);
            let before = task.state;
            if task::apply(task, update, now.unix_ms) != UpdateEffect::Moved {
                continue;
            }
            let after = task.state;
            job.record.counts.shift(before, after, 1);
            changes.tasks.insert(id, task.clone());
            if after.is_terminal() {
                let ended = task.timeline.last().map_or(now.unix_ms, |last| last.at_unix_ms);
                let begun = task
                    .timeline
                    .iter()
                    .rev()
                    .find(|step| step.state == TaskState::Running);
                let took = begun.map(|begun| Duration::from_millis(ended.saturating_sub(begun.at_unix_ms)));
                took.into_iter().for_each(|took| job.observe_task_time(took));
                if after == TaskState::Succeeded {
                    job.strikes = 0;
                }
                let struck = strikes || job.losses > 0;
                job.tasks.remove(&id.index);
                self.release(key, update.attempt, changes);
                changes.acknowledged.push(update.attempt);
                if struck {
                    self.strike(id, strikes, now, changes);
                }
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
    pub(super) fn release(&mut self, key: NodeKey, attempt: AttemptId, changes: &mut Changes) {
        if !self.fleet.release(key, attempt) {
            return;
        }
        self.unqueue(attempt.task.job);
        if let Some(job) = self.jobs.get_mut(&attempt.task.job) {
            job.assigned = job.assigned.saturating_sub(1);
        }
        self.enqueue(attempt.task.job);
        self.end_drain(key, changes);
    }
}

/// What is to be done about a failure that a node tells of.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is the task's end.
    Taken,
    /// It is the task's end, and it will do no more harm.
    Poison,
    /// The task is tried again; what came of this attempt, in words.
    Again(String),
}

/// How a job's tasks may be tried again; not at all, once nothing more of it is wanted.
fn job_policy(record: &JobRecord) -> Option<RetryPolicy> {
    let wanted = record.given_up.is_none() && !record.cancel_requested;
    wanted.then_some(record.spec.scheduling.retries)
}

fn verdict(policy: Option<RetryPolicy>, task: &TaskRecord, update: &Update) -> Verdict {
    let Some(policy) = policy.filter(|_| !task.cancel_requested) else {
        return Verdict::Taken;
    };
    // That a snapshot cannot be unpacked is no fault of the job's, though another attempt may well meet it again.
    let loss = match update.reason {
        Reason::Lost | Reason::SnapshotFailed => Loss::Lost,
        _ => Loss::Failed,
    };
    if update.reason == Reason::Lost && task::lost_runs(task) + 1 >= QUARANTINE_AFTER {
        return Verdict::Poison;
    }
    if task::retries(task) >= policy.allowed(loss) {
        return Verdict::Taken;
    }
    let words = match update.exit {
        Some(exit) if update.detail.is_empty() => exit.to_string(),
        Some(exit) if !update.detail.contains(&exit.to_string()) => format!("{}: {exit}", update.detail),
        _ => update.detail.clone(),
    };
    Verdict::Again(format!("attempt {} failed: {words}", task.attempt))
}

//! What happens because time has passed: tasks that waited too long, and tasks whose node stayed away too long.
//!
//! A timer that goes off is a reason to look, never a fact: what it was set for may have changed since.

use std::collections::BTreeSet;
use std::time::Duration;

use haul_types::{AttemptId, JobId, OnDisconnect, Reason, TaskIndex, TaskState};

use super::{Changes, Dispatch};
use crate::clock::Now;
use crate::job::ActiveJob;
use crate::placement::fleet::NodeKey;
use crate::task;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Tasks of this job may have waited for too long.
    Queue(JobId),
    /// This node may have been away for too long.
    Away(NodeKey),
}

/// When to look at what.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Duration, Timer)>);

impl Timers {
    pub(super) fn add_queue(&mut self, at: Duration, job: JobId) {
        self.0.insert((at, Timer::Queue(job)));
    }

    pub(super) fn add_away(&mut self, at: Duration, node: NodeKey) {
        self.0.insert((at, Timer::Away(node)));
    }

    /// Sets the limits of a job's queued tasks: of those that were never handed out from its submission on, of the
    /// others from the time that they came back. A job from the store has waited already, as the wall clock tells.
    pub(super) fn restore(&mut self, job: &mut ActiveJob, now: Now) {
        let Some(limit) = job.record.spec.scheduling.queue_timeout else {
            return;
        };
        let deadline = |since_unix_ms: u64| {
            let waited = Duration::from_millis(now.unix_ms.saturating_sub(since_unix_ms));
            now.monotonic + limit.saturating_sub(waited)
        };
        let first = deadline(job.record.created_unix_ms);
        job.queue_deadline = Some(first);
        self.add_queue(first, job.record.id);
        let queued = job.tasks.values().filter(|task| task.state == TaskState::Queued);
        for task in queued {
            let since = task.timeline.last().map_or(0, |last| last.at_unix_ms);
            job.requeued.insert(task.id.index, deadline(since));
            self.add_queue(deadline(since), job.record.id);
        }
    }

    fn take_due(&mut self, now: Duration) -> Option<Timer> {
        let &(at, timer) = self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first();
        Some(timer)
    }
}

impl Dispatch {
    /// When [`super::Event::Tick`] is due, by the monotonic clock; any other event does as well.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.0.first().map(|&(at, _)| at)
    }

    pub(super) fn on_time(&mut self, now: Now, changes: &mut Changes) {
        while let Some(timer) = self.timers.take_due(now.monotonic) {
            match timer {
                Timer::Queue(job) => self.on_queue_deadline(job, now, changes),
                Timer::Away(node) => self.on_away(node, now, changes),
            }
        }
    }

    fn on_queue_deadline(&mut self, id: JobId, now: Now, changes: &mut Changes) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(limit) = job.record.spec.scheduling.queue_timeout else {
            return;
        };
        let first = job.queue_deadline.is_some_and(|at| at <= now.monotonic);
        if first {
            job.queue_deadline = None;
            // Once tasks have waited too long for their first attempt, no other task is started either.
            if job.has_untouched() && job.record.given_up.is_none() {
                job.record.given_up = Some(Reason::QueueTimedOut);
            }
            job.drop_untouched_as(TaskState::Failed);
        }
        let all = first && job.record.given_up.is_some();
        let overdue: Vec<TaskIndex> = job
            .tasks
            .values()
            .filter(|task| task.state == TaskState::Queued)
            .map(|task| task.id.index)
            .filter(|index| all || job.requeued.get(index).map_or(first, |&at| at <= now.monotonic))
            .collect();
        let detail = format!("no node took it within its limit of {limit:?}");
        for index in overdue {
            self.end_queued(id, index, Reason::QueueTimedOut, &detail, now, changes);
        }
        self.settle(id, now, changes);
    }

    /// Ends a task that waits.
    pub(super) fn end_queued(
        &mut self,
        id: JobId,
        index: TaskIndex,
        reason: Reason,
        detail: &str,
        now: Now,
        changes: &mut Changes,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(task) = job.tasks.get_mut(&index) else {
            return;
        };
        task::end(task, TaskState::Failed, reason, detail, now.unix_ms);
        job.record.counts.shift(TaskState::Queued, TaskState::Failed, 1);
        changes.tasks.insert(task.id, task.clone());
        job.tasks.remove(&index);
        job.requeued.remove(&index);
    }

    /// A node has been away for a time: the attempts whose jobs do not wait any longer are given up.
    fn on_away(&mut self, key: NodeKey, now: Now, changes: &mut Changes) {
        let Some(node) = self.fleet.node(key).filter(|node| node.session.is_none()) else {
            return;
        };
        let away = now.monotonic.saturating_sub(node.away_since);
        let name = node.record.name.clone();
        let attempts: Vec<AttemptId> = node.attempts.iter().copied().collect();
        for attempt in attempts {
            let job = self.jobs.get(&attempt.task.job);
            let policy = job.map(|job| {
                (
                    job.record.spec.scheduling.on_disconnect,
                    job.record.cancel_requested,
                )
            });
            let Some((OnDisconnect::Replace { after }, false)) = policy else {
                continue;
            };
            if after <= away {
                let detail =
                    format!("{name} could not be reached for {after:?}: another attempt takes its place");
                self.release(key, attempt, changes);
                self.requeue(attempt.task, Reason::Replaced, &detail, now, changes);
                self.settle(attempt.task.job, now, changes);
            }
        }
    }
}

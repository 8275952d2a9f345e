//! Attempts that came to nothing: whether the task is tried again, and when enough is enough.
//!
//! A job whose runs take agents or supervisors down again and again is *quarantined*: nothing more of it is started,
//! whatever its retries allow, so that it cannot keep nodes from others.

use haul_types::{AttemptId, JobId, Loss, Reason, TaskId, TaskIndex, TaskState};

use super::{Changes, Dispatch};
use crate::clock::Now;
use crate::task;

/// So many lost runs of one task, or of one job without any success in between, are enough.
pub(super) const QUARANTINE_AFTER: u32 = 3;

impl Dispatch {
    /// An attempt that has been released came to nothing: another one waits, or the task has failed.
    pub(super) fn lose(
        &mut self,
        attempt: AttemptId,
        loss: Loss,
        detail: &str,
        now: Now,
        changes: &mut Changes,
    ) {
        let AttemptId { task: id, .. } = attempt;
        let Some(job) = self.jobs.get_mut(&id.job) else {
            return;
        };
        let Some(task) = job.tasks.get_mut(&id.index) else {
            return;
        };
        let before = task.state;
        let strike = loss == Loss::Lost && before > TaskState::Preparing;
        let canceled = task.cancel_requested || job.record.cancel_requested;
        let poison = strike && !canceled && task::lost_runs(task) + 1 >= QUARANTINE_AFTER;
        if canceled {
            task::end(
                task,
                TaskState::Canceled,
                Reason::CanceledByUser,
                "canceled",
                now.unix_ms,
            );
        } else if poison {
            let detail = format!("{detail}; {QUARANTINE_AFTER} of its attempts ended so");
            task::end(task, TaskState::Failed, Reason::Quarantined, &detail, now.unix_ms);
        } else if job.record.given_up.is_none()
            && task::retries(task) < job.record.spec.scheduling.retries.allowed(loss)
        {
            self.requeue(id, Reason::Retried, detail, now, changes);
            self.strike(id, strike, now, changes);
            self.settle(id.job, now, changes);
            return;
        } else {
            task::end(task, TaskState::Failed, Reason::Lost, detail, now.unix_ms);
        }
        job.record.counts.shift(before, task.state, 1);
        changes.tasks.insert(id, task.clone());
        job.tasks.remove(&id.index);
        self.strike(id, strike && !canceled, now, changes);
        self.settle(id.job, now, changes);
    }

    /// The task waits for another attempt.
    pub(super) fn requeue(
        &mut self,
        id: TaskId,
        reason: Reason,
        detail: &str,
        now: Now,
        changes: &mut Changes,
    ) {
        let Some(job) = self.jobs.get_mut(&id.job) else {
            return;
        };
        let Some(task) = job.tasks.get_mut(&id.index) else {
            return;
        };
        let before = task.state;
        task::requeue(task, reason, detail, now.unix_ms);
        job.record.counts.shift(before, TaskState::Queued, 1);
        changes.tasks.insert(id, task.clone());
        if let Some(limit) = job.record.spec.scheduling.queue_timeout {
            let deadline = now.monotonic + limit;
            job.requeued.insert(id.index, deadline);
            self.timers.add_queue(deadline, id.job);
        }
    }

    /// Counts a lost run against its job, unless it was lost together with one that was counted.
    pub(super) fn strike(&mut self, id: TaskId, counts: bool, now: Now, changes: &mut Changes) {
        let Some(job) = self.jobs.get_mut(&id.job) else {
            return;
        };
        let handed_out_after = job.handed_out_after.remove(&id.index).unwrap_or(0);
        if !counts || handed_out_after < job.losses {
            return;
        }
        job.losses += 1;
        job.strikes += 1;
        if job.strikes >= QUARANTINE_AFTER && job.record.given_up.is_none() {
            self.quarantine(id.job, now, changes);
        }
    }

    fn quarantine(&mut self, id: JobId, now: Now, changes: &mut Changes) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.record.given_up = Some(Reason::Quarantined);
        job.drop_untouched_as(TaskState::Failed);
        let waiting = job.tasks.values().filter(|task| task.state == TaskState::Queued);
        let waiting: Vec<TaskIndex> = waiting.map(|task| task.id.index).collect();
        let detail =
            format!("the job's attempts were lost {QUARANTINE_AFTER} times with their agent or supervisor");
        for index in waiting {
            self.end_queued(id, index, Reason::Quarantined, &detail, now, changes);
        }
    }
}

//! A job that has not ended: its record, its tasks in progress, and those that nothing has happened to yet.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use haul_types::{JobRecord, TaskId, TaskIndex, TaskRecord, TaskState};

use crate::placement::line::{ClassKey, Turn};
use crate::task;

/// A job in the controller's memory. Tasks that have ended are forgotten here; they are in the store.
#[derive(Debug)]
pub(crate) struct ActiveJob {
    pub(crate) record: JobRecord,
    /// Tasks that have a record and have not ended.
    pub(crate) tasks: BTreeMap<TaskIndex, TaskRecord>,
    /// Indices that nothing has happened to, in order; most often one range.
    untouched: Vec<Range<TaskIndex>>,
    /// How many tasks hold a place on a node.
    pub(crate) assigned: u32,
    /// How long its tasks take on a node, smoothed; `None` before the first has ended.
    pub(crate) task_time: Option<Duration>,
    /// What its tasks ask for.
    pub(crate) class: ClassKey,
    /// The order of submission.
    pub(crate) age: u64,
    /// By when its tasks must have left the queue, by the monotonic clock.
    pub(crate) queue_deadline: Option<Duration>,
    /// The same of tasks that came back into it.
    pub(crate) requeued: BTreeMap<TaskIndex, Duration>,
    /// How often its attempts were lost since the last of its tasks that succeeded, and in all. Those that were lost
    /// together count once: an attempt belongs to the loss that came after it was handed out.
    pub(crate) strikes: u32,
    pub(crate) losses: u32,
    /// How many losses there had been when a task was handed out; none where it is not said.
    pub(crate) handed_out_after: BTreeMap<TaskIndex, u32>,
}

impl ActiveJob {
    /// A job whose untouched tasks are those of `untouched`.
    pub(crate) fn new(
        record: JobRecord,
        tasks: Vec<TaskRecord>,
        untouched: impl DoubleEndedIterator<Item = Range<TaskIndex>>,
        class: ClassKey,
        age: u64,
    ) -> Self {
        let assigned = tasks
            .iter()
            .filter(|task| task.state != TaskState::Queued)
            .count();
        Self {
            record,
            tasks: tasks.into_iter().map(|task| (task.id.index, task)).collect(),
            untouched: untouched.rev().filter(|range| !range.is_empty()).collect(),
            assigned: u32::try_from(assigned).unwrap_or(u32::MAX),
            task_time: None,
            class,
            age,
            queue_deadline: None,
            requeued: BTreeMap::new(),
            strikes: 0,
            losses: 0,
            handed_out_after: BTreeMap::new(),
        }
    }

    /// Its place in the line.
    pub(crate) fn turn(&self) -> Turn {
        Turn {
            priority: Reverse(self.record.spec.scheduling.priority),
            assigned: self.assigned,
            age: self.age,
            job: self.record.id,
        }
    }

    /// How many tasks may still be handed out now.
    pub(crate) fn assignable(&self) -> u32 {
        if self.record.cancel_requested || self.record.given_up.is_some() {
            return 0;
        }
        let limit = self
            .record
            .spec
            .array
            .and_then(|array| array.parallel)
            .unwrap_or(u32::MAX);
        self.record
            .counts
            .of(TaskState::Queued)
            .min(limit.saturating_sub(self.assigned))
    }

    /// The next task to hand out: one that waits again before one that has not been touched.
    pub(crate) fn next_queued(&mut self) -> Option<TaskIndex> {
        // A retried task is in `tasks` as queued; there are few of them, and none in the usual case.
        let retried = self.record.counts.of(TaskState::Queued) > self.untouched_len();
        if retried && let Some(task) = self.tasks.values().find(|task| task.state == TaskState::Queued) {
            return Some(task.id.index);
        }
        let range = self.untouched.last_mut()?;
        let index = range.start;
        range.start += 1;
        if range.start == range.end {
            self.untouched.pop();
        }
        Some(index)
    }

    /// Takes one index out of those untouched; whether it was among them.
    pub(crate) fn touch(&mut self, index: TaskIndex) -> bool {
        let Some(place) = self.untouched.iter().position(|range| range.contains(&index)) else {
            return false;
        };
        let range = self.untouched.remove(place);
        for part in [index + 1..range.end, range.start..index] {
            if !part.is_empty() {
                self.untouched.insert(place, part);
            }
        }
        // `insert` twice at one place leaves the later part first, which keeps the reversed order.
        self.untouched.sort_by_key(|range| Reverse(range.start));
        true
    }

    /// Gives up every untouched task: from now on a task without a record counts as one in `state`. The one task of a
    /// plain job gets its record instead, so that its timeline says what happened.
    pub(crate) fn drop_untouched_as(&mut self, state: TaskState) {
        let many = self.untouched_len();
        self.untouched.clear();
        if self.record.spec.array.is_none() && many == 1 {
            let id = TaskId {
                job: self.record.id,
                index: 0,
            };
            let task = task::queued(id, self.record.created_unix_ms);
            self.tasks.insert(0, task);
        } else {
            self.record.counts.shift(TaskState::Queued, state, many);
        }
    }

    /// Whether there are tasks that nothing has happened to.
    pub(crate) fn has_untouched(&self) -> bool {
        !self.untouched.is_empty()
    }

    fn untouched_len(&self) -> u32 {
        self.untouched.iter().map(|range| range.end - range.start).sum()
    }

    /// Notes how long a task took on a node.
    pub(crate) fn observe_task_time(&mut self, took: Duration) {
        self.task_time = Some(self.task_time.map_or(took, |mean| (mean * 7 + took) / 8));
    }
}

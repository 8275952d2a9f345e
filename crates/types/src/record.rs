//! What the controller keeps of jobs and tasks, and shows of them.

use serde::{Deserialize, Serialize};

use crate::{Attempt, Digest, ExitStatus, JobId, JobSpec, Reason, TaskId, TaskState, Transition};

/// A job as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The job.
    pub id: JobId,
    /// Who submitted it: the name of a user's token; none for the controller's own user.
    #[serde(default)]
    pub owner: Option<String>,
    /// What was submitted; shared, because it never changes.
    pub spec: std::sync::Arc<JobSpec>,
    /// When it was stored, by the controller's clock, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// When it ended, likewise.
    pub ended_unix_ms: Option<u64>,
    /// The state of the whole.
    pub state: TaskState,
    /// Tasks in each state, at the place of the state's number minus one.
    pub counts: TaskCounts,
    /// Somebody asked for the whole job to stop: a task that has no record of its own counts as canceled.
    pub cancel_requested: bool,
    /// Nothing more of it is started, for this reason: a task that has no record of its own counts as failed.
    #[serde(default)]
    pub given_up: Option<Reason>,
}

/// Tasks in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskCounts(pub [u32; 7]);

impl TaskCounts {
    /// How many tasks are in `state`.
    #[must_use]
    pub const fn of(&self, state: TaskState) -> u32 {
        self.0[state as usize - 1]
    }

    /// `many` tasks went from one state to another.
    pub const fn shift(&mut self, from: TaskState, to: TaskState, many: u32) {
        self.0[from as usize - 1] -= many;
        self.0[to as usize - 1] += many;
    }

    /// All tasks of the job.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.0.iter().sum()
    }

    /// The state of a job whose tasks are so distributed: that of its one task; of several, `running` while any is
    /// in progress or some have ended and others wait; at the end `failed` if any failed, else `canceled` if any
    /// was canceled, else `succeeded`.
    #[must_use]
    pub fn summary(&self) -> TaskState {
        let total = self.total();
        if let Some(all) = TaskState::ALL.into_iter().find(|&state| self.of(state) == total) {
            return all;
        }
        if TaskState::ALL
            .into_iter()
            .any(|state| !state.is_terminal() && self.of(state) > 0)
        {
            return TaskState::Running;
        }
        if self.of(TaskState::Failed) > 0 {
            TaskState::Failed
        } else {
            TaskState::Canceled
        }
    }
}

/// One task. A task of an array has a record only once something has happened to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The task.
    pub id: TaskId,
    /// Where it stands.
    pub state: TaskState,
    /// The current attempt; 0 before the first.
    pub attempt: Attempt,
    /// The node that has it, or had it last.
    pub node: Option<String>,
    /// How its process ended.
    pub exit: Option<ExitStatus>,
    /// Somebody asked for it to stop.
    pub cancel_requested: bool,
    /// Each change of state, oldest first.
    pub timeline: Vec<Transition>,
    /// The snapshot of `./outputs`.
    pub outputs: Option<Digest>,
    /// The snapshot of `./logs`.
    pub logs: Option<Digest>,
    /// Bytes in its streams at the end: setup, stdout, stderr.
    pub stream_lengths: [u64; 3],
}

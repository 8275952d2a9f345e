//! Rows as the rest of the controller sees them.

use std::ops::RangeInclusive;

use haul_types::{Digest, ExitStatus, JobId, JobSpec, TaskId, TaskIndex, TaskState, Transition};

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// What was asked for.
    pub spec: JobSpec,
    /// When it was submitted, in milliseconds since 1970; for display.
    pub created_unix_ms: u64,
    /// The state of the whole job.
    pub state: TaskState,
    /// How many of its tasks are in each state, in the order of [`TaskState::ALL`]; those without a row are queued.
    pub counts: [u32; 7],
    /// When its last task ended.
    pub ended_unix_ms: Option<u64>,
}

/// A line of a list of jobs: a [`JobRow`] without its specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSummary {
    /// Its id.
    pub id: JobId,
    /// Its name for people.
    pub name: String,
    /// When it was submitted, in milliseconds since 1970; for display.
    pub created_unix_ms: u64,
    /// The state of the whole job.
    pub state: TaskState,
    /// How many of its tasks are in each state, in the order of [`TaskState::ALL`].
    pub counts: [u32; 7],
    /// When its last task ended.
    pub ended_unix_ms: Option<u64>,
    /// Its place in the list.
    pub cursor: JobCursor,
}

/// A place in the list of jobs, which stays where it is when jobs come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobCursor(u64);

impl JobCursor {
    /// The place as a number, to be handed to a client and back.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The place of that number.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// Which jobs to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFilter {
    /// In one of these states; in any if there are none.
    pub states: Vec<TaskState>,
    /// At most so many.
    pub limit: usize,
    /// Older than the job at this place: the last one of the page before.
    pub before: Option<JobCursor>,
}

/// A task that has left the queue at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    /// Its id.
    pub id: TaskId,
    /// Where it stands.
    pub state: TaskState,
    /// The latest try at it.
    pub attempt: u32,
    /// The node that has or had the latest try.
    pub node: Option<String>,
    /// How its process ended.
    pub exit: Option<ExitStatus>,
    /// Every state it was in, in order.
    pub timeline: Vec<Transition>,
    /// The snapshot of its outputs.
    pub outputs: Option<Digest>,
    /// The snapshot of its streams, once they have been packed.
    pub logs: Option<Digest>,
    /// The bytes of its streams in the latest try: setup, stdout, stderr.
    pub stream_lengths: [u64; 3],
}

/// Which tasks of a job to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFilter {
    /// In one of these states; in any if there are none.
    pub states: Vec<TaskState>,
    /// From this index on.
    pub from_index: TaskIndex,
    /// At most so many.
    pub limit: usize,
}

/// A job that has not ended, with what a controller needs to go on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveJob {
    /// The job.
    pub job: JobRow,
    /// Its tasks that have a row and have not ended, by index.
    pub open: Vec<TaskRow>,
    /// The indices of its tasks that have ended, in order; none of these ranges touches the next.
    pub ended: Vec<RangeInclusive<TaskIndex>>,
}

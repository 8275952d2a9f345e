//! Rows as the rest of the controller sees them.

use std::ops::RangeInclusive;

use haul_types::{JobId, JobRecord, TaskCounts, TaskIndex, TaskRecord, TaskState};

/// A line of a list of jobs: a [`JobRecord`] without its specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSummary {
    /// Its id.
    pub id: JobId,
    /// Its name for people.
    pub name: String,
    /// Who submitted it; none for the controller's own user.
    pub owner: Option<String>,
    /// When it was submitted, in milliseconds since 1970; for display.
    pub created_unix_ms: u64,
    /// The state of the whole job.
    pub state: TaskState,
    /// How many of its tasks are in each state.
    pub counts: TaskCounts,
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
    pub job: JobRecord,
    /// Its tasks that have a row and have not ended, by index.
    pub open: Vec<TaskRecord>,
    /// The indices of its tasks that have ended, in order; none of these ranges touches the next.
    pub ended: Vec<RangeInclusive<TaskIndex>>,
}

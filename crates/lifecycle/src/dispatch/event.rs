//! What the dispatcher is told, and what it answers.

use std::sync::Arc;

use haul_types::{Attempt, AttemptId, JobId, JobRecord, JobSpec, NodeName, TaskId, TaskIndex, TaskRecord};

use crate::task::Update;

/// What happens to a controller.
#[derive(Clone, Debug)]
pub enum Event {
    /// A user submits a job.
    Submit {
        /// Its id, new.
        id: JobId,
        /// What to run.
        spec: Arc<JobSpec>,
    },
    /// A user wants a job, or one task of it, to stop.
    Cancel {
        /// The job.
        job: JobId,
        /// The task; all of them when absent.
        task: Option<TaskIndex>,
    },
    /// An agent said hello.
    Connected {
        /// Its node.
        node: NodeName,
        /// Tells this session from the ones before.
        session: u64,
        /// Tasks that it runs at a time.
        slots: u32,
        /// What it holds.
        held: Vec<Held>,
    },
    /// An agent's session ended.
    Disconnected {
        /// Its node.
        node: NodeName,
        /// The session.
        session: u64,
    },
    /// A node says how its attempts stand.
    Updates {
        /// The node.
        node: NodeName,
        /// In order of time.
        updates: Vec<Update>,
    },
}

/// An attempt that a node holds when it says hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The attempt.
    pub attempt: AttemptId,
    /// Whether the store knows that it has ended, which this crate cannot.
    pub stored_as_ended: bool,
}

/// What is to be sent, once the records are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Run these tasks of one job.
    Assign {
        /// To whom.
        node: NodeName,
        /// The job.
        job: JobId,
        /// What to run.
        spec: Arc<JobSpec>,
        /// Which tasks, and which attempt at each.
        tasks: Vec<(TaskIndex, Attempt)>,
    },
    /// Stop this attempt.
    Stop {
        /// To whom.
        node: NodeName,
        /// Which.
        attempt: AttemptId,
    },
    /// The end is stored.
    Acknowledge {
        /// To whom.
        node: NodeName,
        /// Which.
        attempts: Vec<AttemptId>,
    },
    /// The hello is taken.
    Welcome {
        /// To whom.
        node: NodeName,
        /// What the node holds and nobody wants.
        unwanted: Vec<AttemptId>,
    },
}

/// What a step asks for.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Jobs as they are now, each once.
    pub jobs: Vec<JobRecord>,
    /// Tasks as they are now, each once.
    pub tasks: Vec<TaskRecord>,
    /// To be sent when those are durable, in order.
    pub messages: Vec<Message>,
}

/// Why an event was refused; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The job is not among those that have not ended.
    #[error("no job {0} is in progress")]
    UnknownJob(JobId),
    /// The job has no such task, or it has ended.
    #[error("task {0} is not in progress")]
    UnknownTask(TaskId),
    /// A job of this id is in progress already.
    #[error("job {0} is there already")]
    DuplicateJob(JobId),
}

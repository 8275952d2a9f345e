//! What the dispatcher is told, and what it answers.

use std::sync::Arc;

use haul_types::{
    Admission, Attempt, AttemptId, Inventory, JobId, JobRecord, JobSpec, NodeName, NodeRecord, TargetName,
    TargetRecord, TaskId, TaskIndex, TaskRecord,
};

use crate::task::Update;

/// What happens to a controller.
#[derive(Clone, Debug)]
pub enum Event {
    /// A user submits a job.
    Submit {
        /// Its id, new.
        id: JobId,
        /// Who submits it; none for the controller's own user.
        owner: Option<String>,
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
    Connected(Box<Hello>),
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
    /// Somebody says whether a node is to be given work.
    Admit {
        /// The node.
        node: NodeName,
        /// Whether it is.
        admission: Admission,
    },
    /// A node is gone for good, and all that it had with it.
    RemoveNode {
        /// The node.
        node: NodeName,
        /// Even if it is connected: whoever says so cuts its session off.
        connected: bool,
    },
    /// A target is declared.
    PutTarget(TargetRecord),
    /// A node joined by a token that puts it into a target.
    Enlist {
        /// The target; declared if need be.
        target: TargetName,
        /// The node.
        node: NodeName,
    },
    /// A target is taken back.
    RemoveTarget(TargetName),
    /// Time has passed: see [`super::Dispatch::next_deadline`].
    Tick,
}

/// An agent's hello.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Its node.
    pub node: NodeName,
    /// Tells this session from the ones before.
    pub session: u64,
    /// What tells its state directory from every other; empty if it does not say.
    pub instance: String,
    /// What it has.
    pub inventory: Inventory,
    /// What it holds.
    pub held: Vec<Held>,
}

/// What is to be stored of nodes and targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetChange {
    /// A node as it is now.
    PutNode(NodeRecord),
    /// A node is forgotten.
    RemoveNode(NodeName),
    /// A target as it is now.
    PutTarget(TargetRecord),
    /// A target is forgotten.
    RemoveTarget(TargetName),
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
    /// What changed of nodes and targets, in order.
    pub fleet: Vec<FleetChange>,
    /// Jobs whose nodes came or went, though no record of theirs changed.
    pub news: Vec<JobId>,
    /// To be sent when those are durable, in order.
    pub messages: Vec<Message>,
}

/// Why an event was refused; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// There is no such node.
    #[error("there is no node {0}")]
    UnknownNode(NodeName),
    /// The node is connected, so it is not gone.
    #[error("node {0} is connected: stop its agent first, so that no job of its is harmed")]
    NodeConnected(NodeName),
    /// There is neither a target nor a node of that name.
    #[error("there is no target or node {target}{}", enumerated(.known))]
    UnknownTarget {
        /// What was asked for.
        target: TargetName,
        /// What there is.
        known: Vec<String>,
    },
    /// Another target of that name is declared.
    #[error("target {0} is declared already, and is another one: remove it first")]
    DuplicateTarget(TargetName),
    /// Another agent has the name, and jobs.
    #[error(
        "node {node} is known as another agent, which has {attempts} jobs: give this one another name; or, if that \
         one is gone for good, say so by `haul node rm {node}`"
    )]
    NameTaken {
        /// The name.
        node: NodeName,
        /// What the other one has.
        attempts: usize,
    },
}

/// What there is, in words.
fn enumerated(names: &[String]) -> String {
    if names.is_empty() {
        "; there is none yet".to_owned()
    } else {
        format!("; there are {}", names.join(", "))
    }
}

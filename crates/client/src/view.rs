//! Jobs and tasks as a controller shows them.

use haul_proto::{BadMessage, optional_digest, task_state, v1};
use haul_types::{
    Attempt, Digest, ExitStatus, JobId, StreamKind, TaskCounts, TaskIndex, TaskState, Transition,
};

/// A job as a whole, without what was submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The job.
    pub id: JobId,
    /// Its name, for people; whatever its submitter wrote.
    pub name: String,
    /// Who submitted it; none for the controller's own user.
    pub owner: Option<String>,
    /// The state of the whole.
    pub state: TaskState,
    /// When it was stored, by the controller's clock, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// When it ended, likewise.
    pub ended_unix_ms: Option<u64>,
    /// Tasks in each state.
    pub counts: TaskCounts,
}

impl TryFrom<&v1::Job> for Job {
    type Error = BadMessage;

    fn try_from(message: &v1::Job) -> Result<Self, BadMessage> {
        let counts = <[u32; 7]>::try_from(message.counts.as_slice()).map_err(|_| BadMessage {
            field: "counts",
            problem: "are not 7 numbers".to_owned(),
        })?;
        Ok(Self {
            id: haul_proto::job_id(&message.id)?,
            name: message
                .spec
                .as_ref()
                .map(|spec| spec.name.clone())
                .unwrap_or_default(),
            owner: Some(message.owner.clone()).filter(|owner| !owner.is_empty()),
            state: task_state(message.state)?,
            created_unix_ms: message.created_unix_ms,
            ended_unix_ms: Some(message.ended_unix_ms).filter(|&ms| ms > 0),
            counts: TaskCounts(counts),
        })
    }
}

/// One task of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its index; 0 in a job without an array.
    pub index: TaskIndex,
    /// Where it stands.
    pub state: TaskState,
    /// The current attempt; 0 before the first.
    pub attempt: Attempt,
    /// The node that has it, or had it last.
    pub node: Option<String>,
    /// How its process ended.
    pub exit: Option<ExitStatus>,
    /// Each change of state, oldest first.
    pub timeline: Vec<Transition>,
    /// The snapshot of `./outputs`.
    pub outputs: Option<Digest>,
    /// The snapshot of `./logs`.
    pub logs: Option<Digest>,
    /// Bytes in its streams: setup, stdout, stderr.
    pub stream_lengths: [u64; 3],
    /// Whether its node cannot be reached now.
    pub unreachable: bool,
}

impl Task {
    /// The last change of state: what it does now, or how it ended.
    #[must_use]
    pub fn last(&self) -> Option<&Transition> {
        self.timeline.last()
    }

    /// Bytes in one of its streams.
    #[must_use]
    pub const fn stream_length(&self, stream: StreamKind) -> u64 {
        self.stream_lengths[stream as usize - 1]
    }
}

impl TryFrom<v1::Task> for Task {
    type Error = BadMessage;

    fn try_from(message: v1::Task) -> Result<Self, BadMessage> {
        let mut stream_lengths = [0; 3];
        for (place, length) in stream_lengths.iter_mut().zip(message.stream_lengths) {
            *place = length;
        }
        Ok(Self {
            index: message.index,
            state: task_state(message.state)?,
            attempt: message.attempt,
            node: Some(message.node).filter(|node| !node.is_empty()),
            exit: message.exit.as_ref().map(ExitStatus::try_from).transpose()?,
            timeline: message
                .timeline
                .iter()
                .map(Transition::try_from)
                .collect::<Result<_, _>>()?,
            outputs: optional_digest("outputs", &message.outputs)?,
            logs: optional_digest("logs", &message.logs)?,
            stream_lengths,
            unreachable: message.unreachable,
        })
    }
}

/// The part of an answer that the contract says is there.
pub(crate) fn present<T>(field: &'static str, part: Option<T>) -> Result<T, BadMessage> {
    part.ok_or_else(|| BadMessage {
        field,
        problem: "is missing".to_owned(),
    })
}

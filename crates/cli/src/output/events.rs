//! What happens while a command goes on.

use haul_client::{Job, Task};
use haul_types::{JobId, StreamKind, TaskCounts, TaskState};
use serde_json::{Value, json};

use super::Drawing;
use super::job::{exit_json, transition_json};
use super::jobs::counts_json;
use crate::text::printable;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The job is stored.
    Submitted {
        /// The job.
        id: JobId,
        /// Its name.
        name: &'a str,
        /// Whether the command leaves it to itself.
        detached: bool,
    },
    /// Something takes its time: sending, waiting.
    Progress(&'a str),
    /// The task changed its state.
    Task(&'a Task),
    /// The array's sums changed.
    Sums(&'a Job),
    /// Bytes of a stream; as JSON only, other outputs pass them on as they are.
    Log {
        /// Which stream.
        stream: StreamKind,
        /// The place of the first.
        offset: u64,
        /// The bytes.
        data: &'a [u8],
    },
    /// An earlier attempt came to nothing; the output begins anew.
    Attempt(u32),
    /// The connection to the controller was lost, and is tried again.
    Lost(&'a str),
    /// It is back.
    Resumed,
    /// The command leaves; the job goes on.
    Detached(JobId),
    /// The job ended, and so will the command.
    Ended {
        /// The job.
        id: JobId,
        /// How.
        state: TaskState,
        /// The command's exit code.
        exit_code: u8,
    },
}

impl Event<'_> {
    /// The line for people, if they are to be told.
    pub(super) fn people(&self, drawing: &Drawing) -> Option<String> {
        let line = match self {
            Self::Submitted {
                id,
                name,
                detached: false,
            } => drawing.dim(&format!("job {id} ({})", printable(name))),
            Self::Progress(text) => drawing.dim(text),
            Self::Sums(job) => drawing.dim(&sums(&job.counts)),
            Self::Attempt(attempt) => drawing.dim(&format!(
                "attempt {attempt}: the one before came to nothing; its output begins anew"
            )),
            Self::Lost(why) => drawing.dim(&format!(
                "the connection was lost ({}); trying again",
                printable(why)
            )),
            Self::Resumed => drawing.dim("connected again"),
            Self::Detached(id) => format!("job {id} goes on; `haul logs -f {id}` watches it"),
            Self::Submitted { detached: true, .. }
            | Self::Task(_)
            | Self::Log { .. }
            | Self::Ended { .. } => {
                return None;
            }
        };
        Some(line)
    }

    /// What belongs on standard output.
    pub(super) fn data(&self) -> Option<String> {
        match self {
            Self::Submitted {
                id, detached: true, ..
            } => Some(id.to_string()),
            _ => None,
        }
    }

    pub(super) fn json(&self) -> Value {
        match self {
            Self::Submitted { id, name, detached } => {
                json!({ "event": "submitted", "id": id, "name": name, "detached": detached })
            }
            Self::Progress(text) => json!({ "event": "progress", "text": text }),
            Self::Task(task) => json!({
                "event": "state",
                "task": task.index,
                "attempt": task.attempt,
                "state": task.state,
                "exit": exit_json(task.exit),
                "transition": task.last().map(transition_json),
            }),
            Self::Sums(job) => {
                json!({ "event": "counts", "state": job.state, "counts": counts_json(&job.counts) })
            }
            Self::Log { stream, offset, data } => match std::str::from_utf8(data) {
                Ok(text) => json!({ "event": "log", "stream": stream, "offset": offset, "text": text }),
                Err(_) => json!({ "event": "log", "stream": stream, "offset": offset, "bytes": data }),
            },
            Self::Attempt(attempt) => json!({ "event": "attempt", "attempt": attempt }),
            Self::Lost(why) => json!({ "event": "connection_lost", "why": why }),
            Self::Resumed => json!({ "event": "connection_resumed" }),
            Self::Detached(id) => json!({ "event": "detached", "id": id }),
            Self::Ended { id, state, exit_code } => {
                json!({ "event": "ended", "id": id, "state": state, "exit_code": exit_code })
            }
        }
    }
}

/// An array's sums in a line: `17 of 100 ended: 15 succeeded, 2 failed; 8 running, 75 queued`.
pub(crate) fn sums(counts: &TaskCounts) -> String {
    let part = |states: &[TaskState]| {
        let parts: Vec<String> = states
            .iter()
            .filter(|&&state| counts.of(state) > 0)
            .map(|&state| format!("{} {state}", counts.of(state)))
            .collect();
        parts.join(", ")
    };
    let (over, open): (Vec<TaskState>, Vec<TaskState>) =
        TaskState::ALL.into_iter().partition(|state| state.is_terminal());
    let ended: u32 = over.iter().map(|&state| counts.of(state)).sum();
    let mut text = format!("{ended} of {} ended", counts.total());
    for (mark, part) in [(": ", part(&over)), ("; ", part(&open))] {
        if !part.is_empty() {
            text.push_str(mark);
            text.push_str(&part);
        }
    }
    text
}

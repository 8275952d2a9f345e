//! Follows what a job writes and how it stands, across lost connections.
//!
//! ```text
//!            open FollowJob at the positions reached
//!   waiting ──────────────────────────────────────────> streaming ──> frames, states …
//!      ^                                                    │
//!      │ lost: a notice, then a jittered wait               │ the server closed it
//!      └────────────────────────────────────────────────────┤
//!                                                           └──> terminal state seen: the end
//! ```
//!
//! Positions are counted here, by what was yielded. A frame that repeats bytes is cut to what is new; one that leaves
//! a gap is a broken promise of the controller, answered by opening the stream anew.

use bytes::{Buf as _, Bytes};
use haul_proto::{BadMessage, client, v1};
use haul_types::{Attempt, JobId, StreamKind, TaskIndex, TaskState};
use tonic::{Status, Streaming};

use crate::error::may_be_repeated;
use crate::{Backoff, CallError, Client, Job, Task};

/// One task to follow.
#[derive(Clone, Debug)]
pub struct FollowTask {
    /// The job.
    pub job: JobId,
    /// The task; none for the first.
    pub task: Option<TaskIndex>,
    /// The attempt that the positions belong to; none for whichever is current.
    pub attempt: Option<Attempt>,
    /// The streams wanted, and where to begin.
    pub positions: Vec<(StreamKind, u64)>,
}

/// A whole job to follow.
#[derive(Clone, Copy, Debug)]
pub struct FollowJob {
    /// The job.
    pub job: JobId,
}

/// What a follower is told.
#[derive(Clone, Debug)]
pub enum FollowEvent {
    /// The next bytes of a stream.
    Log {
        /// Which stream.
        stream: StreamKind,
        /// The place of the first.
        offset: u64,
        /// The bytes.
        data: Bytes,
    },
    /// The task changed its state.
    Task(Box<Task>),
    /// The job as a whole changed.
    Job(Box<Job>),
    /// A new attempt begins; its streams begin at 0 again.
    Attempt(Attempt),
    /// The connection was lost; it is tried again.
    Lost {
        /// What happened.
        why: String,
    },
    /// The connection is back.
    Resumed,
}

/// Why following ended early.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The call failed for good.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The controller said something that breaks the contract.
    #[error("the controller's stream cannot be read")]
    BadMessage(#[from] BadMessage),
    /// Bytes were left out, again after the stream was opened anew.
    #[error("the controller left out bytes of {stream}: it sent byte {sent} where {wanted} was due")]
    Gap {
        /// The stream.
        stream: StreamKind,
        /// The byte due.
        wanted: u64,
        /// The byte sent.
        sent: u64,
    },
}

/// A job being followed; see [`Client::follow`].
#[derive(Debug)]
pub struct Follow {
    client: Client,
    request: v1::FollowJobRequest,
    positions: Vec<(StreamKind, u64)>,
    messages: Option<Streaming<v1::FollowJobResponse>>,
    backoff: Backoff,
    /// Whether the last thing yielded about the connection was its loss.
    lost: bool,
    /// Whether a gap was met since the last good frame.
    gap_met: bool,
    /// A terminal state was seen: a stream that is closed now has ended.
    ended: bool,
    finished: bool,
}

impl Client {
    /// Follows one task: its bytes and each change of its state, until it has ended and all was yielded.
    #[must_use]
    pub fn follow(&self, what: FollowTask) -> Follow {
        let request = v1::FollowJobRequest {
            job_id: what.job.to_string(),
            task_index: what.task,
            positions: Vec::new(),
            attempt: what.attempt.unwrap_or(0),
            summary: false,
        };
        Follow::new(self.clone(), request, what.positions)
    }

    /// Follows a whole job: the sums of its tasks' states, until all have ended.
    #[must_use]
    pub fn follow_sums(&self, what: FollowJob) -> Follow {
        let request = v1::FollowJobRequest {
            job_id: what.job.to_string(),
            task_index: None,
            positions: Vec::new(),
            attempt: 0,
            summary: true,
        };
        Follow::new(self.clone(), request, Vec::new())
    }
}

impl Follow {
    fn new(client: Client, request: v1::FollowJobRequest, positions: Vec<(StreamKind, u64)>) -> Self {
        Self {
            client,
            request,
            positions,
            messages: None,
            backoff: Backoff::lasting(),
            lost: false,
            gap_met: false,
            ended: false,
            finished: false,
        }
    }

    /// The next event; none when the job has ended and everything was yielded.
    ///
    /// Dropping the future loses nothing: what was read is kept until it is yielded.
    pub async fn next(&mut self) -> Result<Option<FollowEvent>, FollowError> {
        while !self.finished {
            let Some(messages) = &mut self.messages else {
                if let Some(event) = self.open().await? {
                    return Ok(Some(event));
                }
                continue;
            };
            match messages.message().await {
                Ok(Some(message)) => {
                    self.backoff.reset();
                    if let Some(event) = self.take(message)? {
                        return Ok(Some(event));
                    }
                }
                Ok(None) => {
                    self.messages = None;
                    self.finished = self.ended;
                    if !self.finished {
                        // A controller that goes away in peace closes its streams.
                        if let Some(event) = self.on_lost("the controller closed the stream".to_owned()) {
                            return Ok(Some(event));
                        }
                    }
                }
                Err(status) => {
                    self.messages = None;
                    let event = self.on_status(status)?;
                    if event.is_some() {
                        return Ok(event);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Opens the stream at the positions reached, after the wait that is due.
    async fn open(&mut self) -> Result<Option<FollowEvent>, FollowError> {
        if self.lost
            && let Some(wait) = self.backoff.next_wait()
        {
            tokio::time::sleep(wait).await;
        }
        let mut request = self.request.clone();
        request.positions = self
            .positions
            .iter()
            .map(|&(stream, offset)| v1::StreamPosition {
                stream: v1::StreamKind::from(stream) as i32,
                offset,
            })
            .collect();
        match client::jobs(self.client.calls()).follow_job(request).await {
            Ok(answer) => {
                self.messages = Some(answer.into_inner());
                Ok(std::mem::take(&mut self.lost).then_some(FollowEvent::Resumed))
            }
            Err(status) => self.on_status(status),
        }
    }

    fn on_status(&mut self, status: Status) -> Result<Option<FollowEvent>, FollowError> {
        if may_be_repeated(&status) {
            Ok(self.on_lost(status.message().to_owned()))
        } else {
            Err(CallError::from(status).into())
        }
    }

    /// The notice of a loss, once for each.
    fn on_lost(&mut self, why: String) -> Option<FollowEvent> {
        (!std::mem::replace(&mut self.lost, true)).then_some(FollowEvent::Lost { why })
    }

    fn take(&mut self, message: v1::FollowJobResponse) -> Result<Option<FollowEvent>, FollowError> {
        use v1::follow_job_response::Event;
        Ok(match message.event {
            Some(Event::Log(frame)) => self.take_frame(frame)?,
            Some(Event::Task(task)) => {
                let task = Task::try_from(task)?;
                self.ended = task.state.is_terminal();
                // So that positions reached in this attempt are not taken for those of a later one.
                if self.request.attempt == 0 {
                    self.request.attempt = task.attempt;
                }
                Some(FollowEvent::Task(Box::new(task)))
            }
            Some(Event::Job(job)) => {
                let job = Job::try_from(&job)?;
                self.ended = job.state.is_terminal();
                Some(FollowEvent::Job(Box::new(job)))
            }
            Some(Event::Attempt(attempt)) => {
                self.request.attempt = attempt;
                for (_, offset) in &mut self.positions {
                    *offset = 0;
                }
                Some(FollowEvent::Attempt(attempt))
            }
            None => None,
        })
    }

    fn take_frame(&mut self, frame: v1::LogFrame) -> Result<Option<FollowEvent>, FollowError> {
        let stream = frame.kind()?;
        let Some((_, reached)) = self.positions.iter_mut().find(|(kind, _)| *kind == stream) else {
            return Ok(None);
        };
        let offset = *reached;
        if frame.offset > offset {
            if std::mem::replace(&mut self.gap_met, true) {
                return Err(FollowError::Gap {
                    stream,
                    wanted: offset,
                    sent: frame.offset,
                });
            }
            self.messages = None;
            return Ok(None);
        }
        let mut data = frame.data;
        let known = usize::try_from(offset - frame.offset).unwrap_or(usize::MAX);
        data.advance(known.min(data.len()));
        if data.is_empty() {
            return Ok(None);
        }
        self.gap_met = false;
        *reached += data.len() as u64;
        Ok(Some(FollowEvent::Log { stream, offset, data }))
    }
}

impl FollowEvent {
    /// The state this event tells of, if it tells of one.
    #[must_use]
    pub fn state(&self) -> Option<TaskState> {
        match self {
            Self::Task(task) => Some(task.state),
            Self::Job(job) => Some(job.state),
            _ => None,
        }
    }
}

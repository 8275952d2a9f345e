//! Following a job, and reading its logs.
//!
//! A follower is told that something changed, never what: it looks into the store and the spool for what it has not
//! sent yet. So a slow follower costs nobody but itself, none can miss anything, and all that is sent is durable or,
//! for bytes of a log, kept by the agent until it is.

use std::sync::Arc;
use std::time::Duration;

use haul_proto::{self as proto, MAX_LOG_FRAME_BYTES, v1};
use haul_spool::JobSpool;
use haul_types::{Attempt, JobId, StreamKey, StreamKind, TaskId, TaskIndex, TaskRecord};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::view;
use crate::engine::Engine;
use crate::logs::LogError;
use crate::status::IntoStatus;

/// What a follower gets.
pub(super) type Stream<T> = ReceiverStream<Result<T, Status>>;

/// Messages that wait for a slow reader: at most 4 MiB of a log.
const AHEAD: usize = 4;
/// Sums of a whole job are sent at most this often.
const SUMMARY_PACE: Duration = Duration::from_millis(200);

type Sender<T> = mpsc::Sender<Result<T, Status>>;

/// The reader has gone, or has been told of an error: either way there is nobody to write to.
struct Gone;

async fn send<T>(sender: &Sender<T>, message: T) -> Result<(), Gone> {
    sender.send(Ok(message)).await.map_err(|_| Gone)
}

async fn fail<T>(sender: &Sender<T>, status: Status) -> Gone {
    let _ = sender.send(Err(status)).await;
    Gone
}

/// Serves a follower until the job has ended and all was sent.
pub(super) fn follow(
    engine: &Arc<Engine>,
    request: &v1::FollowJobRequest,
) -> Result<Stream<v1::FollowJobResponse>, Status> {
    let job = proto::job_id(&request.job_id).map_err(IntoStatus::into_status)?;
    let mut positions = Vec::new();
    for position in &request.positions {
        positions.push((position.kind().map_err(IntoStatus::into_status)?, position.offset));
    }
    let record = engine.job(job).map_err(IntoStatus::into_status)?;
    let record = record.ok_or_else(|| Status::not_found(format!("there is no job {job}")))?;
    let index = request
        .task_index
        .unwrap_or_else(|| record.spec.array.map_or(0, |array| array.first));
    let (summary, attempt) = (request.summary, request.attempt);
    let (sender, receiver) = mpsc::channel(AHEAD);
    let engine = Arc::clone(engine);
    let call = engine.call();
    engine.clone().spawn(async move {
        let _call = call;
        let _ = if summary {
            follow_summary(&engine, job, &sender).await
        } else {
            let follower = Follower {
                engine: &engine,
                job,
                index,
                attempt,
                positions,
                sender: &sender,
            };
            follower.run().await
        };
        drop(sender);
        engine.unfollow(job);
    });
    Ok(ReceiverStream::new(receiver))
}

/// Sends sums of the whole job.
async fn follow_summary(
    engine: &Engine,
    job: JobId,
    sender: &Sender<v1::FollowJobResponse>,
) -> Result<(), Gone> {
    let mut changed = engine.follow(job);
    loop {
        changed.mark_unchanged();
        let record = match engine.job(job) {
            Ok(Some(record)) => record,
            Ok(None) => return Err(fail(sender, Status::not_found(format!("job {job} was removed"))).await),
            Err(error) => return Err(fail(sender, error.into_status()).await),
        };
        let event = v1::follow_job_response::Event::Job(view::job(&record));
        send(sender, v1::FollowJobResponse { event: Some(event) }).await?;
        if record.state.is_terminal() {
            return Ok(());
        }
        wait(engine, &mut changed, sender).await?;
        tokio::time::sleep(SUMMARY_PACE).await;
    }
}

/// Waits for a change, for the reader's leaving, or for the controller's.
async fn wait<T>(
    engine: &Engine,
    changed: &mut tokio::sync::watch::Receiver<u64>,
    sender: &Sender<T>,
) -> Result<(), Gone> {
    if engine.is_leaving() {
        return Err(fail(sender, Status::unavailable("the controller is shutting down")).await);
    }
    tokio::select! {
        outcome = changed.changed() => outcome.map_err(|_| Gone),
        () = sender.closed() => Err(Gone),
    }
}

/// One follower of one task.
struct Follower<'a> {
    engine: &'a Engine,
    job: JobId,
    index: TaskIndex,
    /// The attempt that the positions belong to; 0 before the first is known.
    attempt: Attempt,
    positions: Vec<(StreamKind, u64)>,
    sender: &'a Sender<v1::FollowJobResponse>,
}

impl Follower<'_> {
    async fn run(mut self) -> Result<(), Gone> {
        let mut changed = self.engine.follow(self.job);
        let mut told: Option<(TaskRecord, bool)> = None;
        let mut spool: Option<Arc<JobSpool>> = None;
        loop {
            changed.mark_unchanged();
            let record = self.record().await?;
            if let Some(record) = &record
                && record.attempt != 0
                && record.attempt != self.attempt
            {
                if self.attempt != 0 {
                    self.positions.iter_mut().for_each(|(_, offset)| *offset = 0);
                }
                self.attempt = record.attempt;
                self.send(v1::follow_job_response::Event::Attempt(record.attempt))
                    .await?;
            }
            let ended = record.as_ref().is_some_and(|record| record.state.is_terminal());
            // The end is told after the last byte, all other states before the bytes that follow from them.
            if !ended && let Some(record) = &record {
                let now = (record, self.engine.is_unreachable(record));
                if told.as_ref().map(|(record, unreachable)| (record, *unreachable)) != Some(now) {
                    self.tell(Some(record)).await?;
                    told = Some((record.clone(), now.1));
                }
            }
            if self.attempt != 0 {
                if spool.is_none() {
                    spool = self.spool(ended).await?;
                }
                if let Some(spool) = &spool {
                    self.send_bytes(spool).await?;
                }
            }
            if ended {
                return self.tell(record.as_ref()).await;
            }
            // A job whose rest was canceled has tasks without a record of their own; they end with it.
            if record.is_none() && self.job_has_ended().await? {
                return Ok(());
            }
            wait(self.engine, &mut changed, self.sender).await?;
        }
    }

    /// The job's spool; while the job is in progress, none before somebody has written to it.
    async fn spool(&self, ended: bool) -> Result<Option<Arc<JobSpool>>, Gone> {
        let open = self.engine.logs.open(self.job);
        if open.is_some() || !ended {
            return Ok(open);
        }
        match self.engine.logs.reader(self.job) {
            Ok(spool) => Ok(Some(spool)),
            Err(error) => Err(fail(self.sender, LogError::from(error).into_status()).await),
        }
    }

    async fn record(&self) -> Result<Option<TaskRecord>, Gone> {
        match self.engine.task(TaskId {
            job: self.job,
            index: self.index,
        }) {
            Ok(record) => Ok(record),
            Err(error) => Err(fail(self.sender, error.into_status()).await),
        }
    }

    async fn job_has_ended(&self) -> Result<bool, Gone> {
        match self.engine.job(self.job) {
            Ok(record) => Ok(record.is_none_or(|record| record.state.is_terminal())),
            Err(error) => Err(fail(self.sender, error.into_status()).await),
        }
    }

    async fn tell(&self, record: Option<&TaskRecord>) -> Result<(), Gone> {
        let Some(record) = record else { return Ok(()) };
        let task = view::task(record, self.engine.is_unreachable(record));
        self.send(v1::follow_job_response::Event::Task(task)).await
    }

    async fn send(&self, event: v1::follow_job_response::Event) -> Result<(), Gone> {
        send(self.sender, v1::FollowJobResponse { event: Some(event) }).await
    }

    /// Sends what the streams hold past the positions; streams take turns, so that none waits for another's end.
    async fn send_bytes(&mut self, spool: &JobSpool) -> Result<(), Gone> {
        let mut more = true;
        while more {
            more = false;
            for place in 0..self.positions.len() {
                let (kind, offset) = self.positions[place];
                let key = StreamKey {
                    task: self.index,
                    attempt: self.attempt,
                    kind,
                };
                if offset >= spool.length(key) {
                    continue;
                }
                let data = match spool.read(key, offset, MAX_LOG_FRAME_BYTES) {
                    Ok(data) => data,
                    Err(error) => return Err(fail(self.sender, Status::data_loss(error.to_string())).await),
                };
                if data.is_empty() {
                    continue;
                }
                self.positions[place].1 += data.len() as u64;
                let frame = v1::LogFrame {
                    stream: kind as i32,
                    offset,
                    data,
                };
                self.send(v1::follow_job_response::Event::Log(frame)).await?;
                more = true;
            }
        }
        Ok(())
    }
}

/// Serves what one stream holds now.
pub(super) fn read_log(
    engine: &Arc<Engine>,
    request: &v1::ReadLogRequest,
) -> Result<Stream<v1::ReadLogResponse>, Status> {
    let call = engine.call();
    let job = proto::job_id(&request.job_id).map_err(IntoStatus::into_status)?;
    let kind = request.kind().map_err(IntoStatus::into_status)?;
    let task = engine
        .task(TaskId {
            job,
            index: request.task_index,
        })
        .map_err(IntoStatus::into_status)?;
    let attempt = match (request.attempt, task) {
        (0, Some(task)) => task.attempt,
        (0, None) if engine.job(job).map_err(IntoStatus::into_status)?.is_some() => 0,
        (0, None) => return Err(Status::not_found(format!("there is no job {job}"))),
        (attempt, _) => attempt,
    };
    let spool = engine
        .logs
        .reader(job)
        .map_err(|error| LogError::from(error).into_status())?;
    let key = StreamKey {
        task: request.task_index,
        attempt,
        kind,
    };
    let length = spool.length(key);
    let end = if request.end == 0 {
        length
    } else {
        request.end.min(length)
    };
    let offset = request.offset;
    let (sender, receiver) = mpsc::channel(AHEAD);
    engine.spawn(async move {
        let _call = call;
        let mut offset = offset;
        while offset < end {
            let most = usize::try_from(end - offset)
                .unwrap_or(usize::MAX)
                .min(MAX_LOG_FRAME_BYTES);
            let data = match spool.read(key, offset, most) {
                Ok(data) if data.is_empty() => break,
                Ok(data) => data,
                Err(error) => {
                    fail(&sender, Status::data_loss(error.to_string())).await;
                    break;
                }
            };
            let read = data.len() as u64;
            let frame = v1::LogFrame {
                stream: kind as i32,
                offset,
                data,
            };
            if send(&sender, v1::ReadLogResponse { frame: Some(frame) })
                .await
                .is_err()
            {
                break;
            }
            offset += read;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

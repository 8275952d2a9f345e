//! Reads what a stream holds now, across lost connections, and ends.

use bytes::{Buf as _, Bytes};
use haul_proto::{client, v1};
use haul_types::{Attempt, StreamKind, TaskId};

use crate::error::may_be_repeated;
use crate::{Backoff, CallError, Client};

/// Which bytes of a task's stream.
#[derive(Clone, Copy, Debug)]
pub struct LogRange {
    /// The task.
    pub task: TaskId,
    /// The try; none for the newest.
    pub attempt: Option<Attempt>,
    /// Which stream.
    pub stream: StreamKind,
    /// The first byte.
    pub start: u64,
    /// The byte after the last one; none for the end as it is now.
    pub end: Option<u64>,
}

/// Reads a range of a stream; see [`Client::read_log`].
#[derive(Debug)]
pub struct LogReader {
    client: Client,
    range: LogRange,
    frames: Option<tonic::Streaming<v1::ReadLogResponse>>,
    backoff: Backoff,
    ended: bool,
}

impl Client {
    /// Reads a range of a stream, in order and without gaps.
    #[must_use]
    pub fn read_log(&self, range: LogRange) -> LogReader {
        LogReader {
            client: self.clone(),
            range,
            frames: None,
            backoff: Backoff::brief(),
            ended: false,
        }
    }
}

impl Client {
    /// How long a stream is now, in bytes.
    pub async fn log_length(&self, range: LogRange) -> Result<u64, CallError> {
        // The record of a task that has ended knows; the contract has no cheaper way for one that goes on than to read.
        let task = self.task(range.task.job, range.task.index).await?;
        let of_attempt = task.filter(|task| range.attempt.is_none_or(|attempt| attempt == task.attempt));
        match of_attempt {
            Some(task) if task.state.is_terminal() => Ok(task.stream_length(range.stream)),
            _ => {
                let mut reader = self.read_log(range);
                while reader.next().await?.is_some() {}
                Ok(reader.range.start)
            }
        }
    }
}

impl LogReader {
    /// The next bytes; none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        while !self.ended {
            match self.step().await {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(answer) => {
                    self.ended = answer.is_none();
                    self.backoff.reset();
                    return Ok(answer);
                }
                Err(status) => {
                    self.frames = None;
                    if !may_be_repeated(&status) {
                        return Err(status.into());
                    }
                    match self.backoff.next_wait() {
                        Some(wait) => tokio::time::sleep(wait).await,
                        None => return Err(status.into()),
                    }
                }
            }
        }
        Ok(None)
    }

    async fn step(&mut self) -> Result<Option<Bytes>, tonic::Status> {
        let frames = match &mut self.frames {
            Some(frames) => frames,
            vacant => {
                let request = v1::ReadLogRequest {
                    job_id: self.range.task.job.to_string(),
                    task_index: self.range.task.index,
                    attempt: self.range.attempt.unwrap_or(0),
                    stream: v1::StreamKind::from(self.range.stream) as i32,
                    offset: self.range.start,
                    end: self.range.end.unwrap_or(0),
                };
                let answer = client::jobs(self.client.calls()).read_log(request).await?;
                vacant.insert(answer.into_inner())
            }
        };
        let Some(frame) = frames.message().await?.and_then(|message| message.frame) else {
            return Ok(None);
        };
        if frame.offset > self.range.start {
            return Err(tonic::Status::data_loss(format!(
                "the controller left out bytes {} to {} of a log",
                self.range.start, frame.offset
            )));
        }
        let mut data = frame.data;
        // Frames may begin before the byte asked for, where a stored block begins.
        let known = self.range.start.saturating_sub(frame.offset);
        data.advance(data.len().min(usize::try_from(known).unwrap_or(usize::MAX)));
        if let Some(end) = self.range.end {
            let left = end.saturating_sub(self.range.start);
            data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        self.range.start += data.len() as u64;
        Ok(Some(data))
    }
}

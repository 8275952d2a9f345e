//! Many who follow one log, each on a connection of its own, while an agent sends it at a given pace.
//!
//! Each line begins with the time at which it was made; so whoever reads it knows how long it was on its way. All are in
//! one process, with one clock.

use std::time::{Duration, Instant};

use haul_client::{Client, FollowEvent, FollowTask};
use haul_proto::{client, v1};
use haul_types::{AttemptId, StreamKind, TaskState};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use crate::deployment::{Deployment, Outcome};
use crate::load::Times;

/// How often the agent sends what was written since: a log that is written steadily arrives in such pieces.
const PACE: Duration = Duration::from_millis(20);
/// Pieces of the log that wait to be sent.
const AHEAD: usize = 16;
/// What follows the time in each line.
const REST: &str = "step 1234567 loss 0.123456 accuracy 0.987654 lr 0.0003";

/// What came of it.
#[derive(Debug, Default)]
pub struct Followed {
    /// How long the log was written.
    pub took: Duration,
    /// Bytes of the log.
    pub bytes: u64,
    /// Followers that have got every byte of it, by its SHA-256.
    pub whole: usize,
    /// How long each line took to each follower.
    pub delays: Times,
}

/// A log of `lines`, `per_second` of them, written by the agent of `attempt` over `agent`, is followed by so many.
/// `end` is called once all of it is durable, with its length: the attempt has to end for followers to.
pub async fn follow(
    deployment: &Deployment,
    (attempt, agent): (AttemptId, Client),
    followers: usize,
    lines: usize,
    per_second: usize,
    end: impl FnOnce(u64),
) -> Outcome<Followed> {
    let origin = Instant::now();
    let mut following = JoinSet::new();
    let (ready, mut are_ready) = mpsc::channel(followers.max(1));
    for _ in 0..followers {
        let (client, ready) = (deployment.admin()?, ready.clone());
        following.spawn(read(client, attempt, origin, ready));
    }
    drop(ready);
    // Each says so once it hears of the job, and then goes on without.
    while are_ready.recv().await.is_some() {}
    let began = Instant::now();
    let (digest, bytes) = write(&agent, attempt, origin, lines, per_second).await?;
    let mut followed = Followed {
        took: began.elapsed(),
        bytes,
        ..Followed::default()
    };
    end(bytes);
    while let Some(read) = following.join_next().await {
        let (read, delays) = read??;
        followed.whole += usize::from(read == digest);
        followed.delays.merge(delays);
    }
    Ok(followed)
}

async fn read(
    client: Client,
    attempt: AttemptId,
    origin: Instant,
    ready: mpsc::Sender<()>,
) -> Outcome<([u8; 32], Times)> {
    let mut follow = client.follow(FollowTask {
        job: attempt.task.job,
        task: None,
        attempt: None,
        positions: vec![(StreamKind::Stdout, 0)],
    });
    let (mut hash, mut delays, mut rest) = (Sha256::new(), Times::default(), Vec::new());
    let mut ready = Some(ready);
    while let Some(event) = follow.next().await? {
        match event {
            FollowEvent::Log { data, .. } => {
                let now = origin.elapsed();
                hash.update(&data);
                rest.extend_from_slice(&data);
                let whole = rest
                    .iter()
                    .rposition(|&byte| byte == b'\n')
                    .map_or(0, |last| last + 1);
                for line in rest[..whole].split_inclusive(|&byte| byte == b'\n') {
                    let made = std::str::from_utf8(line)?.split(' ').next().unwrap_or_default();
                    delays.add(now.saturating_sub(Duration::from_micros(made.parse()?)));
                }
                rest.drain(..whole);
            }
            FollowEvent::Task(task) if task.state == TaskState::Running => drop(ready.take()),
            _ => {}
        }
    }
    Ok((hash.finalize().into(), delays))
}

/// Writes the log as an agent does, and waits until it is durable; its SHA-256 and its length.
async fn write(
    agent: &Client,
    attempt: AttemptId,
    origin: Instant,
    lines: usize,
    per_second: usize,
) -> Outcome<([u8; 32], u64)> {
    let (sender, outgoing) = mpsc::channel(AHEAD);
    let mut answers = client::agent(agent.calls())
        .ship_logs(ReceiverStream::new(outgoing))
        .await?
        .into_inner();
    let (mut hash, mut offset, mut written) = (Sha256::new(), 0_u64, 0);
    let began = Instant::now();
    let mut ticks = tokio::time::interval(PACE);
    while written < lines {
        ticks.tick().await;
        let due = ((began.elapsed() + PACE).as_secs_f64() * per_second as f64) as usize;
        let mut data = String::new();
        while written < due.min(lines) {
            data += &format!("{} {REST} {written}\n", origin.elapsed().as_micros());
            written += 1;
        }
        if data.is_empty() {
            continue;
        }
        hash.update(&data);
        let frame = v1::LogFrame {
            stream: StreamKind::Stdout as i32,
            offset,
            data: data.into_bytes().into(),
        };
        offset += frame.data.len() as u64;
        let message = v1::ShipLogsRequest {
            attempt: Some(attempt.into()),
            frame: Some(frame),
        };
        sender.send(message).await?;
    }
    while let Some(answer) = answers.message().await? {
        if answer.durable == offset {
            return Ok((hash.finalize().into(), offset));
        }
    }
    Err("the controller took less of the log than it was sent".into())
}

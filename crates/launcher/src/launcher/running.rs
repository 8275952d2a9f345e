//! Following one attempt to its end.

use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;

use haul_types::AttemptId;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::StartError;
use super::link::say_stop;
use super::pool::{Pool, Supervisor};
use crate::frame;
use crate::message::{FromSupervisor, ToSupervisor};
use crate::order::{AttemptOrder, Boot, ExitRecord, StopReason};
use crate::user::JobUser;

/// Supervisors that are tried for one order. An idle one only dies when somebody kills it.
const TRIES: usize = 4;
/// An order larger than this is waited for until it was read, so that a word after it never finds a full socket.
const LARGE_ORDER: usize = 64 << 10;

/// An attempt that was handed to a supervisor. Dropping it leaves the attempt alone; its end waits to be acknowledged.
#[derive(Debug)]
pub struct RunningAttempt {
    pool: Arc<Pool>,
    attempt: AttemptId,
    side: Arc<StdStream>,
    runtime: Handle,
    stage: Stage,
    pid: Option<i32>,
}

#[derive(Debug)]
enum Stage {
    /// Its supervisor lives, as far as is known.
    Following(Supervisor),
    /// Its supervisor is gone; what is left is being ended.
    Settling(JoinHandle<ExitRecord>),
    /// It has ended.
    Ended(ExitRecord),
    /// Between two of the others.
    Moving,
}

impl RunningAttempt {
    pub(super) async fn start(
        pool: &Arc<Pool>,
        order: AttemptOrder,
        user: Option<JobUser>,
    ) -> Result<Self, StartError> {
        let attempt = order.attempt;
        let order = Box::new(order);
        let mut message = ToSupervisor::Run {
            acknowledged: 0,
            order,
            user,
        };
        for _ in 0..TRIES {
            let mut supervisor = pool.take().await?;
            if let ToSupervisor::Run { acknowledged, .. } = &mut message {
                *acknowledged = pool.acknowledged(supervisor.number);
            }
            let frame = match frame::encode(&message, Vec::with_capacity(4096)) {
                Ok(frame) => frame,
                Err(source) => {
                    pool.discard(supervisor);
                    let source = Box::new(source);
                    return Err(StartError::Order { attempt, source });
                }
            };
            if supervisor.link.send(&frame).await.is_err() {
                pool.discard(supervisor);
                continue;
            }
            let mut running = Self::follow(pool, supervisor, attempt, None);
            if frame.len() > LARGE_ORDER {
                running.started().await;
            }
            return Ok(running);
        }
        Err(StartError::Refused(attempt))
    }

    /// Follows an attempt that a supervisor has been given. To be called within a runtime.
    pub(super) fn follow(
        pool: &Arc<Pool>,
        supervisor: Supervisor,
        attempt: AttemptId,
        pid: Option<i32>,
    ) -> Self {
        Self {
            pool: Arc::clone(pool),
            attempt,
            side: Arc::clone(supervisor.link.side()),
            runtime: Handle::current(),
            stage: Stage::Following(supervisor),
            pid,
        }
    }

    /// Which attempt.
    #[must_use]
    pub const fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// Waits until the main process is there, and returns its id; `None` when the attempt has ended without one that
    /// was heard of. May be dropped and called again.
    pub async fn started(&mut self) -> Option<i32> {
        while self.pid.is_none() && !matches!(self.stage, Stage::Ended(_)) {
            self.advance().await;
        }
        self.pid
    }

    /// Waits until not one process of the attempt is left and its end is written down durably. May be dropped and
    /// called again.
    pub async fn ended(&mut self) -> ExitRecord {
        loop {
            if let Stage::Ended(record) = &self.stage {
                return record.clone();
            }
            self.advance().await;
        }
    }

    /// Asks for the end of the attempt: `SIGTERM` to all of its processes, `SIGKILL` after the order's grace. Does
    /// nothing when it has ended. Only the first of several has an effect.
    pub fn stop(&self, why: StopReason) {
        say_stop(&self.side, self.attempt, why);
    }

    /// The same, for somebody else to call.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper {
            attempt: self.attempt,
            side: Arc::clone(&self.side),
        }
    }

    /// Takes in one piece of news.
    async fn advance(&mut self) {
        match &mut self.stage {
            Stage::Following(supervisor) => match supervisor.link.receive().await {
                Some(FromSupervisor::Started { attempt, pid }) if attempt == self.attempt => {
                    self.pid = Some(pid);
                }
                Some(FromSupervisor::Ended { sequence, record }) if record.attempt == self.attempt => {
                    let stage = std::mem::replace(&mut self.stage, Stage::Ended(record.clone()));
                    if let Stage::Following(supervisor) = stage {
                        self.pool.give_back(supervisor, sequence, &record);
                    }
                }
                Some(_) => {}
                None => {
                    if let Stage::Following(supervisor) = std::mem::replace(&mut self.stage, Stage::Moving) {
                        let (pool, attempt) = (Arc::clone(&self.pool), self.attempt);
                        let settling = move || pool.settle(supervisor, attempt);
                        self.stage = Stage::Settling(self.pool.tasks.spawn_blocking(settling));
                    }
                }
            },
            Stage::Settling(settling) => {
                // It fails only when the runtime is shut down under it.
                let record = settling
                    .await
                    .unwrap_or_else(|_| ExitRecord::lost(self.attempt, Boot::Same, 0));
                self.stage = Stage::Ended(record);
            }
            Stage::Ended(_) | Stage::Moving => {}
        }
    }
}

impl Drop for RunningAttempt {
    fn drop(&mut self) {
        let Stage::Following(supervisor) = std::mem::replace(&mut self.stage, Stage::Moving) else {
            return;
        };
        if supervisor.child.is_none() {
            return;
        }
        let mut unattended = Self::follow_on(&self.pool, supervisor, self.attempt, self.pid, &self.runtime);
        let listening = async move {
            unattended.ended().await;
        };
        self.pool.tasks.spawn_on(listening, &self.runtime);
    }
}

impl RunningAttempt {
    fn follow_on(
        pool: &Arc<Pool>,
        supervisor: Supervisor,
        attempt: AttemptId,
        pid: Option<i32>,
        runtime: &Handle,
    ) -> Self {
        let _within = runtime.enter();
        Self::follow(pool, supervisor, attempt, pid)
    }
}

/// Stops one attempt; see [`RunningAttempt::stop`].
#[derive(Clone, Debug)]
pub struct Stopper {
    attempt: AttemptId,
    side: Arc<StdStream>,
}

impl Stopper {
    pub(super) const fn new(attempt: AttemptId, side: Arc<StdStream>) -> Self {
        Self { attempt, side }
    }

    /// Asks for the end of the attempt.
    pub fn stop(&self, why: StopReason) {
        say_stop(&self.side, self.attempt, why);
    }
}

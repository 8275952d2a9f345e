//! What an earlier agent left: attempts that run, that have ended, that were lost.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use haul_types::AttemptId;

use super::OpenError;
use super::books::SupervisorNumber;
use super::link::{Link, say_stop};
use super::pool::{Pool, Supervisor};
use super::remains::{read_when_free, remove_directory};
use super::running::{RunningAttempt, Stopper};
use crate::frame::Incoming;
use crate::journal::{FILE_NAME, Reading, read};
use crate::lost::end_processes;
use crate::message::FromSupervisor;
use crate::order::{Boot, ExitRecord, StopReason};
use crate::supervisors_dir::{CONTROL, SUPERVISORS};

/// How long a living supervisor may take to answer; longer, and its journal is believed.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// One attempt that an earlier agent started and that is not acknowledged.
#[derive(Debug)]
pub enum Found<R = AdoptedAttempt> {
    /// It runs.
    Running(R),
    /// It has ended.
    Ended(ExitRecord),
    /// Its supervisor was killed, or the machine went down; nobody knows how far it came. No process of it is left.
    Lost {
        /// Which attempt.
        attempt: AttemptId,
        /// Whether the machine was started again since.
        boot: Boot,
        /// Processes that were left of it and were killed.
        killed_leftovers: u32,
    },
}

/// An attempt that an earlier agent started and that still runs. Dropping it leaves the attempt alone.
#[derive(Debug)]
pub struct AdoptedAttempt {
    pool: Arc<Pool>,
    attempt: AttemptId,
    number: SupervisorNumber,
    directory: PathBuf,
    pid: Option<i32>,
    stream: StdStream,
    incoming: Option<Incoming>,
    following: Option<RunningAttempt>,
}

impl AdoptedAttempt {
    /// Which attempt.
    #[must_use]
    pub const fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// Its main process, if its supervisor answered in time.
    #[must_use]
    pub const fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// Waits for its end, as [`RunningAttempt::ended`] does. May be dropped and called again.
    pub async fn wait(&mut self) -> ExitRecord {
        if self.following.is_none() {
            let incoming = self.incoming.take().unwrap_or_default();
            match self
                .stream
                .try_clone()
                .and_then(|stream| Link::new(stream, incoming))
            {
                Ok(link) => {
                    let supervisor = Supervisor {
                        number: self.number,
                        directory: self.directory.clone(),
                        link,
                        child: None,
                    };
                    self.following = Some(RunningAttempt::follow(
                        &self.pool,
                        supervisor,
                        self.attempt,
                        self.pid,
                    ));
                }
                // Out of file descriptors.
                Err(_) => return ExitRecord::lost(self.attempt, Boot::Same, 0),
            }
        }
        match &mut self.following {
            Some(following) => following.ended().await,
            None => ExitRecord::lost(self.attempt, Boot::Same, 0),
        }
    }

    /// Stops it, for somebody else to call; `None` when this process is out of file descriptors.
    #[must_use]
    pub fn stopper(&self) -> Option<Stopper> {
        let side = Arc::new(self.stream.try_clone().ok()?);
        Some(Stopper::new(self.attempt, side))
    }

    /// Stops it, as [`RunningAttempt::stop`] does.
    pub fn stop(&self, why: StopReason) {
        say_stop(&self.stream, self.attempt, why);
    }
}

/// Looks at every supervisor's directory.
pub(super) fn scan(pool: &Arc<Pool>) -> Result<Vec<Found>, OpenError> {
    let supervisors = pool.state_dir.join(SUPERVISORS);
    let mut found = Vec::new();
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| OpenError::Read { path, source }
    };
    for entry in std::fs::read_dir(&supervisors).map_err(failed(&supervisors))? {
        let directory = entry.map_err(failed(&supervisors))?.path();
        let number = directory.file_name().and_then(|name| name.to_str()?.parse().ok());
        let Some(number) = number else { continue };
        pool.note_number(number);
        look_at(pool, number, &directory, &mut found).map_err(failed(&directory))?;
    }
    Ok(found)
}

fn look_at(
    pool: &Arc<Pool>,
    number: SupervisorNumber,
    directory: &Path,
    found: &mut Vec<Found>,
) -> io::Result<()> {
    let journal = match File::open(directory.join(FILE_NAME)) {
        Ok(journal) => journal,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // It never took an order: it is asked for one only when its journal is there.
            let _ = remove_directory(directory);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let reading = match journal.try_lock() {
        Ok(()) => read(&journal)?,
        Err(TryLockError::Error(error)) => return Err(error),
        Err(TryLockError::WouldBlock) => match greet(directory) {
            Some(answer) => {
                let reading = read(&journal)?;
                return {
                    take_over(pool, number, directory, answer, reading, found);
                    Ok(())
                };
            }
            // It is ending; what it wrote is there when it has.
            None => match read_when_free(directory) {
                // And had nothing to leave.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                reading => reading?,
            },
        },
    };
    let lost = reading.unfinished.as_ref().map(|unfinished| unfinished.attempt);
    if reading.ends.is_empty() && lost.is_none() {
        let _ = remove_directory(directory);
        return Ok(());
    }
    pool.enter_found(number, &reading.ends, lost);
    pool.note_gone(number, directory.to_owned());
    found.extend(reading.ends.into_iter().map(|(_, end)| Found::Ended(end)));
    if let Some(unfinished) = reading.unfinished {
        let (boot, killed_leftovers) = end_processes(&unfinished, directory);
        found.push(Found::Lost {
            attempt: unfinished.attempt,
            boot,
            killed_leftovers,
        });
    }
    Ok(())
}

/// What a living supervisor answered.
struct Answer {
    stream: StdStream,
    incoming: Incoming,
    running: Option<(AttemptId, i32)>,
}

/// Speaks to a living supervisor; `None` when it is about to end.
fn greet(directory: &Path) -> Option<Answer> {
    // A socket's path is at most 107 bytes; this one is short wherever the state directory is.
    let opened = File::open(directory).ok()?;
    let mut stream = StdStream::connect(format!("/proc/self/fd/{}/{CONTROL}", opened.as_raw_fd())).ok()?;
    stream.set_read_timeout(Some(ANSWER_WITHIN)).ok()?;
    let mut incoming = Incoming::default();
    let mut bytes = [0; 1024];
    loop {
        match incoming.next::<FromSupervisor>().ok()? {
            Some(FromSupervisor::Started { attempt, pid }) => {
                let running = Some((attempt, pid));
                return Some(Answer {
                    stream,
                    incoming,
                    running,
                });
            }
            // The journal tells.
            Some(FromSupervisor::Ended { .. }) => return None,
            Some(FromSupervisor::Ready) | None => {}
        }
        match stream.read(&mut bytes) {
            Ok(0) => return None,
            Ok(count) => incoming.extend(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Some(Answer {
                    stream,
                    incoming,
                    running: None,
                });
            }
            Err(_) => return None,
        }
    }
}

fn take_over(
    pool: &Arc<Pool>,
    number: SupervisorNumber,
    directory: &Path,
    answer: Answer,
    mut reading: Reading,
    found: &mut Vec<Found>,
) {
    let unfinished = reading.unfinished.map(|unfinished| unfinished.attempt);
    let Some(attempt) = answer.running.map(|(attempt, _)| attempt).or(unfinished) else {
        // It does not answer and has nothing to tell either.
        return;
    };
    // Its end may have been written while this was read; it will be heard of.
    reading.ends.retain(|(_, end)| end.attempt != attempt);
    pool.enter_found(number, &reading.ends, None);
    found.extend(reading.ends.into_iter().map(|(_, end)| Found::Ended(end)));
    found.push(Found::Running(AdoptedAttempt {
        pool: Arc::clone(pool),
        attempt,
        number,
        directory: directory.to_owned(),
        pid: answer.running.map(|(_, pid)| pid),
        stream: answer.stream,
        incoming: Some(answer.incoming),
        following: None,
    }));
}

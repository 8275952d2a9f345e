//! One attempt, from its order to its record.
//!
//! What becomes of processes that outlast the main one: a script's background children, daemons, workers of a pool.
//! Nobody waits for them, so they are ended: `SIGTERM`, [`LEFTOVER_GRACE`] to put things in order, `SIGKILL`. More than
//! [`CROWD`] of them are no leftovers but a fork bomb, and get no grace. Where none is left, nothing is waited for.
//! An attempt in control groups is killed by those first; the walk works everywhere, and waits for the ends.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use haul_types::{AttemptId, ExitStatus};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, getpid, kill_process_group};

use super::Supervisor;
use super::children::{Reaped, wait_for};
use super::confine::Started;
use crate::cgroup::AttemptGroup;
use crate::journal::{AppendError, Intent, Record};
use crate::message::{FromSupervisor, ToSupervisor};
use crate::order::{AttemptOrder, ExitRecord, Outcome, StopReason, Stopped};
use crate::process_table::stat;
use crate::process_tree::{descendants, signal};
use crate::user::JobUser;

/// How long processes that outlast the main one have between `SIGTERM` and `SIGKILL`.
const LEFTOVER_GRACE: Duration = Duration::from_millis(200);
/// More processes than this get no such grace.
const CROWD: usize = 64;
/// How long the news that an attempt has started may be held back: most of those that end within it would only wake
/// the agent twice.
const NEWS_HELD: Duration = Duration::from_millis(10);

/// Why a supervisor cannot go on. No process is left when it is returned.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    #[error("writing down that {0} is about to start; it was not started")]
    Intent(AttemptId, #[source] AppendError),
    #[error("writing down the end of {0}")]
    End(AttemptId, #[source] AppendError),
}

/// What the attempt is in.
enum Phase {
    /// It runs by itself.
    Running,
    /// It was told to end, or its main process has ended, and the rest has until then.
    Ending(Instant),
    /// Not one process is left.
    Over,
}

/// An attempt whose main process was made.
struct Live<'a> {
    supervisor: &'a mut Supervisor,
    attempt: AttemptId,
    main: i32,
    status: Option<ExitStatus>,
    phase: Phase,
    timeout_at: Option<Instant>,
    grace: Duration,
    stopped: Option<Stopped>,
    leftovers: BTreeSet<i32>,
    group: Option<AttemptGroup>,
    /// When the news of the start is due; `None` once it is told.
    news_at: Option<Instant>,
}

impl Supervisor {
    /// Runs one attempt to its very end.
    pub(super) fn run(&mut self, order: AttemptOrder, user: Option<&JobUser>) -> Result<(), AttemptError> {
        let attempt = order.attempt;
        let started = Instant::now();
        let started_unix_ms = unix_ms();
        let intent = Record::Intent(Intent {
            attempt,
            acknowledged: self.journal.acknowledged(),
            supervisor_pid: self.identity.pid,
            supervisor_start_ticks: self.identity.start_ticks,
            boot_id: self.identity.boot_id.clone(),
            started_unix_ms,
        });
        self.journal
            .append(&intent)
            .map_err(|e| AttemptError::Intent(attempt, e))?;
        let mut record = ExitRecord {
            attempt,
            outcome: Outcome::NotStarted,
            stopped: None,
            killed_leftovers: 0,
            oom_kills: 0,
            started_unix_ms,
            duration: Duration::ZERO,
            usage: crate::order::Usage::default(),
        };
        let mut news = Vec::with_capacity(2);
        if self.is_stopped_already(attempt) {
            record.stopped = Some(Stopped::Canceled);
        } else {
            match self.confinement.start(&order, user) {
                Err(outcome) => record.outcome = outcome,
                Ok(Started { main, group }) => {
                    let mut live = Live {
                        supervisor: self,
                        attempt,
                        main,
                        status: None,
                        phase: Phase::Running,
                        timeout_at: order.timeout.and_then(|timeout| started.checked_add(timeout)),
                        grace: order.grace,
                        stopped: None,
                        leftovers: BTreeSet::new(),
                        group,
                        news_at: Some(Instant::now() + NEWS_HELD),
                    };
                    // Arguments and environment may be large, and the attempt may last for days.
                    drop(order);
                    live.watch();
                    if live.news_at.is_some() {
                        news.push(FromSupervisor::Started { attempt, pid: main });
                    }
                    record.stopped = live.stopped;
                    record.killed_leftovers = u32::try_from(live.leftovers.len()).unwrap_or(u32::MAX);
                    if let Some(group) = live.group.take() {
                        record.oom_kills = group.oom_kills();
                        group.remove();
                    }
                    record.outcome = live.status.map_or(Outcome::NotStarted, Outcome::Exited);
                    record.usage = self.children.usage();
                }
            }
        }
        record.duration = started.elapsed();
        let written = self.journal.append(&Record::Ended(record.clone()));
        let sequence = written.map_err(|e| AttemptError::End(attempt, e))?;
        news.push(FromSupervisor::Ended { sequence, record });
        self.channel.send(&news);
        Ok(())
    }

    fn is_stopped_already(&mut self, order: AttemptId) -> bool {
        matches!(self.channel.buffered(), Some(ToSupervisor::Stop { attempt, .. }) if attempt == order)
    }
}

impl Live<'_> {
    /// Waits until not one process is left.
    fn watch(&mut self) {
        while !matches!(self.phase, Phase::Over) {
            let due = match self.phase {
                Phase::Running => self.timeout_at,
                Phase::Ending(until) => Some(until),
                Phase::Over => return,
            };
            let next = [due, self.news_at].into_iter().flatten().min();
            let ready = self.wait(next);
            if ready.children {
                self.on_children();
            }
            if ready.channel {
                self.on_channel();
            }
            if ready.control {
                self.supervisor.channel.adopt(&self.supervisor.control);
                // The one before may have been told already; this one was not.
                if self.news_at.is_none() {
                    self.tell_start();
                }
            }
            let now = Instant::now();
            if self.news_at.is_some_and(|at| at <= now) && !matches!(self.phase, Phase::Over) {
                self.write_down_start();
                self.tell_start();
            }
            match self.phase {
                Phase::Running if self.timeout_at.is_some_and(|at| at <= now) => self.stop(Stopped::TimedOut),
                Phase::Ending(until) if until <= now => self.kill(),
                _ => {}
            }
        }
    }

    fn wait(&self, until: Option<Instant>) -> Ready {
        let supervisor = &*self.supervisor;
        let children = supervisor.children.readable();
        let unused = PollFd::from_borrowed_fd(children, PollFlags::empty());
        let mut fds = [
            PollFd::from_borrowed_fd(children, PollFlags::IN),
            unused.clone(),
            unused,
        ];
        if let Some(channel) = supervisor.channel.readable() {
            fds[1] = PollFd::from_borrowed_fd(channel, PollFlags::IN);
        }
        if supervisor.channel.is_adopted() {
            fds[2] = PollFd::new(&supervisor.control, PollFlags::IN);
        }
        let time = until.map(|until| until.saturating_duration_since(Instant::now()));
        let undisturbed = wait_for(&mut fds, time);
        Ready {
            // What disturbs is nearly always the end of a child.
            children: !undisturbed || !fds[0].revents().is_empty(),
            channel: !fds[1].revents().is_empty(),
            control: !fds[2].revents().is_empty(),
        }
    }

    fn on_children(&mut self) {
        self.supervisor.children.take_notice();
        let mut main_ended = false;
        loop {
            match self.supervisor.children.reap() {
                Reaped::One(pid, status) if pid == self.main && self.status.is_none() => {
                    self.status = Some(status);
                    main_ended = true;
                }
                Reaped::One(..) => {}
                Reaped::NoneLeft => {
                    self.phase = Phase::Over;
                    return;
                }
                Reaped::NoneEnded => break,
            }
        }
        if main_ended && matches!(self.phase, Phase::Running) {
            self.end_leftovers();
        }
    }

    fn end_leftovers(&mut self) {
        let mut left = descendants(getpid().as_raw_nonzero().get());
        left.retain(|&pid| stat(pid).is_some_and(|s| s.is_alive()));
        if left.len() > CROWD {
            return self.kill();
        }
        for &pid in &left {
            terminate(pid);
        }
        self.leftovers = left;
        self.phase = Phase::Ending(Instant::now() + LEFTOVER_GRACE);
    }

    fn on_channel(&mut self) {
        if !self.supervisor.channel.read() {
            return;
        }
        while let Some(message) = self.supervisor.channel.buffered() {
            match message {
                ToSupervisor::Stop {
                    attempt,
                    why: StopReason::Canceled,
                } if attempt == self.attempt => {
                    self.stop(Stopped::Canceled);
                }
                // Of an earlier attempt, or out of turn.
                ToSupervisor::Stop { .. } | ToSupervisor::Run { .. } | ToSupervisor::Quit { .. } => {}
            }
        }
    }

    /// Tells the whole attempt to end. A second call changes nothing: the first reason and its deadline stand.
    fn stop(&mut self, why: Stopped) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        self.stopped = Some(why);
        // The main process was not waited for, so that its id is still its own. The group first: one call reaches
        // what is being forked.
        if let Some(group) = Pid::from_raw(self.main) {
            let _ = kill_process_group(group, Signal::TERM);
            let _ = kill_process_group(group, Signal::CONT);
        }
        for pid in descendants(getpid().as_raw_nonzero().get()) {
            if stat(pid).is_some_and(|s| s.group != self.main) {
                terminate(pid);
            }
        }
        let now = Instant::now();
        self.phase = Phase::Ending(now.checked_add(self.grace).unwrap_or(now));
    }

    fn kill(&mut self) {
        let main = self.main;
        let status = &mut self.status;
        let main_lived = status.is_none();
        let mut killed = self.group.as_ref().map(AttemptGroup::kill).unwrap_or_default();
        killed.append(&mut self.supervisor.children.kill_all(|pid, end| {
            if pid == main && status.is_none() {
                *status = Some(end);
            }
        }));
        if main_lived {
            killed.remove(&main);
        }
        self.leftovers.append(&mut killed);
        self.phase = Phase::Over;
    }

    fn write_down_start(&mut self) {
        let Some(start_ticks) = stat(self.main).map(|s| s.start_ticks) else {
            return;
        };
        let running = Record::Running {
            attempt: self.attempt,
            pid: self.main,
            start_ticks,
        };
        // Only a help for finding lost processes; their marks are the other.
        if let Err(error) = self.supervisor.journal.append(&running) {
            super::report(&error);
        }
    }

    fn tell_start(&mut self) {
        self.news_at = None;
        self.supervisor.channel.send(&[FromSupervisor::Started {
            attempt: self.attempt,
            pid: self.main,
        }]);
    }
}

/// What [`Live::wait`] found.
struct Ready {
    children: bool,
    channel: bool,
    control: bool,
}

/// Asks a process to end, also one that is stopped.
fn terminate(pid: i32) {
    signal(pid, Signal::TERM);
    signal(pid, Signal::CONT);
}

fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

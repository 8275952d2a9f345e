//! Waiting for children, and ending all that is left of an attempt.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use haul_types::ExitStatus;
use nix::sys::resource::{UsageWho, getrusage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, WaitOptions, WaitStatus, getpid};
use signal_hook::consts::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::order::Usage;
use crate::process_table::stat;
use crate::process_tree::{self, signal};

/// How long the deaths of killed processes are waited for before the tree is walked again, at first.
const REWALK_AFTER: Duration = Duration::from_millis(50);
/// The same, at last: what does not die for so long waits for a disk, and new processes are not to be expected.
const REWALK_AFTER_AT_MOST: Duration = Duration::from_secs(5);

/// What [`Children::reap`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaped {
    /// This one ended.
    One(i32, ExitStatus),
    /// There are some, and none has ended.
    NoneEnded,
    /// There is none. As the supervisor is their subreaper, nothing of the attempt is left at all.
    NoneLeft,
}

/// The children of this process, and what they have used so far.
pub(super) struct Children {
    /// Where the handler of SIGCHLD leaves a byte.
    ends: UnixStream,
    cpu: Duration,
    max_rss: u64,
}

impl Children {
    /// Listens for the ends of children, and outlives the signals that politely ask for its own: whoever ends this
    /// process leaves a job without a parent. By handlers, because programs are started without them; a blocked or
    /// ignored signal would be blocked or ignored in the job too.
    pub(super) fn watch() -> io::Result<Self> {
        let (ends, handler) = UnixStream::pair()?;
        ends.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(SIGCHLD, handler)?;
        let unheeded = Arc::default();
        for request in [
            SIGALRM, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2,
        ] {
            signal_hook::flag::register(request, Arc::clone(&unheeded))?;
        }
        Ok(Self {
            ends,
            cpu: Duration::ZERO,
            max_rss: 0,
        })
    }

    /// What to wait for in order to [`Self::reap`].
    pub(super) fn readable(&self) -> BorrowedFd<'_> {
        self.ends.as_fd()
    }

    /// Takes the notice that some have ended; to be done before reaping, so that none is missed.
    pub(super) fn take_notice(&self) {
        // What does not fit is taken the next time; the bytes say nothing but that there was one.
        let _ = (&self.ends).read(&mut [0; 1024]);
    }

    /// Takes one child that has ended.
    pub(super) fn reap(&self) -> Reaped {
        loop {
            return match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => Reaped::One(pid.as_raw_nonzero().get(), exit_status(status)),
                Ok(None) => Reaped::NoneEnded,
                Err(rustix::io::Errno::INTR) => continue,
                // ECHILD; there is no other.
                Err(_) => Reaped::NoneLeft,
            };
        }
    }

    /// Kills all descendants and waits until none is left. `on_end` hears of every child. Returns those it killed.
    pub(super) fn kill_all(&self, mut on_end: impl FnMut(i32, ExitStatus)) -> BTreeSet<i32> {
        let mut killed = BTreeSet::new();
        let own = getpid().as_raw_nonzero().get();
        let mut patience = REWALK_AFTER;
        loop {
            for pid in process_tree::freeze(own) {
                if stat(pid).is_some_and(|s| s.is_alive()) {
                    killed.insert(pid);
                }
                signal(pid, Signal::KILL);
            }
            let rewalk_at = Instant::now() + patience;
            loop {
                match self.reap() {
                    Reaped::One(pid, status) => on_end(pid, status),
                    Reaped::NoneLeft => return killed,
                    Reaped::NoneEnded => {
                        let left = rewalk_at.saturating_duration_since(Instant::now());
                        if left.is_zero() {
                            break;
                        }
                        wait_for(&mut [PollFd::new(&self.ends, PollFlags::IN)], Some(left));
                        self.take_notice();
                    }
                }
            }
            patience = (patience * 2).min(REWALK_AFTER_AT_MOST);
        }
    }

    /// What all children that were waited for since the last call have used.
    pub(super) fn usage(&mut self) -> Usage {
        let Ok(total) = getrusage(UsageWho::RUSAGE_CHILDREN) else {
            return Usage::default();
        };
        let cpu = duration(total.user_time()) + duration(total.system_time());
        let max_rss = total.max_rss().unsigned_abs() * 1024;
        let usage = Usage {
            cpu: cpu.saturating_sub(self.cpu),
            max_rss_bytes: (max_rss > self.max_rss).then_some(max_rss),
        };
        self.cpu = cpu;
        self.max_rss = self.max_rss.max(max_rss);
        usage
    }
}

fn duration(time: nix::sys::time::TimeVal) -> Duration {
    Duration::from_secs(time.tv_sec().unsigned_abs()) + Duration::from_micros(time.tv_usec().unsigned_abs())
}

fn exit_status(status: WaitStatus) -> ExitStatus {
    let small = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Code(small(code)),
        (None, number) => ExitStatus::Signal(small(number.unwrap_or_default())),
    }
}

/// Waits until one of `fds` is ready or the time is over. `false` when a signal came instead.
pub(super) fn wait_for(fds: &mut [PollFd<'_>], time: Option<Duration>) -> bool {
    let time = time.and_then(|time| Timespec::try_from(time).ok());
    poll(fds, time.as_ref()) != Err(rustix::io::Errno::INTR)
}

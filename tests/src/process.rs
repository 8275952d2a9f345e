//! Processes that live in a home, found in `/proc` and waited for by file descriptors.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// What a process of a home does there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The private controller.
    Controller,
    /// Its agent.
    Agent,
    /// The parent of jobs.
    Supervisor,
    /// Anything else: a job, a tool that builds an environment, a `haul` at work.
    Other,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its words, each followed by a space.
    pub words: String,
}

impl Process {
    /// All that live in the home below `root`: their environment or their words name it.
    #[must_use]
    pub fn all_below(root: &Path) -> Vec<Self> {
        let root = root.as_os_str().as_encoded_bytes();
        let names = |file: &[u8]| file.windows(root.len()).any(|part| part == root);
        let entries = std::fs::read_dir("/proc").expect("/proc can be read");
        let own = std::process::id();
        entries
            .flatten()
            .filter_map(|entry| {
                let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
                if pid.unsigned_abs() == own {
                    return None;
                }
                let read = |name| std::fs::read(entry.path().join(name)).unwrap_or_default();
                let words = read("cmdline");
                if words.is_empty() || !(names(&words) || names(&read("environ"))) {
                    return None;
                }
                let words = String::from_utf8_lossy(&words).replace('\0', " ");
                Some(Self { pid, words })
            })
            .collect()
    }

    /// What it does.
    #[must_use]
    pub fn role(&self) -> Role {
        if self.words.contains("__daemon controller") {
            Role::Controller
        } else if self.words.contains("__daemon agent") {
            Role::Agent
        } else if self.words.contains("__supervise") {
            Role::Supervisor
        } else {
            Role::Other
        }
    }

    /// Sends it a signal; one that is gone is left alone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid).expect("a process has a positive id");
        match kill_process(pid, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => panic!("cannot send {signal:?} to {self:?}: {error}"),
        }
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        assert!(
            self.is_gone_within(Duration::from_secs(20)),
            "{self:?} does not die"
        );
    }

    /// Waits until it has ended; whether it has.
    #[must_use]
    pub fn is_gone_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let pid = Pid::from_raw(self.pid).expect("a process has a positive id");
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return true,
            Err(error) => panic!("cannot watch {self:?}: {error}"),
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).expect("limits of tests are short");
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
                Ok(ready) => return ready > 0,
                Err(Errno::INTR) => {}
                Err(error) => panic!("cannot watch {self:?}: {error}"),
            }
        }
    }
}

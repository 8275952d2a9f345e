//! Being told that files grew, without asking and without slowing down who writes them.
//!
//! # Protocol
//!
//! ```text
//!            a write                changed()                 REST later, changed() again
//!   armed ──────────────▶ fired ───────────────▶ resting ─────────────────────────────────▶ armed
//!     └─ the kernel queues    the token is          writes cost the writer     the token is returned once more:
//!        one event and        returned: read        nothing                    read to the end
//!        drops the watch      to the end
//! ```
//!
//! 1. A watch is armed for *one* event (`IN_ONESHOT`). The first write fires it and wakes the reader at once, so a lone
//!    line is seen in microseconds. The kernel then forgets the watch: further writes are as fast as with no watcher.
//! 2. [`Follower::changed`] returns the file's token; the owner reads the file to its end.
//! 3. After [`REST`] the follower arms the watch again and *then* returns the token once more. A write before the arming is
//!    seen by the reading that follows it; a write after it fires the new watch. So nothing is missed, and a writer of
//!    a million tiny lines is interrupted five hundred times a second at most.
//!
//! The owner waits for [the descriptor](AsFd) to be readable or for [`Follower::due`], whichever comes first, and calls
//! `changed`. While no file changes nothing is due and nobody wakes up. [`Follower::wait`] does the waiting for threads.
//!
//! When the kernel's queue overflows, every token is returned and every watch armed anew. The watch goes with the file, not
//! with its name: a file that was renamed or removed while it rested is no longer watched, and its token is returned a
//! last time.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// How long a file that changed is left alone before it is looked at again.
pub const REST: Duration = Duration::from_millis(2);
/// After so many rests the watch in the way is not the file's own fired one, but another token's.
const REFUSALS: u32 = 1_000;

/// Watches files for writes: see the [module](self). `T` is the owner's name for a file.
#[derive(Debug)]
pub struct Follower<T> {
    inotify: OwnedFd,
    files: HashMap<T, Watch>,
    tokens: HashMap<i32, T>,
    /// Who rests and until when, earliest first: all rest equally long.
    resting: VecDeque<(Instant, T)>,
}

#[derive(Debug)]
struct Watch {
    path: PathBuf,
    /// The kernel's number while armed.
    armed: Option<i32>,
    /// How often in a row it could not be armed again because the file has a watch.
    refused: u32,
}

/// A file cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel gives no inotify instance: `fs.inotify.max_user_instances`.
    #[error("cannot watch files (see the limit fs.inotify.max_user_instances)")]
    Instance(#[source] io::Error),
    /// The user's limit of watches is reached.
    #[error("cannot watch {}: the limit fs.inotify.max_user_watches is reached", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file does not exist or is not readable.
    #[error("cannot watch {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another token stands for this very file.
    #[error("{} is watched already", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
    },
    /// Waiting for or reading events failed.
    #[error("cannot read file events")]
    Events(#[source] io::Error),
}

impl<T: Copy + Eq + Hash> Follower<T> {
    /// A follower of no files.
    ///
    /// # Errors
    ///
    /// When the kernel gives no inotify instance.
    pub fn new() -> Result<Self, WatchError> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|errno| WatchError::Instance(errno.into()))?;
        Ok(Self {
            inotify,
            files: HashMap::new(),
            tokens: HashMap::new(),
            resting: VecDeque::new(),
        })
    }

    /// Watches the file at `path`, which must exist, from now on. Read it to its end after this: what was written before is
    /// not told. A token that was in use stands for the new file.
    ///
    /// # Errors
    ///
    /// When the file cannot be watched, or is watched under another token.
    pub fn watch(&mut self, path: &Path, token: T) -> Result<(), WatchError> {
        self.unwatch(token);
        let armed = self.arm(path, token)?;
        self.files.insert(
            token,
            Watch {
                path: path.to_owned(),
                armed: Some(armed),
                refused: 0,
            },
        );
        Ok(())
    }

    /// Forgets the file; a token nobody watches is forgotten already.
    pub fn unwatch(&mut self, token: T) {
        let Some(watch) = self.files.remove(&token) else {
            return;
        };
        match watch.armed {
            Some(number) => {
                self.tokens.remove(&number);
                // Fails when it has just fired: its event finds no token.
                let _ = inotify::remove_watch(&self.inotify, number);
            }
            None => self.resting.retain(|(_, resting)| *resting != token),
        }
    }

    /// Whether the token's file is watched: no longer, when the file is gone.
    #[must_use]
    pub fn is_watched(&self, token: T) -> bool {
        self.files.contains_key(&token)
    }

    /// When [`changed`](Self::changed) has something to do although the descriptor may be silent.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.resting.front().map(|(until, _)| *until)
    }

    /// Takes all events that wait, never blocks, and returns the files that may have grown, each once. Read each to its
    /// end. An async owner clears its readiness first.
    ///
    /// # Errors
    ///
    /// When events cannot be read or a watch cannot be armed again for want of kernel memory or quota.
    pub fn changed(&mut self) -> Result<Vec<T>, WatchError> {
        let now = Instant::now();
        let mut changed = self.drain(now)?;
        while let Some(&(until, token)) = self.resting.front() {
            if until > now {
                break;
            }
            self.resting.pop_front();
            let Some(path) = self.files.get(&token).map(|watch| watch.path.clone()) else {
                continue;
            };
            changed.push(token);
            match self.arm(&path, token) {
                Ok(number) => {
                    if let Some(watch) = self.files.get_mut(&token) {
                        watch.armed = Some(number);
                        watch.refused = 0;
                    }
                }
                Err(WatchError::Twice { .. }) if self.may_still_end(token) => {
                    self.resting.push_back((now + REST, token));
                }
                Err(WatchError::File { .. } | WatchError::Twice { .. }) => {
                    self.files.remove(&token);
                }
                Err(error) => {
                    // Stays due: nothing is lost, and the owner hears of it until there is room.
                    self.resting.push_front((now, token));
                    return Err(error);
                }
            }
        }
        Ok(changed)
    }

    /// Blocks until files may have grown, as [`changed`](Self::changed) tells them, or `timeout` has passed.
    ///
    /// # Errors
    ///
    /// As [`changed`](Self::changed).
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Vec<T>, WatchError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let changed = self.changed()?;
            if !changed.is_empty() || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(changed);
            }
            let until = [self.due(), deadline].into_iter().flatten().min();
            let left = until
                .and_then(|until| Timespec::try_from(until.saturating_duration_since(Instant::now())).ok());
            let mut fds = [PollFd::new(&self.inotify, PollFlags::IN)];
            match poll(&mut fds, left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(WatchError::Events(errno.into())),
            }
        }
    }

    /// Reads all events; returns whose watches fired, who now rest.
    fn drain(&mut self, now: Instant) -> Result<Vec<T>, WatchError> {
        let mut changed = Vec::new();
        let mut overflowed = false;
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(event) => {
                    overflowed |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                    // The watch's own end follows each event and finds no token.
                    if let Some(token) = self.tokens.remove(&event.wd()) {
                        changed.push(token);
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(WatchError::Events(errno.into())),
            }
        }
        if overflowed {
            for (number, token) in self.tokens.drain() {
                let _ = inotify::remove_watch(&self.inotify, number);
                changed.push(token);
            }
        }
        for token in &changed {
            if let Some(watch) = self.files.get_mut(token) {
                watch.armed = None;
            }
            self.resting.push_back((now + REST, *token));
        }
        Ok(changed)
    }

    /// Whether a file that refuses a second watch may be refusing because of its own fired one: the kernel queues the event
    /// first and drops the watch then, and the writer may lose its CPU in between.
    fn may_still_end(&mut self, token: T) -> bool {
        self.files.get_mut(&token).is_some_and(|watch| {
            watch.refused += 1;
            watch.refused < REFUSALS
        })
    }

    fn arm(&mut self, path: &Path, token: T) -> Result<i32, WatchError> {
        let flags = WatchFlags::MODIFY | WatchFlags::ONESHOT | WatchFlags::MASK_CREATE;
        match inotify::add_watch(&self.inotify, path, flags) {
            Ok(number) => {
                self.tokens.insert(number, token);
                Ok(number)
            }
            Err(Errno::EXIST) => Err(WatchError::Twice {
                path: path.to_owned(),
            }),
            Err(errno @ (Errno::NOSPC | Errno::NOMEM)) => Err(WatchError::TooMany {
                path: path.to_owned(),
                source: errno.into(),
            }),
            Err(errno) => Err(WatchError::File {
                path: path.to_owned(),
                source: errno.into(),
            }),
        }
    }
}

impl<T> AsFd for Follower<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl<T> AsRawFd for Follower<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_raw_fd()
    }
}

#[cfg(test)]
mod tests;

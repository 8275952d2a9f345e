//! Ships what attempts write to the controller, from the files they write to.
//!
//! ```text
//!   file ──(told by inotify)──► read at `sent` ──► ShipLogs ──► controller
//!                                                    │ durable up to
//!                                 `acknowledged` ◄───┘
//! ```
//!
//! One task owns all of it. A file is read only as fast as the controller takes its bytes, so memory is bounded and a
//! slow controller slows nobody but the log. After a lost connection everything past `acknowledged` is sent again;
//! the controller knows what it has by the offset. A controller that refuses bytes, because its disk is full, ends the
//! connection and may well keep its session: the shipper comes back by itself, at growing intervals. The end of an attempt is told only once its streams are complete
//! there, but for a short tail, which travels with the end itself: a task that says little costs no call of its own.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use haul_client::Client;
use haul_proto::v1;
use haul_spool::Follower;
use haul_types::{AttemptId, StreamKind};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use self::work::work;

mod work;

/// At most so much travels with the end of an attempt.
pub(crate) const MAX_TAIL_BYTES: u64 = 64 << 10;
/// Requests of attempts; each waits for its turn.
const REQUESTS_AHEAD: usize = 256;

/// What an attempt is known by here: its streams' files.
pub(crate) type Files = [(StreamKind, PathBuf); 3];

enum Request {
    /// Ship these files as they grow.
    Watch(AttemptId, Files),
    /// Nobody writes to them any more: say when at most the tail is missing, and give that.
    Finish(AttemptId, Files, oneshot::Sender<io::Result<Finished>>),
    /// Its end is stored, or nobody wants it.
    Forget(AttemptId),
    /// There is a new connection.
    Connected(Client),
    /// The controller answered on the connection of this number.
    Answered(u64, v1::ShipLogsResponse),
    /// That connection has ended, for this reason.
    Broken(u64, Status),
}

/// The streams of an attempt, at its end.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    /// Their lengths.
    pub(crate) lengths: [u64; 3],
    /// What the controller does not have yet.
    pub(crate) tail: Vec<v1::LogFrame>,
}

/// The handle.
#[derive(Clone, Debug)]
pub(crate) struct Shipper {
    requests: mpsc::Sender<Request>,
    /// Attempts that were given to [`Self::watch`].
    watched: Arc<Mutex<HashSet<AttemptId>>>,
}

impl Shipper {
    /// A shipper and the task that does its work, which ends with the last handle.
    pub(crate) fn new() -> Result<(Self, impl Future<Output = ()>), haul_spool::WatchError> {
        let (requests, receiver) = mpsc::channel(REQUESTS_AHEAD);
        let follower = Follower::new()?;
        let weak = requests.downgrade();
        Ok((
            Self {
                requests,
                watched: Arc::default(),
            },
            work(follower, receiver, weak),
        ))
    }

    /// Ships these files as they grow.
    pub(crate) async fn watch(&self, attempt: AttemptId, files: Files) {
        self.watched().insert(attempt);
        let _ = self.requests.send(Request::Watch(attempt, files)).await;
    }

    /// Whether the attempt's files are shipped already.
    pub(crate) fn watches(&self, attempt: AttemptId) -> bool {
        self.watched().contains(&attempt)
    }

    fn watched(&self) -> MutexGuard<'_, HashSet<AttemptId>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the controller has all but a short tail of the files, which nobody writes to any more.
    pub(crate) async fn finish(&self, attempt: AttemptId, files: Files) -> io::Result<Finished> {
        let (sender, receiver) = oneshot::channel();
        self.watched().insert(attempt);
        let _ = self.requests.send(Request::Finish(attempt, files, sender)).await;
        receiver
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the log shipper has ended")))
    }

    /// Forgets an attempt.
    pub(crate) async fn forget(&self, attempt: AttemptId) {
        if self.watched().remove(&attempt) {
            let _ = self.requests.send(Request::Forget(attempt)).await;
        }
    }

    /// Goes on over a new connection.
    pub(crate) async fn connected(&self, client: Client) {
        let _ = self.requests.send(Request::Connected(client)).await;
    }
}

/// A stream's file, read at offsets. One that is not there (yet) has no bytes.
fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the short streams of an attempt that was never watched; `None` when they are too long to travel with its end.
pub(crate) fn read_short(files: &Files) -> io::Result<Option<Finished>> {
    let mut finished = Finished::default();
    let mut opened = Vec::with_capacity(files.len());
    for (place, (kind, path)) in files.iter().enumerate() {
        if let Some(file) = open(path)? {
            finished.lengths[place] = file.metadata()?.len();
            opened.push((*kind, file, finished.lengths[place]));
        }
    }
    if finished.lengths.iter().sum::<u64>() > MAX_TAIL_BYTES {
        return Ok(None);
    }
    for (kind, file, length) in opened.into_iter().filter(|(_, _, length)| *length > 0) {
        let mut data = vec![0; length as usize];
        file.read_exact_at(&mut data, 0)?;
        finished.tail.push(v1::LogFrame {
            stream: kind as i32,
            offset: 0,
            data: data.into(),
        });
    }
    Ok(Some(finished))
}

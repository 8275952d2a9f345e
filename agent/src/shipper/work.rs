//! The task that ships: it owns the follower, the streams and the connection.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use haul_client::{Backoff, Client};
use haul_proto::{MAX_LOG_FRAME_BYTES, v1};
use haul_spool::Follower;
use haul_types::{AttemptId, StreamKind};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};

use super::{Files, Finished, MAX_TAIL_BYTES, Request, open};

/// Frames between the files and the connection.
const FRAMES_AHEAD: usize = 2;

#[derive(Debug)]
struct Stream {
    path: PathBuf,
    file: Option<File>,
    sent: u64,
    acknowledged: u64,
}

impl Stream {
    fn length(&mut self) -> io::Result<u64> {
        if self.file.is_none() {
            self.file = open(&self.path)?;
        }
        self.file
            .as_ref()
            .map_or(Ok(0), |file| Ok(file.metadata()?.len()))
    }

    /// The next bytes to send, empty when there are none now.
    fn read(&mut self, most: usize) -> io::Result<Bytes> {
        let length = self.length()?;
        let Some(file) = self.file.as_ref().filter(|_| length > self.sent) else {
            return Ok(Bytes::new());
        };
        let want = usize::try_from(length - self.sent)
            .unwrap_or(usize::MAX)
            .min(most);
        let mut data = BytesMut::zeroed(want);
        let read = file.read_at(&mut data, self.sent)?;
        data.truncate(read);
        Ok(data.freeze())
    }
}

type Key = (AttemptId, StreamKind);

struct Work {
    /// For the tasks that listen to the controller; weak, so that the last handle ends the work.
    requests: mpsc::WeakSender<Request>,
    follower: AsyncFd<Follower<u64>>,
    tokens: BTreeMap<u64, Key>,
    next_token: u64,
    streams: BTreeMap<Key, Stream>,
    /// Streams that may have bytes to send.
    ready: BTreeSet<Key>,
    /// Which of them was served last, so that they take turns.
    served: Option<Key>,
    finishing: BTreeMap<AttemptId, oneshot::Sender<io::Result<Finished>>>,
    frames: Option<mpsc::Sender<v1::ShipLogsRequest>>,
    /// How to reach the controller, once it was reached.
    client: Option<Client>,
    /// When to try again to ship, if the connection has ended.
    again: Option<Instant>,
    backoff: Backoff,
    /// Tells answers of the present connection from those of an earlier one.
    connection: u64,
    listeners: TaskTracker,
}

pub(super) async fn work(
    follower: Follower<u64>,
    mut requests: mpsc::Receiver<Request>,
    weak: mpsc::WeakSender<Request>,
) {
    #[expect(
        deprecated,
        reason = "`register` is unsafe to call; a follower owns its descriptor and never replaces it"
    )]
    let follower = match AsyncFd::new(follower) {
        Ok(follower) => follower,
        Err(error) => {
            tracing::error!(%error, "cannot wait for changes of log files");
            return;
        }
    };
    let mut work = Work {
        requests: weak,
        follower,
        tokens: BTreeMap::new(),
        next_token: 0,
        streams: BTreeMap::new(),
        ready: BTreeSet::new(),
        served: None,
        finishing: BTreeMap::new(),
        frames: None,
        client: None,
        again: None,
        backoff: Backoff::lasting(),
        connection: 0,
        listeners: TaskTracker::new(),
    };
    loop {
        let frames = work.frames.clone().filter(|_| !work.ready.is_empty());
        let due = work.follower.get_ref().due();
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => work.on_request(request),
                None => return,
            },
            permit = room(frames) => match permit {
                Some(permit) => work.send_one(permit),
                None => work.frames = None,
            },
            ready = work.follower.readable() => {
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
                work.on_changed();
            }
            () = rested(due) => work.on_changed(),
            () = rested(work.again) => work.connect(),
        }
    }
}

/// Waits until the connection takes another frame; `None` when it is gone. For ever when there is nothing to send.
async fn room(
    frames: Option<mpsc::Sender<v1::ShipLogsRequest>>,
) -> Option<mpsc::OwnedPermit<v1::ShipLogsRequest>> {
    match frames {
        Some(frames) => frames.reserve_owned().await.ok(),
        None => std::future::pending().await,
    }
}

/// Waits for a moment at which there is something to do although nothing was told.
async fn rested(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

impl Work {
    fn on_request(&mut self, request: Request) {
        match request {
            Request::Watch(attempt, files) => self.watch(attempt, files),
            Request::Finish(attempt, files, answer) => {
                if !self.streams.contains_key(&(attempt, StreamKind::Setup)) {
                    self.add(attempt, files);
                }
                self.ready.extend(StreamKind::ALL.map(|kind| (attempt, kind)));
                self.finishing.insert(attempt, answer);
                self.try_finish(attempt);
            }
            Request::Forget(attempt) => self.forget(attempt),
            Request::Connected(client) => {
                self.client = Some(client);
                self.backoff.reset();
                self.connect();
            }
            Request::Answered(connection, answer) if connection == self.connection => self.on_answer(&answer),
            Request::Broken(connection, status) if connection == self.connection => self.on_broken(&status),
            Request::Answered(..) | Request::Broken(..) => {}
        }
    }

    fn add(&mut self, attempt: AttemptId, files: Files) {
        for (kind, path) in files {
            let stream = Stream {
                path,
                file: None,
                sent: 0,
                acknowledged: 0,
            };
            self.streams.entry((attempt, kind)).or_insert(stream);
        }
    }

    fn watch(&mut self, attempt: AttemptId, files: Files) {
        let paths = files.clone();
        self.add(attempt, files);
        for (kind, path) in paths {
            if self.tokens.values().any(|key| *key == (attempt, kind)) {
                continue;
            }
            let token = self.next_token;
            self.next_token += 1;
            match self.follower.get_mut().watch(&path, token) {
                Ok(()) => drop(self.tokens.insert(token, (attempt, kind))),
                // Not made yet: the setup stream of a job that needs no setup. It is read at the end.
                Err(error) if !path.exists() => tracing::trace!(%error, "not watched"),
                // It is still shipped, at the end of the attempt.
                Err(error) => tracing::warn!(%error, "cannot follow a log as it grows"),
            }
            self.ready.insert((attempt, kind));
        }
    }

    fn on_changed(&mut self) {
        match self.follower.get_mut().changed() {
            Ok(tokens) => self
                .ready
                .extend(tokens.iter().filter_map(|token| self.tokens.get(token))),
            Err(error) => tracing::warn!(%error, "cannot tell which logs grew"),
        }
    }

    /// Sends the next bytes of the stream whose turn it is.
    fn send_one(&mut self, permit: mpsc::OwnedPermit<v1::ShipLogsRequest>) {
        let after = self.served.and_then(|served| {
            self.ready
                .range((Bound::Excluded(served), Bound::Unbounded))
                .next()
        });
        let Some(&key) = after.or_else(|| self.ready.first()) else {
            return;
        };
        self.served = Some(key);
        let Some(stream) = self.streams.get_mut(&key) else {
            self.ready.remove(&key);
            return;
        };
        match stream.read(MAX_LOG_FRAME_BYTES) {
            Ok(data) if data.is_empty() => {
                self.ready.remove(&key);
                self.try_finish(key.0);
            }
            Ok(data) => {
                let frame = v1::LogFrame {
                    stream: key.1 as i32,
                    offset: stream.sent,
                    data,
                };
                stream.sent += frame.data.len() as u64;
                permit.send(v1::ShipLogsRequest {
                    attempt: Some(key.0.into()),
                    frame: Some(frame),
                });
            }
            Err(error) => {
                self.ready.remove(&key);
                self.fail(key.0, error);
            }
        }
    }

    fn fail(&mut self, attempt: AttemptId, error: io::Error) {
        tracing::error!(%attempt, %error, "cannot read a log");
        if let Some(answer) = self.finishing.remove(&attempt) {
            let _ = answer.send(Err(error));
        }
    }

    fn on_answer(&mut self, answer: &v1::ShipLogsResponse) {
        let (Ok(attempt), Ok(kind)) = (haul_proto::attempt(answer.attempt.as_ref()), answer.kind()) else {
            tracing::warn!(
                ?answer,
                "the controller acknowledged something that is none of ours"
            );
            return;
        };
        if answer.unwanted {
            for kind in StreamKind::ALL {
                self.ready.remove(&(attempt, kind));
            }
            if let Some(waiting) = self.finishing.remove(&attempt) {
                let _ = waiting.send(Ok(Finished::default()));
            }
            return;
        }
        if let Some(stream) = self.streams.get_mut(&(attempt, kind)) {
            if answer.durable > stream.acknowledged {
                self.backoff.reset();
            }
            stream.acknowledged = stream.acknowledged.max(answer.durable);
            stream.sent = stream.sent.max(stream.acknowledged);
        }
        self.try_finish(attempt);
    }

    /// Answers who waits for the attempt's streams, if no more than a short tail is missing.
    fn try_finish(&mut self, attempt: AttemptId) {
        if !self.finishing.contains_key(&attempt) {
            return;
        }
        let finished = self.finished(attempt);
        if let Some(finished) = finished.transpose()
            && let Some(answer) = self.finishing.remove(&attempt)
        {
            let _ = answer.send(finished);
        }
    }

    fn finished(&mut self, attempt: AttemptId) -> io::Result<Option<Finished>> {
        let mut finished = Finished::default();
        let mut missing = 0;
        for (place, kind) in StreamKind::ALL.into_iter().enumerate() {
            let Some(stream) = self.streams.get_mut(&(attempt, kind)) else {
                continue;
            };
            finished.lengths[place] = stream.length()?;
            missing += finished.lengths[place] - stream.acknowledged;
        }
        if missing > MAX_TAIL_BYTES {
            return Ok(None);
        }
        for kind in StreamKind::ALL {
            let Some(stream) = self.streams.get_mut(&(attempt, kind)) else {
                continue;
            };
            stream.sent = stream.acknowledged;
            loop {
                let offset = stream.sent;
                let data = stream.read(MAX_LOG_FRAME_BYTES)?;
                if data.is_empty() {
                    break;
                }
                stream.sent += data.len() as u64;
                finished.tail.push(v1::LogFrame {
                    stream: kind as i32,
                    offset,
                    data,
                });
            }
            self.ready.remove(&(attempt, kind));
        }
        Ok(Some(finished))
    }

    fn forget(&mut self, attempt: AttemptId) {
        for kind in StreamKind::ALL {
            self.streams.remove(&(attempt, kind));
            self.ready.remove(&(attempt, kind));
        }
        let follower = self.follower.get_mut();
        self.tokens.retain(|&token, key| {
            let keep = key.0 != attempt;
            if !keep {
                follower.unwatch(token);
            }
            keep
        });
        self.finishing.remove(&attempt);
    }

    /// The session may well go on, and then nobody else would connect again.
    fn on_broken(&mut self, status: &Status) {
        self.frames = None;
        self.again = self.backoff.next_wait().map(|wait| Instant::now() + wait);
        // Once, not with each try; and a controller that has gone is the session's to tell.
        let gone = matches!(
            status.code(),
            Code::Ok | Code::Unknown | Code::Unavailable | Code::Cancelled
        );
        if !gone && self.backoff.failures() == 1 {
            tracing::warn!(%status, "the controller takes no logs; trying again until it does");
        }
    }

    /// Sends everything that is not acknowledged over a new connection.
    fn connect(&mut self) {
        self.again = None;
        let Some(client) = self.client.clone() else {
            return;
        };
        self.connection += 1;
        let connection = self.connection;
        let (frames, outgoing) = mpsc::channel(FRAMES_AHEAD);
        self.frames = Some(frames);
        for (key, stream) in &mut self.streams {
            stream.sent = stream.acknowledged;
            self.ready.insert(*key);
        }
        let requests = self.requests.clone();
        self.listeners.spawn(async move {
            let outcome = listen(client, outgoing, &requests, connection).await;
            let status = outcome
                .err()
                .unwrap_or_else(|| Status::ok("the connection was closed"));
            if let Some(requests) = requests.upgrade() {
                let _ = requests.send(Request::Broken(connection, status)).await;
            }
        });
    }
}

/// Carries frames out and answers in, until the connection ends.
async fn listen(
    client: Client,
    outgoing: mpsc::Receiver<v1::ShipLogsRequest>,
    requests: &mpsc::WeakSender<Request>,
    connection: u64,
) -> Result<(), Status> {
    let call = haul_proto::client::agent(client.calls())
        .ship_logs(ReceiverStream::new(outgoing))
        .await?;
    let mut answers = call.into_inner();
    while let Some(answer) = answers.message().await? {
        let Some(requests) = requests.upgrade() else { break };
        if requests
            .send(Request::Answered(connection, answer))
            .await
            .is_err()
        {
            break;
        }
    }
    Ok(())
}

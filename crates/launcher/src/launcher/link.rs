//! The agent's end of the conversation with one supervisor.

use std::io::{self, Write};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;

use haul_types::AttemptId;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::frame::{self, FrameError, Incoming};
use crate::message::{FromSupervisor, ToSupervisor};
use crate::order::StopReason;

/// Bytes asked for at once: the news of a few attempts.
const READ_BYTES: usize = 2048;

/// A stream of messages with a supervisor.
#[derive(Debug)]
pub(super) struct Link {
    stream: UnixStream,
    /// The same socket, for words that are said outside of a task.
    side: Arc<StdStream>,
    incoming: Incoming,
}

impl Link {
    /// Takes the stream; to be called within a runtime.
    pub(super) fn new(stream: StdStream, incoming: Incoming) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let side = Arc::new(stream.try_clone()?);
        Ok(Self {
            stream: UnixStream::from_std(stream)?,
            side,
            incoming,
        })
    }

    /// Sends bytes that [`frame::encode`] made.
    pub(super) async fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.stream.write_all(frame).await
    }

    /// The next message; `None` when the supervisor is gone or talks nonsense. Nothing is lost when the future is
    /// dropped.
    pub(super) async fn receive(&mut self) -> Option<FromSupervisor> {
        loop {
            if let Some(message) = self.incoming.next().ok()? {
                return Some(message);
            }
            let mut bytes = [0; READ_BYTES];
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.incoming.extend(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.readable().await.ok()?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    /// The socket, for [`say`].
    pub(super) const fn side(&self) -> &Arc<StdStream> {
        &self.side
    }
}

/// Says something short without waiting. It always fits: at most one order is on its way to a supervisor, and a large
/// one has been read before anything else is said.
pub(super) fn say(mut side: &StdStream, message: &ToSupervisor) -> Result<(), FrameError> {
    let frame = frame::encode(message, Vec::with_capacity(64))?;
    // It fails when the supervisor is gone, which is noticed by whoever listens.
    let _ = side.write_all(&frame);
    Ok(())
}

/// Asks for the end of `attempt`.
pub(super) fn say_stop(side: &StdStream, attempt: AttemptId, why: StopReason) {
    // Always encodable: an id and a word.
    let _ = say(side, &ToSupervisor::Stop { attempt, why });
}

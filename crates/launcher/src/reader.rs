//! Reading messages from a connection between agent and launcher.

use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt;
use tokio::net::unix::OwnedReadHalf;

use crate::frame::Incoming;

/// Bytes asked for at once: an order with a usual environment.
const READ_BYTES: usize = 16 << 10;

/// The receiving half.
pub(crate) struct Reader {
    stream: OwnedReadHalf,
    incoming: Incoming,
    buffer: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(stream: OwnedReadHalf) -> Self {
        Self {
            stream,
            incoming: Incoming::default(),
            buffer: vec![0; READ_BYTES],
        }
    }

    /// The next message; `None` when the other side is gone or talks nonsense. Nothing is lost when the future is dropped.
    pub(crate) async fn receive<T: DeserializeOwned>(&mut self) -> Option<T> {
        loop {
            match self.incoming.next() {
                Ok(Some(message)) => return Some(message),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "the other side of the launcher's socket makes no sense");
                    return None;
                }
            }
            match self.stream.read(&mut self.buffer).await {
                Ok(count) if count > 0 => self.incoming.extend(&self.buffer[..count]),
                _ => return None,
            }
        }
    }
}

//! Brings chunks of a snapshot here, as frames.

use bytes::Bytes;
use haul_proto::{client, digests_to_bytes, v1};
use haul_types::Digest;
use tonic::{Status, Streaming};

use crate::{CallError, Client};

/// The most digests in one request, as the contract has it.
pub(crate) const DIGESTS_PER_CALL: usize = 100_000;

/// Frames on their way; they may hold chunks that were not asked for.
#[derive(Debug)]
pub struct Frames {
    client: Client,
    wanted: Vec<Digest>,
    asked: usize,
    messages: Option<Streaming<v1::FetchResponse>>,
}

impl Client {
    /// Fetches chunks. What a frame holds is for the reader to verify. Not resumed when the connection is lost: ask
    /// again for what is missing then.
    #[must_use]
    pub fn fetch_frames(&self, wanted: Vec<Digest>) -> Frames {
        Frames {
            client: self.clone(),
            wanted,
            asked: 0,
            messages: None,
        }
    }
}

impl Frames {
    /// The next frame; none after the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        Ok(self.step().await?)
    }

    async fn step(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(messages) = &mut self.messages
                && let Some(message) = messages.message().await?
            {
                return Ok(Some(message.frame));
            }
            let rest = &self.wanted[self.asked..];
            if rest.is_empty() {
                return Ok(None);
            }
            let some = &rest[..rest.len().min(DIGESTS_PER_CALL)];
            let request = v1::FetchRequest {
                digests: digests_to_bytes(some),
            };
            self.asked += some.len();
            let answer = client::snapshots(self.client.channel.clone())
                .fetch(request)
                .await?;
            self.messages = Some(answer.into_inner());
        }
    }
}

//! Messages on a byte stream: a length of four bytes, little-endian, then the message in postcard's encoding.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest message. An environment and its arguments are at most a few MiB on Linux (`ARG_MAX`).
const MAX_BYTES: usize = 16 << 20;
const LENGTH_BYTES: usize = 4;

/// A stream that holds something else than messages.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a message of {0} bytes; the limit is {MAX_BYTES}")]
    TooLarge(usize),
    #[error("not a message of this protocol")]
    Malformed(#[source] postcard::Error),
}

/// Appends `message` to `out`.
pub(crate) fn encode<T: Serialize>(message: &T, mut out: Vec<u8>) -> Result<Vec<u8>, FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    let mut out = postcard::to_extend(message, out).map_err(FrameError::Malformed)?;
    let length = out.len() - start - LENGTH_BYTES;
    if length > MAX_BYTES {
        return Err(FrameError::TooLarge(length));
    }
    // Fits: the limit is far below 2^32.
    out[start..start + LENGTH_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(out)
}

/// Bytes as they arrived, cut into messages.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    bytes: Vec<u8>,
    taken: usize,
}

impl Incoming {
    /// Adds what was read.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, if it has arrived.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let rest = &self.bytes[self.taken..];
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_BYTES {
            return Err(FrameError::TooLarge(length));
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = postcard::from_bytes(body).map_err(FrameError::Malformed)?;
        self.taken += LENGTH_BYTES + length;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_survive_any_cut_of_the_stream(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            cut in 1usize..64,
        ) {
            let mut stream = Vec::new();
            for message in &messages {
                stream = encode(message, stream).unwrap();
            }
            let mut incoming = Incoming::default();
            let mut read = Vec::new();
            for piece in stream.chunks(cut) {
                incoming.extend(piece);
                while let Some(message) = incoming.next::<Vec<u8>>().unwrap() {
                    read.push(message);
                }
            }
            prop_assert_eq!(read, messages);
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut incoming = Incoming::default();
            incoming.extend(&bytes);
            while let Ok(Some(_)) = incoming.next::<crate::message::ToSupervisor>() {}
        }
    }
}

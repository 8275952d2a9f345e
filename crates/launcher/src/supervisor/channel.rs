//! The supervisor's end of the conversation: with the agent that started it, later with one that adopted it.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::report;
use crate::frame::{self, Incoming};
use crate::message::{FromSupervisor, ToSupervisor};

/// Bytes asked for at once: an order with a usual environment.
const READ_BYTES: usize = 16 << 10;

/// A stream of messages that may break at any time; that it broke is an answer, not an error.
pub(super) struct Channel {
    /// `None` when nobody is there.
    stream: Option<UnixStream>,
    incoming: Incoming,
    adopted: bool,
    buffer: Vec<u8>,
}

impl Channel {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream: Some(stream),
            incoming: Incoming::default(),
            adopted: false,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Whether the agent that started this supervisor is gone.
    pub(super) const fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// What to wait for in order to [`Self::read`].
    pub(super) fn readable(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(AsFd::as_fd)
    }

    /// The next message; waits for it. `None` when the agent is gone.
    pub(super) fn receive(&mut self) -> Option<ToSupervisor> {
        loop {
            if let Some(message) = self.buffered() {
                return Some(message);
            }
            if !self.read() {
                return None;
            }
        }
    }

    /// A message that has arrived already.
    pub(super) fn buffered(&mut self) -> Option<ToSupervisor> {
        self.incoming.next().unwrap_or_else(|error| {
            report(&error);
            self.cut();
            None
        })
    }

    /// Reads once, waiting if there is nothing. `false` when the other side is gone.
    pub(super) fn read(&mut self) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        match stream.read(&mut self.buffer) {
            Ok(count) if count > 0 => {
                self.incoming.extend(&self.buffer[..count]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => true,
            // Closed, or reset because it died with unread words of ours.
            Ok(_) | Err(_) => {
                self.cut();
                false
            }
        }
    }

    /// Whether the other side is gone, however much of what it sent is still unread.
    pub(super) fn is_cut(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| {
            let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
            let asked = poll(&mut fds, Some(&Timespec::default()));
            asked.is_ok()
                && fds[0]
                    .revents()
                    .intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
        })
    }

    /// Says these, in one write.
    pub(super) fn send(&mut self, messages: &[FromSupervisor]) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let mut bytes = Vec::with_capacity(512);
        for message in messages {
            match frame::encode(message, bytes) {
                Ok(more) => bytes = more,
                Err(error) => {
                    report(&error);
                    return self.cut();
                }
            }
        }
        if stream.write_all(&bytes).is_err() {
            self.cut();
        }
    }

    /// Takes the next agent's connection. The latest one counts: an earlier one is of an agent that died.
    pub(super) fn adopt(&mut self, control: &UnixListener) {
        if let Ok((stream, _)) = control.accept() {
            self.stream = Some(stream);
            self.incoming = Incoming::default();
        }
    }

    fn cut(&mut self) {
        self.stream = None;
        self.incoming = Incoming::default();
        self.adopted = true;
    }
}

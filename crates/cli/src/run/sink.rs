//! Passes a job's bytes on as they are, without anything in between.
//!
//! A write to a pipe or a terminal may block as long as its reader likes; it happens on a thread of its own, so that
//! signals are heard meanwhile. A file is written at once.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

/// One of our standard streams, as bytes.
#[derive(Debug)]
pub(crate) struct Sink {
    file: Arc<File>,
    may_block: bool,
    writing: Option<JoinHandle<io::Result<()>>>,
}

impl Sink {
    /// Standard output.
    pub(crate) fn stdout() -> io::Result<Self> {
        Self::of(io::stdout().as_fd())
    }

    /// Standard error.
    pub(crate) fn stderr() -> io::Result<Self> {
        Self::of(io::stderr().as_fd())
    }

    fn of(fd: impl AsFd) -> io::Result<Self> {
        let file = File::from(fd.as_fd().try_clone_to_owned()?);
        let may_block = !file.metadata()?.is_file();
        Ok(Self {
            file: Arc::new(file),
            may_block,
            writing: None,
        })
    }

    /// Begins to write. What was begun before must have been [settled](Self::settle).
    pub(crate) fn begin(&mut self, data: Bytes) -> io::Result<()> {
        debug_assert!(self.writing.is_none(), "one write at a time keeps the order");
        if !self.may_block {
            return (&*self.file).write_all(&data);
        }
        let file = self.file.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || (&*file).write_all(&data)));
        Ok(())
    }

    /// Waits until what was begun is written. Dropping the future loses nothing.
    pub(crate) async fn settle(&mut self) -> io::Result<()> {
        let Some(writing) = &mut self.writing else {
            return Ok(());
        };
        let outcome = writing.await;
        self.writing = None;
        outcome.map_err(io::Error::other)?
    }
}

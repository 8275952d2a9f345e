//! The connection to the launcher, made again whenever it is lost.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use haul_types::AttemptId;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{ConnectError, Shared};
use crate::cgroup::Enforced;
use crate::frame;
use crate::protocol::{FromLauncher, Standing, ToLauncher, VERSION};
use crate::reader::Reader;

/// How long to wait before the launcher is tried again: it is restarted on the same machine, and is soon back.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// One connection.
pub(super) struct Session {
    reader: Reader,
    writing: OwnedWriteHalf,
}

/// What a launcher says first.
pub(super) struct Welcome {
    pub(super) users: u32,
    pub(super) enforced: Enforced,
    pub(super) attempts: Vec<(AttemptId, Standing)>,
}

/// Connects, and hears the welcome.
pub(super) async fn connect(socket: &Path) -> Result<(Session, Welcome), ConnectError> {
    greet(socket, &ToLauncher::Hello { version: VERSION }).await
}

/// Hears the welcome of an agent, without being one.
pub(super) async fn look(socket: &Path) -> Result<Welcome, ConnectError> {
    let looked = greet(socket, &ToLauncher::Look { version: VERSION }).await?;
    Ok(looked.1)
}

async fn greet(socket: &Path, first: &ToLauncher) -> Result<(Session, Welcome), ConnectError> {
    let reach = |source| ConnectError::Reach {
        path: socket.to_owned(),
        source,
    };
    let stream = UnixStream::connect(socket).await.map_err(reach)?;
    let (reading, mut writing) = stream.into_split();
    let mut reader = Reader::new(reading);
    // It closes the connection before it has read this, if it does not want this user.
    let _ = send(&mut writing, first).await;
    match reader.receive().await {
        Some(FromLauncher::Welcome {
            version: VERSION,
            users,
            enforced,
            attempts,
        }) => {
            let welcome = Welcome {
                users,
                enforced,
                attempts,
            };
            Ok((Session { reader, writing }, welcome))
        }
        Some(FromLauncher::Refused { why }) => Err(ConnectError::Refused(why)),
        _ => Err(ConnectError::NoLauncher(socket.to_owned())),
    }
}

/// Keeps a session for as long as the agent wants one. The first was welcomed already, and nothing was said since.
pub(super) async fn keep(shared: Arc<Shared>, first: Session, ends: CancellationToken) {
    let mut next = Some((first, None));
    loop {
        if let Some((session, standings)) = next.take() {
            let (sender, outgoing) = mpsc::unbounded_channel();
            match standings {
                Some(standings) => shared.slots().connected(sender, standings),
                None => shared.slots().begin(sender),
            }
            tokio::select! {
                () = converse(&shared, session, outgoing) => {}
                () = ends.cancelled() => return,
            }
            shared.slots().disconnected();
            tracing::warn!("the launcher is gone; attempts go on, and it is tried again");
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN_AFTER) => {}
            () = ends.cancelled() => return,
        }
        match connect(&shared.socket).await {
            Ok((session, welcome)) => {
                tracing::info!(attempts = welcome.attempts.len(), "the launcher is back");
                next = Some((session, Some(welcome.attempts)));
            }
            Err(error) => tracing::debug!(%error, "the launcher is not back"),
        }
    }
}

async fn converse(shared: &Shared, session: Session, mut outgoing: mpsc::UnboundedReceiver<ToLauncher>) {
    let Session {
        mut reader,
        mut writing,
    } = session;
    let listening = async {
        while let Some(message) = reader.receive().await {
            shared.slots().heard(message);
        }
    };
    let speaking = async {
        while let Some(message) = outgoing.recv().await {
            if let Err(error) = send(&mut writing, &message).await {
                tracing::debug!(%error, "cannot speak to the launcher");
                return;
            }
        }
    };
    tokio::select! {
        () = listening => {}
        () = speaking => {}
    }
}

async fn send(writing: &mut OwnedWriteHalf, message: &ToLauncher) -> std::io::Result<()> {
    let frame = frame::encode(message, Vec::with_capacity(4096)).map_err(std::io::Error::other)?;
    writing.write_all(&frame).await
}

//! Where callers come from: the Unix socket, made so that only its owner can reach it (and every peer's user is checked
//! all the same), and the port for those who come over a network. Who a caller may be is not decided here: each request
//! has its [`Peer`] among its extensions.

use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt, future};
use haul_identity::server_config;
use haul_transport::{Acceptor, ByteStream, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;

use crate::SharedConfig;
use crate::identity::Identity;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// A process of this machine, by the Unix socket.
    Local {
        /// Its user: the controller's own, or root.
        uid: u32,
    },
    /// Whoever came over a network.
    Remote(haul_transport::Peer),
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { uid } => write!(formatter, "user {uid} of this machine"),
            Self::Remote(peer) if peer.tunneled => write!(formatter, "{} through the tunnel", peer.address),
            Self::Remote(peer) => write!(formatter, "{}", peer.address),
        }
    }
}

/// A connection that is served.
pub(crate) struct Incoming {
    stream: ByteStream,
    peer: Peer,
}

impl Connected for Incoming {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Incoming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Incoming {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Connections of both kinds as one.
pub(crate) fn both(
    local: impl Stream<Item = io::Result<Incoming>>,
    remote: Option<Acceptor>,
) -> impl Stream<Item = io::Result<Incoming>> {
    let remote = remote.map_or_else(
        || futures::stream::pending().left_stream(),
        StreamExt::right_stream,
    );
    let remote = remote.map(|connection: io::Result<Connection>| {
        connection.map(|connection| Incoming {
            peer: Peer::Remote(connection.peer().clone()),
            stream: Box::new(connection),
        })
    });
    futures::stream::select(local, remote)
}

/// Listens for those who come over a network.
pub(crate) fn remote(
    shared: &SharedConfig,
    identity: &Identity,
    tasks: &TaskTracker,
) -> io::Result<Acceptor> {
    let listener = haul_transport::bind(shared.listen)?;
    // Renewed and rotated within itself.
    let tls = Arc::new(server_config(identity.server()));
    Ok(Acceptor::start(listener, tls, shared.limits.clone(), tasks))
}

/// Listens on `path`, in place of whatever dead socket is there. The caller holds the lock of the state directory, so
/// no living controller of that directory can be behind it; one of another directory keeps it.
pub(crate) fn unix(path: &Path) -> io::Result<impl Stream<Item = io::Result<Incoming>> + use<>> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another controller listens there: stop it, or give this one a socket of its own",
                ));
            }
            std::fs::remove_file(path)?;
        }
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something that is no socket is in the way",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let owner = std::fs::symlink_metadata(path)?.uid();
    let ours = move |stream: io::Result<UnixStream>| {
        let accepted = match stream {
            Ok(stream) => match stream.peer_cred() {
                Ok(peer) if peer.uid() == owner || peer.uid() == 0 => Some(Ok(Incoming {
                    stream: Box::new(stream),
                    peer: Peer::Local { uid: peer.uid() },
                })),
                Ok(peer) => {
                    tracing::warn!(uid = peer.uid(), "refused a connection of another user");
                    None
                }
                Err(error) => {
                    tracing::warn!(%error, "refused a connection whose user cannot be told");
                    None
                }
            },
            // Out of file descriptors and the like: this connection is lost, the next may not be.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                None
            }
        };
        future::ready(accepted)
    };
    Ok(UnixListenerStream::new(listener).filter_map(ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let first = unix(&path).unwrap();
        let refused = unix(&path).map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        assert!(UnixStream::connect(&path).await.is_ok(), "the first has it still");
        drop(first);
        assert!(unix(&path).is_ok());
    }
}

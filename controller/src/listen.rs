//! The Unix socket: made so that only its owner can reach it, and every peer's user is checked all the same.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use futures::{Stream, StreamExt, future};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;

/// Listens on `path`, in place of whatever dead socket is there. The caller holds the lock of the state directory, so
/// no living controller can be behind it.
pub(crate) fn unix(path: &Path) -> io::Result<impl Stream<Item = io::Result<UnixStream>> + use<>> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
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
                Ok(peer) if peer.uid() == owner || peer.uid() == 0 => Some(Ok(stream)),
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

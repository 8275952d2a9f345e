//! Listening: one port for everything, and nobody through it who has not spoken TLS and HTTP/2 in time.
//!
//! - [`admission`]: how many there may be, and who goes when there are too many.
//! - [`handshake`]: from a TCP connection to one that speaks HTTP/2.
//! - [`upgrade`]: the few words of HTTP/1.1 that lead into the tunnel.

mod admission;
mod handshake;
mod upgrade;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::admission::{Admission, Handshaking, Place};
use crate::bytes::ByteStream;
use crate::tls::{ServerTls, TlsSource};

/// Connections that are ready and wait to be taken: the server takes each at once, so that more than a few wait only
/// while it has no time at all.
const READY: usize = 64;
/// How long nothing is accepted after the kernel had no means for one more connection (file descriptors, memory):
/// enough for some to come free, and short for those who wait.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// How many connections there may be, and how long they may take to become one. An address is an IPv4 address or the
/// /64 of an IPv6 one; the defaults let a thousand agents be behind one.
#[derive(Clone, Debug)]
pub struct Limits {
    /// For each step: the first byte and the TLS handshake, the HTTP/1.1 upgrade, HTTP/2's first words.
    pub step_timeout: Duration,
    /// Connections from one address that are not ready yet. One more pushes out the oldest of them.
    pub handshakes_per_address: usize,
    /// Connections in all that are not ready yet. One more pushes out the oldest of them.
    pub handshakes: usize,
    /// Ready connections from one address. One more is closed.
    pub connections_per_address: usize,
    /// Ready connections in all. One more is closed.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            step_timeout: Duration::from_secs(5),
            handshakes_per_address: 2_048,
            handshakes: 4_096,
            connections_per_address: 4_096,
            connections: 16_384,
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where the TCP connection comes from: the reverse proxy's address, if there is one.
    pub address: SocketAddr,
    /// The certificates that the client gave, its own first, and that the TLS configuration found good; none if it gave
    /// none and the configuration lets that pass.
    pub certificates: Arc<[CertificateDer<'static>]>,
    /// Whether it came through the tunnel.
    pub tunneled: bool,
}

/// A connection on which a client has begun to speak HTTP/2, over TLS that ends here.
pub struct Connection {
    stream: ByteStream,
    peer: Peer,
    _place: Place,
}

impl Connection {
    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }
}

/// A request's extensions then hold the [`Peer`].
#[cfg(feature = "server")]
impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
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

/// Connections that are ready, as they come. Dropping it ends the listening.
#[derive(Debug)]
pub struct Acceptor {
    ready: mpsc::Receiver<Connection>,
    _stop: DropGuard,
}

impl Acceptor {
    /// Accepts from now on. `tls` is asked for each connection; the protocols of its configurations are set here.
    #[must_use]
    pub fn start(
        listener: TcpListener,
        tls: impl Into<TlsSource<ServerConfig>>,
        limits: Limits,
        tasks: &TaskTracker,
    ) -> Self {
        let (sender, ready) = mpsc::channel(READY);
        let stop = CancellationToken::new();
        let listening = Listening {
            tls: ServerTls::new(tls.into()),
            admission: Admission::new(limits),
            ready: sender,
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(Arc::new(listening).run(listener));
        Self {
            ready,
            _stop: stop.drop_guard(),
        }
    }
}

impl Stream for Acceptor {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(context).map(|ready| ready.map(Ok))
    }
}

/// What the listening task and those of the handshakes share.
struct Listening {
    tls: ServerTls,
    admission: Arc<Admission>,
    ready: mpsc::Sender<Connection>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Listening {
    async fn run(self: Arc<Self>, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, address)) => {
                    // Refused: dropped, which closes it.
                    if let Some(handshaking) = self.admission.admit(address.ip()) {
                        let task = Arc::clone(&self).receive(stream, address, handshaking);
                        self.tasks.spawn(task);
                    }
                }
                Err(error) if of_the_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::select! {
                        () = tokio::time::sleep(EXHAUSTED) => {}
                        () = self.stop.cancelled() => return,
                    }
                }
            }
        }
    }

    async fn receive(self: Arc<Self>, stream: TcpStream, address: SocketAddr, handshaking: Handshaking) {
        let step = self.admission.limits().step_timeout;
        let outcome = tokio::select! {
            outcome = handshake::receive(stream, &self.tls, step, || handshaking.renew()) => outcome,
            () = handshaking.pushed_out() => {
                tracing::debug!(%address, "pushed out by newer connections before it was ready");
                return;
            }
            () = self.stop.cancelled() => return,
        };
        let received = match outcome {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%address, %error, "a connection came to nothing");
                return;
            }
        };
        let Some(place) = handshaking.ready() else {
            return;
        };
        let connection = Connection {
            stream: received.stream,
            peer: Peer {
                address,
                certificates: received.certificates.into(),
                tunneled: received.tunneled,
            },
            _place: place,
        };
        // Not taken: nobody listens any more.
        let _ = self.ready.send(connection).await;
    }
}

/// Whether what went wrong was with the one connection, which is gone.
fn of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

//! From a TCP connection to one that speaks HTTP/2 over TLS, directly or through the tunnel, in time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::upgrade::{self, UpgradeError};
use crate::bytes::{ByteStream, Duplex, Replay};
use crate::socket;
use crate::tls::{H2, ServerTls};
use crate::tunnel::Tunnel;

/// The first byte of a TLS connection: a handshake record's type.
const TLS_HANDSHAKE: u8 = 0x16;
/// What a client of HTTP/2 says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that is ready.
pub(super) struct Received {
    pub(super) stream: ByteStream,
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) tunneled: bool,
}

/// Why a connection came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("it took too long")]
    Slow,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    #[error("it did not speak HTTP/2")]
    NotHttp2,
}

async fn in_time<T, E: Into<HandshakeError>>(
    limit: Duration,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, HandshakeError> {
    tokio::time::timeout(limit, step)
        .await
        .map_err(|_| HandshakeError::Slow)?
        .map_err(Into::into)
}

/// Takes a connection through all steps, each of which may take `step`; `got_on` is called
/// when it has brought TLS about, which costs a peer something.
pub(super) async fn receive(
    stream: TcpStream,
    tls: &ServerTls,
    step: Duration,
    got_on: impl Fn(),
) -> Result<Received, HandshakeError> {
    socket::tune(&stream)?;
    // Nothing is set aside for a peer that says nothing.
    let mut first = [0];
    if in_time(step, stream.peek(&mut first)).await? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let configs = tls.get();
    if first[0] != TLS_HANDSHAKE {
        // A reverse proxy that terminated a TLS of its own.
        return tunneled(stream, configs.inner, step, got_on).await;
    }
    let stream = in_time(step, TlsAcceptor::from(configs.outer).accept(stream)).await?;
    got_on();
    if stream.get_ref().1.alpn_protocol() == Some(H2) {
        spoken(stream, step, false).await
    } else {
        tunneled(stream, configs.inner, step, got_on).await
    }
}

async fn tunneled(
    stream: impl Duplex + 'static,
    tls: Arc<ServerConfig>,
    step: Duration,
    got_on: impl Fn(),
) -> Result<Received, HandshakeError> {
    let upgraded = in_time(step, upgrade::serve(stream)).await?;
    let tunnel = Tunnel::over(upgraded, Role::Server).await;
    let stream = in_time(step, TlsAcceptor::from(tls).accept(tunnel)).await?;
    got_on();
    spoken(stream, step, true).await
}

/// Waits for HTTP/2's first words: from there on its pings tell who is still there.
async fn spoken<S: Duplex + 'static>(
    mut stream: TlsStream<S>,
    step: Duration,
    tunneled: bool,
) -> Result<Received, HandshakeError> {
    let mut preface = [0; PREFACE.len()];
    in_time(step, stream.read_exact(&mut preface)).await?;
    if preface != PREFACE {
        return Err(HandshakeError::NotHttp2);
    }
    let certificates = stream.get_ref().1.peer_certificates();
    let certificates = certificates.map(|chain| chain.iter().cloned().map(CertificateDer::into_owned));
    Ok(Received {
        certificates: certificates.map(Iterator::collect).unwrap_or_default(),
        stream: Box::new(Replay::new(Bytes::from_static(PREFACE), stream)),
        tunneled,
    })
}

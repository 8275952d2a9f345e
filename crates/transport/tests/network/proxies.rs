//! Proxies of several kinds, each as rude as it has to be for a test.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// What a proxy saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicUsize,
    /// All bytes that came from the client's side, as far as the proxy could read them.
    pub(crate) bytes: Mutex<Vec<u8>>,
}

/// A proxy that runs.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    /// While it says so, nothing is passed on, in neither direction, and nothing is closed.
    pub(crate) held: watch::Sender<bool>,
    _tasks: TaskTracker,
}

impl Running {
    pub(crate) fn saw(&self, text: &str) -> bool {
        let bytes = self.seen.bytes.lock().unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Relaxed)
    }
}

/// What a proxy does.
#[derive(Clone)]
pub(crate) enum Kind {
    /// Passes everything on to an address, without looking.
    Relay(SocketAddr),
    /// Knows CONNECT, perhaps for those alone who give a password.
    Connect { authorization: Option<&'static str> },
    /// Answers CONNECT with a status and passes requests for `http://` on.
    Forward { status: &'static str },
    /// Ends TLS with a certificate of its own, speaks HTTP/1.1, and passes on to an address without TLS.
    Reverse { to: SocketAddr, tls: Arc<ServerConfig> },
}

/// Runs a proxy.
pub(crate) async fn run(kind: Kind) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let (held, holding) = watch::channel(false);
    let tasks = TaskTracker::new();
    let (seeing, spawning) = (Arc::clone(&seen), tasks.clone());
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            seeing.connections.fetch_add(1, Ordering::Relaxed);
            let one = serve(kind.clone(), stream, Arc::clone(&seeing), holding.clone());
            spawning.spawn(one);
        }
    });
    Running {
        address,
        seen,
        held,
        _tasks: tasks,
    }
}

async fn serve(
    kind: Kind,
    mut stream: TcpStream,
    seen: Arc<Seen>,
    held: watch::Receiver<bool>,
) -> Option<()> {
    match kind {
        Kind::Relay(to) => {
            let onward = TcpStream::connect(to).await.ok()?;
            pass(stream, onward, seen, held).await
        }
        Kind::Connect { authorization } => {
            let head = head(&mut stream).await?;
            seen.bytes.lock().unwrap().extend_from_slice(head.as_bytes());
            let target = head.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
            if authorization.is_some_and(|wanted| !head.contains(wanted)) {
                let answer = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.ok()?;
                return None;
            }
            let Ok(onward) = TcpStream::connect(target).await else {
                let _ = stream
                    .write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
                    .await;
                return None;
            };
            stream
                .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .await
                .ok()?;
            pass(stream, onward, seen, held).await
        }
        Kind::Forward { status } => {
            let head = head(&mut stream).await?;
            seen.bytes.lock().unwrap().extend_from_slice(head.as_bytes());
            let Some(rest) = head.strip_prefix("GET http://") else {
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.ok()?;
                return None;
            };
            let (authority, rest) = rest.split_once('/')?;
            let mut onward = TcpStream::connect(authority).await.ok()?;
            onward.write_all(format!("GET /{rest}").as_bytes()).await.ok()?;
            pass(stream, onward, seen, held).await
        }
        Kind::Reverse { to, tls } => {
            let stream = TlsAcceptor::from(tls).accept(stream).await.ok()?;
            let onward = TcpStream::connect(to).await.ok()?;
            pass(stream, onward, seen, held).await
        }
    }
}

/// The head of a request, up to and with the empty line.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

async fn pass(
    client: impl AsyncRead + AsyncWrite,
    server: impl AsyncRead + AsyncWrite,
    seen: Arc<Seen>,
    held: watch::Receiver<bool>,
) -> Option<()> {
    let (client_reads, client_writes) = tokio::io::split(client);
    let (server_reads, server_writes) = tokio::io::split(server);
    let there = one_way(client_reads, server_writes, Some(&seen), held.clone());
    let back = one_way(server_reads, client_writes, None, held);
    tokio::join!(there, back);
    Some(())
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    seen: Option<&Seen>,
    mut held: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if held.wait_for(|held| !held).await.is_err() {
            return;
        }
        if let Some(seen) = seen {
            seen.bytes.lock().unwrap().extend_from_slice(&buffer[..length]);
        }
        if to.write_all(&buffer[..length]).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    if held.wait_for(|held| !held).await.is_ok() {
        let _ = to.shutdown().await;
    }
}

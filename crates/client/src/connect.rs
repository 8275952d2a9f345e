//! Reaching a controller: a dialler gives byte streams, tonic makes a channel of them that dials again when one breaks.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use haul_proto::client::{Caller, Calls, NotAToken};
use haul_types::AttemptId;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::CallError;

/// Bytes that may be on their way in one stream before the reader has taken them: with gRPC's 64 KiB, a fast log
/// would wait for window updates more than it flows.
const STREAM_WINDOW: u32 = 8 << 20;
/// The same for all streams of the connection together.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// A log frame of 1 MiB then is one HTTP/2 frame, not 64.
const FRAME: u32 = 1 << 20;

/// What a [`Dial`] gives back, later.
pub type Dialing = Pin<Box<dyn Future<Output = Result<UnixStream, DialError>> + Send>>;

/// Opens connections to one controller. Asked for each new connection; it may start the controller first.
pub trait Dial: Send + Sync + 'static {
    /// Opens a connection.
    fn dial(&self) -> Dialing;
}

/// Why no connection was opened.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answers at this socket; somebody may in a moment.
    #[error("cannot connect to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else answers there.
    #[error("{} is served by user {found}, not by user {expected}", path.display())]
    ForeignPeer {
        /// The socket.
        path: PathBuf,
        /// The peer's user id.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// Trying again would not help.
    #[error(transparent)]
    Hopeless(Arc<dyn Error + Send + Sync>),
}

/// A controller's Unix socket, served by our own user.
#[derive(Clone, Debug)]
pub struct UnixSocket {
    path: PathBuf,
}

impl UnixSocket {
    /// The socket at this path.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Connects, and checks that the peer is our own user.
    pub async fn open(path: &Path) -> Result<UnixStream, DialError> {
        let failed = |source| DialError::Connect {
            path: path.to_owned(),
            source,
        };
        let stream = UnixStream::connect(path).await.map_err(failed)?;
        let found = stream.peer_cred().map_err(failed)?.uid();
        let expected = rustix::process::geteuid().as_raw();
        if found == expected {
            Ok(stream)
        } else {
            Err(DialError::ForeignPeer {
                path: path.to_owned(),
                found,
                expected,
            })
        }
    }
}

impl Dial for UnixSocket {
    fn dial(&self) -> Dialing {
        let path = self.path.clone();
        Box::pin(async move { Self::open(&path).await })
    }
}

/// A connection to a controller; cheap to clone, and shared by all clones.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    caller: Caller,
}

impl Client {
    /// Connects now, and again by the same dialler whenever the connection is lost.
    pub async fn connect(dial: Arc<dyn Dial>) -> Result<Self, CallError> {
        let first = dial.dial().await.map_err(CallError::from)?;
        Ok(Self::over(first, dial))
    }

    /// Uses a connection that is open already; dials when it is lost.
    #[must_use]
    pub fn over(first: UnixStream, dial: Arc<dyn Dial>) -> Self {
        Self::with_first(Some(first), dial)
    }

    fn with_first(first: Option<UnixStream>, dial: Arc<dyn Dial>) -> Self {
        let first = Arc::new(Mutex::new(first));
        let connector = tower::service_fn(move |_: Uri| {
            let ready = first.lock().expect("nothing panics while it is held").take();
            let stream = match ready {
                Some(stream) => Box::pin(async { Ok(stream) }) as Dialing,
                None => dial.dial(),
            };
            async move { stream.await.map(TokioIo::new) }
        });
        // The authority is never looked up: the connector knows where to go.
        let channel = Endpoint::from_static("http://haul.invalid")
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .connect_with_connector_lazy(connector);
        Self {
            channel,
            caller: Caller::default(),
        }
    }

    /// What calls are made through, for services that this crate does not wrap (the agent's).
    #[must_use]
    pub fn calls(&self) -> Calls {
        Calls::new(self.channel.clone(), self.caller.clone())
    }

    /// The same connection, with a user's token on each call.
    pub fn with_token(self, token: &str) -> Result<Self, NotAToken> {
        Ok(Self {
            caller: self.caller.with_token(token)?,
            channel: self.channel,
        })
    }

    /// The same connection, for what an agent reads and sends on behalf of an attempt.
    #[must_use]
    pub fn for_attempt(&self, attempt: AttemptId) -> Self {
        Self {
            channel: self.channel.clone(),
            caller: self.caller.clone().for_attempt(attempt),
        }
    }

    /// Dials at the first call.
    #[must_use]
    pub fn lazy(dial: Arc<dyn Dial>) -> Self {
        Self::with_first(None, dial)
    }
}

//! Reaching a controller: a dialler gives byte streams, tonic makes a channel of them that dials again when one breaks.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use haul_identity::TlsProblem;
use haul_proto::client::{Caller, Calls, NotAToken};
use haul_transport::{ByteStream, Dialer, Duplex, http2};
use haul_types::AttemptId;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Uri};

use crate::CallError;

/// What a [`Dial`] gives back, later.
pub type Dialing = Pin<Box<dyn Future<Output = Result<ByteStream, DialError>> + Send>>;

/// Opens connections to one controller. Asked for each new connection; it may start the controller first.
pub trait Dial: Send + Sync + 'static {
    /// Opens a connection.
    fn dial(&self) -> Dialing;

    /// Whether there is a network in between, on which a connection can die without a word: then silence is asked
    /// after.
    fn is_remote(&self) -> bool {
        false
    }
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
    /// No way led there over the network.
    #[error(transparent)]
    Remote(#[from] haul_transport::DialError),
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
        Box::pin(async move { Ok(Box::new(Self::open(&path).await?) as ByteStream) })
    }
}

impl Dial for Dialer {
    fn dial(&self) -> Dialing {
        let dialer = self.clone();
        Box::pin(async move {
            let dialed = Self::dial(&dialer).await.map_err(explained)?;
            tracing::debug!(address = %dialed.address, way = %dialed.way, "connected");
            Ok(dialed.stream)
        })
    }

    fn is_remote(&self) -> bool {
        true
    }
}

/// Who answers is not whom we look for, or does not know us: no other try changes that, and there are words for it.
fn explained(error: haul_transport::DialError) -> DialError {
    let now = SystemTime::now();
    let problem = error
        .tried
        .iter()
        .find_map(|tried| TlsProblem::of(&tried.failure, None, now));
    match problem {
        Some(problem) => DialError::Hopeless(Arc::new(problem)),
        None => DialError::Remote(error),
    }
}

/// Where a controller is.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// Behind a Unix socket of our own user.
    Unix(PathBuf),
    /// Somewhere on a network.
    Remote(Dialer),
}

impl Endpoint {
    /// What dials it.
    #[must_use]
    pub fn dial(&self) -> Arc<dyn Dial> {
        match self {
            Self::Unix(path) => Arc::new(UnixSocket::new(path.clone())),
            Self::Remote(dialer) => Arc::new(dialer.clone()),
        }
    }
}

/// A connection to a controller; cheap to clone, and shared by all clones.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Arc<Mutex<Channel>>,
    dial: Dialler,
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
    pub fn over(first: impl Duplex + 'static, dial: Arc<dyn Dial>) -> Self {
        Self::with_first(Some(Box::new(first)), dial)
    }

    fn with_first(first: Option<ByteStream>, dial: Arc<dyn Dial>) -> Self {
        let dial = Dialler(dial);
        Self {
            channel: Arc::new(Mutex::new(dial.channel(first))),
            dial,
            caller: Caller::default(),
        }
    }

    /// Lets every call from now on, of all clones, go over a new connection, which is made at the first of them: for when
    /// what is shown while connecting has changed. Calls that are under way stay where they are.
    pub fn leave_connection(&self) {
        *self.channel() = self.dial.channel(None);
    }

    fn channel(&self) -> MutexGuard<'_, Channel> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What calls are made through, for services that this crate does not wrap (the agent's).
    #[must_use]
    pub fn calls(&self) -> Calls {
        Calls::new(self.channel().clone(), self.caller.clone())
    }

    /// The same connection, with a user's token on each call.
    pub fn with_token(self, token: &str) -> Result<Self, NotAToken> {
        Ok(Self {
            caller: self.caller.with_token(token)?,
            ..self
        })
    }

    /// The same connection, for what an agent reads and sends on behalf of an attempt.
    #[must_use]
    pub fn for_attempt(&self, attempt: AttemptId) -> Self {
        Self {
            caller: self.caller.clone().for_attempt(attempt),
            ..self.clone()
        }
    }

    /// Dials at the first call.
    #[must_use]
    pub fn lazy(dial: Arc<dyn Dial>) -> Self {
        Self::with_first(None, dial)
    }
}

/// What makes channels, which dial by it.
#[derive(Clone)]
struct Dialler(Arc<dyn Dial>);

impl fmt::Debug for Dialler {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Dialler")
    }
}

impl Dialler {
    /// A channel that uses `first` if there is one, and dials when it has no connection.
    fn channel(&self, first: Option<ByteStream>) -> Channel {
        let first = Arc::new(Mutex::new(first));
        let dial = Arc::clone(&self.0);
        let is_remote = dial.is_remote();
        let connector = tower::service_fn(move |_: Uri| {
            let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let stream = match ready {
                Some(stream) => Box::pin(async { Ok(stream) }) as Dialing,
                None => dial.dial(),
            };
            async move { stream.await.map(TokioIo::new) }
        });
        // The authority is never looked up: the connector knows where to go.
        let endpoint = tonic::transport::Endpoint::from_static("http://haul.invalid");
        let endpoint = if is_remote {
            http2::remote_client(endpoint)
        } else {
            http2::client(endpoint)
        };
        endpoint.connect_with_connector_lazy(connector)
    }
}
